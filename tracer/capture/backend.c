/* SPDX-License-Identifier: BSD-2-Clause */
/* How socket calls are seen. See backend.h. */
#include "capture/backend.h"

#include <string.h>

#include "capture/trial.h"

static const char *const names[SOCKET_BACKENDS] = {
	[SOCKET_TRACEPOINTS] = "tracepoints",
	[SOCKET_FEXIT] = "fexit",
	[SOCKET_KPROBES] = "kprobes",
	[SOCKET_SYSCALLS] = "syscalls",
};

const char *socket_backend__name(enum socket_backend backend)
{
	return names[backend];
}

enum socket_backend socket_backend__of(const char *name)
{
	int backend = 0;

	while (backend < SOCKET_BACKENDS && strcmp(name, names[backend]) != 0)
		backend++;
	return backend;
}

int socket_backend__try(enum socket_backend backend)
{
	int err;

	switch (backend) {
	case SOCKET_TRACEPOINTS:
		return trial__raw_tracepoint("sock_send_length");
	case SOCKET_FEXIT:
		err = trial__fexit("tcp_sendmsg");
		return err ? err : trial__fexit("tcp_recvmsg");
	case SOCKET_KPROBES:
		return trial__kprobe("tcp_sendmsg");
	case SOCKET_SYSCALLS:
		return trial__raw_tracepoint("sys_enter");
	case SOCKET_BACKENDS:
		break;
	}
	return 0;
}

enum socket_backend socket_backend__choose(enum socket_backend wanted)
{
	int backend = 0;

	if (wanted != SOCKET_BACKENDS)
		return wanted;
	while (backend < SOCKET_BACKENDS && socket_backend__try(backend))
		backend++;
	return backend;
}
