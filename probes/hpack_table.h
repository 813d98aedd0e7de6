/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copying a target's HPACK table into a record: whole or not at all. Nothing is believed of the
 * memory that is read: the program checks that it fits together.
 */
#ifndef TLSTRACE_HPACK_TABLE_H
#define TLSTRACE_HPACK_TABLE_H

#include "hpack.h"

/* Tables up to the default size need little room in the ring. */
#define SMALL_TABLE_BYTES 4096

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

/*
 * A dynamicTable of golang.org/x/net/http2/hpack, with which its Decoder and Encoder begin (the
 * same from Go 1.15 to 1.27, standard library's copy or the program's).
 */
struct go_table {
	__u64 entries; /* of HeaderField, a slice, the oldest first */
	__u64 count;
	__u64 capacity;
	__u64 evicted;
	__u64 by_name;
	__u64 by_name_and_value;
	__u32 size_bytes;
	__u32 max_bytes;
};

#define GO_FIELD_BYTES 40

enum table_layout {
	LAYOUT_NGHTTP2,
	LAYOUT_GO,
};

/* The copying of a table into a record. */
struct copy {
	__u64 layout;
	__u64 buffer;
	__u64 mask;
	__u64 first;
	__u64 count;
	__u64 size_bytes;
	__u64 max_bytes;
	__u8 *out;
	__u32 at;
	__u32 copied;
};

/* A field's texts, as HeaderField of Go begins. */
struct field {
	__u64 name;
	__u64 name_bytes;
	__u64 value;
	__u64 value_bytes;
};

static __always_inline bool read_nghttp2_field(const struct copy *copy, __u32 index,
					       struct field *ret)
{
	__u64 place = copy->first + copy->count - 1 - index;
	__u64 slot = copy->buffer + (place & copy->mask) * 8;
	struct rcbuf name, value;
	struct hd_entry entry;
	__u64 at_entry;

	if (bpf_probe_read_user(&at_entry, sizeof(at_entry), (void *)slot) ||
	    bpf_probe_read_user(&entry, sizeof(entry), (void *)at_entry) ||
	    bpf_probe_read_user(&name, sizeof(name), (void *)entry.name) ||
	    bpf_probe_read_user(&value, sizeof(value), (void *)entry.value))
		return false;
	*ret = (struct field){name.base, name.size, value.base, value.size};
	return true;
}

/*
 * The entry of number `index`, 0 the oldest. 1 ends the copying. The record has room for twice
 * `capacity`, so that the verifier needs to know no more than that each part is below it.
 */
static __always_inline long copy_entry(__u32 index, struct copy *copy, __u32 capacity)
{
	__u64 in_slice = copy->buffer + (__u64)index * GO_FIELD_BYTES;
	struct wire_table_entry sizes;
	__u32 at = copy->at, size;
	struct field field = {};

	if (copy->layout == LAYOUT_GO ? bpf_probe_read_user(&field, sizeof(field), (void *)in_slice)
				      : !read_nghttp2_field(copy, index, &field))
		return 1;
	if (field.name_bytes > capacity || field.value_bytes > capacity)
		return 1;
	sizes.name_bytes = field.name_bytes;
	sizes.value_bytes = field.value_bytes;
	if (at > capacity - sizeof(sizes))
		return 1;
	__builtin_memcpy(copy->out + at, &sizes, sizeof(sizes));
	at += sizeof(sizes);
	size = sizes.name_bytes;
	asm volatile("" : "+r"(at), "+r"(size)); /* the bounds are for the verifier */
	if (at > capacity || size > capacity ||
	    bpf_probe_read_user(copy->out + at, size, (void *)field.name))
		return 1;
	at += size;
	size = sizes.value_bytes;
	asm volatile("" : "+r"(at), "+r"(size));
	if (at > capacity || size > capacity ||
	    bpf_probe_read_user(copy->out + at, size, (void *)field.value))
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
			bpf_loop((copy)->count, copier, copy, 0);                                  \
		}                                                                                  \
	} while (0)

/* What a table is told with. */
struct place {
	struct connection_key connection;
	__u64 generation;
	__u64 position;
	__u64 frame;
	__u32 frame_bytes;   /* of it, that are told */
	__u32 payload_bytes; /* of all of it */
	__u8 direction;
	__u8 when;
};

/* Where a table is, by the beginning of what holds it. */
static __always_inline bool find_table(__u64 at, enum table_layout layout, struct copy *copy)
{
	struct hd_context context;
	struct go_table table;

	copy->layout = layout;
	if (layout == LAYOUT_GO) {
		if (bpf_probe_read_user(&table, sizeof(table), (void *)at))
			return false;
		copy->buffer = table.entries;
		copy->count = table.count;
		copy->size_bytes = table.size_bytes;
		copy->max_bytes = table.max_bytes;
		return true;
	}
	if (bpf_probe_read_user(&context, sizeof(context), (void *)at) || context.bad)
		return false;
	copy->buffer = context.buffer;
	copy->mask = context.mask;
	copy->first = context.first;
	copy->count = context.count;
	copy->size_bytes = context.size_bytes;
	copy->max_bytes = context.max_bytes;
	return true;
}

/* Reports the table at `at`, an address of the process. Whether it could. */
static __noinline bool report_table(__u64 at, enum table_layout layout, const struct place *place)
{
	__u32 size = place->frame_bytes;
	struct wire_table *record;
	struct copy copy = {};

	if (!find_table(at, layout, &copy) || copy.size_bytes > WIRE_TABLE_MAX_BYTES ||
	    copy.max_bytes > WIRE_TABLE_MAX_BYTES || copy.count > WIRE_TABLE_MAX_ENTRIES)
		return false;
	if (copy.size_bytes <= SMALL_TABLE_BYTES)
		RESERVE_AND_COPY(record, &copy, copy_small, SMALL_TABLE_BYTES);
	else
		RESERVE_AND_COPY(record, &copy, copy_large, WIRE_TABLE_MAX_BYTES);
	if (!record)
		return false;
	__builtin_memset(record->frame, 0, sizeof(record->frame));
	asm volatile("" : "+r"(size));
	if (size > sizeof(record->frame))
		size = sizeof(record->frame);
	if (copy.copied != copy.count ||
	    (size && bpf_probe_read_user(record->frame, size, (void *)place->frame))) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return false;
	}
	fill_header(&record->header, WIRE_TABLE, sizeof(*record) + copy.at);
	record->connection.object = place->connection.object;
	record->connection.generation = place->generation;
	record->position = place->position;
	record->max_bytes = copy.max_bytes;
	record->size_bytes = copy.size_bytes;
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
static __always_inline void grant(__u64 table_at, enum table_layout layout,
				  const struct place *place)
{
	struct stream_key key = stream_of(place);
	struct table_wish *wish = bpf_map_lookup_elem(&wishes, &key);

	if (wish && (report_table(table_at, layout, place) || wish->tries <= 1))
		bpf_map_delete_elem(&wishes, &key);
	else if (wish)
		wish->tries--;
}

#endif
