/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes entries of exchanges: keeps the header fields that were asked for and takes the secrets
 * out of everything that stays. What counts as a secret is listed in docs/output.md. The only
 * place where an entry is made.
 */
#ifndef TLSTRACE_REDACT_H
#define TLSTRACE_REDACT_H

#include "policy/entry.h"

#define REDACT_KEY_BYTES 16

struct policy {
	uint8_t key[REDACT_KEY_BYTES]; /* random per run: equal secrets look equal within a run */
	bool show_secrets;
	const char *const *header_globs; /* keep only these (lower case, `*` globs) ... */
	size_t header_glob_count;	 /* ... 0: keep all */
	int64_t clock_offset_ns;	 /* Unix time minus CLOCK_MONOTONIC */
};

struct redactor;

/*
 * A redactor that makes one entry at a time and reuses its memory. `policy` is copied but for the
 * globs, which must outlive it. 0 or -ENOMEM.
 */
int redactor__new(const struct policy *policy, struct redactor **ret_redactor);
void redactor__free(struct redactor *redactor);

/*
 * The entry of an exchange; `executable` is the path of the process's executable, empty when not
 * known. *ret_entry belongs to the redactor and is valid until the next call. 0 or -ENOMEM.
 */
int redactor__entry(struct redactor *redactor, const struct exchange *exchange,
		    struct bytes executable, const struct entry **ret_entry);

#endif
