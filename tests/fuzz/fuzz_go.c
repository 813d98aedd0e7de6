/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For libFuzzer: Go executables. The input is which of the files made by hand is taken, and then
 * what is changed in it: a place in two bytes, how many, and the bytes. What is told of it has to
 * be within the file.
 */
#include "elf_file.h"
#include "go.h"
#include "go_image.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_sites(const struct elf_file *file, int fd, const struct go_code *code,
			enum go_function function)
{
	const struct go_function_code *found = &code->functions[function];
	const struct emulated emulated = emulated__default();
	struct placement placement;
	unsigned int i;

	if (!found->offset || go_sites__find(file, fd, code, function, &emulated, &placement))
		return;
	if (placement.exit_count == 0 || placement.exit_count > PLACEMENT_MAX_EXITS ||
	    placement.exit_kind != EXIT_SITES || !placement.entry_reason ||
	    placement.entry.offset < found->offset ||
	    placement.entry.offset >= found->offset + found->size)
		abort();
	for (i = 0; i < placement.exit_count; i++)
		if (placement.exits[i].offset < found->offset ||
		    placement.exits[i].offset >= found->offset + found->size)
			abort();
}

static void check(int fd)
{
	struct elf_file *file;
	struct go_code code;
	int f;

	if (elf_file__open_any(fd, &file))
		return;
	if (!elf_file__go_code(file, &code)) {
		if (!code.has_tls || !code.found_by)
			abort();
		for (f = 0; f < GO_FUNCTION_COUNT; f++) {
			if (code.functions[f].offset >= GO_IMAGE_BYTES)
				abort();
			check_sites(file, fd, &code, f);
		}
	}
	elf_file__close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct go_image image;
	size_t at, count, end = sizeof(image.bytes);
	unsigned int flags;
	int fd;

	if (size < 2)
		return 0;
	flags = (data[0] >> 2) | (unsigned int)data[1] << 6;
	go_image__make(&image, data[0] & 3, flags % GO_IMAGE_FLAGS_END);
	/* Half of them are truncated somewhere, too. */
	if (flags & GO_IMAGE_FLAGS_END && size >= 4)
		end = (data[2] << 8 | data[3]) % sizeof(image.bytes);
	for (data += 2, size -= 2; size >= 3; data += 3 + count, size -= 3 + count) {
		at = (data[0] << 8 | data[1]) % sizeof(image.bytes);
		count = data[2] % 16;
		if (count > size - 3)
			break;
		if (count > sizeof(image.bytes) - at)
			count = sizeof(image.bytes) - at;
		memcpy(image.bytes + at, data + 3, count);
	}
	fd = go_image__open(&image, end);
	check(fd);
	close(fd);
	return 0;
}
