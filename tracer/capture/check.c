/* SPDX-License-Identifier: BSD-2-Clause */
/* --check: tries what tracing needs or could use. See check.h. */
#include "capture/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include "capture/probe_set.h"

/* return 0 */
static const struct bpf_insn nothing[] = {
	{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
	{.code = BPF_JMP | BPF_EXIT},
};

/* A program that does nothing; its fd or -errno. */
static int load(enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach,
		    .attach_btf_id = (__u32)btf_id);
	int fd = bpf_prog_load(type, "tlstrace_check", "GPL", nothing,
			       sizeof(nothing) / sizeof(nothing[0]), &opts);

	return fd < 0 ? -errno : fd;
}

static int done(int fd)
{
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int try_bpf(void)
{
	return done(load(BPF_PROG_TYPE_KPROBE, 0, 0));
}

static int try_btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK) ? -errno : 0;
}

static int try_ring(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "tlstrace_check", 0, 0,
				(__u32)sysconf(_SC_PAGESIZE), &opts);

	return done(fd < 0 ? -errno : fd);
}

static int try_raw_tracepoint(const char *name)
{
	int program = load(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0), link, err;

	if (program < 0)
		return program;
	link = bpf_raw_tracepoint_open(name, program);
	err = link < 0 ? -errno : done(link);
	close(program);
	return err;
}

static int try_process_tracepoints(void)
{
	return try_raw_tracepoint("sched_process_exec");
}

static int try_socket_tracepoints(void)
{
	return try_raw_tracepoint("sock_send_length");
}

static int try_fentry(void)
{
	int id = libbpf_find_vmlinux_btf_id("tcp_sendmsg", BPF_TRACE_FENTRY);

	return id < 0 ? id : done(load(BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, id));
}

/* Whether the kernel offers a kind of dynamic probe: perf has an event source for it. */
static int try_event_source(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	return access(path, R_OK) ? -errno : 0;
}

static int try_kprobe(void)
{
	return try_event_source("kprobe");
}

static int try_uprobe(void)
{
	return try_event_source("uprobe");
}

struct feature {
	const char *name;
	int (*try)(void);
	bool needed;
	const char *what_for;
};

static const struct feature features[] = {
	{"bpf programs", try_bpf, true, "everything"},
	{"kernel types (BTF)", try_btf, true, "reading sockets and processes"},
	{"ring buffer", try_ring, true, "getting records out"},
	{"uprobes", try_uprobe, true, "seeing TLS calls"},
	{"process tracepoints", try_process_tracepoints, true, "following processes"},
	{"socket tracepoints", try_socket_tracepoints, true, "finding the connection"},
	{"kprobes", try_kprobe, false, "not used yet"},
	{"fentry", try_fentry, false, "not used yet"},
};

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return 0;
}

static void ignore_record(void *context, struct bytes record)
{
}

int check__run(void)
{
	struct probe_set_options options = {.ring_bytes = 1 << 16, .record = ignore_record};
	struct probe_set *set = NULL;
	struct utsname kernel;
	const char *step;
	int err;

	libbpf_set_print(quiet);
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
	probe_set__free(set);
	if (!err) {
		printf("result: this system can trace\n");
		return 0;
	}
	printf("result: this system cannot trace: cannot %s: %s%s\n", step, strerror(-err),
	       err == -EPERM || err == -EACCES
		       ? "; run as root, or with CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and "
			 "CAP_SYS_RESOURCE"
		       : "");
	return 3;
}
