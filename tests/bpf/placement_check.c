/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Placement against reality. Runs a program's worth of calls in a child and looks whether every
 * call of every placed function passes its entry site once, with the arguments and the stack as
 * promised, and one of its exit sites once, with the result that the caller then gets:
 *
 *   step    by single-stepping the child, which sees all registers and needs no privilege;
 *   count   by uprobes at the sites, as perf events, whose counts must be those of the calls.
 *
 * usage: placement_check step|count LIBRARY...
 *
 * A LIBRARY is placement_subject.c compiled in some way, or a libssl. Exit status: 0 all is well,
 * 1 it is not, 77 it cannot be tried here.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/emulation.h"
#include "placement.h"

#define SKIPPED 77

#define FUNCTIONS_MAX 4096
#define FRAMES_MAX    256

struct function {
	char name[64];
	uint64_t address; /* in the child, which has the library where this process has it */
	uint64_t offset;
	unsigned int arguments;
	bool returns; /* has a result */
	struct placement placement;
	unsigned long calls, entries, exits;
};

struct library {
	const char *path;
	void *handle;
	uint64_t base;
	int fd;
	struct elf_file *file;
	struct function *functions;
	unsigned int count;
	struct emulated emulated; /* what the kernel emulates */
};

static unsigned int failures;

static void fail(const struct function *function, const char *what, uint64_t got, uint64_t wanted)
{
	if (failures++ < 40)
		fprintf(stderr, "FAIL %s: %s: %#lx, wanted %#lx\n", function->name, what, got,
			wanted);
}

/* ---- the calls ---- */

struct object {
	int (*method)(struct object *object, char *buffer, size_t size, size_t *moved);
	int state;
	int error;
	char more[16];
};

static int succeed(struct object *object, char *buffer, size_t size, size_t *moved)
{
	if (moved)
		*moved = size / 2;
	return 1;
}

static int refuse(struct object *object, char *buffer, size_t size, size_t *moved)
{
	return -1;
}

static int end(struct object *object, char *buffer, size_t size, size_t *moved)
{
	return 0;
}

static struct function *find(const struct library *library, const char *name)
{
	for (unsigned int i = 0; i < library->count; i++)
		if (strcmp(library->functions[i].name, name) == 0)
			return &library->functions[i];
	return NULL;
}

/* The function's address; counts that it is called. */
static void *take(const struct library *library, const char *name)
{
	struct function *function = find(library, name);

	if (!function) {
		fprintf(stderr, "%s has no %s\n", library->path, name);
		_exit(1);
	}
	function->calls++;
	return (void *)function->address;
}

#define CALL(type, name, ...) ((type)take(library, #name))(__VA_ARGS__)

typedef int io_fn(struct object *, char *, long, size_t *);
typedef int ints_fn(int, int, int);
typedef int object_ints_fn(struct object *, int, int);
typedef int bytes_fn(const char *, int, int);
typedef long longs_fn(long, long, long, long, long, long);

static void call_subjects(const struct library *library)
{
	int (*const methods[])(struct object *, char *, size_t, size_t *) = {succeed, refuse, end,
									     NULL};
	static const char text[] = "abcdefgx";
	char buffer[64];
	size_t moved;

	for (unsigned int m = 0; m < 4; m++) {
		struct object object = {.method = methods[m], .state = 1};

		for (long size = -1; size < 3; size++)
			CALL(io_fn *, subject_read, &object, buffer, size, NULL);
		CALL(io_fn *, subject_read_ex, &object, buffer, 20, &moved);
		CALL(io_fn *, subject_only_jump, &object, buffer, 20, &moved);
		for (int a = 0; a < 3; a++)
			for (int b = 0; b < 3; b++)
				CALL(object_ints_fn *, subject_many, &object, a, b);
		for (int a = -1; a < 9; a++)
			CALL(object_ints_fn *, subject_switch, &object, a, 5);
		for (int a = 2; a < 6; a++)
			CALL(object_ints_fn *, subject_abort, &object, a, 0);
		for (int a = -2; a < 3; a++) {
			CALL(object_ints_fn *, subject_cold_return, &object, a, 0);
			CALL(object_ints_fn *, subject_cold_both, &object, a, a + 3);
			CALL(object_ints_fn *, subject_cold_end, &object, a, 0);
		}
		for (object.state = 0; object.state < 3 && methods[m]; object.state++)
			CALL(io_fn *, subject_handshake, &object, NULL, 0, NULL);
	}
	CALL(ints_fn *, subject_leaf, -1, 2, 3);
	CALL(ints_fn *, subject_leaf, 3, 2, 3);
	CALL(ints_fn *, subject_leaf, 1, 2, 3);
	CALL(bytes_fn *, subject_loop, text, 20, 8);
	CALL(bytes_fn *, subject_loop, text, 20, 3);
	CALL(bytes_fn *, subject_alloca, text, 0, 0);
	CALL(bytes_fn *, subject_alloca, text, 8, 0);
	CALL(bytes_fn *, subject_array, text, 8, 0);
	CALL(bytes_fn *, subject_array, text, 400, 0);
	CALL(longs_fn *, subject_wide, 5, 6, 3, 4, 5, 6);
	CALL(longs_fn *, subject_wide, 7, 6, 3, 4, 5, 6);
	CALL(void *(*)(size_t), subject_new, 0);
	CALL(void (*)(void *), subject_free, CALL(void *(*)(size_t), subject_new, 9));
	CALL(void (*)(void *), subject_free, NULL);
}

