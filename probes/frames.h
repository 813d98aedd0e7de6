/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks over HTTP/2 frames (RFC 9113 section 4.1) inside the kernel, so that the payload of DATA
 * need not leave it. They are begun, named and confirmed as walks over messages are (walk.h): on
 * suspicion at a call that begins like a frame, and right once the program says that a frame began
 * there, since each frame says where the next one begins. A walk that is not confirmed for long
 * takes a later frame for its first one, since the program may not have known its place at that;
 * the name that it had before is as good.
 *
 * Of a call, one range is kept, as in walk.h. All is kept but the payload of DATA, and the heads of
 * such DATA frames as say nothing but their length: those without flags. What is left out is summed
 * up by HTTP/2's streams, and told (WIRE_FRAMES) before the next range that is kept, and when a
 * frame that ends its stream has passed. A frame whose stream has no room in the sums has its head
 * kept: that empties them.
 *
 * Kept whole: frames of less than FRAME_WORTH_BYTES, which a record would not be cheaper than;
 * padded ones, whose padding is no payload; heads that calls split.
 *
 * What a connection may not go on with ends the walk, and all is captured again.
 */
#ifndef TLSTRACE_FRAMES_H
#define TLSTRACE_FRAMES_H

#include "walk.h"

#define FRAME_HEAD_BYTES    9
#define FRAME_PREFACE_BYTES 24
#define FRAME_WORTH_BYTES   1024

/* Frames in one call; more ends the walk. */
#define FRAMES_MAX 4096

/* On suspicion, frames are not longer: random bytes would hold the walk. */
#define FRAME_USUAL_BYTES (1 << 20)

/*
 * After so many bytes a walk that is not confirmed may begin anew, then after twice as many: while
 * a confirmation is under way it changes its name once at most.
 */
#define FRAMES_RESTART_BYTES (256 * 1024)
#define FRAMES_MAX_RESTARTS  16

/* Types and flags (RFC 9113 section 6). */
#define FRAME_DATA	    0
#define FRAME_HEADERS	    1
#define FRAME_PRIORITY	    2
#define FRAME_RST_STREAM    3
#define FRAME_SETTINGS	    4
#define FRAME_PUSH_PROMISE  5
#define FRAME_PING	    6
#define FRAME_GOAWAY	    7
#define FRAME_WINDOW_UPDATE 8
#define FRAME_CONTINUATION  9
#define FRAME_END_STREAM    0x01
#define FRAME_PADDED	    0x08
#define FRAME_KNOWN_FLAGS   0x2d

/* struct walk.flags, of the frame under way */
#define WALK_KEEP 0x10 /* its payload is kept */
#define WALK_ENDS 0x20 /* it ends its stream */

struct frame_head {
	__u32 size; /* of the payload */
	__u32 stream;
	__u8 type;
	__u8 flags;
};

static __always_inline void frame__parse(const __u8 *head, struct frame_head *frame)
{
	frame->size = (__u32)head[0] << 16 | (__u32)head[1] << 8 | head[2];
	frame->type = head[3];
	frame->flags = head[4];
	frame->stream = (__u32)(head[5] & 0x7f) << 24 | (__u32)head[6] << 16 | (__u32)head[7] << 8 |
			head[8];
}

/* Whether a connection may go on with it. What is refused here the parser looks at itself. */
static __always_inline bool frame__is_valid(const struct frame_head *frame)
{
	switch (frame->type) {
	case FRAME_DATA:
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
	case FRAME_CONTINUATION:
		return frame->stream;
	case FRAME_PRIORITY:
		return frame->stream && frame->size == 5;
	case FRAME_RST_STREAM:
		return frame->stream && frame->size == 4;
	case FRAME_SETTINGS:
		return !frame->stream;
	case FRAME_PING:
		return !frame->stream && frame->size == 8;
	case FRAME_GOAWAY:
		return !frame->stream && frame->size >= 8;
	case FRAME_WINDOW_UPDATE:
		return frame->size == 4;
	}
	return true;
}

/* Adds payload of a stream; with 0 bytes, its place. False without room. */
__noinline int frame_sums__add(struct frame_sums *sums, __u32 stream, __u64 size)
{
	if (!sums)
		return 0;
	for (int i = 0; i < WIRE_FRAMES_STREAMS; i++) {
		if (!sums->streams[i])
			sums->streams[i] = stream;
		if (sums->streams[i] == stream) {
			sums->payload[i] += size;
			return 1;
		}
	}
	return 0;
}

