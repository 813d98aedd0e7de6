/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For libFuzzer: which response goes to which request, with all that leads there: records of a few
 * connections go through intake, flow, the parsers and pairing to lines of JSON. The input is
 * pieces of a recording (tests/fuzz/seeds makes them of real ones): two bytes that choose how it is
 * delivered, then steps of a byte that says what happened, two bytes of size, and bytes.
 *
 * Delivered without losses, what the probes leave out as they were told must not change what is
 * complete, nor how calls are cut into records where all is. With losses and hostile records as
 * well, no line may say more than can be known, lines are JSON, complete ones of HTTP/1 come in the
 * order of the requests, and memory stays within its bounds.
 */
#include "json_check.h"
#include "pipeline.h"
#include "records.h"
#include "sink/sink.h"

#include <sanitizer/allocator_interface.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void *__real_malloc(size_t size);

#define SLOTS		 4
#define LINE_MAX_BYTES	 (4 * 1024 * 1024)
#define TEXT_MAX_BYTES	 (8 * 1024 * 1024) /* of the lines, so much is compared */
#define MEMORY_MAX_BYTES (64 * 1024 * 1024)
#define FILLER_BYTES	 (64 * 1024)
#define FILLER_MAX_BYTES (4 * 1024 * 1024) /* of one input, lest it take long */
#define NOW_NS		 2000000000

/* What happened: the upper half of a step's first byte; what is below is data. */
enum {
	STEP_FILLER = 0xa0, /* a call of 16 times so many bytes that are like messages */
	STEP_LOSE = 0xb0,
	STEP_SKIP = 0xc0,   /* left out, though nobody said so */
	STEP_CLOSE = 0xd0,  /* for the reason that the size says */
	STEP_MISC = 0xe0,   /* what the size says */
	STEP_RECORD = 0xf0, /* the bytes are a record, or one of frames */
};

/* The lower half: direction, connection, and whether the call began before. */
#define STEP_DIRECTION	0x01
#define STEP_SLOT(what) ((what) >> 1 & (SLOTS - 1))
#define STEP_GOES_ON	0x08

/* The first byte. */
#define MODE_FROM_START	 0x01
#define MODE_SOCKETS	 0x02 /* are known at once */
#define MODE_UNDISTURBED 0x04 /* neither losses nor hostile records */
#define MODE_LEAVES_OUT	 0x08
#define MODE_SPLITS	 0x10

/* A connection in a process of its own: entries name the process. */
struct slot {
	struct source source;
	bool disturbed;
	uint64_t lost_bytes;
	uint64_t skip_until[2]; /* what may be left out, as directed */
	int64_t latest_ns;	/* of HTTP/1's requests with a complete entry */
};

/* One delivery of the input. */
struct delivery {
	struct pipeline *pipeline;
	struct slot slots[SLOTS];
	bool from_start, sockets, undisturbed;
	bool obeys, splits;
	bool all_complete; /* the entries so far */
	uint8_t heeded;	   /* of eight directives, those that are not lost */
	unsigned int directives;
	size_t filled;
	uint64_t now_ns;
	struct buf line;
	struct buf text; /* the lines of complete entries */
};

/* tests/support/records.c asks for it, since the unit tests' malloc may fail. */
void *__real_malloc(size_t size)
{
	return malloc(size);
}

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

static struct slot *delivery__slot(struct delivery *delivery, uint32_t pid)
{
	return pid >= 1 && pid <= SLOTS ? &delivery->slots[pid - 1] : NULL;
}

static void check_times(struct slot *slot, const struct entry *entry)
{
	if (entry->has_ttfb && entry->has_duration)
		require(entry->ttfb_ns <= entry->duration_ns, "ttfb before the end");
	if (!entry->complete || !strcmp(entry->version, "2"))
		return;
	require(entry->time_unix_ns >= slot->latest_ns, "the order of requests");
	slot->latest_ns = entry->time_unix_ns;
}

/* As text with all its fields: nothing in it moves a terminal's cursor. */
static void check_text(struct delivery *delivery, const struct entry *entry)
{
	static const struct sink_options options = {.headers = true};

	buf__clear(&delivery->line);
	require(!sink_text.format(&options, entry, &delivery->line), "room for the text");
	for (size_t i = 0; i < delivery->line.size; i++) {
		uint8_t c = delivery->line.data[i];

		require(c == '\n' || (c >= ' ' && c != 0x7f), "no control characters");
	}
}

