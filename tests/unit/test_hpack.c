/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HPACK against libnghttp2's deflater: blocks of every table size, from the first or from any later
 * one, with blocks missing, and such as no deflater makes.
 */
#include "failing_alloc.h"
#include "proto/hpack.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCKS	40
#define FIELDS	12
#define COUNTED 3 /* the first fields of each block: static, never indexed, and new */

struct line {
	char name[32];
	char value[300];
};

struct said {
	struct line lines[FIELDS];
	size_t count;
	uint8_t data[8192];
	size_t size;
};

static struct said said[BLOCKS];

/* What is told of a block is compared with it; `unknown` and `unnamed` count what is missing. */
struct told {
	const struct said *said;
	size_t at;
	size_t unknown, unnamed;
};

static uint32_t noise(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

/* Blocks as they come from a program: some fields new, some seen before, of any size. */
static void deflate_all(size_t max_table, const size_t *tables, size_t table_count)
{
	nghttp2_hd_deflater *deflater;
	uint32_t state = 7;

	cr_assert_eq(nghttp2_hd_deflate_new(&deflater, max_table), 0);
	for (size_t b = 0; b < BLOCKS; b++) {
		nghttp2_nv nvs[FIELDS] = {0};
		struct said *block = &said[b];
		ssize_t size;

		if (table_count && !(b % 8))
			nghttp2_hd_deflate_change_table_size(deflater, tables[b / 8 % table_count]);
		block->count = FIELDS;
		snprintf(block->lines[0].name, 32, ":method");
		snprintf(block->lines[0].value, 300, "GET");
		snprintf(block->lines[1].name, 32, ":path");
		snprintf(block->lines[1].value, 300, "/%zu", b);
		snprintf(block->lines[2].name, 32, "x-block-%zu", b);
		snprintf(block->lines[2].value, 300, "%zu", b);
		for (size_t i = COUNTED; i < FIELDS; i++) {
			snprintf(block->lines[i].name, 32, "x-%u", noise(&state) % 20);
			snprintf(block->lines[i].value, 300, "%0*u", 1 + (int)(noise(&state) % 90),
				 noise(&state) % 12);
		}
		for (size_t i = 0; i < FIELDS; i++)
			nvs[i] = (nghttp2_nv){
				.name = (uint8_t *)block->lines[i].name,
				.value = (uint8_t *)block->lines[i].value,
				.namelen = strlen(block->lines[i].name),
				.valuelen = strlen(block->lines[i].value),
			};
		size = nghttp2_hd_deflate_hd(deflater, block->data, sizeof(block->data), nvs,
					     FIELDS);
		cr_assert_gt(size, 0);
		block->size = (size_t)size;
	}
	nghttp2_hd_deflate_del(deflater);
}

static int on_field(void *context, struct bytes name, struct bytes value)
{
	struct told *told = context;
	const struct line *line;

	cr_assert_lt(told->at, told->said->count);
	/* What does not depend on the table. */
	cr_assert(name.size || told->at >= COUNTED);
	line = &told->said->lines[told->at++];
	told->unknown += !name.size && !value.size;
	told->unnamed += !name.size && value.size;
	if (name.size)
		cr_assert(bytes__equal(name, bytes__str(line->name)));
	if (name.size || value.size)
		cr_assert(bytes__equal(value, bytes__str(line->value)));
	return 0;
}

/* Reads the block `b`; how many of its fields are not whole. */
static size_t read_block(struct hpack *hpack, size_t b)
{
	struct told told = {.said = &said[b]};

	cr_assert_eq(hpack__block(hpack, bytes__of(said[b].data, said[b].size), on_field, &told),
		     0);
	cr_assert_eq(told.at, FIELDS);
	return told.unknown + told.unnamed;
}

static const size_t no_tables[] = {4096};
static const size_t changing[] = {4096, 0, 300, 65536, 1000};

static const struct {
	size_t max;
	const size_t *tables;
	size_t count;
} kinds[] = {
	{4096, no_tables, 0},
	{65536, changing + 3, 1},
	{65536, changing, 5},
	{0, no_tables, 0},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

Test(hpack, all_blocks_from_the_first)
{
	for (size_t k = 0; k < KINDS; k++) {
		struct hpack *hpack;

		deflate_all(kinds[k].max, kinds[k].tables, kinds[k].count);
		cr_assert_eq(hpack__new(true, &hpack), 0);
		hpack__set_limit(hpack, HPACK_TABLE_MAX_BYTES);
		for (size_t b = 0; b < BLOCKS; b++)
			cr_assert_eq(read_block(hpack, b), 0);
		cr_assert_eq(hpack__resets(hpack), 0);
		hpack__free(hpack);
	}
}

Test(hpack, joined_at_any_block_nothing_is_wrong)
{
	for (size_t k = 0; k < KINDS; k++) {
		deflate_all(kinds[k].max, kinds[k].tables, kinds[k].count);
		for (size_t from = 0; from < BLOCKS; from++) {
			struct hpack *hpack;

			cr_assert_eq(hpack__new(false, &hpack), 0);
			for (size_t b = from; b < BLOCKS; b++)
				read_block(hpack, b);
			cr_assert_eq(hpack__resets(hpack), 0);
			hpack__free(hpack);
		}
	}
}

Test(hpack, a_missing_block_and_a_reset)
{
	deflate_all(4096, no_tables, 0);
	for (size_t lost = 0; lost + 1 < BLOCKS; lost++) {
		struct hpack *hpack;

		cr_assert_eq(hpack__new(true, &hpack), 0);
		for (size_t b = 0; b < lost; b++)
			cr_assert_eq(read_block(hpack, b), 0);
		hpack__reset(hpack, false);
		for (size_t b = lost + 1; b < BLOCKS; b++)
			read_block(hpack, b);
		hpack__free(hpack);
	}
}

struct list {
	char text[512];
	size_t count;
};

static int on_listed(void *context, struct bytes name, struct bytes value)
{
	struct list *list = context;
	size_t used = strlen(list->text);

	list->count++;
	snprintf(list->text + used, sizeof(list->text) - used, "%.*s=%.*s ", (int)name.size,
		 name.size ? (const char *)name.data : "", (int)value.size,
		 value.size ? (const char *)value.data : "");
	return 0;
}

static int read_bytes(struct hpack *hpack, const char *bytes, size_t size, struct list *list)
{
	*list = (struct list){0};
	return hpack__block(hpack, bytes__of(bytes, size), on_listed, list);
}

#define READ(hpack, bytes, list) read_bytes(hpack, bytes, sizeof(bytes) - 1, list)

Test(hpack, indices_count_from_the_newest)
{
	struct hpack *hpack;
	struct list list;

	cr_assert_eq(hpack__new(false, &hpack), 0);
	/* An older one, a new one, the older one again. */
	cr_assert_eq(READ(hpack, "\xbe\x40\1a\1b\xbe\xbf", &list), 0);
	cr_assert_str_eq(list.text, "= a=b a=b = ");
	/* The name of an older one with a value; then by its index. */
	cr_assert_eq(READ(hpack, "\x7f\0\1v\xbe\xbf", &list), 0);
	cr_assert_str_eq(list.text, "=v =v a=b ");
	/* Far down in a table of 64 KB: more placeholders, and what is known stays. */
	cr_assert_eq(READ(hpack, "\xff\x90\x0c\xbe\xbf", &list), 0);
	cr_assert_str_eq(list.text, "= =v a=b ");
	cr_assert_eq(hpack__resets(hpack), 0);
	/* None can be so far down. */
	cr_assert_eq(READ(hpack, "\xff\xff\xff\x7f", &list), -EBADMSG);
	cr_assert_eq(hpack__resets(hpack), 1);
	/* It goes on, and what was known is not. */
	cr_assert_eq(READ(hpack, "\x82\xbe", &list), 0);
	cr_assert_str_eq(list.text, ":method=GET = ");
	hpack__free(hpack);
}

Test(hpack, an_exact_table_that_was_none)
{
	struct hpack *hpack;
	struct list list;

	cr_assert_eq(hpack__new(true, &hpack), 0);
	cr_assert_eq(READ(hpack, "\x40\1a\1b", &list), 0);
	/* There is one entry: something was missed. What does not depend on it is told. */
	cr_assert_eq(READ(hpack, "\x82\xbf\x40\1c\1d\xbe", &list), 0);
	cr_assert_str_eq(list.text, ":method=GET = c=d c=d ");
	cr_assert_eq(hpack__resets(hpack), 1);
	hpack__free(hpack);
}

Test(hpack, sizes_beyond_the_limit)
{
	struct hpack *hpack;
	struct list list;

	/* 4097 where 4096 is allowed. */
	cr_assert_eq(hpack__new(true, &hpack), 0);
	cr_assert_eq(READ(hpack, "\x40\1a\1b\xbe", &list), 0);
	cr_assert_eq(READ(hpack, "\x3f\xe2\x1f\xbe\x82", &list), 0);
	cr_assert_str_eq(list.text, "= :method=GET ");
	cr_assert_eq(hpack__resets(hpack), 1);
	/* A megabyte is not followed. */
	cr_assert_eq(READ(hpack, "\x3f\xe1\xff\x3f\x40\1a\1b\xbe", &list), 0);
	cr_assert_str_eq(list.text, "a=b a=b ");
	hpack__free(hpack);

	/* Emptied, and filled again. */
	cr_assert_eq(hpack__new(true, &hpack), 0);
	cr_assert_eq(READ(hpack, "\x40\1a\1b", &list), 0);
	cr_assert_eq(READ(hpack, "\x20\x3f\xe1\x1f\x40\1c\1d\xbe", &list), 0);
	cr_assert_str_eq(list.text, "c=d c=d ");
	cr_assert_eq(hpack__resets(hpack), 0);
	hpack__free(hpack);
}

Test(hpack, what_is_no_block)
{
	static const struct {
		const char *bytes;
		size_t size;
	} cases[] = {
		{"\x80", 1},	 /* index 0 */
		{"\x40", 1},	 /* no name */
		{"\x40\5ab", 4}, /* less of it than it says */
		{"\x40\1a", 3},	 /* no value */
		{"\x82\x20", 2}, /* a size behind a field */
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11},
		{"\x40\x81\x00\1b", 5}, /* no Huffman code */
		{"\x3f", 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hpack *hpack;
		struct list list;
		uint8_t *copy = malloc(cases[i].size);

		memcpy(copy, cases[i].bytes, cases[i].size);
		cr_assert_eq(hpack__new(true, &hpack), 0);
		cr_assert_eq(hpack__block(hpack, bytes__of(copy, cases[i].size), on_listed,
					  &(struct list){0}),
			     -EBADMSG, "case %zu", i);
		cr_assert_eq(READ(hpack, "\x82", &list), 0);
		cr_assert_eq(list.count, 1);
		hpack__free(hpack);
		free(copy);
	}
}

Test(hpack, without_memory)
{
	bool failed = true;

	deflate_all(4096, no_tables, 0);
	for (unsigned int nth = 0; failed; nth++) {
		struct hpack *hpack = NULL;

		failing_alloc__arm(nth);
		if (!hpack__new(false, &hpack))
			for (size_t b = 0; b < 6; b++) {
				struct told told = {.said = &said[b]};

				hpack__block(hpack, bytes__of(said[b].data, said[b].size), on_field,
					     &told);
			}
		failed = failing_alloc__disarm();
		hpack__free(hpack);
	}
}

Test(hpack, noise_is_survived)
{
	uint32_t state = 1;

	deflate_all(4096, no_tables, 0);
	for (int turn = 0; turn < 2000; turn++) {
		struct hpack *hpack;
		uint8_t block[600];

		cr_assert_eq(hpack__new(turn & 1, &hpack), 0);
		for (int i = 0; i < 6; i++) {
			size_t b = noise(&state) % BLOCKS, size = said[b].size;

			memcpy(block, said[b].data, size < sizeof(block) ? size : sizeof(block));
			size = size < sizeof(block) ? size : sizeof(block);
			for (int m = 0; m < 3; m++)
				block[noise(&state) % size] = (uint8_t)noise(&state);
			hpack__block(hpack, bytes__of(block, size), NULL, NULL);
		}
		hpack__free(hpack);
	}
}
