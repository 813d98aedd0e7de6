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
 * What is sent: (*Encoder).WriteField(field) is entered, and later crypto/tls.(*Conn).Write with
 * the block. If the last block that is written is the one that was encoded last, the encoder's
 * table is as of its end. Whose encoder it is can be told in two ways:
 *
 * net/http and golang.org/x/net/http2, server and client: the struct that serves a connection has
 * the encoder, right in front of that the bytes.Buffer into which it encodes, and before these the
 * Conn. That it is such a struct shows in that buffer and pointer are there; the Conn is the first
 * pointer in front of them that is a known connection's. The buffer still has the last block.
 *
 * grpc-go: encodes and writes on one goroutine, a loop that alone writes to the connection.
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
 * Of an Encoder, the word that points to the bytes.Buffer into which it encodes; of such a Buffer,
 * the size. The same from Go 1.15 to 1.27.
 */
#define ENCODER_BUFFER 88
#define BUFFER_BYTES   40

/* Words in front of the buffer among which the Conn is looked for. */
#define OWNER_WORDS 112

/* Of a block, so much is compared. */
#define BLOCK_HEAD_BYTES 64

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

struct encoder_key {
	__u32 pid;
	__u32 pad;
	__u64 encoder;
};

struct owner {
	__u64 object; /* the Conn */
	__u64 generation;
};

/* Whose encoder it is. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_ENCODERS);
	__type(key, struct encoder_key);
	__type(value, struct owner);
} owners SEC(".maps");

struct owned {
	__u64 encoder;
	__u64 buffer; /* into which it encodes */
	__u64 generation;
};

/* The same, by connection. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_ENCODERS);
	__type(key, struct connection_key);
	__type(value, struct owned);
} owned SEC(".maps");

static __always_inline int go_decode(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct thread_key key = key_of_goroutine(frame->g);
	struct thread_read *read = bpf_map_lookup_elem(&reads, &key);
	struct place place = {.when = WIRE_TABLE_BEFORE_FRAME, .direction = WIRE_READ};

	stay_on_kernel_stack(ctx);
	if (!read || !read->size || read->number != shared.note_reads)
		return 0;
	read->size = 0; /* what is decoded from now on changes the table */
	place.connection = read->connection;
	place.generation = read->generation;
	place.position = read->position;
	if (is_wished(&place))
		grant(frame->arguments[0], LAYOUT_GO, &place);
	return 0;
}

/* A known connection's Conn, looked for in front of a buffer. */
struct owner_search {
	__u64 buffer;
	struct connection_key connection;
	__u64 generation; /* 0: it is not found yet */
};

/* For bpf_loop: 1 where the search ends. */
static long look_for_owner(__u32 index, struct owner_search *search)
{
	__u64 at = search->buffer - (index + 1ull) * sizeof(__u64);
	struct connection_state *state = NULL;

	if (bpf_probe_read_user(&search->connection.object, sizeof(search->connection.object),
				(void *)at))
		return 1;
	if (search->connection.object)
		state = bpf_map_lookup_elem(&connections, &search->connection);
	if (state)
		search->generation = state->generation;
	return state != NULL;
}

/* Notes whose encoder it is. False when it is not part of a struct that serves a connection. */
static __noinline bool find_owner(__u64 encoder)
{
	struct encoder_key key = {.pid = current_pid(), .encoder = encoder};
	struct owner_search search = {.connection = {.pid = key.pid}};
	struct owner *known = bpf_map_lookup_elem(&owners, &key), found;
	struct connection_state *state;
	struct owned owned_by;
	__u64 behind = 0;

	if (bpf_probe_read_user(&search.buffer, sizeof(search.buffer),
				(void *)(encoder + ENCODER_BUFFER)) ||
	    bpf_probe_read_user(&behind, sizeof(behind), (void *)(search.buffer + BUFFER_BYTES)) ||
	    behind != encoder)
		return false;
	if (known) {
		search.connection.object = known->object;
		state = bpf_map_lookup_elem(&connections, &search.connection);
		if (state && state->generation == known->generation)
			return true;
	}
	bpf_loop(OWNER_WORDS, look_for_owner, &search, 0);
	if (search.generation) {
		found = (struct owner){search.connection.object, search.generation};
		owned_by = (struct owned){encoder, search.buffer, search.generation};
		bpf_map_update_elem(&owners, &key, &found, BPF_ANY);
		bpf_map_update_elem(&owned, &search.connection, &owned_by, BPF_ANY);
	}
	return true;
}

