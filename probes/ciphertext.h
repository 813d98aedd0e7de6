/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finding the socket of a connection by its TLS records, for programs whose TLS calls do no socket
 * call (memory BIOs: node, Python's asyncio, gRPC).
 *
 * Inside a TLS call the library hands each record to BIO_write, and takes each from BIO_read; the
 * same bytes go out, or came in, on a socket. A record is known by the first 16 bytes behind its
 * header; of those of type application data (what TLS 1.3 encrypts of a handshake is as well) they
 * are ciphertext, and two with the same ones do not occur by chance. What is
 * written is remembered when the library emits it, and found at the first socket call that sends
 * it, on whatever thread; what is read is remembered when a socket delivers it, and found when the
 * library takes it, at the socket that delivered it last. So where bytes pass several sockets of
 * one process, as in a proxy, the one next to the library is taken.
 */
#ifndef TLSTRACE_CIPHERTEXT_H
#define TLSTRACE_CIPHERTEXT_H

#include "sockets.h"

#define MAX_RECORDS_REMEMBERED 8192

/* Records looked at in one buffer: any of them will do. */
#define MAX_RECORDS_WALKED 8

#define FINGERPRINT_BYTES 16

struct record_key {
	__u32 pid;
	__u32 pad;
	__u8 fingerprint[FINGERPRINT_BYTES];
};

/* Who emitted a record. */
struct emitter {
	__u64 object;
	__u64 generation;
};

struct deliverer {
	struct socket_identity socket;
	__u32 pad;
	struct wire_tuple tuple;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_RECORDS_REMEMBERED);
	__type(key, struct record_key);
	__type(value, struct emitter);
} emitted __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_RECORDS_REMEMBERED);
	__type(key, struct record_key);
	__type(value, struct deliverer);
} delivered __weak SEC(".maps");

static __always_inline void forget_socket(struct connection_state *state)
{
	state->sock = 0;
	state->ports = 0;
	__builtin_memset(&state->tuple, 0, sizeof(state->tuple));
}

/* A connection's socket was found. Told by itself only when bytes were reported without it. */
static __always_inline void connection_found(struct connection_state *state, __u64 object,
					     const struct socket_identity *socket,
					     const struct wire_tuple *tuple)
{
	struct wire_socket *record;

	if (state->sock || state->flags & STATE_AMBIGUOUS)
		return;
	state->sock = socket->sock;
	state->ports = socket->ports;
	/* The source last: another thread that reads it meanwhile must not find it without
	 * addresses. */
	__builtin_memcpy(state->tuple.local, tuple->local, sizeof(tuple->local));
	__builtin_memcpy(state->tuple.peer, tuple->peer, sizeof(tuple->peer));
	barrier();
	*(volatile __u64 *)&state->tuple = *(const __u64 *)tuple;
	if (!state->position[0] && !state->position[1])
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(&shared.events_lost);
		return;
	}
	fill_header(&record->header, WIRE_SOCKET, sizeof(*record));
	record->connection.object = object;
	record->connection.generation = state->generation;
	record->tuple = *tuple;
	bpf_ringbuf_submit(record, wakeup(false));
}

/*
 * The key of the record that begins at `data`, and whether it may be one; its payload's length, or
 * 0 when none begins there, or fewer than `size` bytes of it are there.
 */
static __always_inline __u32 record_at(__u64 data, __u64 size, struct record_key *ret_key,
				       bool *ret_is_ciphertext)
{
	struct {
		__u8 pad[3]; /* so that the fingerprint is aligned, and copied by words */
		__u8 header[TLS_HEADER_BYTES];
		__u8 fingerprint[FINGERPRINT_BYTES];
	} record __attribute__((aligned(8)));
	const __u32 head_bytes = TLS_HEADER_BYTES + FINGERPRINT_BYTES;
	__u32 payload;

	if (size < head_bytes || bpf_probe_read_user(record.header, head_bytes, (void *)data))
		return 0;
	payload = tls_payload_bytes(record.header);
	if (payload < FINGERPRINT_BYTES)
		return 0;
	/* A handshake's records are in the clear, and may be the same for all connections. */
	*ret_is_ciphertext = record.header[0] == TLS_APPLICATION_DATA;
	ret_key->pid = current_pid();
	ret_key->pad = 0;
	__builtin_memcpy(ret_key->fingerprint, record.fingerprint, FINGERPRINT_BYTES);
	return payload;
}

#endif
