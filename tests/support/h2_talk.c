/* SPDX-License-Identifier: BSD-2-Clause */
/* Two sessions of libnghttp2. See h2_talk.h. */
#include "h2_talk.h"

#include <criterion/criterion.h>
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t size);

void talk__field(struct talk_block *block, const char *name, const char *format, ...)
{
	struct talk_field *field = &block->fields[block->count++];
	va_list args;

	cr_assert_lt(block->count, TALK_MAX_FIELDS);
	snprintf(field->name, sizeof(field->name), "%s", name);
	va_start(args, format);
	vsnprintf(field->value, sizeof(field->value), format, args);
	va_end(args);
}

static size_t block__nvs(struct talk_block *block, nghttp2_nv *nvs)
{
	for (size_t i = 0; i < block->count; i++)
		nvs[i] = (nghttp2_nv){
			.name = (uint8_t *)block->fields[i].name,
			.value = (uint8_t *)block->fields[i].value,
			.namelen = strlen(block->fields[i].name),
			.valuelen = strlen(block->fields[i].value),
		};
	return block->count;
}

static struct talk_stream *talk__of(struct talk *talk, int32_t id)
{
	for (size_t i = 0; i < talk->stream_count; i++)
		if (talk->streams[i].id == id)
			return &talk->streams[i];
	return NULL;
}

const struct talk_stream *talk__find(const struct talk *talk, uint64_t id)
{
	return talk__of((struct talk *)talk, (int32_t)id);
}

static ssize_t give(size_t *given, size_t size, uint8_t *buf, size_t length, uint32_t *flags)
{
	size_t part = size - *given < length ? size - *given : length;

	/* Has frames in it, to be taken for such by who is not careful, but no chain of them. */
	for (size_t i = 0; i < part; i++)
		buf[i] = (uint8_t)("\0\0\4\1\5\0\0\0\1gRPCx"[(*given + i) % 14]);
	*given += part;
	if (*given == size)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)part;
}

static ssize_t on_request_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
			       uint32_t *flags, nghttp2_data_source *source, void *context)
{
	struct talk_stream *stream = talk__of(context, id);

	return give(&stream->request_given, stream->request_body, buf, length, flags);
}

static ssize_t on_response_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
				uint32_t *flags, nghttp2_data_source *source, void *context)
{
	struct talk_stream *stream = talk__of(context, id);
	ssize_t part = give(&stream->response_given, stream->response_body, buf, length, flags);
	nghttp2_nv nvs[TALK_MAX_FIELDS];

	if ((*flags & NGHTTP2_DATA_FLAG_EOF) && stream->trailers.count) {
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		nghttp2_submit_trailer(session, id, nvs, block__nvs(&stream->trailers, nvs));
	}
	return part;
}

static ssize_t on_padding(nghttp2_session *session, const nghttp2_frame *frame, size_t max,
			  void *context)
{
	size_t padded = frame->hd.length + 1 + (size_t)frame->hd.stream_id % 40;
	const struct talk *talk = context;

	if (!talk->pads)
		return (ssize_t)frame->hd.length;
	return (ssize_t)(padded < max ? padded : max);
}

/* All that both have to say passes, each piece a call. */
static void talk__pump(struct talk *talk)
{
	nghttp2_session *sessions[] = {
		[WIRE_WRITE] = talk->client,
		[WIRE_READ] = talk->server,
	};
	const uint8_t *data;
	bool moved;
	ssize_t size;

	do {
		moved = false;
		for (int d = 0; d < 2; d++) {
			while ((size = nghttp2_session_mem_send(sessions[d], &data)) > 0) {
				struct talk_call *call = &talk->calls[talk->call_count++];

				cr_assert_lt(talk->call_count, TALK_MAX_CALLS);
				call->direction = d;
				call->size = (size_t)size;
				call->data = __real_malloc(call->size);
				memcpy(call->data, data, call->size);
				cr_assert_eq(nghttp2_session_mem_recv(sessions[1 - d], data,
								      call->size),
					     size);
				moved = true;
			}
			cr_assert_eq(size, 0);
		}
	} while (moved);
}

