/* SPDX-License-Identifier: BSD-2-Clause */
/* The formats, byte for byte. Entries are made by the redactor, as in the program. */
#include "sink/sink.h"
#include "failing_alloc.h"
#include "json_check.h"
#include "policy/redact.h"
#include "sample.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define LINE_MAX_BYTES (16 * 1024 * 1024)
#define EXECUTABLE     "/usr/sbin/nginx"

/* What a test works with. */
struct bench {
	struct sample sample;
	struct redactor *redactor;
	const char *executable;
	struct buf line;
};

static void use_utc(void)
{
	setenv("TZ", "UTC", 1);
	tzset();
}

TestSuite(sink, .init = use_utc);

static void bench__make(struct bench *bench)
{
	struct policy policy = {.show_secrets = true, .clock_offset_ns = sample_clock_offset_ns};

	sample__make(&bench->sample);
	cr_assert_eq(redactor__new(&policy, &bench->redactor), 0);
	bench->executable = EXECUTABLE;
	buf__init(&bench->line, LINE_MAX_BYTES);
}

static void bench__free(struct bench *bench)
{
	sample__free(&bench->sample);
	redactor__free(bench->redactor);
	buf__free(&bench->line);
}

static const struct entry *bench__entry(struct bench *bench)
{
	const struct entry *entry;

	cr_assert_eq(redactor__entry(bench->redactor, &bench->sample.exchange,
				     bytes__str(bench->executable), &entry),
		     0);
	return entry;
}

/* The bench's line as a string. */
static const char *bench__format(struct bench *bench, const struct sink_ops *sink,
				 const struct sink_options *options)
{
	buf__clear(&bench->line);
	cr_assert_eq(sink->format(options, bench__entry(bench), &bench->line), 0);
	cr_assert_null(memchr(bench->line.data, 0, bench->line.size));
	cr_assert_eq(bench->line.data[bench->line.size - 1], '\n');
	if (sink == &sink_json)
		cr_expect(json_check__valid(
			bytes__first(buf__view(&bench->line), bench->line.size - 1)));
	cr_assert_eq(buf__append_byte(&bench->line, 0), 0);
	return (const char *)bench->line.data;
}

static void expect_text(struct bench *bench, const char *expected)
{
	static const struct sink_options options;

	cr_expect_str_eq(bench__format(bench, &sink_text, &options), expected, "\n got %swant %s",
			 (const char *)bench->line.data, expected);
}

static void expect_json(struct bench *bench, const char *expected)
{
	static const struct sink_options options;

	cr_expect_str_eq(bench__format(bench, &sink_json, &options), expected, "\n got %swant %s",
			 (const char *)bench->line.data, expected);
}

static void add(struct headers *headers, const char *name, const char *value)
{
	cr_assert_eq(headers__add(headers, bytes__str(name), bytes__str(value)), 0);
}

Test(sink, names)
{
	cr_expect_eq(sink__find("text"), &sink_text);
	cr_expect_eq(sink__find("json"), &sink_json);
	cr_expect_null(sink__find("jso"));
	cr_expect_null(sink__find(""));
}

Test(sink, json_line)
{
	struct bench bench;

	bench__make(&bench);
	add(&bench.sample.exchange.request.headers, "Host", "api.example");
	add(&bench.sample.exchange.response.headers, "content-type", "application/json");
	expect_json(
		&bench,
		"{\"timestamp\":\"2026-01-02T03:04:05.123456Z\",\"side\":\"server\","
		"\"ttfb_ms\":0.412,\"duration_ms\":0.530,"
		"\"http\":{\"request\":{\"method\":\"GET\",\"header\":{\"host\":[\"api.example\"]},"
		"\"body\":{\"size\":0}},\"response\":{\"status_code\":200,"
		"\"header\":{\"content-type\":[\"application/json\"]},\"body\":{\"size\":1024},"
		"\"trailer\":{}}},"
		"\"url\":{\"scheme\":\"https\",\"path\":\"/v1/items\",\"query\":\"page=2\"},"
		"\"server\":{\"address\":\"api.example\",\"port\":8443},"
		"\"network\":{\"transport\":\"tcp\",\"protocol\":{\"name\":\"http\","
		"\"version\":\"1.1\"},\"local\":{\"address\":\"127.0.0.1\",\"port\":8443},"
		"\"peer\":{\"address\":\"127.0.0.1\",\"port\":40210}},"
		"\"tls\":{\"library\":\"openssl\"},"
		"\"process\":{\"pid\":1234,\"executable\":{\"name\":\"nginx\","
		"\"path\":\"/usr/sbin/nginx\"}},"
		"\"capture\":{\"tuple\":\"nested\",\"complete\":true,\"lost_bytes\":0}}\n");
	bench__free(&bench);
}

