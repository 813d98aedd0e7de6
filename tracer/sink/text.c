/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An entry as one line for people, and with -H its header fields below. What comes from the wire
 * is written so that it cannot act on a terminal or look like another line or column. An entry of
 * what goes on has `...` where others have what is known at the end.
 */
#include "sink/sink.h"
#include "base/decimal.h"
#include "base/utf8.h"
#include "sink/format.h"

#define COLOUR_DIM    "\033[2m"
#define COLOUR_GREEN  "\033[32m"
#define COLOUR_CYAN   "\033[36m"
#define COLOUR_YELLOW "\033[33m"
#define COLOUR_RED    "\033[31m"
#define COLOUR_RESET  "\033[0m"

struct text {
	struct buf *out;
	int err;
	bool colour;
};

static inline void text__put(struct text *text, const char *str)
{
	if (!text->err)
		text->err = buf__append_str(text->out, str);
}

/* A number of at least `width` digits. */
static void text__uint(struct text *text, uint64_t value, size_t width)
{
	char digits[DECIMAL_MAX_DIGITS], *end = digits + sizeof(digits);
	char *start = decimal__write(end, value, width);

	if (!text->err)
		text->err = buf__append(text->out, bytes__of(start, (size_t)(end - start)));
}

static void text__colour(struct text *text, const char *colour)
{
	if (text->colour)
		text__put(text, colour);
}

/*
 * Whether a terminal would act on a code point or show the text around it other than it is:
 * controls, line separators, marks of direction, and what has no shape.
 */
static bool is_unsafe(uint32_t code_point)
{
	return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) ||
	       code_point == 0x61c || (code_point >= 0x200b && code_point <= 0x200f) ||
	       (code_point >= 0x2028 && code_point <= 0x202e) ||
	       (code_point >= 0x2060 && code_point <= 0x206f) || code_point == 0xfeff ||
	       (code_point >= 0xfff9 && code_point <= 0xfffb) ||
	       (code_point >= 0xe0000 && code_point <= 0xe007f) || code_point == UTF8_INVALID;
}

/* Writes captured bytes; those that are not safe as \xNN. A column has no spaces in it. */
static void text__escaped(struct text *text, struct bytes value, bool column)
{
	size_t safe = 0; /* what is safe and not written starts here */
	size_t pos = 0;

	while (pos < value.size && !text->err) {
		uint32_t code_point;
		size_t size;

		if (value.data[pos] > ' ' && value.data[pos] < 0x7f) {
			pos++;
			continue;
		}
		size = utf8__next(bytes__from(value, pos), &code_point);
		if (!is_unsafe(code_point) && !(column && code_point == ' ')) {
			pos += size;
			continue;
		}
		text->err = buf__append(text->out, bytes__of(value.data + safe, pos - safe));
		for (size_t end = pos + size; pos < end && !text->err; pos++)
			text->err = buf__printf(text->out, "\\x%02x", value.data[pos]);
		safe = pos;
	}
	if (!text->err)
		text->err = buf__append(text->out, bytes__from(value, safe));
}

/* A column; `-` when it is not known. */
static void text__column(struct text *text, struct bytes value)
{
	if (value.size)
		text__escaped(text, value, true);
	else
		text__put(text, "-");
}

static void text__time(struct text *text, int64_t time_ns)
{
	static _Thread_local struct second_text cache;
	unsigned int us;
	struct bytes second = second_text__of(&cache, time_ns, SECOND_LOCAL, &us);

	text__colour(text, COLOUR_DIM);
	if (!text->err)
		text->err = buf__append(text->out, second);
	text__put(text, ".");
	text__uint(text, us / 1000, 3);
	text__colour(text, COLOUR_RESET);
}

static void text__process(struct text *text, const struct entry *entry)
{
	text__column(text, entry->executable_name);
	text__put(text, "[");
	text__uint(text, entry->pid, 1);
	text__put(text, "]");
}

static void text__peer(struct text *text, const struct entry *entry)
{
	char address[INET6_ADDRSTRLEN];
	uint16_t port;
	bool ipv6;

	if (entry->side == SIDE_SERVER)
		text__put(text, "<- ");
	else if (entry->side == SIDE_CLIENT)
		text__put(text, "-> ");
	else
		text__put(text, "-- ");
	if (entry->tuple.transport == WIRE_UNIX) {
		text__put(text, "unix");
		return;
	}
	if (!tuple__address(&entry->tuple, TUPLE_PEER, address, &port)) {
		text__put(text, "-");
		return;
	}
	ipv6 = strchr(address, ':');
	text__put(text, ipv6 ? "[" : "");
	text__put(text, address);
	text__put(text, ipv6 ? "]:" : ":");
	text__uint(text, port, 1);
}

