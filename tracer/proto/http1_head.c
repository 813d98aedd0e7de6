/* SPDX-License-Identifier: BSD-2-Clause */
/* The lines of an HTTP/1 message head. See http1_head.h. */
#include "proto/http1_head.h"

#include <errno.h>

#define DETECT_MAX_BYTES 64
/* Empty lines before a request line that detection tolerates (RFC 9112 2.2). */
#define DETECT_MAX_CRLF 4
/* A Content-Length or Transfer-Encoding beyond this is no honest one. */
#define FRAMING_MAX_BYTES 1024

/* RFC 9110, the registry's WebDAV and UPnP methods, and caches' PURGE. */
static const char *const known_methods[] = {
	"GET",	      "HEAD",
	"POST",	      "PUT",
	"DELETE",     "CONNECT",
	"OPTIONS",    "TRACE",
	"PATCH",      "PROPFIND",
	"PROPPATCH",  "MKCOL",
	"COPY",	      "MOVE",
	"LOCK",	      "UNLOCK",
	"SEARCH",     "REPORT",
	"MKCALENDAR", "MKACTIVITY",
	"CHECKOUT",   "CHECKIN",
	"MERGE",      "UPDATE",
	"LABEL",      "ACL",
	"BIND",	      "REBIND",
	"UNBIND",     "LINK",
	"UNLINK",     "QUERY",
	"PURGE",      "NOTIFY",
	"SUBSCRIBE",  "UNSUBSCRIBE",
	"M-SEARCH",   "VERSION-CONTROL",
};

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(uint8_t c)
{
	return is_digit(c) || (ascii__lower(c) >= 'a' && ascii__lower(c) <= 'z');
}

