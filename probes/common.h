/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps, and what all probes do: ask whether a process is traced, put a record in the ring,
 * wake the program when that is worth its price. The maps are weak so that every .bpf.c that
 * includes this shares one of each after linking.
 */
#ifndef TLSTRACE_COMMON_H
#define TLSTRACE_COMMON_H

#include "kernel.h"
#include "state.h"

#define MAX_PROCESSES	65536
#define MAX_THREADS	262144 /* goroutines included */
#define MAX_CONNECTIONS 65536
#define MAX_FRESH	16384

/* TLS calls that one thread can be inside of at once: a proxy's TLS inside TLS makes 2 of 2. */
#define MAX_DEPTH 4

/* A TLS call that has been entered and has not returned. */
struct call {
	__u64 object;
	__u64 buffer;
	__u64 length;	 /* as the caller gave it */
	__u64 length_at; /* where the function will store the length it moved; 0: it returns it */
	__u64 start_ns;
	__u64 generation;	 /* Go: of the connection that counts it in .calls */
	__u64 stack;		 /* stack pointer at entry: calls inside it have lower ones */
	__u64 sock;		 /* the socket used inside, 0: none yet */
	struct wire_tuple tuple; /* of sock, where it was new to the connection; else source NONE */
	__u8 function;
	__u8 direction;
	__u8 counted; /* its bytes count; false when an enclosing call reports them */
	__u8 many_sockets;
	__u8 at_end;	/* it returned that the stream has ended */
	__u8 is_inner;	/* there is a call around it */
	__u8 on_unix;	/* sock is a unix socket */
	__u8 tcp_flags; /* WIRE_TCP_SEQ (of what it sent), WIRE_TCP_STATE */
	struct wire_tcp tcp;
	struct record_place record; /* of what was received before the connection had a state */
	__u32 ports;		    /* of sock */
	__u8 library;		    /* enum wire_library */
	__u8 moves; /* the buffer is on a stack that may move: kept by its distance from its end */
	__u8 pad[2];
	__u64 moved;	/* once it has returned: its bytes ... */
	__u64 reported; /* ... and how many of them records, or a skip, have covered */
	__u64 wanted;	/* where what is to be captured ends, and ... */
	__u64 tail;	/* ... how much behind it the last record covers */
	/* walk.h: how far a walk went, and what has to be kept of the call. */
	__u64 walked;
	__u64 keep;
	__u64 keep_end;	      /* 0: nothing */
	__u64 payload;	      /* of chunks, behind what is kept */
	__u64 payload_before; /* ... and before it */
	__u64 mark;	      /* where what is kept may begin */
	__u64 mark_payload;
	__u64 unplaced; /* bytes of no use: the chunk's beginning was left out */
	__u8 marked;
	__u8 split;	/* it began inside a size line */
	__u8 ended;	/* a body of known length ended, and nothing is kept behind it */
	__u8 confirmed; /* the walk was, before the call */
	__u8 frames;	/* a walk over frames it is */
	__u8 pad_walk[3];
	struct frame_sums sums; /* of frames behind what is kept */
};

struct thread {
	__u64 depth;
	__u64 goroutine; /* whose call returns at this moment on this thread; 0: the thread's own */
	__u64 bio_buffer; /* of the BIO_read that runs inside the call on top */
	__u64 bio_stack;  /* stack pointer at its entry */
	struct call calls[MAX_DEPTH];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24); /* set before loading */
} ring __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PROCESSES);
	__type(key, __u32);
	__type(value, struct traced_process);
} traced __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_THREADS); /* set before loading, as are the flags */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct thread_key);
	__type(value, struct thread);
} threads __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* set before loading */
	__type(key, struct connection_key);
	__type(value, struct connection_state);
} connections __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_CONNECTIONS);
	__uint(map_flags,
	       BPF_F_NO_PREALLOC); /* few streams ever get one; written by syscall only */
	__type(key, struct stream_key);
	__type(value, struct stream_directive);
} directives __weak SEC(".maps");

/* Go's objects whose handshake was seen, and no call of theirs that moved anything. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRESH);
	__type(key, struct connection_key);
	__type(value, __u32);
} fresh __weak SEC(".maps");

/* What follows the return of a TLS call, for all functions: set by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} after_return __weak SEC(".maps");

struct shared shared __weak;

char LICENSE[] __weak SEC("license") = "Dual BSD/GPL";

/* Whether uprobes can have a cookie (5.15+); set by the loader, which then passes the library. */
const volatile bool have_cookie __weak = false;

/* Distance of the stack pointer when a function has returned from what it was at its entry. */
#if defined(__TARGET_ARCH_x86)
#define RETURN_POPS 8
#else
#define RETURN_POPS 0
#endif

/* The stack pointer at the entry of the function in which a probe is. */
static __always_inline __u64 stack_at_entry(struct pt_regs *ctx, bool is_exit)
{
	__u64 cookie = have_cookie ? bpf_get_attach_cookie(ctx) : is_exit ? COOKIE_RETURN : 0;
	__u64 stack = PT_REGS_SP(ctx) + (cookie >> COOKIE_STACK_SHIFT);

	return cookie & COOKIE_RETURN ? stack - RETURN_POPS : stack;
}

/* Always false, which the verifier knows when it walks the program, but not before. */
const volatile bool never __weak = false;

/*
 * In every program that a uprobe runs. From 6.13 on, programs of their type can be given a stack
 * per CPU ("private stack"), as if they could not be preempted. Uprobes can, where the kernel
 * preempts itself, and then two threads work on one stack. A program that holds a tail call stays
 * on the kernel's own (check_max_stack_depth() in the verifier): this one is never made.
 */
static __always_inline void stay_on_kernel_stack(void *ctx)
{
	if (never)
		bpf_tail_call(ctx, &after_return, 0);
}

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline __u32 current_pid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline struct thread_key key_of_thread(void)
{
	return (struct thread_key){.id = bpf_get_current_pid_tgid()};
}

static __always_inline struct thread_key key_of_goroutine(__u64 goroutine)
{
	return (struct thread_key){
		.id = bpf_get_current_pid_tgid() & ~0xffffffffull,
		.goroutine = goroutine,
	};
}

/* Whether what comes next is a body's, and no head. */
static __always_inline bool walk__in_body(const struct walk *walk)
{
	return walk->phase == WALK_LENGTH || walk->phase == WALK_PAYLOAD;
}

static __always_inline void frame_sums__clear(struct frame_sums *sums)
{
	__builtin_memset(sums, 0, sizeof(*sums));
}

/* How to submit a record: a wakeup costs more than the rest of a probe, so few records pay it. */
static __always_inline __u64 wakeup(bool urgent)
{
	__u32 consumer = shared.consumer;

	if (shared.wake_always)
		return BPF_RB_FORCE_WAKEUP;
	if (consumer == CONSUMER_BUSY)
		return BPF_RB_NO_WAKEUP;
	if (consumer == CONSUMER_TIMER && !urgent &&
	    bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < shared.wake_bytes)
		return BPF_RB_NO_WAKEUP;
	shared.consumer = CONSUMER_BUSY;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void fill_header(struct wire_header *header, __u8 type, __u32 size)
{
	__u64 id = bpf_get_current_pid_tgid();

	header->size = size;
	header->type = type;
	header->pad[0] = header->pad[1] = header->pad[2] = 0;
	header->time_ns = bpf_ktime_get_ns();
	header->pid = id >> 32;
	header->tid = (__u32)id;
}

#endif
