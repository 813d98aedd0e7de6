// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Probes on the functions of OpenSSL and BoringSSL through which a program's plaintext passes.
 *
 * A call is noted when it is entered, in the thread's small stack of calls, because its arguments
 * are gone when it returns; its bytes are committed when it returns, with the count that it
 * reports, because a write may be retried, may be partial, and may fail. A stack and not one slot,
 * because TLS runs inside TLS (an HTTPS proxy) and a library's functions call each other:
 * SSL_write_ex calls SSL_write_ex2 on the same object, and only the outer call's bytes count.
 *
 * A thread can leave a function without returning (longjmp, or a probe that went in after the
 * entry). The stack pointer tells: a call that is still running lies above every later one.
 *
 * Every connection has a state: how many bytes of each direction passed, which socket carries it.
 * The state begins when the probes first see the object and ends with SSL_free or SSL_clear; an
 * address alone would mix up the connections that use it in turn.
 */
#include "ciphertext.h"
#include "frames.h"
#include "hpack.h"

/*
 * Largest piece of a call in one record, and the number of pieces. What a call moves beyond them is
 * reported without its bytes: within a body, where the parser can do without, that changes nothing.
 */
#define PIECE_BYTES 16384
/* Without bpf_loop, since the verifier walks each turn of a loop: fewer and larger ones. */
#define LARGE_PIECE_BYTES 65536
#define MAX_PIECES	  64

/* Each time a stream has delivered so much, the program is woken: it may say that it is enough. */
#define URGENT_BYTES (256 * 1024)

/* Numbers of the functions that push a call: an exit must not take another function's. */
enum function {
	FN_READ,
	FN_READ_EX,
	FN_PEEK,
	FN_PEEK_EX,
	FN_READ_EARLY,
	FN_WRITE,
	FN_WRITE_EX,
	FN_WRITE_EX2,
	FN_WRITE_EARLY,
	FN_SENDFILE,
	FN_HANDSHAKE,
	FN_CONNECT,
	FN_ACCEPT,
};

#define NO_DIRECTION 0xff

/* Calls on a connection without a socket after which nothing more is tried. */
#define MAX_UNNESTED 3

/*
 * struct ssl_st: where its rbio and wbio are; from 3.2 on, behind a head whose first word is 0
 * where it was a version number. struct bio_st: where the descriptor is; from 3.0 on the method is
 * its second word. BIO_METHOD begins with its type and name.
 */
#define SSL_BIOS	16
#define SSL_BIOS_3_2	80
#define BIO_NUM		48
#define BIO_NUM_3_0	56
#define BIO_TYPE_SOCKET 0x505
#define SOCKET_NAME	0x74656b636f73 /* "socket", little-endian */

/* Not on the stack: there is little, and the programs called share it. */
static const struct thread no_calls;
static const struct connection_state no_state;

static __always_inline bool is_traced(void)
{
	__u32 pid = current_pid();

	return bpf_map_lookup_elem(&traced, &pid);
}

/*
 * The current thread's calls; NULL when its process is not traced, or, counted, without room. A
 * thread that has them is of a traced process: they are dropped when it ends or executes.
 */
static __always_inline struct thread *thread_of_current(void)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);

	if (thread || !is_traced())
		return thread;
	bpf_map_update_elem(&threads, &id, &no_calls, BPF_NOEXIST);
	thread = bpf_map_lookup_elem(&threads, &id);
	if (!thread)
		count(&shared.calls_lost);
	return thread;
}

/* A function was entered. */
static __always_inline int enter(struct pt_regs *ctx, __u8 function, __u8 direction, bool counted,
				 __u64 buffer, __u64 length, __u64 length_at)
{
	__u64 object = PT_REGS_PARM1(ctx), stack = stack_at_entry(ctx, false), depth;
	struct thread *thread;
	struct call *call;

	stay_on_kernel_stack(ctx);
	thread = thread_of_current();
	if (!thread)
		return 0;
	depth = thread->depth;
	for (int i = 0; i < MAX_DEPTH; i++) {
		__u64 top = depth - 1;

		if (top >= MAX_DEPTH || thread->calls[top].stack > stack)
			break;
		depth = top; /* it was left without a return */
	}
	for (__u64 i = 0; i < MAX_DEPTH; i++) {
		if (i >= depth)
			break;
		if (thread->calls[i].object == object && thread->calls[i].direction == direction &&
		    thread->calls[i].counted)
			counted = false;
	}
	if (depth >= MAX_DEPTH) {
		count(&shared.calls_lost);
		return 0;
	}
	call = &thread->calls[depth];
	call->object = object;
	call->buffer = buffer;
	call->length = length;
	call->length_at = length_at;
	/* What is read passes at the return; the clock is dear. */
	call->start_ns = direction == WIRE_READ ? 0 : bpf_ktime_get_ns();
	call->stack = stack;
	call->sock = 0;
	call->tuple.source = WIRE_TUPLE_NONE;
	call->function = function;
	call->direction = direction;
	call->counted = counted;
	call->many_sockets = 0;
	call->on_unix = 0;
	call->tcp_flags = 0;
	call->tcp = (struct wire_tcp){};
	call->record = (struct record_place){};
	call->is_inner = depth > 0;
	call->ports = 0;
	thread->depth = depth + 1;
	return 0;
}

