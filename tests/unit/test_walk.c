/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's walks over messages and frames and the program that confirms them, together:
 * probes/walk.h and frames.h themselves, with BPF's helpers replaced, feed a flow that directs
 * them. Whatever the bodies, the calls and the delays, the exchanges are those of a flow that gets
 * every byte.
 */
#include "flow/flow.h"
#include "proto/parser.h"
#include "records.h"
#include "state.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what walk.h needs of common.h ---- */

#define TLSTRACE_COMMON_H
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif

struct call {
	__u64 buffer;
	__u64 moved;
	__u64 reported;
	__u64 wanted;
	__u64 tail;
	__u64 walked;
	__u64 keep;
	__u64 keep_end;
	__u64 payload;
	__u64 payload_before;
	__u64 mark;
	__u64 mark_payload;
	__u64 unplaced;
	__u8 marked;
	__u8 split;
	__u8 ended;
	__u8 confirmed;
	__u8 frames;
	struct frame_sums sums;
};

/* The memory that can be read: a call's buffer. */
static struct {
	const char *start;
	size_t size;
	unsigned int fail_in; /* reads until one finds the page not resident; 0: none does */
} memory;

static long read_memory(void *to, size_t size, const void *from)
{
	const char *start = from;

	cr_assert(start >= memory.start && start + size <= memory.start + memory.size,
		  "a read outside the call's buffer");
	if (memory.fail_in && --memory.fail_in == 0)
		return -14;
	memcpy(to, from, size);
	return 0;
}

#define bpf_probe_read_user(to, size, from) read_memory(to, size, from)
#define bpf_loop(count, step, context, flags)                                                      \
	do {                                                                                       \
		for (__u32 at = 0; at < (count) && !step(at, context); at++)                       \
			;                                                                          \
	} while (0)

int find_in_block(__u64 address, __u64 size);
int find_line_end(__u64 address, __u64 size);
int parse_method(__u64 address, __u64 size);
long parse_length(__u64 address, __u64 size);
int is_chunked(__u64 address, __u64 size);
int may_be_response(__u64 address, __u64 size);
int frame_sums__add(struct frame_sums *sums, __u32 stream, __u64 size);
int frames__next(struct walk *walk, struct call *call);
int walk__call(struct walk *walk, struct call *call, __u64 position);

static void frame_sums__clear(struct frame_sums *sums)
{
	memset(sums, 0, sizeof(*sums));
}

#include "frames.h"

/* ---- random numbers ---- */

static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 11) % limit;
}

static bool one_in(uint64_t count)
{
	return random_below(count) == 0;
}

/* ---- a conversation: what one side writes, responses or (`requests`) requests ---- */

#define STREAM_MAX   (16 << 20)
#define MESSAGES_MAX 6
#define CALLS_MAX    (STREAM_MAX / 64)

static struct {
	char bytes[STREAM_MAX];
	size_t size;
	size_t calls[CALLS_MAX]; /* where each ends */
	size_t call_count;
	size_t heads[MESSAGES_MAX]; /* where heads end */
	const char *methods[MESSAGES_MAX];
	size_t messages;
	bool requests;
	bool malformed;
	bool frames; /* of HTTP/2 */
} stream;

