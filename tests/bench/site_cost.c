/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a probe costs by the instruction it sits on: ns a call, without any BPF program. Each
 * function below is called in a loop, first bare, then with a uprobe of this process alone (a perf
 * event that counts). Prints a line "CLASS NS" each. Exit status 77: uprobes are not to be had.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALLS	4000
#define BATCHES 5
#define SKIPPED 77

/* The probe is at NAME_site. */
__asm__(".text\n"
	"push_call: push_call_site: push %rbx; pop %rbx; ret\n"
	"jcc_call: test %rsp, %rsp; jcc_call_site: js 1f; 1: ret\n"
	"sub_call: sub_call_site: sub $0x18, %rsp; add $0x18, %rsp; ret\n"
	"ret_call: nop; ret_call_site: ret\n");

void push_call(void), jcc_call(void), sub_call(void), ret_call(void);
extern const char push_call_site[], jcc_call_site[], sub_call_site[], ret_call_site[];

static const struct site_class {
	const char *name;
	void (*call)(void);
	const char *site;
	bool at_return;
} classes[] = {
	{"emulated (push)", push_call, push_call_site, false},
	{"emulated (jcc)", jcc_call, jcc_call_site, false},
	{"stepped (sub)", sub_call, sub_call_site, false},
	{"stepped (ret)", ret_call, ret_call_site, false},
	{"uretprobe on an emulated first byte", push_call, push_call_site, true},
	{"uretprobe on a stepped first byte", sub_call, sub_call_site, true},
};

/* Where in the executable's file an address of this process is. */
static uint64_t file_offset(const char *address)
{
	uint64_t at = (uintptr_t)address, found = 0;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		uint64_t start, end, offset;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &offset) ==
			    3 &&
		    at >= start && at < end)
			found = at - start + offset;
	}
	if (maps)
		fclose(maps);
	return found;
}

static int first_number(const char *path)
{
	FILE *file = fopen(path, "re");
	int number = -1;

	if (file && fscanf(file, "%d", &number) != 1)
		number = -1;
	if (file)
		fclose(file);
	return number;
}

static int attach(int type, const struct site_class *class)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = (uint32_t)type,
		.config = class->at_return, /* bit 0 of the format on every kernel so far */
		.config1 = (uintptr_t) "/proc/self/exe",
		.config2 = file_offset(class->site),
	};

	return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* The best batch: what else runs here only adds. */
static double ns_a_call(void (*call)(void))
{
	double best = 0;

	for (int batch = 0; batch < BATCHES; batch++) {
		struct timespec from, to;
		double ns;

		clock_gettime(CLOCK_MONOTONIC, &from);
		for (int i = 0; i < CALLS; i++)
			call();
		clock_gettime(CLOCK_MONOTONIC, &to);
		ns = ((double)(to.tv_sec - from.tv_sec) * 1e9 +
		      (double)(to.tv_nsec - from.tv_nsec)) /
		     CALLS;
		if (!batch || ns < best)
			best = ns;
	}
	return best;
}

int main(void)
{
	int type = first_number("/sys/bus/event_source/devices/uprobe/type");

	if (type < 0)
		return SKIPPED;
	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++) {
		double bare = ns_a_call(classes[i].call);
		uint64_t hits = 0;
		int fd = attach(type, &classes[i]);

		if (fd < 0) {
			fprintf(stderr, "perf_event_open: %s\n", strerror(errno));
			return SKIPPED;
		}
		printf("%s\t%.0f\n", classes[i].name, ns_a_call(classes[i].call) - bare);
		if (read(fd, &hits, sizeof(hits)) != sizeof(hits) || hits != CALLS * BATCHES) {
			fprintf(stderr, "%s: %" PRIu64 " hits\n", classes[i].name, hits);
			return 1;
		}
		close(fd);
	}
	return 0;
}
