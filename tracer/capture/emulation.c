/* SPDX-License-Identifier: BSD-2-Clause */
/* Which instructions the running kernel emulates. See emulation.h. */
#include "capture/emulation.h"

#include <errno.h>
#include <link.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/closing.h"
#include "capture/uprobe.h"

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
	SAMPLE(confined, "", "push %rbx", "pop %rbx\n")
	/* clang-format on */
	".popsection\n");

static const char *const class_names[CLASS_COUNT] = {
	[CLASS_PUSH] = "push",	     [CLASS_BRANCH] = "jump, call, nop",
	[CLASS_NOP5] = "5-byte nop", [CLASS_STACK] = "sub and add of the stack pointer",
	[CLASS_RETURN] = "ret",	     [CLASS_ENDBR] = "endbr64",
};

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
DECLARE(confined)

#define ENTRY(class, name)                                                                         \
	{                                                                                          \
		class, emulation_##name, emulation_##name##_site                                   \
	}
static const struct sample samples[] = {
	ENTRY(CLASS_PUSH, push),   ENTRY(CLASS_BRANCH, branch),	 ENTRY(CLASS_NOP5, nop5),
	ENTRY(CLASS_STACK, stack), ENTRY(CLASS_RETURN, return ), ENTRY(CLASS_ENDBR, endbr),
};
/* None of the others: another tlstrace that starts runs these, and a uretprobe looks like a step.
 */
static const struct sample confined = ENTRY(CLASS_PUSH, confined);
#define SAMPLE_COUNT (sizeof(samples) / sizeof(samples[0]))

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

/* 0 when the address is not in the program itself but in a shared object. */
static uint64_t offset_of(const void *address)
{
	struct place place = {.address = (uintptr_t)address};

	dl_iterate_phdr(note_offset, &place);
	return place.offset;
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

/* In a child: runs the sample, and tells by its exit status whether it was emulated. */
static void run_sample(const struct sample *sample)
{
	static const unsigned char breakpoint = 0xcc;

	/* A probe that is not there would look like one that costs nothing. */
	if (memcmp(sample->site, &breakpoint, 1))
		_exit(1);
	sample->run();
	_exit(has_stepped());
}

/* Whether a child that does what `run` does with the sample exits with status 0. */
static bool child_succeeds(void (*run)(const struct sample *sample), const struct sample *sample)
{
	int status = 1;
	pid_t pid = fork();

	if (!pid) {
		run(sample);
		_exit(1);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status);
}

int emulation__try(struct emulated *ret_emulated)
{
	struct emulated emulated = {0};
	uint64_t offsets[SAMPLE_COUNT];
	int link;

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		offsets[i] = offset_of(samples[i].site);
		if (!offsets[i])
			return -EOPNOTSUPP;
	}
	link = uprobe__attach_nothing("/proc/self/exe", offsets, SAMPLE_COUNT, false);
	if (link < 0)
		return link;
	for (size_t i = 0; i < SAMPLE_COUNT; i++)
		if (child_succeeds(run_sample, &samples[i]))
			emulated.classes |= 1U << samples[i].class;
	closing__begin(link);
	if (!emulated.classes)
		return -EOPNOTSUPP;
	*ret_emulated = emulated;
	return 0;
}

/* In a child, confined as strictly as can be. */
static void run_confined(const struct sample *sample)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
		_exit(1);
	sample->run();
	/* _exit() would call exit_group, which strict mode forbids. */
	syscall(SYS_exit, 0);
}

bool uretprobe__is_safe(void)
{
	uint64_t offset = offset_of(confined.run);
	int link;
	bool safe;

	if (!offset)
		return false;
	link = uprobe__attach_nothing("/proc/self/exe", &offset, 1, true);
	if (link < 0)
		return true; /* so old a kernel returns by a breakpoint, not by a system call */
	safe = child_succeeds(run_confined, &confined);
	closing__begin(link);
	return safe;
}

#else

static const char *const class_names[CLASS_COUNT] = {
	[CLASS_OTHER] = "all else",
	[CLASS_BRANCH] = "branch, call, return, address",
};

bool uretprobe__is_safe(void)
{
	return true;
}

int emulation__try(struct emulated *ret_emulated)
{
	return -EOPNOTSUPP;
}

#endif

const char *emulation__class_name(enum instruction_class class)
{
	return class_names[class];
}
