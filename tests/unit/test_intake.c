/* SPDX-License-Identifier: BSD-2-Clause */
/* What intake accepts and what it refuses: every field, every size, every cut. */
#include "intake/intake.h"
#include "records.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#define TEXT "GET / HTTP/1.1\r\n\r\n"

static struct source source;
static struct event event;

static void setup(void)
{
	source = source__of(7, 0x1000);
}

TestSuite(intake, .init = setup);

static struct bytes data_record(void)
{
	return source__data(&source, WIRE_WRITE, bytes__str(TEXT), sizeof(TEXT) - 1);
}

/* Takes a record, and frees it. */
static int take(struct bytes record)
{
	int err = intake__event(record, &event);

	record__free(record);
	return err;
}

/* Refused, and the event left as it was. */
static void refuse(struct bytes record)
{
	struct event before;

	memset(&event, 0xa5, sizeof(event));
	before = event;
	cr_expect_eq(take(record), -EINVAL);
	cr_expect_eq(memcmp(&event, &before, sizeof(event)), 0);
}

Test(intake, data)
{
	struct bytes record;

	source.position[WIRE_WRITE] = 100;
	source.lost_bytes[WIRE_WRITE] = 9;
	record = source__data(&source, WIRE_WRITE, bytes__str(TEXT), 4096);
	cr_assert_eq(intake__event(record, &event), 0);
	cr_expect_eq(event.type, EVENT_DATA);
	cr_expect_eq(event.pid, 7);
	cr_expect_eq(event.tid, 7);
	cr_expect_eq(event.time_ns, 1000000000);
	cr_expect_eq(event.connection.object, 0x1000);
	cr_expect_eq(event.connection.generation, 1);
	cr_expect_eq(event.tuple.peer_port, 40210);
	cr_expect_eq(event.library, WIRE_OPENSSL);
	cr_expect(event.from_start);
	cr_expect_eq(event.data.direction, WIRE_WRITE);
	cr_expect_eq(event.data.start_ns, 999500000);
	cr_expect_eq(event.data.position, 100);
	cr_expect_eq(event.data.lost_bytes, 9);
	cr_expect_eq(event.data.moved, 4096);
	cr_expect(bytes__equal(event.data.bytes, bytes__str(TEXT)));
	record__free(record);
}

Test(intake, data_without_bytes)
{
	cr_assert_eq(take(source__data(&source, WIRE_READ, bytes__of(NULL, 0), 5)), 0);
	cr_expect_eq(event.data.bytes.size, 0);
	cr_expect_eq(event.data.moved, 5);
	cr_assert_eq(take(source__data(&source, WIRE_READ, bytes__of(NULL, 0), 0)), 0);
}

Test(intake, a_call_does_not_begin_after_it_returned)
{
	struct bytes record = data_record();
	struct wire_data *data = (struct wire_data *)record.data;

	data->start_ns = data->header.time_ns + 1;
	cr_assert_eq(take(record), 0);
	cr_expect_eq(event.data.start_ns, event.time_ns);
}

Test(intake, close)
{
	source.position[WIRE_READ] = 10;
	source.position[WIRE_WRITE] = 20;
	source.lost_bytes[WIRE_READ] = 1;
	source.lost_bytes[WIRE_WRITE] = 2;
	source.flags = 0;
	for (int reason = WIRE_CLOSE_FREE; reason <= WIRE_CLOSE_NOT; reason++) {
		cr_assert_eq(take(source__close(&source, reason)), 0);
		cr_expect_eq(event.type, EVENT_CLOSE);
		cr_expect_eq(event.close.reason, (enum wire_close_reason)reason);
	}
	cr_expect_eq(event.connection.object, 0x1000);
	cr_expect_not(event.from_start);
	cr_expect_eq(event.close.position[WIRE_READ], 10);
	cr_expect_eq(event.close.position[WIRE_WRITE], 20);
	cr_expect_eq(event.close.lost_bytes[WIRE_READ], 1);
	cr_expect_eq(event.close.lost_bytes[WIRE_WRITE], 2);
}

Test(intake, process)
{
	struct bytes record = source__process(&source, "/usr/sbin/nginx");

	cr_assert_eq(intake__event(record, &event), 0);
	cr_expect_eq(event.type, EVENT_PROCESS);
	cr_expect(bytes__equal(event.process.path, bytes__str("/usr/sbin/nginx")));
	record__free(record);
	cr_assert_eq(take(source__process(&source, "")), 0);
	cr_expect_eq(event.process.path.size, 0);
}

