/* SPDX-License-Identifier: BSD-2-Clause */
/* Attaches BPF programs to instructions of files. See uprobe.h. */
#include "capture/uprobe.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include "capture/trial.h"

/* include/uapi/linux/bpf.h of 6.6, which Debian 12's headers do not have yet. */
#define TRACE_UPROBE_MULTI  48
#define UPROBE_MULTI_RETURN 1

struct link_create_uprobe_multi {
	__u32 prog_fd;
	__u32 target_fd;
	__u32 attach_type;
	__u32 flags;
	__aligned_u64 path;
	__aligned_u64 offsets;
	__aligned_u64 ref_ctr_offsets;
	__aligned_u64 cookies;
	__u32 count;
	__u32 multi_flags;
	__u32 pid;
	__u32 pad;
};

static int create_link(int program_fd, bool is_return, const char *path, pid_t pid,
		       const uint64_t *offsets, const uint64_t *cookies, size_t count)
{
	/* The rest of the union must be zero, or the kernel refuses it. */
	union {
		union bpf_attr attr;
		struct link_create_uprobe_multi link;
	} all;
	long fd;

	memset(&all, 0, sizeof(all));
	all.link.prog_fd = (__u32)program_fd;
	all.link.attach_type = TRACE_UPROBE_MULTI;
	all.link.path = (__u64)(uintptr_t)path;
	all.link.offsets = (__u64)(uintptr_t)offsets;
	all.link.cookies = (__u64)(uintptr_t)cookies;
	all.link.count = (__u32)count;
	all.link.multi_flags = is_return ? UPROBE_MULTI_RETURN : 0;
	all.link.pid = (__u32)pid;
	fd = syscall(SYS_bpf, BPF_LINK_CREATE, &all, sizeof(all.link));
	return fd < 0 ? -errno : (int)fd;
}

int uprobe__attach_nothing(const char *path, const uint64_t *offsets, size_t count, bool is_return)
{
	int program = trial__load(BPF_PROG_TYPE_KPROBE, TRACE_UPROBE_MULTI, 0), link;

	if (program < 0)
		return program;
	link = create_link(program, is_return, path, 0, offsets, NULL, count);
	close(program);
	return link;
}

bool uprobe__multi_works(void)
{
	uint64_t offset = 0;

	/* A kernel that knows such links looks at the path, and / is no regular file. */
	return uprobe__attach_nothing("/", &offset, 1, false) == -EBADF;
}

void uprobe__want_multi(struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object)
	{
		/* "uprobe" or "uretprobe": kprobes are of the same type. */
		if (bpf_program__section_name(program)[0] == 'u')
			bpf_program__set_expected_attach_type(program, TRACE_UPROBE_MULTI);
	}
}

int uprobe__attach(const struct bpf_program *program, bool multi, bool is_return, const char *path,
		   pid_t pid, uint64_t offset, uint64_t cookie, struct uprobe *ret_probe)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = is_return, .bpf_cookie = cookie);
	struct uprobe probe = {.link_fd = -1};

	if (multi) {
		probe.link_fd = create_link(bpf_program__fd(program), is_return, path, pid, &offset,
					    &cookie, 1);
		if (probe.link_fd < 0)
			return probe.link_fd;
	} else {
		probe.link = bpf_program__attach_uprobe_opts(program, pid ? pid : -1, path, offset,
							     &opts);
		if (!probe.link)
			return -errno;
	}
	*ret_probe = probe;
	return 0;
}

/* Threads that detach: they only wait. */
#define DETACH_THREADS 64

struct detaching {
	struct uprobe *probes;
	size_t count;
	atomic_size_t next;
};

static void *detach(void *context)
{
	struct detaching *detaching = context;
	size_t index;

	while ((index = atomic_fetch_add(&detaching->next, 1)) < detaching->count) {
		struct uprobe *probe = &detaching->probes[index];

		if (probe->link_fd >= 0)
			close(probe->link_fd);
		bpf_link__destroy(probe->link);
	}
	return NULL;
}

void uprobe__detach_all(struct uprobe *probes, size_t count)
{
	struct detaching detaching = {.probes = probes, .count = count};
	pthread_t threads[DETACH_THREADS];
	size_t started = 0;

	while (started < DETACH_THREADS && started + 1 < count &&
	       !pthread_create(&threads[started], NULL, detach, &detaching))
		started++;
	detach(&detaching);
	while (started)
		pthread_join(threads[--started], NULL);
}
