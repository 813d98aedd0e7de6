/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of a protocol parser: a passive observer of both directions of one connection. It
 * may start in the middle and may miss bytes: a gap is an input like any other. It never blocks,
 * does no I/O, reads no clock, and keeps no more memory per connection than its constants say.
 *
 * One parser is one file in this folder, exporting one `const struct parser_ops`; flow/ asks each
 * in turn what it makes of a connection's first bytes.
 */
#ifndef TLSTRACE_PARSER_H
#define TLSTRACE_PARSER_H

#include "exchange/pairing.h"
#include "wire.h"

/*
 * How bytes passed. When: a call may take long between its first and its last byte. And over which
 * socket, as it was then.
 */
struct passage {
	uint64_t first_ns;
	uint64_t last_ns;
	uint32_t seq_bytes; /* tcp.seq and .ack hold for so many of the first bytes; 0: not known */
	bool tcp_state;	    /* tcp.rtt_us and .retransmits are known */
	struct wire_tcp tcp; /* what is not known is zero */
};

/* What is known of the connection when the byte `offset` bytes behind the first one passed. */
static inline struct tcp_facts passage__tcp(const struct passage *when, size_t offset)
{
	bool has_seq = offset < when->seq_bytes;

	return (struct tcp_facts){
		.has_seq = has_seq,
		.has_rtt = when->tcp_state,
		.seq = has_seq ? when->tcp.seq : 0,
		.ack = has_seq ? when->tcp.ack : 0,
		.rtt_us = when->tcp.rtt_us,
	};
}

enum gap_kind {
	GAP_LOST,    /* wanted, and lost on the way: an exchange that it touches is incomplete */
	GAP_SKIPPED, /* left out because skippable() allowed it */
};

enum end_kind {
	END_STREAM, /* no more bytes in this direction */
	END_REUSED, /* the connection ended and its object serves another: both directions */
	END_CLOSED, /* the connection ended: both directions */
	END_TRACE,  /* tracing stopped: nothing is known of what comes */
};

enum verdict {
	VERDICT_NO,   /* not this protocol */
	VERDICT_YES,  /* surely */
	VERDICT_MORE, /* possible, more bytes are needed to tell */
};

/* What a parser does not need of the bytes to come, from `position` of the stream on. */
#define SKIP_NOTHING ((uint64_t)0)
#define SKIP_REST    UINT64_MAX

/* Frames of DATA that are not here: the rest of one that was, and others that have no flags. */
struct left_out {
	const struct wire_frames_stream *streams; /* payload by stream */
	size_t count;
	uint32_t left;	 /* payload of the last frame that is still to come */
	uint32_t stream; /* of that frame, where there is any left */
};

/* The HPACK table of a direction as the target itself has it, at one place of its stream. */
struct target_table {
	struct bytes entries; /* as in struct wire_table, checked */
	uint32_t max_bytes;
	bool after_frame;   /* as of the end of the header block that begins with `frame` ... */
	struct bytes frame; /* its first bytes, all or WIRE_TABLE_FRAME_BYTES */
	uint64_t age;	    /* ... else as of before so many of the bytes that passed last */
	bool whole_frames;  /* and a frame under way there has not changed it */
};

struct parser; /* each parser's own */
struct parser_ops;

/* How a connection goes on in another protocol (RFC 9110 7.8). */
struct hand_over {
	const struct parser_ops *to;
	enum wire_direction requests;
	struct exchange *exchange; /* open in the pairing, to be answered by that; NULL: none is */
	enum reason why[2]; /* by direction: its place is lost. Else its next byte is the first */
	size_t left;	    /* so many bytes of the last data() were not taken */
};

struct parser_ops {
	const char *name;

	/*
	 * Whether bytes that begin where a TLS call's buffer does, in either direction, are the
	 * start of a message of this protocol; `from_start`: they are their stream's first. More
	 * is only given while they are fewer than 64. Strict enough that a false yes is very
	 * unlikely.
	 */
	enum verdict (*detect)(struct bytes head, bool from_start);