Test(intake, exit_and_end)
{
	cr_assert_eq(take(source__exit(&source)), 0);
	cr_expect_eq(event.type, EVENT_EXIT);
	cr_expect_eq(event.pid, 7);
	cr_assert_eq(take(source__end(&source, 42, false)), 0);
	cr_expect_eq(event.type, EVENT_END);
	cr_expect_eq(event.end.events_lost, 42);
	cr_expect_not(event.end.enough);
	cr_assert_eq(take(source__end(&source, 0, true)), 0);
	cr_expect(event.end.enough);
}

/* Sets `size` bytes of a record from `offset` to a number, and takes it. */
static int take_with(struct bytes record, size_t offset, size_t size, uint64_t value)
{
	memcpy((uint8_t *)record.data + offset, &value, size); /* little-endian */
	return take(record);
}

#define WITH(record, type, field, value)                                                           \
	take_with(record, offsetof(type, field), sizeof(((type *)NULL)->field), value)

Test(intake, types)
{
	for (unsigned int type = 0; type < 256; type++) {
		int err = WITH(data_record(), struct wire_data, header.type, type);

		/* These take any size that the header fits in. */
		if (type == WIRE_DATA || type == WIRE_PROCESS || type == WIRE_EXIT)
			cr_expect_eq(err, 0, "type %u", type);
		else
			cr_expect_eq(err, -EINVAL, "type %u", type);
	}
}

Test(intake, fields_of_data)
{
	uint64_t text = sizeof(TEXT) - 1;

	cr_expect_eq(WITH(data_record(), struct wire_data, direction, WIRE_READ), 0);
	cr_expect_eq(WITH(data_record(), struct wire_data, direction, 2), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, direction, 255), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, moved, text - 1), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, moved, UINT32_MAX), 0);
	cr_expect_eq(WITH(data_record(), struct wire_data, captured, text - 1), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, captured, text + 1), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, captured, UINT32_MAX), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, position, UINT64_MAX - text), 0);
	cr_expect_eq(WITH(data_record(), struct wire_data, position, UINT64_MAX - text + 1),
		     -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, lost_bytes, UINT64_MAX), 0);
	cr_expect_eq(WITH(data_record(), struct wire_data, library, WIRE_GO), 0);
	cr_expect_eq(event.library, WIRE_GO);
	cr_expect_eq(WITH(data_record(), struct wire_data, library, WIRE_GO + 1), -EINVAL);
	cr_expect_eq(WITH(data_record(), struct wire_data, flags, 0), 0);
	cr_expect_not(event.from_start);
}

Test(intake, fields_of_close)
{
	for (unsigned int reason = 0; reason < 256; reason++)
		cr_expect_eq(WITH(source__close(&source, WIRE_CLOSE_FREE), struct wire_close,
				  reason, reason),
			     reason >= WIRE_CLOSE_FREE && reason <= WIRE_CLOSE_NOT ? 0 : -EINVAL);
	cr_expect_eq(WITH(source__close(&source, WIRE_CLOSE_FREE), struct wire_close, library,
			  WIRE_GO + 1),
		     -EINVAL);
	cr_expect_eq(WITH(source__close(&source, WIRE_CLOSE_FREE), struct wire_close, tuple.source,
			  WIRE_TUPLE_CIPHERTEXT + 1),
		     -EINVAL);
	cr_expect_eq(WITH(source__close(&source, WIRE_CLOSE_FREE), struct wire_close,
			  tuple.ip_version, 5),
		     -EINVAL);
}

Test(intake, tuples)
{
	for (unsigned int version = 0; version < 256; version++) {
		int wanted = version == 4 || version == 6 ? 0 : -EINVAL;

		source.tuple.source = WIRE_TUPLE_NESTED;
		cr_expect_eq(WITH(data_record(), struct wire_data, tuple.ip_version, version),
			     wanted);
		source.tuple.source = WIRE_TUPLE_NONE;
		cr_expect_eq(WITH(data_record(), struct wire_data, tuple.ip_version, version), 0);
	}
	for (unsigned int from = 0; from < 256; from++) {
		source.tuple.source = WIRE_TUPLE_NESTED;
		cr_expect_eq(WITH(data_record(), struct wire_data, tuple.source, from),
			     from <= WIRE_TUPLE_CIPHERTEXT ? 0 : -EINVAL);
	}
	for (unsigned int transport = WIRE_TCP + 1; transport < 256; transport++)
		cr_expect_eq(WITH(data_record(), struct wire_data, tuple.transport, transport),
			     -EINVAL);
}

