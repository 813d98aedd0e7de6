/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asks the dynamic linker which libraries an executable loads. See closure.h. The linker knows its
 * search path, its cache and the file's RUNPATH best; what it cannot tell (dlopen, LD_PRELOAD) is
 * seen when it happens.
 */
#include "capture/closure.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* `ld.so --list` exists in glibc alone; musl's linker would run the program. */
static int check_linker(const char *interpreter)
{
	struct stat st;

	if (strncmp(basename(interpreter), "ld-linux", 8))
		return -ENOTSUP;
	if (stat(interpreter, &st))
		return -errno;
	if (st.st_uid || st.st_mode & (S_IWGRP | S_IWOTH))
		return -ENOTSUP;
	return 0;
}

/* "	libssl.so.3 => /lib/libssl.so.3 (0x7f...)" or "	/lib64/ld.so (0x7f...)"; the path, or NULL
 */
static char *path_in(char *line)
{
	char *arrow = strstr(line, "=> ");
	char *path = arrow ? arrow + 3 : line + strspn(line, " \t");
	char *end = strstr(path, " (0x");

	if (*path != '/' || !end)
		return NULL;
	*end = '\0';
	return path;
}

static void read_libraries(int fd, library_fn *fn, void *context)
{
	FILE *file = fdopen(fd, "r");
	char *line = NULL, *path;
	size_t size = 0;

	if (!file) {
		close(fd);
		return;
	}
	while (getline(&line, &size, file) > 0) {
		path = path_in(line);
		if (path)
			fn(context, path);
	}
	free(line);
	fclose(file);
}

int closure__each_library(const char *interpreter, const char *executable, library_fn *fn,
			  void *context)
{
	char *argv[] = {(char *)interpreter, "--list", (char *)executable, NULL};
	char *no_environment[] = {NULL};
	posix_spawn_file_actions_t actions;
	int err = check_linker(interpreter), fds[2], status;
	pid_t pid;

	if (err)
		return err;
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	err = -posix_spawn_file_actions_init(&actions);
	if (err)
		goto out;
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	err = -posix_spawn(&pid, interpreter, &actions, NULL, argv, no_environment);
	posix_spawn_file_actions_destroy(&actions);
out:
	close(fds[1]);
	if (err) {
		close(fds[0]);
		return err;
	}
	read_libraries(fds[0], fn, context);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status ? -ECHILD : 0;
}