static void on_entry(void *context, const struct entry *entry)
{
	static const struct sink_options options;
	struct delivery *delivery = context;
	struct slot *slot = delivery__slot(delivery, entry->pid);

	require(entry->has_request || entry->has_response, "an entry of something");
	delivery->all_complete = delivery->all_complete && entry->complete;
	require(entry->complete == !entry->reason, "a reason, or it is complete");
	if (entry->complete)
		require(!entry->lost_bytes && entry->has_request && entry->has_response &&
				entry->status >= 100,
			"a complete one has all");
	if (slot && !slot->disturbed) {
		require(entry->lost_bytes <= slot->lost_bytes, "no more is lost than was");
		check_times(slot, entry);
		if (delivery->undisturbed) {
			require(!entry->reason || strcmp(entry->reason, "lost"),
				"nothing was lost");
			require(!delivery->from_start || !entry->reason ||
					strcmp(entry->reason, "joined_late"),
				"all was seen from the start");
		}
	}
	check_text(delivery, entry);
	buf__clear(&delivery->line);
	require(!sink_json.format(&options, entry, &delivery->line), "room for a line");
	require(json_check__valid(
			bytes__first(buf__view(&delivery->line), delivery->line.size - 1)),
		"a line is JSON");
	if (entry->complete)
		buf__append(&delivery->text, buf__view(&delivery->line));
}

static void on_directive(void *context, const struct directive *directive)
{
	struct delivery *delivery = context;
	struct slot *slot = delivery__slot(delivery, directive->pid);

	if (slot && delivery->heeded >> delivery->directives++ % 8 & 1)
		slot->skip_until[directive->direction] = directive->skip_until;
}

static void slot__begin(struct delivery *delivery, uint32_t pid, uint64_t generation)
{
	struct slot *slot = delivery__slot(delivery, pid);

	slot->source = source__of(pid, 0x1000);
	slot->source.connection.generation = generation;
	slot->source.step_ns = 0;
	if (!delivery->from_start)
		slot->source.flags &= (uint8_t)~WIRE_FROM_START;
	if (!delivery->sockets)
		slot->source.tuple = (struct wire_tuple){0};
	slot->skip_until[0] = slot->skip_until[1] = 0;
}

static void delivery__feed(struct delivery *delivery, struct bytes record)
{
	pipeline__record(delivery->pipeline, record);
	record__free(record);
}

/* Part of a call's bytes, in one record. */
static void delivery__piece(struct delivery *delivery, struct slot *slot,
			    enum wire_direction direction, struct bytes bytes, bool call_start)
{
	uint8_t flags = slot->source.flags;

	if (!call_start)
		slot->source.flags &= (uint8_t)~WIRE_CALL_START;
	delivery__feed(delivery,
		       source__data(&slot->source, direction, bytes, (uint32_t)bytes.size));
	slot->source.flags = flags;
}

/* A call moved bytes; what the probes were told that nobody needs is left out. */
static void delivery__call(struct delivery *delivery, struct slot *slot,
			   enum wire_direction direction, struct bytes bytes, bool call_start)
{
	uint64_t position = slot->source.position[direction];
	uint64_t until = delivery->obeys ? slot->skip_until[direction] : 0;
	uint64_t left_out = until <= position ? 0 : until - position;

	if (left_out > bytes.size)
		left_out = bytes.size;
	source__skip(&slot->source, direction, left_out);
	if (left_out && left_out == bytes.size && position + left_out != until)
		return;
	bytes = bytes__from(bytes, left_out);
	call_start = call_start && !left_out;
	if (delivery->splits && bytes.size > 1) {
		struct bytes first = bytes__first(bytes, 1 + bytes.data[0] % (bytes.size - 1));

		delivery__piece(delivery, slot, direction, first, call_start);
		bytes = bytes__from(bytes, first.size);
		call_start = false;
	}
	delivery__piece(delivery, slot, direction, bytes, call_start);
}

