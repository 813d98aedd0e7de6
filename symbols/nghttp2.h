/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libnghttp2's code in a file, shared or inside a program: where a session's HPACK tables can be
 * read (probes/hpack.bpf.c). What cannot be told for certain is told as not there.
 *
 * The functions that take bytes in are exported. The one that gives bytes out is not, but exported
 * ones call it, and it is what they call directly: its returns are probed behind these calls, which
 * needs no uretprobe. Where the tables are in a session, of
 * which the layout changes, tell the getters of their sizes: each is an addition and a jump, or one
 * load. The layout of a table (struct nghttp2_hd_context) has been the same since 1.43, and whoever
 * reads one checks it.
 */
#ifndef TLSTRACE_NGHTTP2_H
#define TLSTRACE_NGHTTP2_H

#include "placement.h"
#include "symbols.h"

/* nghttp2_session_mem_recv and, from 1.60 on, the nghttp2_session_mem_recv2 that it calls. */
#define NGHTTP2_RECEIVES 2

/* Calls of the function that gives bytes out. */
#define NGHTTP2_RETURNS 8

struct nghttp2_code {
	size_t receive_count;
	struct placement_site receives[NGHTTP2_RECEIVES];
	struct placement_site send;	   /* nghttp2_session_mem_send_internal */
	uint64_t returns[NGHTTP2_RETURNS]; /* file offsets behind its calls, the result in place */
	size_t return_count;		   /* 0: it is not known which function it is */
	/* struct nghttp2_hd_context from the beginning of struct nghttp2_session */
	uint32_t inflater_at;
	uint32_t deflater_at;
};

/*
 * Finds it; `emulated` is what the running kernel emulates. 0; -ENOENT when the file has none, or
 * none that is understood; -ENOMEM; another -errno from reading.
 */
int nghttp2_code__find(struct elf_file *file, int fd, const struct emulated *emulated,
		       struct nghttp2_code *ret_code);

#endif
