/* SPDX-License-Identifier: BSD-2-Clause */
/* Tries what a kernel offers. See trial.h. */
#include "capture/trial.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include "capture/uprobe.h"

int trial__load(enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id)
{
	static const struct bpf_insn nothing[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach,
		    .attach_btf_id = (__u32)btf_id);
	int fd = bpf_prog_load(type, "tlstrace_trial", "GPL", nothing,
			       sizeof(nothing) / sizeof(nothing[0]), &opts);

	return fd < 0 ? -errno : fd;
}

/* Closes what a trial opened, if it did. 0 or its error. */
static int done(int fd)
{
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int trial__program(void)
{
	return done(trial__load(BPF_PROG_TYPE_KPROBE, 0, 0));
}

int trial__btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK) ? -errno : 0;
}

int trial__ring_buffer(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "tlstrace_trial", 0, 0,
				(__u32)sysconf(_SC_PAGESIZE), &opts);

	return done(fd < 0 ? -errno : fd);
}

/* Attaches by bpf_raw_tracepoint_open, which takes no name for programs that have a BTF type. */
static int open_raw(const char *name, int program)
{
	int link, err;

	if (program < 0)
		return program;
	link = bpf_raw_tracepoint_open(name, program);
	err = link < 0 ? -errno : done(link);
	close(program);
	return err;
}

int trial__raw_tracepoint(const char *name)
{
	return open_raw(name, trial__load(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0));
}

int trial__fexit(const char *function)
{
	int id = libbpf_find_vmlinux_btf_id(function, BPF_TRACE_FEXIT);

	return id < 0 ? id
		      : open_raw(NULL, trial__load(BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT, id));
}

/* Opens a perf event and gives it a program. */
static int open_event(struct perf_event_attr *attr, enum bpf_prog_type type)
{
	int program = trial__load(type, 0, 0), event, err = 0;

	if (program < 0)
		return program;
	attr->size = sizeof(*attr);
	event = (int)syscall(SYS_perf_event_open, attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0 || ioctl(event, PERF_EVENT_IOC_SET_BPF, program))
		err = -errno;
	done(event);
	close(program);
	return err;
}

/* A number in a file of sysfs or tracefs; -errno. */
static int read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	int number, err;

	if (!file)
		return -errno;
	err = fscanf(file, "%d", &number) == 1 ? number : -EINVAL;
	fclose(file);
	return err;
}

static int event_source(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	return read_number(path);
}

int trial__kprobe(const char *function)
{
	struct perf_event_attr attr = {.config1 = (uint64_t)(uintptr_t)function};
	int type = event_source("kprobe");

	if (type < 0)
		return type;
	attr.type = (uint32_t)type;
	return open_event(&attr, BPF_PROG_TYPE_KPROBE);
}

int trial__uprobe(void)
{
	int type = event_source("uprobe");

	return type < 0 ? type : 0;
}

int trial__helper(enum bpf_func_id id)
{
	int has = libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, id, NULL);

	return has < 0 ? has : has ? 0 : -EOPNOTSUPP;
}

int trial__uprobe_multi(void)
{
	return uprobe__multi_works() ? 0 : -EOPNOTSUPP;
}
