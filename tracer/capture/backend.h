/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How socket calls are seen: the ways that probes/socket.bpf.c has, in order of preference.
 */
#ifndef TLSTRACE_BACKEND_H
#define TLSTRACE_BACKEND_H

/*
 * Cheapest first. A tracepoint and fexit cost other processes' socket calls a few nanoseconds and
 * see the result as well; a kprobe is dearer, and its return probe misses calls on old kernels; a
 * tracepoint of a system call makes every system call of the host slower.
 */
enum socket_backend {
	SOCKET_TRACEPOINTS, /* sock_send_length, sock_recv_length (6.3+) */
	SOCKET_FEXIT,	    /* on tcp_sendmsg, tcp_recvmsg, unix_stream_* */
	SOCKET_KPROBES,	    /* on the same */
	SOCKET_SYSCALLS,    /* sys_enter, sys_exit */
	SOCKET_BACKENDS,    /* their number; as a choice: the first that works */
};

/* Its name, as --check and --socket-backend have it. */
const char *socket_backend__name(enum socket_backend backend);

/* The backend of a name; SOCKET_BACKENDS when there is none. */
enum socket_backend socket_backend__of(const char *name);

/* Tries it. 0 or -errno; 0 for SOCKET_BACKENDS. */
int socket_backend__try(enum socket_backend backend);

/* `wanted`, or for SOCKET_BACKENDS the first that works. SOCKET_BACKENDS when none does. */
enum socket_backend socket_backend__choose(enum socket_backend wanted);

#endif
