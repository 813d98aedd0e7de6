/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HPACK with libnghttp2's inflater. See hpack.h.
 *
 * The inflater fails for good at an index that it does not have. So when a table is not known, a
 * fresh one is primed with placeholders, entries of the smallest size there is: then it holds at
 * least as many entries as the peer's, and every index that the peer can use resolves. A block is
 * looked over before it is inflated, so that no more placeholders are made than it refers to:
 * 64 KB of them take ten times that.
 */
#include "proto/hpack.h"
#include "base/buf.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "wire.h"

#define STATIC_ENTRIES 61
#define ENTRY_BYTES    32 /* of an entry without name and value (RFC 7541 4.1) */

/* What a default table can hold: most peers never use an index beyond. */
#define PLACEHOLDERS_MIN (HPACK_TABLE_DEFAULT_BYTES / ENTRY_BYTES)

struct hpack {
	nghttp2_hd_inflater *inflater; /* NULL: made with the next block */
	bool exact;		       /* no entry is a placeholder */
	uint32_t limit_bytes;
	uint64_t resets;
};

/* What a block holds, without its fields. */
struct overview {
	size_t start;	     /* where the updates of the table's size end */
	size_t entries;	     /* dynamic entries that it takes to be there before it */
	uint64_t size_bytes; /* the largest size that it sets */
};

/* nghttp2's memory is ours, so that it can be made to fail. */
static void *mem__malloc(size_t size, void *context)
{
	return malloc(size);
}

static void mem__free(void *memory, void *context)
{
	free(memory);
}

static void *mem__calloc(size_t count, size_t size, void *context)
{
	return calloc(count, size);
}

static void *mem__realloc(void *memory, size_t size, void *context)
{
	return realloc(memory, size);
}

static int inflater__new(nghttp2_hd_inflater **ret_inflater)
{
	/* Its documentation says otherwise, but the inflater keeps the pointer (1.52). */
	static const nghttp2_mem memory = {
		.malloc = mem__malloc,
		.free = mem__free,
		.calloc = mem__calloc,
		.realloc = mem__realloc,
	};
	int err = nghttp2_hd_inflate_new2(ret_inflater, (nghttp2_mem *)&memory);

	if (err)
		return -ENOMEM;
	/* From 4096 it only grows, so nothing can be wrong with it. */
	nghttp2_hd_inflate_change_table_size(*ret_inflater, HPACK_TABLE_MAX_BYTES);
	return 0;
}

static void inflater__del(nghttp2_hd_inflater *inflater)
{
	if (inflater)
		nghttp2_hd_inflate_del(inflater);
}

/* Feeds a piece of a block; `last` ends it. Errors as hpack__block. */
static int inflater__feed(nghttp2_hd_inflater *inflater, struct bytes piece, bool last,
			  hpack_field_fn *field, void *context)
{
	int told = 0;

	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t taken =
			nghttp2_hd_inflate_hd2(inflater, &nv, &flags, piece.data, piece.size, last);

		if (taken < 0)
			return taken == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EBADMSG;
		piece = bytes__from(piece, (size_t)taken);
		if ((flags & NGHTTP2_HD_INFLATE_EMIT) && field && !told)
			told = field(context, bytes__of(nv.name, nv.namelen),
				     bytes__of(nv.value, nv.valuelen));
		if (flags & NGHTTP2_HD_INFLATE_FINAL) {
			nghttp2_hd_inflate_end_headers(inflater);
			return told;
		}
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && !piece.size)
			return last ? -EBADMSG : told;
	}
}

/* An integer with a prefix of `bits` (RFC 7541 5.1); `first` is what else its first byte says. */
static size_t integer__write(uint8_t *out, uint8_t first, unsigned int bits, size_t value)
{
	uint8_t max = (uint8_t)((1u << bits) - 1);
	size_t size = 0;

	if (value < max) {
		out[size++] = (uint8_t)(first | value);
		return size;
	}
	out[size++] = first | max;
	for (value -= max; value >= 0x80; value >>= 7)
		out[size++] = (uint8_t)(value | 0x80);
	out[size++] = (uint8_t)value;
	return size;
}