/*
 * A function returned: takes its call off the stack. What was above it was left without a return.
 * NULL when the entry was not seen. The call stays readable until the thread's next entry.
 */
static __always_inline struct call *leave(struct pt_regs *ctx, __u8 function)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u64 stack = stack_at_entry(ctx, true);
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	struct call *call, *outer;
	__u64 depth;

	if (!thread)
		return NULL;
	depth = thread->depth;
	for (int i = 0; i < MAX_DEPTH; i++) {
		__u64 top = depth - 1;

		if (top >= MAX_DEPTH)
			break;
		call = &thread->calls[top];
		if (call->stack > stack)
			break;
		depth = top;
		if (call->stack < stack || call->function != function)
			continue;
		thread->depth = depth;
		/* A socket used inside an inner call was used inside the outer one as well. */
		top = depth - 1;
		if (top < MAX_DEPTH && call->sock) {
			outer = &thread->calls[top];
			if (!outer->sock) {
				outer->sock = call->sock;
				outer->ports = call->ports;
				outer->on_unix = call->on_unix;
				outer->tuple = call->tuple;
				outer->tcp = call->tcp;
				outer->tcp_flags = call->tcp_flags;
				if (outer->object != call->object ||
				    outer->direction != call->direction)
					outer->tcp_flags &= ~WIRE_TCP_SEQ;
			} else if (outer->sock != call->sock) {
				outer->many_sockets = 1;
			}
			outer->many_sockets |= call->many_sockets;
		}
		return call;
	}
	thread->depth = depth;
	return NULL;
}

static __always_inline void fill_connection(struct connection_state *state, __u64 object,
					    struct wire_connection *id, struct wire_tuple *tuple)
{
	id->object = object;
	id->generation = state->generation;
	*tuple = state->tuple;
}

/*
 * Tells of the frames up to `position` that were left out of a direction; of the last one, `left`
 * bytes are still to come.
 */
static __noinline void report_frames(struct connection_state *state, __u64 object, __u32 direction,
				     __u64 position, __u32 left)
{
	const int room = WIRE_FRAMES_STREAMS * sizeof(struct wire_frames_stream);
	struct walk *walk = &state->walks[direction & 1];
	struct wire_frames *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + room, 0);
	__u64 told = walk->told;
	__u8 used = 0;

	walk->told = position;
	if (!record) {
		count(&shared.events_lost);
		state->lost_bytes[direction & 1] += position - told;
		frame_sums__clear(&walk->sums);
		return;
	}
	for (int i = 0; i < WIRE_FRAMES_STREAMS; i++) {
		record->streams[i].payload = walk->sums.payload[i];
		record->streams[i].stream = walk->sums.streams[i];
		record->streams[i].pad = 0;
		used += walk->sums.streams[i] != 0;
	}
	frame_sums__clear(&walk->sums);
	fill_header(&record->header, WIRE_FRAMES,
		    sizeof(*record) + used * sizeof(record->streams[0]));
	record->connection.object = object;
	record->connection.generation = state->generation;
	record->position = position;
	record->lost_bytes = state->lost_bytes[direction & 1];
	record->left = left;
	record->stream = walk->stream;
	record->direction = direction & 1;
	record->count = used;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_ringbuf_submit(record, wakeup(false));
}

