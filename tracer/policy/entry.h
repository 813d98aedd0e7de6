/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An entry: what is logged of an exchange. The only type that a sink takes, and only
 * policy/redact.c makes one, so nothing reaches a sink unredacted. Views point into memory of the
 * entry and live as long as it does. A view whose data is NULL is absent: not known.
 */
#ifndef TLSTRACE_ENTRY_H
#define TLSTRACE_ENTRY_H

#include "exchange/exchange.h"

struct entry_field {
	struct bytes name; /* original case; `?` where it is not known */
	struct bytes value;
};

struct entry_fields {
	const struct entry_field *fields;
	size_t count;
};

/* A gRPC call. */
struct entry_rpc {
	bool is_grpc;
	struct bytes service;
	struct bytes method;
	bool has_status;
	uint32_t status;
	struct bytes message;
	bool has_messages[2]; /* of the request, of the response: all were counted */
	uint64_t messages[2];
};

struct entry {
	int64_t time_unix_ns; /* first byte of the request, or of the response where unseen */
	bool is_open;	      /* it goes on: times, sizes and what is missing are as of now */
	enum side side;
	bool has_ttfb;
	bool has_duration;
	uint64_t ttfb_ns;
	uint64_t duration_ns;

	bool has_request; /* the request's head was seen: method, path, headers mean something */
	struct bytes method;
	struct bytes scheme;
	struct bytes path;
	struct bytes query;
	struct bytes server_address;
	uint16_t server_port; /* 0: not known */
	struct entry_fields request_headers;
	uint64_t request_body_bytes;
	struct bytes upgrade; /* the protocol that was asked for, or that an Upgrade brought */

	bool has_response;
	uint16_t status; /* 0: not known */
	struct entry_fields response_headers;
	struct entry_fields response_trailers;
	uint64_t response_body_bytes;
	const char *stream; /* "sse", "websocket"; NULL: neither */

	struct entry_rpc rpc;

	const char *version; /* "1.0", "1.1", "2" */
	const char *library; /* "openssl", ... */
	struct wire_tuple tuple;
	struct tcp_facts tcp; /* nothing where the tuple is not known */
	uint32_t pid;
	struct bytes executable_name;
	struct bytes executable_path;

	const char *error; /* NULL: none */
	bool complete;
	const char *reason; /* the word of capture.reason; NULL: complete */
	uint64_t lost_bytes;
	uint64_t unknown_headers; /* fields of which the name, or all, is not known */
};

#endif