/* Whatever a record has there. */
Test(intake, no_tuple_is_nothing)
{
	struct wire_tuple nothing = {0};

	source.tuple.source = WIRE_TUPLE_NONE;
	cr_assert_eq(take(data_record()), 0);
	cr_expect_eq(memcmp(&event.tuple, &nothing, sizeof(nothing)), 0);
}

Test(intake, unix_sockets_have_no_addresses)
{
	static const size_t places[] = {
		offsetof(struct wire_data, tuple.ip_version),
		offsetof(struct wire_data, tuple.local_port),
		offsetof(struct wire_data, tuple.peer_port) + 1,
		offsetof(struct wire_data, tuple.local),
		offsetof(struct wire_data, tuple.local) + 15,
		offsetof(struct wire_data, tuple.peer),
		offsetof(struct wire_data, tuple.peer) + 15,
	};

	source.tuple = (struct wire_tuple){.source = WIRE_TUPLE_FD, .transport = WIRE_UNIX};
	cr_assert_eq(take(data_record()), 0);
	cr_expect_eq(event.tuple.transport, WIRE_UNIX);
	cr_expect_eq(event.tuple.source, WIRE_TUPLE_FD);
	cr_assert_eq(take(source__close(&source, WIRE_CLOSE_FREE)), 0);
	cr_assert_eq(take(source__socket(&source)), 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		cr_expect_eq(take_with(data_record(), places[i], 1, 4), -EINVAL, "%zu", i);
}

Test(intake, a_socket_that_was_found)
{
	source.tuple.source = WIRE_TUPLE_CIPHERTEXT;
	cr_assert_eq(take(source__socket(&source)), 0);
	cr_expect_eq(event.type, EVENT_SOCKET);
	cr_expect_eq(event.pid, 7);
	cr_expect_eq(event.connection.object, 0x1000);
	cr_expect_eq(event.connection.generation, 1);
	cr_expect_eq(event.tuple.source, WIRE_TUPLE_CIPHERTEXT);
	cr_expect_eq(event.tuple.peer_port, 40210);
	cr_expect_eq(WITH(source__socket(&source), struct wire_socket, tuple.source,
			  WIRE_TUPLE_NONE),
		     -EINVAL);
	cr_expect_eq(WITH(source__socket(&source), struct wire_socket, tuple.source, 4), -EINVAL);
	cr_expect_eq(WITH(source__socket(&source), struct wire_socket, tuple.ip_version, 0),
		     -EINVAL);
}

Test(intake, tick)
{
	cr_assert_eq(take(source__tick(&source)), 0);
	cr_expect_eq(event.type, EVENT_TICK);
	cr_expect_eq(event.time_ns, 1000000000);
}

/* What the flags do not name is nothing, whatever a record has there. */
#define FRAMES_COUNT 2

static struct bytes frames_record(void)
{
	static const struct wire_frames_stream streams[FRAMES_COUNT] = {
		{.payload = 70000, .stream = 1},
		{.payload = 5, .stream = 3},
	};

	source.position[WIRE_WRITE] = 100000;
	source.lost_bytes[WIRE_WRITE] = 9;
	return source__frames(&source, WIRE_WRITE, streams, FRAMES_COUNT, 1000, 3);
}

Test(intake, frames)
{
	cr_assert_eq(take(frames_record()), 0);
	cr_expect_eq(event.type, EVENT_FRAMES);
	cr_expect_eq(event.connection.object, 0x1000);
	cr_expect_eq(event.frames.direction, WIRE_WRITE);
	cr_expect_eq(event.frames.position, 100000);
	cr_expect_eq(event.frames.lost_bytes, 9);
	cr_expect_eq(event.frames.left, 1000);
	cr_expect_eq(event.frames.stream, 3);
	cr_expect_eq(event.frames.count, FRAMES_COUNT);
	cr_expect_eq(event.frames.streams[0].payload, 70000);
	cr_expect_eq(event.frames.streams[1].stream, 3);
	cr_expect_eq(WITH(frames_record(), struct wire_frames, direction, 2), -EINVAL);
	cr_expect_eq(WITH(frames_record(), struct wire_frames, left, 0xffffff), 0);
	cr_expect_eq(WITH(frames_record(), struct wire_frames, left, 0x1000000), -EINVAL);
	for (uint64_t count = 0; count < 256; count++)
		cr_expect_eq(WITH(frames_record(), struct wire_frames, count, count),
			     count == FRAMES_COUNT ? 0 : -EINVAL);
	/* As many as there can be, and one more. */
	for (size_t count = 0; count <= WIRE_FRAMES_STREAMS + 1; count++) {
		struct wire_frames_stream streams[WIRE_FRAMES_STREAMS + 1] = {0};

		cr_expect_eq(take(source__frames(&source, WIRE_READ, streams, count, 0, 0)),
			     count <= WIRE_FRAMES_STREAMS ? 0 : -EINVAL);
	}
}

#define FRAME "\0\0\1\1\5\0\0\0\3\x82"

static const char *const table_fields[] = {"name", "value", "x-empty", "", "n", "v"};

static struct bytes table_record(void)
{
	source.position[WIRE_READ] = 1000;
	return source__table(&source, WIRE_READ, bytes__of(NULL, 0), table_fields, 3);
}

static struct bytes table_after_record(void)
{
	return source__table(&source, WIRE_WRITE, bytes__of(FRAME, sizeof(FRAME) - 1), table_fields,
			     3);
}

Test(intake, table)
{
	struct bytes record = table_record();

	cr_assert_eq(intake__event(record, &event), 0);
	cr_expect_eq(event.type, EVENT_TABLE);
	cr_expect_eq(event.table.direction, WIRE_READ);
	cr_expect_eq(event.table.when, WIRE_TABLE_BEFORE);
	cr_expect_eq(event.table.position, 1000);
	cr_expect_eq(event.table.max_bytes, 4096);
	cr_expect_eq(event.table.frame.size, 0);
	cr_expect_eq(event.table.entries.size, record.size - sizeof(struct wire_table));
	record__free(record);
	record = table_after_record();
	cr_assert_eq(intake__event(record, &event), 0);
	cr_expect_eq(event.table.when, WIRE_TABLE_AFTER);
	cr_expect(bytes__equal(event.table.frame, bytes__of(FRAME, sizeof(FRAME) - 1)));
	record__free(record);
	/* An empty one. */
	cr_expect_eq(take(source__table(&source, WIRE_READ, bytes__of(NULL, 0), NULL, 0)), 0);
	cr_expect_eq(take(source__table(&source, WIRE_READ, bytes__of(NULL, 0),
					(const char *const[]){"", "v"}, 1)),
		     -EINVAL);
	for (uint64_t count = 0; count < 70000; count += count < 10 ? 1 : 7)
		cr_expect_eq(WITH(table_record(), struct wire_table, count, count),
			     count == 3 ? 0 : -EINVAL);
	for (uint64_t size = 0; size < 200; size++)
		cr_expect_eq(WITH(table_record(), struct wire_table, size_bytes, size),
			     size == 32 * 3 + 4 + 5 + 7 + 1 + 1 ? 0 : -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, max_bytes, 113), -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, max_bytes, 114), 0);
	cr_expect_eq(WITH(table_record(), struct wire_table, max_bytes, 65536), 0);
	cr_expect_eq(WITH(table_record(), struct wire_table, max_bytes, 65537), -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, direction, 2), -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, when, 0), -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, when, WIRE_TABLE_AFTER), -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, when, WIRE_TABLE_BEFORE_FRAME + 1),
		     -EINVAL);
	cr_expect_eq(WITH(table_record(), struct wire_table, frame_bytes, 9), -EINVAL);
	cr_expect_eq(WITH(table_after_record(), struct wire_table, when, WIRE_TABLE_BEFORE),
		     -EINVAL);
	for (uint64_t size = 0; size < 256; size++)
		cr_expect_eq(WITH(table_after_record(), struct wire_table, frame_bytes, size),
			     size >= 9 && size <= WIRE_TABLE_FRAME_BYTES ? 0 : -EINVAL);
}

