// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Socket calls. One inside a TLS call of the same thread tells the connection's socket: where that
 * is new to the connection, its addresses are read at that moment, when the socket cannot go away,
 * so connections that were open before the trace are found like any other. One outside of a TLS
 * call is of interest only in processes whose TLS calls do none (ciphertext.h).
 *
 * Four backends see the calls; the program loads and attaches one of them (capture/backend.h):
 * tracepoints of the socket layer, which fire at the return; fexit on the functions of TCP and unix
 * sockets; kprobes on these; tracepoints of the system calls. The latter two are at a call's entry,
 * and need a second probe at its return where the received bytes matter.
 */
#include "ciphertext.h"
#include "goroutine.h"

/* When a hook runs, seen from the socket call. */
enum moment {
	BEFORE,
	RETURNED, /* after a hook BEFORE it */
	AFTER,	  /* the only hook */
};

/* Threads that receive at once. */
#define MAX_RECEIVING 16384

/* The socket of a call that receives, from its entry to its return. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_RECEIVING);
	__type(key, __u64);
	__type(value, __u64);
} receiving SEC(".maps");

/*
 * Number of arguments of tcp_recvmsg: 6 before 5.19 (kernel commit ec095263a965, without nonblock),
 * then 5, and 4 in 7.2 (without addr_len).
 */
const volatile __u32 recvmsg_arguments = 5;

static __always_inline void read_tcp_state(struct sock *sk, struct call *call)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;

	call->tcp.rtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
	call->tcp.retransmits = BPF_CORE_READ(tcp, total_retrans);
	call->tcp_flags |= WIRE_TCP_STATE;
}

/* The first bytes of what the system call sends or has received. */
static __always_inline bool read_header(__u8 header[TLS_HEADER_BYTES])
{
	struct user_buffer buffer;

	return buffer_of_syscall(&buffer) && buffer.size >= TLS_HEADER_BYTES &&
	       !bpf_probe_read_user(header, TLS_HEADER_BYTES, (void *)buffer.data);
}

/*
 * The first bytes that a TLS call sends. They are those of the record with the call's first bytes
 * when they look like one that is large enough: a handshake's or a key update's is not. What was
 * left from a call before is known by STATE_WRITE_BLOCKED.
 */
static __always_inline void note_sent(struct sock *sk, struct call *call, long result,
				      enum moment moment)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
	__u64 least = call->length < MIN_FRAGMENT_BYTES ? call->length : MIN_FRAGMENT_BYTES;
	__u8 header[TLS_HEADER_BYTES];

	read_tcp_state(sk, call);
	if (!read_header(header) || header[0] != TLS_APPLICATION_DATA ||
	    tls_payload_bytes(header) < least + TLS_TAG_BYTES)
		return;
	call->tcp.seq = BPF_CORE_READ(tcp, write_seq);
	if (moment == AFTER && result > 0)
		call->tcp.seq -= result;
	call->tcp.ack = BPF_CORE_READ(tcp, rcv_nxt);
	call->tcp_flags |= WIRE_TCP_SEQ;
}

/*
 * A TLS call has received bytes: follows the records to know at which sequence number the one
 * began that the call's bytes are from. The library reads either a header and then the payload, or
 * (read-ahead) what there is: then the first of several records may be theirs.
 */
static __always_inline void note_received(struct sock *sk, struct call *call,
					  struct record_place *record, __u32 size)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
	__u8 header[TLS_HEADER_BYTES];
	__u32 whole;

	read_tcp_state(sk, call);
	if (record->rest) {
		if (size > record->rest)
			record->known = PLACE_UNKNOWN;
		record->rest = size <= record->rest ? record->rest - size : 0;
		return;
	}
	record->known = PLACE_UNKNOWN;
	if (size < TLS_HEADER_BYTES || !read_header(header))
		return;
	whole = TLS_HEADER_BYTES + tls_payload_bytes(header);
	if (whole == TLS_HEADER_BYTES)
		return;
	record->rest = size < whole ? whole - size : 0;
	record->payload = whole - TLS_HEADER_BYTES;
	if (header[0] != TLS_APPLICATION_DATA)
		return;
	if (size <= whole)
		record->known = PLACE_KNOWN;
	else if (call->direction == WIRE_READ)
		record->known = PLACE_OF_FIRST;
	record->seq = BPF_CORE_READ(tcp, copied_seq) - size;
	record->ack = BPF_CORE_READ(tcp, write_seq);
}

/* Where entry and return are seen apart, a return may be missed: what it moved is not known. */
static __always_inline void note_receiving(struct record_place *record, enum moment moment)
{
	if (moment == BEFORE && record->receiving) {
		record->known = PLACE_UNKNOWN;
		record->rest = 0;
	}
	record->receiving = moment == BEFORE;
}

