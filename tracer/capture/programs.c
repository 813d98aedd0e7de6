/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads the BPF programs. See programs.h.
 *
 * All groups are of one BPF object, which is opened once for each; of its programs only the
 * group's are loaded, and maps are made by the first opening alone, which the others share.
 */
#include "capture/programs.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "capture/trial.h"
#include "capture/uprobe.h"
#include "log.h"
#include "state.h"

#include "probes.skel.h" /* has structs of state.h */

/* A consumer that waits for its timer is woken when the ring is filled to one part in this. */
#define WAKE_FRACTION 8

/* Threads and goroutines in TLS calls, where their map takes its memory at once. */
#define THREADS_MAX 16384

/* Lines of a message of libbpf that are shown. */
#define LIBBPF_LINES 24

/* The names of the programs; a program is of the first group that its name fits. */
static const char *const group_names[PROGRAM_GROUPS] = {
	[PROGRAMS_GO_HPACK_STACK] = "go_hpack_*_stack",
	[PROGRAMS_GO_HPACK_REGISTERS] = "go_hpack_*_regs",
	[PROGRAMS_GO_STACK] = "go_*_stack",
	[PROGRAMS_GO_REGISTERS] = "go_*_regs",
	[PROGRAMS_NGHTTP2] = "h2_*",
	[PROGRAMS_COMMON] = "*",
};

struct programs {
	struct {
		struct tlstrace_bpf *bpf; /* NULL: it is not loaded */
		int err;		  /* of loading it */
	} groups[PROGRAM_GROUPS];
	bool multi;    /* for uprobe_multi links */
	bool can_walk; /* the kernel has bpf_loop */
	enum socket_backend backend;
};

static enum program_group group_of(const struct bpf_program *program)
{
	int group = 0;

	while (fnmatch(group_names[group], bpf_program__name(program), 0))
		group++;
	return group;
}

/* libbpf's own messages: they explain what an errno does not, to who asks with -vv. */
static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	char *message, *line, *end;

	if (level == LIBBPF_DEBUG || vasprintf(&message, format, args) < 0)
		return 0;
	/* Of the verifier's log, which is one message, the end says what is wrong. */
	end = message + strlen(message);
	line = end;
	for (int lines = 0; line > message && lines <= LIBBPF_LINES; line--)
		lines += line[-1] == '\n';
	for (; line < end; line += strcspn(line, "\n") + 1)
		log_debug("%.*s", (int)strcspn(line, "\n"), line);
	free(message);
	return 0;
}

static struct backend_programs backend_programs_of(const struct tlstrace_bpf *bpf,
						   enum socket_backend backend)
{
	switch (backend) {
	case SOCKET_TRACEPOINTS:
		return (struct backend_programs){2, {bpf->progs.raw_send, bpf->progs.raw_receive}};
	case SOCKET_FEXIT:
		return (struct backend_programs){
			2,
			{bpf->progs.fexit_tcp_send, bpf->progs.fexit_tcp_receive,
			 bpf->progs.fexit_unix_send, bpf->progs.fexit_unix_receive},
		};
	case SOCKET_KPROBES:
		return (struct backend_programs){
			2,
			{bpf->progs.kprobe_tcp_send, bpf->progs.kprobe_tcp_receive,
			 bpf->progs.kret_tcp_receive, bpf->progs.kprobe_unix_send,
			 bpf->progs.kprobe_unix_receive, bpf->progs.kret_unix_receive},
		};
	case SOCKET_SYSCALLS:
		return (struct backend_programs){2,
						 {bpf->progs.syscall_enter,
						  bpf->progs.syscall_exit}};
	case SOCKET_BACKENDS:
		break;
	}
	return (struct backend_programs){0};
}

