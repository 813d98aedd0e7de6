/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The records that probes put in the ring buffer, and that a recording (-w) holds: the one header
 * that the kernel side and the program share. Native byte order and alignment; every field of a
 * record is set by whoever makes it, because ring memory is not cleared.
 *
 * A stream is one direction of one TLS connection. Positions count plaintext bytes of a stream
 * from the moment the probes first saw its TLS object, which is its beginning when
 * WIRE_FROM_START is set.
 */
#ifndef TLSTRACE_WIRE_H
#define TLSTRACE_WIRE_H

#ifndef __VMLINUX_H__ /* the BPF side has these from its own types header */
#include <linux/types.h>
#endif

/* Raised when a record's layout or meaning changes; a recording of another version is refused. */
#define WIRE_VERSION 6

enum wire_type {
	WIRE_DATA = 1, /* struct wire_data: bytes that a TLS call moved */
	WIRE_CLOSE,    /* struct wire_close: a stream or connection ended */
	WIRE_PROCESS,  /* struct wire_process: made by capture, what a traced process is */
	WIRE_EXIT,     /* struct wire_header alone: the process (all its threads) is gone */
	WIRE_END,      /* struct wire_end: made by capture, tracing stopped; always the last */
	WIRE_SOCKET,   /* struct wire_socket: a connection's socket was found after its data */
	WIRE_TICK,     /* struct wire_header alone: made by capture, time went on without records */
	WIRE_FRAMES,   /* struct wire_frames: what the probes left out of a stream of HTTP/2 */
	WIRE_TABLE,    /* struct wire_table: the target's own HPACK table of a stream */
	/* The rest is for capture alone, never recorded and refused by intake. */
	WIRE_EXEC = 64, /* struct wire_exec: a process runs another executable */
	WIRE_FORK,	/* struct wire_fork: a traced process made a child, traced as well */
	WIRE_MAPPED,	/* struct wire_header alone: the loader of a traced process mapped files */
	WIRE_UNNESTED,	/* struct wire_header alone: TLS calls of a process use no socket */
};

enum wire_direction {
	WIRE_READ = 0,	/* the process received it */
	WIRE_WRITE = 1, /* the process sent it */
};

enum wire_library {
	WIRE_OPENSSL = 0,
	WIRE_BORINGSSL = 1,
	WIRE_GO = 2,
};

/* How a connection's socket was found; the words of capture.tuple. */
enum wire_tuple_source {
	WIRE_TUPLE_NONE = 0,
	WIRE_TUPLE_NESTED = 1,	   /* a socket call inside the TLS call */
	WIRE_TUPLE_FD = 2,	   /* the file descriptor that the TLS object was given */
	WIRE_TUPLE_CIPHERTEXT = 3, /* the same TLS record passed the library and the socket */
};

enum wire_transport {
	WIRE_TCP = 0,
	WIRE_UNIX = 1,
};

enum wire_close_reason {
	WIRE_CLOSE_FREE = 1, /* SSL_free: the object is gone */
	WIRE_CLOSE_REUSE,    /* SSL_clear, or another socket: a new connection in the same object */
	WIRE_CLOSE_SHUTDOWN, /* SSL_shutdown: this process writes no more; reading may go on */
	WIRE_CLOSE_EOF,	     /* SSL_read returned 0: the peer writes no more */
	WIRE_CLOSE_NOT, /* made by capture: it goes on, so far as here; positions of 0 say nothing
			 */
};

/* wire_data.flags, wire_close.flags */
#define WIRE_FROM_START 0x01 /* the object was seen from its creation on: so was each stream */
#define WIRE_CALL_START 0x02 /* the bytes begin where the call's buffer begins */
#define WIRE_TCP_SEQ	0x04 /* wire_data.tcp.seq and .ack are known, exactly */
#define WIRE_TCP_STATE	0x08 /* wire_data.tcp.rtt_us and .retransmits are known */
/*
 * Of bytes that were read: a call that writes had begun before, and had not returned. What it wrote
 * may be what these bytes answer, and comes later.
 */
#define WIRE_WRITE_RUNS 0x10

/* A walk is called by the position of its first message; 0 is no walk. */
#define WIRE_WALK_FROM(position) ((position) + 1)

struct wire_header {
	__u32 size; /* bytes of the whole record, this header included */
	__u8 type;  /* enum wire_type */
	__u8 pad[3];
	__u64 time_ns; /* CLOCK_MONOTONIC, when the record was made */
	__u32 pid;     /* thread group */
	__u32 tid;
};

/* Names a connection: an address alone is shared by forked processes and reused within one. */
struct wire_connection {
	__u64 object;	  /* address of the SSL object in the process */
	__u64 generation; /* differs for every use of the object */
};

/* Addresses in network order, IPv4 in the first 4 bytes; ports in host order. */
struct wire_tuple {
	__u8 source;	 /* enum wire_tuple_source; WIRE_TUPLE_NONE: the rest is zero */
	__u8 ip_version; /* 4 or 6; 0 for WIRE_UNIX, which has no addresses and ports */
	__u16 local_port;
	__u16 peer_port;
	__u8 transport; /* enum wire_transport */
	__u8 pad;
	__u8 local[16];
	__u8 peer[16];
};

/*
 * The socket when a TLS call first used it. seq and ack are as on the wire, not relative: seq is
 * that of the first byte of the TLS record from which, or into which, the call's first byte went
 * (the peer's numbers where the call reads); ack the number of the next byte of the other
 * direction.
 */
struct wire_tcp {
	__u32 seq;
	__u32 ack;
	__u32 rtt_us;	   /* smoothed round-trip time */
	__u32 retransmits; /* segments that this end has sent again, since the connection began */
};

