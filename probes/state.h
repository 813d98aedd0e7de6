/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the probes and the program share besides records: the keys and values of the BPF maps.
 */
#ifndef TLSTRACE_STATE_H
#define TLSTRACE_STATE_H

#include "wire.h"

/*
 * The attach cookie of a probe in a TLS function: what its program must know of the place. A kernel
 * without cookies (before 5.15) has probes at functions' first bytes and returns only.
 */
#define COOKIE_LIBRARY(cookie) ((cookie)&0xff) /* enum wire_library */
#define COOKIE_RETURN	       0x100 /* by uretprobe: the return address is off the stack already */
#define COOKIE_SPILLED	       0x200 /* Go: at a return, the arguments are still on the stack */
#define COOKIE_TABLE_SHIFT     12 /* from here, 20 bits: where a table is in a session (hpack.h) */
/*
 * Or, of Go, for an exit in a function that is deferred (symbols/go_defers.h): how many words above
 * the stack pointer its closure is (0: it is in the function itself), and the result.
 */
#define COOKIE_CLOSURE_WORDS(cookie)	 ((cookie) >> 12 & 0x3ff)
#define COOKIE_RESULT_WORDS(cookie)	 ((cookie) >> 22 & 0x3ff)
#define COOKIE_DEFERRED(closure, result) ((__u64)(closure) << 12 | (__u64)(result) << 22)
#define COOKIE_STACK_SHIFT		 32 /* from here: bytes that the stack has grown since the entry */

/* struct traced_process.flags */
#define TRACED_FOLLOW  0x01 /* stays traced when it executes something else */
#define TRACED_HOLD    0x02 /* may be stopped while probes are put into what it has mapped */
#define TRACED_COMMAND 0x04 /* the command itself, a child of tlstrace */
#define TRACED_LATER   0x80 /* it is followed, but its TLS calls are not taken yet */
/* Set by the probes: its calls of crypto/tls are by goroutines, found as goroutine.h says. */
#define TRACED_GO	0x20
#define TRACED_GO_STACK 0x40
/* Of programs with memory BIOs (ciphertext.h): set by the program, and by note_unnested(). */
#define TRACED_CIPHERTEXT 0x08 /* its socket calls outside of TLS calls are looked at */
#define TRACED_UNNESTED	  0x10 /* that it needs this was reported */

struct traced_process {
	__u64 executable_pages; /* mm.exec_vm when its mappings were last reported */
	__u32 flags;
	__u32 pad;
};

/* What makes a process traced when it executes a file of this identity (or of this name, see
 * process.bpf.c). */
struct binary_name {
	char name[WIRE_NAME_BYTES]; /* last component, zero-padded */
};

/* A thread; or a goroutine, which runs on one thread after another. */
struct thread_key {
	__u64 id;	 /* pid_tgid; of a goroutine without the thread's part */
	__u64 goroutine; /* address of its runtime.g; 0: a thread */
};

struct connection_key {
	__u32 pid;
	__u32 pad;
	__u64 object;
};

/* connection_state.flags beside WIRE_FROM_START */
#define STATE_AMBIGUOUS	    0x02 /* calls on it used different sockets: no tuple for good */
#define STATE_SHUTDOWN	    0x04
#define STATE_EOF	    0x08
#define STATE_WRITE_BLOCKED 0x10 /* a write was cut short: the next begins with what is left */

enum walk_phase {
	WALK_OFF = 0,
	WALK_START,    /* before a start line */
	WALK_HEAD,     /* before a field, or the empty line */
	WALK_TRAILERS, /* the same after the last chunk */
	WALK_PEEK,     /* before the body of a response, if it has one */
	WALK_LENGTH,   /* in a body of known length */
	WALK_SIZE,     /* in a chunk's size line, digits seen so far in walk.digits */
	WALK_SIZE_LF,
	WALK_PAYLOAD,
	WALK_CR,
	WALK_LF,
	WALK_FRAMES, /* over frames: see frames.h */
};

/* DATA that was left out of a stream, by HTTP/2's streams; see frames.h. */
struct frame_sums {
	__u64 payload[WIRE_FRAMES_STREAMS];
	__u32 streams[WIRE_FRAMES_STREAMS]; /* 0: this one and those behind it are free */
};