/*
 * Whether a socket that is new to a connection carries its records, as far as that can be told: a
 * program logs in the middle of a TLS call, wakes another thread over a pair of unix sockets. What
 * is sent begins as a record. Of what is received a unix socket must show as much.
 */
static __always_inline bool carries_records(struct sock *sk, __u8 direction, long result,
					    enum moment moment)
{
	__u8 header[TLS_HEADER_BYTES];

	/* io_uring completes other calls in the middle of one. */
	if (socket_of_syscall() != sk)
		return false;
	if (direction == WIRE_READ && !is_unix(sk))
		return true;
	if (direction == WIRE_READ && (moment == BEFORE || result < TLS_HEADER_BYTES))
		return false;
	return read_header(header) && tls_payload_bytes(header);
}

/* The call uses a socket: one, unless it is a unix socket beside one of TCP. */
static __always_inline void note_socket(struct sock *sk, struct call *call,
					const struct connection_state *state)
{
	struct socket_identity socket;

	if (!identify_socket(sk, &socket))
		return;
	if (call->sock && !call->on_unix) {
		call->many_sockets |= !is_unix(sk);
		return;
	}
	if (call->sock && is_unix(sk)) {
		call->many_sockets = 1;
		return;
	}
	call->sock = socket.sock;
	call->ports = socket.ports;
	call->on_unix = is_unix(sk);
	call->many_sockets = 0;
	if (!state || state->sock != call->sock || state->ports != call->ports)
		read_tuple(sk, WIRE_TUPLE_NESTED, &call->tuple);
}

/* Whether it is the connection's socket, and not another one in its memory. */
static __always_inline bool is_socket_of(const struct connection_state *state, struct sock *sk)
{
	__u32 ports;

	if (state->sock != (__u64)sk)
		return false;
	ports = (__u32)BPF_CORE_READ(sk, __sk_common.skc_num) << 16 |
		BPF_CORE_READ(sk, __sk_common.skc_dport);
	return state->tuple.transport == WIRE_UNIX || state->ports == ports;
}

static __always_inline void socket_in_tls_call(struct sock *sk, struct call *call, __u8 direction,
					       long result, enum moment moment)
{
	struct connection_key key = {.pid = current_pid(), .object = call->object};
	bool receives = direction == WIRE_READ && moment != BEFORE && result > 0;
	bool is_first = call->sock != (__u64)sk, is_known;
	struct connection_state *state;
	struct record_place *record;

	if (!is_first && !receives && moment == AFTER)
		return;
	state = bpf_map_lookup_elem(&connections, &key);
	record = &call->record;
	if (state) {
		record = &state->record;
		asm volatile("" : "+r"(record)); /* no address before the check, for the verifier */
	}
	if (direction == WIRE_READ && moment != AFTER)
		note_receiving(record, moment);
	is_known = state && is_socket_of(state, sk);
	if (is_first && is_known && !call->sock) {
		call->sock = state->sock;
		call->ports = state->ports;
		call->on_unix = state->tuple.transport == WIRE_UNIX;
	} else if (is_first && (is_known || carries_records(sk, direction, result, moment))) {
		note_socket(sk, call, state);
	}
	if (call->sock != (__u64)sk || call->on_unix)
		return;
	/* In the middle of a body nobody asks for TCP's numbers. */
	if (state && call->direction <= WIRE_WRITE &&
	    walk__in_body(&state->walks[call->direction & 1])) {
		record->known = PLACE_UNKNOWN;
		record->rest = 0;
		return;
	}
	if (!is_tcp(sk))
		return;
	if (is_first && direction == WIRE_WRITE && call->direction == WIRE_WRITE)
		note_sent(sk, call, result, moment);
	if (receives && (is_known || !state || !state->sock))
		note_received(sk, call, record, result);
}

/* Steps over a record in a buffer; false when the buffer ends in it. */
static __always_inline bool next_record(struct user_buffer *buffer, __u32 payload)
{
	buffer->data += TLS_HEADER_BYTES + payload;
	if (buffer->size < TLS_HEADER_BYTES + payload)
		return false;
	buffer->size -= TLS_HEADER_BYTES + payload;
	return true;
}

