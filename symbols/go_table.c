/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads Go's pclntab. See go_table.h; the format is that of Go's debug/gosym and
 * runtime/symtab.go.
 *
 * A table has up to hundreds of thousands of functions and tens of megabytes. Names are looked for
 * first, without functions: a pass over bytes that costs next to nothing. Then the functions go by
 * for those whose name begins where one was found. Both passes go through the file from front to
 * back, which is all that a table that lies can make them do.
 */
#include "go_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "relocation.h"

/* What is read of a table that says it is larger; and a region of it that is not read. */
#define TABLE_MAX_BYTES	 (1ULL << 30)
#define REGION_MAX_BYTES (256ULL << 20)

#define WINDOW_BYTES (1 << 18)

/* Of names that end as wanted, with different beginnings. */
#define NAMES_MAX 64

/* Of places that look like the beginning of a table, and of those without a text address. */
#define SCAN_HITS_MAX	  64
#define SCAN_TEXTLESS_MAX 4

/* Of functions whose name ends as wanted. */
#define MATCHES_MAX 32

/* Names that are near to one that is looked for, and are read: each costs a system call. */
#define CANDIDATES_MAX 65536

/* Of places that have a pointer to the table. */
#define MODULES_MAX 8

/* A piece of the file at hand. */
struct window {
	const struct go_table *table;
	uint8_t *bytes;
	uint64_t at; /* in the table */
	size_t size;
};

/* Where a name that ends as wanted was found, in the table; the ending, not what is before. */
struct found_name {
	uint64_t at;
	size_t ending_size;
};

static const char format_magic[] = {
	[GO_TABLE_1_2] = (char)0xfb,
	[GO_TABLE_1_16] = (char)0xfa,
	[GO_TABLE_1_18] = (char)0xf0,
	[GO_TABLE_1_20] = (char)0xf1,
};

static uint32_t read32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static uint64_t read64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Whether a table begins here; `bytes` are 8. */
static bool is_magic(const struct elf_file *file, const uint8_t *bytes,
		     enum go_table_format *ret_format)
{
	const uint8_t quantum = elf_file__machine(file)->code_quantum;
	const uint8_t rest[] = {0xff, 0xff, 0xff, 0, 0, quantum, sizeof(uint64_t)};
	size_t i;

	if (memcmp(bytes + 1, rest, sizeof(rest)) != 0)
		return false;
	for (i = 0; i < sizeof(format_magic); i++) {
		if (bytes[0] == (uint8_t)format_magic[i]) {
			*ret_format = (enum go_table_format)i;
			return true;
		}
	}
	return false;
}

/* A row has the address where a function begins, and where its description is. */
static size_t row_size(const struct go_table *table)
{
	return table->format >= GO_TABLE_1_18 ? 2 * sizeof(uint32_t) : 2 * sizeof(uint64_t);
}

static uint64_t row_description(const struct go_table *table, const uint8_t *row)
{
	return table->format >= GO_TABLE_1_18 ? read32(row + sizeof(uint32_t))
					      : read64(row + sizeof(uint64_t));
}

/* Reads from the table. */
static int go_table__read(const struct go_table *table, uint64_t at, void *buffer, size_t size)
{
	if (at > table->size || size > table->size - at)
		return -EBADMSG;
	return elf_file__read(table->file, table->offset + at, buffer, size);
}

/* `size` bytes of the table, valid until the window is used again. */
static int window__get(struct window *window, uint64_t at, size_t size, const uint8_t **ret_bytes)
{
	const struct go_table *table = window->table;
	size_t wanted;
	int err;

	if (at > table->size || size > table->size - at)
		return -EBADMSG;
	if (at < window->at || at - window->at > window->size ||
	    size > window->size - (at - window->at)) {
		wanted = table->size - at < WINDOW_BYTES ? table->size - at : WINDOW_BYTES;
		window->size = 0;
		err = go_table__read(table, at, window->bytes, wanted);
		if (err)
			return err;
		window->at = at;
		window->size = wanted;
	}
	*ret_bytes = window->bytes + (at - window->at);
	return 0;
}

