/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A live trace: prepares the output and the pipeline, attaches, and then waits for whatever comes
 * first: records, the end of the targets, a signal, a limit.
 *
 * Waiting: after records came, for TIMER_MS, because the probes wake a process only when that is
 * worth its price, and more are likely; else without end, having told the probes to wake it. Not
 * beyond the moment when an entry has waited long enough for its connection's socket, or an
 * exchange has lasted: the pipeline has no clock, so a record tells it.
 */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "capture/capture.h"
#include "capture/command.h"
#include "capture/recording.h"
#include "clock.h"
#include "log.h"
#include "report.h"

#define TIMER_MS 20

/*
 * The ring: a fraction of memory, within bounds. The upper one is many times what comes in between
 * two looks at full speed; the ring is mapped twice, and both count as resident memory.
 */
#define RING_MIN_BYTES	    (4ul << 20)
#define RING_MAX_BYTES	    (16ul << 20)
#define RING_MEMORY_DIVISOR 512

struct trace {
	const struct options *options;
	struct policy policy;
	struct report *report;
	struct pipeline *pipeline;
	struct capture_options capture_options;
	struct capture *capture;
	FILE *recording;
	int recording_err;

	struct command command;
	int command_wait_status;
	bool command_ended;
	pid_t guard;
	int guard_fd;

	int epoll_fd;
	int signal_fd;
	int timer_fd;
	int ended_by; /* signal number, 0: none */
	bool timed_out;
};

/* ---- pipeline ---- */

static void on_record(void *context, struct bytes record)
{
	struct trace *trace = context;
	int err;

	if (trace->recording && !trace->recording_err) {
		err = recording__write(trace->recording, record);
		trace->recording_err = err;
		if (err)
			log_error("%s: cannot be written: %s", trace->options->write_path,
				  strerror(-err));
	}
	pipeline__record(trace->pipeline, record);
}

static void on_entry(void *context, const struct entry *entry)
{
	struct trace *trace = context;

	report__entry(trace->report, entry);
}

static void on_underway(void *context, const struct entry *entry)
{
	struct trace *trace = context;

	report__underway(trace->report, entry);
}

static void on_directive(void *context, const struct directive *directive)
{
	struct trace *trace = context;

	if (trace->capture)
		capture__direct(trace->capture, directive);
}

static void on_table(void *context, const struct table_request *request)
{
	struct trace *trace = context;

	if (trace->capture)
		capture__request_table(trace->capture, request);
}

static void on_forget(void *context, uint32_t pid, const struct wire_connection *connection)
{
	struct trace *trace = context;

	if (trace->capture)
		capture__forget(trace->capture, pid, connection);
}

/* ---- setting up ---- */

static int64_t clock_offset_ns(void)
{
	struct timespec real, monotonic;

	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_REALTIME, &real);
	return ((int64_t)real.tv_sec - monotonic.tv_sec) * 1000000000 +
	       (real.tv_nsec - monotonic.tv_nsec);
}

static size_t ring_bytes(void)
{
	struct sysinfo info;
	size_t want = RING_MIN_BYTES, bytes = RING_MIN_BYTES;

	if (!sysinfo(&info))
		want = info.totalram * info.mem_unit / RING_MEMORY_DIVISOR;
	while (bytes < want && bytes < RING_MAX_BYTES)
		bytes *= 2;
	return bytes;
}

static int trace__open_recording(struct trace *trace)
{
	const char *path = trace->options->write_path;
	int fd, err;

	if (!path)
		return STATUS_DONE;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	trace->recording = fd < 0 ? NULL : fdopen(fd, "w");
	err = trace->recording ? recording__write_head(trace->recording, &trace->policy) : -errno;
	if (!err)
		return STATUS_DONE;
	log_error("%s: cannot be written: %s", path, strerror(-err));
	return STATUS_FAILED;
}

static int trace__prepare_output(struct trace *trace)
{
	const struct options *options = trace->options;
	struct pipeline_callbacks callbacks = {
		.context = trace,
		.entry = on_entry,
		.directive = on_directive,
		.table = on_table,
		.forget = on_forget,
	};
	int status;

	trace->policy = (struct policy){
		.show_secrets = options->show_secrets,
		.header_globs = (const char *const *)options->header_globs,
		.header_glob_count = options->header_glob_count,
		.clock_offset_ns = clock_offset_ns(),
	};
	if (getrandom(trace->policy.key, sizeof(trace->policy.key), 0) !=
	    sizeof(trace->policy.key)) {
		log_error("no random key: %s", strerror(errno));
		return STATUS_FAILED;
	}
	status = report__new(options, &trace->report);
	if (!status && report__wants_underway(trace->report))
		callbacks.underway = on_underway;
	if (!status)
		status = trace__open_recording(trace);
	if (!status && pipeline__new(&trace->policy, &callbacks, &trace->pipeline)) {
		log_error("out of memory");
		status = STATUS_FAILED;
	}
	return status;
}

