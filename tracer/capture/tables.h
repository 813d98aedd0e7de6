/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HPACK tables that the pipeline wants (flow.h): puts the probes that read them into the
 * processes whose connections they are, for as long as a table is waited for, and not longer than
 * some seconds at a time.
 */
#ifndef TLSTRACE_TABLES_H
#define TLSTRACE_TABLES_H

#include "capture/probe_set.h"

struct tables;

/* `probes` and `emulated` outlive it. NULL without memory; NULL is fine for the others. */
struct tables *tables__new(struct probe_set *probes, const struct emulated *emulated);
void tables__free(struct tables *tables);

/* Wants a table, or does not any more. */
void tables__request(struct tables *tables, const struct table_request *request);

/* A connection is over. */
void tables__forget(struct tables *tables, uint32_t pid, const struct wire_connection *connection);

/* A process ended, or executed something else. */
void tables__end_process(struct tables *tables, uint32_t pid);

/* Gives up what was waited for too long; now_ns is CLOCK_MONOTONIC. */
void tables__expire(struct tables *tables, uint64_t now_ns);

/* Whether something is waited for: tables__expire is wanted again soon. */
bool tables__pending(const struct tables *tables);

#endif