static void put(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void put(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	stream.size += (size_t)vsnprintf(stream.bytes + stream.size, STREAM_MAX - stream.size,
					 format, args);
	va_end(args);
}

/* Payload that is full of what could be taken for framing. */
static void put_payload(size_t size)
{
	static const char letters[] = "0123456789abcdef\r\n\r\n;x";

	for (size_t i = 0; i < size; i++)
		stream.bytes[stream.size++] = letters[random_below(sizeof(letters) - 1)];
}

static void put_chunked(size_t size, size_t chunk_max, bool extensions, size_t breaks_in)
{
	bool upper = one_in(2), padded = one_in(3), mixed = one_in(2);

	while (size) {
		size_t chunk = 1 + random_below(mixed && one_in(8) ? 300000 : chunk_max);

		if (chunk > size)
			chunk = size;
		size -= chunk;
		put(upper ? "%s%zX%s\r\n" : "%s%zx%s\r\n", padded ? "00" : "", chunk,
		    extensions && one_in(20) ? ";name=\"value\"" : "");
		put_payload(chunk);
		if (breaks_in && --breaks_in == 0)
			put(one_in(2) ? "?" : "\n\n");
		put("\r\n");
	}
	put("0\r\n%s\r\n", one_in(2) ? "X-Check: done\r\nX-More: 1\r\n" : "");
}

/* A body that begins, and goes on, like messages that hide all that follows. */
static void put_hostile(size_t size)
{
	size_t end = stream.size + size;

	while (stream.size + 100 < end)
		put("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n%s",
		    one_in(3) ? "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" : "");
	put_payload(end - stream.size);
}

static void make_message(size_t number)
{
	static const char *const lengths[] = {"Content-Length: ", "content-length:",
					      "CONTENT-LENGTH: ", "Content-Length:  ",
					      "Content-Length : "};
	static const char *const codings[] = {"Transfer-Encoding: chunked",
					      "TRANSFER-ENCODING:Chunked",
					      "Transfer-Encoding:\r\n chunked",
					      "Content-Length: 7\r\nTransfer-Encoding: chunked"};
	static const size_t chunk_sizes[] = {16, 2000, 16384, 30000, 400000};
	size_t size = random_below(one_in(3) ? 2000 : 900000);
	bool chunked = one_in(2), breaks = stream.malformed && one_in(2);
	unsigned int status = one_in(8) ? 304 : one_in(8) ? 204 : 200;
	const char *method = one_in(6) ? "HEAD" : "GET";
	bool body = strcmp(method, "GET") == 0 && status == 200;

	if (stream.requests) {
		method = one_in(6) ? "GET" : "POST";
		body = strcmp(method, "POST") == 0;
		put("%s /%zu HTTP/1.1\r\n", method, number);
	} else {
		if (one_in(6))
			put("HTTP/1.1 100 Continue\r\n\r\n");
		put("HTTP/1.1 %u OK\r\nX-Number: %zu\r\n", status, number);
	}
	stream.methods[number] = method;
	if (!stream.requests || body) {
		if (chunked)
			put("%s", codings[one_in(2) ? 0 : random_below(4)]);
		else
			put("%s%zu%s", lengths[one_in(2) ? 0 : random_below(5)], size,
			    one_in(8) ? " " : "");
		put("\r\n");
	}
	put("\r\n");
	stream.heads[stream.messages++] = stream.size;
	if (!body)
		return;
	if (chunked)
		put_chunked(size, chunk_sizes[random_below(5)], one_in(4),
			    breaks ? 1 + random_below(20) : 0);
	else if (one_in(4))
		put_hostile(size);
	else
		put_payload(size);
}

/* Calls of random sizes; that which writes a head ends with it, or goes on into the body. */
static void make_calls(void)
{
	static const size_t sizes[] = {200, 4000, 20000};
	size_t longest = sizes[random_below(3)], at = 0, head = 0;
	bool by_themselves = !one_in(3);

	stream.call_count = 0;
	while (at < stream.size && stream.call_count < CALLS_MAX) {
		size_t size = longest - random_below(one_in(2) ? longest : 1);

		while (head < stream.messages && stream.heads[head] <= at)
			head++;
		if (at + size > stream.size)
			size = stream.size - at;
		if (by_themselves && head < stream.messages && at + size > stream.heads[head])
			size = stream.heads[head] - at;
		at += size;
		stream.calls[stream.call_count++] = at;
	}
	cr_assert_eq(at, stream.size);
}

static void make_stream(bool malformed)
{
	size_t count = 1 + random_below(MESSAGES_MAX);

	stream.size = stream.messages = 0;
	stream.requests = one_in(3);
	stream.malformed = malformed;
	stream.frames = false;
	for (size_t i = 0; i < count; i++)
		make_message(i);
	make_calls();
}

/* ---- the same in HTTP/2: responses on streams 1, 3, 5 ... ---- */

enum frame_type {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
	UNKNOWN = 0x20
};

#define END_STREAM  0x01
#define END_HEADERS 0x04
#define PADDED	    0x08

static void put_frame_head(size_t size, enum frame_type type, unsigned int flags, uint32_t id)
{
	const char head[] = {(char)(size >> 16), (char)(size >> 8), (char)size,
			     (char)type,	 (char)flags,	    (char)(id >> 24),
			     (char)(id >> 16),	 (char)(id >> 8),   (char)id};

	memcpy(stream.bytes + stream.size, head, sizeof(head));
	stream.size += sizeof(head);
}

static void put_frame(enum frame_type type, unsigned int flags, uint32_t id, const char *payload,
		      size_t size)
{
	put_frame_head(size, type, flags, id);
	memcpy(stream.bytes + stream.size, payload, size);
	stream.size += size;
}

/* Payload that is full of frames. */
static void put_frames_in_payload(size_t size)
{
	size_t end = stream.size + size;

	while (stream.size + 40 < end) {
		put_frame_head(one_in(2) ? 1 << 20 : random_below(2000), one_in(2) ? DATA : HEADERS,
			       one_in(2) ? END_STREAM : 0, 1 + 2 * (uint32_t)random_below(4));
		put("%s", one_in(2) ? "abc" : "");
	}
	put_payload(end - stream.size);
}

static void put_data(uint32_t id, size_t size, bool last, bool hostile)
{
	unsigned int flags = last ? END_STREAM : one_in(50) ? 0x40 : 0;
	size_t padding = one_in(60) ? random_below(256) : 0;

	put_frame_head(padding ? size + 1 + padding : size, DATA, padding ? flags | PADDED : flags,
		       id);
	if (padding)
		stream.bytes[stream.size++] = (char)padding;
	if (hostile)
		put_frames_in_payload(size);
	else
		put_payload(size);
	for (size_t i = 0; i < padding; i++)
		stream.bytes[stream.size++] = 0;
}

/* What else there may be between frames. */
static void put_control(uint32_t id)
{
	switch (random_below(5)) {
	case 0:
		put_frame(PING, 0, 0, "12345678", 8);
		break;
	case 1:
		put_frame(WINDOW_UPDATE, 0, one_in(2) ? id : 0, "\0\0\1\0", 4);
		break;
	case 2:
		put_frame(UNKNOWN, (unsigned int)random_below(256), id, "what?", random_below(6));
		break;
	case 3:
		put_frame(SETTINGS, 0, 0, "\0\4\0\1\0\0", 6);
		break;
	case 4:
		put_frame(PRIORITY, 0, id, "\0\0\0\0\7", 5);
		break;
	}
}

static void put_end(uint32_t id, size_t size, bool hostile)
{
	static const char trailers[] = "\0\5check\4done";

	if (one_in(3)) {
		put_data(id, size, false, hostile);
		put_frame(HEADERS, END_STREAM | (one_in(2) ? END_HEADERS : 0), id, trailers,
			  sizeof(trailers) - 1);
		if (!(stream.bytes[stream.size - sizeof(trailers) - 4] & END_HEADERS))
			put_frame(CONTINUATION, END_HEADERS, id, "", 0);
	} else if (one_in(3)) {
		put_data(id, size, false, hostile);
		put_data(id, 0, true, false);
	} else if (one_in(12)) {
		put_data(id, size, false, hostile);
		put_frame(RST_STREAM, 0, id, "\0\0\0\2", 4);
	} else {
		put_data(id, size, true, hostile);
	}
}

static void put_malformed(void)
{
	switch (random_below(3)) {
	case 0:
		put_frame(PING, 0, 0, "1234567", 7);
		break;
	case 1:
		put_data(0, 2000, false, false);
		break;
	case 2:
		put_payload(1 + random_below(20000));
		break;
	}
}

#define STREAMS_MAX 10

static void make_frames(bool malformed)
{
	static const size_t sizes[] = {300, 1500, 8192, 16384, 70000};
	size_t longest = sizes[random_below(5)], left[STREAMS_MAX], count, open = 0, begun = 0;
	size_t breaks_in = malformed ? random_below(60) : SIZE_MAX;
	bool hostile = one_in(3), controls = one_in(2), begins;

	memset(&stream.heads, 0, sizeof(stream.heads));
	stream.size = stream.messages = 0;
	stream.requests = false;
	stream.malformed = malformed;
	stream.frames = true;
	count = 1 + random_below(STREAMS_MAX);
	put_frame(SETTINGS, 0, 0, "\0\3\0\0\0\144", 6);
	while (begun < count || open) {
		size_t i = random_below(count),
		       size = longest - random_below(one_in(2) ? longest : 1);
		uint32_t id = (uint32_t)(2 * i + 1);

		begins = begun < count && (!open || one_in(20));
		if (breaks_in-- == 0)
			put_malformed();
		if (begins) {
			if (stream.messages < MESSAGES_MAX)
				stream.heads[stream.messages++] = stream.size;
			left[begun] = one_in(4) ? random_below(2000) : random_below(900000);
			put_frame(HEADERS, END_HEADERS, (uint32_t)(2 * begun++ + 1), "\x88", 1);
			open++;
			continue;
		}
		if (i >= begun || left[i] == SIZE_MAX)
			continue;
		if (controls && one_in(8))
			put_control(id);
		if (size >= left[i]) {
			put_end(id, left[i], hostile);
			left[i] = SIZE_MAX;
			open--;
		} else {
			put_data(id, size, false, hostile);
			left[i] -= size;
		}
	}
	put_frame(GOAWAY, 0, 0, "\0\0\0\77\0\0\0\0", 8);
	make_calls();
}

/* ---- the kernel: what commit() in commit.bpf.c does with a call ---- */

#define RING_MAX 4096

struct run {
	struct flow *flow;
	struct source source;
	char text[4096];
	size_t text_size;
	struct walk walk;
	struct directive directive;
	bool directed;
	struct bytes ring[RING_MAX];
	size_t first, end;
	unsigned int lose_one_in; /* records */
	uint64_t captured;
	uint64_t walked;
	uint64_t confirmed;
	uint64_t told; /* records of frames */
};

static void on_exchange(void *context, const struct exchange *exchange, struct bytes executable)
{
	struct run *run = context;

	run->text_size += (size_t)
		snprintf(run->text + run->text_size, sizeof(run->text) - run->text_size,
			 "%.*s %u %llu/%llu trailers %zu %s\n", (int)exchange->path.size,
			 exchange->path.size ? (const char *)buf__view(&exchange->path).data : "",
			 exchange->status, (unsigned long long)exchange->request.body_bytes,
			 (unsigned long long)exchange->response.body_bytes,
			 exchange->request.trailers.count + exchange->response.trailers.count,
			 exchange->reason ? "incomplete" : "ok");
}

static void on_directive(void *context, const struct directive *directive)
{
	struct run *run = context;

	if (directive->direction != WIRE_WRITE)
		return;
	run->confirmed += directive->walk_from && directive->walk_from != run->directive.walk_from;
	run->directive = *directive;
	run->directed = true;
}

static void run__begin(struct run *run, bool directs)
{
	struct flow_callbacks callbacks = {
		.context = run,
		.exchange = on_exchange,
		.directive = directs ? on_directive : NULL,
	};

	memset(run, 0, sizeof(*run));
	run->source = source__of(7, 0x1000);
	cr_assert_eq(flow__new(&callbacks, &run->flow), 0);
}

/* The program takes the oldest records. */
static void run__consume(struct run *run, size_t count)
{
	while (count-- && run->first < run->end) {
		struct bytes record = run->ring[run->first++ % RING_MAX];
		struct event event;

		cr_assert_eq(intake__event(record, &event), 0);
		flow__event(run->flow, &event);
		record__free(record);
	}
}

static void run__put(struct run *run, struct bytes record)
{
	if (run->end - run->first == RING_MAX)
		run__consume(run, 1);
	run->ring[run->end++ % RING_MAX] = record;
}

/* A record of `size` captured bytes, and of `tail` behind them that were left out. */
static void run__report(struct run *run, const struct call *call, size_t from, size_t size,
			size_t tail)
{
	struct source *source = &run->source;

	source->flags = WIRE_FROM_START | (from ? 0 : WIRE_CALL_START);
	source->walk_from[WIRE_WRITE] = walk__name(&run->walk);
	if (run->lose_one_in && one_in(run->lose_one_in)) {
		source__lose(source, WIRE_WRITE, size + tail);
		return;
	}
	run->captured += size;
	run__put(run, source__data(source, WIRE_WRITE,
				   bytes__of((const char *)(uintptr_t)call->buffer + from, size),
				   (uint32_t)(size + tail)));
}

/* What report_frames() does. */
static void run__tell(struct run *run, uint64_t position, uint32_t left)
{
	struct wire_frames_stream streams[WIRE_FRAMES_STREAMS];
	struct source *source = &run->source;
	struct walk *walk = &run->walk;
	uint64_t told = walk->told;
	size_t count = 0;

	for (size_t i = 0; i < WIRE_FRAMES_STREAMS && walk->sums.streams[i]; i++)
		streams[count++] = (struct wire_frames_stream){
			.payload = walk->sums.payload[i],
			.stream = walk->sums.streams[i],
		};
	frames__tell(walk, position);
	source->position[WIRE_WRITE] = position;
	if (run->lose_one_in && one_in(run->lose_one_in)) {
		source->lost_bytes[WIRE_WRITE] += position - told;
		return;
	}
	run->told++;
	run__put(run, source__frames(source, WIRE_WRITE, streams, count, left, walk->stream));
}

static bool may_start_message(const char *bytes, size_t size)
{
	if (bytes[0] < 'A' || bytes[0] > 'Z')
		return false;
	return size < 4 ||
	       (bytes[1] >= 'A' && bytes[1] <= 'Z' && bytes[2] >= 'A' && bytes[2] <= 'Z');
}

static void run__write(struct run *run, const char *bytes, size_t size)
{
	const struct directive *directive = &run->directive;
	struct source *source = &run->source;
	uint64_t position = source->position[WIRE_WRITE];
	struct call call = {.buffer = (uintptr_t)bytes, .moved = size, .wanted = size};
	bool report = true;

	call.confirmed = run->directed && walk__is_called(&run->walk, directive->walk_from);
	walk__call(&run->walk, &call, position);
	if (call.confirmed) {
		report = walk__leave_out(&run->walk, &call);
		source->body_bytes[WIRE_WRITE] += call.payload_before;
		source->lost_bytes[WIRE_WRITE] += call.unplaced;
		if (call.frames) {
			report = call.keep_end;
			if (report && frames__owe(&run->walk, &call, position + call.keep))
				run__tell(run, position + call.keep, 0);
		}
		run->walked += size - (report ? call.wanted - call.reported : 0);
	} else if (run->directed) {
		if (position + size < directive->skip_until)
			report = false;
		else if (position < directive->skip_until)
			call.reported = directive->skip_until - position;
		else if (directive->watch)
			report = may_start_message(bytes, size);
	}
	source->position[WIRE_WRITE] = position + call.reported;
	for (size_t at = call.reported, piece; report; at += piece) {
		bool last = call.wanted - at <= WIRE_PIECE_BYTES;

		piece = last ? call.wanted - at : WIRE_PIECE_BYTES;
		run__report(run, &call, at, piece, last ? call.tail : 0);
		if (last)
			break;
	}
	if (call.confirmed)
		source->body_bytes[WIRE_WRITE] += call.payload;
	source->position[WIRE_WRITE] = position + size;
	if (call.frames) {
		frames__end_call(&run->walk, &call, position);
		if (call.ended && frames__owe(&run->walk, &call, position + size))
			run__tell(run, position + size, (uint32_t)run->walk.remaining);
	}
}

static void run__read(struct run *run, const void *bytes, size_t size)
{
	run->source.flags = WIRE_FROM_START | WIRE_CALL_START;
	run__put(run,
		 source__data(&run->source, WIRE_READ, bytes__of(bytes, size), (uint32_t)size));
}

/* The requests of HTTP/2, all at once: GET https://h/1 and so on. */
static void run__request_streams(struct run *run)
{
	static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	char text[1024];
	size_t used = sizeof(start) - 1;

	memcpy(text, start, used);
	for (char i = 0; i < STREAMS_MAX; i++) {
		const char frame[] = {0,
				      0,
				      9,
				      1,
				      END_STREAM | END_HEADERS,
				      0,
				      0,
				      0,
				      (char)(2 * i + 1),
				      '\x82',
				      '\x87',
				      4,
				      2,
				      '/',
				      (char)('0' + i),
				      1,
				      1,
				      'h'};

		memcpy(text + used, frame, sizeof(frame));
		used += sizeof(frame);
	}
	run__read(run, text, used);
}

/* What the other side writes, all at once. */
static void run__other(struct run *run)
{
	char text[1024];
	size_t used = 0;

	if (stream.frames) {
		run__request_streams(run);
		return;
	}
	for (size_t i = 0; i < stream.messages; i++)
		if (stream.requests)
			used += (size_t)snprintf(text + used, sizeof(text) - used,
						 "HTTP/1.1 20%zu OK\r\nContent-Length: 0\r\n\r\n",
						 i);
		else
			used += (size_t)snprintf(text + used, sizeof(text) - used,
						 "%s /%zu HTTP/1.1\r\nHost: h\r\n\r\n",
						 stream.methods[i], i);
	run__read(run, text, used);
}

/* The whole conversation; the program is `lag` records behind at most, and catches up at times. */
static void run__converse(struct run *run, size_t lag, bool page_faults)
{
	size_t at = 0;

	if (!stream.requests)
		run__other(run);
	for (size_t i = 0; i < stream.call_count; i++) {
		size_t size = stream.calls[i] - at;

		memory.start = stream.bytes + at;
		memory.size = size;
		memory.fail_in = page_faults && one_in(50) ? 1 + (unsigned int)random_below(20) : 0;
		run__write(run, stream.bytes + at, size);
		at += size;
		if (run->end - run->first > lag)
			run__consume(run, 1 + random_below(lag + 1));
	}
	if (stream.requests)
		run__other(run);
	run->source.flags = WIRE_FROM_START;
	run__put(run, source__close(&run->source, WIRE_CLOSE_FREE));
	run__consume(run, SIZE_MAX);
	flow__free(run->flow);
}

static struct run plain, walked;

/* Feeds one conversation with all bytes, and one as the kernel would. */
static void converse(void (*make)(bool malformed), uint64_t seed, bool malformed, bool page_faults,
		     unsigned int lose_one_in)
{
	static const size_t lags[] = {0, 1, 8, 40};

	random_state = seed * 0x9e3779b97f4a7c15 + 1;
	make(malformed);
	run__begin(&plain, false);
	run__converse(&plain, 0, false);
	run__begin(&walked, true);
	walked.lose_one_in = lose_one_in;
	run__converse(&walked, lags[random_below(4)], page_faults);
}

#define CONVERSATIONS 150

Test(walk, as_if_all_had_been_captured)
{
	uint64_t captured = 0, passed = 0, confirmed = 0, left_out = 0;

	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_stream, seed, false, false, 0);
		cr_assert_str_eq(walked.text, plain.text, "seed %llu: got\n%snot\n%s",
				 (unsigned long long)seed, walked.text, plain.text);
		captured += walked.captured;
		passed += plain.captured;
		confirmed += walked.confirmed;
		left_out += walked.walked;
	}
	cr_expect_gt(confirmed, CONVERSATIONS / 10);
	cr_expect_gt(left_out, passed / 20);
	cr_expect_lt(captured, passed * 3 / 4);
}