/* A socket call outside of TLS calls sends bytes that the library may have emitted. */
static __always_inline void find_emitter(struct sock *sk, struct user_buffer *buffer)
{
	struct connection_key key = {.pid = current_pid()};
	struct connection_state *state;
	struct socket_identity socket;
	struct emitter *emitter, found;
	struct record_key record;
	struct wire_tuple tuple;
	bool is_ciphertext;
	__u32 payload;

	for (int i = 0; i < MAX_RECORDS_WALKED; i++) {
		payload = record_at(buffer->data, buffer->size, &record, &is_ciphertext);
		if (!payload)
			return;
		emitter = is_ciphertext ? bpf_map_lookup_elem(&emitted, &record) : NULL;
		if (emitter)
			break;
		if (!next_record(buffer, payload))
			return;
	}
	if (!emitter || !identify_socket(sk, &socket))
		return;
	read_tuple(sk, WIRE_TUPLE_CIPHERTEXT, &tuple);
	found = *emitter;
	if (bpf_map_delete_elem(&emitted, &record))
		return; /* another thread has it, or it was pushed out */
	key.object = found.object;
	state = bpf_map_lookup_elem(&connections, &key);
	if (!state || found.generation != state->generation)
		return;
	connection_found(state, key.object, &socket, &tuple);
}

/* A socket call outside of TLS calls has received bytes that the library may take. */
static __always_inline void note_delivered(struct sock *sk, struct user_buffer *buffer, __u64 size)
{
	struct deliverer deliverer = {};
	struct record_key record;
	bool is_ciphertext;
	__u32 payload;

	if (buffer->size > size)
		buffer->size = size;
	payload = record_at(buffer->data, buffer->size, &record, &is_ciphertext);
	if (!payload || !identify_socket(sk, &deliverer.socket))
		return;
	read_tuple(sk, WIRE_TUPLE_CIPHERTEXT, &deliverer.tuple);
	for (int i = 0; i < MAX_RECORDS_WALKED && payload; i++) {
		if (is_ciphertext)
			bpf_map_update_elem(&delivered, &record, &deliverer, BPF_ANY);
		if (!next_record(buffer, payload))
			return;
		payload = record_at(buffer->data, buffer->size, &record, &is_ciphertext);
	}
}

/* Whether socket calls of the process outside of TLS calls are of interest. */
static __always_inline bool wants_ciphertext(void)
{
	__u32 pid = current_pid();
	struct traced_process *process;

	if (!shared.ciphertext_processes)
		return false;
	process = bpf_map_lookup_elem(&traced, &pid);
	return process && process->flags & TRACED_CIPHERTEXT;
}

static __always_inline int socket_call(struct sock *sk, __u8 direction, long result,
				       enum moment moment)
{
	__u64 id = bpf_get_current_pid_tgid(), sock = (__u64)sk;
	struct thread_key key = key_of_thread();
	struct thread *thread = bpf_map_lookup_elem(&threads, &key);
	struct user_buffer buffer;
	__u64 top;

	if (!thread || !thread->depth)
		thread = goroutine_of_syscall();
	top = thread ? thread->depth - 1 : MAX_DEPTH;
	if (top >= MAX_DEPTH && !wants_ciphertext())
		return 0;
	if (moment == BEFORE && direction == WIRE_READ)
		bpf_map_update_elem(&receiving, &id, &sock, BPF_ANY);
	if (thread && top < MAX_DEPTH) {
		socket_in_tls_call(sk, &thread->calls[top], direction, result, moment);
		return 0;
	}
	if ((moment != BEFORE && result <= 0) || socket_of_syscall() != sk ||
	    !buffer_of_syscall(&buffer))
		return 0;
	if (direction == WIRE_WRITE)
		find_emitter(sk, &buffer);
	else if (moment != BEFORE)
		note_delivered(sk, &buffer, result);
	return 0;
}

/* The return of a call that receives, of which only the entry told the socket. */
static __always_inline int receive_returned(long result)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u64 *sock = bpf_map_lookup_elem(&receiving, &id);

	if (!sock)
		return 0;
	socket_call((struct sock *)*sock, WIRE_READ, result, RETURNED);
	bpf_map_delete_elem(&receiving, &id);
	return 0;
}

/* sock:sock_send_length and sock:sock_recv_length (6.3+, kernel commit 6e6eda44b939). */
SEC("raw_tracepoint/sock_send_length")
int raw_send(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_call((struct sock *)ctx->args[0], WIRE_WRITE, (int)ctx->args[1], AFTER);
}

SEC("raw_tracepoint/sock_recv_length")
int raw_receive(struct bpf_raw_tracepoint_args *ctx)
{
	int result = (int)ctx->args[1], flags = (int)ctx->args[2];

	return socket_call((struct sock *)ctx->args[0], WIRE_READ, flags & MSG_PEEK ? 0 : result,
			   AFTER);
}

/* tcp_sendmsg(sk, msg, size) and tcp_recvmsg(sk, msg, ...); their results follow the arguments. */
SEC("fexit/tcp_sendmsg")
int fexit_tcp_send(__u64 *ctx)
{
	return socket_call((struct sock *)ctx[0], WIRE_WRITE, (int)ctx[3], AFTER);
}