/* Of the backends, only the used one's programs are loaded: a kernel may refuse the others'. */
static void programs__choose_backend(struct programs *programs, struct tlstrace_bpf *bpf,
				     enum socket_backend wanted)
{
	programs->backend = socket_backend__choose(wanted);
	for (int b = 0; b < SOCKET_BACKENDS; b++) {
		struct backend_programs backend = backend_programs_of(bpf, b);

		for (size_t i = 0; i < BACKEND_PROGRAMS && backend.programs[i]; i++)
			bpf_program__set_autoload(backend.programs[i], b == (int)programs->backend);
	}
	/* A module without BTF has no types to attach by. */
	if (programs->backend == SOCKET_FEXIT && trial__fexit("unix_stream_sendmsg")) {
		bpf_program__set_autoload(bpf->progs.fexit_unix_send, false);
		bpf_program__set_autoload(bpf->progs.fexit_unix_receive, false);
	}
}

/* How many arguments tcp_recvmsg has on this kernel. */
static uint32_t recvmsg_arguments(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *type;
	uint32_t count = 5;
	int id;

	if (libbpf_get_error(btf))
		return count;
	id = btf__find_by_name_kind(btf, "tcp_recvmsg", BTF_KIND_FUNC);
	type = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;
	type = type ? btf__type_by_id(btf, type->type) : NULL;
	if (type)
		count = btf_vlen(type);
	btf__free(btf);
	return count;
}

/* Opens the object, for the programs of one group. 0 or -errno. */
static int programs__open(const struct programs *programs, enum program_group group,
			  struct tlstrace_bpf **ret_bpf)
{
	struct tlstrace_bpf *bpf = tlstrace_bpf__open();
	struct bpf_program *program;

	if (!bpf)
		return -errno;
	bpf_object__for_each_program(program, bpf->obj)
	{
		bpf_program__set_autoload(program, group_of(program) == group);
	}
	if (programs->multi)
		uprobe__want_multi(bpf->obj);
	*ret_bpf = bpf;
	return 0;
}

static int load(struct tlstrace_bpf *bpf)
{
	int err = tlstrace_bpf__load(bpf);

	/* The verifier's refusal is no lack of privilege, where an empty program is taken. */
	return err == -EACCES && !trial__program() ? -EOPNOTSUPP : err;
}

/* What the common programs and the maps are like on this kernel. */
static void programs__configure(struct programs *programs, const struct programs_options *options,
				struct tlstrace_bpf *bpf)
{
	bpf_map__set_max_entries(bpf->maps.ring, options->ring_bytes);
	bpf->bss->shared.wake_always = options->wake_always;
	bpf->bss->shared.wake_bytes = options->ring_bytes / WAKE_FRACTION;
	bpf->rodata->have_cookie = !trial__helper(BPF_FUNC_get_attach_cookie);
	programs__choose_backend(programs, bpf, options->backend);
	if (programs->backend == SOCKET_FEXIT)
		bpf->rodata->recvmsg_arguments = recvmsg_arguments();
	/* Before 6.1, maps that allocate as they go are deprecated in probes: the kernel warns. */
	if (trial__helper(BPF_FUNC_user_ringbuf_drain)) {
		bpf_map__set_map_flags(bpf->maps.directives, 0);
		bpf_map__set_map_flags(bpf->maps.threads, 0);
		bpf_map__set_map_flags(bpf->maps.connections, 0);
		bpf_map__set_max_entries(bpf->maps.threads, THREADS_MAX);
	}
	bpf_program__set_autoload(programs->can_walk ? bpf->progs.commit_plain
						     : bpf->progs.commit_walking,
				  false);
}

/* Says which program follows the return of a call: of the two the one that is loaded. */
static int programs__set_after_return(const struct programs *programs,
				      const struct tlstrace_bpf *bpf)
{
	struct bpf_program *used =
		programs->can_walk ? bpf->progs.commit_walking : bpf->progs.commit_plain;
	__u32 slot = 0, fd = (__u32)bpf_program__fd(used);

	return bpf_map_update_elem(bpf_map__fd(bpf->maps.after_return), &slot, &fd, BPF_ANY)
		       ? -errno
		       : 0;
}

