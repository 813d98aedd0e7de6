/* SPDX-License-Identifier: BSD-2-Clause */
/* The BPF programs attached, their maps read and written. See probe_set.h. */
#include "capture/probe_set.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture/programs.h"
#include "capture/uprobe.h"
#include "clock.h"
#include "log.h"
#include "probes.skel.h"

/* Attempts at reading one HPACK table. */
#define WISH_TRIES 8

struct uprobe_list {
	struct uprobe *probes;
	size_t count;
	size_t capacity;
};

/* Detaches those that were added since there were `count`. */
static void uprobe_list__detach(struct uprobe_list *list, size_t count)
{
	uprobe__detach_all(list->probes + count, list->count - count);
	list->count = count;
}

/* Makes room for one more. 0 or -ENOMEM. */
static int uprobe_list__make_room(struct uprobe_list *list)
{
	size_t capacity = list->capacity ? list->capacity * 2 : 4;
	struct uprobe *probes;

	if (list->count < list->capacity)
		return 0;
	probes = realloc(list->probes, capacity * sizeof(*probes));
	if (!probes)
		return -ENOMEM;
	list->probes = probes;
	list->capacity = capacity;
	return 0;
}

/* Detached by a thread of their own: it takes a grace period, in which the ring would fill. */
struct process_probes {
	struct uprobe_list list;
	pthread_t thread;
	struct process_probes *next;
};

struct probe_set {
	struct programs *programs;
	struct tlstrace_bpf *bpf; /* of these, the common ones, and the maps */
	struct ring_buffer *ring;
	bool multi;		    /* uprobe_multi links */
	uint32_t reads_noted;	    /* how often the probes were told to note what is read */
	struct uprobe_list uprobes; /* of all processes; and what watches these and sockets */
	struct process_probes *detaching;
	record_fn *record;
	void *context;
};

static int on_record(void *context, void *data, size_t size)
{
	struct probe_set *set = context;

	set->record(set->context, bytes__of(data, size));
	return 0; /* anything else would end the draining for good */
}

static int probe_set__attach(struct probe_set *set, struct bpf_program *program)
{
	int err = uprobe_list__make_room(&set->uprobes);
	struct bpf_link *link;

	if (err)
		return err;
	link = bpf_program__attach(program);
	if (!link)
		return -errno;
	/* No uprobe, but it is detached like one, and at the same time: fexit takes 0.1 s. */
	set->uprobes.probes[set->uprobes.count++] = (struct uprobe){.link_fd = -1, .link = link};
	return 0;
}

static int probe_set__watch_processes(struct probe_set *set)
{
	int err = probe_set__attach(set, set->bpf->progs.process_fork);

	if (!err)
		err = probe_set__attach(set, set->bpf->progs.process_exec);
	if (!err)
		err = probe_set__attach(set, set->bpf->progs.process_exit);
	return err;
}

static int probe_set__watch_sockets(struct probe_set *set)
{
	struct backend_programs backend =
		programs__of_backend(set->programs, programs__backend(set->programs));
	int err;

	for (size_t i = 0; i < BACKEND_PROGRAMS && backend.programs[i]; i++) {
		err = probe_set__attach(set, backend.programs[i]);
		if (err && i < backend.needed)
			return err;
	}
	return 0;
}

struct go_table_programs {
	struct bpf_program *decode;
	struct bpf_program *encode;
	struct bpf_program *written;
};

static struct go_table_programs go_table_programs_of(const struct tlstrace_bpf *bpf,
						     enum go_abi abi)
{
	if (abi == GO_ABI_STACK)
		return (struct go_table_programs){bpf->progs.go_hpack_decode_stack,
						  bpf->progs.go_hpack_encode_stack,
						  bpf->progs.go_hpack_written_stack};
	return (struct go_table_programs){bpf->progs.go_hpack_decode_regs,
					  bpf->progs.go_hpack_encode_regs,
					  bpf->progs.go_hpack_written_regs};
}

