/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections and their streams. See flow.h.
 *
 * A connection is found by process and object; its generation tells a reused object from the same
 * connection. While nothing is known of what it speaks, each direction's first bytes are offered
 * to the parsers. Seen from its start, a connection that none of them takes is left alone for
 * good; joined late, its bytes may be the middle of anything, so each call's first bytes are
 * offered until one is the start of a message, and the probes are told to show only such calls.
 */
#include "flow/flow.h"
#include "flow/held.h"
#include "flow/waiting.h"
#include "proto/parser.h"

#include <errno.h>
#include <stdlib.h>

#define HASH_NONFATAL_OOM   1
#define uthash_malloc(size) malloc(size)
#include <uthash.h>
#include <utlist.h>

/* What is kept until a parser can decide (parser_ops.detect). */
#define DETECT_BYTES 64

/* Telling the probes to skip costs a system call: not worth it for less. */
#define SKIP_WORTH_BYTES (128 * 1024)

/* Nor is confirming a walk in a stream that has moved less since it began. */
#define WALK_WORTH_BYTES (64 * 1024)

/*
 * A TLS record that is followed by more of the same call holds at least so many of its bytes: the
 * smallest maximum that a peer can negotiate by RFC 6066 section 4, or a program set in OpenSSL.
 */
#define FRAGMENT_MIN_BYTES 512

/* An HPACK table that did not come, or did not do, is asked for again so much later, so often. */
#define ASK_AGAIN_NS 200000000ull
#define ASKS_MAX     50

static const struct parser_ops *const parsers[] = {&http2_ops, &http1_ops};

#define PARSER_COUNT (sizeof(parsers) / sizeof(parsers[0]))

struct stream {
	uint64_t position; /* up to which events covered it */
	uint64_t lost_bytes;
	uint64_t body_bytes; /* chunk payload that the probes left out */
	uint64_t began_at;   /* a walk that is right, since a message began where it did */
	uint64_t walk_from;  /* the walk that the probes were told is right */
	uint64_t skip_until; /* what the probes were told */
	bool watched;	     /* and that starts of messages are enough */
	uint64_t asked_ns;   /* when its HPACK table was asked for last; 0: it is not */
	unsigned int asks;   /* so often */
	uint64_t missed[2];  /* by enum gap_kind: bytes that passed unseen while undecided */
	struct passage head_when;
	uint8_t head_size;
	uint8_t head[DETECT_BYTES]; /* first bytes, while undecided */
};

enum speaks {
	SPEAKS_UNDECIDED,
	SPEAKS_PROTOCOL, /* ops and parser are set */
	SPEAKS_OTHER,	 /* nothing we parse */
};

struct conn_key {
	uint32_t pid;
	uint32_t zero; /* hashed as bytes: no padding */
	uint64_t object;
};

struct process;

struct conn {
	struct conn_key key;
	struct flow *flow;
	struct connection info;
	enum speaks speaks;
	bool directed; /* the probes hold a directive for it */
	const struct parser_ops *ops;
	struct parser *parser;
	struct pairing *pairing;
	struct stream streams[2];
	uint64_t tuple_ns; /* of the record by which the tuple last became known, or unknown */
	bool ambiguous;	   /* its tuple was known and is not any more: no other one comes */
	struct waiting_queue waiting;
	struct held held; /* of what it has read */
	struct process *process;
	struct conn *prev, *next;	    /* in flow.quiet */
	struct conn *held_prev, *held_next; /* in flow.holding, when anything is held */
	struct conn *of_prev, *of_next;	    /* in process.conns */
	UT_hash_handle hh;
};

struct process {
	uint32_t pid;
	struct buf path;
	struct conn *conns;
	UT_hash_handle hh;
};

struct flow {
	struct flow_callbacks callbacks;
	struct conn *conns;
	struct process *processes;
	struct conn *quiet;   /* the one with the oldest event first */
	struct conn *holding; /* the one that began to hold first */
	size_t held_bytes;
	struct exchange_pool pool;
	struct waiting waiting;
	struct underway underway;
	uint64_t now_ns; /* of the event at hand */
	struct flow_counts counts;
};

#define PATH_MAX_BYTES 4096

static struct bytes exchange__executable(const struct exchange *exchange)
{
	const struct conn *conn = (const struct conn *)((const char *)exchange->connection -
							offsetof(struct conn, info));

	return buf__view(&conn->process->path);
}

