/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attaches BPF programs to instructions of files, by uprobe_multi links where the kernel has them
 * (6.6+, commit 89ae89f53d20), else by perf events through libbpf. Multi links cost less at each
 * hit, and unlike perf events they can be detached side by side: each detaching waits for a grace
 * period, and perf does so under one lock.
 */
#ifndef TLSTRACE_UPROBE_H
#define TLSTRACE_UPROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <bpf/libbpf.h>

/* Whether this kernel has uprobe_multi links. Programs must then be loaded for them, see below. */
bool uprobe__multi_works(void);

/* Makes the programs of an opened, not yet loaded object loadable for multi links. */
void uprobe__want_multi(struct bpf_object *object);

/* A probe that is attached. */
struct uprobe {
	int link_fd;	       /* multi; -1: none */
	struct bpf_link *link; /* perf event; NULL: none */
	const void *owner;     /* its user's */
};

/*
 * Attaches `program` to the instruction at file offset `offset` of `path`, for the process `pid`
 * (without multi links for that thread alone), or for all where it is 0; `is_return`: to the return
 * of the function that begins there. The program can read `cookie` with bpf_get_attach_cookie
 * (5.15+). 0 or -errno.
 */
int uprobe__attach(const struct bpf_program *program, bool multi, bool is_return, const char *path,
		   pid_t pid, uint64_t offset, uint64_t cookie, struct uprobe *ret_probe);

/*
 * Puts probes that do nothing on `count` instructions of a file, or on the returns of the functions
 * that begin there, by a multi link. Its fd, to be closed, or -errno.
 */
int uprobe__attach_nothing(const char *path, const uint64_t *offsets, size_t count, bool is_return);

/* Detaches all; takes about as long as detaching one. */
void uprobe__detach_all(struct uprobe *probes, size_t count);

#endif
