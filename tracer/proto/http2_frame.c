/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames of HTTP/2. See http2_frame.h.
 *
 * How sure is a chain? A head has 72 bits, of which some 20 are as they must be by chance in random
 * bytes (length, type, flags, stream), and the next head is found where the length says. Text has
 * no zero bytes, and runs of zeros are no frame: stream 0 has no DATA.
 */
#include "proto/http2_frame.h"
#include "proto/hpack.h"

/* Frames in a row that are proof: at the start of a call, and anywhere. */
#define CHAIN_OF_CALL  2
#define CHAIN_ANYWHERE 4

#define CODE_MAX	     0xd /* of the error codes of RFC 9113 7 */
#define SETTING_MAX	     0x10
#define SETTING_EXPERIMENTAL 0xf000 /* this and all above */
/* No endpoint says more at once. */
#define SETTINGS_MAX_BYTES 256

#define SETTING_TABLE_SIZE 1
#define SETTING_BYTES	   6
#define SETTING_CHARACTERS 8 /* of base64 */

struct http2_frame http2_frame__parse(const uint8_t *head)
{
	return (struct http2_frame){
		.size = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2],
		.type = head[3],
		.flags = head[4],
		.stream = http2__u32(head + 5) & 0x7fffffff,
	};
}

/* The bytes that come before what is padded (RFC 9113 6). */
static uint32_t frame__overhead(const struct http2_frame *frame)
{
	uint32_t size = frame->flags & HTTP2_PADDED ? 1 : 0;

	if (frame->type == HTTP2_HEADERS && (frame->flags & HTTP2_HAS_PRIORITY))
		size += 5;
	if (frame->type == HTTP2_PUSH_PROMISE)
		size += 4;
	return size;
}

bool http2_frame__is_valid(const struct http2_frame *frame)
{
	switch (frame->type) {
	case HTTP2_DATA:
	case HTTP2_HEADERS:
	case HTTP2_PUSH_PROMISE:
		return frame->stream && frame->size >= frame__overhead(frame);
	case HTTP2_CONTINUATION:
		return frame->stream;
	case HTTP2_PRIORITY:
		return frame->stream && frame->size == 5;
	case HTTP2_RST_STREAM:
		return frame->stream && frame->size == 4;
	case HTTP2_SETTINGS:
		return !frame->stream && !(frame->size % 6) &&
		       !((frame->flags & HTTP2_ACK) && frame->size);
	case HTTP2_PING:
		return !frame->stream && frame->size == 8;
	case HTTP2_GOAWAY:
		return !frame->stream && frame->size >= 8;
	case HTTP2_WINDOW_UPDATE:
		return frame->size == 4;
	}
	return true;
}

/* Whether the settings that are there are such as peers send. */
static bool settings__are_usual(struct bytes payload)
{
	for (size_t i = 0; i + 6 <= payload.size; i += 6) {
		unsigned int id = (unsigned int)payload.data[i] << 8 | payload.data[i + 1];

		/*
		 * Reserved ones are sent so that nobody relies on there being none, and gRPC has
		 * some of those for experiments.
		 */
		if (!id ||
		    (id > SETTING_MAX && id < SETTING_EXPERIMENTAL && (id & 0x0f0f) != 0x0a0a))
			return false;
	}
	return true;
}

/* Whether the header block of a HEADERS frame can be one, where it is all there and plain. */
static bool block__is_usual(const struct http2_frame *frame, struct bytes payload)
{
	if (payload.size < frame->size || !(frame->flags & HTTP2_END_HEADERS) ||
	    (frame->flags & HTTP2_PADDED))
		return true;
	return hpack__is_block(bytes__from(payload, frame__overhead(frame)));
}

static bool type__is_known(uint8_t type)
{
	return type <= HTTP2_CONTINUATION || type == HTTP2_ALTSVC || type == HTTP2_ORIGIN ||
	       type == HTTP2_PRIORITY_UPDATE;
}

