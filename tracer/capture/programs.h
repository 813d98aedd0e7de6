/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The BPF programs and maps, as far as they are loaded: the only file that says which programs
 * there are together, and when. The verifier reads a program each time it is loaded, which is most
 * of what a start costs; so those that few traces need are loaded when they are first wanted.
 */
#ifndef TLSTRACE_PROGRAMS_H
#define TLSTRACE_PROGRAMS_H

#include <bpf/libbpf.h>

#include "capture/backend.h"

/* What is loaded together, see programs.c; the maps are with the common ones, for all. */
enum program_group {
	PROGRAMS_GO_HPACK_STACK, /* HPACK tables of Go programs, by their calling convention */
	PROGRAMS_GO_HPACK_REGISTERS,
	PROGRAMS_GO_STACK, /* Go's crypto/tls */
	PROGRAMS_GO_REGISTERS,
	PROGRAMS_NGHTTP2, /* HPACK tables of libnghttp2 */
	PROGRAMS_COMMON, /* all others: processes, sockets, OpenSSL, what follows a call's return */
	PROGRAM_GROUPS,
};

/* The skeleton, probes.skel.h. */
struct tlstrace_bpf;

struct programs;

struct programs_options {
	size_t ring_bytes;
	bool wake_always;
	enum socket_backend backend; /* SOCKET_BACKENDS: the first that works */
};

/*
 * Opens and loads the common programs and the maps. 0; -EPERM or -EACCES without the privilege,
 * -EOPNOTSUPP or another -errno when the kernel cannot; *ret_step then says which step failed,
 * static text.
 */
int programs__new(const struct programs_options *options, struct programs **ret_programs,
		  const char **ret_step);

/* Unloads what no link holds. NULL is fine. */
void programs__free(struct programs *programs);

/*
 * Loads a group, unless it is: the skeleton with its programs, owned by `programs`. 0, or the same
 * errors as from programs__new, for ever. -EOPNOTSUPP for those that read HPACK tables where
 * !programs__reads_tables().
 */
int programs__want(struct programs *programs, enum program_group group,
		   struct tlstrace_bpf **ret_bpf);

/* Loads all groups that this kernel is known to be able to load. 0 or an error as above. */
int programs__want_all(struct programs *programs);

/* The common ones, and the maps. */
struct tlstrace_bpf *programs__common(const struct programs *programs);

/* How sockets are seen; SOCKET_BACKENDS when this kernel has no way. */
enum socket_backend programs__backend(const struct programs *programs);

/* Whether they are loaded for uprobe_multi links. */
bool programs__are_multi(const struct programs *programs);

/* Whether this kernel lets programs read HPACK tables (5.17+). */
bool programs__reads_tables(const struct programs *programs);

/* The most programs that a socket backend has. */
#define BACKEND_PROGRAMS 6

/* The programs of a socket backend, up to a NULL; it can do without those after `needed`. */
struct backend_programs {
	size_t needed;
	struct bpf_program *programs[BACKEND_PROGRAMS];
};

struct backend_programs programs__of_backend(const struct programs *programs,
					     enum socket_backend backend);

#endif