int probe_set__new(const struct probe_set_options *options, struct probe_set **ret_set,
		   const char **ret_step)
{
	struct probe_set *set = calloc(1, sizeof(*set));
	struct programs_options programs_options = {
		.ring_bytes = options->ring_bytes,
		.wake_always = options->wake_always,
		.backend = options->backend,
	};
	int err;

	*ret_step = "allocate memory";
	if (!set)
		return -ENOMEM;
	set->record = options->record;
	set->context = options->context;
	err = programs__new(&programs_options, &set->programs, ret_step);
	if (err)
		goto out;
	set->bpf = programs__common(set->programs);
	set->multi = programs__are_multi(set->programs);
	*ret_step = "attach to the kernel's tracepoints of processes";
	err = probe_set__watch_processes(set);
	if (err)
		goto out;
	*ret_step = "attach to the kernel's socket calls";
	err = probe_set__watch_sockets(set);
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

enum socket_backend probe_set__backend(const struct probe_set *set)
{
	return programs__backend(set->programs);
}

int probe_set__load_all(struct probe_set *set)
{
	return programs__want_all(set->programs);
}

static void *detach(void *context)
{
	struct process_probes *probes = context;

	uprobe_list__detach(&probes->list, 0);
	return NULL;
}

static void process_probes__free(struct process_probes *probes)
{
	uprobe_list__detach(&probes->list, 0);
	free(probes->list.probes);
	free(probes);
}

/* Frees those that are detached by now, or all, waiting for them. */
static void probe_set__reap(struct probe_set *set, bool all)
{
	struct process_probes **link = &set->detaching, *probes;

	while ((probes = *link)) {
		if (all ? pthread_join(probes->thread, NULL)
			: pthread_tryjoin_np(probes->thread, NULL)) {
			link = &probes->next;
			continue;
		}
		*link = probes->next;
		process_probes__free(probes);
	}
}

void probe_set__free(struct probe_set *set)
{
	if (!set)
		return;
	probe_set__reap(set, true);
	uprobe_list__detach(&set->uprobes, 0);
	free(set->uprobes.probes);
	ring_buffer__free(set->ring);
	programs__free(set->programs);
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
	case TLS_SET_FD:
		return (struct function_programs){.entry = bpf->progs.set_fd_entry};
	case TLS_SET_RFD:
	case TLS_SET_WFD:
		return (struct function_programs){.entry = bpf->progs.set_one_fd_entry};
	case TLS_BIO_WRITE:
		return (struct function_programs){.entry = bpf->progs.bio_write_entry};
	case TLS_BIO_READ:
		return BOTH(bio_read);
	case TLS_FUNCTION_COUNT:
		break;
	}
	return (struct function_programs){NULL, NULL};
#undef BOTH
}

/* Where probes go: a file, and whose. */
struct probe_target {
	const char *path;
	pid_t pid; /* 0: all processes */
};

static int probe_set__attach_uprobe(struct probe_set *set, struct uprobe_list *list,
				    struct bpf_program *program, bool is_return,
				    const struct probe_target *target, uint64_t offset,
				    uint64_t cookie)
{
	bool have_cookie = set->bpf->rodata->have_cookie;
	int err = uprobe_list__make_room(list);

	if (err)
		return err;
	/* Without cookies, programs take their place for granted, and libbpf refuses any but 0. */
	err = uprobe__attach(program, set->multi, is_return, target->path, target->pid, offset,
			     have_cookie ? cookie : 0, &list->probes[list->count]);
	if (!err)
		list->count++;
	return err;
}

static struct function_programs go_programs_of(const struct tlstrace_bpf *bpf, enum go_abi abi,
					       enum go_function f)
{
#define OF_ABI(name) (abi == GO_ABI_STACK ? bpf->progs.name##_stack : bpf->progs.name##_regs)
	switch (f) {
	case GO_TLS_READ:
		return (struct function_programs){OF_ABI(go_read), OF_ABI(go_read_exit)};
	case GO_TLS_WRITE:
		return (struct function_programs){OF_ABI(go_write), OF_ABI(go_write_exit)};
	case GO_TLS_CLIENT_HANDSHAKE:
	case GO_TLS_SERVER_HANDSHAKE:
		return (struct function_programs){.entry = OF_ABI(go_begin)};
	case GO_TLS_CLOSE:
		return (struct function_programs){.entry = OF_ABI(go_close)};
	default:
		return (struct function_programs){NULL, NULL};
	}
#undef OF_ABI
}

