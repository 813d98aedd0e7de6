/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading sockets: whether one can carry TLS, its addresses, what TCP knows of it, and the user's
 * buffer of the system call that is on it.
 */
#ifndef TLSTRACE_SOCKETS_H
#define TLSTRACE_SOCKETS_H

#include "common.h"

#define AF_UNIX	    1
#define AF_INET	    2
#define AF_INET6    10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define MSG_PEEK    2

#define S_IFMT	 0170000
#define S_IFSOCK 0140000

/* A TLS record's header, RFC 8446 5.1: type, version, length. */
#define TLS_HEADER_BYTES      5
#define TLS_CHANGE_CIPHER     20
#define TLS_APPLICATION_DATA  23
#define TLS_MAX_PAYLOAD_BYTES (16384 + 2048) /* RFC 5246 6.2.3 */
#define TLS_TAG_BYTES	      16	     /* what encryption adds at the least (but for CCM_8) */

/* A peer can ask for no smaller fragments: a call's first record has so much of its bytes. */
#define MIN_FRAGMENT_BYTES 512 /* RFC 6066 4 */

/* Identifies a socket for as long as it is the same one: memory is reused, and so are ports. */
struct socket_identity {
	__u64 sock;
	__u32 ports;
};

static __always_inline bool is_unix(const struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX;
}

/* Whether it is a struct tcp_sock: one of MPTCP has addresses as well, and is none. */
static __always_inline bool is_tcp(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP;
}

/* Whether the socket is one that TLS can be on: a stream, and connected. */
static __always_inline bool identify_socket(struct sock *sk, struct socket_identity *ret)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family), num;
	__be16 dport;

	if (BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return false;
	ret->sock = (__u64)sk;
	ret->ports = 0;
	if (family == AF_UNIX)
		return true;
	if (family != AF_INET && family != AF_INET6)
		return false;
	num = BPF_CORE_READ(sk, __sk_common.skc_num);
	dport = BPF_CORE_READ(sk, __sk_common.skc_dport);
	ret->ports = (__u32)num << 16 | dport;
	return num && dport; /* a reset takes its addresses */
}

/* The tuple of an identified socket. */
static __always_inline void read_tuple(struct sock *sk, __u8 source, struct wire_tuple *tuple)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	__builtin_memset(tuple, 0, sizeof(*tuple));
	tuple->source = source;
	if (family == AF_UNIX) {
		tuple->transport = WIRE_UNIX;
		return;
	}
	tuple->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	tuple->peer_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET) {
		tuple->ip_version = 4;
		BPF_CORE_READ_INTO((__be32 *)tuple->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((__be32 *)tuple->peer, sk, __sk_common.skc_daddr);
	} else {
		tuple->ip_version = 6;
		BPF_CORE_READ_INTO((struct in6_addr *)tuple->local, sk,
				   __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)tuple->peer, sk, __sk_common.skc_v6_daddr);
	}
}

/* The socket behind a descriptor of the current process; NULL when it is none. */
static __always_inline struct sock *socket_of_fd(int fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;
	struct socket *socket;

	if (fd < 0 || (__u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* Bytes that a system call on a socket sends, or has received: the first buffer of several. */
struct user_buffer {
	__u64 data;
	__u64 size;
};

#if defined(__TARGET_ARCH_x86)
#define NR_READ	       0
#define NR_WRITE       1
#define NR_READV       19
#define NR_WRITEV      20
#define NR_SENDFILE    40
#define NR_SENDTO      44
#define NR_RECVFROM    45
#define NR_SENDMSG     46
#define NR_RECVMSG     47
#define NR_RECVMMSG    299
#define NR_SENDMMSG    307
#define SYSCALL_NUMBER orig_rax
#define SYSCALL_SOCKET rdi
#define SYSCALL_BUFFER rsi
#define SYSCALL_SIZE   rdx
#define STACK_BYTES    16384 /* THREAD_SIZE; kernels that pad the top have bpf_task_pt_regs */
typedef struct pt_regs user_regs;
#elif defined(__TARGET_ARCH_arm64)
#define NR_READ	       63
#define NR_WRITE       64
#define NR_READV       65
#define NR_WRITEV      66
#define NR_SENDFILE    71
#define NR_SENDTO      206
#define NR_RECVFROM    207
#define NR_SENDMSG     211
#define NR_RECVMSG     212
#define NR_RECVMMSG    243
#define NR_SENDMMSG    269
#define SYSCALL_NUMBER regs[8]
#define SYSCALL_SOCKET regs[0]
#define SYSCALL_BUFFER regs[1]
#define SYSCALL_SIZE   regs[2]
#define STACK_BYTES    16384
typedef struct user_pt_regs user_regs;
#endif

/* struct user_msghdr, of which recvmmsg's begins with one, and struct iovec. */
struct user_message {
	__u64 name;
	__u64 name_size;
	__u64 buffers;
};

static __always_inline user_regs *regs_of_syscall(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (user_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return (user_regs *)(BPF_CORE_READ(task, stack) + STACK_BYTES) - 1;
}

/* The socket of the system call that the current task is in; NULL when it is on none. */
static __always_inline struct sock *socket_of_syscall(void)
{
	user_regs *regs = regs_of_syscall();
	__u64 number = 0, fd = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->SYSCALL_NUMBER);
	bpf_probe_read_kernel(&fd, sizeof(fd), &regs->SYSCALL_SOCKET);
	switch (number) {
	case NR_READ:
	case NR_WRITE:
	case NR_READV:
	case NR_WRITEV:
	case NR_SENDFILE:
	case NR_SENDTO:
	case NR_RECVFROM:
	case NR_SENDMSG:
	case NR_RECVMSG:
	case NR_RECVMMSG:
	case NR_SENDMMSG:
		return socket_of_fd((int)fd);
	}
	return NULL;
}

/*
 * The buffer of the system call that the current task is in. False where that is none of those
 * that move bytes of a socket (io_uring's, sendfile).
 */
static __always_inline bool buffer_of_syscall(struct user_buffer *ret)
{
	user_regs *regs = regs_of_syscall();
	__u64 number = 0, buffer = 0;
	struct user_message message;

	bpf_probe_read_kernel(&number, sizeof(number), &regs->SYSCALL_NUMBER);
	bpf_probe_read_kernel(&buffer, sizeof(buffer), &regs->SYSCALL_BUFFER);
	switch (number) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		ret->data = buffer;
		return !bpf_probe_read_kernel(&ret->size, sizeof(ret->size), &regs->SYSCALL_SIZE);
	case NR_SENDMSG:
	case NR_RECVMSG:
	case NR_SENDMMSG:
	case NR_RECVMMSG:
		if (bpf_probe_read_user(&message, sizeof(message), (void *)buffer))
			return false;
		buffer = message.buffers;
		break;
	case NR_READV:
	case NR_WRITEV:
		break;
	default:
		return false;
	}
	return !bpf_probe_read_user(ret, sizeof(*ret), (void *)buffer);
}

/* The length in a TLS record's header; 0 when these bytes are none. */
static __always_inline __u32 tls_payload_bytes(const __u8 header[TLS_HEADER_BYTES])
{
	__u32 size = header[3] << 8 | header[4];

	if (header[0] < TLS_CHANGE_CIPHER || header[0] > TLS_APPLICATION_DATA || header[1] != 3 ||
	    header[2] > 4 || size > TLS_MAX_PAYLOAD_BYTES)
		return 0;
	return size;
}

#endif