static __always_inline void report_close(struct connection_state *state, __u64 object, __u8 reason)
{
	struct wire_close *record;

	for (int i = 0; i < 2; i++) {
		struct walk *walk = &state->walks[i];

		if (walk->phase == WALK_FRAMES && walk->told < state->position[i])
			report_frames(state, object, i, state->position[i], walk->remaining);
	}
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(&shared.events_lost);
		return;
	}
	fill_header(&record->header, WIRE_CLOSE, sizeof(*record));
	fill_connection(state, object, &record->connection, &record->tuple);
	for (int i = 0; i < 2; i++) {
		record->position[i] = state->position[i];
		record->lost_bytes[i] = state->lost_bytes[i];
		record->body_bytes[i] = state->body_bytes[i];
	}
	record->reason = reason;
	record->library = state->library;
	record->flags = state->flags & WIRE_FROM_START;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_ringbuf_submit(record, wakeup(false));
}

static __always_inline bool has_moved(const struct connection_state *state)
{
	return state->position[0] || state->position[1];
}

static __always_inline struct connection_key key_of(__u64 object)
{
	return (struct connection_key){.pid = current_pid(), .object = object};
}

/*
 * The state of a connection that begins now. `flags` says whether its object was just made. Not
 * inlined: the state is on the stack, of whose 512 bytes a walk needs its part.
 */
static __noinline struct connection_state *begin_connection(struct pt_regs *ctx, __u64 object,
							    __u8 flags)
{
	struct connection_key key = key_of(object);
	struct connection_state *state;

	if (bpf_map_update_elem(&connections, &key, &no_state, BPF_ANY))
		count(&shared.connections_lost);
	state = bpf_map_lookup_elem(&connections, &key);
	if (!state)
		return NULL;
	state->generation = bpf_ktime_get_ns();
	state->flags = flags;
	if (have_cookie)
		state->library = COOKIE_LIBRARY(bpf_get_attach_cookie(ctx));
	return state;
}

static __always_inline struct connection_state *connection_of(struct pt_regs *ctx, __u64 object)
{
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	return state ?: begin_connection(ctx, object, 0);
}

/* The call's socket is the connection's, when all calls agree on one. */
static __always_inline void learn_socket(struct connection_state *state, const struct call *call)
{
	struct socket_identity socket = {.sock = call->sock, .ports = call->ports};

	if (!call->sock || call->many_sockets || state->flags & STATE_AMBIGUOUS)
		return;
	if (state->sock == call->sock && state->ports == call->ports) {
		if (state->tuple.source == WIRE_TUPLE_FD)
			state->tuple.source = WIRE_TUPLE_NESTED;
		return;
	}
	/* A descriptor is what the program said, a socket call what it did; records prove it. */
	if (state->tuple.source == WIRE_TUPLE_CIPHERTEXT)
		return;
	if (state->sock && call->on_unix && state->tuple.transport == WIRE_TCP)
		return;
	if (state->sock && state->tuple.source == WIRE_TUPLE_NESTED) {
		forget_socket(state);
		state->flags |= STATE_AMBIGUOUS;
		return;
	}
	if (call->tuple.source == WIRE_TUPLE_NONE)
		return;
	forget_socket(state);
	connection_found(state, call->object, &socket, &call->tuple);
}

/*
 * Whether the place of the record that was received last is that of the call's bytes. Of several
 * that came together the first may be a key update or the end of a handshake. It holds the bytes
 * when they fill it, but for what the ciphers of TLS 1.3 and 1.2 add, or fill the call's buffer.
 */
static __always_inline bool place_is_known(const struct record_place *record,
					   const struct call *call)
{
	__u64 added = record->payload - call->moved;

	if (record->receiving) /* its return was missed */
		return false;
	if (record->known != PLACE_OF_FIRST)
		return record->known;
	return added == 17 || added == 24 || added == 16 ||
	       (call->moved == call->length && call->moved >= MIN_FRAGMENT_BYTES &&
		record->payload > call->moved);
}

/* Leaves in call->tcp and call->tcp_flags what is known of TCP where the call's bytes begin. */
static __always_inline void settle_tcp(const struct connection_state *state, struct call *call)
{
	if (call->direction == WIRE_READ && place_is_known(&state->record, call)) {
		call->tcp.seq = state->record.seq;
		call->tcp.ack = state->record.ack;
		call->tcp_flags |= WIRE_TCP_SEQ;
	}
	if (call->direction == WIRE_WRITE && state->flags & STATE_WRITE_BLOCKED)
		call->tcp_flags &= ~WIRE_TCP_SEQ;
	/* Of the connection's socket alone. */
	if (!state->sock || state->tuple.transport != WIRE_TCP || call->many_sockets ||
	    (call->sock && call->sock != state->sock))
		call->tcp_flags = 0;
}

/*
 * A record with room for CAPACITY bytes, and the next bytes of the call in it. A macro, because a
 * reservation's size must be a constant.
 */
