/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instructions of a Go function, in order. Internal to symbols/.
 *
 * Code that Go's compiler made is simpler than what placement.c is for. It has no data between
 * instructions, so that all of a function can be decoded from front to back and every return
 * instruction is seen, whatever leads there. Its stack frame has one size from the prologue to each
 * epilogue. A function is left by its returns only, but for the calls that ask for a larger stack
 * and come back to its first byte. Each of these is checked.
 */
#ifndef TLSTRACE_GO_LISTING_H
#define TLSTRACE_GO_LISTING_H

#include "instruction.h"

struct step {
	struct instruction instruction;
	uint32_t at;
	int32_t depth;	/* stack pointer at the entry, less before this instruction */
	bool is_target; /* of a jump */
};

struct listing {
	struct code_part code;
	const struct emulated *emulated; /* NULL: of no interest */
	struct step *steps;
	size_t count;
	uint32_t *index; /* of the step that begins at a byte, plus 1; 0: none does */
	bool has_table;	 /* a jump to what a table has */
	const char *odd; /* why there can be no probes */
};

/*
 * Reads and lists a function of the file that was opened with `fd`. `emulated`, may be NULL, must
 * live as long as the listing. 0; -ENOTSUP and -EBADMSG for a function that is not as described
 * above, .odd tells why; what function_code__read() returns; -ENOMEM. To be freed in all cases.
 */
int listing__read(struct listing *listing, const struct elf_file *file, int fd,
		  const struct elf_function *function, const struct emulated *emulated);
void listing__free(struct listing *listing);

/* Whether a breakpoint at the step costs one exception. */
bool listing__is_emulated(const struct listing *listing, const struct step *step);

/* The probe site of a step. */
struct placement_site listing__site(const struct listing *listing, const struct step *step);

#endif