/* The header of 8 bytes, and the words behind it. */
static int go_table__read_header(struct go_table *table)
{
	/* 1.16 and 1.17 have no text address; 1.2 to 1.15 have the first word only. */
	enum { COUNT, FILES, TEXT, NAMES, UNITS, FILE_NAMES, ADDRESSES, ROWS, WORDS };
	uint8_t magic[8];
	uint64_t words[WORDS] = {0};
	size_t i, n = 0, present;
	uint64_t word;
	int err;

	err = go_table__read(table, 0, magic, sizeof(magic));
	if (err)
		return err == -EBADMSG ? -ENOENT : err;
	if (!is_magic(table->file, magic, &table->format))
		return -ENOENT;
	present = table->format == GO_TABLE_1_2 ? 1 : WORDS;
	for (i = 0; i < present; i++) {
		if (i == TEXT && table->format == GO_TABLE_1_16)
			continue;
		err = go_table__read(table, sizeof(magic) + n++ * sizeof(word), &word,
				     sizeof(word));
		if (err)
			return err;
		words[i] = word;
	}
	table->count = words[COUNT];
	table->text = words[TEXT];
	if (table->format == GO_TABLE_1_2) {
		/* Names are between the descriptions of functions. */
		table->names = 0;
		table->names_size = table->size < REGION_MAX_BYTES ? table->size : REGION_MAX_BYTES;
		table->rows = sizeof(magic) + sizeof(word);
		table->functions = 0;
	} else {
		if (words[NAMES] > words[UNITS] || words[UNITS] > table->size ||
		    words[ROWS] > table->size)
			return -EBADMSG;
		table->names = words[NAMES];
		table->names_size = words[UNITS] - words[NAMES];
		table->rows = words[ROWS];
		table->functions = words[ROWS];
	}
	/* Behind the last row there is the address where the last function ends. */
	if (table->count == 0 || table->rows > table->size ||
	    table->count >= (table->size - table->rows) / row_size(table))
		return -EBADMSG;
	if (table->names_size > REGION_MAX_BYTES ||
	    table->count > REGION_MAX_BYTES / row_size(table))
		return -EFBIG;
	return 0;
}

/*
 * The text address, from one that may be moduledata. It begins with a pointer to the table; three
 * words further on have the first function's begin, the last one's end, and the text address.
 */
static int go_table__try_module(struct go_table *table, uint64_t module)
{
	enum { TABLE, FIRST, LAST, TEXT, WORDS };
	struct elf_word words[WORDS] = {
		[TABLE] = {.address = module},
		[FIRST] = {.address = module + 160},
		[LAST] = {.address = module + 168},
		[TEXT] = {.address = module + 176},
	};
	uint8_t row[8];
	uint32_t first, last;
	int err;

	err = elf_file__read_words(table->file, words, WORDS);
	if (!err)
		err = go_table__read(table, table->rows, row, sizeof(row));
	if (err)
		return err;
	first = read32(row);
	err = go_table__read(table, table->rows + table->count * row_size(table), row,
			     sizeof(uint32_t));
	if (err)
		return err;
	last = read32(row);
	if (words[TABLE].value != table->address || words[TEXT].value == 0 ||
	    words[FIRST].value != words[TEXT].value + first ||
	    words[LAST].value != words[TEXT].value + last)
		return -EBADMSG;
	table->text = words[TEXT].value;
	return 0;
}

/* The text address, which from 1.26 on moduledata has, and nothing else. */
static int go_table__find_text(struct go_table *table, uint64_t module)
{
	uint64_t modules[MODULES_MAX];
	size_t count, i;
	int err;

	if (module) {
		err = go_table__try_module(table, module);
		if (err != -EBADMSG)
			return err;
	}
	err = elf_file__find_words(table->file, table->address, modules, MODULES_MAX, &count);
	if (err)
		return err;
	for (i = 0; i < count; i++) {
		err = go_table__try_module(table, modules[i]);
		if (err != -EBADMSG)
			return err;
	}
	return -ENOTSUP;
}

int go_table__open(const struct elf_file *file, const struct elf_part *part, uint64_t module,
		   struct go_table *ret_table)
{
	struct go_table table = {
		.file = file,
		.offset = part->offset,
		.address = part->address,
		.size = part->size < TABLE_MAX_BYTES ? part->size : TABLE_MAX_BYTES,
	};
	int err;

