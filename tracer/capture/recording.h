/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A recording: a header (struct recording_head) and then the records of a trace, each as the
 * pipeline took it. It ends with a WIRE_END record; one that does not was cut short. It holds the
 * captured bytes as they are, secrets included, and the key with which entries are redacted.
 */
#ifndef TLSTRACE_RECORDING_H
#define TLSTRACE_RECORDING_H

#include <stdio.h>

#include "base/bytes.h"
#include "policy/redact.h"

struct recording_head {
	char magic[8];	  /* "tlstrace" */
	uint32_t version; /* WIRE_VERSION */
	uint32_t reserved;
	uint8_t key[REDACT_KEY_BYTES];
	int64_t clock_offset_ns;
};

/* What a recording may hold in one record: the largest that a probe makes, and room to grow. */
#define RECORDING_MAX_RECORD (1024 * 1024)

/* Writes a recording's head. `file` is open for writing. 0 or -errno. */
int recording__write_head(FILE *file, const struct policy *policy);

/* Appends a record. 0 or -errno. */
int recording__write(FILE *file, struct bytes record);

/* Takes a record of a recording; the view is valid during the call. */
typedef void recording_fn(void *context, struct bytes record);

/*
 * Reads a head into policy->key and policy->clock_offset_ns. 0; -ENOMSG when this is no recording,
 * -EPROTO when it is one of another version (*ret_version tells which), -EIO or another -errno
 * when it cannot be read.
 */
int recording__read_head(FILE *file, struct policy *policy, uint32_t *ret_version);

/*
 * Gives every record to `fn`, in order. 0; -ENODATA when the file ends before its WIRE_END record
 * or within a record, -EBADMSG when a record's size cannot be, -ENOMEM, or the -errno of reading.
 * *ret_offset is where in the file it stopped.
 */
int recording__replay(FILE *file, recording_fn *fn, void *context, uint64_t *ret_offset);

#endif
