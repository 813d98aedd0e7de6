/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. */
#ifndef TLSTRACE_OPTIONS_H
#define TLSTRACE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "capture/backend.h"
#include "sink/sink.h"

/* Exit statuses (docs/output.md); in command mode the command's own comes before them. */
enum exit_status {
	STATUS_DONE = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_CANNOT = 3,
};

struct options {
	pid_t *pids;
	size_t pid_count;
	const char **binaries;
	size_t binary_count;
	char **command; /* NULL: none */
	const char *replay_path;
	bool check;
	pid_t explain; /* 0: none */

	const char *output_path; /* NULL: stdout, or stderr with a command */
	const char *write_path;
	const struct sink_ops *sink;
	bool headers;
	char **header_globs; /* lower case */
	size_t header_glob_count;
	bool show_secrets;
	uint64_t count;		     /* entries; 0: no limit */
	uint64_t duration_ns;	     /* 0: no limit */
	size_t ring_bytes;	     /* 0: chosen from the memory */
	bool classic;		     /* capture_options.classic */
	enum socket_backend backend; /* SOCKET_BACKENDS: the first that works */
	int verbosity;		     /* -q: -1, -v: 1, -vv: 2 */
};

/*
 * Parses the command line. Ends the program for --help and --version (status 0) and for what is
 * wrong (a line on stderr, status 2). `ret_options` lives as long as argv.
 */
void options__parse(int argc, char **argv, struct options *ret_options);
void options__free(struct options *options);

#endif