/* Lengths of entries that lie. */
Test(intake, table_entries)
{
	for (size_t at = sizeof(struct wire_table); at < sizeof(struct wire_table) + 8; at++) {
		for (unsigned int value = 0; value < 256; value++) {
			struct bytes record = table_record();
			uint8_t *byte = (uint8_t *)record.data + at;
			bool same = *byte == value;

			*byte = (uint8_t)value;
			cr_expect_eq(take(record), same ? 0 : -EINVAL, "%zu: %u", at, value);
		}
	}
}

Test(intake, tcp)
{
	source.tcp = (struct wire_tcp){.seq = 1, .ack = 2, .rtt_us = 3, .retransmits = 4};
	for (int flags = 0; flags < 4; flags++) {
		bool seq = flags & 1, state = flags & 2;

		source.flags = (seq ? WIRE_TCP_SEQ : 0) | (state ? WIRE_TCP_STATE : 0);
		cr_assert_eq(take(data_record()), 0);
		cr_expect_eq(event.data.tcp_seq, seq);
		cr_expect_eq(event.data.tcp_state, state);
		cr_expect_eq(event.data.tcp.seq, seq ? 1 : 0);
		cr_expect_eq(event.data.tcp.ack, seq ? 2 : 0);
		cr_expect_eq(event.data.tcp.rtt_us, state ? 3 : 0);
		cr_expect_eq(event.data.tcp.retransmits, state ? 4 : 0);
	}
}

