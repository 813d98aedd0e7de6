/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks over the chunks of an HTTP/1.1 body (RFC 9112 7.1) inside the kernel, so that their payload
 * need not leave it.
 *
 * The probes do not understand HTTP: where a call looks like the end of a message's head, a walk is
 * begun on suspicion, and goes from chunk to chunk by their sizes while everything is captured as
 * ever. Every record tells where the walk began. The program, which parses all bytes up to there,
 * knows whether that was the first chunk of a body in progress; if so it confirms the walk by that
 * position, and since the walk has followed the chunks from there, it is right about where it is
 * now. From then on payload is counted and not captured. A walk that was begun wrongly, or that
 * meets something unexpected, ends, and costs nothing but its own time.
 *
 * Bytes are left out up to the start of a chunk's size line, never beyond the start of one that is
 * not complete in this call; the line of size 0 is captured, with all that follows it.
 *
 * Walks need bpf_loop (5.17): verifying such loops takes too long. An older kernel captures chunked
 * bodies in full.
 */
#ifndef TLSTRACE_CHUNKS_H
#define TLSTRACE_CHUNKS_H

#include "common.h"

/* Steps of a walk in one call: bytes of lines, and payloads stepped over. More ends it. */
#define WALK_MAX_STEPS 256

/* Hex digits of a size: more than any real chunk's, and no overflow. */
#define WALK_MAX_DIGITS 12

/* How far into a call the end of a head is looked for, in blocks. */
#define HEAD_BLOCK_BYTES 64
#define HEAD_MAX_BLOCKS	 64

/* A call with a head and less of a body than this is not worth the search. */
#define HEAD_WORTH_BYTES 8192

enum walk_phase {
	WALK_OFF = 0,
	WALK_SIZE, /* in a size line, digits seen so far in walk.digits */
	WALK_SIZE_LF,
	WALK_PAYLOAD,
	WALK_CR,
	WALK_LF,
};

static __always_inline bool walk__in_line(const struct walk *walk)
{
	return (walk->phase == WALK_SIZE && walk->digits) || walk->phase == WALK_SIZE_LF;
}

static __always_inline void walk__begin(struct walk *walk, __u64 position)
{
	walk->start = position;
	walk->remaining = 0;
	walk->digits = 0;
	walk->phase = WALK_SIZE;
}

static __always_inline void walk__end(struct walk *walk)
{
	walk->start = 0;
	walk->phase = WALK_OFF;
}

/* Whether a call may begin with a head: no walk is on, or one that waits for its first chunk. */
static __always_inline bool walk__may_begin(const struct walk *walk)
{
	return walk->phase == WALK_OFF || (walk->phase == WALK_SIZE && !walk->digits);
}