/* Whether each exchange that is complete in `got` is one in `wanted`, with the same numbers. */
static bool only_true(const char *got, const char *wanted)
{
	for (const char *line = got; *line; line = strchr(line, '\n') + 1) {
		size_t size = (size_t)(strchr(line, '\n') + 1 - line);
		bool found = false;

		if (strncmp(line + size - 4, " ok\n", 4) != 0)
			continue;
		for (const char *each = wanted; *each && !found; each = strchr(each, '\n') + 1)
			found = strncmp(each, line, size) == 0;
		if (!found)
			return false;
	}
	return true;
}

Test(walk, what_is_lost_is_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_stream, seed, false, false, 2 + seed % 60);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

/* A page that is not resident ends a walk where it is. */
Test(walk, what_cannot_be_read_is_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_stream, seed, false, true, 0);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

Test(walk, malformed_bodies_are_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_stream, seed, true, false, 0);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

/* Calls, walked by what walk.h says alone. */
static void walk_calls(struct walk *walk, struct call *call, const char *const *calls)
{
	uint64_t position = 100;

	*walk = (struct walk){0};
	for (; *calls; calls++) {
		*call = (struct call){.buffer = (uintptr_t)*calls, .moved = strlen(*calls)};
		memory.start = *calls;
		memory.size = strlen(*calls);
		memory.fail_in = 0;
		/* As if it were large, in whatever phase the walk is not on. */
		if (walk->phase == WALK_OFF && calls[0][0]) {
			walk->start = position;
			walk->flags = 0;
			walk->phase = WALK_START;
		}
		walk__over(walk, call);
		position += call->moved;
	}
}

