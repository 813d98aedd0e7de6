/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Knows what is a secret in header fields and URLs, and writes them without it. For policy/redact.c
 * alone; the list of what counts is in docs/output.md.
 */
#ifndef TLSTRACE_SECRETS_H
#define TLSTRACE_SECRETS_H

#include "base/buf.h"
#include "base/siphash.h"

/* How often a value is percent-decoded in search of an URL inside an URL. */
#define SECRETS_MAX_DEPTH 3

enum name_use {
	NAME_OF_FIELD,
	NAME_OF_PARAMETER,
};

/*
 * A name that was met before, exactly as it was on the wire, and what was made of it. The same few
 * names come with each message, and what they mean takes longer to find than all the rest.
 */
struct known_name {
	uint8_t use;  /* enum name_use */
	uint8_t size; /* 0: none */
	uint8_t kind;
	uint8_t text[45];
};

#define SECRETS_KNOWN_NAMES 256

/* A writer that replaces secrets. Not opaque, so that it needs no allocation of its own. */
struct secrets {
	uint8_t key[SIPHASH_KEY_BYTES];
	struct buf *out; /* NULL: only count */
	size_t found;
	int err;
	struct buf name;		       /* scratch: the name at hand, as it is compared */
	struct buf secret;		       /* scratch: the secret at hand, percent-decoded */
	struct buf decoded[SECRETS_MAX_DEPTH]; /* scratch: the values around the place at hand */
	struct known_name known[SECRETS_KNOWN_NAMES];
};

void secrets__init(struct secrets *secrets, const uint8_t key[SIPHASH_KEY_BYTES]);
void secrets__free(struct secrets *secrets);

/*
 * Each appends `value` to `out`, its secrets replaced. 0, or -ENOMEM or -ENOSPC with part of it
 * written. The value of a header field called `name`; a URL or its path; a query without `?`.
 */
int secrets__header(struct secrets *secrets, struct bytes name, struct bytes value,
		    struct buf *out);
int secrets__url(struct secrets *secrets, struct bytes value, struct buf *out);
int secrets__query(struct secrets *secrets, struct bytes value, struct buf *out);

/* The same for a value that is a secret as a whole. */
int secrets__whole(struct secrets *secrets, struct bytes value, struct buf *out);

#endif
