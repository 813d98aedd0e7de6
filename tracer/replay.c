/* SPDX-License-Identifier: BSD-2-Clause */
/* Replays a recording through the pipeline. See trace.h. */
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>

#include "capture/recording.h"
#include "log.h"
#include "report.h"

static void on_record(void *context, struct bytes record)
{
	/* A record that is refused is counted by the pipeline, and told at the end. */
	pipeline__record(context, record);
}

/* Reads the head. The exit status, after an error line. */
static int read_head(FILE *file, const char *path, struct policy *policy)
{
	uint32_t version = 0;
	int err = recording__read_head(file, policy, &version);

	if (!err)
		return STATUS_DONE;
	if (err == -ENOMSG)
		log_error("%s: not a recording of tlstrace", path);
	else if (err == -EPROTO)
		log_error(
			"%s: a recording of version %" PRIu32
			", this program reads version %d: replay it with the tlstrace that made it",
			path, version, WIRE_VERSION);
	else
		log_error("%s: cannot be read: %s", path, strerror(-err));
	return STATUS_FAILED;
}

/* Plays all records. The exit status, after an error line. */
static int play(FILE *file, const char *path, struct pipeline *pipeline)
{
	uint64_t offset;
	int err = recording__replay(file, on_record, pipeline, &offset);
	uint64_t bad = pipeline__totals(pipeline)->bad_records;

	if (err == -ENODATA)
		log_error("%s: cut short at byte %" PRIu64 ": what comes before it is shown", path,
			  offset);
	else if (err == -EBADMSG)
		log_error("%s: damaged at byte %" PRIu64 ": what comes before it is shown", path,
			  offset);
	else if (err)
		log_error("%s: cannot be read: %s", path, strerror(-err));
	else if (bad)
		log_error("%s: %" PRIu64 " damaged records were left out", path, bad);
	return err || bad ? STATUS_FAILED : STATUS_DONE;
}

int replay__run(const struct options *options)
{
	struct policy policy = {
		.show_secrets = options->show_secrets,
		.header_globs = (const char *const *)options->header_globs,
		.header_glob_count = options->header_glob_count,
	};
	struct pipeline_callbacks callbacks = {.entry = report__entry};
	struct pipeline *pipeline = NULL;
	struct report *report = NULL;
	FILE *file = fopen(options->replay_path, "re");
	int status;

	signal(SIGPIPE, SIG_IGN);
	if (!file) {
		log_error("%s: cannot be read: %s", options->replay_path, strerror(errno));
		return STATUS_FAILED;
	}
	status = read_head(file, options->replay_path, &policy);
	if (status)
		goto out;
	status = report__new(options, &report);
	if (status)
		goto out;
	callbacks.context = report;
	if (report__wants_underway(report))
		callbacks.underway = report__underway;
	if (pipeline__new(&policy, &callbacks, &pipeline)) {
		log_error("out of memory");
		status = STATUS_FAILED;
		goto out;
	}
	status = play(file, options->replay_path, pipeline);
	report__flush(report);
	if (report__failed(report))
		status = STATUS_FAILED;
	report__totals(report, pipeline);
out:
	pipeline__free(pipeline);
	report__free(report);
	fclose(file);
	return status;
}
