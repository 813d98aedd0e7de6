/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes the records that probes and capture would: each in memory of exactly its size, so that a
 * sanitizer sees a read beyond it. Not for the failing allocator.
 */
#ifndef RECORDS_H
#define RECORDS_H

#include "base/bytes.h"
#include "wire.h"

/* A connection as the probes know it. Change at will between records. */
struct source {
	uint32_t pid;
	struct wire_connection connection;
	struct wire_tuple tuple;
	uint8_t library;
	uint8_t flags;
	uint64_t time_ns; /* of the next record */
	uint64_t step_ns; /* between records; a call is entered half of it before it returns */
	uint64_t position[2];
	uint64_t lost_bytes[2];
	uint64_t body_bytes[2]; /* of chunks that were walked over */
	uint64_t walk_from[2];
	struct wire_tcp tcp; /* of data; see the flags */
};

/* From the start, 127.0.0.1:8443 to 127.0.0.1:40210, at 1 s, a record each millisecond. */
struct source source__of(uint32_t pid, uint64_t object);

/* What the kernel gives for a call that moved `moved` bytes, of which `bytes` were captured. */
struct bytes source__data(struct source *source, enum wire_direction direction, struct bytes bytes,
			  uint32_t moved);
struct bytes source__close(struct source *source, enum wire_close_reason reason);
/* Its socket was found: that of source->tuple. */
/*
 * Frames up to source->position were left out: DATA of `streams`, and of the last one's frame
 * `left` bytes are still to come.
 */
struct bytes source__frames(struct source *source, enum wire_direction direction,
			    const struct wire_frames_stream *streams, size_t count, uint32_t left,
			    uint32_t stream);
/*
 * The HPACK table of a direction, as of source->position, or as of after the block that begins with
 * `frame`, where that is not empty. `fields` are names and values in turn, the oldest first.
 */
struct bytes source__table(struct source *source, enum wire_direction direction, struct bytes frame,
			   const char *const *fields, size_t count);
struct bytes source__socket(struct source *source);
struct bytes source__tick(struct source *source);
struct bytes source__process(struct source *source, const char *path);
struct bytes source__exit(struct source *source);
struct bytes source__end(struct source *source, uint64_t events_lost, bool enough);

/* Bytes pass of which no record tells: lost ones, or those that a directive names. */
void source__lose(struct source *source, enum wire_direction direction, uint64_t size);
void source__skip(struct source *source, enum wire_direction direction, uint64_t size);

/* The first `size` bytes of a record, in memory of their own. */
struct bytes record__cut(struct bytes record, size_t size);

void record__free(struct bytes record);

#endif