	err = go_table__read_header(&table);
	if (!err && table.format >= GO_TABLE_1_18 && table.text == 0)
		err = go_table__find_text(&table, module);
	if (!err)
		*ret_table = table;
	return err;
}

int go_table__scan(const struct elf_file *file, const struct elf_part *part, uint64_t module,
		   struct go_table *ret_table)
{
	enum { STEP = sizeof(uint64_t) };
	uint8_t *chunk = malloc(WINDOW_BYTES);
	enum go_table_format format;
	struct elf_part rest = *part;
	unsigned int hits = 0, textless = 0;
	uint64_t at, skip = -part->address % STEP;
	int err = 0, result = -ENOENT;
	size_t size, i;

	if (!chunk)
		return -ENOMEM;
	for (at = skip; at < part->size && part->size - at >= STEP; at += size) {
		size = part->size - at < WINDOW_BYTES ? part->size - at : WINDOW_BYTES;
		size -= size % STEP;
		err = elf_file__read(file, part->offset + at, chunk, size);
		for (i = 0; !err && i < size; i += STEP) {
			if (!is_magic(file, chunk + i, &format))
				continue;
			rest.address = part->address + at + i;
			rest.offset = part->offset + at + i;
			rest.size = part->size - at - i;
			result = go_table__open(file, &rest, module, ret_table);
			/* Other bytes may look like a magic; why the last did not do is told. */
			textless += result == -ENOTSUP;
			if ((result != -EBADMSG && result != -ENOTSUP && result != -EFBIG) ||
			    ++hits == SCAN_HITS_MAX || textless == SCAN_TEXTLESS_MAX)
				goto out;
		}
		if (err)
			break;
	}
out:
	free(chunk);
	return err ? err : result;
}

/* Notes where names of the table end with one of `endings`. */
static int go_table__find_names(const struct go_table *table, const char *const *endings,
				size_t count, struct window *window, struct found_name *ret_names,
				size_t *ret_count)
{
	const uint64_t end = table->names + table->names_size;
	const uint8_t *bytes, *from, *hit;
	uint64_t at = table->names;
	size_t size, own, i, length;
	int err;

	*ret_count = 0;
	for (; at < end; at += own) {
		size = end - at < WINDOW_BYTES ? end - at : WINDOW_BYTES;
		/* An ending that crosses the border is the next piece's. */
		own = end - at == size ? size : size - GO_TABLE_ENDING_MAX;
		err = window__get(window, at, size, &bytes);
		if (err)
			return err;
		for (i = 0; i < count; i++) {
			length = strlen(endings[i]) + 1;
			for (from = bytes; (hit = memmem(from, size - (size_t)(from - bytes),
							 endings[i], length)) &&
					   (size_t)(hit - bytes) < own;
			     from = hit + 1) {
				if (*ret_count == NAMES_MAX)
					return -EBADMSG;
				ret_names[(*ret_count)++] = (struct found_name){
					.at = at + (size_t)(hit - bytes),
					.ending_size = length,
				};
			}
		}
	}
	return 0;
}

/* The lowest and the highest place where a name that was found may begin. */
struct name_range {
	uint64_t lowest, highest;
};

static struct name_range range_of(const struct found_name *names, size_t count)
{
	struct name_range range = {.lowest = UINT64_MAX};
	size_t i;

	for (i = 0; i < count; i++) {
		if (names[i].at < range.lowest)
			range.lowest = names[i].at;
		if (names[i].at > range.highest)
			range.highest = names[i].at;
	}
	range.lowest -= range.lowest < GO_TABLE_PREFIX_MAX ? range.lowest : GO_TABLE_PREFIX_MAX;
	return range;
}

/* A function with a name that ends as wanted. */
struct match {
	uint64_t row; /* number of its row */
	uint64_t address, size;
	char name[GO_TABLE_PREFIX_MAX + GO_TABLE_ENDING_MAX];
};

struct matches {
	struct match match[MATCHES_MAX];
	size_t count;
	size_t candidates; /* names that were read */
};