/* An exchange goes on, with the tuple that its connection has now. */
static void flow__hand_on(void *context, const struct exchange *exchange)
{
	struct flow *flow = context;

	flow->callbacks.exchange(flow->callbacks.context, exchange, exchange__executable(exchange));
}

static void flow__tell_underway(void *context, const struct exchange *exchange)
{
	struct flow *flow = context;

	flow->callbacks.underway(flow->callbacks.context, exchange, exchange__executable(exchange));
}

int flow__new(const struct flow_callbacks *callbacks, struct flow **ret_flow)
{
	struct flow *flow = calloc(1, sizeof(*flow));

	if (!flow)
		return -ENOMEM;
	flow->callbacks = *callbacks;
	flow->waiting = (struct waiting){
		.release = flow__hand_on,
		.context = flow,
		.pool = &flow->pool,
	};
	flow->underway = (struct underway){.tell = flow__tell_underway, .context = flow};
	*ret_flow = flow;
	return 0;
}

const struct flow_counts *flow__counts(const struct flow *flow)
{
	return &flow->counts;
}

static struct process *flow__process(struct flow *flow, uint32_t pid)
{
	struct process *process;

	HASH_FIND(hh, flow->processes, &pid, sizeof(pid), process);
	if (process)
		return process;
	if (HASH_COUNT(flow->processes) >= FLOW_MAX_PROCESSES)
		return NULL;
	process = calloc(1, sizeof(*process));
	if (!process)
		return NULL;
	process->pid = pid;
	buf__init(&process->path, PATH_MAX_BYTES);
	HASH_ADD(hh, flow->processes, pid, sizeof(process->pid), process);
	if (!process->hh.tbl) {
		free(process);
		return NULL;
	}
	return process;
}

static bool on_exchange(void *context, struct exchange *exchange)
{
	struct conn *conn = context;
	struct flow *flow = conn->flow;

	exchange->tcp.has_retransmits = conn->info.has_retransmits;
	exchange->tcp.retransmits = conn->info.retransmits;
	if (conn->info.tuple.source != WIRE_TUPLE_NONE || conn->ambiguous) {
		flow__hand_on(flow, exchange);
		return false;
	}
	waiting__add(&flow->waiting, &conn->waiting, exchange, flow->now_ns);
	return true;
}

static void conn__drop_parser(struct conn *conn)
{
	if (conn->ops)
		conn->ops->free(conn->parser);
	pairing__free(conn->pairing);
	conn->ops = NULL;
	conn->parser = NULL;
	conn->pairing = NULL;
}

/* Takes it from those that hold something. */
static void flow__let_go(struct flow *flow, struct conn *conn)
{
	if (held__is_empty(&conn->held))
		return;
	flow->held_bytes -= conn->held.events.size;
	DL_DELETE2(flow->holding, conn, held_prev, held_next);
	held__clear(&conn->held);
}

/* Takes it out of all tables; its exchanges have been handed on, or are dropped. */
static void flow__remove(struct flow *flow, struct conn *conn)
{
	if (conn->directed && flow->callbacks.forget)
		flow->callbacks.forget(flow->callbacks.context, conn->key.pid, &conn->info.id);
	conn__drop_parser(conn);
	flow__let_go(flow, conn);
	held__free(&conn->held);
	waiting__drop(&flow->waiting, &conn->waiting);
	HASH_DELETE(hh, flow->conns, conn);
	DL_DELETE(flow->quiet, conn);
	DL_DELETE2(conn->process->conns, conn, of_prev, of_next);
	free(conn);
}

static void flow__release(struct flow *flow, struct conn *conn);

static void flow__end(struct flow *flow, struct conn *conn, enum end_kind kind, uint64_t time_ns)
{
	flow__release(flow, conn);
	if (conn->ops)
		conn->ops->end(conn->parser, WIRE_READ, kind, time_ns);
	waiting__release(&flow->waiting, &conn->waiting);
	flow__remove(flow, conn);
}

/* The connection that its object serves, as far as is known, of any generation; or NULL. */
static struct conn *flow__find(const struct flow *flow, const struct event *event)
{
	struct conn_key key = {.pid = event->pid, .object = event->connection.object};
	struct conn *conn;

	HASH_FIND(hh, flow->conns, &key, sizeof(key), conn);
	return conn;
}

static struct conn *flow__new_conn(struct flow *flow, const struct event *event)
{
	struct process *process = flow__process(flow, event->pid);
	struct conn *conn;

