/* SPDX-License-Identifier: BSD-2-Clause */
/* Starts the traced command, and the guard. See command.h. */
#include "capture/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "log.h"

#define EXIT_NOT_FOUND	    127
#define EXIT_NOT_EXECUTABLE 126

static void __attribute__((noreturn)) run_child(char *const argv[], int go_fd, int error_fd)
{
	sigset_t none;
	char go;
	int err;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (read(go_fd, &go, 1) == 1) {
		execvp(argv[0], argv);
		err = errno;
		if (write(error_fd, &err, sizeof(err)) < 0)
			_exit(EXIT_NOT_EXECUTABLE);
	}
	_exit(EXIT_NOT_FOUND);
}

int command__prepare(char *const argv[], struct command *ret_command)
{
	int go[2], error[2], err;
	pid_t pid;

	if (pipe2(go, O_CLOEXEC))
		return -errno;
	if (pipe2(error, O_CLOEXEC)) {
		err = -errno;
		close(go[0]);
		close(go[1]);
		return err;
	}
	pid = fork();
	err = pid < 0 ? -errno : 0;
	if (!pid) {
		close(go[1]); /* or it would wait for itself */
		run_child(argv, go[0], error[1]);
	}
	close(go[0]);
	close(error[1]);
	if (err) {
		close(go[1]);
		close(error[0]);
		return err;
	}
	*ret_command = (struct command){.pid = pid, .go_fd = go[1], .error_fd = error[0]};
	return 0;
}

void command__go(struct command *command)
{
	/* A child that is gone is noticed by waitpid. */
	if (write(command->go_fd, "", 1) < 0 && errno != EPIPE)
		log_error("cannot start the command: %s", strerror(errno));
	close(command->go_fd);
	command->go_fd = -1;
}

void command__cancel(struct command *command)
{
	close(command->go_fd);
	close(command->error_fd);
	while (waitpid(command->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int command__exit_status(struct command *command, const char *name, int wait_status)
{
	int err = 0;
	ssize_t got = read(command->error_fd, &err, sizeof(err));

	close(command->error_fd);
	if (got == sizeof(err)) {
		log_error("%s: %s", name, err == ENOENT ? "command not found" : strerror(err));
		return err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
	}
	if (WIFSIGNALED(wait_status))
		return 128 + WTERMSIG(wait_status);
	return WEXITSTATUS(wait_status);
}

static void __attribute__((noreturn)) run_guard(int pipe_fd, int held_map_fd)
{
	uint32_t key, *after = NULL;
	char byte;

	/* Not in the terminal's foreground group, whose signals end tlstrace. */
	setsid();
	/* A copy of the probes' descriptors would keep them attached. */
	dup2(pipe_fd, 0);
	dup2(held_map_fd, 1);
	close_range(2, ~0U, 0);
	while (read(0, &byte, 1) < 0 && errno == EINTR)
		;
	while (!bpf_map_get_next_key(1, after, &key)) {
		kill((pid_t)key, SIGCONT);
		after = &key;
	}
	_exit(0);
}

pid_t guard__start(int held_map_fd, int *ret_fd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (!pid) {
		close(fds[1]);
		run_guard(fds[0], held_map_fd);
	}
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return -errno;
	}
	*ret_fd = fds[1];
	return pid;
}

void guard__stop(pid_t pid, int fd)
{
	close(fd);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
