/* SPDX-License-Identifier: BSD-2-Clause */
/* Getting the target's own HPACK table. See http2_late.h. */
#include "proto/http2_late.h"

#include <errno.h>

/* A HEADERS frame with a priority has so much beside its block, when there is no padding. */
#define FRAME_EXTRA_BYTES (9 + 5)

struct late_block {
	uint64_t start; /* where its first frame began */
	uint64_t end;
	size_t size;
};

void http2_late__init(struct http2_late *late)
{
	buf__init(&late->blocks, LATE_MAX_BYTES);
	buf__init(&late->told, WIRE_TABLE_MAX_BYTES);
}

void http2_late__free(struct http2_late *late)
{
	buf__free(&late->blocks);
	buf__free(&late->told);
}

static void late__drop_told(struct http2_late *late)
{
	late->has_told = late->in_told = false;
	buf__free(&late->told);
}

/* Keeps nothing of what was before `position`. */
static void late__keep_from(struct http2_late *late, uint64_t position)
{
	late->from = position;
	buf__clear(&late->blocks);
}

void http2_late__clear(struct http2_late *late)
{
	late->wants = false;
	late__keep_from(late, 0);
	buf__free(&late->blocks);
	late__drop_told(late);
}

int http2_late__block(struct http2_late *late, uint64_t start, uint64_t end, struct bytes bytes,
		      bool unknown)
{
	struct late_block block = {.start = start, .end = end, .size = bytes.size};
	int err;

	if (!late->wants) {
		late->wants = unknown;
		late__keep_from(late, end);
		return 0;
	}
	err = buf__append(&late->blocks, bytes__of(&block, sizeof(block)));
	if (!err)
		err = buf__append(&late->blocks, bytes);
	if (err)
		late__keep_from(late, end);
	return err == -ENOMEM ? err : 0;
}

bool http2_late__wants(const struct http2_late *late)
{
	return late->wants && late->refused < LATE_MAX_REFUSED;
}

/* False as well where it has padding: then it may be several. */
static bool late_block__is_one_frame(const struct late_block *block)
{
	return block->end - block->start <= block->size + FRAME_EXTRA_BYTES;
}

/* A table after which the blocks kept from position `at` on have passed. */
static int late__adopt(struct http2_late *late, struct hpack *hpack,
		       const struct hpack_table *table, uint64_t at, bool whole_frames)
{
	struct bytes rest = buf__view(&late->blocks);
	struct hpack *candidate = NULL;
	int err = hpack__from_table(table, &candidate);

	while (rest.size && !err) {
		struct late_block block;

		memcpy(&block, rest.data, sizeof(block));
		rest = bytes__from(rest, sizeof(block));
		if (block.start >= at ||
		    (whole_frames && block.end > at && late_block__is_one_frame(&block)))
			err = hpack__block(candidate, bytes__first(rest, block.size), NULL, NULL);
		else if (block.end > at)
			err = -EAGAIN;
		rest = bytes__from(rest, block.size);
	}
	if (!err && !hpack__adopt(hpack, candidate))
		err = -EBADMSG;
	hpack__free(candidate);
	if (err == -EBADMSG)
		late->refused++;
	else if (!err)
		http2_late__clear(late);
	return err;
}

int http2_late__adopt(struct http2_late *late, struct hpack *hpack,
		      const struct target_table *table, uint64_t at)
{
	struct hpack_table entries = {.entries = table->entries, .max_bytes = table->max_bytes};

	if (!http2_late__wants(late) || at < late->from)
		return -EAGAIN;
	return late__adopt(late, hpack, &entries, at, table->whole_frames);
}

int http2_late__tell(struct http2_late *late, const struct target_table *table)
{
	int err;

	late__drop_told(late);
	if (!http2_late__wants(late))
		return 0;
	err = buf__append(&late->told, table->entries);
	if (err)
		return err;
	late->has_told = true;
	late->told_max_bytes = table->max_bytes;
	late->frame_size = bytes__first(table->frame, sizeof(late->frame)).size;
	memcpy(late->frame, table->frame.data, late->frame_size);
	return 0;
}

void http2_late__frame(struct http2_late *late, struct bytes head, struct bytes payload)
{
	struct bytes frame = bytes__of(late->frame, late->frame_size);
	struct bytes rest = bytes__from(frame, head.size);

	late->in_told = late->has_told &&
			(frame.size == sizeof(late->frame) || rest.size == payload.size) &&
			bytes__equal(bytes__first(frame, head.size), head) &&
			bytes__equal(rest, bytes__first(payload, rest.size));
}

int http2_late__end_block(struct http2_late *late, struct hpack *hpack)
{
	struct hpack_table table = {
		.entries = buf__view(&late->told),
		.max_bytes = late->told_max_bytes,
	};
	int err = -ENOENT;

	if (late->in_told) {
		err = late__adopt(late, hpack, &table, UINT64_MAX, false);
		late__drop_told(late);
	}
	return err;
}
