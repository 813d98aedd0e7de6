/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Walks over HTTP/1.1 messages (RFC 9112) inside the kernel, so that their bodies need not leave
 * it: from head to body to the next head, for as long as every message is understood.
 *
 * The probes are not sure of what a stream is. A walk is begun on suspicion, at a call that begins
 * like a message, while everything is captured as ever. Every record tells where the walk began.
 * The program, which parses all bytes up to there, knows whether a message began at that byte; if
 * so it confirms the walk by that position, and since the walk has followed every message from
 * there, it is right about where it is now. From then on heads are captured and bodies are not. A
 * walk that was begun wrongly is never confirmed, and costs nothing but its own time.
 *
 * So a walk has to end where the parser (tracer/proto) might see another end of a message than it
 * does: at whatever is unusual. What is strict here may be lenient there, never the reverse. The
 * one thing that cannot be seen is whether a response answers HEAD and has no body: where a body
 * begins like a response, the walk ends.
 *
 * Of a call, one range is kept (captured): from the first byte that must be to the last. Heads,
 * trailers, the last chunk's size line, and a size line that calls split must be.
 */
#ifndef TLSTRACE_WALK_H
#define TLSTRACE_WALK_H

#include "common.h"

/* Steps of a walk in one call: lines, bytes of size lines, and bodies. More ends it. */
#define WALK_MAX_STEPS 256

/* Hex digits of a chunk's size, digits of a length: more than any real one's, and no overflow. */
#define WALK_MAX_DIGITS	       12
#define WALK_MAX_LENGTH_DIGITS 15

/* The longest line of a head, in blocks. */
#define LINE_BLOCK_BYTES 64
#define LINE_MAX_BLOCKS	 128

/* Of a line, what is looked at; and of Content-Length's value. */
#define LINE_BYTES  32
#define VALUE_BYTES 24

/*
 * A stream is worth walks while it has bodies of some size: after so many messages (or calls) in a
 * row that have none, there is no walk until a call is that large.
 */
#define WORTH_BYTES 4096
#define IDLE_MAX    32

/* struct walk.flags: of the stream, and of the message under way */
#define WALK_REQUESTS  0x01
#define WALK_RESPONSES 0x02
#define WALK_SIZED     0x04 /* Content-Length, in walk.remaining */
#define WALK_CHUNKED   0x08

/* What a record and a directive call the walk; 0: none. */
static __always_inline __u64 walk__name(const struct walk *walk)
{
	return walk->phase == WALK_OFF ? 0 : WIRE_WALK_FROM(walk->start);
}

static __always_inline bool walk__in_line(const struct walk *walk)
{
	return (walk->phase == WALK_SIZE && walk->digits) || walk->phase == WALK_SIZE_LF;
}

