/* SPDX-License-Identifier: BSD-2-Clause */
/* -e: what would be done with one process. See explain.h. */
#include "capture/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "capture/emulation.h"
#include "capture/probe_set.h"
#include "capture/target.h"
#include "log.h"
#include "sites.h"

struct explanation {
	struct emulated emulated;
	bool can_trace;
	bool places;	  /* probes go where they cost least */
	bool one_process; /* probes can be in one process alone */
	bool reads_tables;
	bool uretprobes_safe;
	bool has_hook;
	bool has_loader;
	unsigned int tls_files;
	unsigned int other_files; /* of TLS libraries that are not known */
	unsigned int functions;
	unsigned int sites[2]; /* by enum site_class */
	unsigned int uretprobes;
};

/* Prints other people's text: no byte of it does anything to the terminal. */
static void print_escaped(const char *text)
{
	for (; *text; text++) {
		if (*text >= ' ' && *text < 0x7f)
			putchar(*text);
		else
			printf("\\x%02x", (unsigned char)*text);
	}
}

static void __attribute__((format(printf, 2, 3))) fact(const char *name, const char *format, ...)
{
	va_list args;

	printf("%-16s ", name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void fact_path(const char *name, const char *path)
{
	printf("%-16s ", name);
	print_escaped(path);
	putchar('\n');
}

static const char *remedy(int err)
{
	return err == -EPERM || err == -EACCES ? "; run it as root" : "";
}

/* ---- the kernel ---- */

static void print_classes(const char *name, const struct emulated *emulated, bool covered)
{
	const char *separator = "";

	printf("%-16s ", name);
	for (int class = 0; class < CLASS_COUNT; class ++) {
		const char *instructions = emulation__class_name(class);

		if (!instructions || emulated__covers(emulated, class) != covered)
			continue;
		printf("%s%s", separator, instructions);
		separator = ", ";
	}
	printf("%s\n", *separator ? "" : "nothing");
}

static void explain_emulation(struct explanation *explanation)
{
	int err = emulation__try(&explanation->emulated);

	if (err) {
		explanation->emulated = emulated__default();
		fact("instructions", "assumed, cannot be tried: %s%s", strerror(-err), remedy(err));
	} else {
		fact("instructions", "tried on this kernel");
	}
	explanation->uretprobes_safe = uretprobe__is_safe();
	print_classes("  emulated", &explanation->emulated, true);
	print_classes("  single-stepped", &explanation->emulated, false);
}

static void ignore_record(void *context, struct bytes record)
{
}

static void explain_tracing(struct explanation *explanation)
{
	struct probe_set_options options = {
		.ring_bytes = 1 << 16,
		.backend = SOCKET_BACKENDS,
		.record = ignore_record,
	};
	struct probe_set *set = NULL;
	struct wire_file_id id;
	const char *step;
	uint32_t pid = 0;
	int err;

	err = probe_set__new(&options, &set, &step);
	/* Where it cannot be told: as on most kernels. */
	explanation->places = err || probe_set__places(set);
	explanation->one_process = !err && probe_set__probes_one_process(set);
	explanation->reads_tables = !err && probe_set__reads_tables(set);
	if (!err) {
		step = "run BPF programs (BPF_PROG_TEST_RUN)";
		err = probe_set__identify(set, STDERR_FILENO, &id, &pid);
	}
	probe_set__free(set);
	if (err)
		fact("tracing", "not possible: cannot %s: %s%s", step, strerror(-err),
		     err == -EPERM || err == -EACCES ? remedy(err) : "; see tlstrace --check");
	else if (pid != (uint32_t)getpid())
		fact("tracing", "not possible from inside a pid namespace: run it on the host");
	else
		explanation->can_trace = true;
	if (explanation->can_trace)
		fact("tracing", "possible");
	if (!explanation->places)
		fact("probes", "at first bytes only: this kernel has no cookies for them (5.15)");
}

static void explain_kernel(struct explanation *explanation)
{
	struct utsname kernel;

	putchar('\n');
	if (!uname(&kernel))
		fact("kernel", "%s %s", kernel.release, kernel.machine);
	explain_emulation(explanation);
	explain_tracing(explanation);
}

/* ---- the executable and its loader ---- */

/* The loader that the executable asks for, which is none of the process's files when it is static.
 */
static void explain_interpreter(pid_t pid)
{
	char link[64], interpreter[PATH_MAX];
	struct elf_file *elf;
	int fd, err;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	err = fd < 0 ? -errno : elf_file__open(fd, &elf);
	if (!err) {
		err = elf_file__interpreter(elf, interpreter, sizeof(interpreter));
		elf_file__close(elf);
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		fact_path("asks for loader", interpreter);
	else if (err == -ENOENT)
		fact("asks for loader", "none: it is statically linked");
	else
		fact("asks for loader", "cannot be told: %s%s", strerror(-err), remedy(err));
}

static int explain_loader(void *context, const struct mapped_file *mapped)
{
	struct explanation *explanation = context;
	struct elf_file *elf;
	uint64_t offset;

	if (elf_file__open(mapped->fd, &elf))
		return 0;
	if (target__is_loader(mapped, elf, &offset)) {
		fact_path("dynamic loader", mapped->path);
		explanation->has_loader = true;
		if (offset)
			fact("  its hook", "_dl_debug_state at 0x%llx: shows what is loaded later",
			     (unsigned long long)offset);
		else
			fact("  its hook", "no _dl_debug_state: what is loaded later is missed");
		explanation->has_hook |= offset != 0;
	}
	elf_file__close(elf);
	return 0;
}

/* 0, or -errno when its files cannot be read, -ESRCH when it is gone. */
static int explain_process(struct explanation *explanation, pid_t pid)
{
	char path[PATH_MAX];
	int err;

	fact("process", "%d", pid);
	if (target__executable(pid, path))
		fact_path("executable", path);
	else
		fact("executable", "cannot be told: %s%s", strerror(errno), remedy(-errno));
	explain_interpreter(pid);
	err = process__each_mapped_file(pid, explain_loader, explanation);
	if (!err && !explanation->has_loader)
		fact("dynamic loader", "none is mapped that can be read");
	return err;
}

/* ---- TLS code ---- */

static void print_site(const char *kind, uint64_t start, const struct placement_site *site,
		       const char *cost, const char *reason)
{
	char offset[32], distance[32];

	snprintf(offset, sizeof(offset), "0x%llx", (unsigned long long)site->offset);
	snprintf(distance, sizeof(distance), "+%lld", (long long)(site->offset - start));
	printf("    %-5s %-10s %-6s %-14s%s%s\n", kind, offset, distance, cost, *reason ? " " : "",
	       reason);
}

static void explain_function(struct explanation *explanation, const char *name, bool has_entry,
			     uint64_t start, const struct placement *placement)
{
	static const char *const costs[] = {
		[SITE_EMULATED] = "emulated",
		[SITE_STEPPED] = "single-stepped",
	};
	const char *unplaced = explanation->places ? NULL : "the only place on this kernel";
	const char *reason = unplaced ? unplaced : placement->exit_reason;
	bool is_told = false;

	printf("  %s\n", name);
	explanation->functions++;
	if (has_entry) {
		print_site("entry", start, &placement->entry, costs[placement->entry.class],
			   unplaced ? unplaced : placement->entry_reason);
		explanation->sites[placement->entry.class]++;
	}
	if (placement->exit_kind == EXIT_URETPROBE) {
		print_site("exit", start, &placement->uretprobe, "uretprobe", reason);
		explanation->uretprobes++;
	}
	for (unsigned int i = 0; placement->exit_kind == EXIT_SITES && i < placement->exit_count;
	     i++) {
		const struct placement_site *site = &placement->exits[i];
		const char *why = site->closure_bytes ? "in the function that it has deferred"
				  : is_told	      ? "as above"
						      : reason;

		print_site("exit", start, site, costs[site->class], why);
		is_told |= !site->closure_bytes;
		explanation->sites[site->class]++;
	}
}

/* Names of functions, in lines that are not too long. */
static void print_missing(const struct tls_code *code)
{
	static const char title[] = "  it does not have:";
	size_t column = 0;

	for (int f = 0; f < TLS_BIO_READ; f++) {
		const char *name = tls_function__name(f);

		if (code->offset[f])
			continue;
		if (!column)
			column = (size_t)printf("%s", title);
		else if (column + 1 + strlen(name) > 96)
			column = (size_t)printf("\n%*s", (int)sizeof(title) - 1, "") - 1;
		column += (size_t)printf(" %s", name);
	}
	if (column)
		putchar('\n');
}

static void print_site_titles(void)
{
	printf("    %-5s %-10s %-6s %-14s %s\n", "site", "in file", "at", "cost", "why");
}

static void explain_functions(struct explanation *explanation, const struct tls_code *code,
			      const struct tls_sites *sites, int first, int end)
{
	print_site_titles();
	for (int f = first; f < end; f++)
		if (sites->wanted[f])
			explain_function(explanation, tls_function__name(f),
					 tls_function__has_entry(f), code->offset[f],
					 &sites->placement[f]);
	for (int f = first; f < end; f++)
		if (code->offset[f] && !sites->wanted[f])
			printf("  %s\n    needs no probe: all it does is call another of these\n",
			       tls_function__name(f));
}

static void explain_tls_code(struct explanation *explanation, const struct mapped_file *mapped,
			     const struct elf_file *elf, const struct tls_code *code)
{
	struct explanation aside = *explanation;
	struct tls_sites sites;
	int err;

	putchar('\n');
	fact_path(code->has_tls ? "TLS code" : "I/O layer", mapped->path);
	fact("  library", "%s", tls_library__name(code->library));
	explanation->tls_files += code->has_tls;
	err = tls_sites__find(elf, mapped->fd, code,
			      explanation->places ? &explanation->emulated : NULL,
			      explanation->uretprobes_safe || !explanation->places, &sites);
	if (err) {
		fact("  sites", "cannot be found: %s", strerror(-err));
		return;
	}
	if (code->has_tls) {
		explain_functions(explanation, code, &sites, 0, TLS_BIO_READ);
		print_missing(code);
	}
	if (code->has_bio) {
		fact("  probed", "%s",
		     explanation->one_process ? "in this process, unless its TLS calls use sockets"
					      : "in all processes, unless TLS calls use sockets");
		/* Not counted: they are not put in at once. */
		explain_functions(&aside, code, &sites, TLS_BIO_READ, TLS_FUNCTION_COUNT);
	}
}

/* The functions of Go's crypto/tls that have probes, and what is kept for calls that run already.
 */
static void explain_go_functions(struct explanation *explanation, const struct mapped_file *mapped,
				 const struct elf_file *elf, const struct go_code *code)
{
	const struct emulated *emulated = explanation->places ? &explanation->emulated : NULL;
	struct go_sites sites;
	enum go_function odd;
	bool kept;
	int err = go_sites__find_all(elf, mapped->fd, code, emulated, &sites, &odd);

	if (err) {
		fact("  sites", "cannot be found in %s: %s", go_function__name(odd),
		     sites.placement[odd].exit_reason ?: strerror(-err));
		return;
	}
	print_site_titles();
	for (int f = 0; f < GO_FUNCTION_COUNT; f++)
		if (sites.wanted[f])
			explain_function(explanation, go_function__name(f), true,
					 code->functions[f].offset, &sites.placement[f]);
	kept = explanation->places && sites.placement[GO_TLS_READ].keeps_arguments;
	fact("  running calls", "%s",
	     kept ? "of goroutines that wait in Read now, the arguments are still to be had"
		  : "what goroutines that wait in Read now will get is not seen");
}

static void explain_go(struct explanation *explanation, const struct mapped_file *mapped,
		       struct elf_file *elf)
{
	struct go_code code = {0};
	int err = elf_file__go_code(elf, &code);

	if (err == -ENOENT)
		return;
	putchar('\n');
	if (err) {
		fact_path("unreadable", mapped->path);
		fact("  Go program", "%s", code.found_by ?: strerror(-err));
		return;
	}
	fact_path("TLS code", mapped->path);
	fact("  library", "%s",
	     code.version[0] ? code.version : "Go, of a version that it does not tell");
	fact("  stripped", "%s", code.has_symbols ? "no" : "yes");
	fact("  found by", "%s", code.found_by);
	fact("  arguments", "%s", code.abi == GO_ABI_STACK ? "on the stack" : "in registers");
	explanation->tls_files++;
	explain_go_functions(explanation, mapped, elf, &code);
}

static void explain_other(struct explanation *explanation, const struct mapped_file *mapped)
{
	const char *name = other_tls_library(mapped->path);

	if (!name)
		return;
	putchar('\n');
	fact_path("no TLS code", mapped->path);
	fact("  library", "%s: tlstrace does not know it yet, its calls are not seen", name);
	explanation->other_files++;
}

/* HTTP/2 code whose tables are read on connections joined late. */
static void explain_http2(const struct explanation *explanation, const struct mapped_file *mapped,
			  struct elf_file *elf)
{
	struct nghttp2_code code;

	if (nghttp2_code__find(elf, mapped->fd, &explanation->emulated, &code))
		return;
	putchar('\n');
	fact_path("HTTP/2 code", mapped->path);
	fact("  library", "libnghttp2: %s",
	     explanation->reads_tables
		     ? "it is asked for headers that were sent before the trace"
		     : "it cannot be asked for headers that were sent before the trace (5.17+)");
}

static int explain_file(void *context, const struct mapped_file *mapped)
{
	struct explanation *explanation = context;
	struct elf_file *elf;
	struct tls_code code;
	int err;

	if (elf_file__open(mapped->fd, &elf))
		return 0; /* what is mapped to execute need not be ELF */
	err = elf_file__tls_code(elf, &code);
	if (!err) {
		explain_tls_code(explanation, mapped, elf, &code);
	} else if (err == -ENOENT) {
		explain_other(explanation, mapped);
	} else {
		putchar('\n');
		fact_path("unreadable", mapped->path);
		fact("  its symbols", "%s", strerror(-err));
	}
	explain_go(explanation, mapped, elf);
	explain_http2(explanation, mapped, elf);
	elf_file__close(elf);
	return 0;
}

/* ---- the whole ---- */

static void conclude(const struct explanation *explanation)
{
	putchar('\n');
	if (!explanation->tls_files) {
		fact("result",
		     "no TLS code that tlstrace knows is mapped: nothing would be seen now");
		if (!explanation->other_files)
			fact("", "(rustls, or a library linked in without symbols, cannot be told "
				 "from none)");
		if (explanation->has_hook)
			fact("", "-p would wait for it to load a TLS library");
	} else {
		fact("result", "%u probes in %u functions of %u file%s:",
		     explanation->sites[SITE_EMULATED] + explanation->sites[SITE_STEPPED] +
			     explanation->uretprobes,
		     explanation->functions, explanation->tls_files,
		     explanation->tls_files == 1 ? "" : "s");
		fact("", "%u emulated, %u single-stepped, %u by uretprobe",
		     explanation->sites[SITE_EMULATED], explanation->sites[SITE_STEPPED],
		     explanation->uretprobes);
	}
	if (!explanation->can_trace)
		fact("", "nothing can be attached: see \"tracing\" above");
}

int explain__run(pid_t pid)
{
	struct explanation explanation = {0};
	int err, status = target__check(pid, &pid);

	if (status)
		return status;
	err = explain_process(&explanation, pid);
	explain_kernel(&explanation);
	if (!err)
		err = process__each_mapped_file(pid, explain_file, &explanation);
	if (!err) {
		conclude(&explanation);
	} else if (err == -ESRCH) {
		log_error("process %d has ended meanwhile", pid);
		status = 1;
	} else {
		putchar('\n');
		fact("TLS code", "cannot be told, its mapped files cannot be read: %s%s",
		     strerror(-err), remedy(err));
	}
	if (fflush(stdout) || ferror(stdout)) {
		log_error("stdout: cannot be written: %s", strerror(errno));
		status = 1;
	}
	return status;
}