static void delivery__filler(struct delivery *delivery, struct slot *slot,
			     enum wire_direction direction, size_t size, bool call_start)
{
	static const char text[] =
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nGET / HTTP/1.1\r\n\r\n";
	static uint8_t filler[FILLER_BYTES];

	for (size_t i = 0; !filler[sizeof(filler) - 1] && i < sizeof(filler); i++)
		filler[i] = (uint8_t)text[i % (sizeof(text) - 1)];
	if (size > FILLER_MAX_BYTES - delivery->filled)
		size = FILLER_MAX_BYTES - delivery->filled;
	delivery->filled += size;
	while (size) {
		struct bytes part = bytes__first(bytes__of(filler, sizeof(filler)), size);

		delivery__call(delivery, slot, direction, part, call_start);
		size -= part.size;
		call_start = true;
	}
}

static void delivery__close(struct delivery *delivery, struct slot *slot, size_t size)
{
	enum wire_close_reason reason = WIRE_CLOSE_FREE + size % 4;

	delivery__feed(delivery, source__close(&slot->source, reason));
	if (reason == WIRE_CLOSE_FREE || reason == WIRE_CLOSE_REUSE)
		slot__begin(delivery, slot->source.pid, slot->source.connection.generation + 1);
}

static void delivery__misc(struct delivery *delivery, struct slot *slot, size_t size)
{
	uint32_t pid = slot->source.pid;

	/* Only a close tells how much was left out last. */
	if (delivery->undisturbed && size & 2)
		delivery__close(delivery, slot, 0);
	switch (size & 3) {
	case 0:
		if (!delivery->undisturbed)
			delivery->now_ns += size * 1000;
		slot->source.time_ns = delivery->now_ns;
		delivery__feed(delivery, source__tick(&slot->source));
		break;
	case 1:
		slot->source.tuple = source__of(0, 0).tuple;
		delivery__feed(delivery, source__socket(&slot->source));
		break;
	case 2:
		delivery__feed(delivery, source__exit(&slot->source));
		slot__begin(delivery, pid, slot->source.connection.generation + 1);
		break;
	case 3:
		delivery__feed(delivery, source__process(&slot->source, "/usr/bin/program"));
		slot__begin(delivery, pid, slot->source.connection.generation + 1);
		break;
	}
}

/* A record as it is, or of frames that were left out. */
static void delivery__record(struct delivery *delivery, struct slot *slot,
			     enum wire_direction direction, struct bytes bytes, bool frames)
{
	struct wire_frames_stream streams[WIRE_FRAMES_STREAMS] = {0};
	size_t count = 0;

	if (!frames) {
		struct bytes record = bytes.size ? record__cut(bytes, bytes.size) : bytes;

		/* It may name any connection. */
		for (size_t i = 0; i < SLOTS; i++)
			delivery->slots[i].disturbed = true;
		if (record.size)
			delivery__feed(delivery, record);
		return;
	}
	slot->disturbed = true;
	while (bytes.size >= 3 && count < WIRE_FRAMES_STREAMS) {
		streams[count++] = (struct wire_frames_stream){
			.stream = bytes.data[0],
			.payload = (uint64_t)bytes.data[1] << 8 | bytes.data[2],
		};
		source__skip(&slot->source, direction, streams[count - 1].payload);
		bytes = bytes__from(bytes, 3);
	}
	delivery__feed(delivery, source__frames(&slot->source, direction, streams, count,
						bytes.size > 1 ? bytes.data[0] : 0,
						bytes.size > 1 ? bytes.data[1] : 0));
}

/* Takes a step of the input; returns how many of the bytes behind its head belong to it. */
static size_t delivery__step(struct delivery *delivery, uint8_t what, size_t size,
			     struct bytes rest)
{
	struct slot *slot = &delivery->slots[STEP_SLOT(what)];
	enum wire_direction direction = what & STEP_DIRECTION;
	struct bytes bytes = bytes__first(rest, size);
	bool call_start = !(what & STEP_GOES_ON);

