/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pointers in an ELF file, as they are once it is loaded where it was linked. In a
 * position-independent file most are not in their place but in its relocations. Internal to
 * symbols/.
 */
#ifndef TLSTRACE_RELOCATION_H
#define TLSTRACE_RELOCATION_H

#include "elf_file.h"

struct elf_word {
	uint64_t address;
	uint64_t value;
};

/*
 * Sets the values of words whose addresses are given. One look at all relocations of the file,
 * however many words. 0; -EBADMSG when one is not in the file, or its relocations are not; -EFBIG;
 * -ENOMEM; another -errno from reading.
 */
int elf_file__read_words(const struct elf_file *file, struct elf_word *words, size_t count);

/*
 * The addresses of the first words, at most `max`, of writable segments that have `value`; in
 * place ones first. One look at all relocations and data. 0 or a -errno as above.
 */
int elf_file__find_words(const struct elf_file *file, uint64_t value, uint64_t *ret_addresses,
			 size_t max, size_t *ret_count);

#endif
