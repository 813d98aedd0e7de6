/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks records and makes events of them. See intake.h. */
#include "intake/intake.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

/* Of a frame's payload: its length has 24 bits. */
#define FRAME_MAX_BYTES 0xffffff

/* What is before a frame's payload. */
#define FRAME_HEAD_BYTES 9

/* Of an entry of an HPACK table without its name and value (RFC 7541 4.1). */
#define ENTRY_BYTES 32

/* Copied, because a record in a recording need not be aligned. False when it is not all there. */
static bool read_struct(struct bytes record, void *ret, size_t size)
{
	const void *data = bytes__at(record, 0, size);

	if (data)
		memcpy(ret, data, size);
	return data;
}

static int check_tuple(const struct wire_tuple *tuple, struct event *event)
{
	static const uint8_t no_address[sizeof(tuple->local)];

	if (tuple->source == WIRE_TUPLE_NONE)
		return 0;
	if (tuple->source > WIRE_TUPLE_CIPHERTEXT || tuple->transport > WIRE_UNIX)
		return -EINVAL;
	if (tuple->transport == WIRE_TCP && tuple->ip_version != 4 && tuple->ip_version != 6)
		return -EINVAL;
	if (tuple->transport == WIRE_UNIX &&
	    (tuple->ip_version || tuple->local_port || tuple->peer_port ||
	     memcmp(tuple->local, no_address, sizeof(no_address)) ||
	     memcmp(tuple->peer, no_address, sizeof(no_address))))
		return -EINVAL;
	event->tuple = *tuple;
	return 0;
}

static int check_connection(const struct wire_tuple *tuple, uint8_t library, uint8_t flags,
			    struct event *event)
{
	if (library > WIRE_GO || check_tuple(tuple, event))
		return -EINVAL;
	event->library = library;
	event->from_start = flags & WIRE_FROM_START;
	return 0;
}

static void set_tcp(const struct wire_data *data, struct event *event)
{
	event->data.tcp_seq = data->flags & WIRE_TCP_SEQ;
	event->data.tcp_state = data->flags & WIRE_TCP_STATE;
	if (event->data.tcp_seq) {
		event->data.tcp.seq = data->tcp.seq;
		event->data.tcp.ack = data->tcp.ack;
	}
	if (event->data.tcp_state) {
		event->data.tcp.rtt_us = data->tcp.rtt_us;
		event->data.tcp.retransmits = data->tcp.retransmits;
	}
}

static int data_event(struct bytes record, struct event *event)
{
	struct wire_data data;

	if (!read_struct(record, &data, sizeof(data)))
		return -EINVAL;
	if (data.direction > WIRE_WRITE || data.captured > data.moved ||
	    data.captured != record.size - sizeof(data) ||
	    data.position + data.moved < data.position)
		return -EINVAL;
	if (check_connection(&data.tuple, data.library, data.flags, event))
		return -EINVAL;
	event->type = EVENT_DATA;
	event->connection = data.connection;
	event->data.direction = data.direction;
	event->data.start_ns = data.start_ns < event->time_ns ? data.start_ns : event->time_ns;
	event->data.position = data.position;
	event->data.lost_bytes = data.lost_bytes;
	event->data.body_bytes = data.body_bytes;
	event->data.walk_from = data.walk_from;
	event->data.other_position = data.other_position;
	event->data.other_lost_bytes = data.other_lost_bytes;
	event->data.call_start = data.flags & WIRE_CALL_START;
	event->data.write_runs = data.flags & WIRE_WRITE_RUNS;
	event->data.moved = data.moved;
	set_tcp(&data, event);
	event->data.bytes = bytes__from(record, sizeof(data));
	return 0;
}

static int close_event(struct bytes record, struct event *event)
{
	struct wire_close close;

	if (!read_struct(record, &close, sizeof(close)) || record.size != sizeof(close))
		return -EINVAL;
	if (close.reason < WIRE_CLOSE_FREE || close.reason > WIRE_CLOSE_NOT)
		return -EINVAL;
	if (check_connection(&close.tuple, close.library, close.flags, event))
		return -EINVAL;
	event->type = EVENT_CLOSE;
	event->connection = close.connection;
	event->close.reason = close.reason;
	for (int i = 0; i < 2; i++) {
		event->close.position[i] = close.position[i];
		event->close.lost_bytes[i] = close.lost_bytes[i];
		event->close.body_bytes[i] = close.body_bytes[i];
	}
	return 0;
}

static int socket_event(struct bytes record, struct event *event)
{
	struct wire_socket found;

	if (!read_struct(record, &found, sizeof(found)) || record.size != sizeof(found))
		return -EINVAL;
	if (found.tuple.source == WIRE_TUPLE_NONE || check_tuple(&found.tuple, event))
		return -EINVAL;
	event->type = EVENT_SOCKET;
	event->connection = found.connection;
	return 0;
}