static int watch(int epoll_fd, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* What the loop waits for, but for the ring. The signals are blocked already. */
static int trace__prepare_waiting(struct trace *trace, const sigset_t *signals)
{
	int err;

	trace->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	trace->signal_fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
	trace->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (trace->epoll_fd < 0 || trace->signal_fd < 0 || trace->timer_fd < 0) {
		err = -errno;
		goto out;
	}
	err = watch(trace->epoll_fd, trace->signal_fd, EPOLLIN);
	if (!err)
		err = watch(trace->epoll_fd, trace->timer_fd, EPOLLIN);
out:
	if (!err)
		return STATUS_DONE;
	log_error("cannot wait for events: %s", strerror(-err));
	return STATUS_FAILED;
}

/* Each probe has a descriptor. The command, which runs already, keeps its limit. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Attaches, and watches the ring. The exit status, after an error line. */
static int trace__attach(struct trace *trace)
{
	const struct options *options = trace->options;
	int status, err;

	trace->capture_options = (struct capture_options){
		.pids = options->pids,
		.pid_count = options->pid_count,
		.binaries = options->binaries,
		.binary_count = options->binary_count,
		.command = trace->command.pid,
		.ring_bytes = options->ring_bytes ? options->ring_bytes : ring_bytes(),
		.classic = options->classic,
		.backend = options->backend,
		.record = on_record,
		.context = trace,
	};
	raise_descriptor_limit();
	status = capture__new(&trace->capture_options, &trace->capture);
	if (status)
		return status;
	/* Edge-triggered: only a wakeup by the probes counts, not that there are records. */
	err = watch(trace->epoll_fd, capture__ring_fd(trace->capture), EPOLLIN | EPOLLET);
	if (!err && capture__files_fd(trace->capture) >= 0)
		err = watch(trace->epoll_fd, capture__files_fd(trace->capture), EPOLLIN);
	if (!err && options->command) {
		trace->guard = guard__start(capture__held_map_fd(trace->capture), &trace->guard_fd);
		err = trace->guard < 0 ? trace->guard : 0;
	}
	if (err) {
		log_error("cannot wait for events: %s", strerror(-err));
		return STATUS_FAILED;
	}
	return STATUS_DONE;
}

/* The time that -d gives is one of tracing: it begins when all is attached. */
static void trace__begin(const struct trace *trace)
{
	const struct options *options = trace->options;
	const struct itimerspec timer = {
		.it_value.tv_sec = (time_t)(options->duration_ns / 1000000000),
		.it_value.tv_nsec = (long)(options->duration_ns % 1000000000),
	};

	/* It can fail for wrong arguments alone. */
	timerfd_settime(trace->timer_fd, 0, &timer, NULL);
	if (options->command)
		log_notice("ready: tracing %s", options->command[0]);
	else
		log_notice("ready: %zu processes, %zu files with TLS code",
			   capture__process_count(trace->capture),
			   capture__file_count(trace->capture));
}

/* ---- the loop ---- */

static void trace__read_signals(struct trace *trace)
{
	struct signalfd_siginfo info;

	while (read(trace->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD) {
			trace->ended_by = (int)info.ssi_signo;
			/* A terminal sends its signals to the command as well; kill(1) does not. */
			if (trace->command.pid && !trace->command_ended &&
			    info.ssi_code != SI_KERNEL)
				kill(trace->command.pid, (int)info.ssi_signo);
			continue;
		}
		if (trace->command.pid && !trace->command_ended &&
		    waitpid(trace->command.pid, &trace->command_wait_status, WNOHANG) ==
			    trace->command.pid)
			trace->command_ended = true;
	}
}

static bool trace__has_ended(const struct trace *trace)
{
	const struct options *options = trace->options;

	if (trace->ended_by || trace->timed_out || report__has_enough(trace->report) ||
	    report__failed(trace->report) || trace->recording_err)
		return true;
	if (options->command)
		return trace->command_ended;
	return !options->binary_count && !capture__process_count(trace->capture);
}

/* Drains the ring and says how long to wait for more, in milliseconds; -1: until woken. */
static int trace__drain(struct trace *trace)
{
	if (capture__drain(trace->capture) > 0) {
		capture__set_consumer(trace->capture, CONSUMER_TIMER);
		return TIMER_MS;
	}
	capture__set_consumer(trace->capture, CONSUMER_IDLE);
	/* What came just before would wake nobody. */
	if (capture__drain(trace->capture) > 0 || capture__pending(trace->capture)) {
		capture__set_consumer(trace->capture, CONSUMER_TIMER);
		return TIMER_MS;
	}
	/* Idle: what a burst of connections needed goes back to the system. */
	malloc_trim(0);
	return -1;
}

/*
 * Tells the pipeline the time when something is due. All records of before `time_ns` have been
 * taken. How long to wait for more, `timeout_ms` (-1: without end) at most: until the next is due,
 * but not less than TIMER_MS, for there may be many.
 */
static int trace__tick(struct trace *trace, uint64_t time_ns, int timeout_ms)
{
	struct wire_header tick = {.size = sizeof(tick), .type = WIRE_TICK, .time_ns = time_ns};
	uint64_t until = pipeline__waits_until(trace->pipeline), left_ms;

	if (until && until <= time_ns) {
		on_record(trace, bytes__of(&tick, sizeof(tick)));
		until = pipeline__waits_until(trace->pipeline);
	}
	if (!until)
		return timeout_ms;
	left_ms = (until - time_ns) / 1000000 + 1;
	if (left_ms < TIMER_MS)
		left_ms = TIMER_MS;
	return left_ms < (unsigned int)timeout_ms ? (int)left_ms : timeout_ms;
}

static void trace__loop(struct trace *trace)
{
	struct epoll_event events[4];
	int count, timeout_ms;
	uint64_t time_ns;

	for (;;) {
		time_ns = now_ns();
		timeout_ms = trace__drain(trace);
		timeout_ms = trace__tick(trace, time_ns, timeout_ms);
		report__flush(trace->report);
		if (trace__has_ended(trace))
			return;
		count = epoll_wait(trace->epoll_fd, events, 4, timeout_ms);
		capture__set_consumer(trace->capture, CONSUMER_BUSY);
		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == trace->signal_fd)
				trace__read_signals(trace);
			else if (events[i].data.fd == trace->timer_fd)
				trace->timed_out = true;
			else if (events[i].data.fd == capture__files_fd(trace->capture))
				capture__check_files(trace->capture);
		}
	}
}