#define RESERVE_AND_READ(record, source, size, read_failed, CAPACITY)                              \
	do {                                                                                       \
		record = bpf_ringbuf_reserve(&ring, sizeof(*record) + (CAPACITY), 0);              \
		if (record) {                                                                      \
			__u32 size_ = size;                                                        \
			asm volatile("" : "+r"(size_)); /* the bound is for the verifier */        \
			if (size_ > (CAPACITY))                                                    \
				size_ = (CAPACITY);                                                \
			asm volatile("" : "+r"(size_));                                            \
			read_failed = bpf_probe_read_user(record->bytes, size_, source);           \
		}                                                                                  \
	} while (0)

/*
 * Reports the next piece of what the call moved: `moved` bytes, of which `captured` are read. Not
 * inline: its paths end where it returns, and are not multiplied by those of each turn of a loop.
 */
static __noinline void report_piece(struct connection_state *state, struct call *call,
				    __u8 direction, __u32 moved, __u32 captured)
{
	void *source = (void *)(call->buffer + call->reported);
	__u8 flags = (state->flags & WIRE_FROM_START) |
		     (call->reported ? 0 : WIRE_CALL_START | call->tcp_flags);
	__u64 position = state->position[direction] + call->reported;
	struct wire_data *record;
	long read_failed = 0;

	call->reported += moved;
	if (!captured)
		record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	else if (captured <= 256)
		RESERVE_AND_READ(record, source, captured, read_failed, 256);
	else if (captured <= 1024)
		RESERVE_AND_READ(record, source, captured, read_failed, 1024);
	else if (captured <= 2048)
		RESERVE_AND_READ(record, source, captured, read_failed, 2048);
	else if (captured <= 4096)
		RESERVE_AND_READ(record, source, captured, read_failed, 4096);
	else if (captured <= PIECE_BYTES)
		RESERVE_AND_READ(record, source, captured, read_failed, PIECE_BYTES);
	else
		RESERVE_AND_READ(record, source, captured, read_failed, LARGE_PIECE_BYTES);
	if (!record) {
		count(&shared.events_lost);
		state->lost_bytes[direction] += moved;
		return;
	}
	if (read_failed) { /* not resident: probes cannot wait for a page */
		count(&shared.events_lost);
		state->lost_bytes[direction] += captured;
		captured = 0;
	}
	fill_header(&record->header, WIRE_DATA, sizeof(*record) + captured);
	fill_connection(state, call->object, &record->connection, &record->tuple);
	record->start_ns = call->start_ns;
	record->position = position;
	record->lost_bytes = state->lost_bytes[direction];
	record->body_bytes = state->body_bytes[direction];
	record->walk_from = walk__name(&state->walks[direction]);
	record->other_position = state->position[1 - direction];
	record->other_lost_bytes = state->lost_bytes[1 - direction];
	record->tcp = call->tcp;
	record->moved = moved;
	record->captured = captured;
	record->direction = direction;
	record->library = state->library;
	record->flags = flags;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	state->captured[direction] += captured;
	bpf_ringbuf_submit(record, wakeup(state->captured[direction] % URGENT_BYTES < captured));
}

struct report {
	struct connection_state *state;
	struct call *call;
	__u8 direction;
};

/* A piece of `size`, where more than that is left. 1 at the end. */
static __always_inline long report_full(struct report *report, __u32 size)
{
	struct call *call = report->call;

	if (!call->buffer || call->wanted - call->reported <= size)
		return 1;
	report_piece(report->state, call, report->direction & 1, size, size);
	return 0;
}

/* For bpf_loop. */
static long report_full_piece(__u32 index, struct report *report)
{
	return report_full(report, PIECE_BYTES);
}

/*
 * Reports the bytes of the call from call->reported to call->wanted, at least by one record, though
 * it be empty: that tells when the end of a skip passed. Progress is kept in the call, in map
 * memory, because the verifier would follow every value that a register could have.
 */
static __always_inline void report_call(struct connection_state *state, struct call *call,
					__u8 direction, bool can_loop)
{
	struct report report = {.state = state, .call = call, .direction = direction};
	__u64 rest;

	if (can_loop) {
		bpf_loop(MAX_PIECES, report_full_piece, &report, 0);
	} else {
		for (int i = 0; i < MAX_PIECES * PIECE_BYTES / LARGE_PIECE_BYTES; i++)
			if (report_full(&report, LARGE_PIECE_BYTES))
				break;
		for (int i = 0; i < LARGE_PIECE_BYTES / PIECE_BYTES; i++)
			if (report_full(&report, PIECE_BYTES))
				break;
	}
	rest = call->wanted - call->reported;
	if (call->buffer && rest <= PIECE_BYTES)
		report_piece(state, call, direction, rest + call->tail, rest);
	else
		report_piece(state, call, direction, call->moved - call->reported, 0);
}