/* The inverse. False when it is not all there, or far beyond what a block can mean. */
static bool integer__read(struct bytes *bytes, unsigned int bits, uint64_t *ret_value)
{
	uint64_t max = (1u << bits) - 1, value;
	unsigned int shift = 0;
	uint8_t byte;

	if (!bytes->size)
		return false;
	value = bytes->data[0] & max;
	*bytes = bytes__from(*bytes, 1);
	if (value == max) {
		do {
			if (!bytes->size || shift > 28)
				return false;
			byte = bytes->data[0];
			*bytes = bytes__from(*bytes, 1);
			value += (uint64_t)(byte & 0x7f) << shift;
			shift += 7;
		} while (byte & 0x80);
	}
	*ret_value = value;
	return true;
}

static bool string__skip(struct bytes *bytes)
{
	uint64_t size;

	if (!integer__read(bytes, 7, &size) || size > bytes->size)
		return false;
	*bytes = bytes__from(*bytes, size);
	return true;
}

/* Looks over a block (RFC 7541 6). False when it is none. */
static bool overview__of(struct bytes block, struct overview *ret_overview)
{
	struct overview overview = {0};
	struct bytes rest = block;
	size_t inserted = 0;
	bool fields = false;

	while (rest.size) {
		uint8_t first = rest.data[0];
		bool indexed = first & 0x80, inserts = !indexed && (first & 0x40);
		bool resizes = !indexed && !inserts && (first & 0x20);
		uint64_t value;

		if (!integer__read(&rest, indexed ? 7 : inserts ? 6 : resizes ? 5 : 4, &value))
			return false;
		if (resizes) {
			/* Only at the beginning (RFC 7541 4.2). */
			if (fields)
				return false;
			overview.start = block.size - rest.size;
			if (value > overview.size_bytes)
				overview.size_bytes = value;
			continue;
		}
		fields = true;
		if (indexed && !value)
			return false;
		if (value > STATIC_ENTRIES && value - STATIC_ENTRIES > inserted &&
		    value - STATIC_ENTRIES - inserted > overview.entries)
			overview.entries = value - STATIC_ENTRIES - inserted;
		if (indexed)
			continue;
		if (!value && !string__skip(&rest))
			return false;
		if (!string__skip(&rest))
			return false;
		inserted += inserts;
	}
	*ret_overview = overview;
	return true;
}

static size_t inflater__entries(nghttp2_hd_inflater *inflater)
{
	return nghttp2_hd_inflate_get_num_table_entries(inflater) - STATIC_ENTRIES;
}

/* Inserts a field as a literal. */
static int inflater__insert(nghttp2_hd_inflater *inflater, struct bytes name, struct bytes value)
{
	uint8_t head[1 + 10], middle[10];
	size_t head_size = 1, middle_size = integer__write(middle, 0, 7, value.size);
	int err;

	head[0] = 0x40;
	head_size += integer__write(head + 1, 0, 7, name.size);
	err = inflater__feed(inflater, bytes__of(head, head_size), false, NULL, NULL);
	if (!err && name.size)
		err = inflater__feed(inflater, name, false, NULL, NULL);
	if (!err)
		err = inflater__feed(inflater, bytes__of(middle, middle_size), false, NULL, NULL);
	if (!err && value.size)
		err = inflater__feed(inflater, value, false, NULL, NULL);
	return err;
}

/* Inserts what `from` knows into `to`, oldest first. */
static int inflater__copy(nghttp2_hd_inflater *to, nghttp2_hd_inflater *from)
{
	size_t count = inflater__entries(from);
	const nghttp2_nv *nv;
	int err = 0;

	/* Placeholders at the old end are made anew. */
	for (; count; count--) {
		nv = nghttp2_hd_inflate_get_table_entry(from, STATIC_ENTRIES + count);
		if (nv->namelen || nv->valuelen)
			break;
	}
	for (; count && !err; count--) {
		nv = nghttp2_hd_inflate_get_table_entry(from, STATIC_ENTRIES + count);
		err = inflater__insert(to, bytes__of(nv->name, nv->namelen),
				       bytes__of(nv->value, nv->valuelen));
	}
	return err;
}

