/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What can be read of an SSL object itself: the descriptor of its socket.
 */
#ifndef TLSTRACE_OPENSSL_OBJECT_H
#define TLSTRACE_OPENSSL_OBJECT_H

#include "ciphertext.h"

/*
 * struct ssl_st: where its rbio and wbio are; from 3.2 on, behind a head whose first word is 0
 * where it was a version number. struct bio_st: where the descriptor is; from 3.0 on the method is
 * its second word. BIO_METHOD begins with its type and name.
 */
#define SSL_BIOS	16
#define SSL_BIOS_3_2	80
#define BIO_NUM		48
#define BIO_NUM_3_0	56
#define BIO_TYPE_SOCKET 0x505
#define SOCKET_NAME	0x74656b636f73 /* "socket", little-endian */
/*
 * The descriptor of an object's socket BIO, for both directions; -1 when it has none. Where the BIO
 * is in the object, and the descriptor in the BIO, differs between versions; what is found must
 * call itself a socket.
 */
static __always_inline int fd_of_bio(__u64 object)
{
	struct {
		__u32 type;
		__u32 pad;
		__u64 name;
	} method;
	__u64 bios[2] = {}, words[2] = {}, name = 0, at;
	__u32 head = 1;
	int fd = -1;

	bpf_probe_read_user(&head, sizeof(head), (void *)object);
	at = head ? SSL_BIOS : SSL_BIOS_3_2;
	if (bpf_probe_read_user(bios, sizeof(bios), (void *)(object + at)) || bios[0] != bios[1] ||
	    bpf_probe_read_user(words, sizeof(words), (void *)bios[0]))
		return -1;
	for (int i = 0; i < 2; i++) {
		/* 3.0 put the library context before the method. */
		if (bpf_probe_read_user(&method, sizeof(method), (void *)words[i]) ||
		    method.type != BIO_TYPE_SOCKET ||
		    bpf_probe_read_user(&name, sizeof("socket"), (void *)method.name) ||
		    name != SOCKET_NAME)
			continue;
		at = i ? BIO_NUM_3_0 : BIO_NUM;
		if (!bpf_probe_read_user(&fd, sizeof(fd), (void *)(bios[0] + at)))
			return fd;
	}
	return -1;
}

/* The connection's socket is that of the descriptor, if it is one that is connected. */
static __always_inline bool learn_fd(struct connection_state *state, __u64 object, int fd)
{
	struct sock *sk = socket_of_fd(fd);
	struct socket_identity socket;
	struct wire_tuple tuple;

	if (!sk || !identify_socket(sk, &socket))
		return false;
	read_tuple(sk, WIRE_TUPLE_FD, &tuple);
	connection_found(state, object, &socket, &tuple);
	return true;
}
#endif
