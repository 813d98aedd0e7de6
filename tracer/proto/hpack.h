/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The header compression of HTTP/2 (RFC 7541), one direction of a connection, as a bystander reads
 * it: from the first block, or from any later one. Blocks must come in the order of the wire.
 *
 * Indices count from the newest entry of the table and eviction takes the oldest, so a reference to
 * an entry that was inserted since the join is exact whatever was there before. Others resolve to
 * entries that are known to be unknown: no field is ever given a wrong name or value.
 *
 * Memory: a table of HPACK_TABLE_MAX_BYTES (RFC 7541 4.1), some five times that when it is full of
 * the smallest entries, which takes a peer that uses such indices.
 */
#ifndef TLSTRACE_HPACK_H
#define TLSTRACE_HPACK_H

#include "base/bytes.h"

/* What browsers announce. A larger table is not followed: its older entries are unknown. */
#define HPACK_TABLE_MAX_BYTES	  (64 * 1024)
#define HPACK_TABLE_DEFAULT_BYTES 4096

struct hpack;

/*
 * A field. An empty `name` is one that is not known (names cannot be empty, RFC 9110 5.1); then an
 * empty `value` is not known either. Views live until the callee returns. Non-zero stops: the
 * block's other fields are read, but not told.
 */
typedef int hpack_field_fn(void *context, struct bytes name, struct bytes value);

/* Without memory until the first block. `exact`: the table is as at a connection's start. */
int hpack__new(bool exact, struct hpack **ret_hpack);
void hpack__free(struct hpack *hpack);

/* Forgets the table: it is empty (`exact`), or what is in it is not known. */
void hpack__reset(struct hpack *hpack, bool exact);

/* The largest table that the receiver allows from now on; more than the maximum counts as that. */
void hpack__set_limit(struct hpack *hpack, uint32_t bytes);

/*
 * Reads a whole block. 0; what `field` returned; -EBADMSG when it is no block that can follow
 * those before, -ENOMEM: then what was told of it does not count, and the table is unknown.
 */
int hpack__block(struct hpack *hpack, struct bytes block, hpack_field_fn *field, void *context);

/* A table from elsewhere. */
struct hpack_table {
	struct bytes entries; /* as in struct wire_table (wire.h), checked */
	uint32_t max_bytes;
};

/* One that begins with that table. 0 or -ENOMEM. */
int hpack__from_table(const struct hpack_table *table, struct hpack **ret_hpack);

/*
 * Takes over the table of `other`, which has read the same blocks up to now. False when it is not
 * exact, or not what is known of this one's, or this one is exact: then all is as before.
 */
bool hpack__adopt(struct hpack *hpack, struct hpack *other);

/* Whether all of the table is known. */
bool hpack__is_exact(const struct hpack *hpack);

/* Whether bytes have the form of a block, whatever the table. */
bool hpack__is_block(struct bytes bytes);

/* How often the table was found to be another than was taken for it. */
uint64_t hpack__resets(const struct hpack *hpack);

#endif
