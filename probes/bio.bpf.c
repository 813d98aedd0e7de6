// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * BIO_write and BIO_read, as the TLS library calls them inside a TLS call: TLS records as they go
 * out and come in. Attached only in processes whose TLS calls use no socket; see ciphertext.h.
 */
#include "ciphertext.h"

/* The TLS call that the current thread is in, where its connection has no socket yet; or NULL. */
static __always_inline struct call *unconnected_call(struct thread *thread,
						     struct connection_state **ret_state)
{
	struct connection_key key = {.pid = current_pid()};
	__u64 top = thread->depth - 1;
	struct call *call;

	if (top >= MAX_DEPTH)
		return NULL;
	call = &thread->calls[top];
	key.object = call->object;
	*ret_state = bpf_map_lookup_elem(&connections, &key);
	if (*ret_state && ((*ret_state)->sock || (*ret_state)->flags & STATE_AMBIGUOUS))
		return NULL;
	return call;
}

/* BIO_write(bio, data, size): at most the first record of several. */
SEC("uprobe")
int bio_write_entry(struct pt_regs *ctx)
{
	struct thread_key key = key_of_thread();
	struct thread *thread = bpf_map_lookup_elem(&threads, &key);
	struct connection_state *state;
	struct emitter emitter = {};
	struct record_key record;
	bool is_ciphertext;
	struct call *call;

	stay_on_kernel_stack(ctx);
	call = thread ? unconnected_call(thread, &state) : NULL;
	if (!call || !state || call->sock ||
	    !record_at(PT_REGS_PARM2(ctx), (__u32)PT_REGS_PARM3(ctx), &record, &is_ciphertext) ||
	    !is_ciphertext)
		return 0;
	emitter.object = call->object;
	emitter.generation = state->generation;
	bpf_map_update_elem(&emitted, &record, &emitter, BPF_ANY);
	return 0;
}

/* BIO_read(bio, data, size). */
SEC("uprobe")
int bio_read_entry(struct pt_regs *ctx)
{
	struct thread_key key = key_of_thread();
	struct thread *thread = bpf_map_lookup_elem(&threads, &key);
	struct connection_state *state;

	stay_on_kernel_stack(ctx);
	if (!thread || !unconnected_call(thread, &state))
		return 0;
	thread->bio_buffer = PT_REGS_PARM2(ctx);
	thread->bio_stack = stack_at_entry(ctx, false);
	return 0;
}

/* The library reads a header and then its payload, or both at once. */
SEC("uretprobe")
int bio_read_exit(struct pt_regs *ctx)
{
	struct thread_key key = key_of_thread();
	struct thread *thread = bpf_map_lookup_elem(&threads, &key);
	int size = (int)PT_REGS_RC(ctx);
	struct connection_state *state;
	struct record_key record = {};
	struct deliverer *deliverer;
	bool is_ciphertext;
	struct call *call;
	__u64 buffer;

	stay_on_kernel_stack(ctx);
	if (!thread || !thread->bio_buffer || thread->bio_stack != stack_at_entry(ctx, true))
		return 0;
	buffer = thread->bio_buffer;
	thread->bio_buffer = 0;
	call = unconnected_call(thread, &state);
	if (!call || call->sock || size < FINGERPRINT_BYTES)
		return 0;
	if (!record_at(buffer, size, &record, &is_ciphertext)) {
		record.pid = current_pid();
		if (bpf_probe_read_user(record.fingerprint, FINGERPRINT_BYTES, (void *)buffer))
			return 0;
	}
	deliverer = bpf_map_lookup_elem(&delivered, &record);
	if (!deliverer)
		return 0;
	/* As if the call had used the socket itself. */
	call->sock = deliverer->socket.sock;
	call->ports = deliverer->socket.ports;
	call->tuple = deliverer->tuple;
	call->on_unix = deliverer->tuple.transport == WIRE_UNIX;
	return 0;
}
