/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The BPF programs attached, and what is written to and read from their maps. What to attach where,
 * and what the records mean, is decided by its callers; which programs are loaded when, by
 * programs.h.
 */
#ifndef TLSTRACE_PROBE_SET_H
#define TLSTRACE_PROBE_SET_H

#include "base/bytes.h"
#include "capture/backend.h"
#include "flow/flow.h"
#include "go.h"
#include "nghttp2.h"
#include "sites.h"
#include "state.h"
#include "symbols.h"

struct probe_set;

/* Takes a record from the ring; the view is valid during the call. */
typedef void record_fn(void *context, struct bytes record);

struct probe_set_options {
	size_t ring_bytes;	     /* a power of two, at least a page */
	bool wake_always;	     /* a wakeup for each record */
	enum socket_backend backend; /* SOCKET_BACKENDS: the first that works */
	record_fn *record;
	void *context;
};

/*
 * Loads the common programs and the maps, and attaches what watches processes and sockets; nothing
 * is traced yet. 0; -EPERM or -EACCES without the privilege, -EOPNOTSUPP or another -errno when the
 * kernel cannot; *ret_step then says which step failed ("load BPF programs", ...), static text.
 */
int probe_set__new(const struct probe_set_options *options, struct probe_set **ret_set,
		   const char **ret_step);

/*
 * Loads the other programs now, which otherwise are loaded when they are first needed: those for
 * Go's functions, or all that this kernel should be able to load. 0 or the same errors.
 */
int probe_set__load_go(struct probe_set *set, enum go_abi abi);
int probe_set__load_all(struct probe_set *set);

/* How sockets are seen; SOCKET_BACKENDS when this kernel has no way. */
enum socket_backend probe_set__backend(const struct probe_set *set);

/* Detaches and unloads everything: the targets run as if it never was. NULL is fine. */
void probe_set__free(struct probe_set *set);

/*
 * Whether probes can be anywhere in a function: what they must know of the place is in a cookie,
 * which kernels before 5.15 do not have. Otherwise only sites without stack_bytes will do.
 */
bool probe_set__places(const struct probe_set *set);

/*
 * Puts probes on the TLS functions of the file that `path` opens, for all processes. 0, or -errno
 * with none left on it. *ret_count is the number of probes.
 */
int probe_set__attach_tls(struct probe_set *set, const char *path, const struct tls_code *code,
			  const struct tls_sites *sites, unsigned int *ret_count);

/* The same for a Go executable. */
int probe_set__attach_go(struct probe_set *set, const char *path, enum go_abi abi,
			 const struct go_sites *sites, unsigned int *ret_count);

/* Probes in one file that come and go: on BIO_write and BIO_read (see probes/ciphertext.h) ... */
struct process_probes;

/*
 * Puts them into the file, where the kernel can (6.6+) for one process alone. 0 or -errno;
 * *ret_probes is for probe_set__detach.
 */
int probe_set__attach_bio(struct probe_set *set, const char *path, const struct tls_code *code,
			  const struct tls_sites *sites, pid_t pid,
			  struct process_probes **ret_probes);

/* Whether this kernel lets probes read HPACK tables (5.17+). */
bool probe_set__reads_tables(const struct probe_set *set);

/* The same for probes that read HPACK tables, see probes/hpack.h. */
int probe_set__attach_tables(struct probe_set *set, const char *path,
			     const struct nghttp2_code *code, pid_t pid,
			     struct process_probes **ret_probes);

/* The same for those that read the tables of a Go program. */
int probe_set__attach_go_tables(struct probe_set *set, const char *path, enum go_abi abi,
				const struct go_hpack_sites *sites, pid_t pid,
				struct process_probes **ret_probes);

/*
 * Whether the probes remember what was read: only then are wishes granted. To be said again when
 * probes have been put into a process: what it read before is forgotten.
 */
void probe_set__note_reads(struct probe_set *set, bool note);

/*
 * Wishes for the HPACK table of a stream, once; it comes as a WIRE_TABLE record, if it does. 0 or
 * -errno.
 */
int probe_set__wish(struct probe_set *set, uint32_t pid, const struct wire_connection *connection,
		    enum wire_direction direction);
