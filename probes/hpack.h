/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The HPACK tables of connections that were joined late, read where the target itself has them.
 *
 * The program wishes for the table of a stream. Such a stream's bytes were read, or will be
 * written, by TLS calls that know nothing of HTTP/2; the code that does knows nothing of TLS. What
 * ties both together are the bytes: a thread that has read some gives the same ones to the HTTP/2
 * code (note_read() in commit.bpf.c remembers them), and so tells whose session it is and where in
 * the stream.
 */
#ifndef TLSTRACE_HPACK_PROBES_H
#define TLSTRACE_HPACK_PROBES_H

#include "common.h"

#define MAX_WISHES   4096
#define MAX_READS    4096
#define MAX_SESSIONS 4096

/* Of what a call has read, so much is remembered. */
#define READ_HEAD_BYTES 64

/* What a thread or goroutine has read last of a connection's stream. */
struct thread_read {
	struct connection_key connection;
	__u64 generation;
	__u64 buffer;
	__u64 size;
	__u64 position; /* where it began */
	__u64 number;	/* shared.note_reads then: it is void when probes have come since */
	__u8 head[READ_HEAD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_WISHES);
	__type(key, struct stream_key);
	__type(value, struct table_wish);
} wishes __weak SEC(".maps");

/* By thread or goroutine; filled while there are wishes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_READS);
	__type(key, struct thread_key);
	__type(value, struct thread_read);
} reads __weak SEC(".maps");

#endif
