/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of a connection: how many bytes of each direction passed, which socket carries it. It
 * begins when the probes first see the library's object and ends when the object does; an address
 * alone would mix up the connections that use it in turn.
 */
#ifndef TLSTRACE_CONNECTION_H
#define TLSTRACE_CONNECTION_H

#include "common.h"

/* Not on the stack: there is little, and the programs called share it. */
static const struct connection_state no_state;

static __always_inline bool is_traced(void)
{
	__u32 pid = current_pid();
	const struct traced_process *process = bpf_map_lookup_elem(&traced, &pid);

	return process && !(process->flags & TRACED_LATER);
}

static __always_inline void fill_connection(struct connection_state *state, __u64 object,
					    struct wire_connection *id, struct wire_tuple *tuple)
{
	id->object = object;
	id->generation = state->generation;
	*tuple = state->tuple;
}

static __always_inline struct connection_key key_of(__u64 object)
{
	return (struct connection_key){.pid = current_pid(), .object = object};
}

/*
 * Tells of the frames up to `position` that were left out of a direction of a connection; of the
 * last one, `left` bytes are still to come. Of numbers alone, so that the verifier, which takes a
 * global function's arguments for unknown, reads it once, however many call it.
 */
__weak __noinline int report_frames(__u64 object, __u32 direction, __u64 position, __u32 left)
{
	const int room = WIRE_FRAMES_STREAMS * sizeof(struct wire_frames_stream);
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);
	struct wire_frames *record;
	struct walk *walk;
	__u8 used = 0;
	__u64 told;

	if (!state)
		return 0;
	walk = &state->walks[direction & 1];
	told = walk->told;
	walk->told = position;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record) + room, 0);
	if (!record) {
		count(&shared.events_lost);
		state->lost_bytes[direction & 1] += position - told;
		frame_sums__clear(&walk->sums);
		return 0;
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
	return 0;
}

static __always_inline void report_close(struct connection_state *state, __u64 object, __u8 reason)
{
	struct wire_close *record;

	for (int i = 0; i < 2; i++) {
		struct walk *walk = &state->walks[i];

		if (walk->phase == WALK_FRAMES && walk->told < state->position[i])
			report_frames(object, i, state->position[i], walk->remaining);
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

/*
 * The state of a connection that begins now. `flags` says whether its object was just made. Not
 * inlined: of the 512 bytes of stack a walk needs its part.
 *
 * Two of Go's goroutines may begin one at once. Whoever comes first fills it in, which need not be
 * who put it in the map: that one may have lost its CPU since. (A generation of 0 says that nobody
 * has. There is no compare and exchange before 5.12, but what is between is an instruction.)
 */
static __noinline struct connection_state *begin_connection(__u64 object, __u8 library, __u8 flags)
{
	struct connection_key key = key_of(object);
	__u64 now = bpf_ktime_get_ns();
	struct connection_state *state;

	/* Without memory, the one that was there before is no better than none. */
	if (bpf_map_update_elem(&connections, &key, &no_state,
				library == WIRE_GO ? BPF_NOEXIST : BPF_ANY) &&
	    library != WIRE_GO)
		bpf_map_delete_elem(&connections, &key);
	state = bpf_map_lookup_elem(&connections, &key);
	if (!state)
		count(&shared.connections_lost);
	if (!state || (library == WIRE_GO && state->generation))
		return state;
	state->generation = now;
	state->flags = flags;
	state->library = library;
	return state;
}

/* The connection is over. */
static __always_inline void end_connection(struct connection_state *state, __u64 object)
{
	struct connection_key key = key_of(object);

	if (has_moved(state))
		report_close(state, object, WIRE_CLOSE_FREE);
	bpf_map_delete_elem(&connections, &key);
}

/*
 * A call on it has returned. Go's connections may be closed while others read and write: then they
 * end with the last call. One that has not moved anything is not kept, since nobody may close it.
 * Global for the same reason as report_frames().
 */
__weak __noinline int release_connection(__u64 object, __u64 generation, __u8 direction)
{
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);
	__u32 one = 1;

	if (!state || state->generation != generation)
		return 0;
	__sync_fetch_and_add(&state->calls, -1);
	if (direction == WIRE_WRITE)
		__sync_fetch_and_add(&state->writes, -1);
	if (*(volatile __u32 *)&state->calls || (has_moved(state) && !state->is_closed))
		return 0;
	if (!has_moved(state) && state->flags & WIRE_FROM_START)
		bpf_map_update_elem(&fresh, &key, &one, BPF_ANY);
	end_connection(state, object);
	return 0;
}

#endif
