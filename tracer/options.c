/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. See options.h. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
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
	OPT_RING_SIZE,
	OPT_CLASSIC,
	OPT_SOCKET_BACKEND,
	OPT_VERSION,
	OPT_HELP,
};

static const char help[] =
	"Usage: tlstrace [OPTIONS] COMMAND [ARG...]\n"
	"       tlstrace [OPTIONS] -p PID[,PID...]\n"
	"       tlstrace [OPTIONS] -b PATH\n"
	"       tlstrace [OPTIONS] -r FILE\n"
	"       tlstrace -e PID | --check\n"
	"\n"
	"Shows every HTTP request that programs make or serve over TLS: strace for HTTPS.\n"
	"\n"
	"What to trace:\n"
	"  -p, --pid PID[,PID]     running processes and their children to come; repeatable\n"
	"  -b, --binary PATH       every process that executes PATH, now or later; repeatable\n"
	"  -r, --read FILE         replay a recording; needs no privilege\n"
	"\n"
	"What to log, and where:\n"
	"  -f, --format FORMAT     text (default), or json: one object a line\n"
	"  -o, --output FILE       write entries to FILE\n"
	"  -H, --headers           text: print the headers under each request\n"
	"      --header NAME       log only these headers; * matches any text; repeatable\n"
	"      --show-secrets      do not redact\n"
	"  -w, --write FILE        record what the probes deliver, for -r: the captured bytes as\n"
	"                          they are, secrets included\n"
	"\n"
	"When to stop:\n"
	"  -n, --count N           after N requests\n"
	"  -d, --duration SECONDS  after that time\n"
	"\n"
	"      --ring-size MB      room for records between the kernel and tlstrace: a power of "
	"2,\n"
	"                          up to 1024; default: from the memory, 4 to 16\n"
	"  -q, --quiet             say less on stderr\n"
	"  -v, --verbose           say more on stderr; twice for even more\n"
	"  -e, --explain PID       say what is found in a process and what would be attached\n"
	"      --check             say what this kernel and these privileges allow\n"
	"      --version           print the version\n"
	"      --help              print this\n"
	"\n"
	"Entries go to stdout; with COMMAND to stderr, since stdout is the command's. Secrets\n"
	"(credentials, cookies, tokens) are redacted. Bodies are never logged.\n"
	"\n"
	"Exit status: 0 done (with COMMAND its own; 128+signal; 127 not found, 126 not "
	"executable),\n"
	"1 failed while running, 2 bad usage, 3 this system cannot trace.\n"
	"\n"
	"Examples:\n"
	"  tlstrace curl -s https://localhost:8443/\n"
	"  tlstrace -H -p 1234\n"
	"  tlstrace -f json -b /usr/sbin/nginx | jq .url.path\n";

/* `+`: what follows COMMAND belongs to it. `:` a missing value is told apart. */
static const char short_options[] = "+:p:b:r:e:f:o:Hw:n:d:qv";