/*
 * Whether a call's first bytes can be the start of an HTTP message: a method's first letters or
 * "HTTP/", or the length and type of an HTTP/2 frame. Says yes to more than is one: the program
 * looks closer.
 */
static __always_inline bool may_start_message(__u64 source, __u64 size)
{
	__u8 head[4] = {};

	if (bpf_probe_read_user(head, size < sizeof(head) ? 1 : sizeof(head), (void *)source))
		return true;
	if (!head[0])
		return head[1] <= 0x40 && head[3] <= 9;
	if (head[0] < 'A' || head[0] > 'Z')
		return false;
	return size < sizeof(head) ||
	       (head[1] >= 'A' && head[1] <= 'Z' && head[2] >= 'A' && head[2] <= 'Z');
}

/* The call has moved call->moved bytes of a direction. `can_walk`: the kernel has bpf_loop. */
static __always_inline void commit(struct connection_state *state, struct call *call,
				   __u8 direction, bool can_walk)
{
	struct stream_key key = {.connection = key_of(call->object), .direction = direction};
	struct stream_directive *directive = bpf_map_lookup_elem(&directives, &key);
	__u64 position = state->position[direction], size = call->moved;
	struct walk *walk = &state->walks[direction];
	bool report = true;

	if (directive && directive->generation != state->generation)
		directive = NULL;
	asm volatile("" : "+r"(directive)); /* the verifier does not tie it to the comparison */
	call->reported = 0;
	call->wanted = size;
	call->tail = 0;
	call->confirmed = directive && walk__is_called(walk, directive->walk_from);
	call->frames = 0;
	if (can_walk)
		walk__call(walk, call, position);
	if (call->confirmed) {
		report = walk__leave_out(walk, call);
		state->body_bytes[direction] += call->payload_before;
		state->lost_bytes[direction] += call->unplaced;
		if (call->frames) {
			report = call->keep_end;
			if (report && frames__owe(walk, call, position + call->keep))
				report_frames(state, call->object, direction, position + call->keep,
					      0);
		}
	} else if (directive) {
		if (position + size < directive->skip_until) {
			report = false;
		} else if (position < directive->skip_until) {
			call->reported = directive->skip_until - position;
		} else if (directive->watch &&
			   directive->position >= state->captured_up_to[direction] &&
			   call->buffer) {
			report = may_start_message(call->buffer, size);
			if (report)
				state->captured_up_to[direction] = position + size;
		}
	}
	if (report)
		report_call(state, call, direction, can_walk);
	/* What was left out behind that is the next record's to tell. */
	if (call->confirmed)
		state->body_bytes[direction] += call->payload;
	if (call->frames) {
		frames__end_call(walk, call, position);
		if (call->ended && frames__owe(walk, call, position + size))
			report_frames(state, call->object, direction, position + size,
				      walk->remaining);
	}
	state->position[direction] += size;
}

/* The length that a returned call reports in memory, 0 when it cannot be read. */
static __always_inline __u64 stored_length(const struct call *call)
{
	__u64 length = 0;

	if (call->length_at)
		bpf_probe_read_user(&length, sizeof(length), (void *)call->length_at);
	return length;
}

/*
 * The descriptor of an object's socket BIO, for both directions; -1 when it has none. Where the BIO
 * is in the object, and the descriptor in the BIO, differs between versions; what is found must
 * call itself a socket.
 */
static __always_inline int fd_of_bio(__u64 object)
{
	struct {
		__u32 type;
		__u32 pad;
		__u64 name;
	} method;
	__u64 bios[2] = {}, words[2] = {}, name = 0, at;
	__u32 head = 1;
	int fd = -1;

	bpf_probe_read_user(&head, sizeof(head), (void *)object);
	at = head ? SSL_BIOS : SSL_BIOS_3_2;
	if (bpf_probe_read_user(bios, sizeof(bios), (void *)(object + at)) || bios[0] != bios[1] ||
	    bpf_probe_read_user(words, sizeof(words), (void *)bios[0]))
		return -1;
	for (int i = 0; i < 2; i++) {
		/* 3.0 put the library context before the method. */
		if (bpf_probe_read_user(&method, sizeof(method), (void *)words[i]) ||
		    method.type != BIO_TYPE_SOCKET ||
		    bpf_probe_read_user(&name, sizeof("socket"), (void *)method.name) ||
		    name != SOCKET_NAME)
			continue;
		at = i ? BIO_NUM_3_0 : BIO_NUM;
		if (!bpf_probe_read_user(&fd, sizeof(fd), (void *)(bios[0] + at)))
			return fd;
	}
	return -1;
}

