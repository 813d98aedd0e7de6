// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The HPACK tables of libnghttp2. Attached only in processes with a wish; see hpack.h.
 *
 * What is received: nghttp2_session_mem_recv(session, in, size) is entered. All bytes before `in`
 * have been through the session, none of the others has. So its inflater's table is as of the
 * stream's position where `in` was read.
 *
 * What is sent: nghttp2_session_mem_send_internal(session, ret_data, ...) returns at most one
 * frame, which it may have packed just before. If that begins with HEADERS, the deflater's table is
 * as it is after its block. When the frame is written, and behind what, is left to those who see it
 * pass: its stream's number makes it the only one of its kind. Whose session it is was learned when
 * the session received something.
 */
#include "hpack_table.h"

/* Entry and return of the function that gives bytes out are on one thread. */
#define MAX_SENDS 4096

#define FRAME_HEAD_BYTES 9
#define FRAME_HEADERS	 1

struct session_key {
	__u32 pid;
	__u32 pad;
	__u64 session;
};

struct session {
	struct connection_key connection;
	__u64 generation;
	__u32 ambiguous; /* it was given bytes of several connections */
	__u32 pad;
};

struct send {
	__u64 session;
	__u64 data_at;
	__u64 stack;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_SESSIONS);
	__type(key, struct session_key);
	__type(value, struct session);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_SENDS);
	__type(key, __u64);
	__type(value, struct send);
} sends SEC(".maps");

static __always_inline __u32 table_in_session(struct pt_regs *ctx)
{
	return (__u32)bpf_get_attach_cookie(ctx) >> COOKIE_TABLE_SHIFT;
}

/* Whether user memory holds the beginning of what was read. */
static __always_inline bool is_read(const struct thread_read *read, __u64 at)
{
	__u8 head[READ_HEAD_BYTES] = {};
	__u32 size = read->size < sizeof(head) ? read->size : sizeof(head);

	asm volatile("" : "+r"(size)); /* the bound is for the verifier */
	if (size > sizeof(head))
		size = sizeof(head);
	if (bpf_probe_read_user(head, size, (void *)at))
		return false;
	for (int i = 0; i < READ_HEAD_BYTES; i += 8)
		if (*(__u64 *)(head + i) != *(const __u64 *)(read->head + i))
			return false;
	return true;
}

/*
 * Whether the `size` bytes at `in` are what was read last: in the buffer into which it was read,
 * with what had been read before it in front of it or without the end; or a copy.
 */
static __always_inline bool find_position(const struct thread_read *read, __u64 in, __u64 size,
					  __u64 *ret_position)
{
	__u64 before = read->buffer - in;

	if (!size || !read->size)
		return false;
	*ret_position = read->position;
	if (in == read->buffer && size <= read->size)
		return is_read(read, in);
	if (in < read->buffer && size == before + read->size && before <= read->position) {
		*ret_position = read->position - before;
		return is_read(read, read->buffer);
	}
	return size == read->size && is_read(read, in);
}

/* Notes whose session it is. False when it was another's, which lives. */
static __always_inline bool bind_session(__u64 session, const struct thread_read *read)
{
	struct session_key key = {.pid = read->connection.pid, .session = session};
	struct session *known = bpf_map_lookup_elem(&sessions, &key);
	struct session new = {.connection = read->connection, .generation = read->generation};
	struct connection_state *state;

	if (known && known->connection.object == read->connection.object &&
	    known->generation == read->generation)
		return !known->ambiguous;
	state = known ? bpf_map_lookup_elem(&connections, &known->connection) : NULL;
	new.ambiguous = state && state->generation == known->generation;
	bpf_map_update_elem(&sessions, &key, &new, BPF_ANY);
	return !new.ambiguous;
}

/* nghttp2_session_mem_recv(session, in, size) */
SEC("uprobe")
int h2_receive_entry(struct pt_regs *ctx)
{
	__u64 session = PT_REGS_PARM1(ctx);
	struct thread_key key = key_of_thread();
	struct thread_read *read = bpf_map_lookup_elem(&reads, &key);
	struct place place = {.when = WIRE_TABLE_BEFORE};
	bool wanted;

	stay_on_kernel_stack(ctx);
	if (!read || read->number != shared.note_reads)
		return 0;
	place.connection = read->connection;
	place.generation = read->generation;
	place.direction = WIRE_WRITE;
	wanted = is_wished(&place);
	place.direction = WIRE_READ;
	wanted |= is_wished(&place);
	if (!wanted ||
	    !find_position(read, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), &place.position))
		return 0;
	read->size = 0; /* these bytes are taken */
	if (bind_session(session, read))
		grant(session + table_in_session(ctx), LAYOUT_NGHTTP2, &place);
	return 0;
}

/* nghttp2_session_mem_send_internal(session, ret_data, ...) */
SEC("uprobe")
int h2_send_entry(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct session_key key = {.pid = id >> 32, .session = PT_REGS_PARM1(ctx)};
	struct send send = {
		.session = key.session,
		.data_at = PT_REGS_PARM2(ctx),
		.stack = stack_at_entry(ctx, false),
	};

	stay_on_kernel_stack(ctx);
	if (bpf_map_lookup_elem(&sessions, &key))
		bpf_map_update_elem(&sends, &id, &send, BPF_ANY);
	return 0;
}

/* It has returned; the probe is behind the call. */
SEC("uprobe")
int h2_send_exit(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), size = PT_REGS_RC(ctx);
	struct place place = {.when = WIRE_TABLE_AFTER, .direction = WIRE_WRITE};
	struct send *entered = bpf_map_lookup_elem(&sends, &id);
	struct session_key key = {.pid = id >> 32};
	__u8 head[FRAME_HEAD_BYTES] = {};
	struct session *session;
	struct send send;

	stay_on_kernel_stack(ctx);
	if (!entered || entered->stack != stack_at_entry(ctx, true))
		return 0;
	send = *entered;
	bpf_map_delete_elem(&sends, &id);
	key.session = send.session;
	session = bpf_map_lookup_elem(&sessions, &key);
	if (!session || session->ambiguous || (__s64)size < FRAME_HEAD_BYTES ||
	    bpf_probe_read_user(&place.frame, sizeof(place.frame), (void *)send.data_at) ||
	    bpf_probe_read_user(head, sizeof(head), (void *)place.frame) ||
	    head[3] != FRAME_HEADERS)
		return 0;
	place.connection = session->connection;
	place.generation = session->generation;
	place.frame_bytes = size < WIRE_TABLE_FRAME_BYTES ? size : WIRE_TABLE_FRAME_BYTES;
	if (is_wished(&place))
		grant(key.session + table_in_session(ctx), LAYOUT_NGHTTP2, &place);
	return 0;
}
