// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Probes on Go's crypto/tls, through which all that Go programs send and receive over TLS passes:
 * (*Conn).Read and .Write with the plaintext, the handshakes, with which a connection begins, and
 * .Close, with which it ends. An object that is not closed ends when its memory is used anew: by a
 * handshake on the same address.
 *
 * Two conventions (ABI): from Go 1.17 on arguments and results are in registers, before on the
 * stack above the return address. A goroutine's stack is moved when it grows, perhaps between a
 * call's entry and its return, and perhaps with the buffer on it: places on it are therefore kept
 * by their distance from its upper end, which moving does not change. A function that finds its
 * stack too small begins anew on a larger one: its entry is then seen twice, at the same distance.
 */
#include "call.h"
#include "ciphertext.h"
#include "go_frame.h"

/* The goroutine's stack, on which the probe's function runs. */
static __always_inline bool go_stack_of(const struct go_frame *frame, __u64 pointer,
					struct go_stack *ret)
{
	if (!frame->g || bpf_probe_read_user(ret, sizeof(*ret), (void *)frame->g) ||
	    pointer < ret->low || pointer > ret->high) {
		count(&shared.calls_lost);
		return false;
	}
	return true;
}

static __always_inline struct traced_process *traced_go(__u32 flag)
{
	__u32 pid = current_pid();
	struct traced_process *process = bpf_map_lookup_elem(&traced, &pid);

	if (process && process->flags & TRACED_LATER)
		return NULL;
	if (process && !(process->flags & flag)) {
		process->flags |= flag;
		shared.go_seen = 1;
	}
	return process;
}

struct go_function {
	__u8 number; /* enum function */
	__u8 direction;
};

static const struct go_function go_read = {FN_GO_READ, WIRE_READ};
static const struct go_function go_write = {FN_GO_WRITE, WIRE_WRITE};

/* The connection of an object, for a call that begins on it; it may begin with that. */
static __always_inline __u64 go_use(__u64 object, __u8 direction)
{
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	if (!state || !state->generation) {
		state = begin_connection(object, WIRE_GO,
					 bpf_map_lookup_elem(&fresh, &key) ? WIRE_FROM_START : 0);
		bpf_map_delete_elem(&fresh, &key);
	}
	if (!state)
		return 0;
	__sync_fetch_and_add(&state->calls, 1);
	if (direction == WIRE_WRITE)
		__sync_fetch_and_add(&state->writes, 1);
	return state->generation;
}

/* Whether the call is noted already: its entry is run again, on a larger stack. */
static __always_inline __u64 go_noted(const struct thread *thread,
				      const struct arguments *arguments)
{
	__u64 top = thread->depth - 1;
	const struct call *call;

	if (top >= MAX_DEPTH)
		return 0;
	call = &thread->calls[top];
	return call->stack == arguments->stack && call->object == arguments->object &&
			       call->function == arguments->function
		       ? call->generation
		       : 0;
}

/* Notes a call whose frame begins at `pointer` of the stack. */
static __always_inline void go_note(struct thread *thread, const struct go_frame *frame,
				    const struct go_function *function,
				    const struct go_stack *stack, __u64 pointer)
{
	struct arguments arguments = {
		.object = frame->arguments[0],
		.buffer = frame->arguments[1],
		.length = frame->arguments[2],
		.stack = pointer - stack->high,
		.function = function->number,
		.direction = function->direction,
		.library = WIRE_GO,
		.counted = true,
	};

	arguments.generation =
		go_noted(thread, &arguments) ?: go_use(arguments.object, function->direction);
	arguments.moves = arguments.buffer >= stack->low && arguments.buffer < stack->high;
	if (arguments.moves)
		arguments.buffer -= stack->high;
	enter_call(thread, &arguments, true);
}

static __always_inline int go_enter(struct pt_regs *ctx, const struct go_frame *frame,
				    const struct go_function *function)
{
	struct thread_key key = key_of_goroutine(frame->g);
	__u64 pointer = stack_at_entry(ctx, false);
	struct go_stack stack;
	struct thread *thread;

	stay_on_kernel_stack(ctx);
	if (!traced_go(frame->flag) || !go_stack_of(frame, pointer, &stack))
		return 0;
	thread = thread_of(&key);
	if (thread)
		go_note(thread, frame, function, &stack, pointer);
	return 0;
}

/*
 * A call returns whose entry was before the probes: of an idle connection that is the usual case,
 * since a goroutine waits for it in Read. Its arguments may still be there.
 */
