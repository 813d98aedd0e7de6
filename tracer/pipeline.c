/* SPDX-License-Identifier: BSD-2-Clause */
/* Joins the rooms from intake to policy. See pipeline.h. */
#include "pipeline.h"

#include <errno.h>
#include <stdlib.h>

struct pipeline {
	struct pipeline_callbacks callbacks;
	struct flow *flow;
	struct redactor *redactor;
	struct pipeline_totals totals;
};

static void on_exchange(void *context, const struct exchange *exchange, struct bytes executable)
{
	struct pipeline *pipeline = context;
	const struct entry *entry;

	if (redactor__entry(pipeline->redactor, exchange, executable, &entry)) {
		pipeline->totals.events_lost++;
		return;
	}
	pipeline->callbacks.entry(pipeline->callbacks.context, entry);
}

static void on_underway(void *context, const struct exchange *exchange, struct bytes executable)
{
	struct pipeline *pipeline = context;
	const struct entry *entry;

	/* Nothing is lost without it: its entry is to come. */
	if (!redactor__entry(pipeline->redactor, exchange, executable, &entry))
		pipeline->callbacks.underway(pipeline->callbacks.context, entry);
}

static void on_directive(void *context, const struct directive *directive)
{
	struct pipeline *pipeline = context;

	pipeline->callbacks.directive(pipeline->callbacks.context, directive);
}

static void on_table(void *context, const struct table_request *request)
{
	struct pipeline *pipeline = context;

	pipeline->callbacks.table(pipeline->callbacks.context, request);
}

static void on_forget(void *context, uint32_t pid, const struct wire_connection *connection)
{
	struct pipeline *pipeline = context;

	pipeline->callbacks.forget(pipeline->callbacks.context, pid, connection);
}

int pipeline__new(const struct policy *policy, const struct pipeline_callbacks *callbacks,
		  struct pipeline **ret_pipeline)
{
	struct pipeline *pipeline = calloc(1, sizeof(*pipeline));
	struct flow_callbacks flow_callbacks = {
		.context = pipeline,
		.exchange = on_exchange,
	};
	int err;

	if (!pipeline)
		return -ENOMEM;
	pipeline->callbacks = *callbacks;
	flow_callbacks.underway = callbacks->underway ? on_underway : NULL;
	flow_callbacks.directive = callbacks->directive ? on_directive : NULL;
	flow_callbacks.table = callbacks->table ? on_table : NULL;
	flow_callbacks.forget = callbacks->forget ? on_forget : NULL;
	err = flow__new(&flow_callbacks, &pipeline->flow);
	if (!err)
		err = redactor__new(policy, &pipeline->redactor);
	if (err)
		pipeline__free(pipeline);
	else
		*ret_pipeline = pipeline;
	return err;
}

void pipeline__free(struct pipeline *pipeline)
{
	if (!pipeline)
		return;
	flow__free(pipeline->flow);
	redactor__free(pipeline->redactor);
	free(pipeline);
}

int pipeline__record(struct pipeline *pipeline, struct bytes record)
{
	struct event event;
	int err = intake__event(record, &event);

	if (err) {
		pipeline->totals.bad_records++;
		return err;
	}
	if (event.type == EVENT_END)
		pipeline->totals.events_lost += event.end.events_lost;
	flow__event(pipeline->flow, &event);
	return 0;
}

uint64_t pipeline__waits_until(const struct pipeline *pipeline)
{
	return flow__waits_until(pipeline->flow);
}

const struct pipeline_totals *pipeline__totals(const struct pipeline *pipeline)
{
	return &pipeline->totals;
}

const struct flow_counts *pipeline__flow_counts(const struct pipeline *pipeline)
{
	return flow__counts(pipeline->flow);
}
