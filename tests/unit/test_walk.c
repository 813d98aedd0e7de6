/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's walk over chunks and the program that confirms it, together: probes/chunks.h itself,
 * with BPF's helpers replaced, feeds a flow that directs it. Whatever the bodies, the calls and the
 * delays, the exchanges are those of a flow that gets every byte.
 */
#include "flow/flow.h"
#include "records.h"
#include "state.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what chunks.h needs of common.h ---- */

#define TLSTRACE_COMMON_H
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif

struct call {
	__u64 buffer;
	__u64 moved;
	__u64 reported;
	__u64 walked;
	__u64 walked_body;
	__u64 line;
	__u64 line_body;
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

#define bpf_probe_read_user(to, size, from)	read_memory(to, size, from)
#define bpf_core_enum_value_exists(type, value) true
#define bpf_loop(count, step, context, flags)                                                      \
	do {                                                                                       \
		for (__u32 at = 0; at < (count) && !step(at, context); at++)                       \
			;                                                                          \
	} while (0)

int find_head_end(__u64 buffer, __u64 size);

#include "chunks.h"

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

/* ---- a conversation: a client's requests, and what the server writes ---- */

#define STREAM_MAX   (16 << 20)
#define MESSAGES_MAX 6
#define CALLS_MAX    (STREAM_MAX / 64)

static struct {
	char bytes[STREAM_MAX];
	size_t size;
	size_t calls[CALLS_MAX]; /* where each ends */
	size_t call_count;
	size_t heads[MESSAGES_MAX]; /* where heads end */
	size_t messages;
	bool malformed;
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

static void make_message(size_t number)
{
	static const size_t chunk_sizes[] = {16, 2000, 16384, 30000, 400000};
	size_t size = random_below(one_in(3) ? 2000 : 900000);
	bool chunked = !one_in(4), breaks = stream.malformed && one_in(2);

	put("HTTP/1.1 200 OK\r\nX-Number: %zu\r\n", number);
	if (chunked)
		put("Transfer-Encoding: chunked\r\n\r\n");
	else
		put("Content-Length: %zu\r\n\r\n", size);
	stream.heads[stream.messages++] = stream.size;
	if (chunked)
		put_chunked(size, chunk_sizes[random_below(5)], one_in(4),
			    breaks ? 1 + random_below(20) : 0);
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
	stream.malformed = malformed;
	for (size_t i = 0; i < count; i++)
		make_message(i);
	make_calls();
}

/* ---- the kernel: what commit() in openssl.bpf.c does with a call ---- */

#define RING_MAX    4096
#define PIECE_BYTES 16384

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
};

static void on_exchange(void *context, const struct exchange *exchange, struct bytes executable)
{
	struct run *run = context;

	run->text_size += (size_t)
		snprintf(run->text + run->text_size, sizeof(run->text) - run->text_size,
			 "%.*s %u %llu trailers %zu %s\n", (int)exchange->path.size,
			 exchange->path.size ? (const char *)buf__view(&exchange->path).data : "",
			 exchange->status, (unsigned long long)exchange->response.body_bytes,
			 exchange->response.trailers.count, exchange->reason ? "incomplete" : "ok");
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

static void run__report(struct run *run, const struct call *call, size_t from, size_t size)
{
	struct source *source = &run->source;

	source->flags = WIRE_FROM_START | (from ? 0 : WIRE_CALL_START);
	source->walk_from[WIRE_WRITE] = run->walk.start;
	if (run->lose_one_in && one_in(run->lose_one_in)) {
		source__lose(source, WIRE_WRITE, size);
		return;
	}
	run->captured += size;
	run__put(run, source__data(source, WIRE_WRITE,
				   bytes__of((const char *)(uintptr_t)call->buffer + from, size),
				   (uint32_t)size));
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
	uint64_t position = source->position[WIRE_WRITE], walk_from;
	struct call call = {.buffer = (uintptr_t)bytes, .moved = size};
	bool report = true;

	if (walk__may_begin(&run->walk))
		walk__suspect(&run->walk, &call, position);
	walk_from = run->walk.start;
	if (run->walk.phase != WALK_OFF)
		walk__over(&run->walk, &call);
	if (run->directed && walk_from && directive->walk_from == walk_from && call.line) {
		source->body_bytes[WIRE_WRITE] += call.line_body;
		call.reported = call.line;
		report = call.line < size;
		run->walked += call.line;
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
		piece = size - at < PIECE_BYTES ? size - at : PIECE_BYTES;
		run__report(run, &call, at, piece);
		if (at + piece == size)
			break;
	}
	source->position[WIRE_WRITE] = position + size;
}

static void run__read(struct run *run, const char *text)
{
	run->source.flags = WIRE_FROM_START | WIRE_CALL_START;
	run__put(run,
		 source__data(&run->source, WIRE_READ, bytes__str(text), (uint32_t)strlen(text)));
}

static void run__ask(struct run *run)
{
	char text[1024];
	size_t used = 0;

	for (size_t i = 0; i < stream.messages; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "GET /%zu HTTP/1.1\r\nHost: h\r\n\r\n", i);
	run__read(run, text);
}

/* The whole conversation; the program is `lag` records behind at most, and catches up at times. */
static void run__converse(struct run *run, size_t lag, bool page_faults)
{
	size_t at = 0;

	run__ask(run);
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
	run->source.flags = WIRE_FROM_START;
	run__put(run, source__close(&run->source, WIRE_CLOSE_FREE));
	run__consume(run, SIZE_MAX);
	flow__free(run->flow);
}

static struct run plain, walked;

/* Feeds one conversation with all bytes, and one as the kernel would. */
static void converse(uint64_t seed, bool malformed, bool page_faults, unsigned int lose_one_in)
{
	static const size_t lags[] = {0, 1, 8, 40};

	random_state = seed * 0x9e3779b97f4a7c15 + 1;
	make_stream(malformed);
	run__begin(&plain, false);
	run__converse(&plain, 0, false);
	run__begin(&walked, true);
	walked.lose_one_in = lose_one_in;
	run__converse(&walked, lags[random_below(4)], page_faults);
}

#define CONVERSATIONS 150

Test(chunks, as_if_all_had_been_captured)
{
	uint64_t captured = 0, passed = 0, confirmed = 0, left_out = 0;

	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(seed, false, false, 0);
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

Test(chunks, what_is_lost_is_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(seed, false, false, 2 + seed % 60);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

/* A page that is not resident ends a walk where it is. */
Test(chunks, what_cannot_be_read_is_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(seed, false, true, 0);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

Test(chunks, malformed_bodies_are_not_called_complete)
{
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		converse(seed, true, false, 0);
		cr_assert(only_true(walked.text, plain.text), "seed %llu: got\n%snot\n%s",
			  (unsigned long long)seed, walked.text, plain.text);
	}
}

/* A body in calls of one kind, walked by what chunks.h says alone. */
static void walk_calls(struct walk *walk, struct call *call, const char *const *calls)
{
	*walk = (struct walk){0};
	walk__begin(walk, 100);
	for (; *calls; calls++) {
		*call = (struct call){.buffer = (uintptr_t)*calls, .moved = strlen(*calls)};
		memory.start = *calls;
		memory.size = strlen(*calls);
		memory.fail_in = 0;
		if (walk->phase != WALK_OFF)
			walk__over(walk, call);
	}
}

#define WALK(walk, call, ...) walk_calls(walk, call, (const char *const[]){__VA_ARGS__, NULL})

Test(chunks, where_a_call_may_be_left_out)
{
	struct walk walk;
	struct call call;

	WALK(&walk, &call, "3\r\nabc\r\n5\r\nab");
	cr_expect_eq(call.line, 13);
	cr_expect_eq(call.line_body, 5);
	cr_expect_eq(walk.start, 100);
	/* Up to a size line that this call does not complete ... */
	WALK(&walk, &call, "3\r\nabc\r\n5\r");
	cr_expect_eq(call.line, 8);
	cr_expect_eq(call.line_body, 3);
	/* ... whose rest follows it. */
	WALK(&walk, &call, "3\r\nabc\r\n5\r", "\nabcde\r\n");
	cr_expect_eq(call.line, 0);
	cr_expect_eq(walk.start, 100);
	WALK(&walk, &call, "3\r\nabc\r\n5\r", "\nabcde\r\n", "1\r\na");
	cr_expect_eq(call.line, 4);
	cr_expect_eq(call.line_body, 1);
	/* The last line is never left out, nor what is no chunk. */
	WALK(&walk, &call, "3\r\nabc\r\n0\r\n\r\n");
	cr_expect_eq(call.line, 8);
	cr_expect_eq(walk.start, 0);
	WALK(&walk, &call, "3\r\nabc\r\n5;a=b\r\nabcde\r\n");
	cr_expect_eq(call.line, 8);
	cr_expect_eq(walk.start, 0);
	WALK(&walk, &call, "3\r\nabc\r\n1\r\nab\n");
	cr_expect_eq(call.line, 8);
	cr_expect_eq(call.line_body, 3);
	WALK(&walk, &call, "\r\n");
	cr_expect_eq(walk.start, 0);
	WALK(&walk, &call, "1000000000000\r\n");
	cr_expect_eq(walk.start, 0);
	WALK(&walk, &call, "ffffffffffff\r\n");
	cr_expect_eq(walk.remaining, 0xffffffffffff);
}

Test(chunks, where_a_head_ends)
{
	static char bytes[HEAD_MAX_BLOCKS * HEAD_BLOCK_BYTES + 64];

	memory.start = bytes;
	memory.size = sizeof(bytes);
	memory.fail_in = 0;
	for (size_t end = 4; end < sizeof(bytes) - 64; end++) {
		memset(bytes, 'a', sizeof(bytes));
		memcpy(bytes + end - 4, "\r\n\r\n", 4);
		cr_assert_eq(find_head_end((uintptr_t)bytes, sizeof(bytes)), (int)end);
	}
	memset(bytes, 'a', sizeof(bytes));
	cr_expect_eq(find_head_end((uintptr_t)bytes, sizeof(bytes)), 0);
	/* Blocks are whole: a shorter rest is not looked at. */
	memcpy(bytes, "\n\n", 2);
	cr_expect_eq(find_head_end((uintptr_t)bytes, HEAD_BLOCK_BYTES - 1), 0);
	cr_expect_eq(find_head_end((uintptr_t)bytes, HEAD_BLOCK_BYTES), 2);
}