static __always_inline int go_encode(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct thread_key key = key_of_goroutine(frame->g);
	struct encoder encoder = {.encoder = frame->arguments[0]};

	stay_on_kernel_stack(ctx);
	if (!shared.note_reads || find_owner(encoder.encoder) ||
	    bpf_probe_read_user(encoder.number, sizeof(encoder.number),
				(void *)(frame->g + G_NUMBER)))
		return 0;
	bpf_map_update_elem(&encoders, &key, &encoder, BPF_ANY);
	return 0;
}

/* Finds the last HEADERS frame of what is written, if that is whole frames. */
static __noinline bool find_headers(__u64 buffer, __u64 size, struct place *place)
{
	__u8 head[FRAME_HEAD_BYTES];
	__u64 at = 0, whole;

	for (int i = 0; i < WRITE_FRAMES && at < size; i++) {
		if (bpf_probe_read_user(head, sizeof(head), (void *)(buffer + at)))
			return false;
		whole = FRAME_HEAD_BYTES + (head[0] << 16 | head[1] << 8 | head[2]);
		if (head[3] == FRAME_HEADERS) {
			place->frame = buffer + at;
			place->payload_bytes = whole - FRAME_HEAD_BYTES;
			place->frame_bytes =
				whole < WIRE_TABLE_FRAME_BYTES ? whole : WIRE_TABLE_FRAME_BYTES;
		}
		at += whole;
	}
	return at == size && place->frame;
}

/* The encoder that the goroutine used last, and has not written since. 0: none. */
static __noinline __u64 encoder_of_goroutine(__u64 g)
{
	struct thread_key key = key_of_goroutine(g);
	struct encoder *encoder = bpf_map_lookup_elem(&encoders, &key);
	__u64 number[2] = {}, found;

	if (!encoder)
		return 0;
	found = encoder->encoder;
	bpf_probe_read_user(number, sizeof(number), (void *)(g + G_NUMBER));
	if (number[0] != encoder->number[0] || number[1] != encoder->number[1])
		found = 0;
	bpf_map_delete_elem(&encoders, &key);
	return found;
}

/* Whether the frame has the block that a bytes.Buffer holds. */
static __noinline bool has_block(const struct place *place, __u64 buffer)
{
	__u8 written[BLOCK_HEAD_BYTES] = {}, encoded[BLOCK_HEAD_BYTES] = {};
	struct {
		__u64 data;
		__u64 size;
	} block;
	__u32 size;

	if (bpf_probe_read_user(&block, sizeof(block), (void *)buffer) ||
	    place->payload_bytes != block.size)
		return false;
	size = block.size < BLOCK_HEAD_BYTES ? block.size : BLOCK_HEAD_BYTES;
	asm volatile("" : "+r"(size)); /* the bound is for the verifier */
	if (size > BLOCK_HEAD_BYTES ||
	    bpf_probe_read_user(written, size, (void *)(place->frame + FRAME_HEAD_BYTES)) ||
	    bpf_probe_read_user(encoded, size, (void *)block.data))
		return false;
	for (int i = 0; i < BLOCK_HEAD_BYTES; i += 8)
		if (*(__u64 *)(written + i) != *(__u64 *)(encoded + i))
			return false;
	return true;
}

static __always_inline int go_written(struct pt_regs *ctx, const struct go_frame *frame)
{
	struct place place = {.when = WIRE_TABLE_AFTER, .direction = WIRE_WRITE};
	__u64 encoder = encoder_of_goroutine(frame->g);
	struct connection_state *state;
	struct owned *by;

	stay_on_kernel_stack(ctx);
	place.connection.pid = current_pid();
	place.connection.object = frame->arguments[0];
	state = bpf_map_lookup_elem(&connections, &place.connection);
	if (!state || frame->arguments[2] > WRITE_MAX_BYTES)
		return 0;
	place.generation = state->generation;
	if (!is_wished(&place) || !find_headers(frame->arguments[1], frame->arguments[2], &place))
		return 0;
	by = bpf_map_lookup_elem(&owned, &place.connection);
	if (by && by->generation == place.generation)
		encoder = has_block(&place, by->buffer) ? by->encoder : 0;
	if (encoder)
		grant(encoder, LAYOUT_GO, &place);
	return 0;
}

GO_PROBE(go_hpack_decode, go_decode(ctx, &frame))
GO_PROBE(go_hpack_encode, go_encode(ctx, &frame))
GO_PROBE(go_hpack_written, go_written(ctx, &frame))
