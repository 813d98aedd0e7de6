/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes entries and totals. See report.h. */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"

/* Larger than any entry can be: the header text of two messages, escaped six-fold. */
#define LINE_MAX_BYTES (4 * 1024 * 1024)

struct report {
	const struct options *options;
	struct sink_options sink_options;
	const char *name; /* of the output, for messages */
	int fd;
	bool close_fd;
	bool terminal;
	struct output *output;
	struct buf line;
	uint64_t written;
	uint64_t without_connection;
	int err;
};

int report__new(const struct options *options, struct report **ret_report)
{
	struct report *report = calloc(1, sizeof(*report));
	const char *no_color = getenv("NO_COLOR");

	if (!report) {
		log_error("out of memory");
		return STATUS_FAILED;
	}
	report->options = options;
	buf__init(&report->line, LINE_MAX_BYTES);
	if (options->output_path) {
		report->name = options->output_path;
		report->fd = open(report->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		report->close_fd = true;
	} else {
		report->name = options->command ? "stderr" : "stdout";
		report->fd = options->command ? STDERR_FILENO : STDOUT_FILENO;
	}
	if (report->fd < 0) {
		log_error("%s: cannot be written: %s", report->name, strerror(errno));
		report__free(report);
		return STATUS_FAILED;
	}
	report->sink_options.headers = options->headers;
	report->terminal = isatty(report->fd);
	report->sink_options.colour = report->terminal && !(no_color && *no_color);
	if (output__new(report->fd, &report->output)) {
		log_error("out of memory");
		report__free(report);
		return STATUS_FAILED;
	}
	*ret_report = report;
	return STATUS_DONE;
}

void report__free(struct report *report)
{
	if (!report)
		return;
	output__free(report->output);
	buf__free(&report->line);
	if (report->close_fd && report->fd >= 0)
		close(report->fd);
	free(report);
}

static void report__fail(struct report *report, int err)
{
	if (!err || report->err)
		return;
	report->err = err;
	log_error("%s: cannot be written: %s", report->name, strerror(-err));
}

static void report__write(struct report *report, const struct entry *entry)
{
	int err;

	buf__clear(&report->line);
	err = report->options->sink->format(&report->sink_options, entry, &report->line);
	if (!err)
		err = output__append(report->output, buf__view(&report->line));
	report__fail(report, err);
}

void report__entry(void *context, const struct entry *entry)
{
	struct report *report = context;

	if (report__has_enough(report) || report->err)
		return;
	report__write(report, entry);
	report->written++;
	if (entry->tuple.source == WIRE_TUPLE_NONE)
		report->without_connection++;
}

bool report__wants_underway(const struct report *report)
{
	return report->options->sink->shows_open && (report->terminal || report->options->headers);
}

void report__underway(void *context, const struct entry *entry)
{
	struct report *report = context;

	if (!report__has_enough(report) && !report->err)
		report__write(report, entry);
}

void report__flush(struct report *report)
{
	if (!report->err)
		report__fail(report, output__flush(report->output));
}

bool report__has_enough(const struct report *report)
{
	return report->options->count && report->written >= report->options->count;
}

bool report__failed(const struct report *report)
{
	return report->err;
}

/* A trace without entries looks the same whether there was nothing to see or it was not seen. */
static void report__tell_nothing(const struct report *report, const struct flow_counts *counts)
{
	if (report->written)
		return;
	if (!counts->connections)
		log_warning("no data over TLS was seen: there was none, or it went by a library "
			    "that tlstrace does not see (tlstrace -e PID tells)");
	else if (counts->not_http)
		log_warning("%" PRIu64 " of %" PRIu64 " TLS connections carried no HTTP",
			    counts->not_http, counts->connections);
}

void report__totals(const struct report *report, const struct pipeline *pipeline)
{
	const struct pipeline_totals *totals = pipeline__totals(pipeline);
	uint64_t lost = totals->events_lost + pipeline__flow_counts(pipeline)->out_of_memory;
	const struct protocol_counts *counts = &pipeline__flow_counts(pipeline)->protocol;

	if (counts->streams_given_up || counts->blocks_refused || counts->tables_reset ||
	    counts->places_lost)
		log_verbose("HTTP/2: %" PRIu64 " streams given up, %" PRIu64
			    " header blocks refused, %" PRIu64 " header tables reset, %" PRIu64
			    " times out of place",
			    counts->streams_given_up, counts->blocks_refused, counts->tables_reset,
			    counts->places_lost);
	if (counts->tables_adopted || counts->tables_refused)
		log_verbose("HTTP/2: %" PRIu64 " header tables taken over from targets, %" PRIu64
			    " refused",
			    counts->tables_adopted, counts->tables_refused);
	report__tell_nothing(report, pipeline__flow_counts(pipeline));
	log_notice("%" PRIu64 " requests, %" PRIu64 " events lost, %" PRIu64
		   " without a connection",
		   report->written, lost, report->without_connection);
}
