/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An entry as one line of JSON: the names of the OpenTelemetry semantic conventions, nested at the
 * dots. docs/output.md describes every field. What is not known is left out.
 */
#include "sink/sink.h"
#include "base/decimal.h"
#include "base/json.h"
#include "sink/format.h"

#define NO_FIELD   UINT16_MAX
#define FEW_FIELDS 24

_Static_assert(HEADERS_MAX_FIELDS < NO_FIELD, "indices of fields are 16 bits wide");

/* Fields by name: each that follows another of its name hangs on that one. */
struct groups {
	uint16_t next[HEADERS_MAX_FIELDS]; /* the next of the same name, or NO_FIELD */
	bool follows[HEADERS_MAX_FIELDS];
};

/* Any order does in which equal names, and only they, are equal. */
static int name__compare(struct bytes a, struct bytes b)
{
	if (a.size != b.size)
		return a.size < b.size ? -1 : 1;
	for (size_t i = 0; i < a.size; i++) {
		uint8_t x = ascii__lower(a.data[i]), y = ascii__lower(b.data[i]);

		if (x != y)
			return x < y ? -1 : 1;
	}
	return 0;
}

/*
 * A stable merge sort of the indices in `order`; `scratch` is as long. Own code: qsort allocates
 * and passes no context. Comparing each field with all before it would let a peer that sends 8192
 * of them stop the tracer.
 */
static void fields__sort(const struct entry_field *fields, size_t count, uint16_t *order,
			 uint16_t *scratch)
{
	for (size_t i = 0; i < count; i++)
		order[i] = (uint16_t)i;
	for (size_t width = 1; width < count; width *= 2) {
		for (size_t start = 0; start < count; start += 2 * width) {
			size_t middle = start + width < count ? start + width : count;
			size_t end = middle + width < count ? middle + width : count;
			size_t left = start, right = middle;

			for (size_t i = start; i < end; i++) {
				bool from_right = left == middle ||
						  (right < end &&
						   name__compare(fields[order[right]].name,
								 fields[order[left]].name) < 0);

				scratch[i] = order[from_right ? right++ : left++];
			}
		}
		memcpy(order, scratch, count * sizeof(*order));
	}
}

/*
 * Most messages: less work than sorting as long as there are not many. The names so far are noted
 * by what can be told at a glance, so that most are seen to be new without comparing any.
 */
static void fields__group_few(const struct entry_field *fields, size_t count, struct groups *groups)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < count; i++) {
		struct bytes name = fields[i].name;
		unsigned int glance = name.size ? 5 * ascii__lower(name.data[0]) : 0;
		uint64_t bit = (uint64_t)1 << ((name.size + glance) & 63);
		bool fresh = !(seen & bit);

		seen |= bit;
		groups->next[i] = NO_FIELD;
		groups->follows[i] = false;
		for (size_t j = i; !fresh && j-- && !groups->follows[i];)
			if (bytes__equal_nocase(fields[j].name, name)) {
				groups->next[j] = (uint16_t)i;
				groups->follows[i] = true;
			}
	}
}

static void fields__group_many(const struct entry_field *fields, size_t count,
			       struct groups *groups)
{
	uint16_t order[HEADERS_MAX_FIELDS];

	fields__sort(fields, count, order, groups->next);
	for (size_t i = 0; i < count; i++)
		groups->follows[i] = false;
	for (size_t i = 0; i < count; i++) {
		bool same = i + 1 < count &&
			    !name__compare(fields[order[i]].name, fields[order[i + 1]].name);

		groups->next[order[i]] = same ? order[i + 1] : NO_FIELD;
		if (same)
			groups->follows[order[i + 1]] = true;
	}
}

/* A member name in lower case. The escapes that stand in it are in lower case already. */
static void json__key_lower(struct json *json, struct bytes name)
{
	size_t start = json->out->size;
	uint8_t *data;
	size_t size;

	json__key(json, name);
	data = json->out->data + start;
	size = json->out->size - start;
	for (size_t i = 0; i < size; i++)
		data[i] = ascii__lower(data[i]);
}