/* Before the calls: what takes millions of instructions and is no function of interest. */
static void *prepare(const struct library *library)
{
	const void *(*method)(void) = dlsym(library->handle, "TLS_method");
	void *(*context_new)(const void *) = dlsym(library->handle, "SSL_CTX_new");

	return method ? context_new(method()) : NULL;
}

static void call_libssl(const struct library *library, void *context)
{
	const bool is_boringssl = !find(library, "SSL_read_ex");
	char buffer[32];
	size_t moved;
	void *ssl;

	ssl = CALL(void *(*)(void *), SSL_new, context);
	for (int i = 0; i < 2; i++) {
		for (long size = -1; size < 3; size++) {
			CALL(io_fn *, SSL_read, ssl, buffer, size, NULL);
			CALL(io_fn *, SSL_peek, ssl, buffer, size, NULL);
			CALL(io_fn *, SSL_write, ssl, buffer, size, NULL);
		}
		if (!is_boringssl) {
			CALL(io_fn *, SSL_read_ex, ssl, buffer, 9, &moved);
			CALL(io_fn *, SSL_peek_ex, ssl, buffer, 9, &moved);
			CALL(io_fn *, SSL_write_ex, ssl, buffer, 9, &moved);
			CALL(io_fn *, SSL_read_early_data, ssl, buffer, 9, &moved);
			CALL(io_fn *, SSL_write_early_data, ssl, buffer, 9, &moved);
		}
		CALL(int (*)(void *), SSL_shutdown, ssl);
		/* The second round has a method, and fails for want of a BIO. */
		if (i == 0)
			CALL(int (*)(void *), SSL_connect, ssl);
		else
			CALL(int (*)(void *), SSL_accept, ssl);
		CALL(int (*)(void *), SSL_do_handshake, ssl);
	}
	CALL(int (*)(void *), SSL_clear, ssl);
	if (!is_boringssl) {
		CALL(int (*)(void *), SSL_up_ref, ssl);
		CALL(void (*)(void *), SSL_free, ssl);
	}
	CALL(void (*)(void *), SSL_free, ssl);
	CALL(void (*)(void *), SSL_free, NULL);
}

static void call_all(const struct library *library, void *context)
{
	if (context)
		call_libssl(library, context);
	else
		call_subjects(library);
}

/* ---- the library ---- */

static const struct {
	const char *name;
	unsigned int arguments;
	bool is_void;
} known[] = {
	{"subject_read", 3, false},
	{"subject_read_ex", 4, false},
	{"subject_only_jump", 4, false},
	{"subject_handshake", 1, false},
	{"subject_leaf", 3, false},
	{"subject_many", 3, false},
	{"subject_switch", 3, false},
	{"subject_loop", 3, false},
	{"subject_alloca", 2, false},
	{"subject_array", 2, false},
	{"subject_abort", 2, false},
	{"subject_cold_return", 2, false},
	{"subject_cold_both", 3, false},
	{"subject_cold_end", 2, false},
	{"subject_recursive", 1, false},
	{"subject_wide", 6, false},
	{"subject_new", 1, false},
	{"subject_free", 1, true},
	{"SSL_read", 3, false},
	{"SSL_read_ex", 4, false},
	{"SSL_peek", 3, false},
	{"SSL_peek_ex", 4, false},
	{"SSL_write", 3, false},
	{"SSL_write_ex", 4, false},
	{"SSL_write_ex2", 5, false},
	{"SSL_read_early_data", 4, false},
	{"SSL_write_early_data", 4, false},
	{"SSL_new", 1, false},
	{"SSL_free", 1, true},
	{"SSL_connect", 1, false},
	{"SSL_accept", 1, false},
	{"SSL_do_handshake", 1, false},
	{"SSL_shutdown", 1, false},
	{"SSL_clear", 1, false},
	{"SSL_up_ref", 1, false},
};