Test(sink, json_leaves_out_what_is_not_known)
{
	struct bench bench;
	struct exchange *exchange = &bench.sample.exchange;

	bench__make(&bench);
	bench.sample.connection.tuple = (struct wire_tuple){0};
	bench.sample.connection.side = SIDE_UNKNOWN;
	bench.executable = "";
	exchange->request.begun = false;
	exchange->version = 0;
	exchange->error = "reset";
	exchange->reason = REASON_LOST;
	exchange->response.lost_bytes = 7;
	exchange->response.ended = false;
	exchange->status = 0;
	expect_json(&bench, "{\"timestamp\":\"2026-01-02T03:04:05.123868Z\","
			    "\"http\":{\"response\":{\"header\":{},\"body\":{\"size\":1024},"
			    "\"trailer\":{}}},\"tls\":{\"library\":\"openssl\"},"
			    "\"process\":{\"pid\":1234},\"error\":{\"type\":\"reset\"},"
			    "\"capture\":{\"tuple\":\"none\",\"complete\":false,"
			    "\"reason\":\"lost\",\"lost_bytes\":7}}\n");
	exchange->response.begun = false;
	exchange->request.begun = true;
	exchange->has_query = false;
	sample__set(&exchange->path, "");
	sample__set(&exchange->authority, "");
	bench.sample.connection.tuple =
		(struct wire_tuple){.source = WIRE_TUPLE_NESTED, .ip_version = 9};
	expect_json(&bench, "{\"timestamp\":\"2026-01-02T03:04:05.123456Z\","
			    "\"http\":{\"request\":{\"method\":\"GET\",\"header\":{},"
			    "\"body\":{\"size\":0}}},\"url\":{\"scheme\":\"https\"},"
			    "\"network\":{\"transport\":\"tcp\"},"
			    "\"tls\":{\"library\":\"openssl\"},\"process\":{\"pid\":1234},"
			    "\"error\":{\"type\":\"reset\"},"
			    "\"capture\":{\"tuple\":\"nested\",\"complete\":false,"
			    "\"reason\":\"lost\",\"lost_bytes\":7}}\n");
	bench__free(&bench);
}

static void expect_request_fields(struct bench *bench, const char *expected)
{
	static const struct sink_options options;
	const char *line = bench__format(bench, &sink_json, &options);
	const char *start = strstr(line, "\"header\":");

	cr_assert_not_null(start);
	cr_expect_eq(strncmp(start + 9, expected, strlen(expected)), 0, "\n got %swant %s",
		     start + 9, expected);
}

Test(sink, json_groups_fields_by_name)
{
	struct bench bench;
	struct headers *headers = &bench.sample.exchange.request.headers;

	bench__make(&bench);
	add(headers, "B", "1");
	add(headers, "a", "2");
	add(headers, "b", "3");
	add(headers, "C", "4");
	add(headers, "A", "5");
	add(headers, "B", "1");
	add(headers, "bb", "");
	expect_request_fields(&bench, "{\"b\":[\"1\",\"3\",\"1\"],\"a\":[\"2\",\"5\"],"
				      "\"c\":[\"4\"],\"bb\":[\"\"]},");
	bench__free(&bench);
}

Test(sink, json_escapes_names_and_values)
{
	struct bench bench;
	struct headers *headers = &bench.sample.exchange.request.headers;

	bench__make(&bench);
	add(headers, "X\"\\\n\x1B", "\"\xff\x80");
	add(headers, "\xc3\x84", "\xc3\x84");
	expect_request_fields(&bench, "{\"x\\\"\\\\\\n\\u001b\":[\"\\\"\xef\xbf\xbd\xef\xbf\xbd\"],"
				      "\"\xc3\x84\":[\"\xc3\x84\"]},");
	bench__free(&bench);
}

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