static bool entry__connects(const struct entry *entry)
{
	return bytes__equal(entry->method, bytes__str("CONNECT")) && !entry->path.data;
}

static uint16_t scheme__port(struct bytes scheme)
{
	if (bytes__equal_nocase(scheme, bytes__str("https")))
		return 443;
	return bytes__equal_nocase(scheme, bytes__str("http")) ? 80 : 0;
}

/* Host and port as they stand in a URL: a port that the scheme implies does not. */
static void text__authority(struct text *text, const struct entry *entry)
{
	bool ipv6 = bytes__find(entry->server_address, ':') < entry->server_address.size;

	text__put(text, ipv6 ? "[" : "");
	text__column(text, entry->server_address);
	text__put(text, ipv6 ? "]" : "");
	if (!entry->server_port || entry->server_port == scheme__port(entry->scheme))
		return;
	text__put(text, ":");
	text__uint(text, entry->server_port, 1);
}

static void text__path(struct text *text, const struct entry *entry)
{
	text__escaped(text, entry->path, true);
	if (entry->query.data) {
		text__put(text, "?");
		text__escaped(text, entry->query, true);
	}
}

static void text__url(struct text *text, const struct entry *entry)
{
	if (!entry->has_request) {
		text__put(text, "-");
		return;
	}
	if (!entry__connects(entry)) {
		text__column(text, entry->scheme);
		text__put(text, "://");
	}
	text__authority(text, entry);
	/* The target `*` means the server itself: a URL without a path (RFC 9110 7.1). */
	if (!bytes__equal(entry->path, bytes__str("*")))
		text__path(text, entry);
}

static const char *status__colour(uint16_t status)
{
	switch (status / 100) {
	case 1:
	case 3:
		return COLOUR_CYAN;
	case 2:
		return COLOUR_GREEN;
	case 4:
		return COLOUR_YELLOW;
	}
	return COLOUR_RED;
}

/* `-` when there is none. */
static void text__code(struct text *text, uint16_t status)
{
	if (status)
		text__uint(text, status, 1);
	else
		text__put(text, "-");
}

/* What the end will tell. */
static void text__to_come(struct text *text)
{
	text__colour(text, COLOUR_DIM);
	text__put(text, "...");
	text__colour(text, COLOUR_RESET);
}

static void text__status(struct text *text, const struct entry *entry)
{
	if (entry->is_open && !entry->has_response) {
		text__to_come(text);
		return;
	}
	text__colour(text, status__colour(entry->status));
	text__put(text, entry->complete || entry->is_open ? "" : "!");
	text__code(text, entry->status);
	text__colour(text, COLOUR_RESET);
}

static void text__bytes(struct text *text, uint64_t bytes)
{
	text__uint(text, bytes, 1);
	text__put(text, "B");
}

static void text__size(struct text *text, const struct entry *entry)
{
	if (entry->is_open)
		text__to_come(text);
	else if (entry->has_response)
		text__bytes(text, entry->response_body_bytes);
	else
		text__put(text, "-");
}

/* Three digits and a unit, rounded: 0.53ms, 12.3ms, 123ms, 1.24s, 75.0s, 600s. */
static void text__time_span(struct text *text, uint64_t ns)
{
	static const struct {
		uint64_t digit_ns; /* what the last digit stands for */
		unsigned int decimals;
		const char *unit;
	} scales[] = {
		{10000, 2, "ms"},   {100000, 1, "ms"},	 {1000000, 0, "ms"},
		{10000000, 2, "s"}, {100000000, 1, "s"}, {1000000000, 0, "s"},
	};
	static const unsigned int powers[] = {1, 10, 100};
	const size_t last = sizeof(scales) / sizeof(scales[0]) - 1;
	uint64_t digits;
	size_t i;

	for (i = 0;; i++) {
		digits = ns / scales[i].digit_ns;
		if (ns % scales[i].digit_ns >= scales[i].digit_ns / 2)
			digits++;
		if (digits < 1000 || i == last)
			break;
	}
	text__uint(text, digits / powers[scales[i].decimals], 1);
	if (scales[i].decimals) {
		text__put(text, ".");
		text__uint(text, digits % powers[scales[i].decimals], scales[i].decimals);
	}
	text__put(text, scales[i].unit);
}

