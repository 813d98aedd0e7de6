// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The HPACK tables of Go's HTTP/2 (net/http's, golang.org/x/net's, grpc-go's: all use the package
 * golang.org/x/net/http2/hpack). Attached only in processes with a wish; see hpack.h.
 *
 * What is received: (*Decoder).Write(fragment) is entered. One goroutine reads a connection, and
 * it decodes what it has read before it reads on, a frame at a time and not before it has the whole
 * frame. So at the first fragment after a read, the table is as of where that read began, without
 * the frame that was under way there.
 *
 * What is sent: (*Encoder).WriteField(field) and crypto/tls.(*Conn).Write are entered by the same
 * goroutine, as clients do (under a lock) and grpc-go does (in a loop that alone writes). Then the
 * last of the header blocks that are written is the one that was encoded last. net/http's server
 * encodes and writes on different goroutines: what it sends cannot be told so.
 */
#include "go_frame.h"
#include "hpack_table.h"

#define MAX_ENCODERS 4096

#define FRAME_HEAD_BYTES 9
#define FRAME_HEADERS	 1

/* Frames of one write that are looked at. */
#define WRITE_FRAMES 8

/*
 * A write of more may be one of a buffer that has become full, while what was encoded last is still
 * to be put there: no buffer is smaller.
 */
#define WRITE_MAX_BYTES 4095

/*
 * In runtime.g, words of which one is the goroutine's number and the other is the same whenever it
 * runs: status or schedlink. The number is the first one up to Go 1.22 and in 1.26 and 1.27, else
 * the second. A later goroutine in the same memory has another number.
 */
#define G_NUMBER 152

struct encoder {
	__u64 encoder;
	__u64 number[2];
};

/* By which a goroutine has encoded, and not written since. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_ENCODERS);
	__type(key, struct thread_key);
	__type(value, struct encoder);
} encoders SEC(".maps");

static __always_inline int go_decode(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct thread_key key = key_of_goroutine(frame->g);
	struct thread_read *read = bpf_map_lookup_elem(&reads, &key);
	struct place place = {.when = WIRE_TABLE_BEFORE_FRAME, .direction = WIRE_READ};

	stay_on_kernel_stack(ctx);
	if (!read || !read->size)
		return 0;
	read->size = 0; /* what is decoded from now on changes the table */
	place.connection = read->connection;
	place.generation = read->generation;
	place.position = read->position;
	if (is_wished(&place))
		grant(frame->arguments[0], LAYOUT_GO, &place);
	return 0;
}

static __always_inline int go_encode(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct thread_key key = key_of_goroutine(frame->g);
	struct encoder encoder = {.encoder = frame->arguments[0]};

	stay_on_kernel_stack(ctx);
	if (!shared.note_reads || bpf_probe_read_user(encoder.number, sizeof(encoder.number),
						      (void *)(frame->g + G_NUMBER)))
		return 0;
	bpf_map_update_elem(&encoders, &key, &encoder, BPF_ANY);
	return 0;
}

/* Finds the last HEADERS frame of what is written, if that is whole frames. */
static __always_inline bool find_headers(__u64 buffer, __u64 size, struct place *place)
{
	__u8 head[FRAME_HEAD_BYTES];
	__u64 at = 0, whole;

	for (int i = 0; i < WRITE_FRAMES && at < size; i++) {
		if (bpf_probe_read_user(head, sizeof(head), (void *)(buffer + at)))
			return false;
		whole = FRAME_HEAD_BYTES + (head[0] << 16 | head[1] << 8 | head[2]);
		if (head[3] == FRAME_HEADERS) {
			place->frame = buffer + at;
			place->frame_bytes =
				whole < WIRE_TABLE_FRAME_BYTES ? whole : WIRE_TABLE_FRAME_BYTES;
		}
		at += whole;
	}
	return at == size && place->frame;
}

static __always_inline int go_written(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct place place = {.when = WIRE_TABLE_AFTER, .direction = WIRE_WRITE};
	struct thread_key key = key_of_goroutine(frame->g);
	struct encoder *encoder = bpf_map_lookup_elem(&encoders, &key);
	struct connection_state *state;
	__u64 number[2] = {}, table;

	stay_on_kernel_stack(ctx);
	if (!encoder)
		return 0;
	table = encoder->encoder;
	bpf_probe_read_user(number, sizeof(number), (void *)(frame->g + G_NUMBER));
	if (number[0] != encoder->number[0] || number[1] != encoder->number[1])
		table = 0;
	bpf_map_delete_elem(&encoders, &key);
	place.connection.pid = current_pid();
	place.connection.object = frame->arguments[0];
	state = bpf_map_lookup_elem(&connections, &place.connection);
	if (!table || !state || frame->arguments[2] > WRITE_MAX_BYTES)
		return 0;
	place.generation = state->generation;
	if (is_wished(&place) && find_headers(frame->arguments[1], frame->arguments[2], &place))
		grant(table, LAYOUT_GO, &place);
	return 0;
}

#define GO_HPACK_PROBES(abi, frame_of)                                                             \
	SEC("uprobe")                                                                              \
	int go_decode_##abi(struct pt_regs *ctx)                                                   \
	{                                                                                          \
		struct go_frame frame;                                                             \
                                                                                                   \
		frame_of(ctx, &frame);                                                             \
		return go_decode(ctx, &frame);                                                     \
	}                                                                                          \
	SEC("uprobe")                                                                              \
	int go_encode_##abi(struct pt_regs *ctx)                                                   \
	{                                                                                          \
		struct go_frame frame;                                                             \
                                                                                                   \
		frame_of(ctx, &frame);                                                             \
		return go_encode(ctx, &frame);                                                     \
	}                                                                                          \
	SEC("uprobe")                                                                              \
	int go_written_##abi(struct pt_regs *ctx)                                                  \
	{                                                                                          \
		struct go_frame frame;                                                             \
                                                                                                   \
		frame_of(ctx, &frame);                                                             \
		return go_written(ctx, &frame);                                                    \
	}

GO_HPACK_PROBES(regs, frame_in_registers)
GO_HPACK_PROBES(stack, frame_on_stack)
