/* SPDX-License-Identifier: BSD-2-Clause */
/* The output on real descriptors: pipes that are slow, full, closed, and a full disk. */
#include "sink/sink.h"
#include "failing_alloc.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define MUCH_BYTES (1024 * 1024)

/* Byte i of what the tests write. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

struct reader {
	int fd;
	size_t count;
	bool equal;
};

/* Reads to the end, in small and late pieces, so that the writer meets a full pipe. */
static void *reader__run(void *context)
{
	struct reader *reader = context;
	uint8_t piece[1777];
	ssize_t size;

	reader->equal = true;
	while ((size = read(reader->fd, piece, sizeof(piece))) > 0) {
		for (ssize_t i = 0; i < size; i++)
			if (piece[i] != pattern(reader->count++))
				reader->equal = false;
		if (reader->count % 64 < 4)
			usleep(100);
	}
	return NULL;
}

static void write_through_pipe(int flags, size_t piece_bytes)
{
	uint8_t *data = malloc(MUCH_BYTES);
	struct reader reader;
	struct output *output;
	pthread_t thread;
	int fds[2];

	cr_assert_not_null(data);
	for (size_t i = 0; i < MUCH_BYTES; i++)
		data[i] = pattern(i);
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(fcntl(fds[1], F_SETFL, flags), 0);
	reader = (struct reader){.fd = fds[0]};
	cr_assert_eq(pthread_create(&thread, NULL, reader__run, &reader), 0);

	cr_assert_eq(output__new(fds[1], &output), 0);
	for (size_t pos = 0; pos < MUCH_BYTES; pos += piece_bytes)
		cr_assert_eq(output__append(output,
					    bytes__first(bytes__of(data + pos, MUCH_BYTES - pos),
							 piece_bytes)),
			     0);
	cr_assert_eq(output__flush(output), 0);
	output__free(output);
	close(fds[1]);
	pthread_join(thread, NULL);
	cr_expect_eq(reader.count, (size_t)MUCH_BYTES);
	cr_expect(reader.equal);
	close(fds[0]);
	free(data);
}

Test(output, pieces_through_pipe)
{
	static const size_t sizes[] = {1, 100, 4096, 65535, 65536, 65537, MUCH_BYTES};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		write_through_pipe(0, sizes[i]);
		write_through_pipe(O_NONBLOCK, sizes[i]);
	}
}

static void on_signal(int number)
{
	(void)number;
}

static void *signaller__run(void *context)
{
	pthread_t *target = context;

	for (int i = 0; i < 200; i++) {
		pthread_kill(*target, SIGUSR1);
		usleep(200);
	}
	return NULL;
}

Test(output, interrupted)
{
	struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
	pthread_t self = pthread_self(), thread;

	cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
	cr_assert_eq(pthread_create(&thread, NULL, signaller__run, &self), 0);
	write_through_pipe(0, 100000);
	write_through_pipe(O_NONBLOCK, 100000);
	pthread_join(thread, NULL);
}

Test(output, gathers_until_flushed)
{
	struct output *output;
	char text[8];
	int fds[2];

	cr_assert_eq(pipe2(fds, O_NONBLOCK), 0);
	cr_assert_eq(output__new(fds[1], &output), 0);
	cr_expect_eq(output__flush(output), 0);
	cr_expect_eq(output__append(output, bytes__str("abc")), 0);
	cr_expect_eq(output__append(output, bytes__of(NULL, 0)), 0);
	cr_expect_eq(read(fds[0], text, sizeof(text)), -1);
	cr_expect_eq(output__flush(output), 0);
	cr_expect_eq(read(fds[0], text, sizeof(text)), 3);
	cr_expect_eq(output__flush(output), 0);
	cr_expect_eq(read(fds[0], text, sizeof(text)), -1);
	output__free(output);
	close(fds[0]);
	close(fds[1]);
}

Test(output, full_disk_is_remembered)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC), null;
	struct output *output;

	cr_assert_geq(fd, 0);
	cr_assert_eq(output__new(fd, &output), 0);
	cr_expect_eq(output__append(output, bytes__str("x")), 0);
	cr_expect_eq(output__flush(output), -ENOSPC);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	cr_assert_eq(dup2(null, fd), fd);
	cr_expect_eq(output__append(output, bytes__str("x")), -ENOSPC);
	cr_expect_eq(output__append(output, bytes__of(NULL, 0)), -ENOSPC);
	cr_expect_eq(output__flush(output), -ENOSPC);
	output__free(output);
	close(null);
	close(fd);
}

static void expect_broken_pipe(int flags)
{
	struct output *output;
	int fds[2];

	cr_assert_eq(pipe2(fds, flags), 0);
	close(fds[0]);
	cr_assert_eq(output__new(fds[1], &output), 0);
	cr_expect_eq(output__append(output, bytes__str("x")), 0);
	cr_expect_eq(output__flush(output), -EPIPE);
	cr_expect_eq(output__append(output, bytes__str("x")), -EPIPE);
	output__free(output);
	close(fds[1]);
}

static void *closer__run(void *context)
{
	usleep(20000);
	close(*(int *)context);
	return NULL;
}

Test(output, broken_pipe)
{
	static uint8_t much[MUCH_BYTES];
	struct output *output;
	pthread_t thread;
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	expect_broken_pipe(0);
	expect_broken_pipe(O_NONBLOCK);

	/* The reader goes while the output waits for it. */
	cr_assert_eq(pipe2(fds, O_NONBLOCK), 0);
	cr_assert_eq(output__new(fds[1], &output), 0);
	cr_assert_eq(pthread_create(&thread, NULL, closer__run, &fds[0]), 0);
	cr_expect_eq(output__append(output, bytes__of(much, sizeof(much))), -EPIPE);
	pthread_join(thread, NULL);
	output__free(output);
	close(fds[1]);
}

Test(output, bad_descriptor)
{
	struct output *output;

	cr_assert_eq(output__new(-1, &output), 0);
	cr_expect_eq(output__append(output, bytes__str("x")), 0);
	cr_expect_eq(output__flush(output), -EBADF);
	output__free(output);
	output__free(NULL);
}

Test(output, allocation_failure)
{
	struct output *output;
	int err;

	failing_alloc__arm(0);
	err = output__new(1, &output);
	cr_expect(failing_alloc__disarm());
	cr_expect_eq(err, -ENOMEM);
}
