/* SPDX-License-Identifier: BSD-2-Clause */
/* Pointers in an ELF file, in place or relocated. See relocation.h. */
#include "relocation.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

#define CHUNK_BYTES (1 << 16)

/* What is read at the most; a sparse file may claim terabytes. */
#define DYNAMIC_ENTRIES_MAX   1024
#define RELOCATIONS_MAX_BYTES (256ULL << 20)
#define DATA_MAX_BYTES	      (1ULL << 30)

/* Returns 0 to go on. */
typedef int relocation_fn(void *context, uint64_t address, uint64_t value);

static int note_dynamic(void *context, const struct elf_part *segment)
{
	if (segment->type == PT_DYNAMIC)
		*(struct elf_part *)context = *segment;
	return 0;
}

/* Where DT_RELA is; a size of 0 when there are none. */
static int find_relocations(const struct elf_file *file, uint64_t *ret_address, uint64_t *ret_size)
{
	struct elf_part dynamic = {0};
	uint64_t at, entry_size = 0, size = 0;
	Elf64_Dyn entry;
	int err;

	*ret_address = *ret_size = 0;
	err = elf_file__each_segment(file, note_dynamic, &dynamic);
	if (err)
		return err;
	if (dynamic.size > DYNAMIC_ENTRIES_MAX * sizeof(entry))
		dynamic.size = DYNAMIC_ENTRIES_MAX * sizeof(entry);
	for (at = 0; dynamic.size - at >= sizeof(entry); at += sizeof(entry)) {
		err = elf_file__read(file, dynamic.offset + at, &entry, sizeof(entry));
		if (err)
			return err;
		if (entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == DT_RELA)
			*ret_address = entry.d_un.d_ptr;
		else if (entry.d_tag == DT_RELASZ)
			size = entry.d_un.d_val;
		else if (entry.d_tag == DT_RELAENT)
			entry_size = entry.d_un.d_val;
	}
	if (*ret_address == 0)
		return 0;
	if (entry_size != sizeof(Elf64_Rela))
		return -EBADMSG;
	if (size > RELOCATIONS_MAX_BYTES)
		return -EFBIG;
	*ret_size = size;
	return 0;
}

/* Calls `fn` for each relocation that says what a word is, but for where the file was loaded. */
static int each_relocation(const struct elf_file *file, relocation_fn *fn, void *context)
{
	enum { COUNT = CHUNK_BYTES / sizeof(Elf64_Rela) };
	const uint32_t relative = elf_file__machine(file)->relative_relocation;
	uint64_t address, size;
	Elf64_Rela *chunk;
	size_t count, i;
	int err;

	err = find_relocations(file, &address, &size);
	if (err || size == 0)
		return err;
	chunk = malloc(COUNT * sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	for (; !err && size >= sizeof(*chunk); address += count * sizeof(*chunk)) {
		count = size / sizeof(*chunk) < COUNT ? size / sizeof(*chunk) : COUNT;
		size -= count * sizeof(*chunk);
		err = elf_file__read_memory(file, address, chunk, count * sizeof(*chunk));
		for (i = 0; i < count && !err; i++)
			if (ELF64_R_TYPE(chunk[i].r_info) == relative)
				err = fn(context, chunk[i].r_offset, (uint64_t)chunk[i].r_addend);
	}
	free(chunk);
	return err;
}

struct reading {
	struct elf_word *words;
	size_t count;
	uint64_t lowest, highest; /* addresses */
};

static int reading__note(void *context, uint64_t address, uint64_t value)
{
	struct reading *reading = context;
	size_t i;

	if (address < reading->lowest || address > reading->highest)
		return 0;
	for (i = 0; i < reading->count; i++)
		if (reading->words[i].address == address)
			reading->words[i].value = value;
	return 0;
}

int elf_file__read_words(const struct elf_file *file, struct elf_word *words, size_t count)
{
	struct reading reading = {.words = words, .count = count, .lowest = UINT64_MAX};
	size_t i;
	int err;

	for (i = 0; i < count; i++) {
		err = elf_file__read_memory(file, words[i].address, &words[i].value,
					    sizeof(words[i].value));
		if (err)
			return err;
		if (words[i].address < reading.lowest)
			reading.lowest = words[i].address;
		if (words[i].address > reading.highest)
			reading.highest = words[i].address;
	}
	return each_relocation(file, reading__note, &reading);
}

struct search {
	const struct elf_file *file;
	uint64_t value;
	uint64_t *chunk;
	uint64_t *addresses;
	size_t max, count;
	uint64_t bytes; /* read so far */
};

static int search__note(void *context, uint64_t address, uint64_t value)
{
	struct search *search = context;

	if (value != search->value || search->count == search->max)
		return 0;
	search->addresses[search->count++] = address;
	return 0;
}

static int search__segment(void *context, const struct elf_part *segment)
{
	struct search *search = context;
	uint64_t at, skip = -segment->address % sizeof(uint64_t);
	size_t size, i;
	int err;

	if (segment->type != PT_LOAD || !segment->is_writable)
		return 0;
	if (segment->size > DATA_MAX_BYTES - search->bytes)
		return -EFBIG;
	search->bytes += segment->size;
	for (at = skip; at < segment->size; at += size) {
		size = segment->size - at < CHUNK_BYTES ? segment->size - at : CHUNK_BYTES;
		err = elf_file__read(search->file, segment->offset + at, search->chunk, size);
		if (err)
			return err;
		for (i = 0; i < size / sizeof(uint64_t); i++)
			search__note(search, segment->address + at + i * sizeof(uint64_t),
				     search->chunk[i]);
	}
	return 0;
}

int elf_file__find_words(const struct elf_file *file, uint64_t value, uint64_t *ret_addresses,
			 size_t max, size_t *ret_count)
{
	struct search search = {
		.file = file,
		.value = value,
		.chunk = malloc(CHUNK_BYTES),
		.addresses = ret_addresses,
		.max = max,
	};
	int err;

	if (!search.chunk)
		return -ENOMEM;
	err = elf_file__each_segment(file, search__segment, &search);
	if (!err)
		err = each_relocation(file, search__note, &search);
	free(search.chunk);
	*ret_count = search.count;
	return err;
}
