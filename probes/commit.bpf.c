// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What follows the return of a TLS call, for all libraries: its bytes go to the ring, as far as
 * the program wants them, and its socket becomes the connection's.
 */
#include "call.h"
#include "frames.h"
#include "hpack.h"
#include "openssl_object.h"

/*
 * A call is reported in pieces of WIRE_PIECE_BYTES, so many at most. What it moves beyond them is
 * reported without its bytes: within a body, where the parser can do without, that changes nothing.
 */
#define MAX_PIECES 64
/* Without bpf_loop, since the verifier walks each turn of a loop: fewer and larger ones. */
#define LARGE_PIECE_BYTES 65536

/* Each time a stream has delivered so much, the program is woken: it may say that it is enough. */
#define URGENT_BYTES (256 * 1024)

/* Calls on a connection without a socket after which nothing more is tried. */
#define MAX_UNNESTED 3

static __always_inline struct connection_state *connection_of(const struct call *call)
{
	struct connection_key key = key_of(call->object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	return state ?: begin_connection(call->object, call->library, 0);
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

/* Reports the next piece of what the call moved: `moved` bytes, of which `captured` are read. */
static __always_inline void report_next(struct connection_state *state, struct call *call,
					__u8 direction, __u32 moved, __u32 captured, bool can_loop)
{
	void *source = (void *)(call->buffer + call->reported);
	__u8 flags = (state->flags & WIRE_FROM_START) |
		     (call->reported ? 0 : WIRE_CALL_START | call->tcp_flags) |
		     (direction == WIRE_READ && state->writes ? WIRE_WRITE_RUNS : 0);
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
	else if (can_loop || captured <= WIRE_PIECE_BYTES)
		RESERVE_AND_READ(record, source, captured, read_failed, WIRE_PIECE_BYTES);
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

/*
 * The same, not inline: its paths end where it returns, and are not multiplied by those of each
 * turn of a loop. Where it can be, it is global: read once by the verifier, not at each call.
 */
static __noinline void report_piece_plain(struct connection_state *state, struct call *call,
					  __u8 direction, __u32 moved, __u32 captured)
{
	report_next(state, call, direction, moved, captured, false);
}

__noinline int report_piece_global(struct connection_state *state, struct call *call,
				   __u8 direction, __u32 moved, __u32 captured)
{
	if (state && call)
		report_next(state, call, direction & 1, moved, captured, true);
	return 0;
}

static __always_inline void report_piece(struct connection_state *state, struct call *call,
					 __u8 direction, __u32 moved, __u32 captured, bool can_loop)
{
	if (can_loop)
		report_piece_global(state, call, direction, moved, captured);
	else
		report_piece_plain(state, call, direction, moved, captured);
}

struct report {
	struct connection_state *state;
	struct call *call;
	__u8 direction;
};

/* A piece of `size`, where more than that is left. 1 at the end. */
static __always_inline long report_full(struct report *report, __u32 size, bool can_loop)
{
	struct call *call = report->call;

	if (!call->buffer || call->wanted - call->reported <= size)
		return 1;
	report_piece(report->state, call, report->direction & 1, size, size, can_loop);
	return 0;
}

/* For bpf_loop. */
static long report_full_piece(__u32 index, struct report *report)
{
	return report_full(report, WIRE_PIECE_BYTES, true);
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
		for (int i = 0; i < MAX_PIECES * WIRE_PIECE_BYTES / LARGE_PIECE_BYTES; i++)
			if (report_full(&report, LARGE_PIECE_BYTES, false))
				break;
		for (int i = 0; i < LARGE_PIECE_BYTES / WIRE_PIECE_BYTES; i++)
			if (report_full(&report, WIRE_PIECE_BYTES, false))
				break;
	}
	rest = call->wanted - call->reported;
	if (call->buffer && rest <= WIRE_PIECE_BYTES)
		report_piece(state, call, direction, rest + call->tail, rest, can_loop);
	else
		report_piece(state, call, direction, call->moved - call->reported, 0, can_loop);
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
				report_frames(call->object, direction, position + call->keep, 0);
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
			report_frames(call->object, direction, position + size, walk->remaining);
	}
	state->position[direction] += size;
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
static __noinline void note_read(const struct connection_state *state, const struct call *call,
				 const struct thread_key *key)
{
	__u32 size = call->moved < READ_HEAD_BYTES ? call->moved : READ_HEAD_BYTES;
	struct thread_read read = {
		.connection = key_of(call->object),
		.generation = state->generation,
		.buffer = call->buffer,
		.size = call->moved,
		.position = state->position[WIRE_READ],
		.number = shared.note_reads,
	};

	asm volatile("" : "+r"(size)); /* the bound is for the verifier */
	if (size > sizeof(read.head))
		size = sizeof(read.head);
	if (bpf_probe_read_user(read.head, size, (void *)read.buffer))
		read.size = 0;
	bpf_map_update_elem(&reads, key, &read, BPF_ANY);
}

/*
 * What follows the return of a call, for all functions in one program: the verifier walks it once,
 * not once for each function. The call is the one just above the top of the thread's stack.
 */
static __always_inline void commit_call(struct thread *thread, const struct thread_key *key,
					bool can_walk)
{
	struct connection_state *state;
	struct call *call, *outer;

	if (thread->depth >= MAX_DEPTH)
		return;
	call = &thread->calls[thread->depth];
	state = connection_of(call);
	if (!state)
		return;
	if (call->record.known)
		state->record = call->record;
	if (call->sock)
		learn_socket(state, call);
	else if (!state->sock && !call->is_inner && call->library != WIRE_GO &&
		 state->unnested < MAX_UNNESTED)
		note_unnested(state, call);
	/* The call around this one, on another object, has not read the addresses itself. */
	if (thread->depth && thread->depth < MAX_DEPTH) {
		outer = &thread->calls[thread->depth - 1];
		if (outer->sock == call->sock && state->sock == call->sock)
			outer->tuple = state->tuple;
	}
	settle_tcp(state, call);
	if (shared.note_reads && call->moved && call->counted && call->direction == WIRE_READ)
		note_read(state, call, key);
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
}

static __always_inline int commit_returned(struct pt_regs *ctx, bool can_walk)
{
	struct thread_key key = key_of_thread();
	struct thread *thread = bpf_map_lookup_elem(&threads, &key);
	const struct call *call;

	stay_on_kernel_stack(ctx);
	if (thread && thread->goroutine) {
		key = key_of_goroutine(thread->goroutine);
		thread->goroutine = 0;
		thread = bpf_map_lookup_elem(&threads, &key);
	}
	if (!thread)
		return 0;
	commit_call(thread, &key, can_walk);
	if (!key.goroutine)
		return 0;
	if (thread->depth < MAX_DEPTH) {
		call = &thread->calls[thread->depth];
		release_connection(call->object, call->generation, call->direction);
	}
	/* Goroutines end unseen: nothing is kept of one that is in no call. */
	if (!thread->depth)
		bpf_map_delete_elem(&threads, &key);
	return 0;
}

/* Two programs, of which one is loaded: an old kernel refuses a bpf_loop that is never reached. */
SEC("uprobe")
int commit_walking(struct pt_regs *ctx)
{
	return commit_returned(ctx, true);
}

SEC("uprobe")
int commit_plain(struct pt_regs *ctx)
{
	return commit_returned(ctx, false);
}
