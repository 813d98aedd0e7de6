/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP/2 joined in the middle, with the HPACK tables that the target would give: of conversations
 * between two libnghttp2 sessions, whose tables a third party follows from the start. What is told
 * at the right place makes all that follows whole; what is not is refused, and nothing is ever
 * shown that was not said.
 */
#include "failing_alloc.h"
#include "h2_talk.h"
#include "proto/parser.h"

#include <criterion/criterion.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#define STATIC_ENTRIES 61
#define STREAMS	       24

/* The table of a call's direction before and after the call, as in a record. */
struct snapshot {
	uint8_t entries[WIRE_TABLE_MAX_BYTES];
	size_t size;
	uint32_t max_bytes;
	size_t count;
};

struct told {
	struct snapshot *before, *after;
	bool has_block;
};

static struct talk talk;
static struct told told[TALK_MAX_CALLS];

static struct snapshot *snapshot__take(nghttp2_hd_inflater *inflater)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	size_t count = nghttp2_hd_inflate_get_num_table_entries(inflater);

	snapshot->max_bytes = (uint32_t)nghttp2_hd_inflate_get_max_dynamic_table_size(inflater);
	snapshot->count = count - STATIC_ENTRIES;
	for (; count > STATIC_ENTRIES; count--) {
		const nghttp2_nv *nv = nghttp2_hd_inflate_get_table_entry(inflater, count);
		struct wire_table_entry entry = {(uint32_t)nv->namelen, (uint32_t)nv->valuelen};
		uint8_t *at = snapshot->entries + snapshot->size;

		memcpy(at, &entry, sizeof(entry));
		memcpy(at + sizeof(entry), nv->name, nv->namelen);
		memcpy(at + sizeof(entry) + nv->namelen, nv->value, nv->valuelen);
		snapshot->size += sizeof(entry) + nv->namelen + nv->valuelen;
	}
	return snapshot;
}

/* Inflates the block of a call's frame, if it has one. */
static bool inflate(nghttp2_hd_inflater *inflater, struct bytes call)
{
	struct bytes block = bytes__from(call, 9);
	size_t padding = 0;
	ssize_t taken;
	nghttp2_nv nv;
	int flags = 0;

	if (call.size < 9 || call.data[3] != 1 || !memcmp(call.data, "PRI", 3))
		return false;
	if (call.data[4] & 8) {
		padding = block.data[0];
		block = bytes__from(block, 1);
	}
	if (call.data[4] & 0x20)
		block = bytes__from(block, 5);
	block = bytes__first(block, block.size - padding);
	while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
		flags = 0;
		taken = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, block.data, block.size, 1);
		cr_assert_geq(taken, 0);
		block = bytes__from(block, (size_t)taken);
	}
	nghttp2_hd_inflate_end_headers(inflater);
	return true;
}

static struct bytes call__bytes(size_t i)
{
	return bytes__of(talk.calls[i].data, talk.calls[i].size);
}

static void add_stream(unsigned int n)
{
	struct talk_stream *stream = talk__stream(&talk);
	struct talk_block *request = &stream->request, *response = &stream->response;

	talk__field(request, ":method", n % 3 ? "GET" : "PUT");
	talk__field(request, ":scheme", "https");
	talk__field(request, ":authority", "constant.example");
	talk__field(request, ":path", "/%u", n);
	talk__field(request, "user-agent", "talk/1.0");
	talk__field(request, "x-new", "%u", n / 2);
	talk__field(response, ":status", n % 2 ? "200" : "404");
	talk__field(response, "server", "talker");
	talk__field(response, "x-other", "%u", n / 3);
	stream->response_body = n % 2 ? 30 : 0;
}

/* A conversation, and the tables at each of its calls. */
static void begin(size_t table_bytes, bool pads)
{
	nghttp2_hd_inflater *inflaters[2];

	talk = (struct talk){
		.pads = pads,
		.client_table = (uint32_t)table_bytes,
		.server_table = (uint32_t)table_bytes,
		.deflate_table = table_bytes,
	};
	talk__begin(&talk);
	for (unsigned int n = 0; n < STREAMS; n += 2) {
		add_stream(n);
		add_stream(n + 1);
		talk__say(&talk, 2);
	}
	for (int d = 0; d < 2; d++) {
		cr_assert_eq(nghttp2_hd_inflate_new(&inflaters[d]), 0);
		nghttp2_hd_inflate_change_table_size(inflaters[d],
						     table_bytes ? table_bytes : 4096);
	}
	for (size_t i = 0; i < talk.call_count; i++) {
		nghttp2_hd_inflater *inflater = inflaters[talk.calls[i].direction];

		told[i].before = snapshot__take(inflater);
		told[i].has_block = inflate(inflater, call__bytes(i));
		told[i].after = snapshot__take(inflater);
	}
	nghttp2_hd_inflate_del(inflaters[0]);
	nghttp2_hd_inflate_del(inflaters[1]);
}