static int frames_event(struct bytes record, struct event *event)
{
	struct wire_frames frames;

	if (!read_struct(record, &frames, sizeof(frames)) || frames.direction > WIRE_WRITE ||
	    frames.count > WIRE_FRAMES_STREAMS || frames.left > FRAME_MAX_BYTES ||
	    record.size != sizeof(frames) + frames.count * sizeof(frames.streams[0]))
		return -EINVAL;
	event->type = EVENT_FRAMES;
	event->connection = frames.connection;
	event->frames.direction = frames.direction;
	event->frames.position = frames.position;
	event->frames.lost_bytes = frames.lost_bytes;
	event->frames.left = frames.left;
	event->frames.stream = frames.stream;
	event->frames.count = frames.count;
	memcpy(event->frames.streams, bytes__from(record, sizeof(frames)).data,
	       frames.count * sizeof(frames.streams[0]));
	return 0;
}

/* Whether entries are what the record says, and can be in one table. */
static bool entries_are_valid(struct bytes entries, const struct wire_table *table)
{
	struct wire_table_entry entry;
	uint64_t size_bytes = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		if (!read_struct(entries, &entry, sizeof(entry)) || !entry.name_bytes)
			return false;
		entries = bytes__from(entries, sizeof(entry));
		if (entry.name_bytes > entries.size ||
		    entry.value_bytes > entries.size - entry.name_bytes)
			return false;
		entries = bytes__from(entries, (size_t)entry.name_bytes + entry.value_bytes);
		size_bytes += (uint64_t)entry.name_bytes + entry.value_bytes + ENTRY_BYTES;
	}
	return !entries.size && size_bytes == table->size_bytes;
}

static int table_event(struct bytes record, struct event *event)
{
	struct wire_table table;
	struct bytes entries;

	if (!read_struct(record, &table, sizeof(table)) || table.direction > WIRE_WRITE ||
	    table.count > WIRE_TABLE_MAX_ENTRIES || table.max_bytes > WIRE_TABLE_MAX_BYTES ||
	    table.size_bytes > table.max_bytes || table.frame_bytes > sizeof(table.frame))
		return -EINVAL;
	if (table.when < WIRE_TABLE_BEFORE || table.when > WIRE_TABLE_BEFORE_FRAME ||
	    (table.when == WIRE_TABLE_AFTER ? table.frame_bytes < FRAME_HEAD_BYTES
					    : table.frame_bytes != 0))
		return -EINVAL;
	entries = bytes__from(record, sizeof(table));
	if (!entries_are_valid(entries, &table))
		return -EINVAL;
	event->type = EVENT_TABLE;
	event->connection = table.connection;
	event->table.direction = table.direction;
	event->table.when = table.when;
	event->table.position = table.position;
	event->table.frame = bytes__first(bytes__from(record, offsetof(struct wire_table, frame)),
					  table.frame_bytes);
	event->table.max_bytes = table.max_bytes;
	event->table.entries = entries;
	return 0;
}

static int end_event(struct bytes record, struct event *event)
{
	struct wire_end end;

	if (!read_struct(record, &end, sizeof(end)) || record.size != sizeof(end))
		return -EINVAL;
	event->type = EVENT_END;
	event->end.events_lost = end.events_lost;
	event->end.enough = end.enough;
	return 0;
}

int intake__event(struct bytes record, struct event *ret_event)
{
	struct event event = {0};
	struct wire_header header;
	int err = 0;

	if (!read_struct(record, &header, sizeof(header)) || header.size < sizeof(header) ||
	    header.size > record.size)
		return -EINVAL;
	/* The ring rounds reservations up: what is behind the record's size is not its own. */
	record = bytes__first(record, header.size);
	event.time_ns = header.time_ns;
	event.pid = header.pid;
	event.tid = header.tid;
	switch (header.type) {
	case WIRE_DATA:
		err = data_event(record, &event);
		break;
	case WIRE_CLOSE:
		err = close_event(record, &event);
		break;
	case WIRE_PROCESS:
		if (record.size > sizeof(struct wire_process) + PATH_MAX)
			return -EINVAL;
		event.type = EVENT_PROCESS;
		event.process.path = bytes__from(record, sizeof(struct wire_process));
		break;
	case WIRE_EXIT:
		event.type = EVENT_EXIT;
		break;
	case WIRE_END:
		err = end_event(record, &event);
		break;
	case WIRE_SOCKET:
		err = socket_event(record, &event);
		break;
	case WIRE_FRAMES:
		err = frames_event(record, &event);
		break;
	case WIRE_TABLE:
		err = table_event(record, &event);
		break;
	case WIRE_TICK:
		if (record.size != sizeof(header))
			return -EINVAL;
		event.type = EVENT_TICK;
		break;
	default:
		err = -EINVAL;
	}
	if (!err)
		*ret_event = event;
	return err;
}