	if (!process)
		return NULL;
	if (HASH_COUNT(flow->conns) >= FLOW_MAX_CONNECTIONS) {
		flow->counts.evicted++;
		flow__end(flow, flow->quiet, END_TRACE, event->time_ns);
	}
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->flow = flow;
	conn->key = (struct conn_key){.pid = event->pid, .object = event->connection.object};
	conn->info.pid = event->pid;
	conn->info.id = event->connection;
	conn->info.library = event->library;
	conn->info.from_start = event->from_start;
	conn->info.counts = &flow->counts.protocol;
	conn->process = process;
	held__init(&conn->held);
	HASH_ADD(hh, flow->conns, key, sizeof(conn->key), conn);
	if (!conn->hh.tbl) {
		free(conn);
		return NULL;
	}
	DL_APPEND(flow->quiet, conn);
	DL_APPEND2(process->conns, conn, of_prev, of_next);
	flow->counts.connections++;
	return conn;
}

/*
 * Takes what an event says of the connection's socket. Where calls used different ones, the probes
 * take back what they said. A record that was made before the last change does not undo it.
 */
static void conn__set_tuple(struct conn *conn, const struct event *event)
{
	bool is_known = event->tuple.source != WIRE_TUPLE_NONE;
	bool was_known = conn->info.tuple.source != WIRE_TUPLE_NONE;

	if (memcmp(&event->tuple, &conn->info.tuple, sizeof(event->tuple)) != 0) {
		if (event->time_ns < conn->tuple_ns)
			return;
		conn->tuple_ns = event->time_ns;
		conn->ambiguous = was_known && !is_known;
	}
	conn->info.tuple = event->tuple;
	if (is_known)
		waiting__release(&conn->flow->waiting, &conn->waiting);
}

/* The connection of a DATA or CLOSE event; made anew when its object serves another one now. */
static struct conn *flow__conn(struct flow *flow, const struct event *event, bool create)
{
	struct conn *conn = flow__find(flow, event);

	if (conn && conn->info.id.generation != event->connection.generation) {
		/* Its close was lost. */
		flow__end(flow, conn, END_REUSED, event->time_ns);
		conn = NULL;
	}
	if (!conn && create)
		conn = flow__new_conn(flow, event);
	if (!conn)
		return NULL;
	if (flow->quiet->prev != conn) {
		DL_DELETE(flow->quiet, conn);
		DL_APPEND(flow->quiet, conn);
	}
	conn->info.tid = event->tid;
	conn__set_tuple(conn, event);
	return conn;
}

static void flow__direct(struct flow *flow, struct conn *conn, enum wire_direction direction,
			 uint64_t skip_until, bool watch)
{
	struct directive directive = {
		.pid = conn->key.pid,
		.connection = conn->info.id,
		.direction = direction,
		.skip_until = skip_until,
		.walk_from = conn->streams[direction].walk_from,
		.position = conn->streams[direction].position,
		.watch = watch,
	};

	conn->streams[direction].skip_until = skip_until;
	conn->streams[direction].watched = watch;
	if (!flow->callbacks.directive)
		return;
	conn->directed = true;
	flow->callbacks.directive(flow->callbacks.context, &directive);
}

static void flow__leave_alone(struct flow *flow, struct conn *conn)
{
	conn->speaks = SPEAKS_OTHER;
	flow->counts.not_http++;
	flow__direct(flow, conn, WIRE_READ, UINT64_MAX, false);
	flow__direct(flow, conn, WIRE_WRITE, UINT64_MAX, false);
}

/*
 * Whether the probes' walk is right and worth confirming. Not while they skip: what a skip has left
 * out of a gap, and what a walk, could not be told apart.
 */
static bool stream__can_confirm(const struct stream *stream, uint64_t walk_from)
{
	return walk_from && walk_from == stream->began_at &&
	       stream->position >= stream->skip_until &&
	       WIRE_WALK_FROM(stream->position) - walk_from >= WALK_WORTH_BYTES;
}

/*
 * Tells the probes what the parser can do without, where that has become worth telling. They are
 * on the walk `walk_from`.
 */
static void flow__advise(struct flow *flow, struct conn *conn, enum wire_direction direction,
			 uint64_t walk_from)
{
	struct stream *stream = &conn->streams[direction];
	uint64_t skippable = conn->ops->skippable(conn->parser, direction);

	if (walk_from && walk_from == stream->walk_from)
		return; /* it leaves out what there is */
	if (stream__can_confirm(stream, walk_from) &&
	    !conn->ops->reads_bodies(conn->parser, direction)) {
		stream->walk_from = walk_from;
		flow__direct(flow, conn, direction, stream->skip_until, false);
	} else if (conn->ops->searching(conn->parser, direction)) {
		flow__direct(flow, conn, direction, stream->skip_until, true);
	} else if (skippable >= UINT64_MAX - stream->position) {
		if (stream->skip_until != UINT64_MAX)
			flow__direct(flow, conn, direction, UINT64_MAX, false);
	} else if (skippable >= SKIP_WORTH_BYTES &&
		   stream->position + skippable > stream->skip_until) {
		flow__direct(flow, conn, direction, stream->position + skippable, false);
	}
}