/*
 * Makes the inflater anew with `count` placeholders behind what it knows, in a table that may hold
 * `table_bytes`.
 */
static int hpack__prime(struct hpack *hpack, size_t count, size_t table_bytes)
{
	static const uint8_t placeholder[] = {0x40, 0, 0};
	nghttp2_hd_inflater *inflater = NULL;
	uint8_t update[10];
	size_t size = integer__write(update, 0x20, 5, table_bytes);
	int err = inflater__new(&inflater);

	if (!err)
		err = inflater__feed(inflater, bytes__of(update, size), false, NULL, NULL);
	for (size_t i = 0; i < count && !err; i++)
		err = inflater__feed(inflater, bytes__of(placeholder, sizeof(placeholder)), false,
				     NULL, NULL);
	if (!err && hpack->inflater)
		err = inflater__copy(inflater, hpack->inflater);
	if (!err)
		err = inflater__feed(inflater, bytes__of(NULL, 0), true, NULL, NULL);
	if (err) {
		inflater__del(inflater);
		return err;
	}
	inflater__del(hpack->inflater);
	hpack->inflater = inflater;
	return 0;
}

int hpack__new(bool exact, struct hpack **ret_hpack)
{
	struct hpack *hpack = calloc(1, sizeof(*hpack));

	if (!hpack)
		return -ENOMEM;
	hpack__reset(hpack, exact);
	*ret_hpack = hpack;
	return 0;
}

void hpack__free(struct hpack *hpack)
{
	if (!hpack)
		return;
	inflater__del(hpack->inflater);
	free(hpack);
}

void hpack__reset(struct hpack *hpack, bool exact)
{
	inflater__del(hpack->inflater);
	hpack->inflater = NULL;
	hpack->exact = exact;
	hpack->limit_bytes = exact ? HPACK_TABLE_DEFAULT_BYTES : HPACK_TABLE_MAX_BYTES;
}

void hpack__set_limit(struct hpack *hpack, uint32_t bytes)
{
	hpack->limit_bytes = bytes < HPACK_TABLE_MAX_BYTES ? bytes : HPACK_TABLE_MAX_BYTES;
}

/* Makes the inflater ready for a block. */
static int hpack__prepare(struct hpack *hpack, const struct overview *overview)
{
	size_t entries, table_bytes = HPACK_TABLE_MAX_BYTES, count;

	if (!hpack->inflater) {
		if (hpack->exact)
			return inflater__new(&hpack->inflater);
		count = overview->entries > PLACEHOLDERS_MIN ? overview->entries : PLACEHOLDERS_MIN;
		return hpack__prime(hpack, count, table_bytes);
	}
	entries = inflater__entries(hpack->inflater);
	if (overview->entries <= entries)
		return 0;
	/* Entries are not added to the old end: a new table, filled again. */
	table_bytes = nghttp2_hd_inflate_get_max_dynamic_table_size(hpack->inflater);
	count = 2 * overview->entries;
	return hpack__prime(hpack,
			    count < table_bytes / ENTRY_BYTES ? count : table_bytes / ENTRY_BYTES,
			    table_bytes);
}

int hpack__block(struct hpack *hpack, struct bytes block, hpack_field_fn *field, void *context)
{
	struct overview overview;
	size_t entries;
	int err = -EBADMSG;

	if (!overview__of(block, &overview))
		goto out;
	entries = hpack->inflater ? inflater__entries(hpack->inflater) : 0;
	if (overview.entries > HPACK_TABLE_MAX_BYTES / ENTRY_BYTES)
		goto out;
	if (overview.size_bytes > hpack->limit_bytes ||
	    (hpack->exact && overview.entries > entries)) {
		/* It is not the table that we took it for. What does not depend on it is right. */
		hpack__reset(hpack, false);
		hpack->resets++;
		if (overview.size_bytes > HPACK_TABLE_MAX_BYTES)
			block = bytes__from(block, overview.start);
	}
	err = hpack__prepare(hpack, &overview);
	if (!err)
		err = inflater__feed(hpack->inflater, block, true, field, context);
out:
	if (err == -EBADMSG || err == -ENOMEM) {
		hpack__reset(hpack, false);
		hpack->resets++;
	}
	return err;
}

