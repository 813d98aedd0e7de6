/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes a recording made by hand to standard output, so that replay can be tested where nothing
 * can be traced: a client's two exchanges on one connection (the second response in pieces, one
 * of them with bytes left out), a third that is never answered, and the end.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "capture/recording.h"

#define PID	    4321
#define MILLISECOND 1000000ull

static uint64_t now_ns = 1000 * MILLISECOND;
static uint64_t positions[2];

static struct wire_header header(uint8_t type, size_t size)
{
	now_ns += MILLISECOND;
	return (struct wire_header){
		.size = (uint32_t)size, .type = type, .time_ns = now_ns, .pid = PID, .tid = PID};
}

static void put(const void *data, size_t size)
{
	fwrite(data, 1, size, stdout);
}

static void put_head(void)
{
	struct recording_head head = {.version = WIRE_VERSION,
				      .clock_offset_ns = 1767323045 * 1000000000ll};

	memcpy(head.magic, "tlstrace", sizeof(head.magic));
	put(&head, sizeof(head));
}

static void put_process(const char *path)
{
	struct wire_process process = {
		.header = header(WIRE_PROCESS, sizeof(process) + strlen(path))};

	put(&process, sizeof(process));
	put(path, strlen(path));
}

/* `uncaptured` bytes passed after those of `text` that were left out on purpose. */
static void put_data(enum wire_direction direction, const char *text, size_t uncaptured)
{
	size_t size = strlen(text);
	struct wire_data data = {
		.header = header(WIRE_DATA, sizeof(data) + size),
		.connection = {.object = 0x5555, .generation = 1},
		.tuple = {.source = WIRE_TUPLE_NESTED,
			  .ip_version = 4,
			  .local_port = 40210,
			  .peer_port = 8443,
			  .local = {127, 0, 0, 1},
			  .peer = {127, 0, 0, 1}},
		.position = positions[direction],
		.other_position = positions[!direction],
		.moved = (uint32_t)(size + uncaptured),
		.captured = (uint32_t)size,
		.direction = direction,
		.flags = WIRE_FROM_START | WIRE_CALL_START,
	};

	data.start_ns = data.header.time_ns - MILLISECOND / 2;
	positions[direction] += data.moved;
	put(&data, sizeof(data));
	put(text, size);
}

static void put_end(void)
{
	struct wire_end end = {.header = header(WIRE_END, sizeof(end))};

	put(&end, sizeof(end));
}

int main(void)
{
	put_head();
	put_process("/usr/bin/curl");
	put_data(WIRE_WRITE,
		 "GET /first?page=2&token=hush-token HTTP/1.1\r\nHost: api.example\r\n"
		 "Authorization: Bearer hush-bearer\r\n\r\n",
		 0);
	put_data(WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nhello", 0);
	put_data(WIRE_WRITE,
		 "POST /second HTTP/1.1\r\nHost: api.example:8443\r\n"
		 "Content-Length: 3\r\n\r\n",
		 0);
	put_data(WIRE_WRITE, "abc", 0);
	put_data(WIRE_READ, "HTTP/1.1 201 Created\r\nContent-Le", 0);
	put_data(WIRE_READ, "ngth: 1000\r\n\r\n", 0);
	put_data(WIRE_READ, "0123456789", 990);
	put_data(WIRE_WRITE, "GET /unanswered HTTP/1.1\r\nHost: api.example\r\n\r\n", 0);
	put_end();
	return 0;
}
