/* SPDX-License-Identifier: BSD-2-Clause */
/* Processes, files, and the records about them. See capture.h. */
#include "capture/capture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#include "capture/changes.h"
#include "capture/closing.h"
#include "capture/closure.h"
#include "capture/emulation.h"
#include "capture/tables.h"
#include "capture/target.h"
#include "clock.h"
#include "log.h"

/* Stale connections are looked for at most this often, and only after a process has ended. */
#define SWEEP_INTERVAL_NS 1000000000ull

/* Of a process, so many children that are not traced are told. */
#define CHILDREN_MAX 32

/* A file that has been looked at, by its identity: most hold no TLS code, none is read twice. */
struct file_key {
	uint64_t device;
	uint64_t inode;
};

struct file {
	struct file_key key;
	int watch;		/* of changes.h; -1: it has no probes, or cannot be watched */
	struct wire_file_id id; /* where it is watched */
	bool has_tls;
	struct bio *bio; /* NULL: it has no BIO functions */
	UT_hash_handle hh;
};

/* BIO functions of a file. */
struct bio {
	struct tls_code code;
	struct tls_sites sites;
	/* Where probes cannot be for one process: those for all, and how many want them. */
	struct process_probes *shared;
	size_t users;
};

/*
 * Whether the socket calls inside a program's TLS calls tell its connections. If they do not, and
 * until that is known, its records are compared with what its sockets carry (probes/ciphertext.h),
 * which needs probes on BIO functions.
 */
enum nesting {
	NESTING_UNKNOWN,
	NESTING_SUFFICES,
	NESTING_FALLS_SHORT,
};

/* What was learned of an executable; the next process that runs it is taken for the same. */
struct program {
	char *path;
	enum nesting nesting;
	UT_hash_handle hh;
};

/* Files with BIO functions that one process can have probes in: its own, and two libraries. */
#define PROCESS_BIOS 3

/* Executables of which something is remembered. */
#define PROGRAMS_MAX 4096

struct process {
	uint32_t pid;
	uint64_t since_ns; /* CLOCK_MONOTONIC: started, attached to or executed its program */
	char *path;	   /* of its executable; NULL: it has not executed one */
	enum nesting nesting;
	bool directed; /* the probes leave something out of its streams */
	struct {
		struct bio *bio;	       /* NULL: no more */
		struct process_probes *probes; /* NULL: the shared ones */
	} bios[PROCESS_BIOS];
	UT_hash_handle hh;
};

struct capture {
	const struct capture_options *options;
	struct probe_set *probes;
	struct tables *tables;	  /* NULL: none are asked for */
	struct emulated emulated; /* by this kernel, under a probe */
	bool places;		  /* probes go where they cost least */
	bool uretprobes;	  /* they harm nobody on this kernel */
	struct file *files;
	int changes; /* descriptor of changes.h; -1: none */
	size_t tls_files;
	struct process *processes;
	struct program *programs;
	bool ended_since_sweep;
	uint64_t swept_ns;
};

/* ---- files ---- */

/* The file, noted when it is new. NULL without memory: it is looked at again next time. */
static struct file *capture__file(struct capture *capture, const struct mapped_file *mapped,
				  bool *ret_new)
{
	struct file_key key = {.device = mapped->device, .inode = mapped->inode};
	struct file *file;

	HASH_FIND(hh, capture->files, &key, sizeof(key), file);
	*ret_new = !file;
	if (file)
		return file;
	file = calloc(1, sizeof(*file));
	if (file) {
		file->key = key;
		file->watch = -1;
		HASH_ADD(hh, capture->files, key, sizeof(file->key), file);
	}
	return file;
}

/* Puts probes on the file's TLS functions, and notes its BIO functions. */
static void capture__attach_tls(struct capture *capture, struct file *file,
				const struct mapped_file *mapped, struct elf_file *elf)
{
	struct tls_sites sites;
	struct tls_code code;
	unsigned int count;
	int err = elf_file__tls_code(elf, &code);

	if (err == -ENOENT)
		return;
	if (err) {
		log_warning("%s: cannot read its symbols: %s", mapped->path, strerror(-err));
		return;
	}
	err = tls_sites__find(elf, mapped->fd, &code, capture->places ? &capture->emulated : NULL,
			      capture->uretprobes || !capture->places, &sites);
	if (!err && sites.left_out)
		log_verbose(
			"%s: %u functions are left out: on this kernel a probe on their returns "
			"would kill confined processes",
			mapped->path, sites.left_out);
	if (!err && code.has_bio && !capture->options->classic) {
		file->bio = calloc(1, sizeof(*file->bio));
		if (file->bio)
			*file->bio = (struct bio){.code = code, .sites = sites};
	}
	if (!err && code.has_tls)
		err = probe_set__attach_tls(capture->probes, mapped->link, &code, &sites, &count);
	if (err) {
		log_warning("%s: cannot put probes on its TLS functions: %s", mapped->path,
			    strerror(-err));
		return;
	}
	if (!code.has_tls)
		return;
	file->has_tls = true;
	capture->tls_files++;
	log_verbose("%s: %s, %u probes", mapped->path, tls_library__name(code.library), count);
}