/* ---- the end ---- */

static void trace__finish(struct trace *trace)
{
	capture__finish(trace->capture, report__has_enough(trace->report));
	report__flush(trace->report);
	if (trace->recording && !trace->recording_err && fflush(trace->recording)) {
		trace->recording_err = -errno;
		log_error("%s: cannot be written: %s", trace->options->write_path, strerror(errno));
	}
	report__totals(trace->report, trace->pipeline);
}

/* Waits for the command, which is not traced any more, and passes on signals meanwhile. */
static int trace__command_status(struct trace *trace)
{
	struct epoll_event event;

	while (!trace->command_ended) {
		if (epoll_wait(trace->epoll_fd, &event, 1, -1) < 0 && errno != EINTR)
			break;
		if (event.data.fd == trace->timer_fd)
			epoll_ctl(trace->epoll_fd, EPOLL_CTL_DEL, trace->timer_fd, NULL);
		trace__read_signals(trace);
	}
	return command__exit_status(&trace->command, trace->options->command[0],
				    trace->command_wait_status);
}

int trace__run(const struct options *options)
{
	struct trace trace = {
		.options = options,
		.epoll_fd = -1,
		.signal_fd = -1,
		.timer_fd = -1,
		.guard_fd = -1,
	};
	sigset_t signals;
	int status, err;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);

	status = trace__prepare_output(&trace);
	if (!status)
		status = trace__prepare_waiting(&trace, &signals);
	if (!status && options->command) {
		err = command__prepare(options->command, &trace.command);
		if (err) {
			log_error("cannot start a process: %s", strerror(-err));
			status = STATUS_FAILED;
		}
	}
	if (!status)
		status = trace__attach(&trace);
	if (status) {
		if (trace.command.pid)
			command__cancel(&trace.command);
		goto out;
	}
	trace__begin(&trace);
	if (options->command)
		command__go(&trace.command);
	trace__loop(&trace);
	trace__finish(&trace);
	capture__free(trace.capture);
	trace.capture = NULL;
	if (trace.guard)
		guard__stop(trace.guard, trace.guard_fd);
	if (options->command)
		status = trace__command_status(&trace);
	if (!status && (report__failed(trace.report) || trace.recording_err))
		status = STATUS_FAILED;
out:
	capture__free(trace.capture);
	pipeline__free(trace.pipeline);
	report__free(trace.report);
	if (trace.recording)
		fclose(trace.recording);
	close(trace.timer_fd);
	close(trace.signal_fd);
	close(trace.epoll_fd);
	return status;
}
