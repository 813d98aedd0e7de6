/* SPDX-License-Identifier: BSD-2-Clause */
/* Makes records. See records.h. */
#include "records.h"

#include <stdlib.h>

void *__real_malloc(size_t size);

struct source source__of(uint32_t pid, uint64_t object)
{
	return (struct source){
		.pid = pid,
		.connection = {.object = object, .generation = 1},
		.tuple = {.source = WIRE_TUPLE_NESTED,
			  .ip_version = 4,
			  .local_port = 8443,
			  .peer_port = 40210,
			  .local = {127, 0, 0, 1},
			  .peer = {127, 0, 0, 1}},
		.library = WIRE_OPENSSL,
		.flags = WIRE_FROM_START | WIRE_CALL_START,
		.time_ns = 1000000000,
		.step_ns = 1000000,
	};
}

/* A record of `fixed` and then `rest`; fixed begins with its header, which is completed here. */
static struct bytes source__record(struct source *source, enum wire_type type, void *fixed,
				   size_t fixed_size, struct bytes rest)
{
	struct wire_header header = {
		.size = (uint32_t)(fixed_size + rest.size),
		.type = type,
		.time_ns = source->time_ns,
		.pid = source->pid,
		.tid = source->pid,
	};
	uint8_t *record = __real_malloc(header.size);

	if (!record)
		abort();
	memcpy(fixed, &header, sizeof(header));
	memcpy(record, fixed, fixed_size);
	if (rest.size)
		memcpy(record + fixed_size, rest.data, rest.size);
	source->time_ns += source->step_ns;
	return bytes__of(record, header.size);
}

struct bytes source__data(struct source *source, enum wire_direction direction, struct bytes bytes,
			  uint32_t moved)
{
	struct wire_data data = {
		.connection = source->connection,
		.tuple = source->tuple,
		.start_ns = source->time_ns - source->step_ns / 2,
		.position = source->position[direction],
		.lost_bytes = source->lost_bytes[direction],
		.body_bytes = source->body_bytes[direction],
		.walk_from = source->walk_from[direction],
		.other_position = source->position[1 - direction],
		.other_lost_bytes = source->lost_bytes[1 - direction],
		.tcp = source->tcp,
		.moved = moved,
		.captured = (uint32_t)bytes.size,
		.direction = direction,
		.library = source->library,
		.flags = source->flags,
	};

	source->position[direction] += moved;
	return source__record(source, WIRE_DATA, &data, sizeof(data), bytes);
}

struct bytes source__close(struct source *source, enum wire_close_reason reason)
{
	struct wire_close close = {
		.connection = source->connection,
		.tuple = source->tuple,
		.position = {source->position[0], source->position[1]},
		.lost_bytes = {source->lost_bytes[0], source->lost_bytes[1]},
		.body_bytes = {source->body_bytes[0], source->body_bytes[1]},
		.reason = reason,
		.library = source->library,
		.flags = source->flags,
	};

	return source__record(source, WIRE_CLOSE, &close, sizeof(close), bytes__of(NULL, 0));
}

struct bytes source__frames(struct source *source, enum wire_direction direction,
			    const struct wire_frames_stream *streams, size_t count, uint32_t left,
			    uint32_t stream)
{
	struct wire_frames frames = {
		.connection = source->connection,
		.position = source->position[direction],
		.lost_bytes = source->lost_bytes[direction],
		.left = left,
		.stream = stream,
		.direction = direction,
		.count = (uint8_t)count,
	};

	return source__record(source, WIRE_FRAMES, &frames, sizeof(frames),
			      bytes__of(streams, count * sizeof(streams[0])));
}

struct bytes source__table(struct source *source, enum wire_direction direction, struct bytes frame,
			   const char *const *fields, size_t count)
{
	struct wire_table table = {
		.connection = source->connection,
		.position = source->position[direction],
		.max_bytes = 4096,
		.count = (uint32_t)count,
		.direction = direction,
		.when = frame.size ? WIRE_TABLE_AFTER : WIRE_TABLE_BEFORE,
		.frame_bytes = (uint8_t)frame.size,
	};
	uint8_t entries[4096];
	size_t size = 0;

	if (frame.size)
		memcpy(table.frame, frame.data, frame.size);
	for (size_t i = 0; i < count; i++) {
		struct bytes name = bytes__str(fields[2 * i]),
			     value = bytes__str(fields[2 * i + 1]);
		struct wire_table_entry entry = {(uint32_t)name.size, (uint32_t)value.size};

		if (size + sizeof(entry) + name.size + value.size > sizeof(entries))
			abort();
		memcpy(entries + size, &entry, sizeof(entry));
		size += sizeof(entry);
		memcpy(entries + size, name.data, name.size);
		size += name.size;
		memcpy(entries + size, value.data, value.size);
		size += value.size;
		table.size_bytes += (uint32_t)(name.size + value.size + 32);
	}
	return source__record(source, WIRE_TABLE, &table, sizeof(table), bytes__of(entries, size));
}

struct bytes source__socket(struct source *source)
{
	struct wire_socket found = {.connection = source->connection, .tuple = source->tuple};

	return source__record(source, WIRE_SOCKET, &found, sizeof(found), bytes__of(NULL, 0));
}

struct bytes source__tick(struct source *source)
{
	struct wire_header header = {0};

	return source__record(source, WIRE_TICK, &header, sizeof(header), bytes__of(NULL, 0));
}

struct bytes source__process(struct source *source, const char *path)
{
	struct wire_process process = {0};

	return source__record(source, WIRE_PROCESS, &process, sizeof(process), bytes__str(path));
}

struct bytes source__exit(struct source *source)
{
	struct wire_header header = {0};

	return source__record(source, WIRE_EXIT, &header, sizeof(header), bytes__of(NULL, 0));
}

struct bytes source__end(struct source *source, uint64_t events_lost, bool enough)
{
	struct wire_end end = {.events_lost = events_lost, .enough = enough};

	return source__record(source, WIRE_END, &end, sizeof(end), bytes__of(NULL, 0));
}

void source__lose(struct source *source, enum wire_direction direction, uint64_t size)
{
	source->position[direction] += size;
	source->lost_bytes[direction] += size;
}

void source__skip(struct source *source, enum wire_direction direction, uint64_t size)
{
	source->position[direction] += size;
}

struct bytes record__cut(struct bytes record, size_t size)
{
	uint8_t *copy = __real_malloc(size);

	if (!copy)
		abort();
	memcpy(copy, record.data, size);
	return bytes__of(copy, size);
}

void record__free(struct bytes record)
{
	free((void *)record.data);
}
