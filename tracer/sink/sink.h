/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where entries go. A sink formats an entry and appends it to an output, which is written in
 * large pieces: never per entry.
 */
#ifndef TLSTRACE_SINK_H
#define TLSTRACE_SINK_H

#include "policy/entry.h"

/* Bytes that are to be written to a file descriptor. */
struct output;

/* An output on `fd`, which stays the caller's. 0 or -ENOMEM. */
int output__new(int fd, struct output **ret_output);

/* Frees it; what was not flushed is lost. NULL is fine. */
void output__free(struct output *output);

/*
 * Appends, and writes when much has gathered. 0, -ENOMEM, or the -errno of write(2) (-EPIPE,
 * -ENOSPC, ...). After a failure it stays failed: the same error is given again.
 */
int output__append(struct output *output, struct bytes bytes);

/* Writes all that has gathered. Errors as output__append. */
int output__flush(struct output *output);

struct sink_options {
	bool headers; /* text: print the header fields under the line */
	bool colour;  /* text */
};

struct sink_ops {
	const char *name; /* what -f calls it */

	bool shows_open; /* it has a form for an entry of what goes on (is_open) */

	/* Formats `entry` at the end of `line`. 0, -ENOMEM, -ENOSPC (the buffer's maximum). */
	int (*format)(const struct sink_options *options, const struct entry *entry,
		      struct buf *line);
};

extern const struct sink_ops sink_text;
extern const struct sink_ops sink_json;

/* The sink that -f calls `name`, or NULL. */
const struct sink_ops *sink__find(const char *name);

#endif