#define WALK(walk, call, ...) walk_calls(walk, call, (const char *const[]){__VA_ARGS__, NULL})
#define OK		      "HTTP/1.1 200 OK\r\n"
#define LENGTH		      OK "Content-Length: 10\r\n\r\n"
#define CHUNKED		      OK "Transfer-Encoding: chunked\r\n\r\n"
#define POST		      "POST / HTTP/1.1\r\n"

static void expect_keep(const struct call *call, size_t from, size_t end, int line)
{
	cr_expect(call->keep == from && call->keep_end == end, "line %d: kept %llu to %llu", line,
		  (unsigned long long)call->keep, (unsigned long long)call->keep_end);
}

#define KEEPS(call, from, end) expect_keep(call, from, end, __LINE__)

Test(walk, what_is_kept_of_chunks)
{
	size_t head = strlen(CHUNKED);
	struct walk walk;
	struct call call;

	WALK(&walk, &call, CHUNKED "3\r\nabc\r\n5\r\nab");
	KEEPS(&call, 0, head);
	cr_expect_eq(call.payload, 5);
	WALK(&walk, &call, CHUNKED, "3\r\nabc\r\n5\r\nab");
	KEEPS(&call, 0, 0);
	cr_expect_eq(call.payload, 5);
	cr_expect_eq(walk__name(&walk), 101);
	/* From a size line that this call does not complete ... */
	WALK(&walk, &call, CHUNKED, "3\r\nabc\r\n5\r");
	KEEPS(&call, 8, 10);
	cr_expect_eq(call.payload_before, 3);
	/* ... and the rest of it. */
	WALK(&walk, &call, CHUNKED, "3\r\nabc\r\n5\r", "\nabcde\r\n");
	KEEPS(&call, 0, 1);
	cr_expect_eq(call.payload, 5);
	/* The last line and the trailers are kept, with the next head. */
	WALK(&walk, &call, CHUNKED, "3\r\nabc\r\n0\r\nA: 1\r\n\r\n" LENGTH "01234");
	KEEPS(&call, 8, 8 + 11 + strlen(LENGTH));
	cr_expect_eq(call.payload_before, 3);
	cr_expect_eq(walk.phase, WALK_LENGTH);
	cr_expect_eq(walk.remaining, 5);
	/* What is no chunk ends the walk. */
	WALK(&walk, &call, CHUNKED, "3\r\nabc\r\n5;a=b\r\nabcde\r\n");
	KEEPS(&call, 8, 22);
	cr_expect_eq(walk.phase, WALK_OFF);
	WALK(&walk, &call, CHUNKED, "3\r\nabc\r\n1\r\nab\n");
	KEEPS(&call, 8, 14);
	cr_expect_eq(walk.phase, WALK_OFF);
	WALK(&walk, &call, CHUNKED "1000000000000\r\n");
	cr_expect_eq(walk.phase, WALK_OFF);
	WALK(&walk, &call, CHUNKED "ffffffffffff\r\n");
	cr_expect_eq(walk.remaining, 0xffffffffffff);
	/* In the midst of a chunk whose beginning was left out, the parser has no place. */
	WALK(&walk, &call, CHUNKED, "5\r\nabc", "deX");
	cr_expect_eq(walk.phase, WALK_OFF);
	cr_expect_eq(call.unplaced, 3);
}

