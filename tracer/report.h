/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes entries where the user wants them, and the totals at the end. */
#ifndef TLSTRACE_REPORT_H
#define TLSTRACE_REPORT_H

#include "options.h"
#include "pipeline.h"

struct report;

/*
 * Opens the output that the options name. 0, or the exit status after an error line.
 */
int report__new(const struct options *options, struct report **ret_report);
void report__free(struct report *report);

/* Writes an entry, unless there have been enough. A pipeline_callbacks.entry. */
void report__entry(void *report, const struct entry *entry);

/*
 * Whether what goes on is to be shown: where somebody looks on, or asked for all. report__underway,
 * a pipeline_callbacks.underway, then writes such an entry; it does not count.
 */
bool report__wants_underway(const struct report *report);
void report__underway(void *report, const struct entry *entry);

/* Sends on what has gathered. */
void report__flush(struct report *report);

/* Whether as many entries as wanted are written. */
bool report__has_enough(const struct report *report);

/* Whether writing failed; said on stderr once, by report__flush or report__entry. */
bool report__failed(const struct report *report);

/* The totals line, on stderr. */
void report__totals(const struct report *report, const struct pipeline *pipeline);

#endif
