// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which processes are traced, decided in the kernel at the moment it happens: a child is traced
 * from its first instruction because its parent is, a process because of the file it executes. The
 * program learns of it from records and fills in what only it knows.
 *
 * A process of a command that tlstrace started may be held: stopped, before it runs what it has
 * just executed or mapped, until probes are in those files. The program lets it go with SIGCONT;
 * the map `held` names who waits, so that a guard can do it when the program dies.
 */
#include "common.h"

#define SIGSTOP	     19
#define PIDTYPE_PGID 2 /* enum pid_type, the same since kernel 4.20 */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct wire_file_id);
	__type(value, __u32);
} binaries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct binary_name);
	__type(value, __u32);
} binary_names SEC(".maps");

/* Executables whose own TLS code, and whose loader, have their probes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct wire_file_id);
	__type(value, __u32);
} known_files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} held SEC(".maps");

static __always_inline void file_id(struct file *file, struct wire_file_id *id)
{
	id->device = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	id->inode = BPF_CORE_READ(file, f_inode, i_ino);
}

/*
 * Stops the current process, unless somebody would take the stop for the user's: an interactive
 * shell puts each job in a process group of its own and reports when it stops. The command itself,
 * whose parent is tlstrace, is held in any case.
 */
static __always_inline bool hold(struct task_struct *task, const struct traced_process *process)
{
	__u32 pid = current_pid(), one = 1;
	struct pid *group, *parent_group;

	if (!(process->flags & TRACED_HOLD))
		return false;
	if (!(process->flags & TRACED_COMMAND)) {
		group = BPF_CORE_READ(task, signal, pids[PIDTYPE_PGID]);
		parent_group = BPF_CORE_READ(task, real_parent, signal, pids[PIDTYPE_PGID]);
		if (group != parent_group)
			return false;
	}
	if (bpf_map_update_elem(&held, &pid, &one, BPF_ANY))
		return false;
	if (bpf_send_signal(SIGSTOP)) {
		bpf_map_delete_elem(&held, &pid);
		return false;
	}
	return true;
}

SEC("raw_tracepoint/sched_process_fork")
int process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx->args[0];
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	__u32 pid = BPF_CORE_READ(parent, tgid), child_pid = BPF_CORE_READ(child, tgid);
	struct traced_process *process, copy;
	struct wire_fork *record;

	if (pid == child_pid)
		return 0;
	process = bpf_map_lookup_elem(&traced, &pid);
	if (!process)
		return 0;
	copy = *process;
	copy.flags &= ~(TRACED_COMMAND | TRACED_LATER | TRACED_UNNESTED | TRACED_CIPHERTEXT);
	bpf_map_update_elem(&traced, &child_pid, &copy, BPF_ANY);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(&shared.events_lost);
		return 0;
	}
	fill_header(&record->header, WIRE_FORK, sizeof(*record));
	record->header.pid = pid;
	record->child = child_pid;
	record->pad = 0;
	bpf_ringbuf_submit(record, wakeup(false));
	return 0;
}

/* Whether the name of the executed file is a traced binary's: it may have been replaced. */
static __always_inline bool has_traced_name(struct file *file)
{
	struct binary_name name = {};
	const unsigned char *string = BPF_CORE_READ(file, f_path.dentry, d_name.name);

	bpf_probe_read_kernel_str(name.name, sizeof(name.name), string);
	return bpf_map_lookup_elem(&binary_names, &name);
}

SEC("raw_tracepoint/sched_process_exec")
int process_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct linux_binprm *binary = (struct linux_binprm *)ctx->args[2];
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct thread_key thread = key_of_thread();
	__u32 pid = current_pid();
	struct traced_process *process = bpf_map_lookup_elem(&traced, &pid), added = {};
	struct wire_exec *record;
	struct wire_file_id id = {};

	file_id(file, &id);
	if (bpf_map_lookup_elem(&binaries, &id)) {
		if (!process)
			bpf_map_update_elem(&traced, &pid, &added, BPF_ANY);
	} else if (!process || !(process->flags & TRACED_FOLLOW)) {
		bpf_map_delete_elem(&traced, &pid);
		if (!process && !has_traced_name(file))
			return 0;
	}
	bpf_map_delete_elem(&threads, &thread);
	process = bpf_map_lookup_elem(&traced, &pid);
	if (process) {
		process->executable_pages = BPF_CORE_READ(task, mm, exec_vm);
		process->flags &= ~(TRACED_LATER | TRACED_UNNESTED | TRACED_CIPHERTEXT | TRACED_GO |
				    TRACED_GO_STACK);
	}
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(&shared.events_lost);
		return 0;
	}
	fill_header(&record->header, WIRE_EXEC, sizeof(*record));
	record->executable = id;
	record->traced = process ? 1 : 0;
	record->held = 0;
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_probe_read_kernel_str(record->path, sizeof(record->path),
				  BPF_CORE_READ(binary, filename));
	if (process && !bpf_map_lookup_elem(&known_files, &id))
		record->held = hold(task, process);
	bpf_ringbuf_submit(record, wakeup(true));
	return 0;
}

SEC("raw_tracepoint/sched_process_exit")
int process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct thread_key thread = key_of_thread();
	__u32 pid = current_pid();
	struct wire_header *record;

	bpf_map_delete_elem(&threads, &thread);
	/* do_exit() has taken this thread off the count already; others of the process may live. */
	if (BPF_CORE_READ(task, signal, live.counter) || !bpf_map_lookup_elem(&traced, &pid))
		return 0;
	bpf_map_delete_elem(&traced, &pid);
	bpf_map_delete_elem(&held, &pid);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(&shared.events_lost);
		return 0;
	}
	fill_header(record, WIRE_EXIT, sizeof(*record));
	bpf_ringbuf_submit(record, wakeup(true));
	return 0;
}

/*
 * The dynamic loader's _dl_debug_state, the hook it calls for debuggers whenever it has mapped or
 * unmapped files, before any of their code runs (<link.h>, struct r_debug).
 */
SEC("uprobe")
int loader_mapped(struct pt_regs *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 pid = current_pid();
	struct traced_process *process = bpf_map_lookup_elem(&traced, &pid);
	struct wire_header *record;
	__u64 pages;

	stay_on_kernel_stack(ctx);
	if (!process)
		return 0;
	pages = BPF_CORE_READ(task, mm, exec_vm);
	if (process->executable_pages == pages)
		return 0;
	process->executable_pages = pages;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(&shared.events_lost);
		return 0;
	}
	fill_header(record, WIRE_MAPPED, sizeof(*record));
	hold(task, process);
	bpf_ringbuf_submit(record, wakeup(true));
	return 0;
}

/*
 * Run by the program itself (BPF_PROG_TEST_RUN): the identity of its open file `args[0]` as the
 * probes will see it, which stat(2) does not give on every filesystem; and its pid as they see it.
 */
struct wire_file_id identified = {};
__u32 identified_pid = 0;

SEC("raw_tracepoint/identify")
int identify(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file **table = BPF_CORE_READ(task, files, fdt, fd), *file = NULL;

	bpf_probe_read_kernel(&file, sizeof(file), &table[ctx->args[0]]);
	file_id(file, &identified);
	identified_pid = current_pid();
	return 0;
}
