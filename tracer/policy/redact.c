/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes an entry of an exchange. See redact.h. Everything of the entry is copied into one buffer
 * that may move while it grows, so places in it are offsets until the entry is finished. What a
 * secret is, policy/secrets.c knows.
 */
#include "policy/redact.h"
#include "exchange/stream.h"
#include "policy/grpc.h"
#include "policy/secrets.h"

#include <errno.h>
#include <stdlib.h>

/*
 * All text of one entry. An exchange has at most four blocks of fields and five parts of a start
 * line, and redaction makes 20 bytes of 2 at the worst: it is never reached.
 */
#define TEXT_MAX_BYTES (16 * 1024 * 1024)

_Static_assert(REDACT_KEY_BYTES == SIPHASH_KEY_BYTES, "the policy's key is SipHash's");

/* A place in the text. */
struct span {
	size_t offset;
	size_t size;
	bool known;
};

struct field_span {
	struct span name;
	struct span value;
};

enum block {
	BLOCK_REQUEST,
	BLOCK_RESPONSE,
	BLOCK_TRAILERS,
	BLOCK_COUNT,
};

struct redactor {
	struct policy policy;
	struct secrets secrets;
	struct buf text;
	struct buf name; /* scratch: a field's name in lower case, or a message decoded */
	int err;	 /* of the entry at hand */

	struct field_span *spans;   /* of all blocks, one after the other ... */
	struct entry_field *fields; /* ... and as the entry has them */
	size_t capacity;	    /* of both */
	size_t count;
	struct entry entry;
};

int redactor__new(const struct policy *policy, struct redactor **ret_redactor)
{
	struct redactor *redactor = calloc(1, sizeof(*redactor));

	if (!redactor)
		return -ENOMEM;
	redactor->policy = *policy;
	secrets__init(&redactor->secrets, policy->key);
	buf__init(&redactor->text, TEXT_MAX_BYTES);
	buf__init(&redactor->name, HEADERS_MAX_BYTES);
	*ret_redactor = redactor;
	return 0;
}

void redactor__free(struct redactor *redactor)
{
	if (!redactor)
		return;
	secrets__free(&redactor->secrets);
	buf__free(&redactor->text);
	buf__free(&redactor->name);
	free(redactor->spans);
	free(redactor->fields);
	free(redactor);
}

/* How a value is written: the value of a URL's path, of its query, or as it is. */
typedef int write_fn(struct secrets *secrets, struct bytes value, struct buf *out);

static struct span redactor__write(struct redactor *redactor, struct bytes value, write_fn *write)
{
	struct span span = {.offset = redactor->text.size, .known = true};

	if (redactor->err)
		return span;
	if (write && !redactor->policy.show_secrets)
		redactor->err = write(&redactor->secrets, value, &redactor->text);
	else
		redactor->err = buf__append(&redactor->text, value);
	span.size = redactor->text.size - span.offset;
	return span;
}

/* The same; what is empty is not known. */
static struct span redactor__write_known(struct redactor *redactor, struct bytes value,
					 write_fn *write)
{
	return value.size ? redactor__write(redactor, value, write) : (struct span){0};
}

static struct bytes redactor__view(const struct redactor *redactor, struct span span)
{
	if (!span.known)
		return (struct bytes){0};
	if (!span.size)
		return bytes__str("");
	return bytes__of(redactor->text.data + span.offset, span.size);
}