/* Says which part of the system is missing, and what to do. The exit status. */
static int say_cannot(const char *step, int err)
{
	if (err == -EPERM || err == -EACCES)
		log_error("cannot %s: %s; run it as root, or with the capabilities CAP_BPF, "
			  "CAP_PERFMON, CAP_SYS_PTRACE and CAP_SYS_RESOURCE",
			  step, strerror(-err));
	else
		log_error("cannot %s on this kernel: %s; tlstrace --check says what is missing",
			  step, strerror(-err));
	return 3;
}

/* Puts probes on the functions of Go's crypto/tls in the file. */
static void capture__attach_go(struct capture *capture, struct file *file,
			       const struct mapped_file *mapped, struct elf_file *elf)
{
	struct go_sites sites;
	struct go_code code = {0};
	enum go_function odd;
	unsigned int count = 0;
	int err = elf_file__go_code(elf, &code);

	if (err == -ENOENT)
		return;
	if (err) {
		log_warning("%s: its functions cannot be found: %s", mapped->path,
			    code.found_by ?: strerror(-err));
		return;
	}
	err = go_sites__find_all(elf, mapped->fd, &code,
				 capture->places ? &capture->emulated : NULL, &sites, &odd);
	if (err) {
		log_warning("%s: cannot place probes in %s: %s", mapped->path,
			    go_function__name(odd),
			    sites.placement[odd].exit_reason ?: strerror(-err));
		return;
	}
	err = probe_set__load_go(capture->probes, code.abi);
	if (err) {
		say_cannot("load BPF programs for Go", err);
		return;
	}
	err = probe_set__attach_go(capture->probes, mapped->link, code.abi, &sites, &count);
	if (err) {
		log_warning("%s: cannot put probes on its TLS functions: %s", mapped->path,
			    strerror(-err));
		return;
	}
	file->has_tls = true;
	capture->tls_files++;
	log_verbose("%s: %s, %u probes", mapped->path, code.version[0] ? code.version : "go",
		    count);
}

/* Puts a probe on the hook for debuggers, if the file is a dynamic loader. */
static void capture__attach_loader(struct capture *capture, const struct mapped_file *mapped,
				   struct elf_file *elf)
{
	uint64_t offset;
	int err;

	if (!target__is_loader(mapped, elf, &offset) || !offset)
		return;
	err = probe_set__attach_loader(capture->probes, mapped->link, offset);
	if (err)
		log_warning("%s: cannot see what it loads: %s", mapped->path, strerror(-err));
}

/* Puts probes into a file, once; *ret_new: it had not been looked at. NULL without memory. */
static struct file *capture__attach_file(struct capture *capture, const struct mapped_file *mapped,
					 bool *ret_new)
{
	struct file *file = capture__file(capture, mapped, ret_new);
	size_t before = probe_set__count(capture->probes);
	struct elf_file *elf;

	if (!file || !*ret_new)
		return file;
	if (elf_file__open(mapped->fd, &elf))
		return file; /* what is mapped to execute need not be ELF (a JIT's cache, Wine) */
	capture__attach_tls(capture, file, mapped, elf);
	capture__attach_go(capture, file, mapped, elf);
	capture__attach_loader(capture, mapped, elf);
	elf_file__close(elf);
	if (probe_set__count(capture->probes) == before)
		return file;
	probe_set__own(capture->probes, before, file);
	file->watch = changes__watch(capture->changes, mapped->link);
	probe_set__identify(capture->probes, mapped->fd, &file->id, NULL);
	return file;
}

/* Attaches to a file by a path of our own. 0 or -errno. */
static int capture__attach_path(struct capture *capture, const char *path)
{
	struct mapped_file mapped = {.path = path};
	char link[64];
	struct stat st;
	bool is_new;

	mapped.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (mapped.fd < 0)
		return -errno;
	if (!fstat(mapped.fd, &st) && S_ISREG(st.st_mode)) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", mapped.fd);
		mapped.device = st.st_dev;
		mapped.inode = st.st_ino;
		mapped.link = link;
		capture__attach_file(capture, &mapped, &is_new);
	}
	close(mapped.fd);
	return 0;
}

