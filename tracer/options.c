/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. See options.h. */
#include "options.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

enum {
	OPT_HEADER = 256,
	OPT_SHOW_SECRETS,
	OPT_CHECK,
};

static const char args_doc[] = "COMMAND [ARG...]\n-p PID[,PID...]\n-b PATH\n-r FILE";

static const char doc[] =
	"Shows every HTTP request that programs make or serve over TLS: strace for HTTPS.\v"
	"Entries go to stdout; with COMMAND they go to stderr, since stdout is the command's. "
	"Secrets (credentials, cookies, tokens) are redacted unless --show-secrets is given; a "
	"recording (-w) holds them as they are.\n\n"
	"Exit status: 0 done (with COMMAND: the command's own, 128+signal, 127 not found, 126 not "
	"executable), 1 failed while running, 2 bad usage, 3 this system cannot trace.\n\n"
	"Examples:\n"
	"  tlstrace curl -s https://localhost:8443/\n"
	"  tlstrace -H -p 1234\n"
	"  tlstrace -f json -b /usr/sbin/nginx | jq .url.path";

static const struct argp_option argp_options[] = {
	{"pid", 'p', "PID[,PID]", 0, "Trace running processes and their children to come", 1},
	{"binary", 'b', "PATH", 0, "Trace every process that executes PATH, now or later", 1},
	{"read", 'r', "FILE", 0, "Replay a recording; needs no privilege", 1},
	{"format", 'f', "FORMAT", 0, "text (default) or json, one object a line", 2},
	{"output", 'o', "FILE", 0, "Write entries to FILE", 2},
	{"headers", 'H', NULL, 0, "Text: print the headers under each request", 2},
	{"header", OPT_HEADER, "NAME", 0,
	 "Log only these headers; `*` matches any text (repeatable)", 2},
	{"show-secrets", OPT_SHOW_SECRETS, NULL, 0, "Do not redact", 2},
	{"write", 'w', "FILE", 0,
	 "Record what the probes deliver, for -r; captured bytes as they are, secrets included", 2},
	{"count", 'n', "N", 0, "Stop after N requests", 3},
	{"duration", 'd', "SECONDS", 0, "Stop after that time", 3},
	{"check", OPT_CHECK, NULL, 0, "Say what this kernel and these privileges allow", 4},
	{"quiet", 'q', NULL, 0, "Say less on stderr", 4},
	{"verbose", 'v', NULL, 0, "Say more on stderr", 4},
	{0},
};

const char *argp_program_version = "tlstrace " TLSTRACE_VERSION;

/* Ends the program over a mistake in the command line. */
static void __attribute__((noreturn, format(printf, 1, 2))) usage_error(const char *format, ...)
{
	char message[512];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	log_error("%s; see tlstrace --help", message);
	exit(STATUS_USAGE);
}

/* Grows an array by one element. */
static void *append(void *array, size_t count, size_t size)
{
	array = realloc(array, (count + 1) * size);
	if (!array)
		usage_error("out of memory");
	return array;
}

static void add_pids(struct options *options, const char *list)
{
	const char *at = list;

	do {
		char *end;
		long pid;

		errno = 0;
		pid = strtol(at, &end, 10);
		if (end == at || (*end && *end != ',') || errno || pid <= 0 || pid > 0x7fffffff)
			usage_error("-p %s: not a process id", list);
		options->pids = append(options->pids, options->pid_count, sizeof(*options->pids));
		options->pids[options->pid_count++] = (pid_t)pid;
		at = *end ? end + 1 : end;
	} while (*at);
}

static void add_header_glob(struct options *options, const char *name)
{
	char *glob = strdup(name);

	if (!glob || !*glob)
		usage_error("--header: a name is needed");
	for (char *c = glob; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	options->header_globs = append(options->header_globs, options->header_glob_count,
				       sizeof(*options->header_globs));
	options->header_globs[options->header_glob_count++] = glob;
}

static uint64_t parse_count(const char *text)
{
	char *end;
	unsigned long long count;

	errno = 0;
	count = strtoull(text, &end, 10);
	if (end == text || *end || errno || !count || strchr(text, '-'))
		usage_error("-n %s: a number above 0 is needed", text);
	return count;
}

static uint64_t parse_duration(const char *text)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(text, &end);
	/* Not above 100 years: what is larger overflows the timer. */
	if (end == text || *end || errno || !isfinite(seconds) || seconds <= 0 || seconds > 3.2e9)
		usage_error("-d %s: a number of seconds above 0 is needed", text);
	return (uint64_t)(seconds * 1e9) + 1;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'p':
		add_pids(options, arg);
		break;
	case 'b':
		options->binaries = append(options->binaries, options->binary_count,
					   sizeof(*options->binaries));
		options->binaries[options->binary_count++] = arg;
		break;
	case 'r':
		options->replay_path = arg;
		break;
	case 'f':
		options->sink = sink__find(arg);
		if (!options->sink)
			usage_error("-f %s: unknown format, use text or json", arg);
		break;
	case 'o':
		options->output_path = arg;
		break;
	case 'H':
		options->headers = true;
		break;
	case OPT_HEADER:
		add_header_glob(options, arg);
		break;
	case OPT_SHOW_SECRETS:
		options->show_secrets = true;
		break;
	case 'w':
		options->write_path = arg;
		break;
	case 'n':
		options->count = parse_count(arg);
		break;
	case 'd':
		options->duration_ns = parse_duration(arg);
		break;
	case OPT_CHECK:
		options->check = true;
		break;
	case 'q':
		options->verbosity = -1;
		break;
	case 'v':
		options->verbosity = options->verbosity < 0 ? 1 : options->verbosity + 1;
		break;
	case ARGP_KEY_ARG:
		/* The command's own options are not ours. */
		options->command = &state->argv[state->next - 1];
		state->next = state->argc;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

void options__parse(int argc, char **argv, struct options *ret_options)
{
	static const struct argp argp = {argp_options, parse_option, args_doc, doc,
					 NULL,	       NULL,	     NULL};
	struct options options = {.sink = &sink_text};
	int modes;

	argp_err_exit_status = STATUS_USAGE;
	/* In order: what follows COMMAND belongs to it. */
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &options);
	modes = (options.pid_count || options.binary_count) + !!options.command +
		!!options.replay_path + options.check;
	if (!modes)
		usage_error("what is to be traced? Give a COMMAND, -p PID or -b PATH");
	if (modes > 1)
		usage_error("COMMAND, -p and -b, -r and --check exclude each other");
	if (options.replay_path && options.write_path)
		usage_error("-r and -w exclude each other");
	*ret_options = options;
}

void options__free(struct options *options)
{
	for (size_t i = 0; i < options->header_glob_count; i++)
		free(options->header_globs[i]);
	free(options->header_globs);
	free(options->binaries);
	free(options->pids);
}