static const struct option long_options[] = {
	{"pid", required_argument, NULL, 'p'},
	{"binary", required_argument, NULL, 'b'},
	{"read", required_argument, NULL, 'r'},
	{"explain", required_argument, NULL, 'e'},
	{"format", required_argument, NULL, 'f'},
	{"output", required_argument, NULL, 'o'},
	{"headers", no_argument, NULL, 'H'},
	{"header", required_argument, NULL, OPT_HEADER},
	{"show-secrets", no_argument, NULL, OPT_SHOW_SECRETS},
	{"write", required_argument, NULL, 'w'},
	{"count", required_argument, NULL, 'n'},
	{"duration", required_argument, NULL, 'd'},
	{"check", no_argument, NULL, OPT_CHECK},
	{"ring-size", required_argument, NULL, OPT_RING_SIZE},
	/* For measuring and tests, not in the help. */
	{"classic", no_argument, NULL, OPT_CLASSIC},
	{"socket-backend", required_argument, NULL, OPT_SOCKET_BACKEND},
	{"quiet", no_argument, NULL, 'q'},
	{"verbose", no_argument, NULL, 'v'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

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

static pid_t parse_pid(const char *text)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(text, &end, 10);
	if (end == text || *end || errno || pid <= 0 || pid > 0x7fffffff)
		usage_error("-e %s: not a process id", text);
	return (pid_t)pid;
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

static size_t parse_ring_size(const char *text)
{
	char *end;
	unsigned long size;

	errno = 0;
	size = strtoul(text, &end, 10);
	if (end == text || *end || errno || !size || size > 1024 || size & (size - 1))
		usage_error("--ring-size %s: a power of 2 is needed, from 1 to 1024 (MB)", text);
	return size << 20;
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

/* Prints what was asked for, and ends the program. */
static void __attribute__((noreturn)) print_and_exit(const char *text)
{
	if (fputs(text, stdout) == EOF || fflush(stdout)) {
		log_error("stdout: cannot be written: %s", strerror(errno));
		exit(STATUS_FAILED);
	}
	exit(STATUS_DONE);
}

static void take_option(struct options *options, int option, const char *value)
{
	switch (option) {
	case 'p':
		add_pids(options, value);
		break;
	case 'b':
		options->binaries = append(options->binaries, options->binary_count,
					   sizeof(*options->binaries));
		options->binaries[options->binary_count++] = value;
		break;
	case 'r':
		options->replay_path = value;
		break;
	case 'e':
		options->explain = parse_pid(value);
		break;
	case 'f':
		options->sink = sink__find(value);
		if (!options->sink)
			usage_error("-f %s: unknown format, use text or json", value);
		break;
	case 'o':
		options->output_path = value;
		break;
	case 'H':
		options->headers = true;
		break;
	case OPT_HEADER:
		add_header_glob(options, value);
		break;
	case OPT_SHOW_SECRETS:
		options->show_secrets = true;
		break;
	case 'w':
		options->write_path = value;
		break;
	case 'n':
		options->count = parse_count(value);
		break;
	case 'd':
		options->duration_ns = parse_duration(value);
		break;
	case OPT_CHECK:
		options->check = true;
		break;
	case OPT_RING_SIZE:
		options->ring_bytes = parse_ring_size(value);
		break;
	case OPT_CLASSIC:
		options->classic = true;
		break;
	case OPT_SOCKET_BACKEND:
		options->backend = socket_backend__of(value);
		if (options->backend == SOCKET_BACKENDS)
			usage_error("--socket-backend %s: tracepoints, fexit, kprobes or syscalls "
				    "is needed",
				    value);
		break;
	case 'q':
		options->verbosity = -1;
		break;
	case 'v':
		options->verbosity = options->verbosity < 0 ? 1 : options->verbosity + 1;
		break;
	case OPT_VERSION:
		print_and_exit("tlstrace " TLSTRACE_VERSION "\n");
	case OPT_HELP:
		print_and_exit(help);
	}
}

/* What getopt did not take: its word for the message. */
static void __attribute__((noreturn)) refuse_option(char **argv, int result)
{
	const char letter[] = {'-', (char)optopt, '\0'};
	/* A letter may be one of several in a word, which getopt has not left then. */
	const char *option = optopt > 0 && optopt < OPT_HEADER ? letter : argv[optind - 1];

	if (result == ':')
		usage_error("%s needs a value", option);
	usage_error("unknown option %s", option);
}

void options__parse(int argc, char **argv, struct options *ret_options)
{
	struct options options = {.sink = &sink_text, .backend = SOCKET_BACKENDS};
	int option, modes;

	opterr = 0;
	while ((option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
		if (option == '?' || option == ':')
			refuse_option(argv, option);
		take_option(&options, option, optarg);
	}
	if (optind < argc)
		options.command = &argv[optind];
	modes = (options.pid_count || options.binary_count) + !!options.command +
		!!options.replay_path + !!options.explain + options.check;
	if (!modes)
		usage_error("what is to be traced? Give a COMMAND, -p PID or -b PATH");
	if (modes > 1)
		usage_error("COMMAND, -p and -b, -r, -e and --check exclude each other");
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