	/*
	 * A parser for a connection whose exchanges go to `pairing` (which outlives it).
	 * `from_start` tells whether the first bytes of each direction will be its stream's
	 * first. 0 or -ENOMEM.
	 */
	int (*open)(struct pairing *pairing, struct connection *connection, bool from_start,
		    struct parser **ret_parser);
	void (*free)(struct parser *parser);

	/*
	 * The next bytes of a direction; `call_start` tells that a TLS call's buffer begins with
	 * the first of them. 0, or -ENOMEM (then the parser has lost its place as by a gap of
	 * bytes.size and goes on).
	 */
	int (*data)(struct parser *parser, enum wire_direction direction, struct bytes bytes,
		    bool call_start, const struct passage *when);

	/*
	 * Whether the connection was left to another protocol in the last data(), of which not all
	 * may have been taken. This parser is to be freed then; all exchanges that it had open have
	 * been handed on, but the one that goes with the connection. NULL where that cannot be.
	 */
	bool (*hands_over)(const struct parser *parser, struct hand_over *ret_hand_over);

	/*
	 * Takes a connection over, before anything else: a parser that was opened as from the
	 * start. The bytes that are left come by data(). 0 or -ENOMEM. NULL where none hands over.
	 */
	int (*take_over)(struct parser *parser, const struct hand_over *hand_over);

	/* The next `size` bytes (above 0) of a direction passed but are not here. */
	void (*gap)(struct parser *parser, enum wire_direction direction, uint64_t size,
		    enum gap_kind kind, const struct passage *when);

	/*
	 * The next `size` bytes of a chunked body passed but are not here: the probes walked over
	 * its chunks. `body_bytes` of them were payload; what follows begins with a chunk's size
	 * line.
	 */
	void (*walked)(struct parser *parser, enum wire_direction direction, uint64_t size,
		       uint64_t body_bytes, const struct passage *when);

	/*
	 * The next `size` bytes passed but are not here: the probes walked over frames of HTTP/2,
	 * which end as `left_out` says.
	 */
	void (*walked_frames)(struct parser *parser, enum wire_direction direction, uint64_t size,
			      const struct left_out *left_out, const struct passage *when);

	/* A direction ended, or all (then `direction` means nothing). */
	void (*end)(struct parser *parser, enum wire_direction direction, enum end_kind kind,
		    uint64_t time_ns);

	/*
	 * How many of the next bytes of a direction the parser will not look at, whatever they
	 * are (body bytes of known length): a gap of kind GAP_SKIPPED that long costs nothing.
	 * SKIP_REST: all that will ever come.
	 */
	uint64_t (*skippable)(const struct parser *parser, enum wire_direction direction);

	/*
	 * Whether the first byte of the last data() of a direction was the first of a message, and
	 * the parser knows its place. Who follows the messages from there by their lengths may
	 * leave out bodies.
	 */
	bool (*began)(const struct parser *parser, enum wire_direction direction);

	/*
	 * Where in the last data() of a direction the last frame began, counted from its end (its
	 * last byte is 1); 0: none did, or the place is not known. A frame is as good as a message.
	 */
	uint64_t (*frame_began)(const struct parser *parser, enum wire_direction direction);

	/*
	 * Whether the parser looks into bodies of a direction, so that none should be left out that
	 * can be had.
	 */
	bool (*reads_bodies)(const struct parser *parser, enum wire_direction direction);

	/*
	 * Whether the parser has lost its place in a direction and only the start of a message,
	 * at the start of a TLS call's buffer, can tell it where it is. False where it finds its
	 * place in the middle of calls, too.
	 */
	bool (*searching)(const struct parser *parser, enum wire_direction direction);

	/*
	 * Whether the parser could make use of table(). False also once those that came did not
	 * serve. NULL where there are no such tables, and then table is, too.
	 */
	bool (*wants_table)(const struct parser *parser, enum wire_direction direction);

	/*
	 * The target's own table; where it contradicts what passed, nothing is taken of it. What
	 * was told before stays as it is.
	 */
	void (*table)(struct parser *parser, enum wire_direction direction,
		      const struct target_table *table);
};

extern const struct parser_ops http1_ops;
extern const struct parser_ops http2_ops;

#endif
