// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Probes on the functions of OpenSSL and BoringSSL through which a program's plaintext passes. The
 * object that names a connection ends with SSL_free or SSL_clear.
 */
#include "call.h"
#include "openssl_object.h"

/* The length that a returned call reports in memory, 0 when it cannot be read. */
static __always_inline __u64 stored_length(const struct call *call)
{
	__u64 length = 0;

	if (call->length_at)
		bpf_probe_read_user(&length, sizeof(length), (void *)call->length_at);
	return length;
}

static __always_inline __u8 library_of(struct pt_regs *ctx)
{
	return have_cookie ? COOKIE_LIBRARY(bpf_get_attach_cookie(ctx)) : WIRE_OPENSSL;
}

static __always_inline int enter(struct pt_regs *ctx, __u8 function, __u8 direction, bool counted,
				 __u64 buffer, __u64 length, __u64 length_at)
{
	struct thread_key key = key_of_thread();
	struct arguments arguments = {
		.object = PT_REGS_PARM1(ctx),
		.buffer = buffer,
		.length = length,
		.length_at = length_at,
		.stack = stack_at_entry(ctx, false),
		.function = function,
		.direction = direction,
		.library = library_of(ctx),
		.counted = counted,
	};
	struct thread *thread;

	stay_on_kernel_stack(ctx);
	thread = thread_of(&key);
	if (thread)
		enter_call(thread, &arguments, false);
	return 0;
}

static __always_inline struct call *leave(struct pt_regs *ctx, __u8 function)
{
	struct thread_key key = key_of_thread();
	struct thread *thread = bpf_map_lookup_elem(&threads, &key);

	return thread ? leave_call(thread, stack_at_entry(ctx, true), function, false) : NULL;
}

/* A data function returned after moving `size` bytes (0: none, whatever the reason). */
static __always_inline int finish(struct pt_regs *ctx, struct call *call, __u64 size, bool at_end)
{
	/* Its socket may be of use to the call around it, or when it is new to the connection. */
	bool tells_socket = call->sock && (call->is_inner || call->tuple.source != WIRE_TUPLE_NONE);
	bool is_blocked = call->sock && call->direction == WIRE_WRITE;
	bool is_unnested = !call->sock && !call->is_inner;

	if (!size && !tells_socket && !at_end && !is_blocked && !is_unnested)
		return 0;
	return commit_later(ctx, call, size, at_end);
}

/* Functions that return the number of bytes, or 0 or less. */
#define SIZE_IN_RESULT(name, fn, dir, counts)                                                      \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		return enter(ctx, fn, dir, counts, PT_REGS_PARM2(ctx), (__u32)PT_REGS_PARM3(ctx),  \
			     0);                                                                   \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_exit(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct call *call = leave(ctx, fn);                                                \
		int result = (int)PT_REGS_RC(ctx);                                                 \
                                                                                                   \
		return call ? finish(ctx, call, result > 0 ? result : 0, false) : 0;               \
	}

/* Functions that return 0 on failure and store the number of bytes where argument `at` says. */
#define SIZE_STORED(name, fn, dir, counts, at)                                                     \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		return enter(ctx, fn, dir, counts, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx),         \
			     at(ctx));                                                             \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_exit(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct call *call = leave(ctx, fn);                                                \
		int result = (int)PT_REGS_RC(ctx);                                                 \
                                                                                                   \
		return call ? finish(ctx, call, result > 0 ? stored_length(call) : 0, false) : 0;  \
	}

/* SSL_read: its result of 0 tells the end of the stream (close_notify), which others hide. */
SEC("uprobe")
int read_entry(struct pt_regs *ctx)
{
	return enter(ctx, FN_READ, WIRE_READ, true, PT_REGS_PARM2(ctx), (__u32)PT_REGS_PARM3(ctx),
		     0);
}

SEC("uretprobe")
int read_exit(struct pt_regs *ctx)
{
	struct call *call = leave(ctx, FN_READ);
	int result = (int)PT_REGS_RC(ctx);

	return call ? finish(ctx, call, result > 0 ? result : 0, !result && call->length) : 0;
}

SIZE_STORED(read_ex, FN_READ_EX, WIRE_READ, true, PT_REGS_PARM4)
SIZE_IN_RESULT(write, FN_WRITE, WIRE_WRITE, true)
SIZE_STORED(write_ex, FN_WRITE_EX, WIRE_WRITE, true, PT_REGS_PARM4)
SIZE_STORED(write_ex2, FN_WRITE_EX2, WIRE_WRITE, true, PT_REGS_PARM5)
/* A peek takes nothing from the stream, but it may be the call that uses the socket. */
SIZE_IN_RESULT(peek, FN_PEEK, WIRE_READ, false)
SIZE_STORED(peek_ex, FN_PEEK_EX, WIRE_READ, false, PT_REGS_PARM4)
/* Early data: SSL_read_early_data returns 1 or 2 with a length, SSL_write_early_data 1. */
SIZE_STORED(read_early, FN_READ_EARLY, WIRE_READ, true, PT_REGS_PARM4)
SIZE_STORED(write_early, FN_WRITE_EARLY, WIRE_WRITE, true, PT_REGS_PARM4)