/* What is left out is summed up before the range that is kept, or behind it. */
static __always_inline int frames__add(struct walk *walk, struct call *call, __u64 size)
{
	return frame_sums__add(call->keep_end ? &call->sums : &walk->sums, walk->stream, size);
}

/* The next `size` bytes of the call are kept. */
static __always_inline void frames__keep(struct call *call, __u64 size)
{
	if (call->keep_end)
		frame_sums__clear(&call->sums);
	call__keep(call, call->walked, 0, call->walked + size);
	call->walked += size;
}

/* The payload of the frame under way, as far as the call goes. */
static __always_inline void frames__payload(struct walk *walk, struct call *call)
{
	__u64 part = call->moved - call->walked;

	if (part > walk->remaining)
		part = walk->remaining;
	walk->remaining -= part;
	if (walk->flags & WALK_KEEP) {
		if (part)
			frames__keep(call, part);
		return;
	}
	frames__add(walk, call, part);
	call->walked += part;
	if (!walk->remaining && walk->flags & WALK_ENDS)
		call->ended = 1;
}

/*
 * A walk that has long waited to be confirmed begins anew: at the last head of the call that is
 * whole in it. (What is not confirmed has been told up to the call.)
 */
static __always_inline void frames__restart(struct walk *walk, struct call *call)
{
	__u64 position = walk->told + call->walked;

	if (call->confirmed)
		return;
	if (!call->marked) {
		if (walk->restarts >= FRAMES_MAX_RESTARTS ||
		    position - walk->start < (__u64)FRAMES_RESTART_BYTES << (walk->restarts & 15))
			return;
		walk->earlier_start = walk->start;
		walk->restarts++;
		call->marked = 1;
	}
	walk->start = position;
}

/* A head, or the part of it that the call has. False ends the walk: what is here is for the parser.
 */
static __always_inline bool frames__head(struct walk *walk, struct call *call)
{
	__u64 had = walk->head_size, part = call->moved - call->walked;
	struct frame_head frame;
	bool sums;

	if (had >= FRAME_HEAD_BYTES)
		return false;
	if (part > FRAME_HEAD_BYTES - had)
		part = FRAME_HEAD_BYTES - had;
	part = at_most(part, FRAME_HEAD_BYTES);
	if (bpf_probe_read_user(walk->head + at_most(had, FRAME_HEAD_BYTES - 1), part,
				(void *)(call->buffer + call->walked)))
		return false;
	if (had + part < FRAME_HEAD_BYTES) {
		walk->head_size = had + part;
		frames__keep(call, part);
		return true;
	}
	frame__parse(walk->head, &frame);
	if (!frame__is_valid(&frame))
		return false;
	if (!had)
		frames__restart(walk, call);
	walk->head_size = 0;
	walk->remaining = frame.size;
	walk->stream = frame.stream;
	sums = frame.type == FRAME_DATA && !(frame.flags & FRAME_PADDED) &&
	       frame.size >= FRAME_WORTH_BYTES;
	walk->flags = sums ? 0 : WALK_KEEP;
	if (sums && frame.flags & FRAME_END_STREAM)
		walk->flags = WALK_ENDS;
	if (frame.size >= WORTH_BYTES)
		walk->idle = 0;
	if (sums && !frame.flags && !had && frames__add(walk, call, 0))
		call->walked += part;
	else
		frames__keep(call, part);
	return true;
}

/* A frame, or the rest of it. */
__noinline int frames__next(struct walk *walk, struct call *call)
{
	if (!walk || !call)
		return 0;
	if (!walk->remaining && (!call->buffer || !frames__head(walk, call))) {
		walk->phase = WALK_OFF;
		return 0;
	}
	if (!walk->head_size)
		frames__payload(walk, call);
	return 0;
}

/* For bpf_loop: 1 at the end of the call or the walk. */
static long frames__step(__u32 index, struct walk_step *step)
{
	frames__next(step->walk, step->call);
	return step->call->walked >= step->call->moved || step->walk->phase == WALK_OFF;
}