/* Whether a frame that is valid looks as peers make it; `payload` is what is there of it. */
static bool frame__is_usual(const uint8_t *head, const struct http2_frame *frame,
			    struct bytes payload)
{
	static const uint8_t flags[] = {
		[HTTP2_DATA] = HTTP2_END_STREAM | HTTP2_PADDED,
		[HTTP2_HEADERS] =
			HTTP2_END_STREAM | HTTP2_END_HEADERS | HTTP2_PADDED | HTTP2_HAS_PRIORITY,
		[HTTP2_SETTINGS] = HTTP2_ACK,
		[HTTP2_PUSH_PROMISE] = HTTP2_END_HEADERS | HTTP2_PADDED,
		[HTTP2_PING] = HTTP2_ACK,
		[HTTP2_CONTINUATION] = HTTP2_END_HEADERS,
		[HTTP2_PRIORITY_UPDATE] = 0,
	};

	if (!type__is_known(frame->type) || (frame->flags & ~flags[frame->type]) ||
	    frame->size > HTTP2_FRAME_BYTES || (head[5] & 0x80) ||
	    (frame->stream && !(frame->stream & 1)) || !http2_frame__is_valid(frame))
		return false;
	if ((frame->flags & HTTP2_PADDED) && payload.size &&
	    payload.data[0] > frame->size - frame__overhead(frame))
		return false;
	switch (frame->type) {
	case HTTP2_DATA:
		return frame->size || (frame->flags & HTTP2_END_STREAM);
	case HTTP2_HEADERS:
		return frame->size > frame__overhead(frame) && block__is_usual(frame, payload);
	case HTTP2_SETTINGS:
		return frame->size <= SETTINGS_MAX_BYTES && settings__are_usual(payload);
	case HTTP2_ORIGIN:
	case HTTP2_PRIORITY_UPDATE:
		return !frame->stream && frame->size >= 4;
	case HTTP2_ALTSVC:
		return frame->size > 2;
	case HTTP2_RST_STREAM:
		return payload.size < 4 || http2__u32(payload.data) <= CODE_MAX;
	case HTTP2_WINDOW_UPDATE:
		return payload.size < 4 || (http2__u32(payload.data) && !(payload.data[0] & 0x80));
	}
	return true;
}

/* Whether a frame may follow another (NULL: none is known). */
static bool frame__may_follow(const struct http2_frame *frame, const struct http2_frame *before)
{
	bool open = before && before->type != HTTP2_DATA &&
		    (before->type == HTTP2_HEADERS || before->type == HTTP2_PUSH_PROMISE ||
		     before->type == HTTP2_CONTINUATION) &&
		    !(before->flags & HTTP2_END_HEADERS);

	if (open)
		return frame->type == HTTP2_CONTINUATION && frame->stream == before->stream;
	return frame->type != HTTP2_CONTINUATION;
}

enum verdict http2_chain__verify(struct bytes bytes, bool call_start)
{
	size_t wanted = call_start ? CHAIN_OF_CALL : CHAIN_ANYWHERE, found = 0;
	struct http2_frame frame, before = {0};
	struct bytes payload;

	/* Most of what is asked of is not it. */
	if (bytes.size > 3 && !type__is_known(bytes.data[3]))
		return VERDICT_NO;
	while (bytes.size >= HTTP2_HEAD_BYTES) {
		frame = http2_frame__parse(bytes.data);
		payload = bytes__first(bytes__from(bytes, HTTP2_HEAD_BYTES), frame.size);
		if (!frame__is_usual(bytes.data, &frame, payload) ||
		    !frame__may_follow(&frame, found ? &before : NULL))
			return VERDICT_NO;
		if (++found == wanted)
			return VERDICT_YES;
		if (payload.size < frame.size)
			return VERDICT_MORE;
		bytes = bytes__from(bytes, HTTP2_HEAD_BYTES + frame.size);
		if (!bytes.size && found + 1 == wanted)
			return VERDICT_YES;
		before = frame;
	}
	/* Of a head that is not all there: a length that can be, and a type. */
	if (bytes.size && bytes.data[0])
		return VERDICT_NO;
	if (bytes.size > 3 && !type__is_known(bytes.data[3]))
		return VERDICT_NO;
	return VERDICT_MORE;
}