static void json__fields(struct json *json, const char *name, const struct entry_fields *fields)
{
	/* A message has no more fields, the parser sees to it. */
	size_t count = fields->count < HEADERS_MAX_FIELDS ? fields->count : HEADERS_MAX_FIELDS;
	struct groups groups;

	if (count <= FEW_FIELDS)
		fields__group_few(fields->fields, count, &groups);
	else
		fields__group_many(fields->fields, count, &groups);
	json__object(json, name);
	for (size_t i = 0; i < count; i++) {
		if (groups.follows[i])
			continue;
		json__key_lower(json, fields->fields[i].name);
		json__array(json, NULL);
		for (size_t j = i; j != NO_FIELD; j = groups.next[j])
			json__string(json, NULL, fields->fields[j].value);
		json__array_end(json);
	}
	json__object_end(json);
}

static void json__known(struct json *json, const char *name, struct bytes value)
{
	if (value.data)
		json__string(json, name, value);
}

static void json__body(struct json *json, uint64_t size)
{
	json__object(json, "body");
	json__uint(json, "size", size);
	json__object_end(json);
}

static void json__http(struct json *json, const struct entry *entry)
{
	if (!entry->has_request && !entry->has_response)
		return;
	json__object(json, "http");
	json__known(json, "upgrade", entry->upgrade);
	if (entry->stream)
		json__string(json, "stream", bytes__str(entry->stream));
	if (entry->has_request) {
		json__object(json, "request");
		json__known(json, "method", entry->method);
		json__fields(json, "header", &entry->request_headers);
		json__body(json, entry->request_body_bytes);
		json__object_end(json);
	}
	if (entry->has_response) {
		json__object(json, "response");
		if (entry->status)
			json__uint(json, "status_code", entry->status);
		json__fields(json, "header", &entry->response_headers);
		json__body(json, entry->response_body_bytes);
		json__fields(json, "trailer", &entry->response_trailers);
		json__object_end(json);
	}
	json__object_end(json);
}

static void json__rpc(struct json *json, const struct entry_rpc *rpc)
{
	static const char *const names[] = {"request_messages", "response_messages"};

	if (!rpc->is_grpc)
		return;
	json__object(json, "rpc");
	json__string(json, "system", bytes__str("grpc"));
	json__known(json, "service", rpc->service);
	json__known(json, "method", rpc->method);
	json__object(json, "grpc");
	if (rpc->has_status)
		json__uint(json, "status_code", rpc->status);
	json__known(json, "status_message", rpc->message);
	for (size_t i = 0; i < 2; i++)
		if (rpc->has_messages[i])
			json__uint(json, names[i], rpc->messages[i]);
	json__object_end(json);
	json__object_end(json);
}

static void json__url(struct json *json, const struct entry *entry)
{
	if (!entry->scheme.data && !entry->path.data && !entry->query.data)
		return;
	json__object(json, "url");
	json__known(json, "scheme", entry->scheme);
	json__known(json, "path", entry->path);
	json__known(json, "query", entry->query);
	json__object_end(json);
}

static void json__server(struct json *json, const struct entry *entry)
{
	if (!entry->server_address.data)
		return;
	json__object(json, "server");
	json__string(json, "address", entry->server_address);
	if (entry->server_port)
		json__uint(json, "port", entry->server_port);
	json__object_end(json);
}

static void json__tuple_end(struct json *json, const char *name, const struct wire_tuple *tuple,
			    enum tuple_end end)
{
	char address[INET6_ADDRSTRLEN];
	uint16_t port;

	if (!tuple__address(tuple, end, address, &port))
		return;
	json__object(json, name);
	json__string(json, "address", bytes__str(address));
	json__uint(json, "port", port);
	json__object_end(json);
}

static void json__tcp(struct json *json, const struct tcp_facts *tcp)
{
	if (!tcp->has_seq && !tcp->has_rtt && !tcp->has_retransmits)
		return;
	json__object(json, "tcp");
	if (tcp->has_seq) {
		json__uint(json, "seq", tcp->seq);
		json__uint(json, "ack", tcp->ack);
	}
	if (tcp->has_rtt)
		json__uint(json, "rtt_us", tcp->rtt_us);
	if (tcp->has_retransmits)
		json__uint(json, "retransmits", tcp->retransmits);
	json__object_end(json);
}