static int note_function(void *context, const struct elf_function *found)
{
	struct library *library = context;
	struct function *function;
	bool everything = getenv("PLACEMENT_ALL") != NULL;
	struct function_parts parts = {library->file, library->fd, found->address};
	const struct code_source source = {function_parts__read, &parts};
	struct code_part code;
	unsigned int k, i;

	for (k = 0; k < sizeof(known) / sizeof(known[0]); k++)
		if (strcmp(known[k].name, found->name) == 0)
			break;
	if ((k == sizeof(known) / sizeof(known[0]) && !everything) ||
	    library->count == FUNCTIONS_MAX)
		return 0;
	for (i = 0; i < library->count; i++)
		if (library->functions[i].address == library->base + found->address)
			return 0;
	function = &library->functions[library->count];
	if (function_code__read(library->file, library->fd, found, &code))
		return 0;
	function->offset = code.file_offset;
	snprintf(function->name, sizeof(function->name), "%s", found->name);
	function->address = library->base + found->address;
	/* Of a function that is not known: a result, and few arguments, so that it is placed. */
	function->arguments = 2;
	function->returns = true;
	if (k < sizeof(known) / sizeof(known[0])) {
		function->arguments = known[k].arguments;
		function->returns = !known[k].is_void;
	}
	if (placement__find(&code, &source, function->arguments, function->returns,
			    &library->emulated, &function->placement)) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	free(code.code);
	library->count++;
	return 0;
}

static bool library__open(struct library *library, const char *path)
{
	struct link_map *map;

	*library = (struct library){.path = path};
	if (emulation__try(&library->emulated))
		library->emulated = emulated__default();
	library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	library->functions = calloc(FUNCTIONS_MAX, sizeof(*library->functions));
	if (!library->handle || !library->functions ||
	    dlinfo(library->handle, RTLD_DI_LINKMAP, &map)) {
		fprintf(stderr, "%s: %s\n", path, dlerror());
		return false;
	}
	library->base = map->l_addr;
	library->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (library->fd < 0 || elf_file__open(library->fd, &library->file) ||
	    elf_file__each_function(library->file, note_function, library)) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return false;
	}
	return true;
}

static void library__close(struct library *library)
{
	elf_file__close(library->file);
	close(library->fd);
	free(library->functions);
	dlclose(library->handle);
}

/* ---- by single steps ---- */

struct frame {
	struct function *function;
	uint64_t stack;
	uint64_t arguments[6];
	unsigned int entries, exits;
	uint64_t result;
};

struct frames {
	struct frame frame[FRAMES_MAX];
	unsigned int count;
};

static void arguments_of(const struct user_regs_struct *regs, uint64_t *ret_arguments)
{
	const uint64_t arguments[6] = {regs->rdi, regs->rsi, regs->rdx,
				       regs->rcx, regs->r8,  regs->r9};

	memcpy(ret_arguments, arguments, sizeof(arguments));
}

/* The function at whose site the child is, by address; NULL when it is at none. */
struct site {
	struct function *function;
	const struct placement_site *site;
	enum { SITE_START, SITE_ENTRY, SITE_EXIT } kind;
	uint64_t address;
};

struct sites {
	struct site *site;
	unsigned int count;
};

static int site__compare(const void *a, const void *b)
{
	const struct site *left = a, *right = b;

	if (left->address != right->address)
		return left->address < right->address ? -1 : 1;
	return (int)left->kind - (int)right->kind;
}

static void sites__of(struct library *library, struct sites *ret)
{
	struct sites sites = {
		.site = calloc(library->count, (PLACEMENT_MAX_EXITS + 2) * sizeof(struct site))};

	for (unsigned int i = 0; i < library->count; i++) {
		struct function *function = &library->functions[i];
		const struct placement *placement = &function->placement;
		uint64_t to_address = function->address - function->offset;

		sites.site[sites.count++] = (struct site){.function = function,
							  .kind = SITE_START,
							  .address = function->address};
		sites.site[sites.count++] =
			(struct site){.function = function,
				      .kind = SITE_ENTRY,
				      .site = &placement->entry,
				      .address = to_address + placement->entry.offset};
		for (unsigned int k = 0; k < placement->exit_count; k++)
			sites.site[sites.count++] =
				(struct site){.function = function,
					      .kind = SITE_EXIT,
					      .site = &placement->exits[k],
					      .address = to_address + placement->exits[k].offset};
	}
	qsort(sites.site, sites.count, sizeof(sites.site[0]), site__compare);
	*ret = sites;
}