/* The connection's socket is that of the descriptor, if it is one that is connected. */
static __always_inline bool learn_fd(struct connection_state *state, __u64 object, int fd)
{
	struct sock *sk = socket_of_fd(fd);
	struct socket_identity socket;
	struct wire_tuple tuple;

	if (!sk || !identify_socket(sk, &socket))
		return false;
	read_tuple(sk, WIRE_TUPLE_FD, &tuple);
	connection_found(state, object, &socket, &tuple);
	return true;
}

/*
 * A call used no socket, and none is known: its bytes came from a buffer of the library, or the
 * program carries the records itself. The latter is reported, once for a process: probably so at
 * an object's first call, with a write, and when it happens again.
 */
static __noinline int note_unnested(struct connection_state *state, struct call *call)
{
	__u32 pid = current_pid();
	struct traced_process *process;
	struct wire_header *record;

	if (learn_fd(state, call->object, fd_of_bio(call->object)))
		return 0;
	state->unnested++;
	if (!(state->flags & WIRE_FROM_START) && state->unnested < MAX_UNNESTED &&
	    !(call->direction == WIRE_WRITE && call->moved))
		return 0;
	process = bpf_map_lookup_elem(&traced, &pid);
	if (!process || process->flags & TRACED_UNNESTED)
		return 0;
	process->flags |= TRACED_UNNESTED;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		process->flags &= ~TRACED_UNNESTED;
		count(&shared.events_lost);
		return 0;
	}
	fill_header(record, WIRE_UNNESTED, sizeof(*record));
	bpf_ringbuf_submit(record, wakeup(true));
	return 0;
}

/* Remembers what a call has read, which is about to be committed; see hpack.h. */
static __noinline void note_read(const struct connection_state *state, const struct call *call)
{
	__u32 head = call->moved < READ_HEAD_BYTES ? call->moved : READ_HEAD_BYTES;
	__u64 id = bpf_get_current_pid_tgid();
	struct thread_read read = {
		.connection = {.pid = id >> 32, .object = call->object},
		.generation = state->generation,
		.buffer = call->buffer,
		.size = call->moved,
		.position = state->position[WIRE_READ],
	};

	asm volatile("" : "+r"(head)); /* the bound is for the verifier */
	if (head > sizeof(read.head))
		head = sizeof(read.head);
	if (bpf_probe_read_user(read.head, head, (void *)read.buffer))
		read.size = 0;
	bpf_map_update_elem(&reads, &id, &read, BPF_ANY);
}

/*
 * What follows the return of a call, for all functions in one program: the verifier walks it once,
 * not once for each function. The call is the one just above the top of the thread's stack.
 */
static __always_inline int commit_call(struct pt_regs *ctx, bool can_walk)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	struct connection_state *state;
	struct call *call, *outer;

	stay_on_kernel_stack(ctx);
	if (!thread || thread->depth >= MAX_DEPTH)
		return 0;
	call = &thread->calls[thread->depth];
	state = connection_of(ctx, call->object);
	if (!state)
		return 0;
	if (call->record.known)
		state->record = call->record;
	if (call->sock)
		learn_socket(state, call);
	else if (!state->sock && !call->is_inner && state->unnested < MAX_UNNESTED)
		note_unnested(state, call);
	/* The call around this one, on another object, has not read the addresses itself. */
	if (thread->depth && thread->depth < MAX_DEPTH) {
		outer = &thread->calls[thread->depth - 1];
		if (outer->sock == call->sock && state->sock == call->sock)
			outer->tuple = state->tuple;
	}
	settle_tcp(state, call);
	if (shared.note_reads && call->moved && call->counted && call->direction == WIRE_READ)
		note_read(state, call);
	if (call->moved && call->counted && call->direction <= WIRE_WRITE)
		commit(state, call, call->direction & 1, can_walk);
	if (call->direction == WIRE_READ && call->moved && state->record.known == PLACE_OF_FIRST)
		state->record.known = PLACE_UNKNOWN;
	if (call->direction == WIRE_WRITE && call->sock) {
		state->flags &= ~STATE_WRITE_BLOCKED;
		if (!call->moved)
			state->flags |= STATE_WRITE_BLOCKED;
	}
	if (call->at_end && has_moved(state) && !(state->flags & STATE_EOF)) {
		state->flags |= STATE_EOF;
		report_close(state, call->object, WIRE_CLOSE_EOF);
	}
	return 0;
}