/* Notes the function of a row if its name, which begins at `name`, ends where one was found. */
static int matches__note(struct matches *matches, const struct go_table *table, uint64_t row,
			 uint64_t name, const struct found_name *names, size_t count)
{
	struct match *match;
	size_t i, size;
	int err;

	for (i = 0; i < count; i++) {
		if (name > names[i].at || names[i].at - name > GO_TABLE_PREFIX_MAX)
			continue;
		if (matches->count == MATCHES_MAX || matches->candidates++ == CANDIDATES_MAX)
			return -EBADMSG;
		match = &matches->match[matches->count];
		size = names[i].at - name + names[i].ending_size;
		err = go_table__read(table, name, match->name, size);
		if (err)
			return err;
		if (memchr(match->name, '\0', size) != match->name + size - 1)
			continue;
		match->row = row;
		matches->count++;
	}
	return 0;
}

/* Looks through all functions for those with a name that was found. */
static int matches__find(struct matches *matches, const struct go_table *table,
			 const struct found_name *names, size_t count, struct window *rows,
			 struct window *descriptions)
{
	/* A description begins with the function's address, then where its name is. */
	const size_t name_at = row_size(table) / 2;
	const struct name_range range = range_of(names, count);
	uint64_t i, at, last_at = 0, name;
	const uint8_t *bytes;
	int err;

	for (i = 0; i < table->count; i++) {
		err = window__get(rows, table->rows + i * row_size(table), row_size(table), &bytes);
		if (err)
			return err;
		at = row_description(table, bytes);
		/* Linkers write them in the order of the functions. */
		if (at > table->size || (i > 0 && at <= last_at))
			return -EBADMSG;
		last_at = at;
		err = window__get(descriptions, table->functions + at, name_at + sizeof(uint32_t),
				  &bytes);
		if (err)
			return err;
		name = table->names + read32(bytes + name_at);
		if (name < range.lowest || name > range.highest)
			continue;
		err = matches__note(matches, table, i, name, names, count);
		if (err)
			return err;
	}
	return 0;
}

/* Sets where the functions begin and how large they are: up to the begin of the next one. */
static int matches__locate(struct matches *matches, const struct go_table *table)
{
	struct elf_word words[2 * MATCHES_MAX];
	const bool is_relative = table->format >= GO_TABLE_1_18;
	uint32_t relative;
	struct match *match;
	size_t i;
	int err = 0;

	for (i = 0; i < 2 * matches->count && !err; i++) {
		uint64_t at = table->rows + (matches->match[i / 2].row + i % 2) * row_size(table);

		words[i] = (struct elf_word){.address = table->address + at};
		if (!is_relative)
			continue;
		err = go_table__read(table, at, &relative, sizeof(relative));
		words[i].value = table->text + relative;
	}
	if (!err && !is_relative)
		err = elf_file__read_words(table->file, words, 2 * matches->count);
	for (i = 0; i < matches->count && !err; i++) {
		match = &matches->match[i];
		match->address = words[2 * i].value;
		match->size = words[2 * i + 1].value - match->address;
		if (match->size == 0 || match->size > TABLE_MAX_BYTES)
			err = -EBADMSG;
	}
	return err;
}

int go_table__each_function(const struct go_table *table, const char *const *endings, size_t count,
			    elf_function_fn *fn, void *context)
{
	struct window rows = {.table = table, .bytes = malloc(WINDOW_BYTES)};
	struct window descriptions = {.table = table, .bytes = malloc(WINDOW_BYTES)};
	struct found_name names[NAMES_MAX];
	struct matches matches = {.count = 0};
	struct elf_function function = {0};
	size_t name_count, i;
	int err = -ENOMEM;

	if (!rows.bytes || !descriptions.bytes)
		goto out;
	err = go_table__find_names(table, endings, count, &rows, names, &name_count);
	if (!err && name_count > 0)
		err = matches__find(&matches, table, names, name_count, &rows, &descriptions);
	if (!err)
		err = matches__locate(&matches, table);
	for (i = 0; i < matches.count && !err; i++) {
		function.name = matches.match[i].name;
		function.address = matches.match[i].address;
		function.size = matches.match[i].size;
		err = fn(context, &function);
	}
out:
	free(rows.bytes);
	free(descriptions.bytes);
	return err;
}