Test(sink, json_many_fields_are_fast)
{
	static const struct sink_options options;
	double start;
	struct bench bench;
	char name[16];

	for (unsigned int distinct = 0; distinct < 2; distinct++) {
		bench__make(&bench);
		for (unsigned int i = 0; i < HEADERS_MAX_FIELDS; i++) {
			snprintf(name, sizeof(name), "n%x", distinct ? i : 0);
			add(&bench.sample.exchange.request.headers, name, "v");
		}
		start = cpu_seconds();
		bench__format(&bench, &sink_json, &options);
		cr_expect_lt(cpu_seconds() - start, 0.3);
		bench__free(&bench);
	}
}

Test(sink, text_line)
{
	struct bench bench;

	bench__make(&bench);
	expect_text(&bench, "03:04:05.123 nginx[1234] <- 127.0.0.1:40210 GET "
			    "https://api.example:8443/v1/items?page=2 200 1024B 0.53ms HTTP/1.1\n");
	bench__free(&bench);
}

Test(sink, text_local_time)
{
	struct bench bench;

	setenv("TZ", "TST-5:45", 1);
	tzset();
	bench__make(&bench);
	expect_text(&bench, "08:49:05.123 nginx[1234] <- 127.0.0.1:40210 GET "
			    "https://api.example:8443/v1/items?page=2 200 1024B 0.53ms HTTP/1.1\n");
	bench__free(&bench);
}

Test(sink, times_around_the_epoch)
{
	static const struct {
		int64_t offset_ns;
		const char *utc, *local;
	} cases[] = {
		{-1000000000, "1970-01-01T00:00:00.000000Z", "00:00:00.000"},
		{-1000000001, "1969-12-31T23:59:59.999999Z", "23:59:59.999"},
		{998999, "1970-01-01T00:00:01.000998Z", "00:00:01.000"},
		{-1000001000, "1969-12-31T23:59:59.999999Z", "23:59:59.999"},
	};
	static const struct sink_options options;
	struct bench bench;

	bench__make(&bench);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct policy policy = {.clock_offset_ns = cases[i].offset_ns};

		redactor__free(bench.redactor);
		cr_assert_eq(redactor__new(&policy, &bench.redactor), 0);
		cr_expect_eq(strncmp(bench__format(&bench, &sink_json, &options) + 14, cases[i].utc,
				     strlen(cases[i].utc)),
			     0);
		cr_expect_eq(strncmp(bench__format(&bench, &sink_text, &options), cases[i].local,
				     strlen(cases[i].local)),
			     0);
	}
	bench__free(&bench);
}

Test(sink, text_unknown_parts)
{
	struct bench bench;
	struct exchange *exchange = &bench.sample.exchange;

	bench__make(&bench);
	bench.sample.connection.tuple = (struct wire_tuple){0};
	bench.executable = "";
	bench.sample.connection.side = SIDE_UNKNOWN;
	exchange->request.begun = false;
	exchange->version = 0;
	expect_text(&bench, "03:04:05.123 -[1234] -- - - - !200 1024B - - [joined_late]\n");
	bench.sample.connection.side = SIDE_CLIENT;
	exchange->request.begun = true;
	exchange->response.begun = false;
	exchange->error = "closed";
	sample__set(&exchange->authority, "");
	expect_text(&bench, "03:04:05.123 -[1234] -> - GET https://-/v1/items?page=2 !- - - - "
			    "[no_response: closed]\n");
	exchange->response.begun = true;
	expect_text(&bench, "03:04:05.123 -[1234] -> - GET https://-/v1/items?page=2 200 1024B "
			    "0.53ms - [closed]\n");
	bench__free(&bench);
}

