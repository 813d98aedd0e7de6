/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of an ELF file and their bytes, for what reads more of it than its symbols. Internal to
 * symbols/. Nothing is mapped, and nothing outside the file is read or told.
 */
#ifndef TLSTRACE_ELF_FILE_H
#define TLSTRACE_ELF_FILE_H

#include "symbols.h"

struct machine;

/*
 * As elf_file__open() does, but of any machine that machine.h knows: what is told of its code is
 * for that machine, whichever reads it.
 */
int elf_file__open_any(int fd, struct elf_file **ret_file);

/* The machine the file is for. */
const struct machine *elf_file__machine(const struct elf_file *file);

/* A section or a segment: what of it is in the file. */
struct elf_part {
	const char *name; /* of a section; valid during the callback only */
	uint32_t type;	  /* SHT_* or PT_* */
	bool is_allocated;
	bool is_executable;
	bool is_writable;
	uint64_t address; /* as linked */
	uint64_t offset;
	uint64_t size; /* offset + size is within the file */
};

/* Returns 0 to go on; anything else ends the walk. */
typedef int elf_part_fn(void *context, const struct elf_part *part);

/*
 * Calls `fn` for each segment, or each section that has bytes and a name. Parts that are not within
 * the file are passed over, and a file that has no section names has no sections. 0, what
 * `fn` returned, -ENOMEM, or another -errno from reading.
 */
int elf_file__each_segment(const struct elf_file *file, elf_part_fn *fn, void *context);
int elf_file__each_section(const struct elf_file *file, elf_part_fn *fn, void *context);

/*
 * Reads all of `size` bytes, from an offset in the file or an address as linked, whose bytes
 * must be in one PT_LOAD's part in the file. 0; -EBADMSG when they are not there; another -errno.
 */
int elf_file__read(const struct elf_file *file, uint64_t offset, void *buffer, size_t size);
int elf_file__read_memory(const struct elf_file *file, uint64_t address, void *buffer, size_t size);

#endif