/* Calls that returned, or were left: their stack is above the entry's. */
static void frames__unwind(struct frames *frames, const struct user_regs_struct *regs)
{
	while (frames->count > 0) {
		const struct frame *frame = &frames->frame[frames->count - 1];
		const struct placement *placement = &frame->function->placement;

		if (regs->rsp <= frame->stack)
			return;
		frames->count--;
		if (frame->entries != 1)
			fail(frame->function, "times at the entry", frame->entries, 1);
		if (placement->exit_kind != EXIT_SITES)
			continue;
		if (frame->exits != 1)
			fail(frame->function, "times at an exit", frame->exits, 1);
		else if (frame->result != regs->rax)
			fail(frame->function, "result at the exit", frame->result, regs->rax);
		frame->function->exits++;
	}
}

static void frames__note(struct frames *frames, const struct site *site,
			 const struct user_regs_struct *regs)
{
	struct function *function = site->function;
	struct frame *frame;
	uint64_t arguments[6];

	arguments_of(regs, arguments);
	if (site->kind == SITE_START) {
		/* A jump back to the first byte is no new call: see "comes back" in placement.c. */
		if (frames->count == FRAMES_MAX)
			return;
		frame = &frames->frame[frames->count++];
		*frame = (struct frame){.function = function, .stack = regs->rsp};
		memcpy(frame->arguments, arguments, sizeof(arguments));
		function->calls++;
		return;
	}
	if (frames->count == 0 || frames->frame[frames->count - 1].function != function)
		return; /* it was entered before the stepping began */
	frame = &frames->frame[frames->count - 1];
	if (regs->rsp + site->site->stack_bytes != frame->stack)
		fail(function, "stack at a site", regs->rsp + site->site->stack_bytes,
		     frame->stack);
	if (site->kind == SITE_ENTRY) {
		frame->entries++;
		function->entries++;
		for (unsigned int i = 0; i < function->arguments; i++)
			if (arguments[i] != frame->arguments[i])
				fail(function, "argument at the entry", arguments[i],
				     frame->arguments[i]);
	} else {
		frame->exits++;
		frame->result = regs->rax;
	}
}

static int check_by_steps(struct library *library)
{
	static struct frames frames;
	struct user_regs_struct regs;
	struct site *found, key;
	struct sites sites;
	unsigned long steps = 0;
	void *context;
	int status;
	pid_t pid;

	for (unsigned int i = 0; i < library->count; i++)
		library->functions[i].calls = 0;
	frames.count = 0;
	sites__of(library, &sites);
	context = prepare(library);
	pid = fork();
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(SKIPPED);
		raise(SIGSTOP);
		call_all(library, context);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
		free(sites.site);
		return SKIPPED;
	}
	for (;;) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP ||
		    ptrace(PTRACE_GETREGS, pid, NULL, &regs))
			break;
		steps++;
		frames__unwind(&frames, &regs);
		key.address = regs.rip;
		key.kind = SITE_START;
		found = sites.site;
		for (size_t low = 0, high = sites.count; low < high;) {
			size_t middle = (low + high) / 2;

			if (site__compare(&sites.site[middle], &key) < 0)
				low = middle + 1;
			else
				high = middle;
			found = &sites.site[low];
		}
		for (; found < sites.site + sites.count && found->address == regs.rip; found++)
			frames__note(&frames, found, &regs);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		failures++;
		fprintf(stderr, "FAIL %s: the child did not end well: %#x\n", library->path,
			(unsigned int)status);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	free(sites.site);
	printf("%s: %lu steps\n", library->path, steps);
	return 0;
}

/* ---- by counting ---- */