/* Says whether the target's own HPACK table is wanted. */
static void flow__ask_table(struct flow *flow, struct conn *conn, enum wire_direction direction,
			    uint64_t now_ns)
{
	struct stream *stream = &conn->streams[direction];
	struct table_request request = {
		.pid = conn->key.pid,
		.connection = conn->info.id,
		.direction = direction,
	};

	if (!conn->ops->wants_table)
		return;
	request.want = conn->ops->wants_table(conn->parser, direction);
	if (!request.want && !stream->asked_ns)
		return;
	if (request.want && stream->asked_ns &&
	    (now_ns - stream->asked_ns < ASK_AGAIN_NS || stream->asks >= ASKS_MAX))
		return;
	stream->asked_ns = request.want ? now_ns : 0;
	stream->asks = request.want ? stream->asks + 1 : 0;
	if (!flow->callbacks.table)
		return;
	conn->directed = true;
	flow->callbacks.table(flow->callbacks.context, &request);
}

static int conn__open(struct flow *flow, struct conn *conn, const struct parser_ops *ops)
{
	int err = pairing__new(&conn->info, on_exchange, conn, &conn->pairing);

	if (!err)
		err = ops->open(conn->pairing, &conn->info, conn->info.from_start, &conn->parser);
	if (err) {
		conn__drop_parser(conn);
		flow->counts.out_of_memory++;
		return err;
	}
	pairing__set_pool(conn->pairing, &flow->pool);
	if (flow->callbacks.underway)
		pairing__set_underway(conn->pairing, &flow->underway);
	conn->ops = ops;
	conn->speaks = SPEAKS_PROTOCOL;
	return 0;
}

static void conn__data(struct flow *flow, struct conn *conn, enum wire_direction direction,
		       struct bytes bytes, bool call_start, const struct passage *when);

/* The connection goes on in another protocol, in the bytes that its parser was given last. */
static void flow__hand_over(struct flow *flow, struct conn *conn, enum wire_direction direction,
			    struct bytes bytes, const struct passage *when,
			    const struct hand_over *hand_over)
{
	const struct parser_ops *to = hand_over->to;
	size_t taken = bytes.size - hand_over->left;
	struct stream *other = &conn->streams[1 - direction];
	struct passage rest = *when;
	struct parser *parser = NULL;
	int err = to->open(conn->pairing, &conn->info, true, &parser);

	if (!err)
		err = to->take_over(parser, hand_over);
	if (err) {
		flow->counts.out_of_memory++;
		to->free(parser);
		pairing__give_up_all(conn->pairing, REASON_LOST);
		conn__drop_parser(conn);
		flow__leave_alone(flow, conn);
		return;
	}
	conn->ops->free(conn->parser);
	conn->ops = to;
	conn->parser = parser;
	rest.seq_bytes -= taken < rest.seq_bytes ? (uint32_t)taken : rest.seq_bytes;
	conn__data(flow, conn, direction, bytes__from(bytes, taken), false, &rest);
	if (other->watched && !to->searching(parser, 1 - direction))
		flow__direct(flow, conn, 1 - direction, other->skip_until, false);
}

static void conn__data(struct flow *flow, struct conn *conn, enum wire_direction direction,
		       struct bytes bytes, bool call_start, const struct passage *when)
{
	const struct parser_ops *ops = conn->ops;
	struct hand_over hand_over;

	if (!bytes.size || !ops)
		return;
	if (ops->data(conn->parser, direction, bytes, call_start, when))
		flow->counts.out_of_memory++;
	if (ops->hands_over && ops->hands_over(conn->parser, &hand_over))
		flow__hand_over(flow, conn, direction, bytes, when, &hand_over);
}

/* What the parsers make of the first bytes of a call; *ret_ops is set with VERDICT_YES. */
static enum verdict detect(struct bytes head, bool from_start, const struct parser_ops **ret_ops)
{
	enum verdict best = VERDICT_NO;

