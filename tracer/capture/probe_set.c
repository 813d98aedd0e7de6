/* SPDX-License-Identifier: BSD-2-Clause */
/* The BPF programs and maps, loaded and attached. See probe_set.h. */
#include "capture/probe_set.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture/uprobe.h"
#include "log.h"
#include "probes.skel.h"

/* A consumer that waits for its timer is woken when the ring is filled to one part in this. */
#define WAKE_FRACTION 8

#define TRACEPOINTS 5

struct probe_set {
	struct tlstrace_bpf *bpf;
	struct ring_buffer *ring;
	bool multi; /* uprobe_multi links */
	struct bpf_link *tracepoints[TRACEPOINTS];
	struct uprobe *uprobes;
	size_t uprobe_count;
	size_t uprobe_capacity;
	record_fn *record;
	void *context;
};

static int on_record(void *context, void *data, size_t size)
{
	struct probe_set *set = context;

	set->record(set->context, bytes__of(data, size));
	return 0; /* anything else would end the draining for good */
}

/* Detaches the uprobes attached since there were `count`. */
static void probe_set__drop_uprobes(struct probe_set *set, size_t count)
{
	uprobe__detach_all(set->uprobes + count, set->uprobe_count - count);
	set->uprobe_count = count;
}

static int probe_set__attach_tracepoints(struct probe_set *set, const char **step)
{
	struct bpf_program *const programs[TRACEPOINTS] = {
		set->bpf->progs.process_fork, set->bpf->progs.process_exec,
		set->bpf->progs.process_exit, set->bpf->progs.sock_send,
		set->bpf->progs.sock_recv,
	};

	*step = "attach to the kernel's tracepoints of processes and sockets";
	for (size_t i = 0; i < TRACEPOINTS; i++) {
		set->tracepoints[i] = bpf_program__attach(programs[i]);
		if (!set->tracepoints[i])
			return -errno;
	}
	return 0;
}

/* libbpf's own messages: they explain what an errno does not, to who asks with -vv. */
static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	char message[512];

	vsnprintf(message, sizeof(message), format, args);
	message[strcspn(message, "\n")] = '\0';
	if (level != LIBBPF_DEBUG)
		log_debug("%s", message);
	return 0;
}

static bool has_helper(enum bpf_func_id helper)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, helper, NULL) > 0;
}

/* Loads the programs, of the two for a call's end the one that this kernel accepts. */
static int probe_set__load(struct probe_set *set)
{
	bool can_walk = has_helper(BPF_FUNC_loop);
	struct bpf_program *unused =
		can_walk ? set->bpf->progs.commit_plain : set->bpf->progs.commit_walking;
	struct bpf_program *used =
		can_walk ? set->bpf->progs.commit_walking : set->bpf->progs.commit_plain;
	__u32 slot = 0, fd;
	int err;

	bpf_program__set_autoload(unused, false);
	err = tlstrace_bpf__load(set->bpf);
	if (err)
		return err;
	fd = (__u32)bpf_program__fd(used);
	if (bpf_map_update_elem(bpf_map__fd(set->bpf->maps.after_return), &slot, &fd, BPF_ANY))
		return -errno;
	return 0;
}

int probe_set__new(const struct probe_set_options *options, struct probe_set **ret_set,
		   const char **ret_step)
{
	struct probe_set *set = calloc(1, sizeof(*set));
	int err;

	libbpf_set_print(print_libbpf);
	*ret_step = "allocate memory";
	if (!set)
		return -ENOMEM;
	set->record = options->record;
	set->context = options->context;
	*ret_step = "open BPF programs";
	set->bpf = tlstrace_bpf__open();
	if (!set->bpf) {
		err = -errno;
		goto out;
	}
	bpf_map__set_max_entries(set->bpf->maps.ring, options->ring_bytes);
	set->bpf->bss->shared.wake_always = options->wake_always;
	set->bpf->bss->shared.wake_bytes = options->ring_bytes / WAKE_FRACTION;
	set->bpf->rodata->have_cookie = has_helper(BPF_FUNC_get_attach_cookie);
	set->multi = uprobe__multi_works();
	if (set->multi)
		uprobe__want_multi(set->bpf->obj);
	/* Before 6.1, maps that allocate as they go are deprecated in probes: the kernel warns. */
	if (!has_helper(BPF_FUNC_user_ringbuf_drain))
		bpf_map__set_map_flags(set->bpf->maps.directives, 0);
	*ret_step = "load BPF programs";
	err = probe_set__load(set);
	if (err)
		goto out;
	err = probe_set__attach_tracepoints(set, ret_step);
	if (err)
		goto out;
	*ret_step = "map the ring buffer";
	set->ring = ring_buffer__new(bpf_map__fd(set->bpf->maps.ring), on_record, set, NULL);
	if (!set->ring)
		err = -errno;
out:
	if (err)
		probe_set__free(set);
	else
		*ret_set = set;
	return err;
}

