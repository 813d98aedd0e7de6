/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One ELF file: its function symbols, its executable segments, its interpreter. Takes a file
 * descriptor, gives names and file offsets; never writes, never maps the file into memory and
 * keeps nothing of it that was not checked.
 *
 * The file may be hostile, or be overwritten while it is read. libelf is therefore told to read,
 * not to map (a file that is truncated under a mapping is a SIGBUS), and is called only once the
 * numbers that make it allocate have been bounded here.
 */
#include "elf_file.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"

#if __BYTE_ORDER == __LITTLE_ENDIAN
#define BYTE_ORDER_OF_ELF ELFDATA2LSB
#else
#define BYTE_ORDER_OF_ELF ELFDATA2MSB
#endif

/* The largest symbol or string table that is read into memory: a sparse file may claim terabytes.
 */
#define TABLE_MAX_BYTES (256ULL << 20)

/* Section names that are longer in sum are not read. */
#define SECTION_NAMES_MAX_BYTES (1 << 20)

struct elf_file {
	Elf *elf;
	int fd;
	uint64_t size;
	uint16_t type;
	const struct machine *machine;
	bool has_interpreter;
	uint64_t interpreter_offset, interpreter_size;
	struct elf_part unwind_table; /* .eh_frame_hdr; size 0: none */
	size_t executable_count;
	size_t segment_count;
	struct elf_part segments[]; /* all, as their headers have them */
};

/* Reads all of `size` bytes; -EBADMSG when the file ends before. */
static int read_at(int fd, void *buffer, size_t size, uint64_t offset)
{
	size_t done = 0;
	ssize_t n;

	while (done < size) {
		n = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		done += (size_t)n;
	}
	return 0;
}

/*
 * Whether libelf may look at the file. Without e_shnum and e_phnum (more than 65 thousand: object
 * files only) the counts are taken from section 0, 32 and 64 bits wide, and libelf would allocate
 * for as many. NULL for `wanted`: any machine.
 */
static int check_header(int fd, const struct machine *wanted, const struct machine **ret_machine)
{
	const struct machine *machine;
	Elf64_Ehdr header;
	int err;

	err = read_at(fd, &header, sizeof(header), 0);
	if (err)
		return err == -EBADMSG ? -ENOEXEC : err;
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != BYTE_ORDER_OF_ELF)
		return -ENOEXEC;
	machine = machine__of_elf(header.e_machine);
	if (!machine || (wanted && machine != wanted))
		return -ENOEXEC;
	if ((header.e_shnum == 0 && header.e_shoff != 0) || header.e_phnum == PN_XNUM)
		return -ENOEXEC;
	*ret_machine = machine;
	return 0;
}

static int elf_file__read_segments(struct elf_file *file, size_t count)
{
	GElf_Phdr header;
	size_t i;

	for (i = 0; i < count; i++) {
		if (!gelf_getphdr(file->elf, (int)i, &header))
			return -ENOEXEC;
		if (header.p_type == PT_INTERP && !file->has_interpreter) {
			file->has_interpreter = true;
			file->interpreter_offset = header.p_offset;
			file->interpreter_size = header.p_filesz;
		}
		file->segments[file->segment_count] = (struct elf_part){
			.name = "",
			.type = header.p_type,
			.is_allocated = true,
			.is_executable = header.p_flags & PF_X,
			.is_writable = header.p_flags & PF_W,
			.address = header.p_vaddr,
			.offset = header.p_offset,
			.size = header.p_filesz,
		};
		if (header.p_type == PT_GNU_EH_FRAME)
			file->unwind_table = file->segments[file->segment_count];
		if (header.p_type == PT_LOAD && header.p_flags & PF_X)
			file->executable_count++;
		file->segment_count++;
	}
	return 0;
}

static int open_for(int fd, const struct machine *wanted, struct elf_file **ret_file)
{
	const struct machine *machine;
	struct elf_file *file = NULL;
	GElf_Ehdr header;
	Elf *elf = NULL;
	struct stat st;
	size_t count;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOEXEC;
	err = check_header(fd, wanted, &machine);
	if (err)
		return err;

	elf_version(EV_CURRENT);
	errno = 0;
	elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!elf) {
		err = errno == ENOMEM ? -ENOMEM : -ENOEXEC;
		goto out;
	}
	err = -ENOEXEC;
	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header) ||
	    elf_getphdrnum(elf, &count))
		goto out;
	file = calloc(1, sizeof(*file) + count * sizeof(file->segments[0]));
	if (!file) {
		err = -ENOMEM;
		goto out;
	}
	file->elf = elf;
	file->fd = fd;
	file->size = (uint64_t)st.st_size;
	file->type = header.e_type;
	file->machine = machine;
	err = elf_file__read_segments(file, count);
	if (err)
		goto out;
	*ret_file = file;
	return 0;