Test(sink, text_urls)
{
	static const struct {
		const char *method, *scheme, *authority, *path, *query, *expected;
	} cases[] = {
		{"GET", "", "h", "/", NULL, "GET https://h/"},
		{"GET", "", "h:443", "/", "", "GET https://h/?"},
		{"GET", "http", "h:443", "/", NULL, "GET http://h:443/"},
		{"GET", "http", "h", "/", NULL, "GET http://h/"},
		{"GET", "", "[::1]:1", "/", NULL, "GET https://[::1]:1/"},
		{"OPTIONS", "", "h", "*", NULL, "OPTIONS https://h"},
		{"CONNECT", "", "h:22", "", NULL, "CONNECT h:22"},
		{"CONNECT", "https", "h", "/ws", NULL, "CONNECT https://h/ws"},
		{"G\nT", "", "h h", "/a b\t\x7f", "\xff",
		 "G\\x0aT https://h\\x20h/a\\x20b\\x09\\x7f?\\xff"},
		{"GET", "", "h", "/\xc3\xa4\xc2\x85\xe2\x80\xae\xe2\x82", NULL,
		 "GET https://h/\xc3\xa4\\xc2\\x85\\xe2\\x80\\xae\\xe2\\x82"},
	};
	char line[256];
	struct bench bench;

	bench__make(&bench);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct exchange *exchange = &bench.sample.exchange;

		sample__set(&exchange->method, cases[i].method);
		sample__set(&exchange->scheme, cases[i].scheme);
		sample__set(&exchange->authority, cases[i].authority);
		sample__set(&exchange->path, cases[i].path);
		sample__set(&exchange->query, cases[i].query ? cases[i].query : "");
		exchange->has_query = cases[i].query;
		snprintf(line, sizeof(line),
			 "03:04:05.123 nginx[1234] <- 127.0.0.1:40210 %s 200 1024B 0.53ms "
			 "HTTP/1.1\n",
			 cases[i].expected);
		expect_text(&bench, line);
	}
	bench__free(&bench);
}

Test(sink, text_durations)
{
	static const struct {
		uint64_t ns;
		const char *expected;
	} cases[] = {
		{0, "0.00ms"},		{4999, "0.00ms"},	{5000, "0.01ms"},
		{530000, "0.53ms"},	{9994999, "9.99ms"},	{9995000, "10.0ms"},
		{12345678, "12.3ms"},	{99950000, "100ms"},	{123456789, "123ms"},
		{999499999, "999ms"},	{999500000, "1.00s"},	{1240000000, "1.24s"},
		{75000000000, "75.0s"}, {600000000000, "600s"}, {7200000000000, "7200s"},
	};
	char line[256];
	struct bench bench;

	bench__make(&bench);
	for (size_t i = 0; i < COUNT(cases); i++) {
		bench.sample.exchange.response.first_ns = 1000000000;
		bench.sample.exchange.response.last_ns = 1000000000 + cases[i].ns;
		snprintf(line, sizeof(line),
			 "03:04:05.123 nginx[1234] <- 127.0.0.1:40210 GET "
			 "https://api.example:8443/v1/items?page=2 200 1024B %s HTTP/1.1\n",
			 cases[i].expected);
		expect_text(&bench, line);
	}
	bench__free(&bench);
}

Test(sink, addresses)
{
	static const struct sink_options options;
	struct bench bench;
	struct wire_tuple *tuple = &bench.sample.connection.tuple;

	bench__make(&bench);
	*tuple = (struct wire_tuple){.source = WIRE_TUPLE_NESTED,
				     .ip_version = 6,
				     .local_port = 1,
				     .peer_port = 443,
				     .local = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 7},
				     .peer = {[15] = 1}};
	cr_expect(strstr(bench__format(&bench, &sink_text, &options), " <- [::1]:443 GET "));
	cr_expect(strstr(bench__format(&bench, &sink_json, &options),
			 "\"local\":{\"address\":\"10.0.0.7\",\"port\":1},"
			 "\"peer\":{\"address\":\"::1\",\"port\":443}}"));
	memcpy(tuple->peer, tuple->local, sizeof(tuple->peer));
	cr_expect(strstr(bench__format(&bench, &sink_text, &options), " <- 10.0.0.7:443 GET "));
	bench__free(&bench);
}

