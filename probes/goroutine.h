/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which goroutine runs. Go's threads run one goroutine after another, and a goroutine that waits
 * for its socket goes on where there is room, so what happens between the entry and the return of
 * a function is tied together by the goroutine, not by the thread: by the address of its
 * runtime.g, which stays as long as the goroutine lives (its number, goid, is at another place in
 * each version).
 *
 * With arguments in registers, g is in a register of its own, also in the system calls that a
 * goroutine makes; with arguments on the stack it is in thread-local storage, but for arm64, where
 * it has its register in all versions.
 */
#ifndef TLSTRACE_GOROUTINE_H
#define TLSTRACE_GOROUTINE_H

#include "sockets.h"

#if defined(__TARGET_ARCH_x86)
#define GO_G	       r14
#define GO_ARGUMENT_1  rax
#define GO_ARGUMENT_2  rbx
#define GO_ARGUMENT_3  rcx
#define GO_RESULT      rax
#define GO_CLOSURE     rdx  /* of the function that is called, where it has one */
#define GO_TLS_G       (-8) /* of runtime.tlsg, from the thread pointer */
#define THREAD_POINTER thread.fsbase
#define STORAGE_HAS_G  true /* with arguments on the stack */

/* At the jump of a stack check (jbe): it is taken, since carry or zero is set. */
#define GO_STACK_IS_SMALL(regs) ((regs)->eflags & 0x41)

#elif defined(__TARGET_ARCH_arm64)
#define GO_G	      regs[28]
#define STORAGE_HAS_G false
#define GO_ARGUMENT_1 regs[0]
#define GO_ARGUMENT_2 regs[1]
#define GO_ARGUMENT_3 regs[2]
#define GO_RESULT     regs[0]
#endif

/* struct stack in Go's runtime, the first member of g in all versions. */
struct go_stack {
	__u64 low;
	__u64 high;
};

/* g, as the thread-local storage of the current thread has it; 0 when it cannot be read. */
static __always_inline __u64 goroutine_of_storage(void)
{
	__u64 g = 0;
#if defined(THREAD_POINTER)
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pointer = BPF_CORE_READ(task, THREAD_POINTER);

	bpf_probe_read_user(&g, sizeof(g), (void *)(pointer + GO_TLS_G));
#endif
	return g;
}

/* The calls of the goroutine that makes the current system call; NULL where none does. */
static __always_inline struct thread *goroutine_of_syscall(void)
{
	__u32 pid = current_pid();
	struct traced_process *process;
	struct thread_key key;
	__u64 g = 0;

	if (!shared.go_seen)
		return NULL;
	process = bpf_map_lookup_elem(&traced, &pid);
	if (!process || !(process->flags & (TRACED_GO | TRACED_GO_STACK)))
		return NULL;
	if (STORAGE_HAS_G && process->flags & TRACED_GO_STACK)
		g = goroutine_of_storage();
	else
		bpf_probe_read_kernel(&g, sizeof(g), &regs_of_syscall()->GO_G);
	if (!g)
		return NULL;
	key = key_of_goroutine(g);
	return bpf_map_lookup_elem(&threads, &key);
}

#endif