	for (size_t i = 0; i < PARSER_COUNT; i++) {
		enum verdict verdict = parsers[i]->detect(head, from_start);

		if (verdict == VERDICT_YES) {
			*ret_ops = parsers[i];
			return verdict;
		}
		if (verdict == VERDICT_MORE)
			best = VERDICT_MORE;
	}
	return best;
}

/* Whether all bytes of the stream so far were seen. */
static bool stream__is_whole(const struct stream *stream)
{
	return !stream->missed[GAP_LOST] && !stream->missed[GAP_SKIPPED];
}

/* Tells a new parser what was missed before. */
static void conn__tell_missed(struct conn *conn, const struct passage *when)
{
	for (int d = 0; d < 2; d++)
		for (int kind = 0; kind < 2; kind++)
			if (conn->streams[d].missed[kind])
				conn->ops->gap(conn->parser, d, conn->streams[d].missed[kind], kind,
					       when);
}

/* Bytes of a connection of which it is not known what it speaks. */
static void flow__undecided(struct flow *flow, struct conn *conn, enum wire_direction direction,
			    struct bytes bytes, bool call_start, const struct passage *when)
{
	struct stream *stream = &conn->streams[direction];
	const struct parser_ops *ops = NULL;
	bool from_start = conn->info.from_start && stream__is_whole(stream);
	struct bytes fresh, head = bytes;
	enum verdict verdict;

	if (!stream->head_size) {
		if (!call_start)
			return;
		stream->head_when = *when;
	}
	fresh = bytes__first(bytes, DETECT_BYTES - stream->head_size);
	memcpy(stream->head + stream->head_size, fresh.data, fresh.size);
	if (stream->head_size)
		head = bytes__of(stream->head, stream->head_size + fresh.size);
	verdict = detect(head, from_start, &ops);
	if (verdict == VERDICT_MORE && stream->head_size + fresh.size < DETECT_BYTES) {
		stream->head_size += fresh.size;
		return;
	}
	if (verdict != VERDICT_YES) {
		/* What does not go on from the call before may be a message by itself. */
		bool again = stream->head_size && call_start;

		stream->head_size = 0;
		if (from_start)
			flow__leave_alone(flow, conn);
		else if (again)
			flow__undecided(flow, conn, direction, bytes, call_start, when);
		else
			flow__direct(flow, conn, direction, stream->skip_until, true);
		return;
	}
	if (conn__open(flow, conn, ops)) {
		for (int d = 0; d < 2; d++) {
			conn->streams[d].missed[GAP_LOST] += conn->streams[d].head_size;
			conn->streams[d].head_size = 0;
		}
		stream->missed[GAP_LOST] += bytes.size;
		return;
	}
	conn__tell_missed(conn, when);
	/* What waited of the other direction came first. */
	for (int i = 0; i < 2; i++) {
		enum wire_direction d = i ? direction : 1 - direction;
		struct stream *waiting = &conn->streams[d];

		conn__data(flow, conn, d, bytes__of(waiting->head, waiting->head_size), true,
			   &waiting->head_when);
	}
	conn__data(flow, conn, direction, bytes, call_start, when);
	conn->streams[0].head_size = conn->streams[1].head_size = 0;
	/* The other direction may be one that is found in the middle of calls. */
	if (conn->ops && conn->streams[1 - direction].watched &&
	    !conn->ops->searching(conn->parser, 1 - direction))
		flow__direct(flow, conn, 1 - direction, conn->streams[1 - direction].skip_until,
			     false);
}

static void conn__gap(struct conn *conn, enum wire_direction direction, uint64_t size,
		      enum gap_kind kind, const struct passage *when)
{
	if (!size)
		return;
	if (conn->ops) {
		conn->ops->gap(conn->parser, direction, size, kind, when);
		return;
	}
	conn->streams[direction].head_size = 0; /* what follows is not its continuation */
	conn->streams[direction].missed[kind] += size;
}

/*
 * Whether a walk over chunks left out `size` bytes, `payload` of them of chunks. One that has none
 * of these is between two chunks, where nothing else may be left out.
 */
static bool conn__was_walk(const struct conn *conn, enum wire_direction direction, uint64_t size,
			   uint64_t payload)
{
	if (!conn->ops || !size || payload > size)
		return false;
	return payload || (conn->streams[direction].walk_from &&
			   conn->ops->skippable(conn->parser, direction) == SKIP_NOTHING);
}

/*
 * Steps over `size` bytes that are not here; `*lost` of the bytes up to here were lost and are
 * not accounted for yet, and `body_bytes` is the stream's payload in walks so far. What the probes
 * left out comes first: they leave out up to a position and want all that follows.
 */