static void end(void)
{
	for (size_t i = 0; i < talk.call_count; i++) {
		free(told[i].before);
		free(told[i].after);
	}
	talk__free(&talk);
}

struct run {
	struct connection connection;
	struct protocol_counts counts;
	struct pairing *pairing;
	struct parser *parser;
	struct passage when;
	size_t count, complete;
};

/* Each field that is known was said; all are there in an exchange that is complete. */
static void check_fields(const struct headers *headers, const struct talk_block *block, bool whole)
{
	size_t pseudo = 0;

	for (size_t i = 0; i < block->count; i++)
		pseudo += block->fields[i].name[0] == ':';
	for (size_t i = 0; i < headers->count; i++) {
		struct bytes name = headers__name(headers, i), value = headers__value(headers, i);
		bool found = false;

		for (size_t j = pseudo; j < block->count; j++)
			found |= bytes__equal(value, bytes__str(block->fields[j].value)) &&
				 (!name.size ||
				  bytes__equal(name, bytes__str(block->fields[j].name)));
		cr_assert(found, "%.*s=%.*s was not said", (int)name.size, (const char *)name.data,
			  (int)value.size, (const char *)value.data);
	}
	if (whole)
		cr_assert_eq(headers->count, block->count - pseudo);
}

static bool on_done(void *context, struct exchange *exchange)
{
	const struct talk_stream *stream = talk__find(&talk, exchange->id);
	bool whole = exchange->reason == REASON_NONE;
	struct run *run = context;

	cr_assert(stream);
	run->count++;
	run->complete += whole;
	check_fields(&exchange->request.headers, &stream->request, whole);
	check_fields(&exchange->response.headers, &stream->response, whole);
	if (exchange->authority.size || whole)
		cr_assert(bytes__equal(buf__view(&exchange->authority),
				       bytes__str("constant.example")));
	if (exchange->status)
		cr_assert_eq(exchange->status, atoi(stream->response.fields[0].value));
	return false;
}

static void run__begin(struct run *run)
{
	*run = (struct run){.connection.counts = &run->counts};
	cr_assert_eq(pairing__new(&run->connection, on_done, run, &run->pairing), 0);
	cr_assert_eq(http2_ops.open(run->pairing, &run->connection, false, &run->parser), 0);
}

static void run__end(struct run *run)
{
	http2_ops.end(run->parser, WIRE_READ, END_CLOSED, run->when.last_ns);
	http2_ops.free(run->parser);
	pairing__free(run->pairing);
}

/* A call in pieces of 13 bytes. */
static void run__call(struct run *run, size_t i)
{
	struct bytes rest = call__bytes(i);
	bool start = true;

	for (; rest.size; rest = bytes__from(rest, 13), start = false) {
		run->when.last_ns++;
		http2_ops.data(run->parser, talk.calls[i].direction, bytes__first(rest, 13), start,
			       &run->when);
	}
}

static bool run__wants(const struct run *run, size_t i)
{
	return http2_ops.wants_table(run->parser, talk.calls[i].direction);
}

/* Tells the table as of before the call `i`, which has passed, and `age` bytes have since. */
static void run__tell_before(struct run *run, size_t i, uint64_t age, const struct snapshot *what)
{
	struct target_table table = {
		.entries = bytes__of(what->entries, what->size),
		.max_bytes = what->max_bytes,
		.age = age,
	};

	http2_ops.table(run->parser, talk.calls[i].direction, &table);
}

/* Tells the table as of after the block of the call `i`, which is still to come. */
static void run__tell_after(struct run *run, size_t i, const struct snapshot *what)
{
	struct target_table table = {
		.entries = bytes__of(what->entries, what->size),
		.max_bytes = what->max_bytes,
		.after_frame = true,
		.frame = bytes__first(call__bytes(i), WIRE_TABLE_FRAME_BYTES),
	};

	http2_ops.table(run->parser, talk.calls[i].direction, &table);
}