static struct bytes make(enum wire_type type)
{
	switch (type) {
	case WIRE_DATA:
		return data_record();
	case WIRE_CLOSE:
		return source__close(&source, WIRE_CLOSE_FREE);
	case WIRE_PROCESS:
		return source__process(&source, "/bin/x");
	case WIRE_EXIT:
		return source__exit(&source);
	case WIRE_SOCKET:
		return source__socket(&source);
	case WIRE_TICK:
		return source__tick(&source);
	case WIRE_FRAMES:
		return frames_record();
	case WIRE_TABLE:
		return table_record();
	default:
		return source__end(&source, 1, false);
	}
}

static size_t size_of(enum wire_type type)
{
	struct bytes record = make(type);

	record__free(record);
	return record.size;
}

Test(intake, cut_at_every_byte)
{
	for (int type = WIRE_DATA; type <= WIRE_TABLE; type++) {
		struct bytes whole = make(type);

		for (size_t size = 0; size < whole.size; size++)
			refuse(record__cut(whole, size));
		cr_expect_eq(take(whole), 0);
	}
}

/* The size field lies: what a type's fixed part and its variable part allow is all that is taken.
 */
Test(intake, size_says_less)
{
	for (int type = WIRE_DATA; type <= WIRE_TABLE; type++) {
		size_t whole = size_of(type);

		for (size_t size = 0; size < whole; size++) {
			/* A shorter path is a path. */
			bool fine = type == WIRE_PROCESS && size >= sizeof(struct wire_process);

			cr_expect_eq(WITH(make(type), struct wire_header, size, size),
				     fine ? 0 : -EINVAL, "type %d, %zu of %zu bytes", type, size,
				     whole);
		}
	}
}

Test(intake, size_says_more)
{
	for (int type = WIRE_DATA; type <= WIRE_TABLE; type++) {
		size_t whole = size_of(type);

		cr_expect_eq(WITH(make(type), struct wire_header, size, whole + 1), -EINVAL);
		cr_expect_eq(WITH(make(type), struct wire_header, size, UINT32_MAX), -EINVAL);
	}
}

/* A copy of a record at an odd address, `padding` bytes behind it; free *ret_memory. */
static struct bytes shifted(struct bytes record, size_t padding, uint8_t **ret_memory)
{
	uint8_t *memory = malloc(1 + record.size + padding);

	cr_assert_not_null(memory);
	memset(memory, 0xff, 1 + record.size + padding);
	memcpy(memory + 1, record.data, record.size);
	*ret_memory = memory;
	return bytes__of(memory + 1, record.size + padding);
}

Test(intake, unaligned_and_padded)
{
	for (int type = WIRE_DATA; type <= WIRE_TABLE; type++) {
		for (size_t padding = 0; padding <= 8; padding++) {
			struct bytes record = make(type);
			uint8_t *memory;
			struct bytes view = shifted(record, padding, &memory);

			cr_assert_eq(intake__event(view, &event), 0);
			cr_expect_eq(event.pid, 7);
			if (type == WIRE_DATA)
				cr_expect(bytes__equal(event.data.bytes, bytes__str(TEXT)));
			if (type == WIRE_PROCESS)
				cr_expect(bytes__equal(event.process.path, bytes__str("/bin/x")));
			free(memory);
			record__free(record);
		}
	}
}
