/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections and their streams: gives each event to the parser of its connection, in the order of
 * stream positions, with the gaps between. Decides which protocol a connection speaks, and says
 * what the probes need not capture of it. Knows processes by what their executable is.
 */
#ifndef TLSTRACE_FLOW_H
#define TLSTRACE_FLOW_H

#include "exchange/pairing.h"
#include "intake/intake.h"

/* Connections held at once; the one that was quiet longest is given up beyond. */
#define FLOW_MAX_CONNECTIONS 65536

/* Processes known at once; what further ones do is left out and counted. */
#define FLOW_MAX_PROCESSES 65536

/*
 * What the probes may leave out of a stream from now on: all bytes before `skip_until`
 * (UINT64_MAX: all); the bodies that the walk `walk_from` (WIRE_WALK_FROM; 0: none) is in; and
 * where `watch` is set, every call that does not begin as a message would.
 */
struct directive {
	uint32_t pid;
	struct wire_connection connection;
	enum wire_direction direction;
	uint64_t skip_until;
	uint64_t walk_from;
	uint64_t position; /* up to which the stream had been seen */
	bool watch;
};

/*
 * The HPACK table of a stream, which was joined late, is wanted of the target itself, or is not any
 * more. It is asked for again where none came, or none that served.
 */
struct table_request {
	uint32_t pid;
	struct wire_connection connection;
	enum wire_direction direction;
	bool want;
};

struct flow_callbacks {
	void *context;
	/* An exchange ended. `executable` is its process's, empty when not known. */
	void (*exchange)(void *context, const struct exchange *exchange, struct bytes executable);
	/* One has lasted and goes on (underway.h). NULL where nobody wants to know. */
	void (*underway)(void *context, const struct exchange *exchange, struct bytes executable);
	/* NULL where there are no probes to tell. */
	void (*directive)(void *context, const struct directive *directive);
	/* NULL as above. */
	void (*table)(void *context, const struct table_request *request);
	/* A connection is over: what was said of it is void. NULL as above. */
	void (*forget)(void *context, uint32_t pid, const struct wire_connection *connection);
};

struct flow_counts {
	uint64_t connections;	/* seen */
	uint64_t not_http;	/* of them, recognised as something else and left alone */
	uint64_t evicted;	/* given up for FLOW_MAX_CONNECTIONS */
	uint64_t out_of_memory; /* events that could not be handled */
	uint64_t bytes_captured;
	struct protocol_counts protocol;
};

struct flow;

/* 0 or -ENOMEM. */
int flow__new(const struct flow_callbacks *callbacks, struct flow **ret_flow);
void flow__free(struct flow *flow);

/*
 * Takes the next event. EVENT_END gives up all connections, unless it says enough. Never fails:
 * what memory is missing for is counted and treated as lost.
 *
 * An exchange that ends while its connection's tuple is not known waits for it: until an event
 * brings it, the connection is over, or an event's time is WAITING_NS (waiting.h) past its end.
 */
void flow__event(struct flow *flow, const struct event *event);

/* When something will be due though nothing happens, as time of an event; 0: nothing will. */
uint64_t flow__waits_until(const struct flow *flow);

const struct flow_counts *flow__counts(const struct flow *flow);

#endif
