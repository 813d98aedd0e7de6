/* SPDX-License-Identifier: BSD-2-Clause */
/* gRPC calls. See grpc.h. */
#include "policy/grpc.h"

/* Codes have two digits. */
#define STATUS_MAX_DIGITS 9

static bool headers__get(const struct headers *headers, const char *name, struct bytes *ret_value)
{
	size_t i = headers__find(headers, name, 0);

	if (i == headers->count)
		return false;
	*ret_value = headers__value(headers, i);
	return true;
}

static bool content_is_grpc(const struct headers *headers)
{
	struct bytes grpc = bytes__str("application/grpc"), type, rest;

	if (!headers__get(headers, "content-type", &type))
		return false;
	rest = bytes__from(type, grpc.size);
	return bytes__equal_nocase(bytes__first(type, grpc.size), grpc) &&
	       (!rest.size || rest.data[0] == '+' || rest.data[0] == ';');
}

static bool status__parse(struct bytes text, uint32_t *ret_status)
{
	uint32_t status = 0;

	if (!text.size || text.size > STATUS_MAX_DIGITS)
		return false;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		status = status * 10 + (uint32_t)(text.data[i] - '0');
	}
	*ret_status = status;
	return true;
}

/* "/package.Service/Method" */
static void path__split(struct bytes path, struct grpc *grpc)
{
	const uint8_t *slash;

	if (path.size < 2 || path.data[0] != '/')
		return;
	path = bytes__from(path, 1);
	slash = memrchr(path.data, '/', path.size);
	if (!slash)
		return;
	grpc->service = bytes__first(path, (size_t)(slash - path.data));
	grpc->method = bytes__from(path, grpc->service.size + 1);
}

bool grpc__of(const struct exchange *exchange, struct grpc *ret_grpc)
{
	const struct message *response = &exchange->response;
	struct grpc grpc = {0};
	struct bytes status;
	/* A response without messages has it in its only block. */
	const struct headers *last =
		response->trailers.count ? &response->trailers : &response->headers;
	bool has_status = headers__get(last, "grpc-status", &status);

	if (exchange->version != 20 ||
	    (!content_is_grpc(&exchange->request.headers) && !content_is_grpc(&response->headers) &&
	     !(has_status && !response->headers.count)))
		return false;
	if (exchange->request.begun)
		path__split(buf__view(&exchange->path), &grpc);
	if (has_status)
		grpc.has_status = status__parse(status, &grpc.status);
	headers__get(last, "grpc-message", &grpc.message);
	*ret_grpc = grpc;
	return true;
}

static int hex_digit(uint8_t c)
{
	c = ascii__lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int grpc__decode(struct bytes message, struct buf *out)
{
	int err = 0;

	while (message.size && !err) {
		int high = -1, low = -1;

		if (message.data[0] == '%' && message.size > 2) {
			high = hex_digit(message.data[1]);
			low = hex_digit(message.data[2]);
		}
		if (high >= 0 && low >= 0) {
			err = buf__append_byte(out, (uint8_t)(high << 4 | low));
			message = bytes__from(message, 3);
		} else {
			err = buf__append_byte(out, message.data[0]);
			message = bytes__from(message, 1);
		}
	}
	return err;
}
