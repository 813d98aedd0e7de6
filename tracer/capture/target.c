/* SPDX-License-Identifier: BSD-2-Clause */
/* What a process is. See target.h. */
#include "capture/target.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

struct status {
	pid_t group; /* 0: there is no such process */
	bool has_memory;
};

/* /proc/PID/status of a process or thread, which everybody may read. */
static struct status read_status(pid_t pid)
{
	struct status status = {0};
	char path[64], line[256];
	int group;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	if (!file)
		return status;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Tgid: %d", &group) == 1)
			status.group = group;
		else if (!strncmp(line, "VmSize:", 7))
			status.has_memory = true;
	}
	fclose(file);
	return status;
}

int target__check(pid_t pid, pid_t *ret_group)
{
	struct status status = read_status(pid);
	pid_t group = status.group;

	if (group == getpid()) {
		log_error("process %d is tlstrace itself", pid);
		return 1;
	}
	if (group && group != pid)
		status = read_status(group);
	if (!status.group) {
		log_error("no process %d: is it gone? See ps -e", pid);
		return 1;
	}
	if (!status.has_memory) {
		log_error("process %d is a kernel thread or a zombie: it runs no TLS library", pid);
		return 1;
	}
	*ret_group = group;
	return 0;
}

bool target__executable(pid_t pid, char ret_path[PATH_MAX])
{
	char link[64];
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	size = readlink(link, ret_path, PATH_MAX - 1);
	if (size < 0)
		return false;
	ret_path[size] = '\0';
	return true;
}

size_t target__children(pid_t pid, size_t max, pid_t ret_children[])
{
	char path[64];
	glob_t lists; /* one for each thread */
	size_t count = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/*/children", pid);
	if (glob(path, GLOB_NOSORT, NULL, &lists))
		return 0;
	for (size_t i = 0; i < lists.gl_pathc; i++) {
		FILE *file = fopen(lists.gl_pathv[i], "re");
		int child;

		while (file && count < max && fscanf(file, "%d", &child) == 1)
			if (read_status(child).has_memory)
				ret_children[count++] = child;
		if (file)
			fclose(file);
	}
	globfree(&lists);
	return count;
}

bool target__is_loader(const struct mapped_file *mapped, struct elf_file *elf, uint64_t *ret_offset)
{
	const char *name = basename(mapped->path);

	if (strncmp(name, "ld", 2) && strncmp(name, "libc.musl", 9))
		return false;
	if (elf_file__function(elf, "_dl_debug_state", ret_offset))
		*ret_offset = 0;
	return true;
}