/* What a setting leaves of a table size that was announced before it. */
static uint32_t setting__apply(const uint8_t *setting, uint32_t size)
{
	return !setting[0] && setting[1] == SETTING_TABLE_SIZE ? http2__u32(setting + 2) : size;
}

uint32_t http2_settings__table_size(struct bytes payload)
{
	uint32_t size = HTTP2_NO_TABLE_SIZE;

	for (; payload.size >= SETTING_BYTES; payload = bytes__from(payload, SETTING_BYTES))
		size = setting__apply(payload.data, size);
	return size;
}

/* The number that a character stands for (RFC 4648 5), or -1. */
static int base64url_digit(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	return c == '_' ? 63 : -1;
}

bool http2_settings__decode_table_size(struct bytes text, uint32_t *ret_size)
{
	uint32_t size = HTTP2_NO_TABLE_SIZE;

	/* A setting is 8 characters, so there is never padding. */
	for (; text.size; text = bytes__from(text, SETTING_CHARACTERS)) {
		uint8_t setting[SETTING_BYTES];
		uint64_t bits = 0;

		if (text.size < SETTING_CHARACTERS)
			return false;
		for (size_t i = 0; i < SETTING_CHARACTERS; i++) {
			int digit = base64url_digit(text.data[i]);

			if (digit < 0)
				return false;
			bits = bits << 6 | (uint64_t)digit;
		}
		for (size_t i = 0; i < SETTING_BYTES; i++)
			setting[i] = (uint8_t)(bits >> 8 * (SETTING_BYTES - 1 - i));
		size = setting__apply(setting, size);
	}
	*ret_size = size;
	return true;
}

/* A server's first frame is its SETTINGS (RFC 9113 3.4), whatever they are. */
static enum verdict detect_settings(struct bytes head)
{
	struct http2_frame frame;

	if (bytes__first(head, 1).size && head.data[0])
		return VERDICT_NO;
	if (head.size < HTTP2_HEAD_BYTES)
		return head.size > 3 && head.data[3] != HTTP2_SETTINGS ? VERDICT_NO : VERDICT_MORE;
	frame = http2_frame__parse(head.data);
	if (frame.type != HTTP2_SETTINGS || frame.flags || frame.size > SETTINGS_MAX_BYTES ||
	    !http2_frame__is_valid(&frame))
		return VERDICT_NO;
	return VERDICT_YES;
}

enum verdict http2__detect(struct bytes head, bool from_start)
{
	struct bytes preface = bytes__of(HTTP2_PREFACE, HTTP2_PREFACE_BYTES);
	struct bytes start = bytes__first(head, preface.size);

	if (bytes__equal(start, bytes__first(preface, start.size)))
		return start.size == preface.size ? VERDICT_YES : VERDICT_MORE;
	return from_start ? detect_settings(head) : http2_chain__verify(head, true);
}

const char *http2__reset_name(uint32_t code)
{
	static const char *const names[] = {
		"rst_stream:NO_ERROR",
		"rst_stream:PROTOCOL_ERROR",
		"rst_stream:INTERNAL_ERROR",
		"rst_stream:FLOW_CONTROL_ERROR",
		"rst_stream:SETTINGS_TIMEOUT",
		"rst_stream:STREAM_CLOSED",
		"rst_stream:FRAME_SIZE_ERROR",
		"rst_stream:REFUSED_STREAM",
		"rst_stream:CANCEL",
		"rst_stream:COMPRESSION_ERROR",
		"rst_stream:CONNECT_ERROR",
		"rst_stream:ENHANCE_YOUR_CALM",
		"rst_stream:INADEQUATE_SECURITY",
		"rst_stream:HTTP_1_1_REQUIRED",
	};

	return code < sizeof(names) / sizeof(names[0]) ? names[code] : "rst_stream:UNKNOWN";
}
