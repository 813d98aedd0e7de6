/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the HTTP/1 parser keeps of a connection, and the part of it that keeps the pairs: which
 * exchanges are open, and what a loss, a new request or an end of message tells of them. Private to
 * http1.c and http1_order.c.
 */
#ifndef TLSTRACE_HTTP1_ORDER_H
#define TLSTRACE_HTTP1_ORDER_H

#include "proto/http1_head.h"

enum state {
	STATE_SEARCHING,  /* the place is lost */
	STATE_START,	  /* between messages, or in a start line */
	STATE_HEAD,	  /* header fields */
	STATE_LENGTH,	  /* body of `remaining` bytes */
	STATE_CLOSE,	  /* body until the stream ends */
	STATE_CHUNK_SIZE, /* a chunk's first line */
	STATE_CHUNK,	  /* `remaining` bytes of a chunk */
	STATE_CHUNK_END,  /* the line end after them */
	STATE_TRAILERS,
	STATE_TUNNEL, /* no longer HTTP: counted as a body until the stream ends */
};

/* One direction. */
struct half {
	enum state state;
	unsigned int kinds;	   /* of start lines that may come, HTTP1_* */
	struct exchange *exchange; /* of the message under way; NULL: none, or not logged */
	bool interim;		   /* a 1xx response is under way */
	bool foldable;		   /* the last field was stored, so a folded line can extend it */
	bool body_seen;		   /* bytes passed since the head ended */
	bool cut;		   /* the line under way is too long, its rest is dropped */
	enum reason why;	   /* the place was last lost */
	struct buf line;	   /* the line under way, as far as earlier calls brought it */
	uint64_t line_first_ns;
	struct tcp_facts line_tcp;
	size_t offset;	    /* of the bytes under way: so many were taken */
	uint64_t line_call; /* in which it began */
	uint64_t last_call; /* in which the last message ended */
	uint64_t calls;	    /* TLS calls so far */
	uint64_t remaining;
	bool began;	       /* the last data() began with a message */
	uint64_t moved_at;     /* parser.now when bytes last passed */
	uint64_t moved_before; /* ... and the time before that */
	uint64_t missed_at;    /* since then bytes passed that were not looked at */
	bool missed;
	struct http1_framing framing;
};

struct parser {
	struct pairing *pairing;
	struct connection *connection;
	struct half half[2]; /* by enum wire_direction */
	uint64_t now;	     /* counts calls that bring bytes or gaps */
	uint64_t requested_at;
	uint64_t last_id;
	uint64_t unclaimed_bytes; /* lost in the requests, of no request that was seen */
	bool paired;		  /* an exchange was seen from end to end */
	bool sequential;	  /* ... and after it the next request */
	bool pipelined;		  /* a request was sent while a response was owed */
	bool suspected;		  /* it looks so; the next bytes of the response will tell */
	bool holes;		  /* and then it is not known how many are owed */
	bool after_hole;	  /* a lost request, not answered, is before the newest */
	bool unseen_answered;	  /* a response to an unseen request came since the newest */
	bool unpaired;		  /* who answers whom cannot be known any more */
	int64_t unanswered;	  /* requests less final responses that were seen to begin */
	enum reason why;	  /* what was last missed, for exchanges that it leaves apart */

	struct hand_over hand_over; /* `to` is set: what comes is not HTTP/1 */
};

static inline struct half *parser__other(struct parser *parser, const struct half *half)
{
	return half == &parser->half[0] ? &parser->half[1] : &parser->half[0];
}

static inline bool half__has_responses(const struct half *half)
{
	return half->kinds == HTTP1_RESPONSE;
}

static inline struct message *half__message(const struct half *half)
{
	return half__has_responses(half) ? &half->exchange->response : &half->exchange->request;
}

static inline void half__miss(struct half *half, uint64_t when)
{
	half->missed = true;
	half->missed_at = when;
}

/*
 * Whether the body that was announced may not come: it is that of a response to an unseen request,
 * which may have been HEAD, and none of it has come yet.
 */
static inline bool half__may_lack_body(const struct half *half)
{
	return !half->body_seen && half->exchange && !half->exchange->request.begun;
}

/* Back to no message and no line; an idle connection holds no memory for lines. */
void http1_half__reset(struct half *half, enum state state);

/* The oldest request whose response has not begun, or NULL, and how many there are. */
struct exchange *http1_order__owed(const struct parser *parser, size_t *ret_count);

/* Gives up an exchange that a direction may still be at. */
void http1_order__drop(struct parser *parser, struct exchange *exchange, enum reason reason);

/*
 * The message of a direction ended. A request whose end will not come (its direction lost its
 * place or was closed) does not hold up its response.
 */
void http1_order__finish(struct parser *parser, struct half *half);

/* A direction lost its place, and bytes with it: it searches from now on. */
void http1_order__lose(struct parser *parser, struct half *half, enum reason reason,
		       uint64_t lost_bytes);

/* A request begins, found by a search or not: what it tells of those before it. */
void http1_order__request(struct parser *parser, struct half *half, bool searched);

/*
 * The first bytes of the responses since pipelining was suspected: those of the response that was
 * owed then, still in place.
 */
void http1_order__confirm(struct parser *parser);

#endif