/* What the program of a probe must know of the place (probes/state.h). */
static uint64_t cookie_of(uint8_t library, const struct placement_site *site)
{
	return (uint64_t)site->stack_bytes << COOKIE_STACK_SHIFT |
	       COOKIE_DEFERRED(site->closure_bytes / 8, site->result_bytes / 8) | library;
}

/* The exit first: an entry whose exit is not there would wait in vain. */
static int probe_set__attach_function(struct probe_set *set, struct uprobe_list *list,
				      const struct probe_target *target,
				      const struct function_programs *functions, uint8_t library,
				      const struct placement *placement)
{
	uint64_t kept = placement->keeps_arguments ? COOKIE_SPILLED : 0;
	struct function_programs programs = *functions;
	int err = 0;

	if (programs.exit && placement->exit_kind == EXIT_URETPROBE)
		err = probe_set__attach_uprobe(set, list, programs.exit, true, target,
					       placement->uretprobe.offset,
					       library | COOKIE_RETURN);
	for (unsigned int i = 0; placement->exit_kind == EXIT_SITES && i < placement->exit_count;
	     i++) {
		const struct placement_site *site = &placement->exits[i];

		if (!err && programs.exit)
			err = probe_set__attach_uprobe(set, list, programs.exit, false, target,
						       site->offset,
						       cookie_of(library, site) | kept);
	}
	if (!err && programs.entry)
		err = probe_set__attach_uprobe(set, list, programs.entry, false, target,
					       placement->entry.offset,
					       cookie_of(library, &placement->entry));
	return err;
}

/* The functions from `first` to before `end`. 0, or -errno with no probe more on the list. */
static int probe_set__attach_functions(struct probe_set *set, struct uprobe_list *list,
				       const struct probe_target *target, int first, int end,
				       enum tls_library_kind library, const struct tls_sites *sites)
{
	size_t before = list->count;
	int err = 0;

	for (int f = first; f < end && !err; f++) {
		struct function_programs programs = programs_of(set->bpf, f);

		if (sites->wanted[f])
			err = probe_set__attach_function(set, list, target, &programs, library,
							 &sites->placement[f]);
	}
	if (err)
		uprobe_list__detach(list, before);
	return err;
}

int probe_set__attach_tls(struct probe_set *set, const char *path, const struct tls_code *code,
			  const struct tls_sites *sites, unsigned int *ret_count)
{
	struct probe_target target = {.path = path};
	size_t before = set->uprobes.count;
	int err = probe_set__attach_functions(set, &set->uprobes, &target, 0, TLS_BIO_READ,
					      code->library, sites);

	*ret_count = (unsigned int)(set->uprobes.count - before);
	return err;
}

static enum program_group go_group(enum go_abi abi)
{
	return abi == GO_ABI_STACK ? PROGRAMS_GO_STACK : PROGRAMS_GO_REGISTERS;
}

int probe_set__load_go(struct probe_set *set, enum go_abi abi)
{
	struct tlstrace_bpf *bpf;

	return programs__want(set->programs, go_group(abi), &bpf);
}

int probe_set__attach_go(struct probe_set *set, const char *path, enum go_abi abi,
			 const struct go_sites *sites, unsigned int *ret_count)
{
	struct probe_target target = {.path = path};
	size_t before = set->uprobes.count;
	struct tlstrace_bpf *bpf;
	int err = programs__want(set->programs, go_group(abi), &bpf);

	for (int f = 0; f < GO_FUNCTION_COUNT && !err; f++) {
		struct function_programs programs = go_programs_of(bpf, abi, f);

		if (sites->wanted[f])
			err = probe_set__attach_function(set, &set->uprobes, &target, &programs,
							 WIRE_GO, &sites->placement[f]);
	}
	if (err)
		uprobe_list__detach(&set->uprobes, before);
	*ret_count = (unsigned int)(set->uprobes.count - before);
	return err;
}

