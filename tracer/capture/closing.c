/* SPDX-License-Identifier: BSD-2-Clause */
/* Closes in the background. See closing.h. */
#include "capture/closing.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

static void *close_it(void *fd)
{
	close((int)(intptr_t)fd);
	return NULL;
}

void closing__begin(int fd)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, close_it, (void *)(intptr_t)fd))
		close(fd);
	else
		pthread_detach(thread);
}
