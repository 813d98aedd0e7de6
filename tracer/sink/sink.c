/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of sinks, and what they have in common. See sink.h and format.h. */
#include "sink/sink.h"
#include "base/decimal.h"
#include "sink/format.h"

#include <arpa/inet.h>
#include <time.h>

#define NS_PER_SECOND 1000000000

static const struct sink_ops *const sinks[] = {&sink_text, &sink_json};

const struct sink_ops *sink__find(const char *name)
{
	for (size_t i = 0; i < sizeof(sinks) / sizeof(sinks[0]); i++)
		if (!strcmp(sinks[i]->name, name))
			return sinks[i];
	return NULL;
}

static void second_text__make(struct second_text *cache, enum second_style style)
{
	time_t when = (time_t)cache->second;
	struct tm parts;
	size_t size = 0;

	if (style == SECOND_UTC && gmtime_r(&when, &parts))
		size = strftime(cache->text, sizeof(cache->text), "%Y-%m-%dT%H:%M:%S", &parts);
	else if (style == SECOND_LOCAL && localtime_r(&when, &parts))
		size = strftime(cache->text, sizeof(cache->text), "%H:%M:%S", &parts);
	cache->size = size;
}

struct bytes second_text__of(struct second_text *cache, int64_t time_ns, enum second_style style,
			     unsigned int *ret_us)
{
	int64_t second = time_ns / NS_PER_SECOND, ns = time_ns % NS_PER_SECOND;

	if (ns < 0) {
		second--;
		ns += NS_PER_SECOND;
	}
	*ret_us = (unsigned int)(ns / 1000);
	if (!cache->valid || cache->second != second) {
		cache->second = second;
		second_text__make(cache, style);
		cache->valid = true;
	}
	return bytes__of(cache->text, cache->size);
}

/* 127.0.0.1; the C library makes it by printf. */
static void ipv4__text(const uint8_t address[4], char ret_text[INET_ADDRSTRLEN])
{
	char text[INET_ADDRSTRLEN], *end = text + sizeof(text), *start = end;

	*--start = '\0';
	for (size_t i = 4; i--;) {
		start = decimal__write(start, address[i], 1);
		if (i)
			*--start = '.';
	}
	memcpy(ret_text, start, (size_t)(end - start));
}

bool tuple__address(const struct wire_tuple *tuple, enum tuple_end end,
		    char ret_address[INET6_ADDRSTRLEN], uint16_t *ret_port)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint8_t *address = end == TUPLE_LOCAL ? tuple->local : tuple->peer;
	bool ipv4 = tuple->ip_version == 4;

	if (tuple->source == WIRE_TUPLE_NONE)
		return false;
	if (!ipv4 && tuple->ip_version != 6)
		return false;
	if (!ipv4 && !memcmp(address, mapped, sizeof(mapped))) {
		ipv4 = true;
		address += sizeof(mapped);
	}
	if (ipv4)
		ipv4__text(address, ret_address);
	else if (!inet_ntop(AF_INET6, address, ret_address, INET6_ADDRSTRLEN))
		return false;
	*ret_port = end == TUPLE_LOCAL ? tuple->local_port : tuple->peer_port;
	return true;
}