static void json__network(struct json *json, const struct entry *entry)
{
	bool found = entry->tuple.source != WIRE_TUPLE_NONE;
	bool local = entry->tuple.transport == WIRE_UNIX;

	if (!found && !entry->version)
		return;
	json__object(json, "network");
	if (found)
		json__string(json, "transport", bytes__str(local ? "unix" : "tcp"));
	if (entry->version) {
		json__object(json, "protocol");
		json__string(json, "name", bytes__str("http"));
		json__string(json, "version", bytes__str(entry->version));
		json__object_end(json);
	}
	json__tuple_end(json, "local", &entry->tuple, TUPLE_LOCAL);
	json__tuple_end(json, "peer", &entry->tuple, TUPLE_PEER);
	json__tcp(json, &entry->tcp);
	json__object_end(json);
}

static void json__process(struct json *json, const struct entry *entry)
{
	json__object(json, "process");
	json__uint(json, "pid", entry->pid);
	if (entry->executable_path.data) {
		json__object(json, "executable");
		json__known(json, "name", entry->executable_name);
		json__string(json, "path", entry->executable_path);
		json__object_end(json);
	}
	json__object_end(json);
}

/* An object of one member whose value is a word, when there is one. */
static void json__word(struct json *json, const char *object, const char *name, const char *word)
{
	if (!word)
		return;
	json__object(json, object);
	json__string(json, name, bytes__str(word));
	json__object_end(json);
}

static const char *tuple__source(const struct wire_tuple *tuple)
{
	static const char *const words[] = {
		[WIRE_TUPLE_NONE] = "none",
		[WIRE_TUPLE_NESTED] = "nested",
		[WIRE_TUPLE_FD] = "fd",
		[WIRE_TUPLE_CIPHERTEXT] = "ciphertext",
	};

	return words[tuple->source];
}

static void json__capture(struct json *json, const struct entry *entry)
{
	json__object(json, "capture");
	json__string(json, "tuple", bytes__str(tuple__source(&entry->tuple)));
	json__bool(json, "complete", entry->complete);
	if (entry->reason)
		json__string(json, "reason", bytes__str(entry->reason));
	json__uint(json, "lost_bytes", entry->lost_bytes);
	if (entry->unknown_headers)
		json__uint(json, "unknown_headers", entry->unknown_headers);
	json__object_end(json);
}

static void json__timestamp(struct json *json, int64_t time_ns)
{
	static _Thread_local struct second_text cache;
	char text[sizeof(cache.text) + sizeof(".123456Z") - 1];
	unsigned int us;
	struct bytes second = second_text__of(&cache, time_ns, SECOND_UTC, &us);
	char *fraction = text + second.size;

	memcpy(text, second.data, second.size);
	fraction[0] = '.';
	decimal__write(fraction + 7, us, 6);
	fraction[7] = 'Z';
	json__string(json, "timestamp", bytes__of(text, second.size + 8));
}

static int sink_json__format(const struct sink_options *options, const struct entry *entry,
			     struct buf *line)
{
	struct json json = json__begin(line);
	size_t start = line->size;
	int err;

	json__object(&json, NULL);
	json__timestamp(&json, entry->time_unix_ns);
	if (entry->side != SIDE_UNKNOWN)
		json__string(&json, "side",
			     bytes__str(entry->side == SIDE_CLIENT ? "client" : "server"));
	if (entry->has_ttfb)
		json__ms(&json, "ttfb_ms", entry->ttfb_ns);
	if (entry->has_duration)
		json__ms(&json, "duration_ms", entry->duration_ns);
	json__http(&json, entry);
	json__rpc(&json, &entry->rpc);
	json__url(&json, entry);
	json__server(&json, entry);
	json__network(&json, entry);
	json__word(&json, "tls", "library", entry->library);
	json__process(&json, entry);
	json__word(&json, "error", "type", entry->error);
	json__capture(&json, entry);
	json__object_end(&json);

	err = json__end(&json);
	if (!err)
		err = buf__append_byte(line, '\n');
	if (err)
		line->size = start; /* half a line is worse than none */
	return err;
}

const struct sink_ops sink_json = {.name = "json", .format = sink_json__format};