SEC("fexit/tcp_recvmsg")
int fexit_tcp_receive(__u64 *ctx)
{
	__u64 result;

	/* As it stands: the verifier refuses a context with a variable offset. */
	if (recvmsg_arguments == 6)
		asm volatile("%0 = *(u64 *)(%1 + 48)" : "=r"(result) : "r"(ctx));
	else if (recvmsg_arguments == 5)
		asm volatile("%0 = *(u64 *)(%1 + 40)" : "=r"(result) : "r"(ctx));
	else
		asm volatile("%0 = *(u64 *)(%1 + 32)" : "=r"(result) : "r"(ctx));
	return socket_call((struct sock *)ctx[0], WIRE_READ, (int)result, AFTER);
}

/* unix_stream_sendmsg(sock, msg, size) and unix_stream_recvmsg(sock, msg, size, flags). */
SEC("fexit/unix_stream_sendmsg")
int fexit_unix_send(__u64 *ctx)
{
	struct socket *socket = (struct socket *)ctx[0];

	return socket_call(BPF_CORE_READ(socket, sk), WIRE_WRITE, (int)ctx[3], AFTER);
}

SEC("fexit/unix_stream_recvmsg")
int fexit_unix_receive(__u64 *ctx)
{
	struct socket *socket = (struct socket *)ctx[0];

	return socket_call(BPF_CORE_READ(socket, sk), WIRE_READ, (int)ctx[4], AFTER);
}

SEC("kprobe/tcp_sendmsg")
int kprobe_tcp_send(struct pt_regs *ctx)
{
	return socket_call((struct sock *)PT_REGS_PARM1(ctx), WIRE_WRITE, 0, BEFORE);
}

SEC("kprobe/tcp_recvmsg")
int kprobe_tcp_receive(struct pt_regs *ctx)
{
	return socket_call((struct sock *)PT_REGS_PARM1(ctx), WIRE_READ, 0, BEFORE);
}

SEC("kprobe/unix_stream_sendmsg")
int kprobe_unix_send(struct pt_regs *ctx)
{
	struct socket *socket = (struct socket *)PT_REGS_PARM1(ctx);

	return socket_call(BPF_CORE_READ(socket, sk), WIRE_WRITE, 0, BEFORE);
}

SEC("kprobe/unix_stream_recvmsg")
int kprobe_unix_receive(struct pt_regs *ctx)
{
	struct socket *socket = (struct socket *)PT_REGS_PARM1(ctx);

	return socket_call(BPF_CORE_READ(socket, sk), WIRE_READ, 0, BEFORE);
}

/* Returns are missed where kretprobes are few (5.10): what follows from them is then not known. */
SEC("kretprobe/tcp_recvmsg")
int kret_tcp_receive(struct pt_regs *ctx)
{
	return receive_returned((int)PT_REGS_RC(ctx));
}

SEC("kretprobe/unix_stream_recvmsg")
int kret_unix_receive(struct pt_regs *ctx)
{
	return receive_returned((int)PT_REGS_RC(ctx));
}

/*
 * Raw tracepoints of all system calls: those of single ones need tracefs, which may not be mounted.
 * The first argument of all that move bytes of a socket is its descriptor.
 */
static __always_inline int direction_of_syscall(long number)
{
	switch (number) {
	case NR_WRITE:
	case NR_WRITEV:
	case NR_SENDTO:
	case NR_SENDMSG:
	case NR_SENDMMSG:
		return WIRE_WRITE;
	case NR_READ:
	case NR_READV:
	case NR_RECVFROM:
	case NR_RECVMSG:
	case NR_RECVMMSG:
		return WIRE_READ;
	}
	return -1;
}

SEC("raw_tracepoint/sys_enter")
int syscall_enter(struct bpf_raw_tracepoint_args *ctx)
{
	user_regs *regs = (user_regs *)ctx->args[0];
	int direction = direction_of_syscall((long)ctx->args[1]);
	struct thread_key key = key_of_thread();
	struct thread *thread;
	__u64 fd = 0;
	struct sock *sk;

	if (direction < 0)
		return 0;
	thread = bpf_map_lookup_elem(&threads, &key);
	if ((!thread || !thread->depth) && !goroutine_of_syscall() && !wants_ciphertext())
		return 0;
	bpf_probe_read_kernel(&fd, sizeof(fd), &regs->SYSCALL_SOCKET);
	sk = socket_of_fd((int)fd);
	return sk ? socket_call(sk, direction, 0, BEFORE) : 0;
}

SEC("raw_tracepoint/sys_exit")
int syscall_exit(struct bpf_raw_tracepoint_args *ctx)
{
	user_regs *regs = (user_regs *)ctx->args[0];
	long number = -1;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->SYSCALL_NUMBER);
	/* recvmmsg returns a number of messages: what it received is then not known. */
	if (direction_of_syscall(number) != WIRE_READ || number == NR_RECVMMSG)
		return 0;
	return receive_returned((long)ctx->args[1]);
}
