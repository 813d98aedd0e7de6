/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Arguments, result and goroutine of a Go function that is entered or returns, in both conventions
 * (ABI): from Go 1.17 on (arm64: 1.18) in registers, before on the stack, one word above where the
 * stack pointer is at the entry and at the returns: the return address, or LR's place, is between.
 */
#ifndef TLSTRACE_GO_FRAME_H
#define TLSTRACE_GO_FRAME_H

#include "goroutine.h"

/* What differs between the conventions. */
struct go_frame {
	__u64 g;
	__u64 arguments[3];
	__u64 result;
	__u32 flag; /* of the process: TRACED_GO or TRACED_GO_STACK */
};

/*
 * From that stack pointer. On the stack: receiver, buffer's address, length, capacity, result. With
 * registers there is room for the same arguments, where functions may put those of the registers.
 */
#define STACK_ARGUMENTS 8
#define STACK_RESULT	40

static __always_inline void frame_in_registers(struct pt_regs *ctx, struct go_frame *ret)
{
	const user_regs *regs = (const user_regs *)ctx;

	ret->g = regs->GO_G;
	ret->arguments[0] = regs->GO_ARGUMENT_1;
	ret->arguments[1] = regs->GO_ARGUMENT_2;
	ret->arguments[2] = regs->GO_ARGUMENT_3;
	ret->result = regs->GO_RESULT;
	ret->flag = TRACED_GO;
}

static __always_inline void frame_on_stack(struct pt_regs *ctx, struct go_frame *ret)
{
	__u64 stack = stack_at_entry(ctx, false);

	ret->g = STORAGE_HAS_G ? goroutine_of_storage() : ((const user_regs *)ctx)->GO_G;
	ret->result = 0;
	ret->flag = TRACED_GO_STACK;
	if (bpf_probe_read_user(ret->arguments, sizeof(ret->arguments),
				(void *)(stack + STACK_ARGUMENTS)) ||
	    bpf_probe_read_user(&ret->result, sizeof(ret->result), (void *)(stack + STACK_RESULT)))
		ret->g = 0;
}

/*
 * Of an exit that is in a function which the function has deferred: whether it returns by it, and
 * its result. Not so when the deferred function is about to begin anew, on a larger stack, or runs
 * because of a panic: then it is not called from the frame that its closure is in.
 */
static __always_inline bool frame_in_deferred(struct pt_regs *ctx, struct go_frame *frame)
{
#if defined(GO_CLOSURE) /* elsewhere returns are as cheap, and there are no such exits */
	const user_regs *regs = (const user_regs *)ctx;
	__u64 cookie = have_cookie ? bpf_get_attach_cookie(ctx) : 0;
	__u64 stack = PT_REGS_SP(ctx);

	if (COOKIE_CLOSURE_WORDS(cookie))
		return !GO_STACK_IS_SMALL(regs) &&
		       regs->GO_CLOSURE == stack + COOKIE_CLOSURE_WORDS(cookie) * 8 &&
		       !bpf_probe_read_user(&frame->result, sizeof(frame->result),
					    (void *)(stack + COOKIE_RESULT_WORDS(cookie) * 8));
#endif
	return true;
}

/* A program for each convention, NAME_regs and NAME_stack, of one expression with ctx and frame. */
#define GO_PROBE(name, result)                                                                     \
	SEC("uprobe")                                                                              \
	int name##_regs(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct go_frame frame;                                                             \
                                                                                                   \
		frame_in_registers(ctx, &frame);                                                   \
		return result;                                                                     \
	}                                                                                          \
	SEC("uprobe")                                                                              \
	int name##_stack(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		struct go_frame frame;                                                             \
                                                                                                   \
		frame_on_stack(ctx, &frame);                                                       \
		return result;                                                                     \
	}

#endif