/* Makes an inflater with the table. */
static int inflater__with_table(const struct hpack_table *table, nghttp2_hd_inflater **ret_inflater)
{
	struct bytes rest = table->entries;
	nghttp2_hd_inflater *inflater = NULL;
	uint8_t update[10];
	size_t size = integer__write(update, 0x20, 5, table->max_bytes);
	int err = inflater__new(&inflater);

	if (!err)
		err = inflater__feed(inflater, bytes__of(update, size), false, NULL, NULL);
	while (rest.size && !err) {
		struct wire_table_entry entry;
		struct bytes name;

		memcpy(&entry, rest.data, sizeof(entry));
		rest = bytes__from(rest, sizeof(entry));
		name = bytes__first(rest, entry.name_bytes);
		rest = bytes__from(rest, name.size);
		err = inflater__insert(inflater, name, bytes__first(rest, entry.value_bytes));
		rest = bytes__from(rest, entry.value_bytes);
	}
	if (!err)
		err = inflater__feed(inflater, bytes__of(NULL, 0), true, NULL, NULL);
	if (err)
		inflater__del(inflater);
	else
		*ret_inflater = inflater;
	return err;
}

/* Whether an inflater has, at the same indices, what another one knows. */
static bool inflater__agrees(nghttp2_hd_inflater *inflater, nghttp2_hd_inflater *with)
{
	size_t count = inflater__entries(inflater), known = inflater__entries(with);

	/* What is beyond the end has been evicted: no placeholder's table is larger. */
	for (size_t i = 1; i <= count && i <= known; i++) {
		const nghttp2_nv *a = nghttp2_hd_inflate_get_table_entry(with, STATIC_ENTRIES + i);
		const nghttp2_nv *b =
			nghttp2_hd_inflate_get_table_entry(inflater, STATIC_ENTRIES + i);

		/* A name may be unknown and its value not. */
		if (a->namelen &&
		    !bytes__equal(bytes__of(a->name, a->namelen), bytes__of(b->name, b->namelen)))
			return false;
		if ((a->namelen || a->valuelen) && !bytes__equal(bytes__of(a->value, a->valuelen),
								 bytes__of(b->value, b->valuelen)))
			return false;
	}
	return true;
}

int hpack__from_table(const struct hpack_table *table, struct hpack **ret_hpack)
{
	struct hpack *hpack;
	int err = hpack__new(true, &hpack);

	if (err)
		return err;
	hpack__set_limit(hpack, HPACK_TABLE_MAX_BYTES);
	err = inflater__with_table(table, &hpack->inflater);
	if (err)
		hpack__free(hpack);
	else
		*ret_hpack = hpack;
	return err;
}

bool hpack__adopt(struct hpack *hpack, struct hpack *other)
{
	if (hpack->exact || !other->exact || other->resets ||
	    (hpack->inflater && !inflater__agrees(other->inflater, hpack->inflater)))
		return false;
	inflater__del(hpack->inflater);
	hpack->inflater = other->inflater;
	hpack->exact = true;
	other->inflater = NULL;
	return true;
}

bool hpack__is_exact(const struct hpack *hpack)
{
	return hpack->exact;
}

uint64_t hpack__resets(const struct hpack *hpack)
{
	return hpack->resets;
}

bool hpack__is_block(struct bytes bytes)
{
	struct overview overview;

	return overview__of(bytes, &overview) &&
	       overview.entries <= HPACK_TABLE_MAX_BYTES / ENTRY_BYTES;
}
