/* SPDX-License-Identifier: BSD-2-Clause */
/* What entries say of gRPC calls, of HTTP/2 streams that carry another protocol, and of header
 * fields that HPACK did not tell. */
#include "policy/redact.h"
#include "sample.h"
#include "sink/sink.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct sample sample;
static struct redactor *redactor;
static struct buf line;

static void begin(bool show_secrets)
{
	struct policy policy = {.show_secrets = show_secrets,
				.clock_offset_ns = sample_clock_offset_ns};

	memcpy(policy.key, sample_key, sizeof(policy.key));
	cr_assert_eq(redactor__new(&policy, &redactor), 0);
	sample__make(&sample);
	sample.exchange.version = 20;
	buf__init(&line, 1024 * 1024);
}

static void end(void)
{
	redactor__free(redactor);
	sample__free(&sample);
	buf__free(&line);
}

/* The entry as a sink has it. */
static const char *formatted(const struct sink_ops *sink)
{
	struct sink_options options = {.headers = true};
	const struct entry *entry;

	cr_assert_eq(redactor__entry(redactor, &sample.exchange, bytes__str("/x"), &entry), 0);
	buf__clear(&line);
	cr_assert_eq(sink->format(&options, entry, &line), 0);
	cr_assert_eq(buf__append_byte(&line, 0), 0);
	return (const char *)line.data;
}

static void expect_in(const char *text, const char *part)
{
	cr_expect(strstr(text, part), "no %s in %s", part, text);
}

static void expect_not_in(const char *text, const char *part)
{
	cr_expect(!strstr(text, part), "%s in %s", part, text);
}

static void add(struct headers *headers, const char *name, const char *value)
{
	cr_assert_eq(headers__add(headers, bytes__str(name), bytes__str(value)), 0);
}

Test(rpc, a_call)
{
	begin(false);
	sample__set(&sample.exchange.path, "/shop.v1.Cart/Add");
	add(&sample.exchange.request.headers, "content-type", "application/grpc+proto");
	add(&sample.exchange.response.trailers, "grpc-status", "5");
	add(&sample.exchange.response.trailers, "grpc-message",
	    "no%20cart %zz at https://h/?token=hush%");
	sample.exchange.request.has_messages = true;
	sample.exchange.request.messages = 1;
	expect_in(formatted(&sink_json),
		  "\"rpc\":{\"system\":\"grpc\",\"service\":\"shop.v1.Cart\",\"method\":\"Add\","
		  "\"grpc\":{\"status_code\":5,\"status_message\":\"no cart %zz at "
		  "https://h/?token=<redacted:");
	expect_in((const char *)line.data, "\"request_messages\":1}}");
	expect_not_in((const char *)line.data, "response_messages");
	expect_not_in((const char *)line.data, "hush");
	expect_in(formatted(&sink_text), " HTTP/2 [grpc-status: 5]\n");
	end();
}

Test(rpc, a_response_without_messages)
{
	begin(false);
	sample__set(&sample.exchange.path, "/nonsense");
	add(&sample.exchange.request.headers, "content-type", "application/grpc");
	add(&sample.exchange.response.headers, "grpc-status", "0");
	expect_in(formatted(&sink_json),
		  "\"rpc\":{\"system\":\"grpc\",\"grpc\":{\"status_code\":0}}");
	expect_not_in(formatted(&sink_text), "grpc-status: 0]");
	end();
}

Test(rpc, what_is_none)
{
	begin(false);
	add(&sample.exchange.request.headers, "content-type", "application/grpc-web");
	expect_not_in(formatted(&sink_json), "\"rpc\"");
	end();
	/* Only HTTP/2 carries it. */
	begin(false);
	sample.exchange.version = 11;
	add(&sample.exchange.request.headers, "content-type", "application/grpc");
	expect_not_in(formatted(&sink_json), "\"rpc\"");
	end();
}

Test(rpc, status_that_is_none)
{
	static const char *const values[] = {"", "-1", "x", "99999999999"};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		begin(false);
		add(&sample.exchange.request.headers, "content-type", "application/grpc");
		add(&sample.exchange.response.trailers, "grpc-status", values[i]);
		expect_in(formatted(&sink_json), "\"rpc\":{\"system\":\"grpc\"");
		expect_not_in((const char *)line.data, "status_code\":9");
		expect_not_in((const char *)line.data, "\"grpc\":{\"status_code");
		end();
	}
}

Test(rpc, upgrade)
{
	begin(false);
	expect_not_in(formatted(&sink_json), "upgrade");
	sample__set(&sample.exchange.upgrade, "websocket");
	expect_in(formatted(&sink_json), "\"http\":{\"upgrade\":\"websocket\",");
	end();
}

Test(rpc, fields_that_are_not_known)
{
	for (int show = 0; show < 2; show++) {
		begin(show);
		add(&sample.exchange.request.headers, "", "Bearer hush");
		add(&sample.exchange.request.headers, "", "Basic hush");
		sample.exchange.response.headers.unknown = 3;
		sample.exchange.reason = REASON_UNKNOWN_HEADERS;
		expect_in(formatted(&sink_json),
			  show ? "\"?\":[\"Bearer hush\",\"Basic hush\"]" : "\"?\":[\"<redacted:");
		expect_in((const char *)line.data,
			  "\"reason\":\"unknown_headers\",\"lost_bytes\":0,"
			  "\"unknown_headers\":5}");
		if (!show)
			expect_not_in((const char *)line.data, "hush");
		expect_in(formatted(&sink_text),
			  show ? "\n> ?: Bearer hush\n" : "\n> ?: <redacted:");
		end();
	}
}