/*
 * Attaches to the TLS libraries that are beside the C library `libc`, a path below `root`: a
 * process loads one with dlopen and uses it within the time that it takes to attach.
 */
static void capture__attach_beside(struct capture *capture, const char *root, const char *libc)
{
	const char *slash = strrchr(libc, '/');
	char pattern[PATH_MAX];
	glob_t found;
	int size;

	if (!slash || strncmp(slash, "/libc.so.", 9))
		return;
	size = snprintf(pattern, sizeof(pattern), "%s%.*s/libssl.so.*", root, (int)(slash - libc),
			libc);
	if (size < 0 || (size_t)size >= sizeof(pattern) || glob(pattern, GLOB_NOSORT, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		capture__attach_path(capture, found.gl_pathv[i]);
	globfree(&found);
}

static struct process *capture__process(struct capture *capture, uint32_t pid)
{
	struct process *process;

	HASH_FIND(hh, capture->processes, &pid, sizeof(pid), process);
	return process;
}

/* ---- BIO functions ---- */

/* Puts probes on the BIO functions of a file, for one process. */
static void capture__attach_bio(struct capture *capture, struct process *process, struct bio *bio,
				const struct mapped_file *mapped)
{
	bool alone = probe_set__probes_one_process(capture->probes);
	struct process_probes *probes = bio->shared;
	size_t slot = 0;
	int err;

	while (slot < PROCESS_BIOS && process->bios[slot].bio && process->bios[slot].bio != bio)
		slot++;
	if (slot == PROCESS_BIOS || process->bios[slot].bio)
		return;
	if (alone || !probes) {
		err = probe_set__attach_bio(capture->probes, mapped->link, &bio->code, &bio->sites,
					    (pid_t)process->pid, &probes);
		if (err) {
			log_verbose("%s: cannot put probes on its BIO functions: %s", mapped->path,
				    strerror(-err));
			return;
		}
	}
	bio->shared = alone ? NULL : probes;
	bio->users++;
	process->bios[slot].bio = bio;
	process->bios[slot].probes = alone ? probes : NULL;
	if (!slot)
		probe_set__watch_ciphertext(capture->probes, (pid_t)process->pid, true);
	log_debug("process %u: probes on the BIO functions of %s", process->pid, mapped->path);
}

static void capture__detach_bios(struct capture *capture, struct process *process)
{
	if (process->bios[0].bio)
		probe_set__watch_ciphertext(capture->probes, (pid_t)process->pid, false);
	for (size_t i = 0; i < PROCESS_BIOS && process->bios[i].bio; i++) {
		struct bio *bio = process->bios[i].bio;

		probe_set__detach(capture->probes, process->bios[i].probes);
		bio->users--;
		if (!bio->users) {
			probe_set__detach(capture->probes, bio->shared);
			bio->shared = NULL;
		}
		process->bios[i].bio = NULL;
		process->bios[i].probes = NULL;
	}
}

/* What was learned of the program that a process runs. NULL without memory, or room. */
static struct program *capture__program(struct capture *capture, const char *path)
{
	struct program *program;

	HASH_FIND_STR(capture->programs, path, program);
	if (program || HASH_COUNT(capture->programs) >= PROGRAMS_MAX)
		return program;
	program = calloc(1, sizeof(*program));
	if (!program)
		return NULL;
	program->path = strdup(path);
	if (!program->path) {
		free(program);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, capture->programs, program->path, strlen(program->path), program);
	return program;
}

/* Learned how a process finds its connections: FALLS_SHORT is final. */
static void capture__learn_nesting(struct capture *capture, struct process *process,
				   enum nesting nesting)
{
	struct program *program = process->path ? capture__program(capture, process->path) : NULL;

	process->nesting = nesting;
	if (program && program->nesting != NESTING_FALLS_SHORT)
		program->nesting = nesting;
	if (nesting == NESTING_SUFFICES && process->bios[0].bio) {
		log_debug("process %u: its TLS calls use sockets, no probes on BIO functions",
			  process->pid);
		capture__detach_bios(capture, process);
	}
}

struct scan {
	struct capture *capture;
	struct process *process;
	char root[64]; /* of the process's files */
	bool has_tls;
	const char *other; /* a TLS library that is not known to probes, and was not told of yet */
};

static int attach_mapped(void *context, const struct mapped_file *mapped)
{
	struct scan *scan = context;
	struct file *file;
	const char *other;
	bool is_new;

	file = capture__attach_file(scan->capture, mapped, &is_new);
	if (file && file->has_tls)
		scan->has_tls = true;
	if (!is_new)
		return 0;
	other = other_tls_library(mapped->path);
	if (other)
		scan->other = other;
	capture__attach_beside(scan->capture, scan->root, mapped->path);
	return 0;
}

/* The BIO functions of a process that has TLS code: without, they serve something else. */
static int attach_mapped_bio(void *context, const struct mapped_file *mapped)
{
	struct scan *scan = context;
	struct file *file;
	bool is_new;

	file = capture__attach_file(scan->capture, mapped, &is_new);
	if (file && file->bio)
		capture__attach_bio(scan->capture, scan->process, file->bio, mapped);
	return 0;
}

/*
 * Puts probes into all that the process has mapped. 1 when it has TLS code, 0 when not, -ESRCH when
 * it is gone, or another -errno.
 */
static int capture__scan(struct capture *capture, pid_t pid)
{
	struct scan scan = {
		.capture = capture,
		.process = capture__process(capture, (uint32_t)pid),
	};
	int err;

	snprintf(scan.root, sizeof(scan.root), "/proc/%d/root", pid);
	err = process__each_mapped_file(pid, attach_mapped, &scan);
	if (!err && scan.has_tls && scan.process && scan.process->nesting != NESTING_SUFFICES)
		process__each_mapped_file(pid, attach_mapped_bio, &scan);
	if (!err && !scan.has_tls && scan.other) {
		char path[PATH_MAX] = "?";

		target__executable(pid, path);
		log_warning("process %d (%s) uses %s, which tlstrace does not see yet", pid, path,
			    scan.other);
	}
	return err ? err : scan.has_tls;
}

/* ---- files that change ---- */

/* Its probes are out of place now, and what is known of it is void. */
static void capture__forget_file(struct capture *capture, struct file *file)
{
	struct process *process, *next;

	HASH_ITER(hh, capture->processes, process, next)
	{
		for (size_t i = 0; file->bio && i < PROCESS_BIOS; i++)
			if (process->bios[i].bio == file->bio) {
				capture__detach_bios(capture, process);
				break;
			}
	}
	probe_set__disown(capture->probes, file);
	probe_set__file_unknown(capture->probes, &file->id);
	capture->tls_files -= file->has_tls;
	HASH_DELETE(hh, capture->files, file);
	free(file->bio);
	free(file);
}

int capture__files_fd(const struct capture *capture)
{
	return capture->changes;
}

void capture__check_files(struct capture *capture)
{
	struct file *file, *next;
	int watch;

	while (capture->changes >= 0 && changes__next(capture->changes, &watch)) {
		HASH_ITER(hh, capture->files, file, next)
		{
			if (file->watch < 0 || (watch >= 0 && file->watch != watch))
				continue;
			log_verbose("a file with probes is being written to: they are taken out, "
				    "until it is executed anew");
			capture__forget_file(capture, file);
		}
	}
}

/* ---- processes ---- */

static void capture__remove_process(struct capture *capture, struct process *process)
{
	capture__detach_bios(capture, process);
	tables__end_process(capture->tables, process->pid);
	HASH_DELETE(hh, capture->processes, process);
	free(process->path);
	free(process);
	capture->ended_since_sweep = true;
}

/* Tells the pipeline what a process is. */
static void capture__announce(struct capture *capture, const struct process *process)
{
	struct {
		struct wire_process record;
		char path[PATH_MAX];
	} announcement = {0};
	size_t size = strnlen(process->path, sizeof(announcement.path));
	struct wire_header *header = &announcement.record.header;

	header->size = (uint32_t)(sizeof(announcement.record) + size);
	header->type = WIRE_PROCESS;
	header->time_ns = process->since_ns;
	header->pid = header->tid = process->pid;
	memcpy(announcement.record.path, process->path, size);
	capture->options->record(capture->options->context, bytes__of(&announcement, header->size));
}

/*
 * A process is traced, or another than it was: `path` is its executable's; NULL when it has not
 * executed any of its own. NULL without memory.
 */
static struct process *capture__add_process(struct capture *capture, uint32_t pid, const char *path,
					    uint64_t since_ns)
{
	struct process *process = capture__process(capture, pid);
	struct program *program;

	if (!process) {
		process = calloc(1, sizeof(*process));
		if (!process)
			return NULL;
		process->pid = pid;
		HASH_ADD(hh, capture->processes, pid, sizeof(process->pid), process);
	}
	process->since_ns = since_ns;
	capture__detach_bios(capture, process);
	tables__end_process(capture->tables, pid);
	free(process->path);
	process->path = path ? strdup(path) : NULL;
	program = path ? capture__program(capture, path) : NULL;
	process->nesting = program ? program->nesting : NESTING_UNKNOWN;
	if (process->path)
		capture__announce(capture, process);
	return process;
}

/*
 * Begins to trace a running process. 1 when it has TLS code (or was traced before), 0 when not;
 * -ESRCH when it is gone, or another -errno.
 */
static int capture__trace(struct capture *capture, pid_t pid, uint32_t flags)
{
	char path[PATH_MAX];
	int err;

	if (capture__process(capture, (uint32_t)pid))
		return 1;
	if (!target__executable(pid, path))
		return -ESRCH;
	/* Followed at once; its TLS calls are taken when all probes are there: an answer whose
	 * question was missed for want of a probe could not be told from others. */
	err = probe_set__trace(capture->probes, pid, flags | TRACED_LATER);
	if (err)
		return err;
	if (!capture__add_process(capture, (uint32_t)pid, path, now_ns())) {
		probe_set__untrace(capture->probes, pid);
		return -ENOMEM;
	}
	err = capture__scan(capture, pid);
	probe_set__take_calls(capture->probes, pid);
	if (!target__executable(pid, path))
		err = -ESRCH; /* gone meanwhile: no record may tell */
	if (err == -ESRCH) {
		probe_set__untrace(capture->probes, pid);
		capture__remove_process(capture, capture__process(capture, (uint32_t)pid));
	}
	return err;
}

/* ---- targets ---- */

static int capture__trace_pid(struct capture *capture, pid_t pid)
{
	char path[PATH_MAX] = "?";
	pid_t group;
	int err = target__check(pid, &group);

	if (err)
		return err;
	target__executable(group, path);
	err = capture__trace(capture, group, TRACED_FOLLOW);
	if (err < 0) {
		log_error("cannot trace process %d: %s", pid,
			  err == -ESRCH ? "it is gone" : strerror(-err));
		return err == -EPERM || err == -EACCES ? 3 : 1;
	}
	if (!err)
		log_warning("process %d (%s) has no TLS library yet, waiting for it to load one",
			    pid, path);
	return 0;
}

/* Children that a -p PID had before it was traced; those it makes from then on are followed. */
struct children {
	pid_t pids[CHILDREN_MAX];
	size_t count;
};

/* Many a server's PID, as of its pid file, is of a process that only starts those that serve. */
static void capture__tell_children(struct capture *capture, pid_t parent,
				   const struct children *children)
{
	char path[PATH_MAX] = "?", list[CHILDREN_MAX * 12] = "";
	size_t count = 0, size = 0;

	for (size_t i = 0; i < children->count; i++) {
		pid_t pid = children->pids[i];

		if (pid == getpid() || capture__process(capture, (uint32_t)pid))
			continue;
		size += (size_t)snprintf(list + size, sizeof(list) - size, "%s%d", count ? "," : "",
					 pid);
		count++;
	}
	if (!count)
		return;
	target__executable(parent, path);
	log_warning("process %d (%s) has children that run already and are not traced: add -p %s",
		    parent, path, list);
}

/* Opens a -b PATH and finds out what it is. An fd, or minus the exit status after a message. */
static int open_binary(const char *path, struct elf_file **ret_elf)
{
	const char *what = NULL;
	struct elf_file *elf = NULL;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st))
		what = strerror(errno);
	else if (S_ISDIR(st.st_mode))
		what = "is a directory, not an ELF executable";
	else if (!S_ISREG(st.st_mode) || elf_file__open(fd, &elf) || !elf_file__is_executable(elf))
		what = "is not an ELF executable of this machine (a script's interpreter is: trace "
		       "that)";
	if (!what) {
		*ret_elf = elf;
		return fd;
	}
	log_error("%s: %s", path, what);
	elf_file__close(elf);
	if (fd >= 0)
		close(fd);
	return -2;
}

