/* SPDX-License-Identifier: BSD-2-Clause */
/* inotify, of which one event is read at a time: they are rare. See changes.h. */
#include "capture/changes.h"

#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

int changes__open(void)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int changes__watch(int fd, const char *path)
{
	int watch = inotify_add_watch(fd, path, IN_MODIFY);

	return watch < 0 ? -errno : watch;
}

bool changes__next(int fd, int *ret_watch)
{
	/* A watch on a file itself gives events without a name. */
	struct inotify_event event;

	while (read(fd, &event, sizeof(event)) == sizeof(event)) {
		if (!(event.mask & (IN_MODIFY | IN_Q_OVERFLOW)))
			continue;
		*ret_watch = event.wd;
		return true;
	}
	return false;
}