static void conn__step(struct conn *conn, enum wire_direction direction, uint64_t size,
		       uint64_t *lost, uint64_t body_bytes, const struct passage *when)
{
	struct stream *stream = &conn->streams[direction];
	uint64_t lost_here = *lost < size ? *lost : size;
	uint64_t left_out = size - lost_here, walked = body_bytes - stream->body_bytes;

	*lost -= lost_here;
	if (conn__was_walk(conn, direction, left_out, walked))
		conn->ops->walked(conn->parser, direction, left_out, walked, when);
	else
		conn__gap(conn, direction, left_out, GAP_SKIPPED, when);
	stream->body_bytes = body_bytes;
	conn__gap(conn, direction, lost_here, GAP_LOST, when);
	stream->position += size;
}

/*
 * Tells of a loss in the other direction now, before what came after it, and not with that
 * direction's next record: who answers whom depends on it. Where bytes were left out as well, the
 * next record alone can tell them apart.
 */
static void conn__step_other(struct conn *conn, const struct event *event,
			     const struct passage *when)
{
	enum wire_direction other = 1 - event->data.direction;
	struct stream *stream = &conn->streams[other];
	uint64_t lost = event->data.other_lost_bytes - stream->lost_bytes;

	if (event->data.other_position <= stream->position ||
	    event->data.other_position - stream->position != lost)
		return;
	stream->lost_bytes = event->data.other_lost_bytes;
	conn__step(conn, other, lost, &lost, stream->body_bytes, when);
}

/* Whether a message or frame began where a walk did, in the bytes that have just been parsed. */
static bool conn__walk_is_right(const struct conn *conn, enum wire_direction direction,
				uint64_t walk_from, uint64_t begin)
{
	uint64_t since = conn->ops->frame_began(conn->parser, direction);

	if (walk_from == begin)
		return conn->ops->began(conn->parser, direction);
	return since && walk_from == WIRE_WALK_FROM(conn->streams[direction].position - since);
}

static void flow__take_data(struct flow *flow, struct conn *conn, const struct event *event)
{
	enum wire_direction direction = event->data.direction;
	struct bytes bytes = event->data.bytes;
	struct passage when = {
		.first_ns = event->data.start_ns,
		.last_ns = event->time_ns,
		.tcp_state = event->data.tcp_state,
		.tcp = event->data.tcp,
	};
	struct stream *stream;
	uint64_t lost, begin;

	stream = &conn->streams[direction];
	if (event->data.position < stream->position || event->data.lost_bytes < stream->lost_bytes)
		return; /* no recording of ours: streams only go on */
	if (event->data.tcp_state) {
		conn->info.has_retransmits = true;
		conn->info.retransmits = event->data.tcp.retransmits;
	}
	/* What is read passed when the call returned, not while it waited. */
	if (direction == WIRE_READ)
		when.first_ns = when.last_ns;
	if (event->data.tcp_seq && event->data.call_start)
		when.seq_bytes = (uint32_t)bytes__first(bytes, FRAGMENT_MIN_BYTES).size;
	flow->counts.bytes_captured += bytes.size;
	conn__step_other(conn, event, &when);
	lost = event->data.lost_bytes - stream->lost_bytes;
	stream->lost_bytes = event->data.lost_bytes;
	conn__step(conn, direction, event->data.position - stream->position, &lost,
		   event->data.body_bytes, &when);
	begin = WIRE_WALK_FROM(stream->position);
	stream->position += bytes.size;
	if (conn->speaks == SPEAKS_PROTOCOL)
		conn__data(flow, conn, direction, bytes, event->data.call_start, &when);
	else if (conn->speaks == SPEAKS_UNDECIDED && bytes.size)
		flow__undecided(flow, conn, direction, bytes, event->data.call_start, &when);
	if (conn->speaks == SPEAKS_PROTOCOL && bytes.size &&
	    conn__walk_is_right(conn, direction, event->data.walk_from, begin))
		stream->began_at = event->data.walk_from;
	conn__step(conn, direction, event->data.moved - bytes.size, &lost, event->data.body_bytes,
		   &when);
	if (conn->speaks == SPEAKS_PROTOCOL) {
		flow__advise(flow, conn, direction, event->data.walk_from);
		flow__ask_table(flow, conn, direction, event->time_ns);
	}
}

