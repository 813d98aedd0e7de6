/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tracing as it happens: knows which processes are traced and which files have their probes, and
 * puts probes into a file the moment a traced process executes or maps it. Hands on the records
 * that the pipeline takes, in order, each process named before its data.
 *
 * Says what is wrong, or what is attached, on stderr itself: here the names are known.
 */
#ifndef TLSTRACE_CAPTURE_H
#define TLSTRACE_CAPTURE_H

#include "capture/probe_set.h"

struct capture_options {
	const pid_t *pids; /* trace these and their children to come */
	size_t pid_count;
	const char *const *binaries; /* trace every process that executes one of these */
	size_t binary_count;
	pid_t command; /* trace this child, which has not executed its program yet; 0: none */
	size_t ring_bytes;
	enum socket_backend backend; /* see backend.h */
	/*
	 * For comparison, what other tracers do: probes at first bytes and uretprobes, a wakeup for
	 * each record, everything captured.
	 */
	bool classic;
	record_fn *record;
	void *context;
};

struct capture;

/*
 * Loads the probes and attaches to all that can be attached now; the options' arrays must outlive
 * *ret_capture. 0, or the program's exit status after an error line: 1 a target that is not there
 * or cannot be traced, 2 a binary that is none, 3 what this system lacks.
 */
int capture__new(const struct capture_options *options, struct capture **ret_capture);

/* Detaches everything and lets go whom it holds. NULL is fine. */
void capture__free(struct capture *capture);

/* Processes that are traced now. */
size_t capture__process_count(const struct capture *capture);

/* Files that have probes in TLS functions. */
size_t capture__file_count(const struct capture *capture);

/* Handles what the probes have delivered. The number of records, or -errno. */
int capture__drain(struct capture *capture);

/* For edge-triggered epoll: when it becomes readable, capture__drain has something to do. */
int capture__ring_fd(const struct capture *capture);

/* For epoll: when it is readable, capture__check_files has something to do. -1: there is none. */
int capture__files_fd(const struct capture *capture);

/* Takes the probes out of files that are being written to. To be called soon. */
void capture__check_files(struct capture *capture);

/*
 * Says how this process waits next, after which it must drain once more before it really does.
 * CONSUMER_IDLE: without end; CONSUMER_TIMER: for a moment.
 */
void capture__set_consumer(struct capture *capture, enum consumer_state state);

/* Whether capture__drain is wanted again soon: records wait in the ring, finished or not, or what
 * has ended is to be cleared away. */
bool capture__pending(const struct capture *capture);

/* The map of held processes, for guard__start. */
int capture__held_map_fd(const struct capture *capture);

/* See flow.h. */
void capture__direct(struct capture *capture, const struct directive *directive);
void capture__request_table(struct capture *capture, const struct table_request *request);
void capture__forget(struct capture *capture, uint32_t pid,
		     const struct wire_connection *connection);

/*
 * Ends the trace: hands on what is left, then the WIRE_END record with the losses. `enough`: the
 * wanted number of entries is out, nothing but that record is handed on.
 */
void capture__finish(struct capture *capture, bool enough);

#endif
