/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a direction of HTTP/2 whose HPACK table is not known gets the one that the target has
 * (parser_ops.table). That is as of a place of the stream, so what passed around there is kept: of
 * the past the header blocks, to be read once more, and of the future the table itself.
 *
 * Memory: LATE_MAX_BYTES of blocks, and a table.
 */
#ifndef TLSTRACE_HTTP2_LATE_H
#define TLSTRACE_HTTP2_LATE_H

#include "base/buf.h"
#include "proto/hpack.h"
#include "proto/parser.h"

/* A table is as of the last call or two, which may be full of small blocks. */
#define LATE_MAX_BYTES (64 * 1024)

/* Tables that did not fit, after which no more is wanted. */
#define LATE_MAX_REFUSED 8

struct http2_late {
	bool wants;	      /* a block referred to what is not known */
	unsigned int refused; /* tables, of the whole connection */
	uint64_t from;	      /* blocks from this position on are kept */
	struct buf blocks;    /* each behind a struct late_block */

	/* A table as of the end of a block that may be still to come. */
	bool has_told;
	bool in_told; /* the block under way is that */
	uint32_t told_max_bytes;
	size_t frame_size;
	uint8_t frame[WIRE_TABLE_FRAME_BYTES];
	struct buf told;
};

void http2_late__init(struct http2_late *late);
void http2_late__free(struct http2_late *late);

/* The table is known, or is given up: nothing is kept of what was. */
void http2_late__clear(struct http2_late *late);

/*
 * A block was read with a table that is not known; `unknown`: to which it refers. Its frames were
 * from position `start` to `end` of the bytes that passed. -ENOMEM costs the next table.
 */
int http2_late__block(struct http2_late *late, uint64_t start, uint64_t end, struct bytes block,
		      bool unknown);

/* Whether a table is wanted. */
bool http2_late__wants(const struct http2_late *late);

/*
 * A table as of position `at`. 0: `hpack` has it; -EAGAIN when what followed is not kept, or it
 * was as of the middle of a block; -EBADMSG when it does not fit what is known; -ENOMEM.
 */
int http2_late__adopt(struct http2_late *late, struct hpack *hpack,
		      const struct target_table *table, uint64_t at);

/* Keeps a table until its frame has passed, instead of one before. 0 or -ENOMEM. */
int http2_late__tell(struct http2_late *late, const struct target_table *table);

/* A header block begins with this frame; `head` of its 9 bytes. */
void http2_late__frame(struct http2_late *late, struct bytes head, struct bytes payload);

/* A block has ended. If it was the one of a table that is kept: as http2_late__adopt; else -ENOENT.
 */
int http2_late__end_block(struct http2_late *late, struct hpack *hpack);

#endif
