/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes a recording made by hand to standard output, so that replay can be tested where nothing
 * can be traced: a client's two exchanges on one connection (the second response in pieces, one
 * of them with bytes left out) and a third that is never answered; an exchange over a Unix socket
 * that is found after it, one whose socket is not found; and the end.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "capture/recording.h"

#define PID	    4321
#define MILLISECOND 1000000ull

struct peer {
	struct wire_connection connection;
	struct wire_tuple tuple;
	struct wire_tcp tcp;
	uint64_t positions[2];
};

static uint64_t now_ns = 1000 * MILLISECOND;

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
static void put_data(struct peer *peer, enum wire_direction direction, const char *text,
		     size_t uncaptured)
{
	size_t size = strlen(text);
	struct wire_data data = {
		.header = header(WIRE_DATA, sizeof(data) + size),
		.connection = peer->connection,
		.tuple = peer->tuple,
		.position = peer->positions[direction],
		.other_position = peer->positions[!direction],
		.tcp = peer->tcp,
		.moved = (uint32_t)(size + uncaptured),
		.captured = (uint32_t)size,
		.direction = direction,
		.flags = WIRE_FROM_START | WIRE_CALL_START,
	};

	if (peer->tcp.seq)
		data.flags |= WIRE_TCP_SEQ | WIRE_TCP_STATE;

	data.start_ns = data.header.time_ns - MILLISECOND / 2;
	peer->positions[direction] += data.moved;
	put(&data, sizeof(data));
	put(text, size);
}

static void put_socket(struct peer *peer)
{
	struct wire_socket found = {
		.header = header(WIRE_SOCKET, sizeof(found)),
		.connection = peer->connection,
		.tuple = peer->tuple,
	};

	put(&found, sizeof(found));
}

static void put_tick(void)
{
	struct wire_header tick = header(WIRE_TICK, sizeof(tick));

	put(&tick, sizeof(tick));
}

/* A request for `path`, and its response of two bytes. */
static void put_exchange(struct peer *peer, const char *path)
{
	char request[128];

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: api.example\r\n\r\n", path);
	put_data(peer, WIRE_WRITE, request, 0);
	put_data(peer, WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0);
}

static void put_end(void)
{
	struct wire_end end = {.header = header(WIRE_END, sizeof(end))};

	put(&end, sizeof(end));
}

int main(void)
{
	struct peer tcp = {
		.connection = {.object = 0x5555, .generation = 1},
		.tuple = {.source = WIRE_TUPLE_NESTED,
			  .ip_version = 4,
			  .local_port = 40210,
			  .peer_port = 8443,
			  .local = {127, 0, 0, 1},
			  .peer = {127, 0, 0, 1}},
		.tcp = {.seq = 4000000000, .ack = 7, .rtt_us = 55, .retransmits = 1},
	};
	struct peer local = {.connection = {.object = 0x6666, .generation = 1}};
	struct peer lost = {.connection = {.object = 0x7777, .generation = 1}};

	put_head();
	put_process("/usr/bin/curl");
	put_data(&tcp, WIRE_WRITE,
		 "GET /first?page=2&token=hush-token HTTP/1.1\r\nHost: api.example\r\n"
		 "Authorization: Bearer hush-bearer\r\n\r\n",
		 0);
	put_data(&tcp, WIRE_READ, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nhello",
		 0);
	put_data(&tcp, WIRE_WRITE,
		 "POST /second HTTP/1.1\r\nHost: api.example:8443\r\n"
		 "Content-Length: 3\r\n\r\n",
		 0);
	put_data(&tcp, WIRE_WRITE, "abc", 0);
	put_data(&tcp, WIRE_READ, "HTTP/1.1 201 Created\r\nContent-Le", 0);
	put_data(&tcp, WIRE_READ, "ngth: 1000\r\n\r\n", 0);
	put_data(&tcp, WIRE_READ, "0123456789", 990);
	put_data(&tcp, WIRE_WRITE, "GET /unanswered HTTP/1.1\r\nHost: api.example\r\n\r\n", 0);
	put_exchange(&local, "/unix");
	local.tuple.source = WIRE_TUPLE_FD;
	local.tuple.transport = WIRE_UNIX;
	put_socket(&local);
	put_exchange(&lost, "/lost");
	now_ns += 100 * MILLISECOND;
	put_tick();
	put_end();
	return 0;
}
