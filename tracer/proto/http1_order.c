/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which HTTP/1 response answers which request, with losses. See http1_order.h.
 *
 * HTTP/1 pairs by order alone, so one lost message would shift all pairs after it. What holds the
 * pairing together:
 *  - The responses in place answer the oldest requests in place, whatever is lost behind those.
 *  - A client that does not pipeline sends a request only after the response to the one before, so
 *    a request tells that all before it is over. That is relied on after a loss, once a connection
 *    was seen to work so and until it is seen to pipeline.
 *
 * A loss is noticed late, with the next bytes of its direction. So a request that comes while a
 * response is owed is not yet proof of pipelining (`suspected`): it is when the response goes on
 * from its place, and is not when a gap is there. And when the only response that is owed is lost,
 * the next one found may answer a request that was lost with it: it is not taken for the owed one.
 *
 * Where nothing helps, pairing ends for good on the connection (`unpaired`): requests and responses
 * are then logged apart. An absent half is better than a wrong one.
 */
#include "proto/http1_order.h"

/* Requests that wait for their response may hold so much, looked at every so many of them. */
#define OPEN_MAX_BYTES (4 * 1024 * 1024)
#define OPEN_STRIDE    32

void http1_half__reset(struct half *half, enum state state)
{
	half->state = state;
	half->exchange = NULL;
	half->interim = false;
	half->foldable = false;
	half->cut = false;
	buf__free(&half->line);
	http1_framing__reset(&half->framing);
}

struct exchange *http1_order__owed(const struct parser *parser, size_t *ret_count)
{
	struct exchange *first = NULL;

	*ret_count = 0;
	for (struct exchange *each = pairing__oldest(parser->pairing); each; each = each->next) {
		if (each->response.begun)
			continue;
		if (!first)
			first = each;
		++*ret_count;
	}
	return first;
}

void http1_order__drop(struct parser *parser, struct exchange *exchange, enum reason reason)
{
	for (int i = 0; i < 2; i++)
		if (parser->half[i].exchange == exchange)
			parser->half[i].exchange = NULL;
	pairing__give_up(parser->pairing, exchange, reason);
}

static void parser__drop_all(struct parser *parser, enum reason reason)
{
	while (pairing__oldest(parser->pairing))
		http1_order__drop(parser, pairing__oldest(parser->pairing), reason);
}

/* From here on requests and responses are logged apart; what is under way goes on to its end. */
static void parser__stop_pairing(struct parser *parser)
{
	struct exchange *next;

	parser->unpaired = true;
	parser->suspected = parser->holes = false;
	for (struct exchange *each = pairing__oldest(parser->pairing); each; each = next) {
		next = each->next;
		if (!each->response.begun && each != parser->half[WIRE_READ].exchange &&
		    each != parser->half[WIRE_WRITE].exchange)
			pairing__give_up(parser->pairing, each, parser->why);
	}
}

/* Whether the next request can be taken to come after the responses to all before it. */
static bool parser__trusts_order(const struct parser *parser)
{
	return parser->sequential && !parser->pipelined && !parser->unpaired;
}

/* All requests but the newest are over. */
static void parser__drop_older(struct parser *parser, enum reason reason)
{
	while (pairing__oldest(parser->pairing) && pairing__oldest(parser->pairing)->next)
		http1_order__drop(parser, pairing__oldest(parser->pairing), reason);
}

/* Charges a loss outside of known bodies to whom it most likely belongs. */
static void parser__charge(struct parser *parser, struct half *half, enum reason reason,
			   uint64_t lost_bytes)
{
	struct exchange *exchange = half->exchange;
	size_t count;

	if (exchange) {
		half__message(half)->lost_bytes += lost_bytes;
	} else if (lost_bytes && half__has_responses(half)) {
		exchange = parser->after_hole ? NULL : http1_order__owed(parser, &count);
		if (exchange)
			exchange->response.lost_bytes += lost_bytes;
	} else if (!half__has_responses(half)) {
		parser->unclaimed_bytes += lost_bytes;
	}
	if (exchange)
		exchange__fault(exchange, reason);
}

/*
 * The responses lost their place while some were owed. `older`: what was lost can be the response
 * to another request than the newest. If it cannot, the response found next answers a request that
 * is lost as well, and not yet missed.
 */
static void parser__judge_owed(struct parser *parser, bool older, enum reason reason)
{
	older |= parser->holes || parser->after_hole;
	if (!older && !parser->pipelined)
		parser__drop_all(parser, reason);
	else if (parser__trusts_order(parser))
		parser__drop_older(parser, reason);
	else
		parser__stop_pairing(parser);
}