int probe_set__attach_bio(struct probe_set *set, const char *path, const struct tls_code *code,
			  const struct tls_sites *sites, pid_t pid,
			  struct process_probes **ret_probes)
{
	struct probe_target target = {.path = path, .pid = set->multi ? pid : 0};
	struct process_probes *probes = calloc(1, sizeof(*probes));
	int err;

	if (!probes)
		return -ENOMEM;
	err = probe_set__attach_functions(set, &probes->list, &target, TLS_BIO_READ,
					  TLS_FUNCTION_COUNT, code->library, sites);
	if (err)
		process_probes__free(probes);
	else
		*ret_probes = probes;
	return err;
}

int probe_set__attach_tables(struct probe_set *set, const char *path,
			     const struct nghttp2_code *code, pid_t pid,
			     struct process_probes **ret_probes)
{
	struct probe_target target = {.path = path, .pid = set->multi ? pid : 0};
	struct process_probes *probes = calloc(1, sizeof(*probes));
	struct tlstrace_bpf *bpf;
	int err;

	if (!probes)
		return -ENOMEM;
	err = programs__want(set->programs, PROGRAMS_NGHTTP2, &bpf);
	for (size_t i = 0; i < code->return_count && !err; i++)
		err = probe_set__attach_uprobe(set, &probes->list, bpf->progs.h2_send_exit, false,
					       &target, code->returns[i],
					       (uint64_t)code->deflater_at << COOKIE_TABLE_SHIFT |
						       COOKIE_RETURN);
	if (!err && code->return_count)
		err = probe_set__attach_uprobe(set, &probes->list, bpf->progs.h2_send_entry, false,
					       &target, code->send.offset,
					       (uint64_t)code->send.stack_bytes
						       << COOKIE_STACK_SHIFT);
	for (size_t i = 0; i < code->receive_count && !err; i++)
		err = probe_set__attach_uprobe(set, &probes->list, bpf->progs.h2_receive_entry,
					       false, &target, code->receives[i].offset,
					       (uint64_t)code->inflater_at << COOKIE_TABLE_SHIFT);
	if (err)
		process_probes__free(probes);
	else
		*ret_probes = probes;
	return err;
}

static int probe_set__attach_entry(struct probe_set *set, struct uprobe_list *list,
				   struct bpf_program *program, const struct probe_target *target,
				   const struct placement_site *site)
{
	return probe_set__attach_uprobe(set, list, program, false, target, site->offset,
					cookie_of(WIRE_GO, site));
}

int probe_set__attach_go_tables(struct probe_set *set, const char *path, enum go_abi abi,
				const struct go_hpack_sites *sites, pid_t pid,
				struct process_probes **ret_probes)
{
	struct probe_target target = {.path = path, .pid = set->multi ? pid : 0};
	struct process_probes *probes = calloc(1, sizeof(*probes));
	struct go_table_programs programs = {0};
	struct tlstrace_bpf *bpf;
	int err;

	if (!probes)
		return -ENOMEM;
	err = programs__want(set->programs,
			     abi == GO_ABI_STACK ? PROGRAMS_GO_HPACK_STACK
						 : PROGRAMS_GO_HPACK_REGISTERS,
			     &bpf);
	if (!err)
		programs = go_table_programs_of(bpf, abi);
	for (size_t i = 0; i < sites->decoder_count && !err; i++)
		err = probe_set__attach_entry(set, &probes->list, programs.decode, &target,
					      &sites->decoders[i]);
	for (size_t i = 0; i < sites->encoder_count && !err; i++)
		err = probe_set__attach_entry(set, &probes->list, programs.encode, &target,
					      &sites->encoders[i]);
	if (!err && sites->encoder_count)
		err = probe_set__attach_entry(set, &probes->list, programs.written, &target,
					      &sites->write);
	if (err)
		process_probes__free(probes);
	else
		*ret_probes = probes;
	return err;
}

void probe_set__detach(struct probe_set *set, struct process_probes *probes)
{
	if (!probes)
		return;
	probe_set__reap(set, false);
	if (pthread_create(&probes->thread, NULL, detach, probes)) {
		process_probes__free(probes);
		return;
	}
	probes->next = set->detaching;
	set->detaching = probes;
}