int programs__new(const struct programs_options *options, struct programs **ret_programs,
		  const char **ret_step)
{
	struct programs *programs = calloc(1, sizeof(*programs));
	struct tlstrace_bpf *bpf;
	int err;

	libbpf_set_print(print_libbpf);
	*ret_step = "allocate memory";
	if (!programs)
		return -ENOMEM;
	programs->multi = uprobe__multi_works();
	programs->can_walk = !trial__helper(BPF_FUNC_loop);
	*ret_step = "open BPF programs";
	err = programs__open(programs, PROGRAMS_COMMON, &bpf);
	if (err)
		goto out;
	programs->groups[PROGRAMS_COMMON].bpf = bpf;
	programs__configure(programs, options, bpf);
	*ret_step = "load BPF programs";
	err = load(bpf);
	if (!err)
		err = programs__set_after_return(programs, bpf);
out:
	if (err)
		programs__free(programs);
	else
		*ret_programs = programs;
	return err;
}

void programs__free(struct programs *programs)
{
	if (!programs)
		return;
	for (int group = 0; group < PROGRAM_GROUPS; group++)
		tlstrace_bpf__destroy(programs->groups[group].bpf);
	free(programs);
}

/* The maps of an object that is opened are to be those of the common programs. */
static int programs__share_maps(const struct programs *programs, struct tlstrace_bpf *bpf)
{
	const struct tlstrace_bpf *common = programs__common(programs);
	struct bpf_map *map = NULL, *shared = NULL;
	int err = 0;

	while (!err && (map = bpf_object__next_map(bpf->obj, map))) {
		shared = bpf_object__next_map(common->obj, shared);
		err = bpf_map__reuse_fd(map, bpf_map__fd(shared));
	}
	return err;
}

static bool programs__can_have(const struct programs *programs, enum program_group group)
{
	switch (group) {
	case PROGRAMS_GO_HPACK_STACK:
	case PROGRAMS_GO_HPACK_REGISTERS:
	case PROGRAMS_NGHTTP2:
		return programs__reads_tables(programs);
	default:
		return true;
	}
}

static int programs__load(const struct programs *programs, enum program_group group,
			  struct tlstrace_bpf **ret_bpf)
{
	struct tlstrace_bpf *bpf;
	int err;

	if (!programs__can_have(programs, group))
		return -EOPNOTSUPP;
	err = programs__open(programs, group, &bpf);
	if (err)
		return err;
	err = programs__share_maps(programs, bpf);
	if (!err)
		err = load(bpf);
	if (err)
		tlstrace_bpf__destroy(bpf);
	else
		*ret_bpf = bpf;
	return err;
}

int programs__want(struct programs *programs, enum program_group group,
		   struct tlstrace_bpf **ret_bpf)
{
	int *err = &programs->groups[group].err;

	if (!programs->groups[group].bpf && !*err)
		*err = programs__load(programs, group, &programs->groups[group].bpf);
	*ret_bpf = programs->groups[group].bpf;
	return *err;
}

int programs__want_all(struct programs *programs)
{
	struct tlstrace_bpf *bpf;
	int err = 0;

	for (int group = 0; group < PROGRAM_GROUPS && !err; group++)
		if (programs__can_have(programs, group))
			err = programs__want(programs, group, &bpf);
	return err;
}

struct tlstrace_bpf *programs__common(const struct programs *programs)
{
	return programs->groups[PROGRAMS_COMMON].bpf;
}

enum socket_backend programs__backend(const struct programs *programs)
{
	return programs->backend;
}

bool programs__are_multi(const struct programs *programs)
{
	return programs->multi;
}

bool programs__reads_tables(const struct programs *programs)
{
	return programs->can_walk && programs__common(programs)->rodata->have_cookie;
}

struct backend_programs programs__of_backend(const struct programs *programs,
					     enum socket_backend backend)
{
	return backend_programs_of(programs__common(programs), backend);
}