Test(sink, how_the_socket_was_found)
{
	static const struct sink_options options;
	static const char *const words[] = {"none", "nested", "fd", "ciphertext"};
	struct bench bench;
	char text[32];

	bench__make(&bench);
	for (size_t i = 0; i < COUNT(words); i++) {
		bench.sample.connection.tuple.source = (uint8_t)i;
		snprintf(text, sizeof(text), "\"tuple\":\"%s\"", words[i]);
		cr_expect(strstr(bench__format(&bench, &sink_json, &options), text));
	}
	bench__free(&bench);
}

Test(sink, unix_sockets)
{
	static const struct sink_options options;
	struct bench bench;

	bench__make(&bench);
	bench.sample.connection.tuple =
		(struct wire_tuple){.source = WIRE_TUPLE_NESTED, .transport = WIRE_UNIX};
	bench.sample.exchange.tcp = (struct tcp_facts){.has_rtt = true, .rtt_us = 1};
	cr_expect(strstr(bench__format(&bench, &sink_text, &options), " <- unix GET "));
	cr_expect(strstr(bench__format(&bench, &sink_json, &options),
			 "\"network\":{\"transport\":\"unix\",\"protocol\":{\"name\":\"http\","
			 "\"version\":\"1.1\"}},\"tls\""));
	bench__free(&bench);
}

static bool has_network_tcp(struct bench *bench, const char *text)
{
	static const struct sink_options options;
	const char *line = bench__format(bench, &sink_json, &options);

	return text ? strstr(line, text) != NULL : !strstr(line, "\"tcp\":{");
}

Test(sink, facts_of_tcp)
{
	struct bench bench;
	struct tcp_facts *tcp = &bench.sample.exchange.tcp;

	bench__make(&bench);
	cr_expect(has_network_tcp(&bench, NULL));
	*tcp = (struct tcp_facts){.has_seq = true, .seq = UINT32_MAX};
	cr_expect(
		has_network_tcp(&bench, "\"port\":40210},\"tcp\":{\"seq\":4294967295,\"ack\":0}}"));
	*tcp = (struct tcp_facts){.has_retransmits = true};
	cr_expect(has_network_tcp(&bench, "\"tcp\":{\"retransmits\":0}}"));
	*tcp = (struct tcp_facts){
		.has_seq = true,
		.has_rtt = true,
		.has_retransmits = true,
		.seq = 1,
		.ack = 2,
		.rtt_us = 3,
		.retransmits = 4,
	};
	cr_expect(has_network_tcp(&bench,
				  "\"tcp\":{\"seq\":1,\"ack\":2,\"rtt_us\":3,\"retransmits\":4}}"));
	/* Of whose connection would they be; and of which request. */
	bench.sample.connection.tuple = (struct wire_tuple){0};
	cr_expect(has_network_tcp(&bench, NULL));
	bench.sample.connection.tuple = (struct wire_tuple){.source = 1, .ip_version = 4};
	bench.sample.exchange.request.begun = false;
	cr_expect(has_network_tcp(&bench, NULL));
	bench__free(&bench);
}

Test(sink, text_headers)
{
	static const struct sink_options options = {.headers = true};
	struct bench bench;
	struct exchange *exchange = &bench.sample.exchange;

	bench__make(&bench);
	add(&exchange->request.headers, "Host", "api.example:8443");
	add(&exchange->request.headers, "X-\nY", "a\r\n< HTTP/1.1 500\x1b[31m \xe2\x80\xae");
	add(&exchange->response.headers, "content-type", "text/plain");
	add(&exchange->response.trailers, "grpc-status", "0");
	cr_expect_str_eq(bench__format(&bench, &sink_text, &options),
			 "03:04:05.123 nginx[1234] <- 127.0.0.1:40210 GET "
			 "https://api.example:8443/v1/items?page=2 200 1024B 0.53ms HTTP/1.1\n"
			 "> GET /v1/items?page=2 HTTP/1.1\n"
			 "> Host: api.example:8443\n"
			 "> X-\\x0aY: a\\x0d\\x0a< HTTP/1.1 500\\x1b[31m \\xe2\\x80\\xae\n"
			 "< HTTP/1.1 200\n"
			 "< content-type: text/plain\n"
			 "< grpc-status: 0\n");
	headers__free(&exchange->request.headers);
	headers__free(&exchange->response.headers);
	headers__free(&exchange->response.trailers);
	sample__set(&exchange->method, "CONNECT");
	sample__set(&exchange->path, "");
	exchange->has_query = false;
	exchange->status = 0;
	cr_expect(strstr(bench__format(&bench, &sink_text, &options),
			 "\n> CONNECT api.example:8443 HTTP/1.1\n< HTTP/1.1 -\n"));
	sample__set(&exchange->method, "GET");
	exchange->response.begun = false;
	cr_expect(strstr(bench__format(&bench, &sink_text, &options), "\n> GET - HTTP/1.1\n"));
	bench__free(&bench);
}