static __always_inline struct call *go_leave_unseen(struct pt_regs *ctx, struct thread *thread,
						    struct go_frame *frame,
						    const struct go_function *function,
						    const struct go_stack *stack, __u64 pointer)
{
	__u64 top;

	if (!have_cookie || !(bpf_get_attach_cookie(ctx) & COOKIE_SPILLED) ||
	    bpf_probe_read_user(frame->arguments, sizeof(frame->arguments),
				(void *)(pointer + STACK_ARGUMENTS)))
		return NULL;
	go_note(thread, frame, function, stack, pointer);
	/* It is on top, if there was room: no need to look for it, as for one that has run. */
	top = thread->depth - 1;
	if (top >= MAX_DEPTH || thread->calls[top].stack != pointer - stack->high)
		return NULL;
	thread->depth = top;
	return &thread->calls[top];
}

static __always_inline int go_leave(struct pt_regs *ctx, struct go_frame *frame,
				    const struct go_function *function)
{
	__u64 pointer = stack_at_entry(ctx, false), moved = 0;
	struct thread_key key = key_of_goroutine(frame->g), carrier_key = key_of_thread();
	struct thread *thread, *carrier;
	struct go_stack stack;
	struct call *call;

	stay_on_kernel_stack(ctx);
	if (!traced_go(frame->flag) || !frame_in_deferred(ctx, frame) ||
	    !go_stack_of(frame, pointer, &stack))
		return 0;
	thread = thread_of(&key);
	if (!thread)
		return 0;
	call = leave_call(thread, pointer - stack.high, function->number, true);
	if (!call)
		call = go_leave_unseen(ctx, thread, frame, function, &stack, pointer);
	if (call && call->moves)
		call->buffer += stack.high;
	if (call && (__s64)frame->result > 0 && frame->result <= call->length)
		moved = frame->result;
	if (call &&
	    (moved || (call->sock && (call->is_inner || call->tuple.source != WIRE_TUPLE_NONE)))) {
		carrier = thread_of(&carrier_key);
		if (!carrier) {
			release_connection(call->object, call->generation, call->direction);
			return 0;
		}
		carrier->goroutine = frame->g;
		return commit_later(ctx, call, moved, false);
	}
	if (call)
		release_connection(call->object, call->generation, call->direction);
	if (!thread->depth)
		bpf_map_delete_elem(&threads, &key);
	return 0;
}

/*
 * A handshake begins. A connection is begun by its first call alone, since many end in their
 * handshake, and nobody closes their objects. Where a connection is known that has moved bytes,
 * its object was never closed and another is at its address now; or, within a call that has used
 * the socket already, the same one negotiates anew.
 */
static __always_inline int go_handshake(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct thread_key goroutine = key_of_goroutine(frame->g);
	struct thread *thread = bpf_map_lookup_elem(&threads, &goroutine);
	struct connection_key key = key_of(frame->arguments[0]);
	struct connection_state *state;
	__u64 top = thread ? thread->depth - 1 : MAX_DEPTH;
	__u32 one = 1;

	stay_on_kernel_stack(ctx);
	if (!traced_go(frame->flag))
		return 0;
	state = bpf_map_lookup_elem(&connections, &key);
	if (state && thread && top < MAX_DEPTH && thread->calls[top].object == key.object &&
	    thread->calls[top].generation == state->generation) {
		if (has_moved(state) && thread->calls[top].sock)
			return 0;
		if (!has_moved(state)) { /* the first call's own */
			state->flags |= WIRE_FROM_START;
			return 0;
		}
	}
	if (state && has_moved(state))
		report_close(state, key.object, WIRE_CLOSE_REUSE);
	if (state)
		bpf_map_delete_elem(&connections, &key);
	bpf_map_update_elem(&fresh, &key, &one, BPF_ANY);
	return 0;
}

static __always_inline int go_end(struct pt_regs *ctx, const struct go_frame *frame)
{
	__u64 object = frame->arguments[0];
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	bpf_map_delete_elem(&fresh, &key);
	if (!state)
		return 0;
	state->is_closed = 1;
	barrier();
	/* Else the last of its calls ends it; should both, flow takes the first end alone. */
	if (!*(volatile __u32 *)&state->calls)
		end_connection(state, object);
	return 0;
}

GO_PROBE(go_read, go_enter(ctx, &frame, &go_read))
GO_PROBE(go_read_exit, go_leave(ctx, &frame, &go_read))
GO_PROBE(go_write, go_enter(ctx, &frame, &go_write))
GO_PROBE(go_write_exit, go_leave(ctx, &frame, &go_write))
GO_PROBE(go_begin, go_handshake(ctx, &frame))
GO_PROBE(go_close, go_end(ctx, &frame))