/* SSL_sendfile(ssl, fd, offset, size, flags): the bytes never are in the process's memory. */
SEC("uprobe")
int sendfile_entry(struct pt_regs *ctx)
{
	return enter(ctx, FN_SENDFILE, WIRE_WRITE, true, 0, PT_REGS_PARM4(ctx), 0);
}

SEC("uretprobe")
int sendfile_exit(struct pt_regs *ctx)
{
	struct call *call = leave(ctx, FN_SENDFILE);
	__s64 result = PT_REGS_RC(ctx);

	return call ? finish(ctx, call, result > 0 ? result : 0, false) : 0;
}

/* Handshakes move no plaintext but use the socket. */
#define HANDSHAKE(name, fn)                                                                        \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		return enter(ctx, fn, NO_DIRECTION, false, 0, 0, 0);                               \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_exit(struct pt_regs *ctx)                                                       \
	{                                                                                          \
		struct call *call = leave(ctx, fn);                                                \
                                                                                                   \
		return call ? finish(ctx, call, 0, false) : 0;                                     \
	}

HANDSHAKE(handshake, FN_HANDSHAKE)
HANDSHAKE(connect, FN_CONNECT)
HANDSHAKE(accept, FN_ACCEPT)

/* SSL_new returned an object: whatever was at this address before is over. */
SEC("uretprobe")
int new_exit(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_RC(ctx);
	struct connection_key key;
	struct connection_state *state;

	stay_on_kernel_stack(ctx);
	if (!object || !is_traced())
		return 0;
	key = key_of(object);
	state = bpf_map_lookup_elem(&connections, &key);
	if (state && has_moved(state))
		report_close(state, object, WIRE_CLOSE_FREE);
	begin_connection(object, library_of(ctx), WIRE_FROM_START);
	return 0;
}

SEC("uprobe")
int up_ref_entry(struct pt_regs *ctx)
{
	struct connection_key key = key_of(PT_REGS_PARM1(ctx));
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	if (state)
		__sync_fetch_and_add(&state->references, 1);
	return 0;
}

/* SSL_free ends the object when nobody else holds a reference. */
SEC("uprobe")
int free_entry(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	if (!state)
		return 0;
	if (state->references) {
		__sync_fetch_and_add(&state->references, -1);
		return 0;
	}
	end_connection(state, object);
	return 0;
}

/*
 * SSL_clear makes the object ready for another connection. The library itself calls it when a
 * handshake begins on an object (state_machine() in statem.c), so a handshake that begins anew on
 * a used object comes through here too.
 */
SEC("uprobe")
int clear_entry(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state;
	__u32 references;

	stay_on_kernel_stack(ctx);
	if (!is_traced())
		return 0;
	state = bpf_map_lookup_elem(&connections, &key);
	if (state && !has_moved(state)) {
		/* A descriptor stays: the library clears the object when the handshake begins. */
		if (state->tuple.source != WIRE_TUPLE_FD)
			forget_socket(state);
		state->record = (struct record_place){};
		state->unnested = 0;
		state->flags = WIRE_FROM_START;
		return 0;
	}
	references = state ? state->references : 0;
	if (state)
		report_close(state, object, WIRE_CLOSE_REUSE);
	state = begin_connection(object, library_of(ctx), WIRE_FROM_START);
	if (state)
		state->references = references;
	return 0;
}

/* SSL_set_fd, SSL_set_rfd, SSL_set_wfd: an object that has not moved anything gets its socket. */
static __always_inline int set_fd(struct pt_regs *ctx, bool both)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state;
	__u64 sock_before;

	stay_on_kernel_stack(ctx);
	if (!is_traced())
		return 0;
	state = bpf_map_lookup_elem(&connections, &key)
			?: begin_connection(object, library_of(ctx), 0);
	if (!state || has_moved(state))
		return 0;
	sock_before = state->sock;
	forget_socket(state);
	if (learn_fd(state, object, (int)PT_REGS_PARM2(ctx)) && !both && sock_before &&
	    sock_before != state->sock) {
		forget_socket(state);
		state->flags |= STATE_AMBIGUOUS; /* it reads from another than it writes to */
	}
	return 0;
}

SEC("uprobe")
int set_fd_entry(struct pt_regs *ctx)
{
	return set_fd(ctx, true);
}

SEC("uprobe")
int set_one_fd_entry(struct pt_regs *ctx)
{
	return set_fd(ctx, false);
}

SEC("uprobe")
int shutdown_entry(struct pt_regs *ctx)
{
	__u64 object = PT_REGS_PARM1(ctx);
	struct connection_key key = key_of(object);
	struct connection_state *state = bpf_map_lookup_elem(&connections, &key);

	stay_on_kernel_stack(ctx);
	if (state && has_moved(state) && !(state->flags & STATE_SHUTDOWN)) {
		state->flags |= STATE_SHUTDOWN;
		report_close(state, object, WIRE_CLOSE_SHUTDOWN);
	}
	return 0;
}