/* Joined at `from`; tables are given from the first moment at which they are wanted. */
static void check_joined(size_t from, bool after)
{
	size_t late = talk.call_count, whole = 0;
	struct run run;

	run__begin(&run);
	for (size_t i = from; i < talk.call_count; i++) {
		bool wants = run__wants(&run, i);

		if (wants && after && told[i].has_block)
			run__tell_after(&run, i, told[i].after);
		run__call(&run, i);
		if (wants && !after)
			run__tell_before(&run, i, talk.calls[i].size, told[i].before);
		if (run.counts.tables_adopted == 2 && late == talk.call_count)
			late = i;
		if (wants && (!after || told[i].has_block))
			cr_assert(!run__wants(&run, i), "call %zu from %zu", i, from);
	}
	for (size_t i = 0; i < talk.stream_count; i++)
		whole += talk.streams[i].call > late;
	cr_assert_geq(run.complete, whole);
	if (from < talk.call_count / 2)
		cr_assert_gt(whole, STREAMS / 4);
	cr_assert_eq(run.counts.tables_refused, 0);
	cr_assert_eq(run.counts.tables_reset, 0);
	run__end(&run);
}

Test(http2_late, joined_anywhere_all_is_whole_with_tables)
{
	static const size_t sizes[] = {0, 100, 300, 65536};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		begin(sizes[s], s == 2);
		/* In its first calls is the preface: then nothing is unknown. */
		for (size_t from = 8; from < talk.call_count; from++) {
			/* Of a table that holds nothing nothing is unknown. */
			if (sizes[s] == 100)
				continue;
			check_joined(from, false);
			check_joined(from, true);
		}
		end();
	}
}

/* Tables of the wrong place: each is refused, or it is the one of the right place as well. */
static void check_misplaced(size_t from, size_t distance, bool back, bool after)
{
	struct run run;

	run__begin(&run);
	for (size_t i = from; i < talk.call_count; i++) {
		size_t other = i, steps = distance;
		bool wants = run__wants(&run, i);

		while (steps && (back ? other > 0 : other + 1 < talk.call_count)) {
			other += back ? -1 : 1;
			steps -= talk.calls[other].direction == talk.calls[i].direction &&
				 told[other].has_block;
		}
		/* Before anything was inserted that was seen, nothing is known to compare. */
		wants &= i > from + 24 && !steps;
		if (wants && after && told[i].has_block)
			run__tell_after(&run, i, told[other].after);
		run__call(&run, i);
		if (wants && !after)
			run__tell_before(&run, i, talk.calls[i].size, told[other].before);
	}
	run__end(&run);
}

Test(http2_late, tables_of_another_place_show_nothing_wrong)
{
	begin(0, false);
	for (size_t from = 8; from < talk.call_count; from += 3)
		for (size_t distance = 1; distance < 7; distance++)
			for (int kind = 0; kind < 4; kind++)
				check_misplaced(from, distance, kind & 1, kind & 2);
	end();
}

Test(http2_late, a_table_that_is_refused_changes_nothing_and_tries_end)
{
	static struct snapshot wrong;
	uint64_t refused = 0;
	struct run run;

	begin(0, false);
	run__begin(&run);
	for (size_t i = 20; i < talk.call_count; i++) {
		run__call(&run, i);
		/* Something has to be known. */
		if (talk.calls[i].direction != WIRE_READ || !run__wants(&run, i) || i < 40)
			continue;
		/* Another newest entry. */
		wrong = *told[i].before;
		wrong.entries[wrong.size - 1] ^= 1;
		run__tell_before(&run, i, talk.calls[i].size, &wrong);
		refused++;
		cr_assert_eq(run.counts.tables_refused, refused);
		cr_assert_eq(run.counts.tables_adopted, 0);
		/* So many, and no more is wanted. */
		if (refused == 8)
			cr_assert(!run__wants(&run, i));
	}
	cr_assert_eq(refused, 8);
	run__end(&run);
	end();
}

