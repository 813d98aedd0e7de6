/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Turns the bytes of one record, from the ring buffer or a recording, into an event whose fields
 * have been checked against each other. A recording may be hostile: nothing behind intake sees a
 * number that was not checked here.
 */
#ifndef TLSTRACE_INTAKE_H
#define TLSTRACE_INTAKE_H

#include "base/bytes.h"
#include "wire.h"

enum event_type {
	EVENT_DATA,
	EVENT_CLOSE,
	EVENT_PROCESS,
	EVENT_EXIT,
	EVENT_END,
	EVENT_SOCKET,
	EVENT_TICK,
	EVENT_FRAMES,
	EVENT_TABLE,
};

/* All pointers and views point into the record. */
struct event {
	enum event_type type;
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint32_t pid;
	uint32_t tid;
	struct wire_connection connection; /* DATA, CLOSE, SOCKET, FRAMES, TABLE */
	/*
	 * DATA, CLOSE, SOCKET (where the source is not NONE). Checked: source NONE and all else
	 * zero; or TCP and version 4 or 6; or UNIX and no addresses.
	 */
	struct wire_tuple tuple;
	enum wire_library library; /* DATA, CLOSE */
	bool from_start;	   /* DATA, CLOSE */
	union {
		struct {
			enum wire_direction direction;
			uint64_t start_ns; /* not after time_ns */
			uint64_t position; /* position + moved does not overflow */
			uint64_t lost_bytes;
			uint64_t body_bytes;
			uint64_t walk_from;
			uint64_t other_position;
			uint64_t other_lost_bytes;
			bool call_start;
			bool write_runs;     /* see WIRE_WRITE_RUNS */
			bool tcp_seq;	     /* tcp.seq and .ack are known */
			bool tcp_state;	     /* tcp.rtt_us and .retransmits are known */
			struct wire_tcp tcp; /* what is not known is zero */
			uint32_t moved;	     /* not below bytes.size */
			struct bytes bytes;
		} data;
		struct {
			enum wire_close_reason reason;
			uint64_t position[2];
			uint64_t lost_bytes[2];
			uint64_t body_bytes[2];
		} close;
		struct {
			enum wire_direction direction;
			uint64_t position;
			uint64_t lost_bytes;
			uint32_t left; /* below 16 MB */
			uint32_t stream;
			size_t count;
			struct wire_frames_stream streams[WIRE_FRAMES_STREAMS];
		} frames;
		struct {
			enum wire_direction direction;
			enum wire_table_when when;
			uint64_t position;
			struct bytes frame; /* of WIRE_TABLE_AFTER: a frame's head at the least */
			uint32_t max_bytes; /* not above WIRE_TABLE_MAX_BYTES */
			/* Each begins with its lengths and has a name; all fit into max_bytes. */
			struct bytes entries;
		} table;
		struct {
			struct bytes path;
		} process;
		struct {
			uint64_t events_lost;
			bool enough;
		} end;
	};
};

/*
 * Checks a record. 0; -EINVAL when it is none that the pipeline takes: too short, a size that
 * contradicts the view, an unknown type, a value out of its range.
 */
int intake__event(struct bytes record, struct event *ret_event);

#endif