static __always_inline int hex_digit(__u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static __always_inline bool is_blank(__u8 c)
{
	return c == ' ' || c == '\t';
}

/* A size that the verifier knows to be at most `most`. */
static __always_inline __u64 at_most(__u64 size, __u64 most)
{
	if (size > most)
		size = most;
	asm volatile("" : "+r"(size));
	return size;
}

/* 8 characters as they are in memory. */
static __always_inline __u64 word_of(const char *text)
{
	__u64 word;

	__builtin_memcpy(&word, text, sizeof(word));
	return word;
}

/*
 * The functions that are not static: the verifier walks each by itself, once (kernel commit
 * 51c39bb1d5d1, 5.6), and takes their results for unknown.
 */

/* How many bytes of a block the first line in it has, its line end included; 0: more. Little
 * endian. */
__noinline int find_in_block(__u64 address, __u64 size)
{
	const __u64 ones = 0x0101010101010101, highs = ones << 7;
	__u64 words[LINE_BLOCK_BYTES / 8] = {};

	if (bpf_probe_read_user(words, at_most(size, sizeof(words)), (void *)address))
		return 0;
	for (__u64 w = 0; w < LINE_BLOCK_BYTES / 8; w++) {
		__u64 word = words[w] ^ ones * '\n';
		/* The high bits of bytes that are 0; only above the lowest, of others too. */
		__u64 zeros = (word - ones) & ~word & highs;

		if (zeros) /* the bytes up to the lowest one, counted by adding them up */
			return w * 8 + ((((zeros - 1) & ~zeros & ones) * ones) >> 56);
	}
	return 0;
}

/* The size of the line at `address`, its line end included; 0: none ends here. */
__noinline int find_line_end(__u64 address, __u64 size)
{
	for (__u64 b = 0; b < LINE_MAX_BLOCKS; b++) {
		__u64 offset = b * LINE_BLOCK_BYTES;
		int found;

		if (offset >= size)
			return 0;
		found = find_in_block(address + offset, size - offset);
		if (found)
			return offset + found;
	}
	return 0;
}

/* The size of the method with which a request line begins that has a target; 0: it does not. */
__noinline int parse_method(__u64 address, __u64 size)
{
	__u8 text[16] = {};

	if (size < sizeof(text) || bpf_probe_read_user(text, sizeof(text), (void *)address))
		return 0;
	for (int i = 0; i < 15; i++) {
		if (text[i] == ' ')
			return text[i + 1] > ' ' ? i : 0;
		if (text[i] < 'A' || text[i] > 'Z')
			return 0;
	}
	return 0;
}

/*
 * The value of Content-Length, where a line goes on after the colon; -1: not just a number, as
 * everybody writes it.
 */
__noinline long parse_length(__u64 address, __u64 size)
{
	__u8 text[VALUE_BYTES] = {};
	__u64 length = 0;

	if (bpf_probe_read_user(text, 1, (void *)address))
		return -1;
	if (text[0] == ' ') {
		address++;
		size--;
	}
	if (bpf_probe_read_user(text, at_most(size, sizeof(text)), (void *)address))
		return -1;
	for (int i = 0; i <= WALK_MAX_LENGTH_DIGITS; i++) {
		if (text[i] < '0' || text[i] > '9')
			return i && text[i] == '\r' && text[i + 1] == '\n' ? (long)length : -1;
		length = length * 10 + (text[i] - '0');
	}
	return -1;
}

/* Whether such a value is "chunked" and nothing else. */
__noinline int is_chunked(__u64 address, __u64 size)
{
	const __u64 lower = 0x2020202020202020;
	__u64 words[2] = {};

	if (bpf_probe_read_user(words, 1, (void *)address))
		return 0;
	if ((__u8)words[0] == ' ') {
		address++;
		size--;
	}
	if (bpf_probe_read_user(words, at_most(size, sizeof(words)), (void *)address))
		return 0;
	return (words[0] | lower >> 8) == word_of("chunked\r") && (__u8)words[1] == '\n';
}

/* Whether what is here may be the next response, after empty lines, and no body. */
__noinline int may_be_response(__u64 address, __u64 size)
{
	__u64 word = 0, seen;
	__u8 text[8] = {};
	__u64 skip = 0;

	if (bpf_probe_read_user(text, at_most(size, sizeof(text)), (void *)address))
		return 1;
	for (__u64 i = 0; i < 8; i++)
		if (skip == i && (text[i] == '\r' || text[i] == '\n'))
			skip++;
	if (skip >= size)
		return 1;
	seen = at_most(size - skip, 7);
	if (bpf_probe_read_user(&word, seen, (void *)(address + skip)))
		return 1;
	return !((word ^ word_of("HTTP/1.")) << 8 * (8 - seen));
}

/* Nothing of the call is walked over, kept or counted yet. */
static __always_inline void call__begin_walk(struct call *call)
{
	call->walked = 0;
	call->keep = 0;
	call->keep_end = 0;
	call->payload = 0;
	call->payload_before = 0;
	call->unplaced = 0;
	call->marked = 0;
	call->ended = 0;
}

/* A range of the call that has to be captured; all that lies between it and the last one is too. */
static __always_inline void call__keep(struct call *call, __u64 from, __u64 payload_before,
				       __u64 end)
{
	if (!call->keep_end) {
		call->keep = from;
		call->payload_before = payload_before;
	}
	call->keep_end = end;
	call->payload = 0;
	call->ended = 0;
}

/* What is kept may begin here, in a chunked body. */
static __always_inline void call__mark(struct call *call)
{
	call->mark = call->walked;
	call->mark_payload = call->payload;
	call->marked = 1;
}

/* A start line of `size` bytes, whose first ones are given. */
static __always_inline __u8 walk__start_line(struct walk *walk, __u64 address, __u64 size,
					     const __u8 *line)
{
	__u64 tail[2] = {};
	__u8 kind;

	if (line[0] == 'H' && line[1] == 'T') {
		if (*(const __u64 *)line != word_of("HTTP/1.1") || line[8] != ' ' ||
		    line[9] < '1' || line[9] > '9' || line[10] < '0' || line[10] > '9' ||
		    line[11] < '0' || line[11] > '9' ||
		    (line[12] != ' ' && line[12] != '\r' && line[12] != '\n'))
			return WALK_OFF;
		walk->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
		if (walk->status == 101)
			return WALK_OFF;
		kind = WALK_RESPONSES;
	} else {
		int method = parse_method(address, size);

		if (method <= 0 || size < (__u64)method + 2 + 11 ||
		    bpf_probe_read_user(tail, 11, (void *)(address + size - 11)) ||
		    tail[0] != word_of(" HTTP/1.") || tail[1] != word_of("1\r\n\0\0\0\0"))
			return WALK_OFF;
		kind = WALK_REQUESTS;
	}
	if (walk->idle >= IDLE_MAX || walk->flags & (WALK_REQUESTS | WALK_RESPONSES) & ~kind)
		return WALK_OFF;
	walk->idle++;
	walk->flags = kind;
	walk->body = 0;
	return WALK_HEAD;
}

/* The head ended (RFC 9112 6.3). */
static __always_inline __u8 walk__head_end(struct walk *walk)
{
	bool response = walk->flags & WALK_RESPONSES;

	if (response && (walk->status < 200 || walk->status == 204 || walk->status == 304))
		return WALK_START;
	if (walk->flags & WALK_CHUNKED) {
		walk->remaining = 0;
		walk->digits = 0;
		return WALK_SIZE;
	}
	if (walk->flags & WALK_SIZED) {
		if (!walk->remaining)
			return WALK_START;
		return response ? WALK_PEEK : WALK_LENGTH;
	}
	return response ? WALK_OFF : WALK_START;
}

static __always_inline bool is_empty_line(const __u8 *line)
{
	return line[0] == '\n' || (line[0] == '\r' && line[1] == '\n');
}

/* A field, or the end of the head. Only two names matter; without a colon right behind, and
 * continued lines, are for the parser. */
static __always_inline __u8 walk__field(struct walk *walk, __u64 address, __u64 size,
					const __u8 *line)
{
	const __u64 lower = 0x2020202020202020, *words = (const __u64 *)line;
	long length;

	if (is_empty_line(line))
		return walk__head_end(walk);
	if (is_blank(line[0]))
		return WALK_OFF;
	if ((words[0] | lower >> 8) == word_of("content-") &&
	    ((words[1] | lower) << 16) == word_of("\0\0length")) {
		if (line[14] != ':' || walk->flags & (WALK_SIZED | WALK_CHUNKED))
			return WALK_OFF;
		length = parse_length(address + 15, size - 15);
		if (length < 0)
			return WALK_OFF;
		walk->remaining = length;
		walk->flags |= WALK_SIZED;
	} else if ((words[0] | lower) == word_of("transfer") &&
		   (words[1] | lower << 8) == word_of("-encodin") && (line[16] | 0x20) == 'g') {
		if (line[17] != ':' || walk->flags & (WALK_SIZED | WALK_CHUNKED) ||
		    is_chunked(address + 18, size - 18) <= 0)
			return WALK_OFF;
		walk->flags |= WALK_CHUNKED;
	}
	return WALK_HEAD;
}

/* A whole line of a head or of trailers. Lines that calls split end the walk. */
static __always_inline __u8 walk__line(struct walk *walk, struct call *call)
{
	__u64 address = call->buffer + call->walked, rest = call->moved - call->walked;
	__u64 words[LINE_BYTES / 8] = {};
	const __u8 *line = (const __u8 *)words;
	long found;
	__u8 phase;

	if (bpf_probe_read_user(words, at_most(rest, sizeof(words)), (void *)address))
		return WALK_OFF;
	/* Before its end is looked for: much that begins like a message is none. */
	if (walk->phase == WALK_START && (line[0] < 'A' || line[0] > 'Z'))
		return WALK_OFF;
	found = find_line_end(address, rest);
	if (found <= 0)
		return WALK_OFF;
	if (walk->phase == WALK_START)
		phase = walk__start_line(walk, address, found, line);
	else if (walk->phase == WALK_HEAD)
		phase = walk__field(walk, address, found, line);
	else
		phase = is_empty_line(line) ? WALK_START : WALK_TRAILERS;
	call__keep(call, call->walked, call->payload, call->walked + found);
	call->walked += found;
	return phase;
}

/* A body or a payload, as far as the call goes. */
static __always_inline __u8 walk__body(struct walk *walk, struct call *call)
{
	__u64 part = call->moved - call->walked;

	if (part > walk->remaining)
		part = walk->remaining;
	walk->remaining -= part;
	call->walked += part;
	walk->body += part;
	if (walk->body >= WORTH_BYTES)
		walk->idle = 0;
	if (walk->phase == WALK_PAYLOAD) {
		call->payload += part;
		return walk->remaining ? WALK_PAYLOAD : WALK_CR;
	}
	if (walk->remaining)
		return WALK_LENGTH;
	call->ended = 1;
	return WALK_START;
}

/* A byte of a size line, or of the line end behind a payload. */
static __always_inline __u8 walk__chunk_byte(struct walk *walk, struct call *call)
{
	int digit;
	__u8 c;

	if (walk->phase == WALK_SIZE && !walk->digits)
		call__mark(call);
	if (bpf_probe_read_user(&c, 1, (void *)(call->buffer + call->walked)))
		return WALK_OFF;
	call->walked++;
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
		if (c != '\n')
			return WALK_OFF;
		/* The rest of a line whose beginning was captured has to follow it. */
		if (!walk->remaining || call->split)
			call__keep(call, call->mark, call->mark_payload, call->walked);
		call->split = 0;
		return walk->remaining ? WALK_PAYLOAD : WALK_TRAILERS;
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

/* One step. 1 at the end of the call or the walk, for bpf_loop. */
static long walk__step(__u32 index, struct walk_step *step)
{
	struct walk *walk = step->walk;
	struct call *call = step->call;

	if (call->walked >= call->moved || walk->phase == WALK_OFF)
		return 1;
	if (walk->phase == WALK_LENGTH || walk->phase == WALK_PAYLOAD)
		walk->phase = walk__body(walk, call);
	else if (!call->buffer)
		walk->phase = WALK_OFF;
	else if (walk->phase <= WALK_TRAILERS)
		walk->phase = walk__line(walk, call);
	else if (walk->phase >= WALK_SIZE)
		walk->phase = walk__chunk_byte(walk, call);
	else if (may_be_response(call->buffer + call->walked, call->moved - call->walked))
		walk->phase = WALK_OFF;
	else
		walk->phase = WALK_LENGTH;
	return 0;
}

/* What is kept of a call in which the walk ended: everything from a place that the parser knows. */
static __always_inline void call__keep_rest(struct call *call)
{
	/* Inside a chunk of which the beginning was left out the parser has no place. */
	if (!call->keep_end && !call->marked)
		call->unplaced = call->mark = call->walked;
	call__keep(call, call->mark, call->mark_payload, call->moved);
}

/*
 * Walks over the call's bytes, and says in the call what of them is kept if the walk is confirmed.
 * (Results are in map memory, or the verifier would follow the rest of the program for each value.)
 */
static __always_inline void walk__over(struct walk *walk, struct call *call)
{
	struct walk_step step = {.walk = walk, .call = call};

	call__begin_walk(call);
	call->mark = 0;
	call->mark_payload = 0;
	call->marked = walk->phase < WALK_PAYLOAD;
	call->split = walk__in_line(walk);
	bpf_loop(WALK_MAX_STEPS, walk__step, &step, 0);
	if (call->walked < call->moved)
		walk->phase = WALK_OFF;
	if (walk->phase == WALK_OFF)
		call__keep_rest(call);
	else if (walk__in_line(walk))
		call__keep(call, call->mark, call->mark_payload, call->moved);
}

/*
 * Leaves out what need not be kept, with a confirmed walk: sets call->reported and call->wanted
 * and, when the last record can tell of what is left out behind it, call->tail. (What is left out
 * of a chunked body is told by the next record, with the payload in it.) Whether to report at all:
 * by an empty record too, when a message ended.
 */
static __always_inline bool walk__leave_out(const struct walk *walk, struct call *call)
{
	if (!call->keep_end) {
		call->reported = call->wanted = call->moved;
		return call->ended;
	}
	call->reported = call->keep;
	call->wanted = call->keep_end;
	if (walk->phase == WALK_LENGTH || walk->phase == WALK_START)
		call->tail = call->moved - call->keep_end;
	return true;
}

/* Whether the stream is worth a walk, with this call. */
static __always_inline bool walk__is_worth(struct walk *walk, const struct call *call)
{
	if (call->moved >= WORTH_BYTES)
		walk->idle = 0;
	else if (walk->idle >= IDLE_MAX)
		return false;
	else
		walk->idle++;
	return true;
}

/* Begins a walk when the call begins like a message. */
static __always_inline void walk__suspect(struct walk *walk, const struct call *call,
					  __u64 position)
{
	__u8 head[2] = {}, tail[4] = {};

	if (call->moved < 16 || bpf_probe_read_user(head, sizeof(head), (void *)call->buffer))
		return;
	if (head[0] < 'A' || head[0] > 'Z')
		return;
	if (call->moved < WORTH_BYTES) {
		/* A response's head by itself, or that of a request whose method has a body. */
		if (!(head[0] == 'H' && head[1] == 'T') && head[0] != 'P')
			return;
		if (bpf_probe_read_user(tail, sizeof(tail),
					(void *)(call->buffer + call->moved - sizeof(tail))) ||
		    tail[1] != '\n' || tail[2] != '\r' || tail[3] != '\n')
			return;
	}
	walk->start = position;
	walk->flags = 0;
	walk->phase = WALK_START;
}

#endif
