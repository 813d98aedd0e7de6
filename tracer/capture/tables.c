/* SPDX-License-Identifier: BSD-2-Clause */
/* Probes that read HPACK tables, where they are wanted. See tables.h. */
#include "capture/tables.h"

#include <errno.h>
#include <stdlib.h>

#include <uthash.h>
#include <utlist.h>

#include "clock.h"
#include "log.h"

/* Waited for at once: each may take some KB of the ring at the same moment. */
#define WAITED_MAX 64

/* A connection that does not move meanwhile is asked for again when it does (flow.c). */
#define WAIT_NS 5000000000ull

/* Files with code of HTTP/2 that one process can have probes in. */
#define PROCESS_FILES 2

struct file_key {
	uint64_t device;
	uint64_t inode;
};

/* A file that has been looked at. */
struct file {
	struct file_key key;
	bool has_nghttp2;
	struct nghttp2_code nghttp2;
	bool has_go;
	enum go_abi abi;
	struct go_hpack_sites go;
	/* Where probes cannot be for one process: those for all, and how many want them. */
	struct process_probes *shared;
	size_t users;
	UT_hash_handle hh;
};

/* A process with something that is waited for, or one that has nothing that could be asked. */
struct process {
	uint32_t pid;
	size_t waited;
	struct {
		struct file *file;	       /* NULL: no more */
		struct process_probes *probes; /* NULL: the shared ones */
	} files[PROCESS_FILES];
	UT_hash_handle hh;
};

/* A table that is waited for. */
struct wait {
	struct process *process;
	struct wire_connection connection;
	enum wire_direction direction;
	uint64_t until_ns;
	struct wait *prev, *next; /* in the order of until_ns */
};

struct tables {
	struct probe_set *probes;
	const struct emulated *emulated;
	struct file *files;
	struct process *processes;
	struct wait *waits;
	size_t wait_count;
};

struct tables *tables__new(struct probe_set *probes, const struct emulated *emulated)
{
	struct tables *tables = calloc(1, sizeof(*tables));

	if (!tables)
		return NULL;
	tables->probes = probes;
	tables->emulated = emulated;
	return tables;
}

/* The file, looked at when it is new. NULL without memory. */
static struct file *tables__file(struct tables *tables, const struct mapped_file *mapped)
{
	struct file_key key = {.device = mapped->device, .inode = mapped->inode};
	struct elf_file *elf;
	struct file *file;
	struct go_code go;

	HASH_FIND(hh, tables->files, &key, sizeof(key), file);
	if (file)
		return file;
	file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->key = key;
	HASH_ADD(hh, tables->files, key, sizeof(file->key), file);
	if (elf_file__open(mapped->fd, &elf))
		return file; /* what is mapped to execute need not be ELF */
	file->has_nghttp2 = !nghttp2_code__find(elf, mapped->fd, tables->emulated, &file->nghttp2);
	if (!file->has_nghttp2 && !elf_file__go_code(elf, &go)) {
		file->abi = go.abi;
		file->has_go =
			!go_hpack_sites__find(elf, mapped->fd, &go, tables->emulated, &file->go);
	}
	elf_file__close(elf);
	if (file->has_nghttp2 || file->has_go)
		log_verbose("%s: %s, HPACK tables can be read", mapped->path,
			    file->has_go ? "Go's HTTP/2" : "libnghttp2");
	return file;
}

/* Puts probes into a file, for one process. */
static void tables__attach(struct tables *tables, struct process *process, struct file *file,
			   const struct mapped_file *mapped)
{
	bool alone = probe_set__probes_one_process(tables->probes);
	struct process_probes *probes = file->shared;
	size_t slot = 0;
	int err;

	while (slot < PROCESS_FILES && process->files[slot].file)
		slot++;
	if (slot == PROCESS_FILES)
		return;
	if (alone || !probes) {
		err = file->has_go
			      ? probe_set__attach_go_tables(tables->probes, mapped->link, file->abi,
							    &file->go, (pid_t)process->pid, &probes)
			      : probe_set__attach_tables(tables->probes, mapped->link,
							 &file->nghttp2, (pid_t)process->pid,
							 &probes);
		if (err) {
			log_verbose("%s: cannot put probes on its HTTP/2 functions: %s",
				    mapped->path, strerror(-err));
			return;
		}
	}
	file->shared = alone ? NULL : probes;
	file->users++;
	process->files[slot].file = file;
	process->files[slot].probes = alone ? probes : NULL;
	log_debug("process %u: probes on the HTTP/2 functions of %s", process->pid, mapped->path);
}

static void tables__detach(struct tables *tables, struct process *process)
{
	for (size_t i = 0; i < PROCESS_FILES && process->files[i].file; i++) {
		struct file *file = process->files[i].file;

		probe_set__detach(tables->probes, process->files[i].probes);
		file->users--;
		if (!file->users) {
			probe_set__detach(tables->probes, file->shared);
			file->shared = NULL;
		}
		log_debug("process %u: no probes on HTTP/2 functions", process->pid);
	}
}

struct scan {
	struct tables *tables;
	struct process *process;
};