void probe_set__free(struct probe_set *set)
{
	if (!set)
		return;
	probe_set__drop_uprobes(set, 0);
	free(set->uprobes);
	for (size_t i = 0; i < TRACEPOINTS; i++)
		bpf_link__destroy(set->tracepoints[i]);
	ring_buffer__free(set->ring);
	tlstrace_bpf__destroy(set->bpf);
	free(set);
}

struct function_programs {
	struct bpf_program *entry;
	struct bpf_program *exit;
};

static struct function_programs programs_of(const struct tlstrace_bpf *bpf, enum tls_function f)
{
#define BOTH(name) ((struct function_programs){bpf->progs.name##_entry, bpf->progs.name##_exit})
	switch (f) {
	case TLS_READ:
		return BOTH(read);
	case TLS_READ_EX:
		return BOTH(read_ex);
	case TLS_PEEK:
		return BOTH(peek);
	case TLS_PEEK_EX:
		return BOTH(peek_ex);
	case TLS_READ_EARLY_DATA:
		return BOTH(read_early);
	case TLS_WRITE:
		return BOTH(write);
	case TLS_WRITE_EX:
		return BOTH(write_ex);
	case TLS_WRITE_EX2:
		return BOTH(write_ex2);
	case TLS_WRITE_EARLY_DATA:
		return BOTH(write_early);
	case TLS_SENDFILE:
		return BOTH(sendfile);
	case TLS_DO_HANDSHAKE:
		return BOTH(handshake);
	case TLS_CONNECT:
		return BOTH(connect);
	case TLS_ACCEPT:
		return BOTH(accept);
	case TLS_NEW:
		return (struct function_programs){.exit = bpf->progs.new_exit};
	case TLS_UP_REF:
		return (struct function_programs){.entry = bpf->progs.up_ref_entry};
	case TLS_FREE:
		return (struct function_programs){.entry = bpf->progs.free_entry};
	case TLS_CLEAR:
		return (struct function_programs){.entry = bpf->progs.clear_entry};
	case TLS_SHUTDOWN:
		return (struct function_programs){.entry = bpf->progs.shutdown_entry};
	case TLS_FUNCTION_COUNT:
		break;
	}
	return (struct function_programs){NULL, NULL};
#undef BOTH
}

static int probe_set__attach_uprobe(struct probe_set *set, struct bpf_program *program,
				    bool is_return, const char *path, uint64_t offset,
				    uint64_t cookie)
{
	bool have_cookie = set->bpf->rodata->have_cookie;
	size_t capacity = set->uprobe_capacity ? set->uprobe_capacity * 2 : 64;
	struct uprobe *uprobes;
	int err;

	if (set->uprobe_count == set->uprobe_capacity) {
		uprobes = realloc(set->uprobes, capacity * sizeof(*uprobes));
		if (!uprobes)
			return -ENOMEM;
		set->uprobes = uprobes;
		set->uprobe_capacity = capacity;
	}
	/* Without cookies, programs take their place for granted, and libbpf refuses any but 0. */
	err = uprobe__attach(program, set->multi, is_return, path, offset, have_cookie ? cookie : 0,
			     &set->uprobes[set->uprobe_count]);
	if (!err)
		set->uprobe_count++;
	return err;
}

/* What the program of a probe must know of the place (probes/state.h). */
static uint64_t cookie_of(enum tls_library_kind library, const struct placement_site *site)
{
	return (uint64_t)site->stack_bytes << COOKIE_STACK_SHIFT | library;
}

/* The exit first: an entry whose exit is not there would wait in vain. */
static int probe_set__attach_function(struct probe_set *set, const char *path,
				      enum tls_function function, enum tls_library_kind library,
				      const struct placement *placement)
{
	struct function_programs programs = programs_of(set->bpf, function);
	int err = 0;

	if (placement->exit_kind == EXIT_URETPROBE)
		err = probe_set__attach_uprobe(set, programs.exit, true, path,
					       placement->uretprobe.offset,
					       library | COOKIE_RETURN);
	for (unsigned int i = 0; placement->exit_kind == EXIT_SITES && i < placement->exit_count;
	     i++) {
		const struct placement_site *site = &placement->exits[i];

		if (!err)
			err = probe_set__attach_uprobe(set, programs.exit, false, path,
						       site->offset, cookie_of(library, site));
	}
	if (!err && programs.entry)
		err = probe_set__attach_uprobe(set, programs.entry, false, path,
					       placement->entry.offset,
					       cookie_of(library, &placement->entry));
	return err;
}

int probe_set__attach_tls(struct probe_set *set, const char *path, const struct tls_code *code,
			  const struct tls_sites *sites, unsigned int *ret_count)
{
	size_t before = set->uprobe_count;
	int err = 0;

	for (int f = 0; f < TLS_FUNCTION_COUNT && !err; f++)
		if (sites->wanted[f])
			err = probe_set__attach_function(set, path, f, code->library,
							 &sites->placement[f]);
	if (err)
		probe_set__drop_uprobes(set, before);
	*ret_count = set->uprobe_count - before;
	return err;
}

