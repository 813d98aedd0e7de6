/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TLS calls, from their entry to their return.
 *
 * A call is noted when it is entered, in the small stack of calls of its thread (of its goroutine,
 * in Go), because its arguments are gone when it returns; its bytes are committed when it returns,
 * with the count that it reports, because a write may be retried, may be partial, and may fail. A
 * stack and not one slot, because TLS runs inside TLS (an HTTPS proxy) and a library's functions
 * call each other: SSL_write_ex calls SSL_write_ex2 on the same object, and only the outer call's
 * bytes count.
 *
 * A thread can leave a function without returning (longjmp, a panic, or a probe that went in after
 * the entry). The stack pointer tells: a call that is still running lies above every later one.
 */
#ifndef TLSTRACE_CALL_H
#define TLSTRACE_CALL_H

#include "connection.h"

/* Numbers of the functions that push a call: an exit must not take another function's. */
enum function {
	FN_READ,
	FN_READ_EX,
	FN_PEEK,
	FN_PEEK_EX,
	FN_READ_EARLY,
	FN_WRITE,
	FN_WRITE_EX,
	FN_WRITE_EX2,
	FN_WRITE_EARLY,
	FN_SENDFILE,
	FN_HANDSHAKE,
	FN_CONNECT,
	FN_ACCEPT,
	FN_GO_READ,
	FN_GO_WRITE,
};

#define NO_DIRECTION 0xff

/* Not on the stack: there is little, and the programs called share it. */
static const struct thread no_calls;

/*
 * The calls of a thread or goroutine; NULL when its process is not traced, or, counted, without
 * room. Who has them is of a traced process: a thread's are dropped when it ends or executes.
 */
static __always_inline struct thread *thread_of(const struct thread_key *key)
{
	struct thread *thread = bpf_map_lookup_elem(&threads, key);

	if (thread || !is_traced())
		return thread;
	bpf_map_update_elem(&threads, key, &no_calls, BPF_NOEXIST);
	thread = bpf_map_lookup_elem(&threads, key);
	if (!thread)
		count(&shared.calls_lost);
	return thread;
}

/* What a call is given. */
struct arguments {
	__u64 object;
	__u64 buffer;
	__u64 length;
	__u64 length_at; /* see struct call */
	__u64 stack;
	__u64 generation; /* see struct call */
	__u8 function;
	__u8 direction;
	__u8 library;
	bool counted;
	bool moves; /* see struct call */
};

/*
 * A goroutine's call was left without a return: a panic. Not so where a function runs its entry
 * again, for which the same call is noted once more.
 */
static __always_inline void drop_call(const struct call *call, const struct arguments *by)
{
	if (!(by && call->stack == by->stack && call->object == by->object &&
	      call->function == by->function && call->generation == by->generation))
		release_connection(call->object, call->generation, call->direction);
}

/* A function was entered; `is_go`, a constant: by a goroutine. */
static __always_inline void enter_call(struct thread *thread, const struct arguments *arguments,
				       bool is_go)
{
	__u64 depth = thread->depth;
	bool counted = arguments->counted;
	struct call *call;

	for (int i = 0; i < MAX_DEPTH; i++) {
		__u64 top = depth - 1;

		if (top >= MAX_DEPTH || thread->calls[top].stack > arguments->stack)
			break;
		depth = top; /* it was left without a return */
		if (is_go)
			drop_call(&thread->calls[top], arguments);
	}
	for (__u64 i = 0; i < MAX_DEPTH; i++) {
		if (i >= depth)
			break;
		if (thread->calls[i].object == arguments->object &&
		    thread->calls[i].direction == arguments->direction && thread->calls[i].counted)
			counted = false;
	}
	if (depth >= MAX_DEPTH) {
		count(&shared.calls_lost);
		return;
	}
	call = &thread->calls[depth];
	call->object = arguments->object;
	call->buffer = arguments->buffer;
	call->length = arguments->length;
	call->length_at = arguments->length_at;
	/* What is read passes at the return; the clock is dear. */
	call->start_ns = arguments->direction == WIRE_READ ? 0 : bpf_ktime_get_ns();
	call->stack = arguments->stack;
	call->generation = arguments->generation;
	call->sock = 0;
	call->tuple.source = WIRE_TUPLE_NONE;
	call->function = arguments->function;
	call->direction = arguments->direction;
	call->library = arguments->library;
	call->moves = arguments->moves;
	call->counted = counted;
	call->many_sockets = 0;
	call->on_unix = 0;
	call->tcp_flags = 0;
	call->tcp = (struct wire_tcp){};
	call->record = (struct record_place){};
	call->is_inner = depth > 0;
	call->ports = 0;
	thread->depth = depth + 1;
}

/*
 * A function returned: takes its call off the stack. What was above it was left without a return.
 * NULL when the entry was not seen. The call stays readable until the next entry.
 */
static __always_inline struct call *leave_call(struct thread *thread, __u64 stack, __u8 function,
					       bool is_go)
{
	__u64 depth = thread->depth;
	struct call *call, *outer;

	for (int i = 0; i < MAX_DEPTH; i++) {
		__u64 top = depth - 1;

		if (top >= MAX_DEPTH)
			break;
		call = &thread->calls[top];
		if (call->stack > stack)
			break;
		depth = top;
		if (call->stack < stack || call->function != function) {
			if (is_go)
				drop_call(call, NULL);
			continue;
		}
		thread->depth = depth;
		/* A socket used inside an inner call was used inside the outer one as well. */
		top = depth - 1;
		if (top < MAX_DEPTH && call->sock) {
			outer = &thread->calls[top];
			if (!outer->sock) {
				outer->sock = call->sock;
				outer->ports = call->ports;
				outer->on_unix = call->on_unix;
				outer->tuple = call->tuple;
				outer->tcp = call->tcp;
				outer->tcp_flags = call->tcp_flags;
				if (outer->object != call->object ||
				    outer->direction != call->direction)
					outer->tcp_flags &= ~WIRE_TCP_SEQ;
			} else if (outer->sock != call->sock) {
				outer->many_sockets = 1;
			}
			outer->many_sockets |= call->many_sockets;
		}
		return call;
	}
	thread->depth = depth;
	return NULL;
}

/* A call of `moved` bytes has returned: what follows is common to all libraries (commit.bpf.c). */
static __always_inline int commit_later(struct pt_regs *ctx, struct call *call, __u64 moved,
					bool at_end)
{
	call->moved = moved;
	call->at_end = at_end;
	bpf_tail_call(ctx, &after_return, 0);
	count(&shared.calls_lost); /* only when the tail call was refused */
	return 0;
}

#endif