/* Two programs, of which one is loaded: an old kernel refuses a bpf_loop that is never reached. */
SEC("uprobe")
int commit_walking(struct pt_regs *ctx)
{
	return commit_call(ctx, true);
}

SEC("uprobe")
int commit_plain(struct pt_regs *ctx)
{
	return commit_call(ctx, false);
}

/* Filled by the loader. */

/* A data function returned after moving `size` bytes (0: none, whatever the reason). */
static __always_inline int finish(struct pt_regs *ctx, struct call *call, __u64 size, bool at_end)
{
	/* Its socket may be of use to the call around it, or when it is new to the connection. */
	bool tells_socket = call->sock && (call->is_inner || call->tuple.source != WIRE_TUPLE_NONE);
	bool is_blocked = call->sock && call->direction == WIRE_WRITE;
	bool is_unnested = !call->sock && !call->is_inner;

	if (!size && !tells_socket && !at_end && !is_blocked && !is_unnested)
		return 0;
	call->moved = size;
	call->at_end = at_end;
	bpf_tail_call(ctx, &after_return, 0);
	count(&shared.calls_lost); /* only when the tail call was refused */
	return 0;
}

/* Functions that return the number of bytes, or 0 or less. */
#define SIZE_IN_RESULT(name, fn, dir, counts)                                                      \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		return enter(ctx, fn, dir, counts, PT_REGS_PARM2(ctx), (__u32)PT_REGS_PARM3(ctx),  \
			     0);                                                                   \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_exit(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct call *call = leave(ctx, fn);                                                \
		int result = (int)PT_REGS_RC(ctx);                                                 \
                                                                                                   \
		return call ? finish(ctx, call, result > 0 ? result : 0, false) : 0;               \
	}

/* Functions that return 0 on failure and store the number of bytes where argument `at` says. */
#define SIZE_STORED(name, fn, dir, counts, at)                                                     \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		return enter(ctx, fn, dir, counts, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx),         \
			     at(ctx));                                                             \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_exit(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct call *call = leave(ctx, fn);                                                \
		int result = (int)PT_REGS_RC(ctx);                                                 \
                                                                                                   \
		return call ? finish(ctx, call, result > 0 ? stored_length(call) : 0, false) : 0;  \
	}

/* SSL_read: its result of 0 tells the end of the stream (close_notify), which others hide. */
SEC("uprobe")
int read_entry(struct pt_regs *ctx)
{
	return enter(ctx, FN_READ, WIRE_READ, true, PT_REGS_PARM2(ctx), (__u32)PT_REGS_PARM3(ctx),
		     0);
}

SEC("uretprobe")
int read_exit(struct pt_regs *ctx)
{
	struct call *call = leave(ctx, FN_READ);
	int result = (int)PT_REGS_RC(ctx);

	return call ? finish(ctx, call, result > 0 ? result : 0, !result && call->length) : 0;
}

SIZE_STORED(read_ex, FN_READ_EX, WIRE_READ, true, PT_REGS_PARM4)
SIZE_IN_RESULT(write, FN_WRITE, WIRE_WRITE, true)
SIZE_STORED(write_ex, FN_WRITE_EX, WIRE_WRITE, true, PT_REGS_PARM4)
SIZE_STORED(write_ex2, FN_WRITE_EX2, WIRE_WRITE, true, PT_REGS_PARM5)
/* A peek takes nothing from the stream, but it may be the call that uses the socket. */
SIZE_IN_RESULT(peek, FN_PEEK, WIRE_READ, false)
SIZE_STORED(peek_ex, FN_PEEK_EX, WIRE_READ, false, PT_REGS_PARM4)
/* Early data: SSL_read_early_data returns 1 or 2 with a length, SSL_write_early_data 1. */
SIZE_STORED(read_early, FN_READ_EARLY, WIRE_READ, true, PT_REGS_PARM4)
SIZE_STORED(write_early, FN_WRITE_EARLY, WIRE_WRITE, true, PT_REGS_PARM4)

