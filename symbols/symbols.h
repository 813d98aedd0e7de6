/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files and addresses: which TLS code an ELF file holds and at which file offsets its functions
 * begin; which files a process has mapped to execute. Knows nothing of BPF.
 *
 * Files come from other people's processes: every number in them is checked, and an offset is
 * given only when it lies in an executable segment's file part, because a breakpoint written
 * anywhere else kills the target.
 */
#ifndef TLSTRACE_SYMBOLS_H
#define TLSTRACE_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The functions that probes hook; the order is that of the table in symbols/openssl.c. */
enum tls_function {
	TLS_READ,
	TLS_READ_EX,
	TLS_PEEK,
	TLS_PEEK_EX,
	TLS_READ_EARLY_DATA,
	TLS_WRITE,
	TLS_WRITE_EX,
	TLS_WRITE_EX2,
	TLS_WRITE_EARLY_DATA,
	TLS_SENDFILE,
	TLS_DO_HANDSHAKE,
	TLS_CONNECT,
	TLS_ACCEPT,
	TLS_NEW,
	TLS_UP_REF,
	TLS_FREE,
	TLS_CLEAR,
	TLS_SHUTDOWN,
	TLS_SET_FD,
	TLS_SET_RFD,
	TLS_SET_WFD,
	/* The rest is of the library's I/O layer (libcrypto), and probed only where it is needed.
	 */
	TLS_BIO_READ,
	TLS_BIO_WRITE,
	TLS_FUNCTION_COUNT,
};

enum tls_library_kind {
	TLS_LIBRARY_OPENSSL,
	TLS_LIBRARY_BORINGSSL,
};

/* The TLS code of one file. offset[f] is 0 where the file does not define the function. */
struct tls_code {
	bool has_tls; /* a read and a write function at the least */
	bool has_bio; /* BIO_read and BIO_write */
	enum tls_library_kind library;
	uint64_t offset[TLS_FUNCTION_COUNT];  /* file offsets of first instructions */
	uint64_t address[TLS_FUNCTION_COUNT]; /* as linked */
	uint64_t size[TLS_FUNCTION_COUNT];    /* bytes of code; 0: the symbol does not say */
};

/* The name a function has in its library, e.g. "SSL_read_ex". */
const char *tls_function__name(enum tls_function function);

/* The name of a library, as entries have it: "openssl", "boringssl". */
const char *tls_library__name(enum tls_library_kind library);

/* The name of the TLS library that a file is by its name, if probes do not know it; else NULL. */
const char *other_tls_library(const char *path);

struct elf_file;

/*
 * Opens the ELF file behind `fd`, which stays the caller's and must outlive *ret_file.
 * 0; -ENOEXEC when it is not an ELF file of this machine's class and architecture (a script, a
 * directory, empty, truncated in its headers); -ENOMEM; another -errno from reading it.
 */
int elf_file__open(int fd, struct elf_file **ret_file);
void elf_file__close(struct elf_file *file);

/* Whether it can be executed or loaded at all (ET_EXEC or ET_DYN with an executable segment). */
bool elf_file__is_executable(const struct elf_file *file);

/*
 * The TLS code in the file, from .dynsym and .symtab. 0; -ENOENT when it has neither TLS functions
 * nor those of the I/O layer; -EBADMSG when its symbol tables or segments
 * contradict the file; -EFBIG when a table has more than 256 MB; -ENOMEM; -EIO.
 */
int elf_file__tls_code(struct elf_file *file, struct tls_code *ret_code);

/* The file offset of a defined function symbol. 0 or a -errno as above. */
int elf_file__function(struct elf_file *file, const char *name, uint64_t *ret_offset);

/* A function symbol that the file defines. */
struct elf_function {
	const char *name;
	uint64_t address; /* as linked, not yet checked: see elf_file__offset() */
	uint64_t size;	  /* 0 when the symbol does not say */
	bool local;
};

/* Returns 0 to go on; anything else ends the walk. */
typedef int elf_function_fn(void *context, const struct elf_function *function);

/*
 * Calls `fn` for each defined function of .dynsym, then of .symtab; most are in both. Large
 * executables have hundreds of thousands: `fn` should tell what it wants by a name's first bytes.
 * 0, what `fn` returned, or a -errno as above but for -ENOENT.
 */
int elf_file__each_function(struct elf_file *file, elf_function_fn *fn, void *context);

/*
 * Where in the file the instruction at `address` is. 0; -EBADMSG when that is in no executable
 * segment's file part.
 */
int elf_file__offset(const struct elf_file *file, uint64_t address, uint64_t *ret_offset);

/*
 * The range of code that holds `address`, of those that the unwind table (.eh_frame_hdr) has: a
 * function, or one of the parts that its compiler made of it. 0; -ENOENT when none is told, or in
 * a form that linkers for this machine do not use; -EBADMSG when the table contradicts itself or
 * the file; another -errno from reading.
 */
int elf_file__unwind_range(const struct elf_file *file, uint64_t address, uint64_t *ret_start,
			   uint64_t *ret_size);

/*
 * The dynamic linker that the file asks for (PT_INTERP), a path in the namespace of whoever runs
 * it. 0; -ENOENT when it has none (static); -EBADMSG; -ENAMETOOLONG; another -errno from reading.
 */
int elf_file__interpreter(struct elf_file *file, char *ret_path, size_t size);

/* A file that a process has mapped with the right to execute. */
struct mapped_file {
	dev_t device; /* of fstat on `fd` */
	ino_t inode;
	int fd;		  /* open for reading, valid during the callback only */
	const char *path; /* as /proc/PID/maps names it, " (deleted)" taken off; for messages */
	const char *link; /* a path that opens the very file from here: /proc/self/fd/N of `fd` */
};

/* Returns 0 to go on; anything else ends the walk. */
typedef int mapped_file_fn(void *context, const struct mapped_file *file);

/*
 * Calls `fn` for each distinct file among the executable mappings of a process, opened through
 * /proc/PID/map_files (so that a deleted or replaced file, and another mount namespace, are
 * right), else through /proc/PID/root. A file that cannot be opened is passed over, and the walk
 * of a process that exits meanwhile just ends. A kernel thread or a zombie has no files. 0, what
 * `fn` returned, -ESRCH when the process is gone at the start, -E2BIG after 4096 files (more than
 * any real process maps), or another -errno (-EACCES, -ENOMEM, -EMFILE).
 */
int process__each_mapped_file(pid_t pid, mapped_file_fn *fn, void *context);

#endif
