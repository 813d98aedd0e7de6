/* SPDX-License-Identifier: BSD-2-Clause */
/* Which instructions the running kernel emulates. See emulation.h. */
#include "capture/emulation.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)

/*
 * A function for each class, with the instruction at its label emulation_CLASS_site.
 */
#define SAMPLE(name, before, site, after)                                                          \
	"emulation_" #name ":\n" before "emulation_" #name "_site:\n" site "\n" after "ret\n"

__asm__(".pushsection .text\n"
	/* clang-format off */
	SAMPLE(push, "", "push %rbx", "pop %rbx\n")
	SAMPLE(branch, "test %eax, %eax\n", "jz 1f\n1:", "")
	SAMPLE(nop5, "", ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "")
	SAMPLE(stack, "", "sub $8, %rsp", "add $8, %rsp\n")
	SAMPLE(return, "", "ret", "")
	SAMPLE(endbr, "", ".byte 0xf3, 0x0f, 0x1e, 0xfa", "")
	/* clang-format on */
	".popsection\n");

struct sample {
	enum instruction_class class;
	void (*run)(void);
	const char *site;
};

#define DECLARE(name)                                                                              \
	extern void emulation_##name(void);                                                        \
	extern const char emulation_##name##_site[];
DECLARE(push)
DECLARE(branch)
DECLARE(nop5)
DECLARE(stack)
DECLARE(return )
DECLARE(endbr)

#define ENTRY(class, name)                                                                         \
	{                                                                                          \
		class, emulation_##name, emulation_##name##_site                                   \
	}
static const struct sample samples[] = {
	ENTRY(CLASS_PUSH, push),   ENTRY(CLASS_BRANCH, branch),	 ENTRY(CLASS_NOP5, nop5),
	ENTRY(CLASS_STACK, stack), ENTRY(CLASS_RETURN, return ), ENTRY(CLASS_ENDBR, endbr),
};
#define SAMPLE_COUNT (sizeof(samples) / sizeof(samples[0]))

static int read_type(uint32_t *ret_type)
{
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int err = 0;

	if (!file)
		return -errno;
	if (fscanf(file, "%u", ret_type) != 1)
		err = -EOPNOTSUPP;
	fclose(file);
	return err;
}

struct place {
	uintptr_t address;
	uint64_t offset;
};

/* Finds the file offset of an address of this program; the first object is the program. */
static int note_offset(struct dl_phdr_info *info, size_t size, void *context)
{
	struct place *place = context;
	int i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + header->p_vaddr;

		if (header->p_type == PT_LOAD && place->address >= start &&
		    place->address - start < header->p_filesz)
			place->offset = place->address - start + header->p_offset;
	}
	return 1;
}

/* Whether this process ever single-stepped under a uprobe. */
static bool has_stepped(void)
{
	static const char name[] = "[uprobes]\n";
	char line[512];
	bool found = false;
	FILE *maps = fopen("/proc/self/maps", "re");
	size_t length;

	if (!maps)
		return true;
	while (!found && fgets(line, sizeof(line), maps)) {
		length = strlen(line);
		found = length >= sizeof(name) - 1 &&
			strcmp(line + length - (sizeof(name) - 1), name) == 0;
	}
	fclose(maps);
	return found;
}

/*
 * What a child found, in one write to the pipe. Where the kernel does not let one instruction be
 * probed, that one is not emulated; anything else is wrong with all of them.
 */
struct finding {
	enum instruction_class class;
	int err;
	bool is_emulated;
};

static struct finding sample__try(const struct sample *sample, uint32_t type)
{
	struct place place = {.address = (uintptr_t)sample->site};
	struct finding finding = {.class = sample->class};
	struct perf_event_attr attr = {
		.type = type,
		.size = sizeof(attr),
		.uprobe_path = (uintptr_t) "/proc/self/exe",
	};
	uint64_t hits = 0;
	int event;

	dl_iterate_phdr(note_offset, &place);
	if (place.offset == 0) { /* this code is in a shared object */
		finding.err = -EOPNOTSUPP;
		return finding;
	}
	attr.probe_offset = place.offset;
	event = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0) {
		if (errno != EINVAL && errno != ENOTSUP)
			finding.err = -errno;
		return finding;
	}
	sample->run();
	finding.is_emulated =
		!has_stepped() && read(event, &hits, sizeof(hits)) == sizeof(hits) && hits == 1;
	/* The event stays open until the process is gone. */
	return finding;
}

/*
 * Runs in a child, and starts one of its own for each sample, that nobody waits for: it takes the
 * kernel 100 ms to take a uprobe away, which is when such a process ends.
 */
static void start_trials(int pipe_fd, uint32_t type)
{
	struct finding finding;
	size_t i;

	/* No file of the program may stay open that long. */
	if (dup2(pipe_fd, 0) != 0 || close_range(1, ~0U, 0))
		return;
	for (i = 0; i < SAMPLE_COUNT; i++) {
		if (fork() != 0)
			continue;
		finding = sample__try(&samples[i], type);
		_exit(write(0, &finding, sizeof(finding)) == sizeof(finding) ? 0 : 1);
	}
}

int emulation__try(struct emulated *ret_emulated)
{
	struct emulated emulated = {0};
	struct finding finding;
	int pipe_fds[2], err;
	uint32_t type;
	size_t count = 0;
	ssize_t n;
	pid_t pid;

	err = read_type(&type);
	if (err)
		return err;
	if (pipe2(pipe_fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid == 0) {
		start_trials(pipe_fds[1], type);
		_exit(0);
	}
	if (pid < 0)
		err = -errno;
	close(pipe_fds[1]);
	while (!err && count < SAMPLE_COUNT) {
		n = read(pipe_fds[0], &finding, sizeof(finding));
		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(finding))
			break; /* some of them could not be started */
		count++;
		err = finding.err;
		if (finding.is_emulated)
			emulated.classes |= 1U << finding.class;
	}
	close(pipe_fds[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (!err && emulated.classes == 0)
		err = -EOPNOTSUPP;
	if (!err)
		*ret_emulated = emulated;
	return err;
}

#else

int emulation__try(struct emulated *ret_emulated)
{
	return -EOPNOTSUPP;
}

#endif