Test(walk, what_is_kept_of_bodies_of_known_length)
{
	size_t head = strlen(LENGTH);
	struct walk walk;
	struct call call;

	WALK(&walk, &call, LENGTH "01234");
	KEEPS(&call, 0, head);
	WALK(&walk, &call, LENGTH "0123456789");
	KEEPS(&call, 0, head);
	cr_expect_eq(walk.phase, WALK_START);
	cr_expect_eq(call.ended, 1);
	cr_expect(walk__leave_out(&walk, &call));
	cr_expect_eq(call.tail, 10);
	WALK(&walk, &call, LENGTH, "01234");
	KEEPS(&call, 0, 0);
	cr_expect_not(walk__leave_out(&walk, &call));
	WALK(&walk, &call, LENGTH, "01234", "56789");
	KEEPS(&call, 0, 0);
	cr_expect(walk__leave_out(&walk, &call));
	cr_expect_eq(call.reported, 5);
	/* A message behind a body, in the same call. */
	WALK(&walk, &call, LENGTH, "01234", "56789" LENGTH "0");
	KEEPS(&call, 5, 5 + head);
	WALK(&walk, &call, POST "content-length:2\r\n\r\nab" POST "\r\n");
	KEEPS(&call, 0, call.moved);
	cr_expect_eq(walk.phase, WALK_START);
	/* A head in two calls, between lines. */
	WALK(&walk, &call, OK, "Content-Length: 2\r\n\r\nab");
	cr_expect_eq(walk.phase, WALK_START);
	KEEPS(&call, 0, call.moved - 2);
	WALK(&walk, &call, OK "Content-", "Length: 2\r\n\r\nab");
	cr_expect_eq(walk.phase, WALK_OFF);
	/* What may be the response after one to HEAD. */
	WALK(&walk, &call, LENGTH "HTTP/1.1 2");
	cr_expect_eq(walk.phase, WALK_OFF);
	KEEPS(&call, 0, call.moved);
	for (size_t size = 1; size <= 7; size++) {
		char begin[8] = {0};

		memcpy(begin, "HTTP/1.1", size);
		WALK(&walk, &call, LENGTH, begin);
		cr_expect_eq(walk.phase, WALK_OFF, "%zu", size);
		KEEPS(&call, 0, size);
	}
	WALK(&walk, &call, LENGTH, "\r\nHTTP/1.");
	cr_expect_eq(walk.phase, WALK_OFF);
	WALK(&walk, &call, LENGTH, "\r\n<html>");
	cr_expect_eq(walk.phase, WALK_LENGTH);
	WALK(&walk, &call, LENGTH, "HTTP 1.");
	cr_expect_eq(walk.phase, WALK_LENGTH);
}

/* ---- a head that the walk takes, the parser takes the same way ---- */

static bool on_done(void *context, struct exchange *exchange)
{
	return false;
}