size_t probe_set__count(const struct probe_set *set)
{
	return set->uprobes.count;
}

void probe_set__own(struct probe_set *set, size_t count, const void *owner)
{
	for (; count < set->uprobes.count; count++)
		set->uprobes.probes[count].owner = owner;
}

void probe_set__disown(struct probe_set *set, const void *owner)
{
	struct process_probes *probes = calloc(1, sizeof(*probes));
	struct uprobe_list *list = &set->uprobes;
	size_t kept = 0;

	if (probes)
		probes->list.probes = calloc(list->count + 1, sizeof(*list->probes));
	if (!probes || !probes->list.probes) {
		free(probes);
		return;
	}
	for (size_t i = 0; i < list->count; i++) {
		if (list->probes[i].owner == owner)
			probes->list.probes[probes->list.count++] = list->probes[i];
		else
			list->probes[kept++] = list->probes[i];
	}
	list->count = kept;
	probe_set__detach(set, probes);
}

bool probe_set__probes_one_process(const struct probe_set *set)
{
	return set->multi;
}

/* Changes the flags of a traced process, if it is not gone. */
static void probe_set__flag(struct probe_set *set, pid_t pid, __u32 flag, bool value)
{
	int fd = bpf_map__fd(set->bpf->maps.traced);
	struct traced_process process;
	__u32 key = (__u32)pid;

	if (bpf_map_lookup_elem(fd, &key, &process))
		return;
	process.flags &= ~flag;
	process.flags |= value ? flag : 0;
	bpf_map_update_elem(fd, &key, &process, BPF_EXIST);
}

void probe_set__watch_ciphertext(struct probe_set *set, pid_t pid, bool watch)
{
	struct shared *shared = &set->bpf->bss->shared;

	__atomic_fetch_add(&shared->ciphertext_processes, watch ? 1 : -1, __ATOMIC_RELAXED);
	probe_set__flag(set, pid, TRACED_CIPHERTEXT, watch);
}

void probe_set__take_calls(struct probe_set *set, pid_t pid)
{
	probe_set__flag(set, pid, TRACED_LATER, false);
}

bool probe_set__places(const struct probe_set *set)
{
	return set->bpf->rodata->have_cookie;
}