/* RFC 9110 5.6.2 */
static bool is_token(struct bytes bytes)
{
	for (size_t i = 0; i < bytes.size; i++) {
		uint8_t c = bytes.data[i];

		if (!is_alnum(c) && (!c || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return true;
}

static bool starts_with(struct bytes bytes, struct bytes prefix)
{
	return bytes__equal(bytes__first(bytes, prefix.size), prefix);
}

static bool starts_with_nocase(struct bytes bytes, struct bytes prefix)
{
	return bytes__equal_nocase(bytes__first(bytes, prefix.size), prefix);
}

/* `whole`: is a known method; else begins as one does. */
static bool is_known_method(struct bytes method, bool whole)
{
	for (size_t i = 0; i < sizeof(known_methods) / sizeof(known_methods[0]); i++) {
		struct bytes known = bytes__str(known_methods[i]);

		if (whole ? bytes__equal(known, method) : starts_with(known, method))
			return true;
	}
	return false;
}

/* Whether all that is there of a status line (of any length, none included) is right. */
static bool response_possible(struct bytes head)
{
	static const char pattern[] = "HTTP/1.# ###";
	size_t size = sizeof(pattern) - 1;

	for (size_t i = 0; i < size && i < head.size; i++)
		if (pattern[i] == '#' ? !is_digit(head.data[i]) : head.data[i] != pattern[i])
			return false;
	if (head.size > size)
		return head.data[size] == ' ' || head.data[size] == '\r';
	return true;
}

/* Whether what there is of a target begins as targets do: MORE when too little of it is there. */
static enum verdict target_verdict(struct bytes method, struct bytes target)
{
	static const char *const begins[] = {"http://", "https://"};
	struct bytes star = bytes__str("* HTTP/1.");

	if (!target.size)
		return VERDICT_MORE;
	if (bytes__equal(method, bytes__str("CONNECT")))
		return is_alnum(target.data[0]) || target.data[0] == '[' ? VERDICT_YES : VERDICT_NO;
	if (target.data[0] == '/')
		return VERDICT_YES;
	/* RTSP and SIP have OPTIONS * as well; only the version tells. */
	if (target.data[0] == '*' && bytes__equal(method, bytes__str("OPTIONS"))) {
		if (starts_with(target, star))
			return VERDICT_YES;
		return starts_with(star, target) ? VERDICT_MORE : VERDICT_NO;
	}
	for (size_t i = 0; i < 2; i++) {
		if (starts_with_nocase(target, bytes__str(begins[i])))
			return VERDICT_YES;
		if (starts_with_nocase(bytes__str(begins[i]), target))
			return VERDICT_MORE;
	}
	return VERDICT_NO;
}

static bool request_possible(struct bytes head, bool known)
{
	size_t space = bytes__find(head, ' ');
	struct bytes method = bytes__first(head, space);

	if (method.size > HTTP1_METHOD_MAX_BYTES || !is_token(method))
		return false;
	if (space == head.size)
		return !known || is_known_method(method, false);
	if (!method.size)
		return false;
	return !known || (is_known_method(method, true) &&
			  target_verdict(method, bytes__from(head, space + 1)) != VERDICT_NO);
}

bool http1_start__possible(struct bytes head, unsigned int kinds, bool known)
{
	/* Bytes of an empty line are skipped before a start line (RFC 9112 2.2). */
	if (!known && head.size == 1 && head.data[0] == '\r')
		return true;
	if ((kinds & HTTP1_RESPONSE) && response_possible(head))
		return true;
	return (kinds & HTTP1_REQUEST) && request_possible(head, known);
}

static bool parse_version(struct bytes text, uint8_t *ret_version)
{
	if (text.size != 8 || !starts_with(text, bytes__str("HTTP/1.")) || !is_digit(text.data[7]))
		return false;
	*ret_version = text.data[7] == '0' ? 10 : 11;
	return true;
}

static bool parse_status_line(struct bytes line, struct http1_start *start)
{
	if (line.size < 12 || !response_possible(line) || line.data[9] == '0' ||
	    !parse_version(bytes__first(line, 8), &start->version))
		return false;
	start->kind = HTTP1_RESPONSE;
	start->status = (uint16_t)((line.data[9] - '0') * 100 + (line.data[10] - '0') * 10 +
				   (line.data[11] - '0'));
	return true;
}

static bool parse_request_line(struct bytes line, bool cut, struct http1_start *start)
{
	size_t space = bytes__find(line, ' ');
	struct bytes rest;

	start->method = bytes__first(line, space);
	if (space == line.size || !space || space > HTTP1_METHOD_MAX_BYTES ||
	    !is_token(start->method))
		return false;
	rest = bytes__trim(bytes__from(line, space));
	start->kind = HTTP1_REQUEST;
	start->version = 11;
	if (cut) {
		start->target = rest;
		return rest.size;
	}
	if (rest.size < 10 || !parse_version(bytes__from(rest, rest.size - 8), &start->version) ||
	    rest.data[rest.size - 9] != ' ')
		return false;
	start->target = bytes__trim(bytes__first(rest, rest.size - 9));
	return start->target.size;
}

bool http1_start__parse(struct bytes line, unsigned int kinds, bool cut,
			struct http1_start *ret_start)
{
	struct http1_start start = {0};

	if (((kinds & HTTP1_RESPONSE) && parse_status_line(line, &start)) ||
	    ((kinds & HTTP1_REQUEST) && parse_request_line(line, cut, &start))) {
		*ret_start = start;
		return true;
	}
	return false;
}

/* What is left of a known method whose first bytes are missing. */
static bool is_torn_method(struct bytes method)
{
	if (is_known_method(method, true))
		return false;
	for (size_t i = 0; i < sizeof(known_methods) / sizeof(known_methods[0]); i++) {
		struct bytes known = bytes__str(known_methods[i]);

		if (method.size < known.size &&
		    bytes__equal(bytes__from(known, known.size - method.size), method))
			return true;
	}
	return false;
}

bool http1_start__strict(const struct http1_start *start)
{
	struct bytes target = start->target;

	if (start->kind == HTTP1_RESPONSE)
		return true;
	if (is_torn_method(start->method))
		return false;
	for (size_t i = 0; i < target.size; i++)
		if (target.data[i] <= ' ' || target.data[i] == 0x7f)
			return false;
	return bytes__equal(target, bytes__str("*")) ||
	       target_verdict(start->method, target) == VERDICT_YES;
}

bool http1_start__known(const struct http1_start *start)
{
	return start->kind == HTTP1_RESPONSE || is_known_method(start->method, true);
}

static enum verdict detect_request(struct bytes head)
{
	size_t space = bytes__find(head, ' ');
	struct bytes method = bytes__first(head, space);
	size_t line_end = bytes__find(head, '\n');
	struct http1_start start;
	struct bytes line;

	if (method.size > HTTP1_METHOD_MAX_BYTES || !is_token(method))
		return VERDICT_NO;
	if (space == head.size)
		return VERDICT_MORE;
	if (!method.size || bytes__equal(method, bytes__str("PRI"))) /* HTTP/2, RFC 9113 3.4 */
		return VERDICT_NO;
	if (is_known_method(method, true))
		return target_verdict(method, bytes__from(head, space + 1));
	if (line_end == head.size)
		return VERDICT_MORE;
	line = bytes__first(head, line_end);
	if (line.size && line.data[line.size - 1] == '\r')
		line.size--;
	return http1_start__parse(line, HTTP1_REQUEST, false, &start) ? VERDICT_YES : VERDICT_NO;
}

enum verdict http1__detect(struct bytes head, bool from_start)
{
	bool all = head.size >= DETECT_MAX_BYTES;
	enum verdict verdict;
	size_t skip = 0;

	head = bytes__first(head, DETECT_MAX_BYTES);
	while (skip < head.size && skip < DETECT_MAX_CRLF &&
	       (head.data[skip] == '\r' || head.data[skip] == '\n'))
		skip++;
	head = bytes__from(head, skip);
	if (!head.size)
		return VERDICT_MORE;
	if (response_possible(head))
		verdict = head.size >= 8 ? VERDICT_YES : VERDICT_MORE;
	else
		verdict = detect_request(head);
	return verdict == VERDICT_MORE && all ? VERDICT_NO : verdict;
}

/* The size of a scheme that "://" follows, or 0. */
static size_t scheme_size(struct bytes target)
{
	size_t size = 0;

	while (size < target.size && (is_alnum(target.data[size]) ||
				      (target.data[size] && strchr("+-.", target.data[size]))))
		size++;
	return starts_with(bytes__from(target, size), bytes__str("://")) ? size : 0;
}

struct http1_target http1_target__parse(struct bytes method, struct bytes target)
{
	struct http1_target parts = {0};
	size_t size = scheme_size(target);

	if (bytes__equal(method, bytes__str("CONNECT"))) {
		parts.authority = target;
		return parts;
	}
	if (size) {
		struct bytes rest = bytes__from(target, size + 3);
		size_t at = 0;

		parts.scheme = bytes__first(target, size);
		for (size = 0; size < rest.size; size++) {
			if (rest.data[size] == '/' || rest.data[size] == '?')
				break;
			if (rest.data[size] == '@')
				at = size + 1;
		}
		parts.authority = bytes__from(bytes__first(rest, size), at);
		target = bytes__from(rest, size);
	}
	parts.path = bytes__first(target, bytes__find(target, '?'));
	if (parts.path.size < target.size)
		parts.query = bytes__from(target, parts.path.size + 1);
	return parts;
}

void http1_framing__reset(struct http1_framing *framing)
{
	struct buf value = framing->value;

	*framing = (struct http1_framing){.value = value};
	framing->value.max = FRAMING_MAX_BYTES;
	buf__clear(&framing->value);
}

void http1_framing__free(struct http1_framing *framing)
{
	buf__free(&framing->value);
}

static bool parse_length(struct bytes text, uint64_t *ret_length)
{
	uint64_t length = 0;

	if (!text.size)
		return false;
	for (size_t i = 0; i < text.size; i++) {
		if (!is_digit(text.data[i]) || length > (INT64_MAX - 9) / 10)
			return false;
		length = length * 10 + (text.data[i] - '0');
	}
	*ret_length = length;
	return true;
}

/* RFC 9112 6.3: a list of equal lengths counts as one of them. */
static void add_length(struct http1_framing *framing, struct bytes item)
{
	uint64_t length;

	if (!parse_length(item, &length) || (framing->has_length && framing->length != length)) {
		framing->bad_length = true;
		return;
	}
	framing->has_length = true;
	framing->length = length;
}

/* RFC 9112 6.1 and 7; identity is RFC 2616's word for none, still sent. */
static void add_coding(struct http1_framing *framing, struct bytes item)
{
	if (!item.size || bytes__equal_nocase(item, bytes__str("identity")))
		return;
	framing->coded = true;
	framing->chunked = bytes__equal_nocase(item, bytes__str("chunked"));
}

void http1_framing__close(struct http1_framing *framing)
{
	struct bytes list = buf__view(&framing->value);
	bool more = true;

	while (framing->open && more) {
		size_t comma = bytes__find(list, ',');
		struct bytes item = bytes__trim(bytes__first(list, comma));

		more = comma < list.size;
		if (framing->open == HTTP1_FRAMING_LENGTH)
			add_length(framing, item);
		else
			add_coding(framing, item);
		if (more)
			list = bytes__from(list, comma + 1);
	}
	framing->open = HTTP1_FRAMING_NONE;
	buf__clear(&framing->value);
}

/* Adds to the open field; one that is not whole says nothing that can be relied on. */
static int framing__append(struct http1_framing *framing, struct bytes more, bool cut)
{
	int err = buf__append(&framing->value, more);

	if (err != -ENOSPC && !cut)
		return err;
	if (framing->open == HTTP1_FRAMING_LENGTH)
		framing->bad_length = true;
	else
		framing->bad_coding = true;
	return 0;
}

int http1_framing__field(struct http1_framing *framing, struct bytes name, struct bytes value,
			 bool cut)
{
	if (framing->open)
		http1_framing__close(framing);
	if (bytes__equal_nocase(name, bytes__str("content-length")))
		framing->open = HTTP1_FRAMING_LENGTH;
	else if (bytes__equal_nocase(name, bytes__str("transfer-encoding")))
		framing->open = HTTP1_FRAMING_CODING;
	else
		return 0;
	return framing__append(framing, value, cut);
}

int http1_framing__fold(struct http1_framing *framing, struct bytes more, bool cut)
{
	int err;

	if (!framing->open)
		return 0;
	err = framing__append(framing, bytes__str(" "), false);
	return err ? err : framing__append(framing, more, cut);
}