/* Where the parser is behind a head. */
static void parse_head(const char *head, bool request, bool *ret_next, bool *ret_chunked,
		       uint64_t *ret_length)
{
	static const struct passage when = {.first_ns = 1, .last_ns = 2};
	struct connection connection = {0};
	struct pairing *pairing;
	struct parser *parser;

	cr_assert_eq(pairing__new(&connection, on_done, NULL, &pairing), 0);
	cr_assert_eq(http1_ops.open(pairing, &connection, true, &parser), 0);
	if (!request)
		http1_ops.data(parser, WIRE_READ, bytes__str("GET / HTTP/1.1\r\n\r\n"), true,
			       &when);
	http1_ops.data(parser, WIRE_WRITE, bytes__str(head), true, &when);
	*ret_length = http1_ops.skippable(parser, WIRE_WRITE);
	/* A message can follow, or a chunk. */
	http1_ops.data(parser, WIRE_WRITE, bytes__str("d"), true, &when);
	*ret_next = !*ret_length && http1_ops.searching(parser, WIRE_WRITE) == !request &&
		    http1_ops.began(parser, WIRE_WRITE) == request;
	http1_ops.data(parser, WIRE_WRITE, bytes__str("\r\n"), true, &when);
	*ret_chunked = !*ret_length && http1_ops.skippable(parser, WIRE_WRITE) == 13;
	http1_ops.free(parser);
	pairing__free(pairing);
}

Test(walk, never_laxer_than_the_parser)
{
	static const char *const starts[] = {
		"HTTP/1.1 200 OK\r\n",	  "HTTP/1.1 200\r\n",		"HTTP/1.1 204 No\r\n",
		"HTTP/1.1 304 Not\r\n",	  "HTTP/1.1 100 Continue\r\n",	"HTTP/1.1 101 S\r\n",
		"HTTP/1.0 200 OK\r\n",	  "HTTP/1.1 2000 OK\r\n",	"HTTP/1.1 099 OK\r\n",
		"HTTP/1.1  200 OK\r\n",	  "HTTP/1.1 500 E\n",		"HTTP/1.2 200 OK\r\n",
		"POST / HTTP/1.1\r\n",	  "GET /a b HTTP/1.1\r\n",	"GET  HTTP/1.1\r\n",
		"GET / HTTP/1.0\r\n",	  "CONNECT h:443 HTTP/1.1\r\n", "G(T / HTTP/1.1\r\n",
		"get / HTTP/1.1\r\n",	  "PUT / HTTP/1.1 \r\n",	"PUT /\tHTTP/1.1\r\n",
		"DELETE  / HTTP/1.1\r\n", "PUT / HTTP/1.1\n",
	};
	static const char *const fields[] = {
		"Host: h\r\n",
		"Content-Length: 10\r\n",
		"CONTENT-length:10\r\n",
		"Content-Length: 10 \r\n",
		"Content-Length:  10\r\n",
		"Content-Length: 10\n",
		"Content-Length : 10\r\n",
		" Content-Length: 11\r\n",
		"\tx\r\n",
		"Content-Length\r\n",
		"Content-Length: \r\n",
		"Content-Length: +10\r\n",
		"Content-Length: 10, 10\r\n",
		"Content-Length: 10\r\r\n",
		"Content-Length: 0\r\n",
		"Content-Length: 00012\r\n",
		"Content-Length: 9223372036854775808\r\n",
		"Content-Length: 999999999999999\r\n",
		"Content-Length: 9999999999999999\r\n",
		"Content-Length: 1x\r\n",
		"Content-Lengths: 10\r\n",
		"Content\rLength: 10\r\n",
		"X-Content-Length: 10\r\n",
		"Transfer-Encoding: chunked\r\n",
		"transfer-encoding:CHUNKED\r\n",
		"Transfer-Encoding: chunked \r\n",
		"Transfer-Encoding: gzip, chunked\r\n",
		"Transfer-Encoding: chunked, gzip\r\n",
		"Transfer-Encoding: identity\r\n",
		"Transfer-Encoding: chunkes\r\n",
		"Transfer-Encoding : chunked\r\n",
		"Transfer-Encodings: chunked\r\n",
		"Transfer\rEncoding: chunked\r\n",
		"Transfer-Encoding:\r\n",
		"Upgrade: h2c\r\n",
		": x\r\n",
		"\r: x\r\n",
	};
	const size_t field_count = sizeof(fields) / sizeof(fields[0]);
	size_t taken = 0;

	for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
		for (size_t i = 0; i < field_count * field_count; i++) {
			const char *first = fields[i / field_count],
				   *second = fields[i % field_count];
			bool request = starts[s][0] != 'H', next, chunked;
			struct walk walk;
			struct call call;
			char head[256];
			uint64_t length;

			snprintf(head, sizeof(head), "%s%s%s\r\n", starts[s], first, second);
			WALK(&walk, &call, head);
			if (walk.phase == WALK_OFF)
				continue;
			taken++;
			parse_head(head, request, &next, &chunked, &length);
			if (walk.phase == WALK_START)
				cr_assert(next, "%s", head);
			else if (walk.phase == WALK_SIZE)
				cr_assert(chunked, "%s", head);
			else
				cr_assert(length && length == walk.remaining, "%s", head);
		}
	cr_expect_gt(taken, 1000);
}

/* Small messages cost a walk nothing for long. */
Test(walk, streams_of_small_messages_are_left_alone)
{
	static const char small[] = "HTTP/1.1 204 No Content\r\nServer: s\r\n\r\n";
	static char large[WORTH_BYTES + 1];
	struct walk walk = {0};
	struct call call;

	memset(large, 'a', WORTH_BYTES);
	memcpy(large, LENGTH, strlen(LENGTH));
	for (unsigned int i = 0; i < 2 * IDLE_MAX; i++) {
		call = (struct call){.buffer = (uintptr_t)small, .moved = strlen(small)};
		memory.start = small;
		memory.size = strlen(small);
		walk__call(&walk, &call, i);
		cr_expect_eq(walk.phase == WALK_OFF, i >= IDLE_MAX - 1, "%u", i);
	}
	memory.size = 0; /* not even read */
	walk__call(&walk, &call, 0);
	call = (struct call){.buffer = (uintptr_t)large, .moved = WORTH_BYTES};
	memory.start = large;
	memory.size = WORTH_BYTES;
	walk__suspect(&walk, &call, 5);
	cr_expect_eq(walk__name(&walk), 6);
}

Test(walk, where_a_line_ends)
{
	static char bytes[LINE_MAX_BLOCKS * LINE_BLOCK_BYTES + 64];
	size_t most = LINE_MAX_BLOCKS * LINE_BLOCK_BYTES;

	memory.start = bytes;
	memory.size = sizeof(bytes);
	memory.fail_in = 0;
	for (size_t end = 1; end <= most + 1; end++) {
		memset(bytes, '\v', sizeof(bytes)); /* differs by one bit */
		bytes[end - 1] = '\n';
		if (one_in(2))
			bytes[end] = '\n';
		memory.size = end + random_below(sizeof(bytes) - end);
		cr_assert_eq(find_line_end((uintptr_t)bytes, memory.size),
			     end <= most ? (int)end : 0);
		cr_assert_eq(find_line_end((uintptr_t)bytes, end - 1), 0);
	}
}