int probe_set__attach_loader(struct probe_set *set, const char *path, uint64_t offset)
{
	struct probe_target target = {.path = path};

	return probe_set__attach_uprobe(set, &set->uprobes, set->bpf->progs.loader_mapped, false,
					&target, offset, 0);
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

void probe_set__file_unknown(struct probe_set *set, const struct wire_file_id *id)
{
	bpf_map_delete_elem(bpf_map__fd(set->bpf->maps.known_files), id);
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

/* Goroutines that were in a call when their process ended. */
static void probe_set__sweep_goroutines(struct probe_set *set, connection_stale_fn *stale,
					void *context)
{
	int fd = bpf_map__fd(set->bpf->maps.threads);
	struct thread_key key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (key.goroutine && stale(context, (uint32_t)(key.id >> 32), UINT64_MAX))
			bpf_map_delete_elem(fd, &key);
	}
}

static bool is_of_process(void *context, uint32_t pid, uint64_t generation_ns)
{
	return pid == *(const uint32_t *)context;
}

void probe_set__forget_goroutines(struct probe_set *set, uint32_t pid)
{
	if (set->bpf->bss->shared.go_seen)
		probe_set__sweep_goroutines(set, is_of_process, &pid);
}

bool probe_set__reads_tables(const struct probe_set *set)
{
	return programs__reads_tables(set->programs);
}

int probe_set__wish(struct probe_set *set, uint32_t pid, const struct wire_connection *connection,
		    enum wire_direction direction)
{
	struct stream_key key = stream_key_of(pid, connection, direction);
	struct table_wish wish = {.generation = connection->generation, .tries = WISH_TRIES};

	if (bpf_map_update_elem(bpf_map__fd(set->bpf->maps.wishes), &key, &wish, BPF_ANY))
		return -errno;
	return 0;
}

void probe_set__unwish(struct probe_set *set, uint32_t pid,
		       const struct wire_connection *connection, enum wire_direction direction)
{
	struct stream_key key = stream_key_of(pid, connection, direction);

	bpf_map_delete_elem(bpf_map__fd(set->bpf->maps.wishes), &key);
}

void probe_set__note_reads(struct probe_set *set, bool note)
{
	__u32 number = note ? ++set->reads_noted : 0;

	__atomic_store_n(&set->bpf->bss->shared.note_reads, number, __ATOMIC_RELAXED);
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
	if (set->bpf->bss->shared.go_seen)
		probe_set__sweep_goroutines(set, stale, context);
}

static struct wire_header header_of(enum wire_type type, size_t size, uint32_t pid)
{
	return (struct wire_header){
		.size = (uint32_t)size,
		.type = type,
		.time_ns = now_ns(),
		.pid = pid,
		.tid = pid,
	};
}

/* As report_frames() of the probes. */
static void probe_set__report_frames(struct probe_set *set, const struct stream_key *key,
				     const struct connection_state *state)
{
	const struct walk *walk = &state->walks[key->direction];
	struct {
		struct wire_frames frames;
		struct wire_frames_stream streams[WIRE_FRAMES_STREAMS];
	} record = {0};
	size_t size = sizeof(record.frames);

	for (; record.frames.count < WIRE_FRAMES_STREAMS; record.frames.count++) {
		uint8_t i = record.frames.count;

		if (!walk->sums.streams[i])
			break;
		record.streams[i].payload = walk->sums.payload[i];
		record.streams[i].stream = walk->sums.streams[i];
		size += sizeof(record.streams[i]);
	}
	record.frames.header = header_of(WIRE_FRAMES, size, key->connection.pid);
	record.frames.connection.object = key->connection.object;
	record.frames.connection.generation = state->generation;
	record.frames.position = state->position[key->direction];
	record.frames.lost_bytes = state->lost_bytes[key->direction];
	record.frames.left = (uint32_t)walk->remaining;
	record.frames.stream = walk->stream;
	record.frames.direction = (uint8_t)key->direction;
	set->record(set->context, bytes__of(&record, size));
}

/* As report_close() of the probes, of one direction. */
static void probe_set__report_stream(struct probe_set *set, const struct stream_key *key,
				     const struct connection_state *state)
{
	const struct walk *walk = &state->walks[key->direction];
	struct wire_close record = {
		.header = header_of(WIRE_CLOSE, sizeof(record), key->connection.pid),
		.connection = {.object = key->connection.object, .generation = state->generation},
		.tuple = state->tuple,
		.reason = WIRE_CLOSE_NOT,
		.library = state->library,
		.flags = state->flags & WIRE_FROM_START,
	};

	if (walk->phase == WALK_FRAMES && walk->told < state->position[key->direction])
		probe_set__report_frames(set, key, state);
	record.position[key->direction] = state->position[key->direction];
	record.lost_bytes[key->direction] = state->lost_bytes[key->direction];
	record.body_bytes[key->direction] = state->body_bytes[key->direction];
	set->record(set->context, bytes__of(&record, sizeof(record)));
}

void probe_set__report_left_out(struct probe_set *set, uint32_t pid)
{
	int connections = bpf_map__fd(set->bpf->maps.connections);
	int fd = bpf_map__fd(set->bpf->maps.directives);
	struct stream_directive directive;
	struct connection_state state;
	struct stream_key key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if ((!pid || key.connection.pid == pid) && key.direction <= WIRE_WRITE &&
		    !bpf_map_lookup_elem(fd, &key, &directive) &&
		    !bpf_map_lookup_elem(connections, &key.connection, &state) &&
		    state.generation == directive.generation)
			probe_set__report_stream(set, &key, &state);
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

	if (shared->events_lost || shared->calls_lost || shared->connections_lost)
		log_verbose("no room for %llu records, %llu calls, %llu connections",
			    shared->events_lost, shared->calls_lost, shared->connections_lost);
	return shared->events_lost + shared->calls_lost + shared->connections_lost;
}