/* The target's own HPACK table of a stream. */
static void flow__table(struct flow *flow, const struct event *event)
{
	enum wire_direction direction = event->table.direction;
	struct conn *conn = flow__find(flow, event);
	struct target_table table = {
		.entries = event->table.entries,
		.max_bytes = event->table.max_bytes,
		.after_frame = event->table.when == WIRE_TABLE_AFTER,
		.frame = event->table.frame,
		.whole_frames = event->table.when == WIRE_TABLE_BEFORE_FRAME,
	};

	if (!conn || conn->info.id.generation != event->connection.generation || !conn->ops ||
	    !conn->ops->table)
		return;
	table.age = conn->streams[direction].position - event->table.position;
	conn->ops->table(conn->parser, direction, &table);
	flow__ask_table(flow, conn, direction, event->time_ns);
}

/* What is held of a connection goes on. */
static void flow__release(struct flow *flow, struct conn *conn)
{
	struct event event;
	size_t at = 0;

	while (held__next(&conn->held, &at, &event))
		flow__take_data(flow, conn, &event);
	flow__let_go(flow, conn);
}

static void flow__release_due(struct flow *flow)
{
	while (flow->holding && held__until(&flow->holding->held) <= flow->now_ns)
		flow__release(flow, flow->holding);
}

/* Holds what was read, until what was being written then is here. False: it must go on. */
static bool flow__hold(struct flow *flow, struct conn *conn, const struct event *event)
{
	size_t before = conn->held.events.size;

	if (!event->data.write_runs || flow->held_bytes >= HELD_MAX_ALL_BYTES ||
	    held__add(&conn->held, event))
		return false;
	if (!before)
		DL_APPEND2(flow->holding, conn, held_prev, held_next);
	flow->held_bytes += conn->held.events.size - before;
	return true;
}

/* A write, of which `event` tells, goes before what is held; but what was lost before that, first.
 */
static void flow__take_write(struct flow *flow, struct conn *conn, const struct event *event)
{
	struct event write = *event, held;
	size_t at = 0;

	if (held__next(&conn->held, &at, &held)) {
		write.data.other_position = held.data.position;
		write.data.other_lost_bytes = held.data.lost_bytes;
	}
	flow__take_data(flow, conn, &write);
}

/* Whether the record may not be the last of its call. */
static bool may_go_on(const struct event *event)
{
	size_t captured = event->data.bytes.size;

	return captured && captured == event->data.moved && captured % WIRE_PIECE_BYTES == 0;
}

static void flow__data(struct flow *flow, const struct event *event)
{
	struct conn *conn = flow__conn(flow, event, true);

	if (!conn) {
		flow->counts.out_of_memory++;
		return;
	}
	if (event->data.direction == WIRE_READ) {
		if (flow__hold(flow, conn, event))
			return;
		flow__release(flow, conn);
		flow__take_data(flow, conn, event);
		return;
	}
	if (!held__is_empty(&conn->held) && conn->held.first_ns < event->data.start_ns)
		flow__release(flow, conn); /* it is another call than those waited for */
	flow__take_write(flow, conn, event);
	if (!may_go_on(event))
		flow__release(flow, conn);
}

/* The probes walked over frames and left them out; what was lost came before. */
static void flow__frames(struct flow *flow, const struct event *event)
{
	enum wire_direction direction = event->frames.direction;
	struct passage when = {.first_ns = event->time_ns, .last_ns = event->time_ns};
	struct left_out left_out = {
		.streams = event->frames.streams,
		.count = event->frames.count,
		.left = event->frames.left,
		.stream = event->frames.stream,
	};
	struct conn *conn = flow__find(flow, event);
	struct stream *stream;
	uint64_t size, lost;

	if (!conn || conn->info.id.generation != event->connection.generation)
		return;
	flow__release(flow, conn);
	stream = &conn->streams[direction];
	if (event->frames.position < stream->position ||
	    event->frames.lost_bytes < stream->lost_bytes)
		return;
	size = event->frames.position - stream->position;
	lost = event->frames.lost_bytes - stream->lost_bytes;
	if (lost > size)
		lost = size;
	stream->position = event->frames.position;
	stream->lost_bytes = event->frames.lost_bytes;
	conn__gap(conn, direction, lost, GAP_LOST, &when);
	size -= lost;
	if (size && conn->ops)
		conn->ops->walked_frames(conn->parser, direction, size, &left_out, &when);
	else
		conn__gap(conn, direction, size, GAP_SKIPPED, &when);
}