/* ---- frames ---- */

Test(frames, as_if_all_had_been_captured)
{
	uint64_t captured = 0, passed = 0, confirmed = 0, told = 0;

	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_frames, seed, false, false, 0);
		cr_assert_str_eq(walked.text, plain.text, "seed %llu: got\n%snot\n%s",
				 (unsigned long long)seed, walked.text, plain.text);
		captured += walked.captured;
		passed += plain.captured;
		confirmed += walked.confirmed;
		told += walked.told;
	}
	cr_expect_gt(confirmed, CONVERSATIONS / 2);
	cr_expect_gt(told, CONVERSATIONS);
	cr_expect_lt(captured, passed * 2 / 3);
}

Test(frames, what_is_lost_is_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_frames, seed, false, false, 2 + seed % 60);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

Test(frames, what_cannot_be_read_is_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_frames, seed, false, true, 0);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

/* Both see the same frames, and the same end of them. */
Test(frames, malformed_ones_are_captured)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(make_frames, seed, true, false, 0);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

/* A walk over `calls`, each its size and then its bytes, the first at position 100. */
struct frames_calls {
	struct walk walk;
	struct call call;
	uint64_t position; /* of the last call */
	bool confirmed;
};

static void frames__call(struct frames_calls *calls, const void *bytes, size_t size)
{
	calls->position += calls->call.moved;
	calls->call = (struct call){
		.buffer = (uintptr_t)bytes,
		.moved = size,
		.confirmed = calls->confirmed,
	};
	memory.start = bytes;
	memory.size = size;
	memory.fail_in = 0;
	walk__call(&calls->walk, &calls->call, calls->position);
	if (calls->call.frames && calls->confirmed && calls->call.keep_end)
		frames__tell(&calls->walk, calls->position + calls->call.keep);
	if (calls->call.frames)
		frames__end_call(&calls->walk, &calls->call, calls->position);
}

/* Everything in `stream` from `from` on is the next call. */
static void frames__call_from(struct frames_calls *calls, size_t from)
{
	frames__call(calls, stream.bytes + from, stream.size - from);
}

/* A walk that is confirmed, behind SETTINGS. */
static void frames__start(struct frames_calls *calls)
{
	*calls = (struct frames_calls){.position = 100};
	stream.size = 0;
	put_frame(SETTINGS, 0, 0, "", 0);
	frames__call_from(calls, 0);
	cr_assert_eq(walk__name(&calls->walk), 101);
	calls->confirmed = true;
	stream.size = 0;
}

static void put_plain(unsigned int flags, uint32_t id, size_t size)
{
	put_frame_head(size, DATA, flags, id);
	memset(stream.bytes + stream.size, 'x', size);
	stream.size += size;
}

#define SUM(calls, at, id, size)                                                                   \
	cr_expect((calls).walk.sums.streams[at] == (id) &&                                         \
			  (calls).walk.sums.payload[at] == (size),                                 \
		  "line %d: %llu of stream %u", __LINE__,                                          \
		  (unsigned long long)(calls).walk.sums.payload[at],                               \
		  (calls).walk.sums.streams[at])

Test(frames, what_is_kept)
{
	struct frames_calls calls;
	size_t at;

	/* DATA is summed up, by streams; a frame goes on in the next call. */
	frames__start(&calls);
	put_plain(0, 1, 2000);
	put_plain(0, 3, 1024);
	put_plain(0, 1, 3000);
	frames__call(&calls, stream.bytes, stream.size - 500);
	KEEPS(&calls.call, 0, 0);
	SUM(calls, 0, 1, 4500);
	SUM(calls, 1, 3, 1024);
	cr_expect_eq(calls.walk.remaining, 500);
	cr_expect(frames__owe(&calls.walk, &calls.call, calls.position + 1));
	frames__call_from(&calls, stream.size - 500);
	SUM(calls, 0, 1, 5000);
	/* Small ones, padded ones and what is not DATA are kept, with what is between them. */
	for (int i = 0; i < 3; i++) {
		frames__start(&calls);
		put_plain(0, 1, 2000);
		at = stream.size;
		if (i == 0)
			put_plain(0, 1, 1023);
		else if (i == 1)
			put_data(1, 1023, true, false);
		else
			put_frame(PING, 0, 0, "12345678", 8);
		put_plain(0, 1, 2000);
		put_frame_head(2000, HEADERS, 0, 1);
		frames__call_from(&calls, 0);
		KEEPS(&calls.call, at, stream.size);
		SUM(calls, 0, 0, 0);
		/* The rest of what is kept. */
		memset(stream.bytes, 'h', 2000);
		stream.size = 2000;
		put_plain(0, 1, 5000);
		frames__call_from(&calls, 0);
		KEEPS(&calls.call, 0, 2000);
		SUM(calls, 0, 1, 5000);
	}
	frames__start(&calls);
	put_frame_head(2001, DATA, PADDED, 1);
	put_payload(2001);
	frames__call_from(&calls, 0);
	KEEPS(&calls.call, 0, stream.size);
	/* Of a frame that ends its stream, the head; its end is told. */
	frames__start(&calls);
	put_plain(END_STREAM, 1, 2000);
	put_plain(0, 3, 1500);
	frames__call(&calls, stream.bytes, stream.size - 2000);
	KEEPS(&calls.call, 0, 9);
	cr_expect_not(calls.call.ended);
	SUM(calls, 0, 1, 1509);
	frames__call_from(&calls, stream.size - 2000);
	cr_expect(calls.call.ended);
	KEEPS(&calls.call, 0, 0);
	SUM(calls, 0, 1, 2000);
	SUM(calls, 1, 3, 1500);
	/* A stream for which there is no room. */
	frames__start(&calls);
	for (uint32_t i = 0; i < WIRE_FRAMES_STREAMS; i++)
		put_plain(0, 2 * i + 1, 1024);
	at = stream.size;
	put_plain(0, 99, 1024);
	put_plain(0, 1, 1025);
	frames__call_from(&calls, 0);
	KEEPS(&calls.call, at, at + 9);
	SUM(calls, 0, 99, 1024);
	SUM(calls, 1, 1, 1025);
	/* Heads that calls split. */
	for (size_t split = 1; split < 9; split++) {
		frames__start(&calls);
		put_plain(0, 1, 2000);
		at = stream.size;
		put_plain(0, 1, 2000);
		frames__call(&calls, stream.bytes, at + split);
		KEEPS(&calls.call, at, at + split);
		frames__call_from(&calls, at + split);
		KEEPS(&calls.call, 0, 9 - split);
		SUM(calls, 0, 1, 2000);
	}
	/* Unknown types and reserved bits are legal. */
	frames__start(&calls);
	put_frame(UNKNOWN, 0xff, 0x80000001, "??", 2);
	at = stream.size;
	put_plain(0, 0x80000001, 2000);
	frames__call_from(&calls, 0);
	KEEPS(&calls.call, 0, at);
	SUM(calls, 0, 1, 2000);
}