out:
	free(file);
	elf_end(elf);
	return err;
}

int elf_file__open(int fd, struct elf_file **ret_file)
{
	return open_for(fd, machine__of_host(), ret_file);
}

int elf_file__open_any(int fd, struct elf_file **ret_file)
{
	return open_for(fd, NULL, ret_file);
}

const struct machine *elf_file__machine(const struct elf_file *file)
{
	return file->machine;
}

void elf_file__close(struct elf_file *file)
{
	if (!file)
		return;
	elf_end(file->elf);
	free(file);
}

/* Whether all of the part is in the file. */
static bool elf_file__holds(const struct elf_file *file, const struct elf_part *part)
{
	return part->offset <= file->size && part->size <= file->size - part->offset;
}

bool elf_file__is_executable(const struct elf_file *file)
{
	return (file->type == ET_EXEC || file->type == ET_DYN) && file->executable_count > 0;
}

/* The PT_LOAD whose part in the file holds `address`, NULL when there is none or it lies. */
static const struct elf_part *elf_file__segment_of(const struct elf_file *file, uint64_t address,
						   bool executable)
{
	const struct elf_part *segment;
	size_t i;

	for (i = 0; i < file->segment_count; i++) {
		segment = &file->segments[i];
		if (segment->type != PT_LOAD || (executable && !segment->is_executable) ||
		    address < segment->address || address - segment->address >= segment->size)
			continue;
		return elf_file__holds(file, segment) ? segment : NULL;
	}
	return NULL;
}

int elf_file__offset(const struct elf_file *file, uint64_t address, uint64_t *ret_offset)
{
	const struct elf_part *segment = elf_file__segment_of(file, address, true);

	/* Offset 0 is the ELF header, and means "none" in struct tls_code. */
	if (!segment || address - segment->address + segment->offset == 0)
		return -EBADMSG;
	*ret_offset = address - segment->address + segment->offset;
	return 0;
}

int elf_file__read(const struct elf_file *file, uint64_t offset, void *buffer, size_t size)
{
	if (offset > file->size || size > file->size - offset)
		return -EBADMSG;
	return read_at(file->fd, buffer, size, offset);
}

int elf_file__read_memory(const struct elf_file *file, uint64_t address, void *buffer, size_t size)
{
	const struct elf_part *segment = elf_file__segment_of(file, address, false);

	if (!segment || size > segment->size - (address - segment->address))
		return -EBADMSG;
	return read_at(file->fd, buffer, size, address - segment->address + segment->offset);
}

int elf_file__each_segment(const struct elf_file *file, elf_part_fn *fn, void *context)
{
	size_t i;
	int err = 0;

	for (i = 0; i < file->segment_count && !err; i++)
		if (elf_file__holds(file, &file->segments[i]))
			err = fn(context, &file->segments[i]);
	return err;
}

int elf_file__each_section(const struct elf_file *file, elf_part_fn *fn, void *context)
{
	struct elf_part part;
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	char *names = NULL;
	uint64_t names_size;
	size_t index;
	int err = 0;

	if (elf_getshdrstrndx(file->elf, &index) ||
	    !gelf_getshdr(elf_getscn(file->elf, index), &header) || header.sh_type != SHT_STRTAB ||
	    header.sh_size == 0 || header.sh_size > SECTION_NAMES_MAX_BYTES)
		return 0;
	names_size = header.sh_size;
	names = malloc(names_size);
	if (!names)
		return -ENOMEM;
	err = elf_file__read(file, header.sh_offset, names, names_size);
	/* What has no names has no sections: nothing that runs needs them. */
	if (err || names[names_size - 1] != '\0') {
		err = err == -EBADMSG ? 0 : err;
		goto out;
	}
	while (!err && (section = elf_nextscn(file->elf, section))) {
		if (!gelf_getshdr(section, &header) || header.sh_name >= names_size)
			continue;
		part = (struct elf_part){
			.name = names + header.sh_name,
			.type = header.sh_type,
			.is_allocated = header.sh_flags & SHF_ALLOC,
			.is_executable = header.sh_flags & SHF_EXECINSTR,
			.is_writable = header.sh_flags & SHF_WRITE,
			.address = header.sh_addr,
			.offset = header.sh_offset,
			.size = header.sh_size,
		};
		if (header.sh_type != SHT_NOBITS && elf_file__holds(file, &part))
			err = fn(context, &part);
	}
out:
	free(names);
	return err;
}