static __always_inline int hex_digit(__u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The phase after byte `c` of a line or line end. */
static __always_inline __u8 walk__byte(struct walk *walk, __u8 c)
{
	int digit;

	switch (walk->phase) {
	case WALK_SIZE:
		digit = hex_digit(c);
		if (digit >= 0 && walk->digits < WALK_MAX_DIGITS) {
			walk->remaining = walk->remaining << 4 | digit;
			walk->digits++;
			return WALK_SIZE;
		}
		/* An extension ends the walk: nobody sends any. */
		return c == '\r' && walk->digits ? WALK_SIZE_LF : WALK_OFF;
	case WALK_SIZE_LF:
		return c == '\n' && walk->remaining ? WALK_PAYLOAD : WALK_OFF;
	case WALK_CR:
		return c == '\r' ? WALK_LF : WALK_OFF;
	case WALK_LF:
		walk->digits = 0;
		walk->remaining = 0;
		return c == '\n' ? WALK_SIZE : WALK_OFF;
	}
	return WALK_OFF;
}

struct walk_step {
	struct walk *walk;
	struct call *call;
};

/* One step: a whole payload or one byte. 1 at the end of the call or the walk, for bpf_loop. */
static long walk__step(__u32 index, struct walk_step *step)
{
	struct walk *walk = step->walk;
	struct call *call = step->call;
	__u64 rest = call->moved - call->walked;
	__u8 c;

	if (call->walked >= call->moved || walk->phase == WALK_OFF)
		return 1;
	if (walk->phase == WALK_PAYLOAD) {
		if (rest > walk->remaining)
			rest = walk->remaining;
		walk->remaining -= rest;
		call->walked += rest;
		call->walked_body += rest;
		if (!walk->remaining)
			walk->phase = WALK_CR;
		return 0;
	}
	if (walk->phase == WALK_SIZE && !walk->digits) {
		call->line = call->walked;
		call->line_body = call->walked_body;
	}
	if (bpf_probe_read_user(&c, 1, (void *)(call->buffer + call->walked)))
		walk->phase = WALK_OFF;
	else
		walk->phase = walk__byte(walk, c);
	call->walked++;
	return 0;
}

/*
 * Walks over the call's bytes from call->walked on. When the walk is confirmed, call->line of the
 * call's bytes, from its start, may be left out; call->line_body of them are payload. (Results are
 * in map memory, or the verifier would follow the rest of the program for each value.)
 */
static __always_inline void walk__over(struct walk *walk, struct call *call)
{
	struct walk_step step = {.walk = walk, .call = call};
	bool began_in_line = walk__in_line(walk);

	call->walked_body = 0;
	call->line = 0;
	call->line_body = 0;
	bpf_loop(WALK_MAX_STEPS, walk__step, &step, 0);
	if (call->walked < call->moved)
		walk->phase = WALK_OFF;
	if (walk->phase == WALK_OFF) {
		walk__end(walk);
	} else if (!walk__in_line(walk)) {
		call->line = call->moved;
		call->line_body = call->walked_body;
	}
	/* The rest of a line whose beginning was captured has to follow it. */
	if (began_in_line) {
		call->line = 0;
		call->line_body = 0;
	}
}

struct head_search {
	__u64 buffer;
	__u64 size;
	__u32 last; /* bytes seen, the last lowest */
	__u32 end;  /* 0: not found */
};

/* Looks at one block; 1 when the head ends in it, or the bytes end, for bpf_loop. */
static long search_block(__u32 index, struct head_search *search)
{
	__u64 offset = (__u64)index * HEAD_BLOCK_BYTES;
	__u32 last = search->last;
	__u8 block[HEAD_BLOCK_BYTES];

	if (offset + HEAD_BLOCK_BYTES > search->size ||
	    bpf_probe_read_user(block, sizeof(block), (void *)(search->buffer + offset)))
		return 1;
	/* All in one word: a branch for what a byte is would double the verifier's work with each.
	 */
	for (__u32 i = 0; i < HEAD_BLOCK_BYTES; i++) {
		last = last << 8 | block[i];
		if (last == 0x0d0a0d0a) {
			search->end = offset + i + 1;
			return 1;
		}
	}
	search->last = last;
	return 0;
}

/* Where in a call's buffer the head ends (with CR LF CR LF) that it begins with; 0: not found. */
static __always_inline __u32 find_head_end(__u64 buffer, __u64 size)
{
	struct head_search search = {.buffer = buffer, .size = size};

	bpf_loop(HEAD_MAX_BLOCKS, search_block, &search, 0);
	return search.end;
}

/* Begins a walk behind the head, when the call begins with one that may have chunks behind it. */
static __always_inline void walk__suspect(struct walk *walk, struct call *call, __u64 position)
{
	__u8 head[4] = {}, tail[4] = {};

	if (call->moved < 16 || bpf_probe_read_user(head, sizeof(head), (void *)call->buffer))
		return;
	/* Responses, and the methods whose requests have bodies. */
	if (!(head[0] == 'H' && head[1] == 'T') && head[0] != 'P')
		return;
	if (!bpf_probe_read_user(tail, sizeof(tail),
				 (void *)(call->buffer + call->moved - sizeof(tail))) &&
	    tail[1] == '\n' && tail[2] == '\r' && tail[3] == '\n') {
		call->walked = call->moved;
	} else if (call->moved >= HEAD_WORTH_BYTES) {
		call->walked = find_head_end(call->buffer, call->moved);
	}
	if (call->walked)
		walk__begin(walk, position + call->walked);
}

#endif