/* RFC 4648 5, of bytes that need no padding. */
static void encode_base64url(const uint8_t *bytes, size_t size, char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	for (size_t i = 0; i < size; i += 3) {
		unsigned int bits = (unsigned int)bytes[i] << 16 | (unsigned int)bytes[i + 1] << 8 |
				    bytes[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			*text++ = digits[bits >> shift & 63];
	}
	*text = '\0';
}

/* Both take the first stream's request for said. The client's settings are announced by that. */
static void talk__upgrade(struct talk *talk, const nghttp2_settings_entry *entries, size_t count)
{
	void *const sessions[] = {talk->client, talk->server};
	uint8_t payload[12];
	ssize_t size = nghttp2_pack_settings_payload(payload, sizeof(payload), entries, count);

	cr_assert_eq(size, (ssize_t)(6 * count));
	encode_base64url(payload, (size_t)size, talk->settings);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(nghttp2_session_upgrade2(sessions[i], payload, (size_t)size, 0, NULL),
			     0);
}

void talk__begin(struct talk *talk)
{
	nghttp2_settings_entry entries[2][2] = {
		{{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, talk->client_table},
		 {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100}},
		{{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, talk->server_table},
		 {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100}},
	};
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *client, *server;
	nghttp2_option *option;

	cr_assert_eq(nghttp2_session_callbacks_new(&callbacks), 0);
	cr_assert_eq(nghttp2_option_new(&option), 0);
	nghttp2_session_callbacks_set_select_padding_callback(callbacks, on_padding);
	if (talk->deflate_table)
		nghttp2_option_set_max_deflate_dynamic_table_size(option, talk->deflate_table);
	cr_assert_eq(nghttp2_session_client_new2(&client, callbacks, talk, option), 0);
	cr_assert_eq(nghttp2_session_server_new2(&server, callbacks, talk, option), 0);
	talk->client = client;
	talk->server = server;
	for (int i = 0; i < 2; i++) {
		bool sized = i ? talk->server_table : talk->client_table;
		size_t count = (size_t)1 + sized;

		if (!i && talk->upgrades)
			talk__upgrade(talk, entries[i] + !sized, count);
		else
			nghttp2_submit_settings(i ? server : client, 0, entries[i] + !sized, count);
	}
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	if (!talk->answers_first)
		talk__pump(talk);
}

struct talk_stream *talk__stream(struct talk *talk)
{
	cr_assert_lt(talk->stream_count, TALK_MAX_STREAMS);
	return &talk->streams[talk->stream_count++];
}

void talk__say(struct talk *talk, size_t count)
{
	struct talk_stream *streams = &talk->streams[talk->stream_count - count];
	nghttp2_data_provider request = {.read_callback = on_request_body};
	nghttp2_data_provider response = {.read_callback = on_response_body};
	nghttp2_nv nvs[TALK_MAX_FIELDS], status = {
						 .name = (uint8_t *)":status",
						 .value = (uint8_t *)"103",
						 .namelen = 7,
						 .valuelen = 3,
					 };

	for (size_t i = 0; i < count; i++) {
		streams[i].call = talk->call_count;
		if (talk->upgrades && &streams[i] == talk->streams) {
			streams[i].id = 1;
			continue;
		}
		streams[i].id =
			nghttp2_submit_request(talk->client, NULL, nvs,
					       block__nvs(&streams[i].request, nvs),
					       streams[i].request_body ? &request : NULL, NULL);
		cr_assert_gt(streams[i].id, 0);
	}
	if (!talk->answers_first)
		talk__pump(talk);
	for (size_t i = 0; i < count; i++) {
		struct talk_stream *stream = &streams[i];
		size_t fields = block__nvs(&stream->response, nvs);

		if (stream->interim)
			nghttp2_submit_headers(talk->server, 0, stream->id, NULL, &status, 1, NULL);
		cr_assert_eq(nghttp2_submit_response(talk->server, stream->id, nvs, fields,
						     stream->response_body || stream->trailers.count
							     ? &response
							     : NULL),
			     0);
	}
	talk__pump(talk);
}

struct talk_stream *talk__cancelled(struct talk *talk)
{
	struct talk_stream *stream = talk__stream(talk);
	nghttp2_nv nvs[TALK_MAX_FIELDS];

	talk__field(&stream->request, ":method", "GET");
	talk__field(&stream->request, ":scheme", "https");
	talk__field(&stream->request, ":path", "/cancelled");
	stream->call = talk->call_count;
	stream->id = nghttp2_submit_request(talk->client, NULL, nvs,
					    block__nvs(&stream->request, nvs), NULL, NULL);
	talk__pump(talk);
	nghttp2_submit_rst_stream(talk->client, 0, stream->id, NGHTTP2_CANCEL);
	talk__pump(talk);
	return stream;
}

void talk__resize(struct talk *talk, bool by_client, uint32_t bytes)
{
	nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, bytes};

	nghttp2_submit_settings(by_client ? talk->client : talk->server, 0, &entry, 1);
	talk__pump(talk);
}

void talk__free(struct talk *talk)
{
	nghttp2_session_del(talk->client);
	nghttp2_session_del(talk->server);
	for (size_t i = 0; i < talk->call_count; i++)
		free(talk->calls[i].data);
	memset(talk, 0, sizeof(*talk));
}