/* A row of .eh_frame_hdr's table: distances from the begin of .eh_frame_hdr. */
struct unwind_row {
	int32_t start;
	int32_t description;
};

/* The last row whose code begins at or before `address`. */
static int elf_file__unwind_row(const struct elf_file *file, uint64_t address,
				struct unwind_row *ret_row)
{
	/* Version 1; a count of 4 bytes; a table of 4-byte distances from the header. */
	enum { VERSION = 1, COUNT_ENCODING = 0x03, TABLE_ENCODING = 0x3b };
	const struct elf_part *table = &file->unwind_table;
	struct {
		uint8_t version, frame_encoding, count_encoding, table_encoding;
		int32_t frame;
		uint32_t count;
	} header;
	uint64_t low = 0, high, middle;
	struct unwind_row row;
	bool found = false;
	int err;

	if (table->size < sizeof(header))
		return -ENOENT;
	if (table->offset > file->size || table->size > file->size - table->offset)
		return -EBADMSG;
	err = read_at(file->fd, &header, sizeof(header), table->offset);
	if (err)
		return err;
	/* The frame's distance is not needed, but has to be as long as it is here. */
	if (header.version != VERSION || (header.frame_encoding & 0x0f) != 0x0b ||
	    header.count_encoding != COUNT_ENCODING || header.table_encoding != TABLE_ENCODING)
		return -ENOENT;
	if (header.count > (table->size - sizeof(header)) / sizeof(row))
		return -EBADMSG;
	high = header.count;
	while (low < high) {
		middle = low + (high - low) / 2;
		err = read_at(file->fd, &row, sizeof(row),
			      table->offset + sizeof(header) + middle * sizeof(row));
		if (err)
			return err;
		if (table->address + (uint64_t)row.start <= address) {
			*ret_row = row;
			found = true;
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return found ? 0 : -ENOENT;
}

int elf_file__unwind_range(const struct elf_file *file, uint64_t address, uint64_t *ret_start,
			   uint64_t *ret_size)
{
	const struct elf_part *table = &file->unwind_table;
	/* As it begins where addresses are 4-byte distances from where they are. */
	struct {
		uint32_t length;
		uint32_t common;
		int32_t start;
		uint32_t size;
	} description;
	struct unwind_row row;
	uint64_t start, at;
	int err;

	err = elf_file__unwind_row(file, address, &row);
	if (err)
		return err;
	start = table->address + (uint64_t)row.start;
	/* .eh_frame is loaded with .eh_frame_hdr: from as far away in the file. */
	at = table->offset + (uint64_t)row.description;
	if (at > file->size)
		return -EBADMSG;
	err = read_at(file->fd, &description, sizeof(description), at);
	if (err)
		return err;
	at = table->address + (uint64_t)row.description + offsetof(typeof(description), start);
	/* That it is told twice also tells that the form is the one. */
	if (description.length < sizeof(description) - sizeof(description.length) ||
	    description.length == UINT32_MAX || description.common == 0 ||
	    at + (uint64_t)description.start != start)
		return -ENOENT;
	if (address - start >= description.size)
		return -ENOENT;
	*ret_start = start;
	*ret_size = description.size;
	return 0;
}

/* The whole of a section of type `type` whose contents libelf takes for `contents`. */
static int elf_file__read_table(struct elf_file *file, Elf_Scn *section, uint32_t type,
				Elf_Type contents, Elf_Data **ret_data)
{
	GElf_Shdr header;
	Elf_Data *data;

	if (!section || !gelf_getshdr(section, &header) || header.sh_type != type ||
	    header.sh_offset > file->size || header.sh_size > file->size - header.sh_offset)
		return -EBADMSG;
	if (header.sh_size > TABLE_MAX_BYTES)
		return -EFBIG;
	errno = 0;
	data = elf_getdata(section, NULL);
	if (!data)
		return errno == ENOMEM || errno == EIO ? -errno : -EBADMSG;
	if (data->d_size && (data->d_type != contents || !data->d_buf))
		return -EBADMSG;
	*ret_data = data;
	return 0;
}

static int elf_file__each_of_table(struct elf_file *file, Elf_Scn *section, const GElf_Shdr *header,
				   elf_function_fn *fn, void *context)
{
	struct elf_function function;
	Elf_Data *symbols, *names;
	GElf_Sym symbol;
	size_t i, count;
	int err;

	err = elf_file__read_table(file, section, header->sh_type, ELF_T_SYM, &symbols);
	if (err)
		return err;
	count = symbols->d_size / sizeof(Elf64_Sym);
	if (count == 0)
		return 0;
	err = elf_file__read_table(file, elf_getscn(file->elf, header->sh_link), SHT_STRTAB,
				   ELF_T_BYTE, &names);
	if (err)
		return err;
	/* With a last byte of 0, every name that begins in the table ends in it. */
	if (names->d_size == 0 || ((const char *)names->d_buf)[names->d_size - 1] != '\0')
		return -EBADMSG;

	for (i = 1; i < count; i++) {
		if (!gelf_getsym(symbols, (int)i, &symbol) || symbol.st_name >= names->d_size)
			return -EBADMSG;
		/*
		 * An STT_GNU_IFUNC symbol is the function that chooses, not the one that is
		 * called.
		 */
		if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF ||
		    symbol.st_value == 0)
			continue;
		function.name = (const char *)names->d_buf + symbol.st_name;
		function.address = symbol.st_value;
		function.size = symbol.st_size;
		function.local = GELF_ST_BIND(symbol.st_info) == STB_LOCAL;
		err = fn(context, &function);
		if (err)
			return err;
	}
	return 0;
}

int elf_file__each_function(struct elf_file *file, elf_function_fn *fn, void *context)
{
	static const uint32_t types[] = {SHT_DYNSYM, SHT_SYMTAB};
	Elf_Scn *section;
	GElf_Shdr header;
	size_t i;
	int err;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		section = NULL;
		while ((section = elf_nextscn(file->elf, section))) {
			if (!gelf_getshdr(section, &header))
				return -EBADMSG;
			if (header.sh_type != types[i])
				continue;
			err = elf_file__each_of_table(file, section, &header, fn, context);
			if (err)
				return err;
			/* ELF allows one of each; thousands of large ones would fill memory. */
			break;
		}
	}
	return 0;
}

