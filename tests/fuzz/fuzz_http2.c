/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For libFuzzer: the HTTP/2 parser with all behind it, HPACK, streams and pairing. The input is a
 * sequence of steps: a byte that says what passes and in which direction (or that the target's own
 * HPACK table is told), two bytes of size, and the bytes. What must hold: no sanitizer complains,
 * and memory stays within its bounds.
 */
#include "proto/parser.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_done(void *context, struct exchange *exchange)
{
	/* Without a message there is nothing to say. */
	if (!exchange->request.begun && !exchange->response.begun)
		abort();
	return false;
}

/* A table with an entry for each byte, at most so many: as of that long ago, or of a frame. */
#define TABLE_ENTRIES 200

static void tell_table(struct parser *parser, enum wire_direction direction, bool after_frame,
		       struct bytes bytes)
{
	static uint8_t entries[TABLE_ENTRIES * (sizeof(struct wire_table_entry) + 2)];
	struct wire_table_entry entry = {1, 1};
	struct target_table table = {
		.max_bytes = TABLE_ENTRIES * 34,
		.after_frame = after_frame,
		.frame = bytes__first(bytes, WIRE_TABLE_FRAME_BYTES),
		.age = bytes.size,
	};
	size_t size = 0;

	if (after_frame && bytes.size < 9)
		return;
	for (size_t i = 0; i < bytes.size && i < TABLE_ENTRIES; i++) {
		memcpy(entries + size, &entry, sizeof(entry));
		size += sizeof(entry);
		entries[size++] = 'n';
		entries[size++] = bytes.data[i];
	}
	table.entries = bytes__of(entries, size);
	http2_ops.table(parser, direction, &table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes input = bytes__of(data, size);
	struct protocol_counts counts = {0};
	struct connection connection = {.counts = &counts};
	struct passage when = {0};
	struct pairing *pairing;
	struct parser *parser;

	if (!size || pairing__new(&connection, on_done, NULL, &pairing))
		return 0;
	if (http2_ops.open(pairing, &connection, input.data[0] & 1, &parser))
		abort();
	input = bytes__from(input, 1);
	while (input.size >= 3) {
		uint8_t what = input.data[0];
		enum wire_direction direction = what & 1;
		size_t length = (size_t)input.data[1] << 8 | input.data[2];
		struct bytes bytes = bytes__first(bytes__from(input, 3), length);

		when.first_ns = when.last_ns = when.last_ns + 1;
		if ((what & 0xf0) == 0xf0) {
			if (length)
				http2_ops.gap(parser, direction, length,
					      what & 2 ? GAP_LOST : GAP_SKIPPED, &when);
			bytes.size = 0;
		} else if ((what & 0xf0) == 0xd0) {
			/* Its bytes are the next steps, too. */
			tell_table(parser, direction, what & 2, bytes);
			bytes.size = 0;
		} else if ((what & 0xf0) == 0xe0) {
			http2_ops.end(parser, direction, END_STREAM, when.last_ns);
			bytes.size = 0;
		} else if (bytes.size) {
			http2_ops.data(parser, direction, bytes, !(what & 4), &when);
		}
		if (pairing__count(pairing) > PAIRING_MAX_OPEN)
			abort();
		input = bytes__from(input, 3 + bytes.size);
	}
	http2_ops.end(parser, WIRE_READ, END_CLOSED, when.last_ns);
	if (pairing__count(pairing))
		abort();
	http2_ops.free(parser);
	pairing__free(pairing);
	return 0;
}
