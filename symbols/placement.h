/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where to put the probes of one function. Takes the function's machine code, gives the file
 * offsets of its entry and exit probes, what each costs and why it was chosen. Knows nothing of
 * files, BPF or perf; what the running kernel emulates is an argument.
 *
 * A breakpoint on an instruction that the kernel emulates costs one exception. Any other
 * instruction is copied to another page and single-stepped there, a second exception: ten times
 * dearer in a virtual machine, three times on bare metal. Compilers begin and end functions with
 * instructions of the dear kind (sub, endbr64, ret), but a cheap one is often near:
 *
 *   entry  the first emulated instruction that every call runs exactly once, in the straight line
 *	    from the function's first byte, with the argument registers as the caller set them;
 *   exit   emulated instructions of which every call that returns runs exactly one, after the
 *	    last change of the result register; typically the jump of the stack protector's check.
 *	    Where there is none on the way to a return instruction, that instruction itself.
 *	    Where the function can be left in another way (a tail call, a jump table, a cold part
 *	    that returns and never jumps back), a uretprobe.
 *
 * What is not proven is not used: the first byte and a uretprobe are where every other tracer
 * puts its probes, dearer but never wrong. Assumed is what compilers guarantee: calls come to the
 * first byte, go on behind the call, and leave the stack and frame pointers as they found them.
 *
 * Weighed (ns a call, measured in a VM): two emulated sites 328, an emulated site and a stepped
 * one 2460, uprobe and uretprobe on one emulated instruction 283, on a stepped one 2500. A
 * uretprobe is the last choice although it is the cheapest on an emulated instruction: it rewrites
 * the return address, which a seccomp filter may answer with death (6.11+), which Go's
 * runtime does not survive, and which unwinders stumble over. Both are given, so that the caller
 * can decide otherwise: placement.uretprobe is always a right place for one.
 *
 * Weighed as well: hooking the static worker below SSL_read_ex and SSL_write_ex,
 * where nothing emulated follows the call. The worker of Debian's 1.1.1 to 3.6 leaves by a tail
 * call through the method table, so its exit can only be a uretprobe. Up to 3.5 it begins with a
 * push: 283 in place of 2460. From 3.6 on it begins with a sub: 2500, no gain. It would see what
 * goes through BIO_f_ssl, at the price of the hazards above, and of trusting that a function
 * without a name has the arguments we think it has, which only the wrapper's direct call with all
 * arguments intact tells. Hence: every function has its own sites. SSL_write_ex needs no probe
 * where there is an SSL_write_ex2 (3.3+): it is a call of that, nothing else.
 */
#ifndef TLSTRACE_PLACEMENT_H
#define TLSTRACE_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbols.h"

/*
 * Instructions that kernels emulate, or may come to: what is tried (tracer/capture/emulation.h).
 * What one function of arch/x86/kernel/uprobes.c accepts together is one class. On arm64
 * CLASS_BRANCH is all that arch/arm64/kernel/probes/decode-insn.c simulates, in all kernels alike:
 * b, bl, b.cond, cbz, tbz, br, blr, ret and adr.
 */
enum instruction_class {
	CLASS_OTHER,   /* never taken for emulated */
	CLASS_REFUSED, /* kernels refuse a probe there */
	CLASS_PUSH,    /* of a register: push_setup_xol_ops() */
	CLASS_BRANCH,  /* direct jump, conditional or not, call, 1-byte nop: branch_setup_xol_ops()
			*/
	CLASS_NOP5,    /* 5-byte nop, 6.18+ */
	CLASS_STACK,   /* sub and add of a constant to the stack pointer */
	CLASS_RETURN,
	CLASS_ENDBR,
	CLASS_COUNT,
};

/* What the running kernel emulates: bit 1 << class. A bit too many costs time, nothing else. */
struct emulated {
	uint32_t classes;
};

/* What all kernels from 5.10 on emulate. */
struct emulated emulated__default(void);
bool emulated__covers(const struct emulated *emulated, enum instruction_class instruction);

enum site_class {
	SITE_EMULATED,
	SITE_STEPPED,
};

struct placement_site {
	uint64_t offset; /* in the file */
	/* Stack pointer at the function's entry, less what it is when the probe fires. */
	uint32_t stack_bytes;
	enum site_class class;
	/*
	 * Of Go: an exit in a function that the function has deferred (go_defers.h). How far above
	 * the stack pointer the closure is that it is called with, and the result; else 0.
	 */
	uint16_t closure_bytes;
	uint16_t result_bytes;
};

enum exit_kind {
	EXIT_NONE, /* none was asked for */
	EXIT_SITES,
	EXIT_URETPROBE, /* at .uretprobe, and the entry is there too */
};

/* Larger functions are not analysed, and neither are those with more ways out. */
#define PLACEMENT_MAX_BYTES 8192
#define PLACEMENT_MAX_EXITS 24

struct placement {
	struct placement_site entry;
	enum exit_kind exit_kind;
	struct placement_site exits[PLACEMENT_MAX_EXITS]; /* of EXIT_SITES */
	unsigned int exit_count;
	/*
	 * Where a uretprobe is right, whatever exit_kind says: stack_bytes is 0, as the kernel
	 * takes the return address from where the stack pointer points. When it fires the return
	 * address is gone: the stack pointer is above what it was at the entry, by 8 on x86-64.
	 */
	struct placement_site uretprobe;
	/* Of Go: at the exits, the arguments are still on the stack (go_arguments.h). */
	bool keeps_arguments;
	const char *entry_reason; /* static text, for people */
	const char *exit_reason;
};

/* A stretch of machine code. */
struct code_part {
	uint8_t *code;
	size_t size;
	int64_t at; /* its first byte's distance from the function's: 0 for the function itself */
	uint64_t file_offset;
	const struct machine *machine; /* whose code it is (machine.h) */
};

/* Where code is to be had that a function's symbol does not span: its cold part. */
struct code_source {
	/*
	 * The stretch that holds the byte `target` from the function's first one, from its begin
	 * to its end, its code to be given to free(). 0, or -errno when it cannot be told.
	 */
	int (*part)(void *context, int64_t target, struct code_part *ret_part);
	void *context;
};

/*
 * Places the probes of a function whose code, by its symbol, is `code`; `source` may be NULL. Of
 * its arguments, the first `argument_count` integer ones (at most 6) must be in their registers at
 * the entry site. Damaged or hostile code gives a dear placement, within the code; an exit site may
 * be in a part from `source`. 0 or -ENOMEM.
 */
int placement__find(const struct code_part *code, const struct code_source *source,
		    unsigned int argument_count, bool has_exit, const struct emulated *emulated,
		    struct placement *ret_placement);

/*
 * The code of a function of the file; its .code to be given to free(). `fd` is the one that the
 * file was opened with. 0; -EFBIG when it has no size or too large a one to be analysed; -EBADMSG
 * when it is not in one executable segment; -ENOMEM; another -errno from reading.
 */
int function_code__read(const struct elf_file *file, int fd, const struct elf_function *function,
			struct code_part *ret_code);

/* The other parts of a file's function, as its unwind table has them: which stripped files keep. */
struct function_parts {
	const struct elf_file *file;
	int fd;
	uint64_t address; /* of the function, as linked */
};

/* The `part` of a code_source whose context is a struct function_parts. */
int function_parts__read(void *context, int64_t target, struct code_part *ret_part);

#endif