Test(frames, what_cannot_be_ends_the_walk)
{
	struct frames_calls calls;
	size_t at;

	for (int i = 0; i < 9; i++) {
		frames__start(&calls);
		put_plain(0, 1, 2000);
		at = stream.size;
		switch (i) {
		case 0:
			put_plain(0, 0, 2000);
			break;
		case 1:
			put_frame(HEADERS, 0, 0, "", 0);
			break;
		case 2:
			put_frame(PING, 0, 0, "1234567", 7);
			break;
		case 3:
			put_frame(PING, 0, 1, "12345678", 8);
			break;
		case 4:
			put_frame(SETTINGS, 0, 1, "", 0);
			break;
		case 5:
			put_frame(RST_STREAM, 0, 0, "1234", 4);
			break;
		case 6:
			put_frame(GOAWAY, 0, 0, "1234", 4);
			break;
		case 7:
			put_frame(WINDOW_UPDATE, 0, 0, "12345", 5);
			break;
		case 8:
			put_frame(PRIORITY, 0, 1, "1234", 4);
			break;
		}
		put_plain(0, 1, 2000);
		frames__call_from(&calls, 0);
		cr_expect_eq(calls.walk.phase, WALK_OFF, "%d", i);
		KEEPS(&calls.call, at, stream.size);
	}
	/* More frames in one call than are followed. */
	frames__start(&calls);
	for (int i = 0; i < FRAMES_MAX + 1; i++) {
		at = stream.size;
		put_frame(SETTINGS, 0, 0, "", 0);
	}
	frames__call_from(&calls, 0);
	cr_expect_eq(calls.walk.phase, WALK_OFF);
	KEEPS(&calls.call, 0, stream.size);
	/* Without a buffer there are no heads, but a payload passes. */
	frames__start(&calls);
	put_plain(0, 1, 2000);
	frames__call(&calls, stream.bytes, 1009);
	frames__call(&calls, NULL, 1000);
	cr_expect_eq(calls.walk.phase, WALK_FRAMES);
	SUM(calls, 0, 1, 2000);
	frames__call(&calls, NULL, 1000);
	cr_expect_eq(calls.walk.phase, WALK_OFF);
}

Test(frames, where_walks_begin)
{
	static const struct {
		const char *head;
		bool begins;
	} heads[] = {
		{"\0\0\144\1\4\0\0\0\1", true},
		{"\0\100\0\0\0\0\0\0\3", true},
		{"\0\0\0\4\1\0\0\0\0", true},
		{"\0\0\4\x8\0\0\0\0\0", true},
		{"\0\0\0\0\0\0\0\0\0", false},
		{"\x20\0\0\0\0\0\0\0\1", false},
		{"\0\0\0\x0a\0\0\0\0\1", false},
		{"\0\0\0\1\2\0\0\0\1", false},
		{"\0\0\0\1\4\x80\0\0\1", false},
		{"HTTP/1.1 ", false},
		{"PRI * HTT", false},
	};
	struct frames_calls calls;
	uint64_t at;

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		calls = (struct frames_calls){.position = 5};
		frames__call(&calls, heads[i].head, 9);
		cr_expect_eq(walk__name(&calls.walk), heads[i].begins ? 6 : 0, "%zu", i);
	}
	calls = (struct frames_calls){.position = 0};
	stream.size = 0;
	put("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	put_frame(SETTINGS, 0, 0, "", 0);
	frames__call_from(&calls, 0);
	cr_expect_eq(walk__name(&calls.walk), 1);
	cr_expect_eq(calls.walk.remaining, 0);
	/* Small frames cost a walk nothing for long. */
	calls = (struct frames_calls){.position = 5};
	for (unsigned int i = 0; i < 2 * IDLE_MAX; i++)
		frames__call(&calls, heads[2].head, 9);
	cr_expect_eq(walk__name(&calls.walk), 0);
	memory.size = 0; /* not even read */
	calls.call.buffer = (uintptr_t)heads[2].head;
	walk__call(&calls.walk, &calls.call, calls.position);
	cr_expect_eq(walk__name(&calls.walk), 0);
	/* One that is not confirmed begins anew at a call's last frame, ever less often. */
	calls = (struct frames_calls){.position = 0};
	stream.size = 0;
	put_plain(0, 1, 16384);
	put_plain(0, 1, 3000);
	put_plain(0, 1, 16384);
	frames__call(&calls, stream.bytes, 10000);
	at = 1;
	for (int i = 0; i < 1000; i++) {
		frames__call(&calls, stream.bytes + 10000, 9393 + 9 + 9);
		if (walk__name(&calls.walk) != at) {
			cr_expect_geq(calls.position + 1 - at, FRAMES_RESTART_BYTES - 10000);
			at = walk__name(&calls.walk);
			cr_expect_eq(at, calls.position + 9393 + 9 + 1);
		}
		frames__call(&calls, stream.bytes + 10000 + 9393 + 18, 10000 - 9);
	}
	cr_expect_eq(calls.walk.restarts, 6);
	cr_expect(walk__is_called(&calls.walk, at));
	cr_expect(walk__is_called(&calls.walk, calls.walk.earlier_start + 1));
	cr_expect_not(walk__is_called(&calls.walk, 1));
	cr_expect_not(walk__is_called(&calls.walk, 0));
	calls.confirmed = true;
	frames__call(&calls, stream.bytes + 10000, 6393);
	stream.size = 0;
	put_plain(0, 1, 16384);
	for (int i = 0; i < 2000; i++)
		frames__call_from(&calls, 0);
	cr_expect_eq(walk__name(&calls.walk), at);
	SUM(calls, 0, 1, 6393 + 2000 * 16384);
}