void probe_set__unwish(struct probe_set *set, uint32_t pid,
		       const struct wire_connection *connection, enum wire_direction direction);

/* Detaches them, in the background; NULL is fine. */
void probe_set__detach(struct probe_set *set, struct process_probes *probes);

/* Whether this kernel can put probes into one process alone. */
bool probe_set__probes_one_process(const struct probe_set *set);

/*
 * Says whether socket calls of a traced process outside of its TLS calls are looked at. What was
 * begun must be ended, also when the process is gone by then.
 */
void probe_set__watch_ciphertext(struct probe_set *set, pid_t pid, bool watch);

/* How many probes there are for all processes. */
size_t probe_set__count(const struct probe_set *set);

/* Those that were added since there were `count` are of `owner`, for probe_set__disown. */
void probe_set__own(struct probe_set *set, size_t count, const void *owner);

/* Detaches, in the background, the probes for all processes that are of `owner`. */
void probe_set__disown(struct probe_set *set, const void *owner);

/* Puts a probe on the dynamic loader's _dl_debug_state at `offset` of the file. 0 or -errno. */
int probe_set__attach_loader(struct probe_set *set, const char *path, uint64_t offset);

/*
 * What the probes take for the identity of the open file `fd`, and for the pid of this process
 * (ret_pid may be NULL), which differs from getpid() in a pid namespace. 0 or -errno.
 */
int probe_set__identify(struct probe_set *set, int fd, struct wire_file_id *ret_id,
			uint32_t *ret_pid);

/* Traces a process; flags are TRACED_*. 0; -E2BIG when the table is full. */
int probe_set__trace(struct probe_set *set, pid_t pid, uint32_t flags);
void probe_set__untrace(struct probe_set *set, pid_t pid);

/* From now on the TLS calls of a process are taken that was traced with TRACED_LATER. */
void probe_set__take_calls(struct probe_set *set, pid_t pid);

/*
 * Traces every process that executes the file from now on, and reports those that execute another
 * file called `name` (cut to WIRE_NAME_BYTES - 1). 0 or -errno.
 */
int probe_set__trace_binary(struct probe_set *set, const struct wire_file_id *id, const char *name);

/* A process that executes this file need not be held: its probes are in place. Or not any more. */
void probe_set__file_known(struct probe_set *set, const struct wire_file_id *id);
void probe_set__file_unknown(struct probe_set *set, const struct wire_file_id *id);

/* Whether the process was held; it is not any more for the probes, SIGCONT is the caller's. */
bool probe_set__release(struct probe_set *set, pid_t pid);

/* The map of held processes (key: u32 pid), for the guard. */
int probe_set__held_map_fd(const struct probe_set *set);

/* See flow.h. */
void probe_set__direct(struct probe_set *set, const struct directive *directive);
void probe_set__forget(struct probe_set *set, uint32_t pid,
		       const struct wire_connection *connection);

/* Whether a connection that began at generation_ns (CLOCK_MONOTONIC) cannot live any more. */
typedef bool connection_stale_fn(void *context, uint32_t pid, uint64_t generation_ns);

/*
 * Drops what the probes keep of connections that are stale: those of a process that ended, or
 * executed something else, without freeing its TLS objects.
 */
void probe_set__sweep(struct probe_set *set, connection_stale_fn *stale, void *context);

/*
 * Tells how far the streams have come whose bytes the probes leave out, as records like theirs: of
 * a process that ended (its last call was reported), or of all (0) when tracing ends.
 */
void probe_set__report_left_out(struct probe_set *set, uint32_t pid);

/* A process executes something else: what its goroutines were in is over. */
void probe_set__forget_goroutines(struct probe_set *set, uint32_t pid);

/* Readable by poll(2) as long as the ring holds anything; for edge-triggered epoll. */
int probe_set__ring_fd(const struct probe_set *set);

/* Hands all records that are ready to options.record. Their number, or -errno. */
int probe_set__drain(struct probe_set *set);

/* Tells the probes how eagerly to wake this process. */
void probe_set__set_consumer(struct probe_set *set, enum consumer_state state);

/* Records, calls and connections that the probes had no room for, so far. */
uint64_t probe_set__events_lost(const struct probe_set *set);

#endif
