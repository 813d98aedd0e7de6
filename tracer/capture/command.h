/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starts the command that is to be traced, in two steps, so that probes are in place before it
 * executes its first instruction; and the guard that lets held processes go should tlstrace die.
 */
#ifndef TLSTRACE_COMMAND_H
#define TLSTRACE_COMMAND_H

#include <sys/types.h>

struct command {
	pid_t pid;
	int go_fd;    /* closing it ends the child, writing lets it execute */
	int error_fd; /* the errno of a failed exec arrives here */
};

/*
 * Forks a child that waits to execute argv[0], looked for in PATH. It gets an empty signal mask and
 * SIGPIPE as tlstrace found it. 0 or -errno.
 */
int command__prepare(char *const argv[], struct command *ret_command);

/* Lets the child execute its program. */
void command__go(struct command *command);

/* Ends a child that has not been let go, and waits for it. */
void command__cancel(struct command *command);

/*
 * The exit status that tells how the command ended: its own, 128 + signal, or 127 and 126, after a
 * message, when it could not be executed. `wait_status` is from waitpid.
 */
int command__exit_status(struct command *command, const char *name, int wait_status);

/*
 * Forks a process that waits until this one is gone, however it ends, or guard__stop; then it
 * sends SIGCONT to all that are in the map (key: u32 pid) and ends. *ret_fd is for guard__stop.
 * Its pid or -errno.
 */
pid_t guard__start(int held_map_fd, int *ret_fd);
void guard__stop(pid_t pid, int fd);

#endif