/* Whether `glob`, in which `*` stands for any bytes, matches all of `text`. */
static bool glob__matches(const char *glob, struct bytes text)
{
	const char *star = NULL;
	size_t pos = 0, star_pos = 0;

	while (pos < text.size) {
		if (*glob == '*') {
			star = glob++;
			star_pos = pos;
		} else if (*glob && (uint8_t)*glob == text.data[pos]) {
			glob++;
			pos++;
		} else if (star) {
			glob = star + 1;
			pos = ++star_pos;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return !*glob;
}

static bool redactor__keeps(struct redactor *redactor, struct bytes name)
{
	const struct policy *policy = &redactor->policy;

	if (!policy->header_glob_count)
		return true;
	buf__clear(&redactor->name);
	for (size_t i = 0; i < name.size && !redactor->err; i++)
		redactor->err = buf__append_byte(&redactor->name, ascii__lower(name.data[i]));
	for (size_t i = 0; i < policy->header_glob_count; i++)
		if (glob__matches(policy->header_globs[i], buf__view(&redactor->name)))
			return true;
	return false;
}

static int redactor__reserve(struct redactor *redactor)
{
	size_t capacity = redactor->capacity ? redactor->capacity * 2 : 64;
	struct field_span *spans;
	struct entry_field *fields;

	if (redactor->count < redactor->capacity)
		return 0;
	spans = realloc(redactor->spans, capacity * sizeof(*spans));
	if (!spans)
		return -ENOMEM;
	redactor->spans = spans;
	fields = realloc(redactor->fields, capacity * sizeof(*fields));
	if (!fields)
		return -ENOMEM;
	redactor->fields = fields;
	redactor->capacity = capacity;
	return 0;
}

static void redactor__add_field(struct redactor *redactor, struct bytes name, struct bytes value)
{
	struct field_span span = {
		.name = redactor__write(redactor, name.size ? name : bytes__str("?"), NULL),
	};

	if (redactor->err)
		return;
	span.value = (struct span){.offset = redactor->text.size, .known = true};
	if (redactor->policy.show_secrets)
		redactor->err = buf__append(&redactor->text, value);
	else if (!name.size) /* it may be Authorization */
		redactor->err = secrets__whole(&redactor->secrets, value, &redactor->text);
	else
		redactor->err = secrets__header(&redactor->secrets, name, value, &redactor->text);
	span.value.size = redactor->text.size - span.value.offset;
	if (!redactor->err)
		redactor->err = redactor__reserve(redactor);
	if (!redactor->err)
		redactor->spans[redactor->count++] = span;
}

/* Adds what is kept of a block; returns how many fields that is. */
static size_t redactor__add_block(struct redactor *redactor, const struct headers *headers)
{
	size_t first = redactor->count;

	for (size_t i = 0; i < headers->count && !redactor->err; i++) {
		struct bytes name = headers__name(headers, i);

		if (redactor__keeps(redactor, name))
			redactor__add_field(redactor, name, headers__value(headers, i));
	}
	return redactor->count - first;
}

static uint16_t port__parse(struct bytes text, uint16_t fallback)
{
	uint32_t port = 0;

	if (!text.size)
		return fallback;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return 0;
		port = port * 10 + (text.data[i] - '0');
		if (port > UINT16_MAX)
			return 0;
	}
	return (uint16_t)port;
}

/*
 * Splits an authority (RFC 3986 3.2) into host and port. The userinfo is left out: it is of no
 * use to anybody and the place where passwords are. IPv6 addresses lose their brackets.
 */
static void authority__split(struct bytes authority, uint16_t default_port,
			     struct bytes *ret_address, uint16_t *ret_port)
{
	const uint8_t *at = authority.size ? memrchr(authority.data, '@', authority.size) : NULL;
	struct bytes address, port = {0};
	size_t end;

	if (at)
		authority = bytes__from(authority, (size_t)(at - authority.data) + 1);
	address = authority;
	if (authority.size && authority.data[0] == '[') {
		end = bytes__find(authority, ']');
		address = bytes__from(bytes__first(authority, end), 1);
		port = bytes__from(authority, end + 1);
		if (port.size)
			port = port.data[0] == ':' ? bytes__from(port, 1) : bytes__str("?");
	} else {
		end = bytes__find(authority, ':');
		port = bytes__from(authority, end + 1);
		if (bytes__find(port, ':') < port.size)
			port = (struct bytes){0}; /* IPv6 without its brackets */
		else
			address = bytes__first(authority, end);
	}
	*ret_address = address;
	*ret_port = address.size ? port__parse(port, default_port) : 0;
}

static uint16_t scheme__port(struct bytes scheme)
{
	if (!scheme.size || bytes__equal_nocase(scheme, bytes__str("https")))
		return 443;
	return bytes__equal_nocase(scheme, bytes__str("http")) ? 80 : 0;
}

static const char *version__name(uint8_t version)
{
	switch (version) {
	case 10:
		return "1.0";
	case 11:
		return "1.1";
	case 20:
		return "2";
	}
	return NULL;
}

static const char *library__name(enum wire_library library)
{
	switch (library) {
	case WIRE_OPENSSL:
		return "openssl";
	case WIRE_BORINGSSL:
		return "boringssl";
	case WIRE_GO:
		return "go";
	}
	return NULL;
}

static const char *stream__name(enum stream stream)
{
	switch (stream) {
	case STREAM_NONE:
		return NULL;
	case STREAM_EVENTS:
		return "sse";
	case STREAM_WEBSOCKET:
		return "websocket";
	}
	return NULL;
}

static const char *reason__name(enum reason reason)
{
	switch (reason) {
	case REASON_NONE:
		return NULL;
	case REASON_JOINED_LATE:
		return "joined_late";
	case REASON_LOST:
		return "lost";
	case REASON_TRUNCATED:
		return "truncated";
	case REASON_NO_RESPONSE:
		return "no_response";
	case REASON_UNKNOWN_HEADERS:
		return "unknown_headers";
	case REASON_DESYNC:
		return "desync";
	}
	return NULL;
}

static bool message__truncated(const struct message *message)
{
	return message->headers.truncated || message->trailers.truncated;
}

/* Why the exchange is not complete, REASON_NONE where it is. */
static enum reason exchange__reason(const struct exchange *exchange)
{
	const struct message *request = &exchange->request, *response = &exchange->response;

	if (exchange->reason != REASON_NONE)
		return exchange->reason;
	if (request->lost_bytes || response->lost_bytes)
		return REASON_LOST;
	if (!request->begun)
		return REASON_JOINED_LATE;
	if (!response->begun || !response->ended)
		return REASON_NO_RESPONSE;
	if (!request->ended || message__truncated(request) || message__truncated(response))
		return REASON_TRUNCATED;
	return REASON_NONE;
}

static void entry__set_times(struct entry *entry, const struct exchange *exchange,
			     int64_t clock_offset_ns)
{
	const struct message *request = &exchange->request, *response = &exchange->response;
	uint64_t start_ns = request->begun ? request->first_ns : response->first_ns;

	entry->time_unix_ns = (int64_t)start_ns + clock_offset_ns;
	if (!request->begun || !response->begun)
		return;
	if (response->first_ns >= start_ns) {
		entry->has_ttfb = true;
		entry->ttfb_ns = response->first_ns - start_ns;
	}
	if (response->ended && response->last_ns >= start_ns) {
		entry->has_duration = true;
		entry->duration_ns = response->last_ns - start_ns;
	}
}

static void entry__set_connection(struct entry *entry, const struct exchange *exchange)
{
	const struct connection *connection = exchange->connection;

	entry->side = connection->side;
	entry->library = library__name(connection->library);
	entry->tuple = connection->tuple;
	if (exchange->request.begun && entry->tuple.source != WIRE_TUPLE_NONE &&
	    entry->tuple.transport == WIRE_TCP)
		entry->tcp = exchange->tcp;
	entry->pid = connection->pid;
}

/* The kernel's name for an executable whose file is gone ends so. */
static struct bytes executable__path(struct bytes path)
{
	struct bytes deleted = bytes__str(" (deleted)");

	if (path.size > deleted.size &&
	    bytes__equal(bytes__from(path, path.size - deleted.size), deleted))
		path.size -= deleted.size;
	return path;
}

static struct bytes path__basename(struct bytes path)
{
	const uint8_t *slash = path.size ? memrchr(path.data, '/', path.size) : NULL;

	return slash ? bytes__from(path, (size_t)(slash - path.data) + 1) : path;
}

/* The strings of an entry while the text may still move. */
struct entry_spans {
	struct span method, scheme, path, query, address, name, executable, upgrade;
	struct span rpc_service, rpc_method, rpc_message;
	size_t fields[BLOCK_COUNT];
};

static void redactor__add_request(struct redactor *redactor, const struct exchange *exchange,
				  struct entry_spans *spans)
{
	struct bytes method = buf__view(&exchange->method);
	struct bytes scheme = buf__view(&exchange->scheme);
	bool connects = bytes__equal(method, bytes__str("CONNECT"));
	struct bytes address;

	authority__split(buf__view(&exchange->authority), scheme__port(scheme), &address,
			 &redactor->entry.server_port);
	/* The target of CONNECT is a host and port without a scheme (RFC 9110 9.3.6). */
	if (!scheme.size && !connects)
		scheme = bytes__str("https");
	spans->method = redactor__write_known(redactor, method, NULL);
	spans->scheme = redactor__write_known(redactor, scheme, NULL);
	spans->path = redactor__write_known(redactor, buf__view(&exchange->path), secrets__url);
	if (exchange->has_query)
		spans->query =
			redactor__write(redactor, buf__view(&exchange->query), secrets__query);
	spans->address = redactor__write_known(redactor, address, NULL);
	spans->upgrade = redactor__write_known(redactor, buf__view(&exchange->upgrade), NULL);
	spans->fields[BLOCK_REQUEST] = redactor__add_block(redactor, &exchange->request.headers);
}

/* As the value of grpc-message would be, but decoded. */
static struct span redactor__write_message(struct redactor *redactor, struct bytes message)
{
	struct span span = {.offset = redactor->text.size, .known = message.data};
	struct bytes decoded;

	if (!message.data || redactor->err)
		return span;
	buf__clear(&redactor->name);
	redactor->err = grpc__decode(message, &redactor->name);
	decoded = buf__view(&redactor->name);
	if (!redactor->err && redactor->policy.show_secrets)
		redactor->err = buf__append(&redactor->text, decoded);
	else if (!redactor->err)
		redactor->err = secrets__header(&redactor->secrets, bytes__str("grpc-message"),
						decoded, &redactor->text);
	span.size = redactor->text.size - span.offset;
	return span;
}

static void redactor__add_rpc(struct redactor *redactor, const struct exchange *exchange,
			      struct entry_spans *spans)
{
	const struct message *messages[] = {&exchange->request, &exchange->response};
	struct entry_rpc *rpc = &redactor->entry.rpc;
	struct grpc grpc;

	if (!grpc__of(exchange, &grpc))
		return;
	rpc->is_grpc = true;
	rpc->has_status = grpc.has_status;
	rpc->status = grpc.status;
	for (size_t i = 0; i < 2; i++) {
		rpc->has_messages[i] = messages[i]->has_messages;
		rpc->messages[i] = messages[i]->messages;
	}
	spans->rpc_service = redactor__write_known(redactor, grpc.service, secrets__url);
	spans->rpc_method = redactor__write_known(redactor, grpc.method, secrets__url);
	spans->rpc_message = redactor__write_message(redactor, grpc.message);
}

/* Fields that were sent and cannot be shown as they were. */
static uint64_t message__unknown(const struct message *message)
{
	const struct headers *blocks[] = {&message->headers, &message->trailers};
	uint64_t count = 0;

	for (size_t b = 0; b < 2; b++) {
		count += blocks[b]->unknown;
		for (size_t i = 0; i < blocks[b]->count; i++)
			count += !headers__name(blocks[b], i).size;
	}
	return count;
}

/* The text is complete and stays where it is: turns places into views. */
static void redactor__resolve(struct redactor *redactor, const struct entry_spans *spans)
{
	struct entry *entry = &redactor->entry;
	struct entry_fields *blocks[BLOCK_COUNT] = {
		[BLOCK_REQUEST] = &entry->request_headers,
		[BLOCK_RESPONSE] = &entry->response_headers,
		[BLOCK_TRAILERS] = &entry->response_trailers,
	};
	const struct entry_field *next = redactor->fields;

	for (size_t i = 0; i < redactor->count; i++)
		redactor->fields[i] = (struct entry_field){
			.name = redactor__view(redactor, redactor->spans[i].name),
			.value = redactor__view(redactor, redactor->spans[i].value),
		};
	for (size_t i = 0; i < BLOCK_COUNT; i++) {
		*blocks[i] = (struct entry_fields){.fields = next, .count = spans->fields[i]};
		if (spans->fields[i])
			next += spans->fields[i];
	}
	entry->method = redactor__view(redactor, spans->method);
	entry->scheme = redactor__view(redactor, spans->scheme);
	entry->path = redactor__view(redactor, spans->path);
	entry->query = redactor__view(redactor, spans->query);
	entry->upgrade = redactor__view(redactor, spans->upgrade);
	entry->rpc.service = redactor__view(redactor, spans->rpc_service);
	entry->rpc.method = redactor__view(redactor, spans->rpc_method);
	entry->rpc.message = redactor__view(redactor, spans->rpc_message);
	entry->server_address = redactor__view(redactor, spans->address);
	entry->executable_name = redactor__view(redactor, spans->name);
	entry->executable_path = redactor__view(redactor, spans->executable);
}

int redactor__entry(struct redactor *redactor, const struct exchange *exchange,
		    struct bytes executable, const struct entry **ret_entry)
{
	const struct message *request = &exchange->request, *response = &exchange->response;
	struct entry *entry = &redactor->entry;
	struct entry_spans spans = {0};

	buf__clear(&redactor->text);
	redactor->count = 0;
	redactor->err = 0;
	*entry = (struct entry){
		.is_open = exchange->is_open,
		.has_request = request->begun,
		.request_body_bytes = request->body_bytes,
		.has_response = response->begun,
		.response_body_bytes = response->body_bytes,
		.status = response->begun ? exchange->status : 0,
		.stream = stream__name(exchange__stream(exchange)),
		.version = version__name(exchange->version),
		.error = exchange->error,
		.reason = reason__name(exchange__reason(exchange)),
		.lost_bytes = request->lost_bytes + response->lost_bytes,
		.unknown_headers = message__unknown(request) + message__unknown(response),
	};
	entry->complete = !entry->reason;
	entry__set_times(entry, exchange, redactor->policy.clock_offset_ns);
	entry__set_connection(entry, exchange);

	if (request->begun)
		redactor__add_request(redactor, exchange, &spans);
	if (response->begun) {
		spans.fields[BLOCK_RESPONSE] = redactor__add_block(redactor, &response->headers);
		spans.fields[BLOCK_TRAILERS] = redactor__add_block(redactor, &response->trailers);
	}
	redactor__add_rpc(redactor, exchange, &spans);
	executable = executable__path(executable);
	spans.name = redactor__write_known(redactor, path__basename(executable), NULL);
	spans.executable = redactor__write_known(redactor, executable, NULL);
	if (redactor->err)
		return -ENOMEM;
	redactor__resolve(redactor, &spans);
	*ret_entry = entry;
	return 0;
}
