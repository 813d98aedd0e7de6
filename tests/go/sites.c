/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tells where the probes of a Go program would go, of whatever machine it is:
 *
 *	go-sites FILE
 *
 * A line for each function that the file has:
 *	NAME ADDRESS SIZE ABI KEEPS ENTRY+STACK/CLASS EXIT/CLASS...
 * addresses in hexadecimal, ENTRY and EXIT from the function's begin; or NAME ADDRESS SIZE and why
 * it gets no probes. Exit status: 0, 1 when it is no Go program that can be read, 2 bad usage.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "elf_file.h"
#include "go.h"

static const char class_letters[] = {[SITE_EMULATED] = 'e', [SITE_STEPPED] = 's'};

static void print_function(const struct elf_file *file, int fd, const struct go_code *code,
			   enum go_function function)
{
	const struct go_function_code *found = &code->functions[function];
	const struct emulated emulated = emulated__default();
	struct placement placement;
	int err;

	printf("%s %" PRIx64 " %" PRIx64, go_function__name(function), found->address, found->size);
	err = go_sites__find(file, fd, code, function, &emulated, &placement);
	if (err) {
		printf(" %s: %s\n", strerror(-err), placement.exit_reason);
		return;
	}
	printf(" %s %s %" PRIx64 "+%u/%c", code->abi == GO_ABI_REGISTERS ? "registers" : "stack",
	       placement.keeps_arguments ? "kept" : "unkept",
	       placement.entry.offset - found->offset, placement.entry.stack_bytes,
	       class_letters[placement.entry.class]);
	for (unsigned int i = 0; i < placement.exit_count; i++)
		printf(" %" PRIx64 "/%c", placement.exits[i].offset - found->offset,
		       class_letters[placement.exits[i].class]);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct elf_file *file;
	struct go_code code;
	int fd, err;

	if (argc != 2) {
		fprintf(stderr, "usage: go-sites FILE\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	err = fd < 0 ? -1 : elf_file__open_any(fd, &file);
	if (!err) {
		err = elf_file__go_code(file, &code);
		printf("%s %s\n", err ? strerror(-err) : code.version,
		       code.found_by ? code.found_by : "not Go");
		for (int f = 0; !err && f < GO_FUNCTION_COUNT; f++)
			if (code.functions[f].offset)
				print_function(file, fd, &code, f);
		elf_file__close(file);
	}
	if (fd >= 0)
		close(fd);
	return err ? 1 : 0;
}
