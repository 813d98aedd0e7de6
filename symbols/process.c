/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The files that a process has mapped to execute. Takes a process id, gives each file once, open.
 * Reads /proc only; never stops the process, never opens what is not a regular file.
 *
 * A path in /proc/PID/maps is a hint: it belongs to another mount namespace, or is deleted, or
 * names a newer file by now. /proc/PID/map_files leads to the mapped file itself, but following
 * it takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; without, a path is tried and believed only
 * when it leads to the inode that is mapped.
 */
#include "symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A process has some hundred at most; one that is out to fill our memory is not given it. */
#define FILES_MAX 4096

static const char deleted_suffix[] = " (deleted)";

/* One line of /proc/PID/maps. */
struct mapping {
	uint64_t start, end;
	bool executable;
	dev_t device; /* of the file system; fstat may say another (btrfs, overlayfs) */
	ino_t inode;
	char *path; /* inside the line */
};

struct file_id {
	dev_t device;
	ino_t inode;
};

struct walk {
	int process; /* /proc/PID: stays with this process should its id be reused */
	struct file_id *seen;
	size_t seen_count, seen_room;
	mapped_file_fn *fn;
	void *context;
};

/* The kernel writes a newline as \012, and a backslash as it is: "\012" in a name looks alike. */
static void unescape(char *path)
{
	const char *from = path;
	char *to = path;

	while (*from) {
		if (strncmp(from, "\\012", 4) == 0) {
			*to++ = '\n';
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* "7f00-7f10 r-xp 00001000 08:01 1234      /path": false for a line that is none. */
static bool mapping__parse(char *line, struct mapping *ret_mapping)
{
	unsigned int major_number, minor_number;
	struct mapping mapping;
	uint64_t inode;
	char flags[5];
	int path = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %x:%x %" SCNu64 "%n", &mapping.start,
		   &mapping.end, flags, &major_number, &minor_number, &inode, &path) != 6)
		return false;
	mapping.executable = flags[2] == 'x';
	mapping.device = makedev(major_number, minor_number);
	mapping.inode = inode;
	mapping.path = line + path;
	mapping.path += strspn(mapping.path, " ");
	mapping.path[strcspn(mapping.path, "\n")] = '\0';
	unescape(mapping.path);
	*ret_mapping = mapping;
	return true;
}

/*
 * Opens a regular file for reading. First without opening it really: opening a device or a FIFO
 * may block, or do things.
 */
static int open_regular(int directory, const char *path, struct stat *ret_st, int *ret_fd)
{
	char link[sizeof("/proc/self/fd/") + 11];
	int err = 0, handle, fd = -1;

	handle = openat(directory, path, O_PATH | O_CLOEXEC);
	if (handle < 0)
		return -errno;
	if (fstat(handle, ret_st)) {
		err = -errno;
		goto out;
	}
	if (!S_ISREG(ret_st->st_mode)) {
		err = -EINVAL;
		goto out;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", handle);
	/* O_NONBLOCK: do not wait for the holder of a lease. */
	fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		err = -errno;
out:
	close(handle);
	if (!err)
		*ret_fd = fd;
	return err;
}

/* Whether an error is about this program, and would hit the next file just the same. */
static bool is_ours(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

static int walk__open(struct walk *walk, const struct mapping *mapping, struct stat *ret_st,
		      int *ret_fd)
{
	char range[sizeof("map_files/-") + 2 * 16];
	int root, err;

	snprintf(range, sizeof(range), "map_files/%" PRIx64 "-%" PRIx64, mapping->start,
		 mapping->end);
	err = open_regular(walk->process, range, ret_st, ret_fd);
	if (!err || is_ours(err) || mapping->path[0] != '/')
		return err;

	root = openat(walk->process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	err = open_regular(root, mapping->path + strspn(mapping->path, "/"), ret_st, ret_fd);
	close(root);
	if (!err && ret_st->st_ino == mapping->inode)
		return 0;
	if (!err)
		close(*ret_fd);
	if (is_ours(err))
		return err;

	/*
	 * maps gives the paths of a process in a chroot as they are outside of it. But outside may
	 * be another file system too, where inode numbers are others' numbers.
	 */
	err = open_regular(AT_FDCWD, mapping->path, ret_st, ret_fd);
	if (err)
		return err;
	if (ret_st->st_ino == mapping->inode && ret_st->st_dev == mapping->device)
		return 0;
	close(*ret_fd);
	return -ESTALE;
}

/* 1 when the file was seen before, 0 when it is new and remembered now. */
static int walk__remember(struct walk *walk, const struct stat *st)
{
	struct file_id *seen;
	size_t i, room;

	for (i = 0; i < walk->seen_count; i++)
		if (walk->seen[i].inode == st->st_ino && walk->seen[i].device == st->st_dev)
			return 1;
	if (walk->seen_count == FILES_MAX)
		return -E2BIG;
	if (walk->seen_count == walk->seen_room) {
		room = walk->seen_room ? 2 * walk->seen_room : 32;
		seen = realloc(walk->seen, room * sizeof(*seen));
		if (!seen)
			return -ENOMEM;
		walk->seen = seen;
		walk->seen_room = room;
	}
	walk->seen[walk->seen_count++] = (struct file_id){st->st_dev, st->st_ino};
	return 0;
}

static int walk__visit(struct walk *walk, const struct mapping *mapping)
{
	char link[sizeof("/proc/self/fd/") + 11];
	struct mapped_file file;
	size_t length;
	struct stat st;
	int err, fd;

	err = walk__open(walk, mapping, &st, &fd);
	if (err)
		return is_ours(err) ? err : 0;
	err = walk__remember(walk, &st);
	if (err) {
		err = err == 1 ? 0 : err;
		goto out;
	}
	length = strlen(mapping->path);
	if (length >= sizeof(deleted_suffix) &&
	    strcmp(mapping->path + length - (sizeof(deleted_suffix) - 1), deleted_suffix) == 0)
		mapping->path[length - (sizeof(deleted_suffix) - 1)] = '\0';
	/*
	 * Not map_files: the process may unmap the file, or map another at the same address, before
	 * the kernel resolves the path. What is open here stays what it is.
	 */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	file = (struct mapped_file){
		.device = st.st_dev,
		.inode = st.st_ino,
		.fd = fd,
		.path = mapping->path,
		.link = link,
	};
	err = walk->fn(walk->context, &file);
out:
	close(fd);
	return err;
}

int process__each_mapped_file(pid_t pid, mapped_file_fn *fn, void *context)
{
	struct walk walk = {.process = -1, .fn = fn, .context = context};
	char name[sizeof("/proc/") + 11];
	struct mapping mapping;
	char *line = NULL;
	FILE *maps = NULL;
	size_t room = 0;
	int err, fd;

	snprintf(name, sizeof(name), "/proc/%d", pid);
	walk.process = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (walk.process < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	fd = openat(walk.process, "maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err = errno == ENOENT ? -ESRCH : -errno;
		goto out;
	}
	maps = fdopen(fd, "r");
	if (!maps) {
		err = -errno;
		close(fd);
		goto out;
	}
	for (;;) {
		errno = 0;
		if (getline(&line, &room, maps) < 0) {
			/* Any other failure to read means that the process has exited. */
			err = errno == ENOMEM ? -ENOMEM : 0;
			break;
		}
		if (!mapping__parse(line, &mapping) || !mapping.executable || !mapping.inode)
			continue;
		err = walk__visit(&walk, &mapping);
		if (err)
			break;
	}
out:
	if (maps)
		fclose(maps);
	free(line);
	free(walk.seen);
	close(walk.process);
	return err;
}