static void flow__close(struct flow *flow, const struct event *event)
{
	struct conn *conn = flow__conn(flow, event, false);
	struct passage when = {.first_ns = event->time_ns, .last_ns = event->time_ns};

	if (!conn)
		return;
	flow__release(flow, conn);
	for (int d = 0; d < 2; d++) {
		struct stream *stream = &conn->streams[d];
		uint64_t lost = event->close.lost_bytes[d] - stream->lost_bytes;

		if (event->close.position[d] < stream->position ||
		    event->close.lost_bytes[d] < stream->lost_bytes)
			continue;
		stream->lost_bytes = event->close.lost_bytes[d];
		conn__step(conn, d, event->close.position[d] - stream->position, &lost,
			   event->close.body_bytes[d], &when);
	}
	switch (event->close.reason) {
	case WIRE_CLOSE_FREE:
		flow__end(flow, conn, END_CLOSED, event->time_ns);
		break;
	case WIRE_CLOSE_REUSE:
		flow__end(flow, conn, END_REUSED, event->time_ns);
		break;
	case WIRE_CLOSE_SHUTDOWN:
		if (conn->ops)
			conn->ops->end(conn->parser, WIRE_WRITE, END_STREAM, event->time_ns);
		break;
	case WIRE_CLOSE_EOF:
		if (conn->ops)
			conn->ops->end(conn->parser, WIRE_READ, END_STREAM, event->time_ns);
		break;
	case WIRE_CLOSE_NOT:
		break;
	}
}

static void flow__socket(struct flow *flow, const struct event *event)
{
	struct conn *conn = flow__find(flow, event);

	if (conn && conn->info.id.generation == event->connection.generation)
		conn__set_tuple(conn, event);
}

/* All connections of a process are over: it is gone, or runs something else. */
static void flow__end_process(struct flow *flow, struct process *process, uint64_t time_ns)
{
	struct conn *conn, *next;

	DL_FOREACH_SAFE2(process->conns, conn, next, of_next)
	flow__end(flow, conn, END_CLOSED, time_ns);
}

static void flow__executes(struct flow *flow, const struct event *event)
{
	struct process *process = flow__process(flow, event->pid);

	if (!process) {
		flow->counts.out_of_memory++;
		return;
	}
	flow__end_process(flow, process, event->time_ns);
	buf__clear(&process->path);
	if (buf__append(&process->path, event->process.path))
		flow->counts.out_of_memory++;
}

static void process__free(struct process *process)
{
	buf__free(&process->path);
	free(process);
}

static void flow__exits(struct flow *flow, const struct event *event)
{
	struct process *process;

	HASH_FIND(hh, flow->processes, &event->pid, sizeof(event->pid), process);
	if (!process)
		return;
	flow__end_process(flow, process, event->time_ns);
	HASH_DELETE(hh, flow->processes, process);
	process__free(process);
}

void flow__event(struct flow *flow, const struct event *event)
{
	flow->now_ns = flow->underway.now_ns = event->time_ns;
	switch (event->type) {
	case EVENT_DATA:
		flow__data(flow, event);
		break;
	case EVENT_CLOSE:
		flow__close(flow, event);
		break;
	case EVENT_PROCESS:
		flow__executes(flow, event);
		break;
	case EVENT_EXIT:
		flow__exits(flow, event);
		break;
	case EVENT_END:
		while (flow->quiet && !event->end.enough)
			flow__end(flow, flow->quiet, END_TRACE, event->time_ns);
		return;
	case EVENT_SOCKET:
		flow__socket(flow, event);
		break;
	case EVENT_FRAMES:
		flow__frames(flow, event);
		break;
	case EVENT_TABLE:
		flow__table(flow, event);
		break;
	case EVENT_TICK:
		break;
	}
	flow__release_due(flow);
	/* Last: what this event tells of a socket still counts. */
	waiting__release_due(&flow->waiting, event->time_ns);
	underway__tell_due(&flow->underway);
}

/* Of two times, of which 0 is none. */
static uint64_t earlier(uint64_t a, uint64_t b)
{
	if (!a || !b)
		return a | b;
	return a < b ? a : b;
}

uint64_t flow__waits_until(const struct flow *flow)
{
	uint64_t held = flow->holding ? held__until(&flow->holding->held) : 0;

	return earlier(earlier(waiting__until(&flow->waiting), underway__until(&flow->underway)),
		       held);
}

void flow__free(struct flow *flow)
{
	struct process *process, *next;

	if (!flow)
		return;
	while (flow->quiet)
		flow__remove(flow, flow->quiet);
	exchange_pool__free(&flow->pool);
	HASH_ITER(hh, flow->processes, process, next)
	{
		HASH_DELETE(hh, flow->processes, process);
		process__free(process);
	}
	free(flow);
}