/* Of a call that captured more, all records but the last have a multiple of so many bytes. */
#define WIRE_PIECE_BYTES 16384

/*
 * Bytes [position, position + moved) of a stream passed; the first `captured` of them follow the
 * struct. Records of a stream come in the order of their positions. Positions that no record
 * covers passed too, and were either lost (then lost_bytes has grown by their number) or left out
 * because the program had said that it does not need them. What is left out of a chunked body is
 * counted in body_bytes, and ends before a chunk's size line.
 */
struct wire_data {
	struct wire_header header;
	struct wire_connection connection;
	struct wire_tuple tuple;
	__u64 start_ns; /* when the TLS call was entered; header.time_ns is when it returned */
	__u64 position;
	__u64 lost_bytes; /* of this stream, up to this record: passed, wanted, not delivered */
	__u64 body_bytes; /* of this stream, up to here: chunk payload in what was left out */
	__u64 walk_from;  /* where the probes' walk over messages began: WIRE_WALK_FROM; 0: none */
	/* Where the other direction was: so a loss there is known in its order. */
	__u64 other_position;
	__u64 other_lost_bytes;
	struct wire_tcp tcp; /* what the flags name of it */
	__u32 moved;
	__u32 captured;
	__u8 direction; /* enum wire_direction */
	__u8 library;	/* enum wire_library */
	__u8 flags;
	__u8 pad[5];
	__u8 bytes[];
};

/* DATA of so many of its streams can be told apart in what was left out of a connection. */
#define WIRE_FRAMES_STREAMS 6

struct wire_frames_stream {
	__u64 payload; /* DATA without the heads of frames */
	__u32 stream;
	__u32 pad;
};

/*
 * Up to `position`, what no record covers and was not lost are frames of HTTP/2 that the probes
 * walked over: the rest of a DATA frame whose head was captured, and whole DATA frames without
 * flags, of which the last one goes on where `left` says so. The first `count` streams follow the
 * struct.
 */
struct wire_frames {
	struct wire_header header;
	struct wire_connection connection;
	__u64 position;
	__u64 lost_bytes; /* of this stream, up to here */
	__u32 left;	  /* payload of the frame under way that is still to come */
	__u32 stream;	  /* of that frame, where there is any left */
	__u8 direction;
	__u8 count;
	__u8 pad[6];
	struct wire_frames_stream streams[];
};

/* Beyond, a table is not reported. */
#define WIRE_TABLE_MAX_BYTES   65536
#define WIRE_TABLE_MAX_ENTRIES (WIRE_TABLE_MAX_BYTES / 32)

/* What is kept of a frame to know it again: its head, and the beginning of its payload. */
#define WIRE_TABLE_FRAME_BYTES 64

/* At what place of its stream a table was as it is told. */
enum wire_table_when {
	WIRE_TABLE_BEFORE = 1, /* header blocks up to `position` have changed it, no others */
	WIRE_TABLE_AFTER,      /* the block that begins with the frame `frame` was the last */
	/* As BEFORE; what changes it are whole frames: one under way at `position` had not yet. */
	WIRE_TABLE_BEFORE_FRAME,
};

/* Its name and value follow. */
struct wire_table_entry {
	__u32 name_bytes;
	__u32 value_bytes;
};

/*
 * The dynamic table (RFC 7541 2.3.2) of one direction, whole, as the target's own code has it. The
 * entries follow the struct, the oldest first, without padding.
 */
struct wire_table {
	struct wire_header header;
	struct wire_connection connection;
	__u64 position;
	__u32 max_bytes;  /* what it may hold now, by RFC 7541 4.1 */
	__u32 size_bytes; /* what it holds */
	__u32 count;
	__u8 direction;
	__u8 when;	  /* enum wire_table_when */
	__u8 frame_bytes; /* of WIRE_TABLE_AFTER: all of the frame, or WIRE_TABLE_FRAME_BYTES */
	__u8 pad;
	__u8 frame[WIRE_TABLE_FRAME_BYTES];
	__u8 entries[];
};

/* positions and losses are indexed by enum wire_direction. */
struct wire_close {
	struct wire_header header;
	struct wire_connection connection;
	struct wire_tuple tuple;
	__u64 position[2]; /* where each stream ended */
	__u64 lost_bytes[2];
	__u64 body_bytes[2];
	__u8 reason; /* enum wire_close_reason */
	__u8 library;
	__u8 flags;
	__u8 pad[5];
};

/* Every later record of the connection has the tuple as well. */
struct wire_socket {
	struct wire_header header;
	struct wire_connection connection;
	struct wire_tuple tuple;
};

/* The path of the executable follows, header.size says how long; it is not terminated. */
struct wire_process {
	struct wire_header header;
	char path[];
};

struct wire_end {
	struct wire_header header;
	__u64 events_lost; /* what the probes had no room for */
	__u8 enough;	   /* the wanted number of entries is out: what is still open makes none */
	__u8 pad[7];
};

#define WIRE_NAME_BYTES 64
#define WIRE_PATH_BYTES 256

/* The identity is the inode's, as the kernel has it: st_dev differs from it on some filesystems. */
struct wire_file_id {
	__u64 device; /* super_block.s_dev, the kernel's encoding */
	__u64 inode;
};

struct wire_exec {
	struct wire_header header;
	struct wire_file_id executable;
	__u8 traced; /* whether the probes follow the process from now on */
	__u8 held;   /* whether it was stopped and waits for SIGCONT */
	__u8 pad[6];
	char path[WIRE_PATH_BYTES]; /* as given to execve, terminated, possibly cut */
};

struct wire_fork {
	struct wire_header header;
	__u32 child;
	__u32 pad;
};

#endif