static int attach_mapped(void *context, const struct mapped_file *mapped)
{
	struct scan *scan = context;
	struct file *file = tables__file(scan->tables, mapped);

	if (file && (file->has_nghttp2 || file->has_go))
		tables__attach(scan->tables, scan->process, file, mapped);
	return 0;
}

static struct process *tables__process(const struct tables *tables, uint32_t pid)
{
	struct process *process;

	HASH_FIND(hh, tables->processes, &pid, sizeof(pid), process);
	return process;
}

static void tables__remove_process(struct tables *tables, struct process *process)
{
	tables__detach(tables, process);
	HASH_DELETE(hh, tables->processes, process);
	free(process);
}

/* The process, with its probes. NULL when it has no code that could be asked, or without memory. */
static struct process *tables__probed_process(struct tables *tables, uint32_t pid)
{
	struct process *process = tables__process(tables, pid);
	struct scan scan = {.tables = tables};

	if (!process) {
		process = calloc(1, sizeof(*process));
		if (!process)
			return NULL;
		process->pid = pid;
		HASH_ADD(hh, tables->processes, pid, sizeof(process->pid), process);
		scan.process = process;
		process__each_mapped_file((pid_t)pid, attach_mapped, &scan);
	}
	return process->files[0].file ? process : NULL;
}

static void tables__end_wait(struct tables *tables, struct wait *wait)
{
	struct process *process = wait->process;

	probe_set__unwish(tables->probes, process->pid, &wait->connection, wait->direction);
	DL_DELETE(tables->waits, wait);
	tables->wait_count--;
	if (!tables->wait_count)
		probe_set__note_reads(tables->probes, false);
	free(wait);
	process->waited--;
	if (!process->waited)
		tables__remove_process(tables, process);
}

static bool wait__is_of(const struct wait *wait, uint32_t pid,
			const struct wire_connection *connection)
{
	return wait->process->pid == pid && wait->connection.object == connection->object &&
	       wait->connection.generation == connection->generation;
}

static struct wait *tables__wait(const struct tables *tables, const struct table_request *request)
{
	struct wait *wait;

	for (wait = tables->waits; wait; wait = wait->next)
		if (wait->direction == request->direction &&
		    wait__is_of(wait, request->pid, &request->connection))
			return wait;
	return NULL;
}

static void tables__want(struct tables *tables, const struct table_request *request)
{
	struct process *process;
	struct wait *wait;

	if (tables->wait_count >= WAITED_MAX)
		return;
	process = tables__probed_process(tables, request->pid);
	if (!process)
		return;
	wait = calloc(1, sizeof(*wait));
	if (!wait || probe_set__wish(tables->probes, request->pid, &request->connection,
				     request->direction)) {
		free(wait);
		if (!process->waited)
			tables__remove_process(tables, process);
		return;
	}
	*wait = (struct wait){
		.process = process,
		.connection = request->connection,
		.direction = request->direction,
		.until_ns = now_ns() + WAIT_NS,
	};
	process->waited++;
	DL_APPEND(tables->waits, wait);
	tables->wait_count++;
	probe_set__note_reads(tables->probes, true);
}

void tables__request(struct tables *tables, const struct table_request *request)
{
	struct wait *wait;

	if (!tables || !probe_set__reads_tables(tables->probes))
		return;
	wait = tables__wait(tables, request);
	if (!request->want) {
		if (wait)
			tables__end_wait(tables, wait);
		return;
	}
	if (!wait) {
		tables__want(tables, request);
		return;
	}
	/* What came did not serve: once more. */
	if (probe_set__wish(tables->probes, request->pid, &request->connection, request->direction))
		return;
	wait->until_ns = now_ns() + WAIT_NS;
	DL_DELETE(tables->waits, wait);
	DL_APPEND(tables->waits, wait);
}

void tables__forget(struct tables *tables, uint32_t pid, const struct wire_connection *connection)
{
	struct wait *wait, *next;

	if (!tables)
		return;
	for (wait = tables->waits; wait; wait = next) {
		next = wait->next;
		if (wait__is_of(wait, pid, connection))
			tables__end_wait(tables, wait);
	}
}

void tables__end_process(struct tables *tables, uint32_t pid)
{
	struct process *process;
	struct wait *wait, *next;

	if (!tables)
		return;
	for (wait = tables->waits; wait; wait = next) {
		next = wait->next;
		if (wait->process->pid == pid)
			tables__end_wait(tables, wait);
	}
	process = tables__process(tables, pid);
	if (process)
		tables__remove_process(tables, process);
}

void tables__expire(struct tables *tables, uint64_t now_ns)
{
	while (tables && tables->waits && now_ns >= tables->waits->until_ns)
		tables__end_wait(tables, tables->waits);
}

bool tables__pending(const struct tables *tables)
{
	return tables && tables->waits;
}

void tables__free(struct tables *tables)
{
	struct process *process, *next_process;
	struct file *file, *next;

	if (!tables)
		return;
	tables__expire(tables, UINT64_MAX);
	HASH_ITER(hh, tables->processes, process, next_process)
	tables__remove_process(tables, process);
	HASH_ITER(hh, tables->files, file, next)
	{
		HASH_DELETE(hh, tables->files, file);
		free(file);
	}
	free(tables);
}