bool probe_set__places(const struct probe_set *set)
{
	return set->bpf->rodata->have_cookie;
}

int probe_set__attach_loader(struct probe_set *set, const char *path, uint64_t offset)
{
	return probe_set__attach_uprobe(set, set->bpf->progs.loader_mapped, false, path, offset, 0);
}

int probe_set__identify(struct probe_set *set, int fd, struct wire_file_id *ret_id,
			uint32_t *ret_pid)
{
	__u64 args[1] = {(__u64)fd};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = sizeof(args));

	if (bpf_prog_test_run_opts(bpf_program__fd(set->bpf->progs.identify), &opts))
		return -errno;
	*ret_id = set->bpf->bss->identified;
	if (ret_pid)
		*ret_pid = set->bpf->bss->identified_pid;
	return 0;
}

int probe_set__trace(struct probe_set *set, pid_t pid, uint32_t flags)
{
	__u32 key = (__u32)pid;
	struct traced_process process = {.flags = flags};

	if (bpf_map_update_elem(bpf_map__fd(set->bpf->maps.traced), &key, &process, BPF_ANY))
		return -errno;
	return 0;
}

void probe_set__untrace(struct probe_set *set, pid_t pid)
{
	__u32 key = (__u32)pid;

	bpf_map_delete_elem(bpf_map__fd(set->bpf->maps.traced), &key);
}

int probe_set__trace_binary(struct probe_set *set, const struct wire_file_id *id, const char *name)
{
	struct binary_name key = {0};
	__u32 one = 1;

	strncpy(key.name, name, sizeof(key.name) - 1);
	if (bpf_map_update_elem(bpf_map__fd(set->bpf->maps.binaries), id, &one, BPF_ANY) ||
	    bpf_map_update_elem(bpf_map__fd(set->bpf->maps.binary_names), &key, &one, BPF_ANY))
		return -errno;
	return 0;
}

void probe_set__file_known(struct probe_set *set, const struct wire_file_id *id)
{
	__u32 one = 1;

	bpf_map_update_elem(bpf_map__fd(set->bpf->maps.known_files), id, &one, BPF_ANY);
}

bool probe_set__release(struct probe_set *set, pid_t pid)
{
	__u32 key = (__u32)pid;

	return !bpf_map_delete_elem(bpf_map__fd(set->bpf->maps.held), &key);
}

int probe_set__held_map_fd(const struct probe_set *set)
{
	return bpf_map__fd(set->bpf->maps.held);
}

static struct stream_key stream_key_of(uint32_t pid, const struct wire_connection *connection,
				       uint32_t direction)
{
	return (struct stream_key){
		.connection = {.pid = pid, .object = connection->object},
		.direction = direction,
	};
}

void probe_set__direct(struct probe_set *set, const struct directive *directive)
{
	struct stream_key key =
		stream_key_of(directive->pid, &directive->connection, directive->direction);
	struct stream_directive value = {
		.generation = directive->connection.generation,
		.skip_until = directive->skip_until,
		.watch = directive->watch,
		.walk_from = directive->walk_from,
		.position = directive->position,
	};

	/* A directive that finds no room only means that more is captured. */
	bpf_map_update_elem(bpf_map__fd(set->bpf->maps.directives), &key, &value, BPF_ANY);
}

void probe_set__forget(struct probe_set *set, uint32_t pid,
		       const struct wire_connection *connection)
{
	for (uint32_t direction = 0; direction < 2; direction++) {
		struct stream_key key = stream_key_of(pid, connection, direction);

		bpf_map_delete_elem(bpf_map__fd(set->bpf->maps.directives), &key);
	}
}

void probe_set__sweep(struct probe_set *set, connection_stale_fn *stale, void *context)
{
	int fd = bpf_map__fd(set->bpf->maps.connections);
	struct connection_key key, next;
	struct connection_state state;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (!bpf_map_lookup_elem(fd, &key, &state) &&
		    stale(context, key.pid, state.generation))
			bpf_map_delete_elem(fd, &key);
	}
}

int probe_set__ring_fd(const struct probe_set *set)
{
	return bpf_map__fd(set->bpf->maps.ring);
}

int probe_set__drain(struct probe_set *set)
{
	return ring_buffer__consume(set->ring);
}

void probe_set__set_consumer(struct probe_set *set, enum consumer_state state)
{
	__atomic_store_n(&set->bpf->bss->shared.consumer, state, __ATOMIC_SEQ_CST);
}

uint64_t probe_set__events_lost(const struct probe_set *set)
{
	const struct shared *shared = &set->bpf->bss->shared;

	return shared->events_lost + shared->calls_lost + shared->connections_lost;
}