/* SSL_sendfile(ssl, fd, offset, size, flags): the bytes never are in the process's memory. */
SEC("uprobe")
int sendfile_entry(struct pt_regs *ctx)
{
	return enter(ctx, FN_SENDFILE, WIRE_WRITE, true, 0, PT_REGS_PARM4(ctx), 0);
}

SEC("uretprobe")
int sendfile_exit(struct pt_regs *ctx)
{
	struct call *call = leave(ctx, FN_SENDFILE);
	__s64 result = PT_REGS_RC(ctx);

	return call ? finish(ctx, call, result > 0 ? result : 0, false) : 0;
}

/* Handshakes move no plaintext but use the socket. */
#define HANDSHAKE(name, fn)                                                                        \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		return enter(ctx, fn, NO_DIRECTION, false, 0, 0, 0);                               \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_exit(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct call *call = leave(ctx, fn);                                                \
                                                                                                   \
		return call ? finish(ctx, call, 0, false) : 0;                                     \
	}

HANDSHAKE(handshake, FN_HANDSHAKE)
HANDSHAKE(connect, FN_CONNECT)
HANDSHAKE(accept, FN_ACCEPT)

/* SSL_new returned an object: whatever was at this address before is over. */
SEC("uretprobe")
int new_exit(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_RC(ctx);
	struct connection_key key;
	struct connection_state *state;

	stay_on_kernel_stack(ctx);
	if (!object || !is_traced())
		return 0;
	key = key_of(object);
	state = bpf_map_lookup_elem(&connections, &key);
	if (state && has_moved(state))
		report_close(state, object, WIRE_CLOSE_FREE);
	begin_connection(ctx, object, WIRE_FROM_START);
	return 0;
}

SEC("uprobe")
int up_ref_entry(struct pt_regs *ctx)
{
	struct connection_key key = key_of(PT_REGS_PARM1(ctx));
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	if (state)
		__sync_fetch_and_add(&state->references, 1);
	return 0;
}

/* SSL_free ends the object when nobody else holds a reference. */
SEC("uprobe")
int free_entry(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	if (!state)
		return 0;
	if (state->references) {
		__sync_fetch_and_add(&state->references, -1);
		return 0;
	}
	if (has_moved(state))
		report_close(state, object, WIRE_CLOSE_FREE);
	bpf_map_delete_elem(&connections, &key);
	return 0;
}

/*
 * SSL_clear makes the object ready for another connection. The library itself calls it when a
 * handshake begins on an object (state_machine() in statem.c), so a handshake that begins anew on
 * a used object comes through here too.
 */
SEC("uprobe")
int clear_entry(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state;
	__u32 references;

	stay_on_kernel_stack(ctx);
	if (!is_traced())
		return 0;
	state = bpf_map_lookup_elem(&connections, &key);
	if (state && !has_moved(state)) {
		/* A descriptor stays: the library clears the object when the handshake begins. */
		if (state->tuple.source != WIRE_TUPLE_FD)
			forget_socket(state);
		state->record = (struct record_place){};
		state->unnested = 0;
		state->flags = WIRE_FROM_START;
		return 0;
	}
	references = state ? state->references : 0;
	if (state)
		report_close(state, object, WIRE_CLOSE_REUSE);
	state = begin_connection(ctx, object, WIRE_FROM_START);
	if (state)
		state->references = references;
	return 0;
}

/* SSL_set_fd, SSL_set_rfd, SSL_set_wfd: an object that has not moved anything gets its socket. */
static __always_inline int set_fd(struct pt_regs *ctx, bool both)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_state *state;
	__u64 sock_before;

	stay_on_kernel_stack(ctx);
	if (!is_traced())
		return 0;
	state = connection_of(ctx, object);
	if (!state || has_moved(state))
		return 0;
	sock_before = state->sock;
	forget_socket(state);
	if (learn_fd(state, object, (int)PT_REGS_PARM2(ctx)) && !both && sock_before &&
	    sock_before != state->sock) {
		forget_socket(state);
		state->flags |= STATE_AMBIGUOUS; /* it reads from another than it writes to */
	}
	return 0;
}

SEC("uprobe")
int set_fd_entry(struct pt_regs *ctx)
{
	return set_fd(ctx, true);
}

SEC("uprobe")
int set_one_fd_entry(struct pt_regs *ctx)
{
	return set_fd(ctx, false);
}

SEC("uprobe")
int shutdown_entry(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	if (state && has_moved(state) && !(state->flags & STATE_SHUTDOWN)) {
		state->flags |= STATE_SHUTDOWN;
		report_close(state, object, WIRE_CLOSE_SHUTDOWN);
	}
	return 0;
}
