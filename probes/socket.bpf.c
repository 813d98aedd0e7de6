// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The socket of a TLS call: the one that this thread sends on or receives from while the call
 * runs. Where it is new to the connection, its addresses are read at that moment, when the socket
 * cannot go away, so connections that were open before the trace are found like any other.
 */
#include "common.h"

/* The tuple of a TCP socket. */
static __always_inline void read_tuple(struct sock *sk, struct wire_tuple *tuple)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	__builtin_memset(tuple, 0, sizeof(*tuple));
	tuple->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	tuple->peer_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET) {
		tuple->ip_version = 4;
		BPF_CORE_READ_INTO((__be32 *)tuple->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((__be32 *)tuple->peer, sk, __sk_common.skc_daddr);
	} else {
		tuple->ip_version = 6;
		BPF_CORE_READ_INTO((struct in6_addr *)tuple->local, sk,
				   __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)tuple->peer, sk, __sk_common.skc_v6_daddr);
	}
	tuple->source = WIRE_TUPLE_NESTED;
}

static __always_inline int socket_used(struct sock *sk)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	struct connection_state *state;
	struct connection_key key = {};
	struct call *call;
	__u16 family, num;
	__be16 dport;
	__u64 top;

	if (!thread)
		return 0;
	top = thread->depth - 1;
	if (top >= MAX_DEPTH)
		return 0;
	call = &thread->calls[top];
	if (call->sock == (__u64)sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) || BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return 0;
	num = BPF_CORE_READ(sk, __sk_common.skc_num);
	dport = BPF_CORE_READ(sk, __sk_common.skc_dport);
	if (!num || !dport) /* a reset has taken its addresses already */
		return 0;
	if (call->sock) {
		call->many_sockets = 1;
		return 0;
	}
	call->sock = (__u64)sk;
	call->ports = (__u32)num << 16 | dport;
	key.pid = id >> 32;
	key.object = call->object;
	state = bpf_map_lookup_elem(&connections, &key);
	if (!state || state->sock != call->sock || state->ports != call->ports)
		read_tuple(sk, &call->tuple);
	return 0;
}

/* sock:sock_send_length and sock:sock_recv_length (6.3+, kernel commit 6e6eda44b939). */
SEC("raw_tracepoint/sock_send_length")
int sock_send(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_used((struct sock *)ctx->args[0]);
}

SEC("raw_tracepoint/sock_recv_length")
int sock_recv(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_used((struct sock *)ctx->args[0]);
}