/* Whether all of the frames so far has been told, at the end of one. */
static __always_inline bool frames__is_between(const struct walk *walk, __u64 position)
{
	return walk->told == position && !walk->remaining && !walk->head_size;
}

/* Walks over the call's frames, and says in the call what of them is kept, as walk__over(). */
static __always_inline void frames__over(struct walk *walk, struct call *call, __u64 position)
{
	struct walk_step step = {.walk = walk, .call = call};

	call__begin_walk(call);
	frame_sums__clear(&call->sums);
	if (call->moved >= WORTH_BYTES)
		walk->idle = 0;
	else if (walk->idle < IDLE_MAX)
		walk->idle++;
	else if (frames__is_between(walk, position))
		walk->phase = WALK_OFF;
	if (walk->phase != WALK_OFF)
		bpf_loop(FRAMES_MAX, frames__step, &step, 0);
	if (call->walked < call->moved) {
		walk->phase = WALK_OFF;
		frames__keep(call, call->moved - call->walked);
	}
}

/* Begins a walk when the call begins like a frame that peers send, or with the preface. */
static __always_inline void frames__suspect(struct walk *walk, const struct call *call,
					    __u64 position)
{
	__u64 words[FRAME_PREFACE_BYTES / 8] = {};
	const __u8 *head = (const __u8 *)words;
	struct frame_head frame;

	if (call->moved < FRAME_HEAD_BYTES ||
	    bpf_probe_read_user(words, at_most(call->moved, sizeof(words)), (void *)call->buffer))
		return;
	walk->remaining = 0;
	walk->flags = 0;
	if (words[0] == word_of("PRI * HT") && words[1] == word_of("TP/2.0\r\n") &&
	    words[2] == word_of("\r\nSM\r\n\r\n")) {
		walk->remaining = FRAME_PREFACE_BYTES;
		walk->flags = WALK_KEEP;
	} else {
		frame__parse(head, &frame);
		if (frame.type > FRAME_CONTINUATION || frame.size > FRAME_USUAL_BYTES ||
		    frame.flags & ~FRAME_KNOWN_FLAGS || head[5] & 0x80 || !frame__is_valid(&frame))
			return;
	}
	frame_sums__clear(&walk->sums);
	walk->start = position;
	walk->earlier_start = position;
	walk->told = position;
	walk->head_size = 0;
	walk->restarts = 0;
	walk->phase = WALK_FRAMES;
}

/* Whether a directive names the walk. */
static __always_inline bool walk__is_called(const struct walk *walk, __u64 name)
{
	return name && (name == walk__name(walk) || (walk->phase == WALK_FRAMES &&
						     name == WIRE_WALK_FROM(walk->earlier_start)));
}

/* Whether the program has to be told of frames up to `position`, and no record does. */
static __always_inline bool frames__owe(const struct walk *walk, const struct call *call,
					__u64 position)
{
	return call->frames && call->confirmed && position > walk->told;
}

/* The program was told of frames up to there, and of all that is summed up. */
static __always_inline void frames__tell(struct walk *walk, __u64 position)
{
	frame_sums__clear(&walk->sums);
	walk->told = position;
}

/* The records of a call at `position` have been made. */
static __always_inline void frames__end_call(struct walk *walk, const struct call *call,
					     __u64 position)
{
	if (!call->confirmed) {
		frames__tell(walk, position + call->moved);
	} else if (call->keep_end) {
		walk->sums = call->sums;
		walk->told = position + call->keep_end;
	}
}

/*
 * What the call means for the stream's walk. Not inlined: it shares the stack's 512 bytes with all.
 * Global: the verifier reads it once, whatever is known of the call. Needs bpf_loop (5.17): an
 * older kernel captures bodies, such loops take too long to verify.
 */
__noinline int walk__call(struct walk *walk, struct call *call, __u64 position)
{
	if (!walk || !call)
		return 0;
	if (walk->phase == WALK_OFF && call->buffer && walk__is_worth(walk, call)) {
		frames__suspect(walk, call, position);
		if (walk->phase == WALK_OFF)
			walk__suspect(walk, call, position);
	}
	call->frames = walk->phase == WALK_FRAMES;
	if (call->frames)
		frames__over(walk, call, position);
	else if (walk->phase != WALK_OFF)
		walk__over(walk, call);
	return 0;
}

#endif