/* A walk over the messages or frames of a stream, see walk.h and frames.h. */
struct walk {
	__u64 start;	 /* position where its first message or frame began */
	__u64 remaining; /* of the body, the chunk or the frame */
	union {
		__u64 body; /* bytes of the message's body so far */
		__u64 told; /* position up to which records tell of frames */
	};
	union {
		__u32 digits;
		__u32 head_size; /* what is here of a frame's head */
	};
	union {
		__u16 status;
		__u16 restarts;
	};
	__u8 phase; /* 0: no walk */
	__u8 flags;
	__u8 idle; /* small messages, or calls where no walk is, in a row */
	__u8 pad[3];
	__u32 stream;	     /* of the frame under way */
	__u64 earlier_start; /* of a walk over frames: it has this name too */
	__u8 head[24];	     /* more than a head has: the verifier sees no tighter bound */
	struct frame_sums sums;
};

enum place_known {
	PLACE_UNKNOWN,
	PLACE_KNOWN,
	PLACE_OF_FIRST, /* others came with it: the TLS call's bytes tell whether they are its */
};

/* Where in TCP's stream the TLS record began that was received last, see socket.bpf.c. */
struct record_place {
	__u32 seq;
	__u32 ack;
	__u32 rest;	/* of its bytes, still to be received */
	__u16 payload;	/* bytes behind its header */
	__u8 known;	/* enum place_known */
	__u8 receiving; /* a call that receives was entered, and its return not seen */
};

struct connection_state {
	__u64 generation;
	__u64 position[2];
	__u64 lost_bytes[2];
	__u64 body_bytes[2]; /* chunk payload that walks have left out */
	__u64 captured[2];
	struct walk walks[2];
	__u64 captured_up_to[2]; /* a watch directive from before this position is void */
	__u64 sock;
	struct wire_tuple tuple;
	struct record_place record;
	__u32 ports;
	__u32 references; /* beyond the first */
	__u8 flags;
	__u8 library;
	__u8 unnested;	/* calls that used no socket while none was known; stops at a few */
	__u8 is_closed; /* Go: it ends as soon as no call is on it any more */
	__u8 pad[4];
	__u32 calls;  /* Go: that run on it at this moment ... */
	__u32 writes; /* ... and of these, that write */
};

struct stream_key {
	struct connection_key connection;
	__u32 direction;
	__u32 pad;
};

/*
 * What the program wants of the rest of one stream. It is written by the program alone, and says
 * nothing about another generation of the object. Captured bytes are all that no directive names:
 * a directive that comes late costs time, never data.
 */
struct stream_directive {
	__u64 generation;
	__u64 skip_until; /* bytes before this position need not be captured; UINT64_MAX: none */
	/*
	 * Non-zero: the program looks for the start of a message at the start of a call. A call
	 * that begins otherwise is not captured, until one does: from then on all is, unless a
	 * directive says this again at a position behind that call.
	 */
	__u32 watch;
	__u32 pad;
	__u64 position;	 /* up to which the program had seen the stream when it said so */
	__u64 walk_from; /* the walk that is right (WIRE_WALK_FROM); 0: none is known to be */
};

/* That the program wants the HPACK table of a stream. It is the probes' to delete when they gave
 * it, or tried that often; see hpack.h. */
struct table_wish {
	__u64 generation;
	__u32 tries;
	__u32 pad;
};

/* shared.consumer */
enum consumer_state {
	CONSUMER_BUSY = 0,  /* it was woken, or looks by itself: no wakeup needed */
	CONSUMER_TIMER = 1, /* it will look soon: wake it only when the ring fills */
	CONSUMER_IDLE = 2,  /* it sleeps until woken */
};

/* Written by both sides; the program maps it. */
struct shared {
	__u64 events_lost;	    /* records without room in the ring */
	__u64 calls_lost;	    /* calls of more threads or deeper nesting than is kept */
	__u64 connections_lost;	    /* calls on more connections than are kept */
	__u64 wake_bytes;	    /* ring fill at which a busy program is woken early */
	__u32 consumer;		    /* enum consumer_state */
	__u32 wake_always;	    /* for comparison: a wakeup for each record */
	__u32 ciphertext_processes; /* how many have TRACED_CIPHERTEXT */
	__u32 go_seen;		    /* a process has TRACED_GO or TRACED_GO_STACK */
	/* What is read is noted for hpack.h, with this number; 0: there are no wishes. */
	__u32 note_reads;
	__u32 pad;
};

#endif