static int open_count(const char *path, uint64_t offset, uint32_t type, pid_t pid)
{
	struct perf_event_attr attr = {
		.type = type,
		.size = sizeof(attr),
		.uprobe_path = (uintptr_t)path,
		.probe_offset = offset,
	};

	return (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static uint64_t take_count(int event)
{
	uint64_t count = 0;

	if (read(event, &count, sizeof(count)) != sizeof(count))
		count = UINT64_MAX;
	return count;
}

/* The child's calls go to this process by a pipe: it counts them where it makes them. */
static int check_by_counts(struct library *library)
{
	int go[2], back[2], err = 0, status;
	int(*events)[PLACEMENT_MAX_EXITS + 1];
	uint32_t type = 0;
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	unsigned int i, k;
	void *context;
	char byte = 0;
	pid_t pid;

	if (!file || fscanf(file, "%u", &type) != 1 || geteuid() != 0)
		return SKIPPED;
	fclose(file);
	for (i = 0; i < library->count; i++)
		library->functions[i].calls = 0;
	events = calloc(library->count, sizeof(*events));
	if (!events || pipe(go) || pipe(back))
		return 1;
	context = prepare(library);
	pid = fork();
	if (pid == 0) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		call_all(library, context);
		for (i = 0; i < library->count; i++)
			if (write(back[1], &library->functions[i].calls, sizeof(unsigned long)) < 0)
				_exit(1);
		_exit(0);
	}
	close(back[1]);
	for (i = 0; i < library->count && !err; i++) {
		const struct function *function = &library->functions[i];
		const struct placement *placement = &function->placement;

		events[i][0] = open_count(library->path, placement->entry.offset, type, pid);
		if (events[i][0] < 0)
			err = errno;
		for (k = 0; k < placement->exit_count && !err; k++) {
			events[i][k + 1] =
				open_count(library->path, placement->exits[k].offset, type, pid);
			if (events[i][k + 1] < 0)
				err = errno;
		}
		if (err)
			fprintf(stderr, "%s: no uprobe: %s\n", function->name, strerror(err));
	}
	if (err || write(go[1], &byte, 1) != 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err == EPERM || err == EACCES || err == EOPNOTSUPP ? SKIPPED : 1;
	}
	for (i = 0; i < library->count; i++)
		if (read(back[0], &library->functions[i].calls, sizeof(unsigned long)) <= 0)
			err = 1;
	waitpid(pid, &status, 0);
	if (err || status != 0) {
		fprintf(stderr, "%s: the child did not end well\n", library->path);
		return 1;
	}
	for (i = 0; i < library->count; i++) {
		struct function *function = &library->functions[i];
		const struct placement *placement = &function->placement;

		function->entries = take_count(events[i][0]);
		function->exits = 0;
		for (k = 0; k < placement->exit_count; k++)
			function->exits += take_count(events[i][k + 1]);
		/* Others of the library call some of them, too. */
		if (function->entries < function->calls)
			fail(function, "entries", function->entries, function->calls);
		if (placement->exit_kind == EXIT_SITES && function->exits != function->entries)
			fail(function, "exits", function->exits, function->entries);
		for (k = 0; k <= placement->exit_count; k++)
			close(events[i][k]);
	}
	free(events);
	close(go[0]);
	close(go[1]);
	close(back[0]);
	return 0;
}

static void library__print(const struct library *library)
{
	static const char *const classes[] = {"emulated", "stepped"};

	for (unsigned int i = 0; i < library->count; i++) {
		const struct function *function = &library->functions[i];
		const struct placement *placement = &function->placement;

		printf("  %-22s %4lu calls  entry +%lu %s", function->name, function->entries,
		       placement->entry.offset - function->offset, classes[placement->entry.class]);
		for (unsigned int k = 0; k < placement->exit_count; k++)
			printf(", exit %+ld %s",
			       (long)(placement->exits[k].offset - function->offset),
			       classes[placement->exits[k].class]);
		if (placement->exit_kind == EXIT_URETPROBE)
			printf(", uretprobe (%s)", placement->exit_reason);
		printf("\n");
	}
}

int main(int argc, char **argv)
{
	struct library library;
	bool by_steps;
	int i, status;

	if (argc < 3 || (strcmp(argv[1], "step") != 0 && strcmp(argv[1], "count") != 0)) {
		fprintf(stderr, "usage: placement_check step|count LIBRARY...\n");
		return 2;
	}
	by_steps = strcmp(argv[1], "step") == 0;
	for (i = 2; i < argc; i++) {
		if (!library__open(&library, argv[i]))
			return 1;
		fflush(stdout);
		status = by_steps ? check_by_steps(&library) : check_by_counts(&library);
		if (status == SKIPPED) {
			printf("%s: skipped: %s\n", argv[i],
			       by_steps ? "no ptrace" : "uprobe events take root");
			return SKIPPED;
		}
		if (status)
			return status;
		if (!getenv("PLACEMENT_ALL"))
			library__print(&library);
		library__close(&library);
	}
	return failures ? 1 : 0;
}
