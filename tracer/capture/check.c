/* SPDX-License-Identifier: BSD-2-Clause */
/* --check: tries what tracing needs or could use. See check.h. */
#include "capture/check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "capture/probe_set.h"
#include "capture/trial.h"

static int try_process_tracepoints(void)
{
	return trial__raw_tracepoint("sched_process_exec");
}

static int try_cookies(void)
{
	return trial__helper(BPF_FUNC_get_attach_cookie);
}

static int try_loop(void)
{
	return trial__helper(BPF_FUNC_loop);
}

static int try_fexit(void)
{
	return socket_backend__try(SOCKET_FEXIT);
}

static int try_socket_tracepoints(void)
{
	return socket_backend__try(SOCKET_TRACEPOINTS);
}

static int try_kprobes(void)
{
	return socket_backend__try(SOCKET_KPROBES);
}

static int try_syscalls(void)
{
	return socket_backend__try(SOCKET_SYSCALLS);
}

struct feature {
	const char *name;
	int (*try)(void);
	bool needed;
	const char *what_for;
};

static const struct feature features[] = {
	{"bpf programs", trial__program, true, "everything"},
	{"kernel types (BTF)", trial__btf, true, "reading sockets and processes"},
	{"ring buffer", trial__ring_buffer, true, "getting records out; since 5.8"},
	{"uprobes", trial__uprobe, true, "seeing TLS calls"},
	{"process tracepoints", try_process_tracepoints, true, "following processes"},
	{"uprobe cookies", try_cookies, false, "probes where they cost least; since 5.15"},
	{"uprobe_multi links", trial__uprobe_multi, false,
	 "cheaper probes, probes in one process; since 6.6"},
	{"bpf_loop", try_loop, false,
	 "bodies stay in the kernel, headers of HTTP/2 joined late; since 5.17"},
	{"socket tracepoints", try_socket_tracepoints, false, "finding the connection; since 6.3"},
	{"fentry and fexit", try_fexit, false, "the same, where there are no socket tracepoints"},
	{"kprobes", try_kprobes, false, "the same, where there is no fexit"},
	{"syscall tracepoints", try_syscalls, false, "the same, where there is nothing else"},
};

static void ignore_record(void *context, struct bytes record)
{
}

int check__run(void)
{
	struct probe_set_options options = {
		.ring_bytes = 1 << 16,
		.backend = SOCKET_BACKENDS,
		.record = ignore_record,
	};
	enum socket_backend backend;
	struct probe_set *set = NULL;
	struct utsname kernel;
	const char *step;
	int err;

	if (!uname(&kernel))
		printf("kernel: %s %s\n", kernel.release, kernel.machine);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		const struct feature *feature = &features[i];

		err = feature->try();
		if (!err)
			printf("%s: yes (%s)\n", feature->name, feature->what_for);
		else
			printf("%s: %s, %s (%s)\n", feature->name,
			       feature->needed ? "MISSING" : "no", strerror(-err),
			       feature->what_for);
	}
	err = probe_set__new(&options, &set, &step);
	if (!err) {
		step = "load BPF programs";
		err = probe_set__load_all(set);
	}
	if (!err) {
		backend = probe_set__backend(set);
		printf("result: this system can trace; connections are found by %s\n",
		       backend == SOCKET_BACKENDS ? "descriptors alone"
						  : socket_backend__name(backend));
		probe_set__free(set);
		return 0;
	}
	probe_set__free(set);
	printf("result: this system cannot trace: cannot %s: %s%s\n", step, strerror(-err),
	       err == -EPERM || err == -EACCES
		       ? "; run as root, or with CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and "
			 "CAP_SYS_RESOURCE"
		       : "");
	return 3;
}