/* Whether what /proc/PID/exe names is the file. */
static bool executes(pid_t pid, const struct stat *file)
{
	char link[64];
	struct stat st;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	return !stat(link, &st) && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

static void capture__trace_running(struct capture *capture, const struct stat *file)
{
	DIR *proc = opendir("/proc");
	struct dirent *dirent;

	if (!proc)
		return;
	while ((dirent = readdir(proc))) {
		char *end;
		long pid = strtol(dirent->d_name, &end, 10);

		if (pid <= 0 || *end || pid == getpid() || !executes((pid_t)pid, file))
			continue;
		capture__trace(capture, (pid_t)pid, 0);
	}
	closedir(proc);
}

/* Traces all that executes the file behind `fd`, which `path` names. 0 or -errno. */
static int capture__trace_file(struct capture *capture, const char *path, int fd)
{
	struct wire_file_id id;
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	err = probe_set__identify(capture->probes, fd, &id, NULL);
	if (!err)
		err = probe_set__trace_binary(capture->probes, &id, basename(path));
	if (!err)
		capture__trace_running(capture, &st);
	return err;
}

static void attach_library(void *context, const char *path)
{
	capture__attach_path(context, path);
	capture__attach_beside(context, "", path);
}

static int capture__trace_binary(struct capture *capture, const char *path)
{
	char real[PATH_MAX], interpreter[PATH_MAX];
	struct elf_file *elf;
	int fd, err;

	fd = open_binary(path, &elf);
	if (fd < 0)
		return -fd;
	if (!realpath(path, real))
		snprintf(real, sizeof(real), "%s", path);
	/* Before any process that runs it: its own TLS code, its libraries', and its loader. */
	capture__attach_path(capture, real);
	if (!elf_file__interpreter(elf, interpreter, sizeof(interpreter))) {
		capture__attach_path(capture, interpreter);
		closure__each_library(interpreter, real, attach_library, capture);
	}
	err = capture__trace_file(capture, real, fd);
	if (err)
		log_error("%s: cannot be traced: %s", path, strerror(-err));
	elf_file__close(elf);
	close(fd);
	return err ? 1 : 0;
}

/* A file with a traced binary's name was executed: whether a -b PATH names that file now. */
static bool capture__binary_replaced(struct capture *capture, const struct wire_file_id *executed)
{
	bool replaced = false;

	for (size_t i = 0; i < capture->options->binary_count && !replaced; i++) {
		const char *path = capture->options->binaries[i];
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		struct wire_file_id id;

		if (fd < 0)
			continue;
		if (!probe_set__identify(capture->probes, fd, &id, NULL) &&
		    id.device == executed->device && id.inode == executed->inode) {
			capture__trace_file(capture, path, fd);
			replaced = true;
		}
		close(fd);
	}
	return replaced;
}

/* ---- records ---- */

static void capture__release(struct capture *capture, uint32_t pid)
{
	if (probe_set__release(capture->probes, (pid_t)pid))
		kill((pid_t)pid, SIGCONT);
}

/* A record of one of the types that never leave this room, copied out of the ring. */
static bool read_record(struct bytes record, void *ret, size_t size)
{
	const void *data = bytes__at(record, 0, size);

	if (data)
		memcpy(ret, data, size);
	return data;
}

/* What a process left out last is told while its connections are known. */
static void capture__report_left_out(struct capture *capture, uint32_t pid)
{
	struct process *process = capture__process(capture, pid);

	if (process && process->directed)
		probe_set__report_left_out(capture->probes, pid);
}

static void capture__exec(struct capture *capture, struct bytes record)
{
	struct process *process;
	struct wire_exec exec;
	char path[PATH_MAX];
	uint32_t pid;

	if (!read_record(record, &exec, sizeof(exec)))
		return;
	/* What it executes may have been written a moment ago. */
	capture__check_files(capture);
	pid = exec.header.pid;
	capture__report_left_out(capture, pid);
	if (!exec.traced && !capture__binary_replaced(capture, &exec.executable)) {
		process = capture__process(capture, pid);
		if (process) {
			exec.header.type = WIRE_EXIT;
			exec.header.size = sizeof(exec.header);
			capture->options->record(capture->options->context,
						 bytes__of(&exec.header, sizeof(exec.header)));
			capture__remove_process(capture, process);
		}
		return;
	}
	exec.path[sizeof(exec.path) - 1] = '\0';
	/* A process that is gone already left the path that it gave to execve. */
	if (!target__executable((pid_t)pid, path) && !realpath(exec.path, path))
		snprintf(path, sizeof(path), "%s", exec.path);
	capture__add_process(capture, pid, path, exec.header.time_ns);
	capture->ended_since_sweep = true; /* the connections of what it ran before */
	probe_set__forget_goroutines(capture->probes, pid);
	capture__scan(capture, (pid_t)pid);
	probe_set__file_known(capture->probes, &exec.executable);
	capture__release(capture, pid);
}

static void capture__fork(struct capture *capture, struct bytes record)
{
	struct process *parent;
	struct wire_fork fork;

	if (!read_record(record, &fork, sizeof(fork)))
		return;
	parent = capture__process(capture, fork.header.pid);
	capture__add_process(capture, fork.child, parent ? parent->path : NULL,
			     fork.header.time_ns);
	if (parent && parent->bios[0].bio)
		capture__scan(capture, (pid_t)fork.child);
}

/* TLS calls of a process used no socket: from now on its records are looked at. */
static void capture__unnested(struct capture *capture, uint32_t pid)
{
	struct process *process = capture__process(capture, pid);

	if (!process)
		return;
	log_verbose("process %u: its TLS calls use no sockets, comparing records", pid);
	capture__learn_nesting(capture, process, NESTING_FALLS_SHORT);
	capture__scan(capture, (pid_t)pid);
}

/* Data whose connection was found by nesting, of a process of which that was not known. */
static void capture__note_nesting(struct capture *capture, struct bytes record, uint32_t pid)
{
	struct process *process = capture__process(capture, pid);
	const struct wire_data *data = bytes__at(record, 0, sizeof(*data));

	if (data && process && process->nesting == NESTING_UNKNOWN &&
	    data->tuple.source == WIRE_TUPLE_NESTED)
		capture__learn_nesting(capture, process, NESTING_SUFFICES);
}

static void capture__exit(struct capture *capture, struct bytes record, uint32_t pid)
{
	struct process *process = capture__process(capture, pid);

	capture__report_left_out(capture, pid);
	capture->options->record(capture->options->context, record);
	if (process)
		capture__remove_process(capture, process);
}

/* Data of a process whose fork or exec record was lost: it is named now, late but in order. */
static void capture__identify_stranger(struct capture *capture, uint32_t pid)
{
	char path[PATH_MAX];

	if (!capture__process(capture, pid) && target__executable((pid_t)pid, path))
		capture__add_process(capture, pid, path, 0);
}

static void on_record(void *context, struct bytes record)
{
	struct capture *capture = context;
	struct wire_header header;

	if (!read_record(record, &header, sizeof(header)))
		return;
	switch (header.type) {
	case WIRE_EXEC:
		capture__exec(capture, record);
		break;
	case WIRE_FORK:
		capture__fork(capture, record);
		break;
	case WIRE_MAPPED:
		capture__scan(capture, (pid_t)header.pid);
		capture__release(capture, header.pid);
		break;
	case WIRE_EXIT:
		capture__exit(capture, record, header.pid);
		break;
	case WIRE_UNNESTED:
		capture__unnested(capture, header.pid);
		break;
	default:
		capture__identify_stranger(capture, header.pid);
		if (header.type == WIRE_DATA)
			capture__note_nesting(capture, record, header.pid);
		capture->options->record(capture->options->context,
					 bytes__first(record, header.size));
	}
}

static bool is_stale(void *context, uint32_t pid, uint64_t generation_ns)
{
	struct process *process = capture__process(context, pid);

	return !process || generation_ns < process->since_ns;
}

static void capture__sweep(struct capture *capture)
{
	uint64_t now;

	if (!capture->ended_since_sweep)
		return;
	now = now_ns();
	if (now - capture->swept_ns < SWEEP_INTERVAL_NS)
		return;
	probe_set__sweep(capture->probes, is_stale, capture);
	capture->ended_since_sweep = false;
	capture->swept_ns = now;
}

/* ---- the whole ---- */

static int capture__check_namespace(struct capture *capture)
{
	struct wire_file_id id;
	uint32_t pid;
	int err = probe_set__identify(capture->probes, STDERR_FILENO, &id, &pid);

	if (err)
		return say_cannot("run BPF programs (BPF_PROG_TEST_RUN)", err);
	if (pid != (uint32_t)getpid()) {
		log_error("cannot trace from inside a pid namespace: run it on the host, or in a "
			  "container that shares the host's pids (--pid=host)");
		return 3;
	}
	return 0;
}

static int capture__attach_targets(struct capture *capture)
{
	const struct capture_options *options = capture->options;
	struct children *children = calloc(options->pid_count + 1, sizeof(*children));
	int status = 0;

	for (size_t i = 0; i < options->binary_count && !status; i++)
		status = capture__trace_binary(capture, options->binaries[i]);
	for (size_t i = 0; i < options->pid_count && !status; i++) {
		if (children)
			children[i].count =
				target__children(options->pids[i], CHILDREN_MAX, children[i].pids);
		status = capture__trace_pid(capture, options->pids[i]);
	}
	for (size_t i = 0; children && i < options->pid_count && !status; i++)
		capture__tell_children(capture, options->pids[i], &children[i]);
	free(children);
	if (!status && options->command) {
		int err = probe_set__trace(capture->probes, options->command,
					   TRACED_FOLLOW | TRACED_HOLD | TRACED_COMMAND);

		if (!err && !capture__add_process(capture, (uint32_t)options->command, NULL, 0))
			err = -ENOMEM;
		if (err) {
			log_error("cannot trace the command: %s", strerror(-err));
			status = 1;
		}
	}
	return status;
}

int capture__new(const struct capture_options *options, struct capture **ret_capture)
{
	struct capture *capture = calloc(1, sizeof(*capture));
	struct probe_set_options probe_options = {
		.ring_bytes = options->ring_bytes,
		.wake_always = options->classic,
		.backend = options->backend,
		.record = on_record,
		.context = capture,
	};
	const char *step;
	int status, err;

	if (!capture) {
		log_error("out of memory");
		return 1;
	}
	capture->options = options;
	capture->changes = changes__open();
	if (emulation__try(&capture->emulated))
		capture->emulated = emulated__default();
	capture->uretprobes = uretprobe__is_safe();
	err = probe_set__new(&probe_options, &capture->probes, &step);
	status = err ? say_cannot(step, err) : capture__check_namespace(capture);
	if (!status && probe_set__backend(capture->probes) == SOCKET_BACKENDS)
		log_warning("this kernel has no way to see socket calls: only connections whose "
			    "descriptor a TLS library knows will be named");
	capture->places = !status && !options->classic && probe_set__places(capture->probes);
	if (!status && !options->classic)
		capture->tables = tables__new(capture->probes, &capture->emulated);
	if (!status)
		status = capture__attach_targets(capture);
	if (status)
		capture__free(capture);
	else
		*ret_capture = capture;
	return status;
}

void capture__free(struct capture *capture)
{
	struct process *process, *next_process;
	struct program *program, *next_program;
	struct file *file, *next_file;

	if (!capture)
		return;
	HASH_ITER(hh, capture->processes, process, next_process)
	{
		probe_set__untrace(capture->probes, (pid_t)process->pid);
		capture__release(capture, process->pid);
		capture__remove_process(capture, process);
	}
	if (capture->changes >= 0)
		closing__begin(capture->changes);
	tables__free(capture->tables);
	probe_set__free(capture->probes);
	HASH_ITER(hh, capture->files, file, next_file)
	{
		HASH_DELETE(hh, capture->files, file);
		free(file->bio);
		free(file);
	}
	HASH_ITER(hh, capture->programs, program, next_program)
	{
		HASH_DELETE(hh, capture->programs, program);
		free(program->path);
		free(program);
	}
	free(capture);
}

size_t capture__process_count(const struct capture *capture)
{
	return HASH_COUNT(capture->processes);
}

size_t capture__file_count(const struct capture *capture)
{
	return capture->tls_files;
}

int capture__drain(struct capture *capture)
{
	int count = probe_set__drain(capture->probes);

	capture__sweep(capture);
	tables__expire(capture->tables, now_ns());
	return count;
}

int capture__ring_fd(const struct capture *capture)
{
	return probe_set__ring_fd(capture->probes);
}

void capture__set_consumer(struct capture *capture, enum consumer_state state)
{
	probe_set__set_consumer(capture->probes, state);
}

bool capture__pending(const struct capture *capture)
{
	struct pollfd ring = {.fd = probe_set__ring_fd(capture->probes), .events = POLLIN};

	return capture->ended_since_sweep || tables__pending(capture->tables) ||
	       poll(&ring, 1, 0) > 0;
}

int capture__held_map_fd(const struct capture *capture)
{
	return probe_set__held_map_fd(capture->probes);
}

void capture__direct(struct capture *capture, const struct directive *directive)
{
	struct process *process = capture__process(capture, directive->pid);

	if (capture->options->classic)
		return;
	if (process)
		process->directed = true;
	probe_set__direct(capture->probes, directive);
}

void capture__request_table(struct capture *capture, const struct table_request *request)
{
	tables__request(capture->tables, request);
}

void capture__forget(struct capture *capture, uint32_t pid,
		     const struct wire_connection *connection)
{
	tables__forget(capture->tables, pid, connection);
	probe_set__forget(capture->probes, pid, connection);
}

void capture__finish(struct capture *capture, bool enough)
{
	struct wire_end end = {
		.header = {.size = sizeof(end), .type = WIRE_END},
		.enough = enough,
	};
	struct process *process, *next;

	/* What is not traced delivers no more: the drain after it is the last. */
	HASH_ITER(hh, capture->processes, process, next)
	probe_set__untrace(capture->probes, (pid_t)process->pid);
	if (!enough) {
		probe_set__drain(capture->probes);
		probe_set__report_left_out(capture->probes, 0);
	}
	end.header.time_ns = now_ns();
	end.events_lost = probe_set__events_lost(capture->probes);
	capture->options->record(capture->options->context, bytes__of(&end, sizeof(end)));
}