void http1_order__lose(struct parser *parser, struct half *half, enum reason reason,
		       uint64_t lost_bytes)
{
	struct half *other = parser__other(parser, half);
	struct exchange *exchange = half->exchange;
	bool requests = half->kinds == HTTP1_REQUEST;
	size_t owed;

	parser__charge(parser, half, reason, lost_bytes);
	http1_half__reset(half, STATE_SEARCHING);
	half__miss(half, half->moved_before);
	half->why = parser->why = reason;
	if (exchange && (!requests || exchange->response.ended))
		http1_order__drop(parser, exchange, reason);

	http1_order__owed(parser, &owed);
	if (other->state == STATE_SEARCHING)
		parser__drop_all(parser, reason);
	else if (parser->unpaired)
		parser__stop_pairing(parser);
	else if (!requests && (owed > 1 || parser->holes || (owed && reason == REASON_LOST)))
		parser__judge_owed(parser, owed > 1 || exchange, reason);
}

void http1_order__finish(struct parser *parser, struct half *half)
{
	struct exchange *exchange = half->exchange;
	bool response = half__has_responses(half);
	bool seen = exchange && exchange->request.begun;

	if (exchange)
		half__message(half)->ended = true;
	http1_half__reset(half, STATE_START);
	half->last_call = half->calls;
	if (!exchange)
		return;
	if (pairing__settle(parser->pairing, exchange)) {
		parser->paired |= seen;
		return;
	}
	if (response && parser__other(parser, half)->exchange != exchange)
		pairing__give_up(parser->pairing, exchange, REASON_NONE);
	else if (!response && parser->unpaired && !exchange->response.begun)
		pairing__give_up(parser->pairing, exchange, parser->why);
}

/*
 * A response to an unseen request announced a body, of which nothing came before the next request:
 * it answered HEAD.
 */
static void parser__end_bodiless(struct parser *parser, struct half *half)
{
	bool body = half->state == STATE_LENGTH || half->state == STATE_CHUNK_SIZE ||
		    half->state == STATE_CLOSE;

	if (body && half__may_lack_body(half))
		http1_order__finish(parser, half);
}

/* With the responses out of place: whether those owed have passed when a new request comes. */
static bool parser__is_over(const struct parser *parser, const struct half *responses)
{
	if (parser->pipelined)
		return false;
	return responses->moved_at > parser->requested_at || parser__trusts_order(parser);
}

/* Whether more open exchanges would be too many. The sum is not taken each time. */
static bool parser__is_full(const struct parser *parser)
{
	size_t count = pairing__count(parser->pairing);
	size_t bytes = 0;

	if (count >= PAIRING_MAX_OPEN)
		return true;
	if (!count || count % OPEN_STRIDE)
		return false;
	for (struct exchange *each = pairing__oldest(parser->pairing); each; each = each->next)
		bytes += each->request.headers.text.capacity +
			 each->request.headers.capacity * sizeof(struct field) +
			 each->request.trailers.text.capacity + each->path.capacity +
			 each->query.capacity;
	return bytes > OPEN_MAX_BYTES;
}

void http1_order__confirm(struct parser *parser)
{
	parser->pipelined = true;
	if (parser->holes)
		parser__stop_pairing(parser);
	parser->suspected = parser->holes = false;
}

void http1_order__request(struct parser *parser, struct half *half, bool searched)
{
	struct half *responses = parser__other(parser, half);
	bool open, unseen, moved;

	parser__end_bodiless(parser, responses);
	/* Joined while requests were pipelined: over when as many responses as requests were seen.
	 */
	if (parser->unpaired && parser->why == REASON_JOINED_LATE && !parser->unanswered &&
	    !searched && responses->state == STATE_START)
		parser->unpaired = false;
	open = pairing__oldest(parser->pairing);
	unseen = responses->exchange && !responses->exchange->request.begun;
	/* Missed bytes and no answer to them: that was a request, or this is none. */
	moved = !half->missed || responses->moved_at > half->missed_at;

	if (responses->state == STATE_SEARCHING) {
		if ((!moved && !parser__trusts_order(parser)) ||
		    (open && !parser__is_over(parser, responses)))
			parser->unpaired = true;
		else
			parser__drop_all(parser, responses->why);
	} else if (open || (searched && !moved)) {
		parser->suspected = true;
		parser->holes |= searched || unseen;
		if (!searched && half->line_call == half->last_call)
			parser->pipelined = true;
		if (parser->pipelined && parser->holes)
			parser->unpaired = true;
	} else if (!searched && parser->paired) {
		parser->sequential = true;
	}
	parser->after_hole = searched && parser->unclaimed_bytes && !parser->unseen_answered;
	parser->unseen_answered = false;
	half->missed = false;
	if (searched && parser->pipelined)
		parser->unpaired = true;
	if (!parser->unpaired && parser__is_full(parser)) {
		parser->unpaired = true;
		parser->why = REASON_TRUNCATED;
	}
	if (parser->unpaired)
		parser__stop_pairing(parser);
}
