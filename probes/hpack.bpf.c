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
 *
 * A table is copied whole or not at all. Nothing is believed of the memory that is read: the
 * program checks that it fits together.
 */
#include "hpack.h"

/* Entry and return of the function that gives bytes out are on one thread. */
#define MAX_SENDS 4096

/* Tables up to the default size need little room in the ring. */
#define SMALL_TABLE_BYTES 4096

#define FRAME_HEAD_BYTES 9
#define FRAME_HEADERS	 1

/* struct nghttp2_hd_context and what it holds (lib/nghttp2_hd.h; the same from 1.43 to 1.70). */
struct hd_context {
	__u64 buffer; /* of pointers to entries, a ring */
	__u64 mask;
	__u64 first; /* the newest */
	__u64 count;
	__u64 memory;
	__u64 size_bytes;
	__u64 max_bytes;
	__u32 next_sequence;
	__u8 bad;
};

struct hd_entry {
	__u64 name; /* struct nghttp2_rcbuf */
	__u64 value;
};

struct rcbuf {
	__u64 user_data;
	__u64 free;
	__u64 base;
	__u64 size;
};

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

/* The copying of a table into a record. */
struct copy {
	struct hd_context table;
	__u8 *out;
	__u32 at;
	__u32 copied;
};

/*
 * The entry of number `index`, 0 the oldest. 1 ends the copying. The record has room for twice
 * `capacity`, so that the verifier needs to know no more than that each part is below it.
 */
static __always_inline long copy_entry(__u32 index, struct copy *copy, __u32 capacity)
{
	__u64 place = copy->table.first + copy->table.count - 1 - index;
	__u64 slot = copy->table.buffer + (place & copy->table.mask) * 8;
	struct wire_table_entry sizes;
	struct rcbuf name, value;
	struct hd_entry entry;
	__u64 at_entry;
	__u32 at = copy->at, size;

	if (bpf_probe_read_user(&at_entry, sizeof(at_entry), (void *)slot) ||
	    bpf_probe_read_user(&entry, sizeof(entry), (void *)at_entry) ||
	    bpf_probe_read_user(&name, sizeof(name), (void *)entry.name) ||
	    bpf_probe_read_user(&value, sizeof(value), (void *)entry.value) ||
	    name.size > capacity || value.size > capacity)
		return 1;
	sizes.name_bytes = name.size;
	sizes.value_bytes = value.size;
	if (at > capacity - sizeof(sizes))
		return 1;
	__builtin_memcpy(copy->out + at, &sizes, sizeof(sizes));
	at += sizeof(sizes);
	size = sizes.name_bytes;
	asm volatile("" : "+r"(at), "+r"(size)); /* the bounds are for the verifier */
	if (at > capacity || size > capacity ||
	    bpf_probe_read_user(copy->out + at, size, (void *)name.base))
		return 1;
	at += size;
	size = sizes.value_bytes;
	asm volatile("" : "+r"(at), "+r"(size));
	if (at > capacity || size > capacity ||
	    bpf_probe_read_user(copy->out + at, size, (void *)value.base))
		return 1;
	at += size;
	copy->at = at;
	copy->copied++;
	return 0;
}

static long copy_small(__u32 index, struct copy *copy)
{
	return copy_entry(index, copy, SMALL_TABLE_BYTES);
}

static long copy_large(__u32 index, struct copy *copy)
{
	return copy_entry(index, copy, WIRE_TABLE_MAX_BYTES);
}

/* A macro, because a reservation's size must be a constant. Leaves a record that is whole, or NULL.
 */
#define RESERVE_AND_COPY(record, copy, copier, CAPACITY)                                           \
	do {                                                                                       \
		record = bpf_ringbuf_reserve(&ring, sizeof(*record) + 2 * (CAPACITY), 0);          \
		if (record) {                                                                      \
			(copy)->out = record->entries;                                             \
			bpf_loop((copy)->table.count, copier, copy, 0);                            \
		}                                                                                  \
	} while (0)

/* What a table is told with. */
struct place {
	struct connection_key connection;
	__u64 generation;
	__u64 position;
	__u64 frame;
	__u32 frame_bytes;
	__u8 direction;
	__u8 when;
};

/* Reports the table at `at`, an address of the process. Whether it could. */
static __noinline bool report_table(__u64 at, const struct place *place)
{
	__u32 size = place->frame_bytes;
	struct wire_table *record;
	struct copy copy = {};

	if (bpf_probe_read_user(&copy.table, sizeof(copy.table), (void *)at) || copy.table.bad ||
	    copy.table.size_bytes > WIRE_TABLE_MAX_BYTES ||
	    copy.table.max_bytes > WIRE_TABLE_MAX_BYTES ||
	    copy.table.count > WIRE_TABLE_MAX_ENTRIES)
		return false;
	if (copy.table.size_bytes <= SMALL_TABLE_BYTES)
		RESERVE_AND_COPY(record, &copy, copy_small, SMALL_TABLE_BYTES);
	else
		RESERVE_AND_COPY(record, &copy, copy_large, WIRE_TABLE_MAX_BYTES);
	if (!record)
		return false;
	__builtin_memset(record->frame, 0, sizeof(record->frame));
	asm volatile("" : "+r"(size));
	if (size > sizeof(record->frame))
		size = sizeof(record->frame);
	if (copy.copied != copy.table.count ||
	    (size && bpf_probe_read_user(record->frame, size, (void *)place->frame))) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return false;
	}
	fill_header(&record->header, WIRE_TABLE, sizeof(*record) + copy.at);
	record->connection.object = place->connection.object;
	record->connection.generation = place->generation;
	record->position = place->position;
	record->max_bytes = copy.table.max_bytes;
	record->size_bytes = copy.table.size_bytes;
	record->count = copy.copied;
	record->direction = place->direction;
	record->when = place->when;
	record->frame_bytes = size;
	record->pad = 0;
	bpf_ringbuf_submit(record, wakeup(false));
	return true;
}

static __always_inline struct stream_key stream_of(const struct place *place)
{
	return (struct stream_key){
		.connection = place->connection,
		.direction = place->direction,
	};
}

static __always_inline bool is_wished(const struct place *place)
{
	struct stream_key key = stream_of(place);
	struct table_wish *wish = bpf_map_lookup_elem(&wishes, &key);

	return wish && wish->generation == place->generation;
}

/* Gives what is wished for: once, and tries not for ever. */
static __always_inline void grant(__u64 table_at, const struct place *place)
{
	struct stream_key key = stream_of(place);
	struct table_wish *wish = bpf_map_lookup_elem(&wishes, &key);

	if (wish && (report_table(table_at, place) || wish->tries <= 1))
		bpf_map_delete_elem(&wishes, &key);
	else if (wish)
		wish->tries--;
}

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
	__u64 id = bpf_get_current_pid_tgid(), session = PT_REGS_PARM1(ctx);
	struct thread_read *read = bpf_map_lookup_elem(&reads, &id);
	struct place place = {.when = WIRE_TABLE_BEFORE};
	bool wanted;

	stay_on_kernel_stack(ctx);
	if (!read)
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
		grant(session + table_in_session(ctx), &place);
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
		grant(key.session + table_in_session(ctx), &place);
	return 0;
}
