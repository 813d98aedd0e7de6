/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole way of a record to log entries: intake, flow, proto, exchange, policy. A library: no
 * I/O, no clock, no globals, no libbpf. The same records give the same entries, byte for byte.
 */
#ifndef TLSTRACE_PIPELINE_H
#define TLSTRACE_PIPELINE_H

#include "flow/flow.h"
#include "policy/redact.h"

struct pipeline_callbacks {
	void *context;
	void (*entry)(void *context, const struct entry *entry);
	/* An entry of what goes on, see flow.h; its `is_open` is set. NULL as there. */
	void (*underway)(void *context, const struct entry *entry);
	/* As in flow.h; NULL in a replay. */
	void (*directive)(void *context, const struct directive *directive);
	void (*table)(void *context, const struct table_request *request);
	void (*forget)(void *context, uint32_t pid, const struct wire_connection *connection);
};

struct pipeline_totals {
	uint64_t events_lost; /* here for want of memory; with the WIRE_END record, all */
	uint64_t bad_records; /* refused by intake */
};

struct pipeline;

/* `policy` as in redactor__new. 0 or -ENOMEM. */
int pipeline__new(const struct policy *policy, const struct pipeline_callbacks *callbacks,
		  struct pipeline **ret_pipeline);
void pipeline__free(struct pipeline *pipeline);

/*
 * Takes the next record. 0, or -EINVAL when intake refuses it (it is counted). WIRE_END ends the
 * trace: what is open becomes entries, and no record may follow.
 */
int pipeline__record(struct pipeline *pipeline, struct bytes record);

/*
 * Entries may wait a moment for the connection that they were on, and be of what has lasted. The
 * time at which the next one will be due (CLOCK_MONOTONIC ns): a record of that time or later, were
 * it a WIRE_TICK, lets it go. 0: none will.
 */
uint64_t pipeline__waits_until(const struct pipeline *pipeline);

const struct pipeline_totals *pipeline__totals(const struct pipeline *pipeline);
const struct flow_counts *pipeline__flow_counts(const struct pipeline *pipeline);

#endif