	/* Where lines are compared, their times are one. */
	if (!delivery->undisturbed)
		delivery->now_ns += 1000;
	slot->source.time_ns = delivery->now_ns;
	switch (what & 0xf0) {
	case STEP_FILLER:
		delivery__filler(delivery, slot, direction, 16 * size, call_start);
		return 0;
	case STEP_LOSE:
		if (!delivery->undisturbed) {
			source__lose(&slot->source, direction, size);
			slot->lost_bytes += size;
		}
		return 0;
	case STEP_SKIP:
		if (!delivery->undisturbed)
			source__skip(&slot->source, direction, size);
		return 0;
	case STEP_CLOSE:
		delivery__close(delivery, slot, size);
		return 0;
	case STEP_MISC:
		delivery__misc(delivery, slot, size);
		return 0;
	case STEP_RECORD:
		if (!delivery->undisturbed)
			delivery__record(delivery, slot, direction, bytes, what & STEP_GOES_ON);
		return bytes.size;
	default:
		if (bytes.size)
			delivery__call(delivery, slot, direction, bytes, call_start);
		return bytes.size;
	}
}

/* Delivers the whole input. */
static void deliver(struct delivery *delivery, struct bytes input)
{
	static const struct policy policy = {.key = {1}};
	const struct pipeline_callbacks callbacks = {
		.context = delivery,
		.entry = on_entry,
		.directive = on_directive,
	};
	size_t held = __sanitizer_get_current_allocated_bytes();

	delivery->now_ns = NOW_NS;
	delivery->all_complete = true;
	buf__init(&delivery->line, LINE_MAX_BYTES);
	buf__init(&delivery->text, TEXT_MAX_BYTES);
	for (uint32_t pid = 1; pid <= SLOTS; pid++)
		slot__begin(delivery, pid, 1);
	require(!pipeline__new(&policy, &callbacks, &delivery->pipeline), "a pipeline");
	while (input.size >= 3) {
		size_t used = delivery__step(delivery, input.data[0],
					     (size_t)input.data[1] << 8 | input.data[2],
					     bytes__from(input, 3));

		require(__sanitizer_get_current_allocated_bytes() - held - delivery->line.capacity -
					delivery->text.capacity <
				MEMORY_MAX_BYTES,
			"the bounds of memory");
		input = bytes__from(input, 3 + used);
	}
	for (size_t i = 0; i < SLOTS; i++) {
		delivery->slots[i].source.time_ns = delivery->now_ns;
		if (delivery->undisturbed)
			delivery__close(delivery, &delivery->slots[i], 0);
	}
	delivery->slots[0].source.time_ns = delivery->now_ns;
	delivery__feed(delivery, source__end(&delivery->slots[0].source, 0, false));
	require(!pipeline__waits_until(delivery->pipeline) || !delivery->undisturbed,
		"nothing waits at the end");
	pipeline__free(delivery->pipeline);
	buf__free(&delivery->line);
}

/* Delivers it in another way, and compares. */
static void deliver_again(const struct delivery *plain, bool obeys, bool splits, uint8_t heeded,
			  struct bytes input)
{
	struct delivery other = {
		.from_start = plain->from_start,
		.sockets = plain->sockets,
		.undisturbed = true,
		.obeys = obeys,
		.splits = splits,
		.heeded = heeded,
	};

	deliver(&other, input);
	if (!bytes__equal(buf__view(&plain->text), buf__view(&other.text))) {
		fprintf(stderr, "whole:\n%.*s\n%s%s:\n%.*s\n", (int)plain->text.size,
			(const char *)plain->text.data, obeys ? "parts left out" : "",
			splits ? "calls split" : "", (int)other.text.size,
			(const char *)other.text.data);
		abort();
	}
	buf__free(&other.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes input = bytes__from(bytes__of(data, size), 2);
	struct delivery plain = {0};

	if (size < 2)
		return 0;
	plain.from_start = data[0] & MODE_FROM_START;
	plain.sockets = data[0] & MODE_SOCKETS;
	plain.undisturbed = data[0] & MODE_UNDISTURBED;
	deliver(&plain, input);
	if (plain.undisturbed && data[0] & MODE_LEAVES_OUT)
		deliver_again(&plain, true, false, data[1], input);
	/* Who has lost its place looks for it where calls begin. */
	if (plain.undisturbed && plain.from_start && plain.all_complete && data[0] & MODE_SPLITS)
		deliver_again(&plain, false, true, 0, input);
	buf__free(&plain.text);
	return 0;
}