/* Not as of any place that is known: in the middle of a block, or too long ago. */
Test(http2_late, a_table_of_no_known_place)
{
	struct run run;

	begin(0, false);
	for (size_t from = 30; from < 40; from++) {
		run__begin(&run);
		for (size_t i = from; i < talk.call_count; i++) {
			struct bytes bytes = call__bytes(i);
			enum wire_direction direction = talk.calls[i].direction;
			bool wants = run__wants(&run, i);

			run__call(&run, i);
			if (!wants || !told[i].has_block)
				continue;
			for (uint64_t age = 1; age < bytes.size; age++)
				run__tell_before(&run, i, age, told[i].before);
			run__tell_before(&run, i, UINT64_MAX, told[i].before);
			run__tell_before(&run, i, 1 << 30, told[i].before);
			cr_assert(http2_ops.wants_table(run.parser, direction));
		}
		cr_assert_eq(run.counts.tables_adopted + run.counts.tables_refused, 0);
		run__end(&run);
	}
	end();
}

/* The target reads whole frames: the table of before a frame is as of any place in it, too. */
static void check_in_frame(size_t from, uint64_t age_part, bool padded)
{
	uint64_t adopted = 0;
	struct run run;

	run__begin(&run);
	for (size_t i = from; i < talk.call_count; i++) {
		struct target_table table = {
			.entries = bytes__of(told[i].before->entries, told[i].before->size),
			.max_bytes = told[i].before->max_bytes,
			.age = 1 + age_part * (talk.calls[i].size - 2) / 8,
			.whole_frames = true,
		};
		bool wants = run__wants(&run, i);

		run__call(&run, i);
		if (!wants || !told[i].has_block)
			continue;
		http2_ops.table(run.parser, talk.calls[i].direction, &table);
		/* Padding may be another frame: where there is much, the table is left. */
		adopted++;
		cr_assert(padded || run.counts.tables_adopted == adopted, "call %zu from %zu", i,
			  from);
	}
	cr_assert_eq(run.counts.tables_refused, 0);
	cr_assert_eq(run.counts.tables_reset, 0);
	run__end(&run);
}

Test(http2_late, a_table_of_whole_frames)
{
	for (int padded = 0; padded < 2; padded++) {
		begin(0, padded);
		for (size_t from = 8; from < talk.call_count; from++)
			for (uint64_t part = 0; part <= 8; part++)
				check_in_frame(from, part, padded);
		end();
	}
}

Test(http2_late, a_frame_that_never_comes)
{
	struct run run;

	begin(0, false);
	run__begin(&run);
	for (size_t i = 30; i < talk.call_count; i++) {
		struct target_table table = {
			.entries = bytes__of(told[i].after->entries, told[i].after->size),
			.max_bytes = told[i].after->max_bytes,
			.after_frame = true,
			.frame = bytes__of("\0\0\x20\1\5\0\0\xff\1abcdefgh", 17),
		};

		http2_ops.table(run.parser, talk.calls[i].direction, &table);
		run__call(&run, i);
	}
	cr_assert_eq(run.counts.tables_adopted + run.counts.tables_refused, 0);
	run__end(&run);
	end();
}

/* After a loss, what was adopted is given up, and may be had again. */
Test(http2_late, once_more_after_a_loss)
{
	struct run run;

	begin(0, false);
	run__begin(&run);
	for (size_t i = 10; i < talk.call_count; i++) {
		bool wants = run__wants(&run, i);

		if (i == talk.call_count / 2) {
			http2_ops.gap(run.parser, WIRE_READ, 100, GAP_LOST, &run.when);
			http2_ops.gap(run.parser, WIRE_WRITE, 100, GAP_LOST, &run.when);
		}
		run__call(&run, i);
		if (wants)
			run__tell_before(&run, i, talk.calls[i].size, told[i].before);
	}
	cr_assert_eq(run.counts.tables_adopted, 4);
	cr_assert_eq(run.counts.tables_refused, 0);
	run__end(&run);
	end();
}

Test(http2_late, without_memory)
{
	begin(0, false);
	for (size_t call = 40; call < 52; call++) {
		bool failed = true;

		for (unsigned int nth = 0; failed; nth++) {
			struct run run;

			run__begin(&run);
			for (size_t i = 30; i < call; i++)
				run__call(&run, i);
			failing_alloc__arm(nth);
			run__tell_before(&run, call - 1, talk.calls[call - 1].size,
					 told[call - 1].before);
			run__tell_after(&run, call, told[call].after);
			run__call(&run, call);
			failed = failing_alloc__disarm();
			for (size_t i = call + 1; i < talk.call_count; i++)
				run__call(&run, i);
			run__end(&run);
		}
	}
	end();
}
