/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frames of HTTP/2 (RFC 9113 section 4 and 6): their heads, which of them can be, and where in
 * bytes of which nothing is known a frame begins. Keeps no state; knows nothing of connections.
 */
#ifndef TLSTRACE_HTTP2_FRAME_H
#define TLSTRACE_HTTP2_FRAME_H

#include "proto/parser.h"

#define HTTP2_HEAD_BYTES 9

/* What a client sends first (RFC 9113 3.4). */
#define HTTP2_PREFACE	    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define HTTP2_PREFACE_BYTES (sizeof(HTTP2_PREFACE) - 1)

/* What every endpoint accepts, and nearly none exceeds (RFC 9113 4.2). */
#define HTTP2_FRAME_BYTES 16384

enum http2_type {
	HTTP2_DATA = 0,
	HTTP2_HEADERS = 1,
	HTTP2_PRIORITY = 2,
	HTTP2_RST_STREAM = 3,
	HTTP2_SETTINGS = 4,
	HTTP2_PUSH_PROMISE = 5,
	HTTP2_PING = 6,
	HTTP2_GOAWAY = 7,
	HTTP2_WINDOW_UPDATE = 8,
	HTTP2_CONTINUATION = 9,
	HTTP2_ALTSVC = 0xa,	      /* RFC 7838 */
	HTTP2_ORIGIN = 0xc,	      /* RFC 8336 */
	HTTP2_PRIORITY_UPDATE = 0x10, /* RFC 9218 */
};

#define HTTP2_ACK	   0x01 /* SETTINGS, PING */
#define HTTP2_END_STREAM   0x01 /* DATA, HEADERS */
#define HTTP2_END_HEADERS  0x04
#define HTTP2_PADDED	   0x08
#define HTTP2_HAS_PRIORITY 0x20

#define HTTP2_NO_TABLE_SIZE UINT32_MAX

struct http2_frame {
	uint32_t size; /* of the payload */
	uint8_t type;  /* enum http2_type, or one that we do not know */
	uint8_t flags;
	uint32_t stream;
};

/* The frame of a head of HTTP2_HEAD_BYTES. */
struct http2_frame http2_frame__parse(const uint8_t *head);

/* A number in network order. */
static inline uint32_t http2__u32(const uint8_t *data)
{
	return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

/*
 * Whether a connection may go on with such a frame, by the rules of its type (all of a type that we
 * do not know may be). What came before is the caller's to know.
 */
bool http2_frame__is_valid(const struct http2_frame *frame);

/*
 * Whether a frame begins with `bytes`, of which nothing is known: a chain of frames that each look
 * as peers make them. Where a TLS call's buffer begins (`call_start`), a frame is enough that ends
 * where the bytes end, since that is how they are written. VERDICT_MORE: so far.
 */
enum verdict http2_chain__verify(struct bytes bytes, bool call_start);

/*
 * The size that a SETTINGS frame's payload announces for the header table (RFC 9113 6.5.2);
 * HTTP2_NO_TABLE_SIZE: none.
 */
uint32_t http2_settings__table_size(struct bytes payload);

/* The same of HTTP2-Settings (RFC 7540 3.2.1), a payload in base64url. False: it is none. */
bool http2_settings__decode_table_size(struct bytes text, uint32_t *ret_size);

/* parser_ops.detect */
enum verdict http2__detect(struct bytes head, bool from_start);

/* The word for an error code, as error.type has it: "rst_stream:CANCEL". Static. */
const char *http2__reset_name(uint32_t code);

#endif