Test(sink, text_colours)
{
	static const struct {
		uint16_t status;
		const char *expected;
	} cases[] = {
		{101, " \033[36m101\033[0m "}, {200, " \033[32m200\033[0m "},
		{304, " \033[36m304\033[0m "}, {404, " \033[33m404\033[0m "},
		{503, " \033[31m503\033[0m "}, {0, " \033[31m-\033[0m "},
	};
	static const struct sink_options options = {.colour = true};
	struct bench bench;

	bench__make(&bench);
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *line;

		bench.sample.exchange.status = cases[i].status;
		line = bench__format(&bench, &sink_text, &options);
		cr_expect(strstr(line, cases[i].expected), "%s", line);
		cr_expect_eq(strncmp(line, "\033[2m03:04:05.123\033[0m nginx", 26), 0, "%s", line);
	}
	bench__free(&bench);
}

/* Random bytes everywhere: valid JSON and no control character but the ends of lines. */
Test(sink, hostile_bytes)
{
	static const struct sink_options options = {.headers = true};
	struct bench bench;
	struct exchange *exchange = &bench.sample.exchange;

	srand(1);
	for (unsigned int round = 0; round < 2000; round++) {
		char noise[64];
		size_t size = (size_t)rand() % sizeof(noise);

		for (size_t i = 0; i < size; i++)
			noise[i] = (char)(rand() % 255 + 1);
		noise[size ? size - 1 : 0] = '\0';
		bench__make(&bench);
		bench.executable = noise;
		sample__set(&exchange->method, noise);
		sample__set(&exchange->authority, noise);
		sample__set(&exchange->path, noise);
		sample__set(&exchange->query, noise);
		add(&exchange->request.headers, noise, noise);
		bench__format(&bench, &sink_json, &options);
		bench__format(&bench, &sink_text, &options);
		for (size_t i = 0; i < bench.line.size - 1; i++)
			cr_assert(bench.line.data[i] == '\n' ||
				  (bench.line.data[i] >= 0x20 && bench.line.data[i] != 0x7f));
		bench__free(&bench);
	}
}

Test(sink, failures_leave_nothing)
{
	static const struct sink_ops *const sinks[] = {&sink_text, &sink_json};
	static const struct sink_options options = {.headers = true, .colour = true};
	struct bench bench;
	const struct entry *entry;

	bench__make(&bench);
	add(&bench.sample.exchange.request.headers, "Host", "\xff");
	entry = bench__entry(&bench);
	for (size_t i = 0; i < COUNT(sinks); i++) {
		struct buf line;
		size_t size;
		bool failed = true;

		buf__init(&line, LINE_MAX_BYTES);
		cr_assert_eq(sinks[i]->format(&options, entry, &line), 0);
		size = line.size;
		buf__free(&line);
		for (size_t max = 4; max < 4 + size; max++) {
			buf__init(&line, max);
			cr_assert_eq(buf__append_str(&line, "keep"), 0);
			cr_expect_eq(sinks[i]->format(&options, entry, &line), -ENOSPC);
			cr_expect_eq(line.size, 4u);
			buf__free(&line);
		}
		for (unsigned int nth = 0; failed; nth++) {
			int err;

			buf__init(&line, LINE_MAX_BYTES);
			failing_alloc__arm(nth);
			err = sinks[i]->format(&options, entry, &line);
			failed = failing_alloc__disarm();
			cr_expect_eq(err, failed ? -ENOMEM : 0);
			cr_expect_eq(line.size, failed ? 0 : size);
			buf__free(&line);
		}
	}
	bench__free(&bench);
}
