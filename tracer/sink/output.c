/* SPDX-License-Identifier: BSD-2-Clause */
/* Gathers bytes and writes them to a file descriptor, whatever that is. See sink.h. */
#include "sink/sink.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define OUTPUT_BYTES (64 * 1024)

struct output {
	int fd;
	int err; /* the first failure, for good */
	size_t used;
	uint8_t data[OUTPUT_BYTES];
};

int output__new(int fd, struct output **ret_output)
{
	struct output *output = malloc(sizeof(*output));

	if (!output)
		return -ENOMEM;
	output->fd = fd;
	output->err = 0;
	output->used = 0;
	*ret_output = output;
	return 0;
}

void output__free(struct output *output)
{
	free(output);
}

/* Waits until a descriptor that somebody made non-blocking takes more. */
static int output__wait(const struct output *output)
{
	struct pollfd poll_fd = {.fd = output->fd, .events = POLLOUT};

	/* An error state of the descriptor ends the wait as well: write then says which. */
	if (poll(&poll_fd, 1, -1) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

static void output__write(struct output *output, struct bytes bytes)
{
	while (bytes.size && !output->err) {
		ssize_t written = write(output->fd, bytes.data, bytes.size);

		if (written > 0)
			bytes = bytes__from(bytes, (size_t)written);
		else if (!written)
			output->err = -EIO;
		else if (errno == EAGAIN)
			output->err = output__wait(output);
		else if (errno != EINTR)
			output->err = -errno;
	}
}

int output__flush(struct output *output)
{
	output__write(output, bytes__of(output->data, output->used));
	output->used = 0;
	return output->err;
}

int output__append(struct output *output, struct bytes bytes)
{
	if (bytes.size > OUTPUT_BYTES - output->used)
		output__flush(output);
	if (output->err || !bytes.size)
		return output->err;
	if (bytes.size > OUTPUT_BYTES) {
		output__write(output, bytes);
		return output->err;
	}
	memcpy(output->data + output->used, bytes.data, bytes.size);
	output->used += bytes.size;
	return 0;
}
