/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Go executables: which of crypto/tls's functions a file has, where they are, and where their
 * probes go. The names are had from ELF symbols or, in stripped files, from the table that Go's
 * runtime itself needs for stack traces (the pclntab, go_table.h). Knows nothing of BPF.
 */
#ifndef TLSTRACE_GO_H
#define TLSTRACE_GO_H

#include "placement.h"
#include "symbols.h"

/*
 * The functions that probes hook. The HPACK package may be there twice: as the standard library's
 * own copy (net/http's HTTP/2) and as the program's golang.org/x/net (gRPC, for one).
 */
enum go_function {
	GO_TLS_READ,
	GO_TLS_WRITE,
	GO_TLS_CLOSE,
	GO_TLS_CLIENT_HANDSHAKE,
	GO_TLS_SERVER_HANDSHAKE,
	GO_HPACK_DECODER_WRITE,
	GO_HPACK_ENCODER_WRITE_FIELD,
	GO_XNET_HPACK_DECODER_WRITE,
	GO_XNET_HPACK_ENCODER_WRITE_FIELD,
	GO_FUNCTION_COUNT
};

/* Where a function has its arguments and results. */
enum go_abi {
	/* Up to Go 1.16 (arm64: 1.17): all on the stack, 8 bytes above the stack pointer. */
	GO_ABI_STACK,
	/* RAX, RBX, RCX, RDI, RSI, R8..R11, g in R14; arm64: R0..R15, g in R28. */
	GO_ABI_REGISTERS,
};

struct go_function_code {
	uint64_t offset;  /* in the file, of the first instruction; 0: there is none */
	uint64_t address; /* as linked */
	uint64_t size;	  /* bytes of code, padding behind it perhaps included */
};

/* The TLS code of one Go executable. */
struct go_code {
	bool has_tls;	  /* a Read and a Write */
	char version[32]; /* "go1.26.8"; "" when the file does not say */
	enum go_abi abi;
	bool has_symbols;     /* the functions are in ELF symbols */
	const char *found_by; /* static text, for people: how they were found */
	struct go_function_code functions[GO_FUNCTION_COUNT];
};

/* The name a function has in its program, e.g. "crypto/tls.(*Conn).Read". */
const char *go_function__name(enum go_function function);

/*
 * The TLS code of a Go executable or library. Files that are not of Go are told with a look at
 * their headers. 0; -ENOENT when it is not one, or has no crypto/tls; -ENOTSUP when it cannot be
 * read for a reason that .found_by then has (packed by UPX, Go or not); -EBADMSG when its
 * tables contradict themselves or the file, .found_by tells which; -EFBIG; -ENOMEM; another -errno
 * from reading. Of *ret_code nothing but .found_by means anything then.
 */
int elf_file__go_code(struct elf_file *file, struct go_code *ret_code);

/*
 * The probe sites of one function of `code`, which elf_file__go_code() found in the file that was
 * opened with `fd`. The entry is an instruction that every call runs with all argument registers
 * and the stack pointer (less .stack_bytes) as the caller set them; it may run more than once for
 * a call, since a function that finds its stack too small begins anew on a larger one. The exits
 * are one instruction on the way to each return, behind the last change of the results: always
 * EXIT_SITES, never a uretprobe, because Go moves stacks; .uretprobe is not to be used.
 *
 * 0; -ENOENT when the file does not have the function; -ENOTSUP when it can be left in ways other
 * than by returns, and -EBADMSG when it is not all instructions: .exit_reason tells more, the rest
 * of *ret_placement means nothing; -EFBIG when it is too large; -ENOMEM; another -errno from
 * reading.
 */
int go_sites__find(const struct elf_file *file, int fd, const struct go_code *code,
		   enum go_function function, const struct emulated *emulated,
		   struct placement *ret_placement);

/* Where the probes of an executable's crypto/tls go. */
struct go_sites {
	bool wanted[GO_FUNCTION_COUNT]; /* probes go there; placement means something */
	struct placement placement[GO_FUNCTION_COUNT];
};

/*
 * The sites of all functions of crypto/tls that it has; Read and Write must be among them, and
 * alone have exits. 0; or what go_sites__find() returned for one of those two, *ret_odd, of whose
 * placement .exit_reason may tell more.
 */
int go_sites__find_all(const struct elf_file *file, int fd, const struct go_code *code,
		       const struct emulated *emulated, struct go_sites *ret_sites,
		       enum go_function *ret_odd);

/* Where the probes that read HPACK tables go: entries, of both copies of the package. */
struct go_hpack_sites {
	size_t decoder_count;
	struct placement_site decoders[2]; /* of (*Decoder).Write */
	size_t encoder_count;
	struct placement_site encoders[2]; /* of (*Encoder).WriteField */
	struct placement_site write;	   /* of crypto/tls.(*Conn).Write */
};

/* Finds them. 0; -ENOENT when it has no HTTP/2, or none that is understood; -ENOMEM. */
int go_hpack_sites__find(const struct elf_file *file, int fd, const struct go_code *code,
			 const struct emulated *emulated, struct go_hpack_sites *ret_sites);

#endif