/* Looks for one name; a global symbol is better than a local one of the same name. */
struct wanted {
	const char *name;
	uint64_t address;
};

#define FOUND 1

static int wanted__note(void *context, const struct elf_function *function)
{
	struct wanted *wanted = context;

	if (strcmp(function->name, wanted->name) != 0)
		return 0;
	if (function->local) {
		if (!wanted->address)
			wanted->address = function->address;
		return 0;
	}
	wanted->address = function->address;
	return FOUND;
}

int elf_file__function(struct elf_file *file, const char *name, uint64_t *ret_offset)
{
	struct wanted wanted = {.name = name};
	int err;

	err = elf_file__each_function(file, wanted__note, &wanted);
	if (err < 0)
		return err;
	if (!wanted.address)
		return -ENOENT;
	return elf_file__offset(file, wanted.address, ret_offset);
}

int elf_file__interpreter(struct elf_file *file, char *ret_path, size_t size)
{
	char path[PATH_MAX];
	size_t length;
	int err;

	if (!file->has_interpreter)
		return -ENOENT;
	/* As the kernel's load_elf_binary() has it, which refuses all others. */
	if (file->interpreter_size < 2 || file->interpreter_size > sizeof(path) ||
	    file->interpreter_offset > file->size)
		return -EBADMSG;
	err = read_at(file->fd, path, file->interpreter_size, file->interpreter_offset);
	if (err)
		return err;
	if (path[file->interpreter_size - 1] != '\0' || path[0] == '\0')
		return -EBADMSG;
	length = strlen(path);
	if (length >= size)
		return -ENAMETOOLONG;
	memcpy(ret_path, path, length + 1);
	return 0;
}