static void text__duration(struct text *text, const struct entry *entry)
{
	if (entry->is_open)
		text__to_come(text);
	else if (entry->has_duration)
		text__time_span(text, entry->duration_ns);
	else
		text__put(text, "-");
}

static void text__version(struct text *text, const struct entry *entry)
{
	text__put(text, entry->version ? "HTTP/" : "-");
	text__put(text, entry->version ? entry->version : "");
}

/* That it is a stream, and what matters of one: ` [sse: ttfb 412ms]`, ` [websocket: 97B up]`. */
static void text__stream(struct text *text, const struct entry *entry)
{
	bool websocket;

	if (!entry->stream)
		return;
	websocket = !strcmp(entry->stream, "websocket");
	text__put(text, " [");
	text__put(text, entry->stream);
	if (websocket && !entry->is_open && entry->has_request) {
		text__put(text, ": ");
		text__bytes(text, entry->request_body_bytes);
		text__put(text, " up");
	} else if (!websocket && entry->has_ttfb) {
		text__put(text, ": ttfb ");
		text__time_span(text, entry->ttfb_ns);
	}
	text__put(text, "]");
}

/* Why the entry is not complete, and what failed: ` [no_response: closed]`. */
static void text__fault(struct text *text, const struct entry *entry)
{
	if (entry->is_open || (!entry->reason && !entry->error))
		return;
	text__put(text, " [");
	text__put(text, entry->reason ? entry->reason : "");
	text__put(text, entry->reason && entry->error ? ": " : "");
	text__put(text, entry->error ? entry->error : "");
	text__put(text, "]");
}

/* What failed is often told by gRPC's status alone, with an HTTP status of 200. */
static void text__rpc(struct text *text, const struct entry_rpc *rpc)
{
	if (!rpc->has_status || !rpc->status)
		return;
	text__put(text, " [grpc-status: ");
	text__uint(text, rpc->status, 1);
	text__put(text, "]");
}

static void text__line(struct text *text, const struct entry *entry)
{
	text__time(text, entry->time_unix_ns);
	text__put(text, " ");
	text__process(text, entry);
	text__put(text, " ");
	text__peer(text, entry);
	text__put(text, " ");
	text__column(text, entry->method);
	text__put(text, " ");
	text__url(text, entry);
	text__put(text, " ");
	text__status(text, entry);
	text__put(text, " ");
	text__size(text, entry);
	text__put(text, " ");
	text__duration(text, entry);
	text__put(text, " ");
	text__version(text, entry);
	text__stream(text, entry);
	text__rpc(text, &entry->rpc);
	text__fault(text, entry);
	text__put(text, "\n");
}

static void text__fields(struct text *text, const char *mark, const struct entry_fields *fields)
{
	for (size_t i = 0; i < fields->count; i++) {
		text__put(text, mark);
		text__escaped(text, fields->fields[i].name, true);
		text__put(text, ": ");
		text__escaped(text, fields->fields[i].value, false);
		text__put(text, "\n");
	}
}

static void text__heads(struct text *text, const struct entry *entry)
{
	if (entry->has_request) {
		text__put(text, "> ");
		text__column(text, entry->method);
		text__put(text, " ");
		if (entry__connects(entry))
			text__authority(text, entry);
		else if (!entry->path.size && !entry->query.data)
			text__put(text, "-");
		else
			text__path(text, entry);
		text__put(text, " ");
		text__version(text, entry);
		text__put(text, "\n");
		text__fields(text, "> ", &entry->request_headers);
	}
	if (entry->has_response) {
		text__put(text, "< ");
		text__version(text, entry);
		text__put(text, " ");
		text__code(text, entry->status);
		text__put(text, "\n");
		text__fields(text, "< ", &entry->response_headers);
		text__fields(text, "< ", &entry->response_trailers);
	}
}

static int sink_text__format(const struct sink_options *options, const struct entry *entry,
			     struct buf *line)
{
	struct text text = {.out = line, .colour = options->colour};
	size_t start = line->size;

	text__line(&text, entry);
	if (options->headers)
		text__heads(&text, entry);
	if (text.err)
		line->size = start; /* half a line is worse than none */
	return text.err;
}

const struct sink_ops sink_text = {
	.name = "text",
	.shows_open = true,
	.format = sink_text__format,
};
