/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * symbols/: this machine's libssl against what nm and readelf say of it, small ELF files made by
 * hand for what no real library has, damaged files, and the mapped files of processes.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing_alloc.h"
#include "symbols.h"

#if defined(__x86_64__)
#define THIS_MACHINE EM_X86_64
#else
#define THIS_MACHINE EM_AARCH64
#endif

/* ---- helpers ---- */

static int anonymous_file(const void *bytes, size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pwrite(fd, bytes, size, 0), (ssize_t)size);
	return fd;
}

static int open_result(int fd)
{
	struct elf_file *file = NULL;
	int err = elf_file__open(fd, &file);

	cr_assert_eq(err == 0, file != NULL);
	elf_file__close(file);
	return err;
}

static int tls_code_of(int fd, struct tls_code *ret_code)
{
	struct elf_file *file;
	int err = elf_file__open(fd, &file);

	if (err)
		return err;
	err = elf_file__tls_code(file, ret_code);
	elf_file__close(file);
	return err;
}

/* The libssl that this process gets, whole. */
struct library {
	char path[PATH_MAX];
	uint8_t *bytes;
	size_t size;
};

static int note_libssl(void *context, const struct mapped_file *file)
{
	const char *name = strrchr(file->path, '/');

	if (!name || strncmp(name, "/libssl.so.", strlen("/libssl.so.")) != 0)
		return 0;
	snprintf(context, PATH_MAX, "%s", file->path);
	return 1;
}

static void library__load(struct library *library)
{
	struct stat st;
	int fd;

	cr_assert(dlopen("libssl.so.3", RTLD_LAZY), "%s", dlerror());
	cr_assert_eq(process__each_mapped_file(getpid(), note_libssl, library->path), 1);
	fd = open(library->path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fstat(fd, &st), 0);
	library->size = (size_t)st.st_size;
	library->bytes = malloc(library->size);
	cr_assert(library->bytes);
	cr_assert_eq(read(fd, library->bytes, library->size), st.st_size);
	close(fd);
}

/* The offset of a function by binutils; 0 when the file does not define it. */
static uint64_t offset_by_binutils(const char *path, const char *name)
{
	unsigned long address, found = 0, offset, linked, in_file, in_memory;
	char command[PATH_MAX + 64], line[512], symbol[256], type, flags[8];
	uint64_t result = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "nm -D --defined-only '%s'", path);
	pipe = popen(command, "r");
	cr_assert(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		if (sscanf(line, "%lx %c %255[^@\n]", &address, &type, symbol) == 3 &&
		    strcmp(symbol, name) == 0)
			found = address;
	}
	cr_assert_eq(pclose(pipe), 0);
	if (!found)
		return 0;

	snprintf(command, sizeof(command), "readelf -lW '%s'", path);
	pipe = popen(command, "r");
	cr_assert(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		if (sscanf(line, " LOAD %lx %lx %*x %lx %lx %7[RWE ]", &offset, &linked, &in_file,
			   &in_memory, flags) != 5)
			continue;
		if (strchr(flags, 'E') && found >= linked && found < linked + in_file)
			result = found - linked + offset;
	}
	cr_assert_eq(pclose(pipe), 0);
	cr_assert_neq(result, 0);
	return result;
}

/* ---- real files ---- */

Test(symbols, libssl_offsets_are_those_of_nm_and_readelf)
{
	struct library library = {0};
	struct elf_file *file;
	struct tls_code code;
	uint64_t offset;
	int fd, i, err;

	library__load(&library);
	fd = open(library.path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_assert(elf_file__is_executable(file));
	cr_assert_eq(elf_file__tls_code(file, &code), 0);
	cr_assert_eq(code.library, TLS_LIBRARY_OPENSSL);
	for (i = 0; i < TLS_FUNCTION_COUNT; i++) {
		const char *name = tls_function__name(i);

		cr_expect_eq(code.offset[i], offset_by_binutils(library.path, name), "%s", name);
		err = elf_file__function(file, name, &offset);
		cr_expect_eq(err, code.offset[i] ? 0 : -ENOENT, "%s", name);
		if (!err)
			cr_expect_eq(offset, code.offset[i], "%s", name);
	}
	cr_expect_neq(code.offset[TLS_READ], 0);
	cr_expect_neq(code.offset[TLS_WRITE_EX], 0);
	cr_expect_neq(code.offset[TLS_SHUTDOWN], 0);
	cr_expect_eq(elf_file__function(file, "malloc", &offset), -ENOENT, "only imported");
	elf_file__close(file);
	close(fd);
	free(library.bytes);
}

Test(symbols, a_program_without_tls_has_none)
{
	struct elf_file *file;
	struct tls_code code;
	int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);

	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_expect(elf_file__is_executable(file));
	cr_expect_eq(elf_file__tls_code(file, &code), -ENOENT);
	elf_file__close(file);
	close(fd);
}

Test(symbols, unwind_ranges_are_those_of_readelf)
{
	char command[PATH_MAX + 64], line[512];
	struct library library = {0};
	uint64_t start, size;
	unsigned long from, to;
	unsigned int count = 0;
	struct elf_file *file;
	FILE *pipe;
	int fd;

	library__load(&library);
	fd = open(library.path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(elf_file__open(fd, &file), 0);
	snprintf(command, sizeof(command), "readelf --debug-dump=frames '%s'", library.path);
	pipe = popen(command, "r");
	cr_assert(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		if (sscanf(line, "%*x %*x %*x FDE cie=%*x pc=%lx..%lx", &from, &to) != 2)
			continue;
		count++;
		cr_assert_eq(elf_file__unwind_range(file, from, &start, &size), 0, "%lx", from);
		cr_assert(start == from && size == to - from, "%lx", from);
		cr_assert_eq(elf_file__unwind_range(file, to - 1, &start, &size), 0, "%lx", to);
		cr_assert(start == from && size == to - from, "%lx", to);
		if (!elf_file__unwind_range(file, to, &start, &size))
			cr_assert_eq(start, to);
	}
	cr_assert_eq(pclose(pipe), 0);
	cr_expect_gt(count, 500);
	cr_expect_eq(elf_file__unwind_range(file, 0, &start, &size), -ENOENT);
	cr_expect_eq(elf_file__unwind_range(file, UINT64_MAX, &start, &size), -ENOENT);
	elf_file__close(file);
	close(fd);
	free(library.bytes);
}

Test(symbols, the_interpreter_is_that_of_readelf)
{
	char path[PATH_MAX] = "", line[512], expected[256] = "";
	struct elf_file *file;
	FILE *pipe;
	int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);

	pipe = popen("readelf -lW /bin/true", "r");
	cr_assert(pipe);
	while (fgets(line, sizeof(line), pipe))
		sscanf(line, " [Requesting program interpreter: %255[^]]", expected);
	cr_assert_eq(pclose(pipe), 0);

	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_expect_eq(elf_file__interpreter(file, path, strlen(expected)), -ENAMETOOLONG);
	cr_expect_eq(path[0], '\0', "set only on success");
	cr_expect_eq(elf_file__interpreter(file, path, strlen(expected) + 1), 0);
	cr_expect_str_eq(path, expected);
	elf_file__close(file);
	close(fd);
}

Test(symbols, what_is_no_elf_file_of_this_machine_is_refused)
{
	static const char script[] = "#!/usr/bin/env python3\nprint(1)\n";
	Elf32_Ehdr small = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT}};
	int fd, ends[2];

	fd = anonymous_file(script, strlen(script));
	cr_expect_eq(open_result(fd), -ENOEXEC, "a script");
	close(fd);
	fd = anonymous_file("", 0);
	cr_expect_eq(open_result(fd), -ENOEXEC, "an empty file");
	close(fd);
	fd = anonymous_file("!<arch>\n", 8);
	cr_expect_eq(open_result(fd), -ENOEXEC, "an archive");
	close(fd);
	fd = anonymous_file(&small, sizeof(small));
	cr_expect_eq(open_result(fd), -ENOEXEC, "32-bit ELF");
	close(fd);
	fd = open("/", O_RDONLY | O_CLOEXEC);
	cr_expect_eq(open_result(fd), -ENOEXEC, "a directory");
	close(fd);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	cr_expect_eq(open_result(fd), -ENOEXEC, "a device");
	close(fd);
	cr_assert_eq(pipe(ends), 0);
	cr_expect_eq(open_result(ends[0]), -ENOEXEC, "a pipe");
	close(ends[0]);
	close(ends[1]);
	cr_expect_eq(open_result(-1), -EBADF);
}

/* ---- files made by hand ---- */

enum {
	AT_SEGMENTS = 0x40,
	AT_INTERPRETER = 0x800,
	AT_TEXT = 0x1000,
	TEXT_SIZE = 0x100,
	AT_DYNSYM = 0x1200,
	AT_DYNSTR = 0x1600,
	AT_SYMTAB = 0x1a00,
	AT_STRTAB = 0x1e00,
	AT_SECTIONS = 0x2200,
	IMAGE_SIZE = 0x2400,
};

#define TEXT_ADDRESS 0x401000

enum { SEGMENT_DATA, SEGMENT_TEXT, SEGMENT_INTERPRETER, SEGMENT_COUNT };
enum { SECTION_NULL, SECTION_DYNSYM, SECTION_DYNSTR, SECTION_SYMTAB, SECTION_STRTAB };

static const char interpreter[] = "/lib/ld.so";

/* A small shared object with two symbol tables, both empty at first. */
struct image {
	union {
		uint8_t bytes[IMAGE_SIZE];
		Elf64_Ehdr header;
	};
	Elf64_Phdr *segments;
	Elf64_Shdr *sections;
};

static void image__init(struct image *image)
{
	static const struct {
		uint32_t type, link;
		uint64_t offset, size;
	} tables[] = {
		[SECTION_NULL] = {SHT_NULL, 0, 0, 0},
		[SECTION_DYNSYM] = {SHT_DYNSYM, SECTION_DYNSTR, AT_DYNSYM, sizeof(Elf64_Sym)},
		[SECTION_DYNSTR] = {SHT_STRTAB, 0, AT_DYNSTR, 1},
		[SECTION_SYMTAB] = {SHT_SYMTAB, SECTION_STRTAB, AT_SYMTAB, sizeof(Elf64_Sym)},
		[SECTION_STRTAB] = {SHT_STRTAB, 0, AT_STRTAB, 1},
	};
	size_t i, count = sizeof(tables) / sizeof(tables[0]);

	memset(image->bytes, 0, sizeof(image->bytes));
	image->segments = (Elf64_Phdr *)(image->bytes + AT_SEGMENTS);
	image->sections = (Elf64_Shdr *)(image->bytes + AT_SECTIONS);
	image->header = (Elf64_Ehdr){
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_DYN,
		.e_machine = THIS_MACHINE,
		.e_version = EV_CURRENT,
		.e_phoff = AT_SEGMENTS,
		.e_shoff = AT_SECTIONS,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = SEGMENT_COUNT,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = (uint16_t)count,
	};
	image->segments[SEGMENT_DATA] = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R,
		.p_vaddr = 0x400000,
		.p_filesz = 0x1000,
		.p_memsz = 0x1000,
	};
	image->segments[SEGMENT_TEXT] = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_offset = AT_TEXT,
		.p_vaddr = TEXT_ADDRESS,
		.p_filesz = TEXT_SIZE,
		.p_memsz = 2 * TEXT_SIZE,
	};
	image->segments[SEGMENT_INTERPRETER] = (Elf64_Phdr){
		.p_type = PT_INTERP,
		.p_offset = AT_INTERPRETER,
		.p_filesz = sizeof(interpreter),
	};
	memcpy(image->bytes + AT_INTERPRETER, interpreter, sizeof(interpreter));
	for (i = 0; i < count; i++) {
		image->sections[i].sh_type = tables[i].type;
		image->sections[i].sh_link = tables[i].link;
		image->sections[i].sh_offset = tables[i].offset;
		image->sections[i].sh_size = tables[i].size;
		if (tables[i].link)
			image->sections[i].sh_entsize = sizeof(Elf64_Sym);
	}
}

static Elf64_Sym *image__add(struct image *image, int table, const char *name, uint64_t value,
			     uint8_t binding)
{
	Elf64_Shdr *symbols = &image->sections[table];
	Elf64_Shdr *names = &image->sections[symbols->sh_link];
	Elf64_Sym *symbol = (Elf64_Sym *)(image->bytes + symbols->sh_offset + symbols->sh_size);

	*symbol = (Elf64_Sym){
		.st_name = (uint32_t)names->sh_size,
		.st_info = ELF64_ST_INFO(binding, STT_FUNC),
		.st_shndx = 1,
		.st_value = value,
	};
	strcpy((char *)image->bytes + names->sh_offset + names->sh_size, name);
	names->sh_size += strlen(name) + 1;
	symbols->sh_size += sizeof(*symbol);
	return symbol;
}

static void image__add_pair(struct image *image, int table)
{
	image__add(image, table, "SSL_read", TEXT_ADDRESS + 0x10, STB_GLOBAL);
	image__add(image, table, "SSL_write", TEXT_ADDRESS + 0x20, STB_GLOBAL);
}

static int image__tls_code(const struct image *image, struct tls_code *ret_code)
{
	int err, fd = anonymous_file(image->bytes, IMAGE_SIZE);

	err = tls_code_of(fd, ret_code);
	close(fd);
	return err;
}

Test(symbols, both_symbol_tables_are_searched)
{
	struct tls_code code;
	struct image image;

	image__init(&image);
	cr_expect_eq(image__tls_code(&image, &code), -ENOENT);
	image__add(&image, SECTION_DYNSYM, "SSL_read", TEXT_ADDRESS + 0x10, STB_GLOBAL);
	image__add(&image, SECTION_SYMTAB, "SSL_shutdown", TEXT_ADDRESS + 0x30, STB_LOCAL);
	cr_expect_eq(image__tls_code(&image, &code), -ENOENT, "reads only");
	image__add(&image, SECTION_SYMTAB, "SSL_write_ex", TEXT_ADDRESS + 0x20, STB_LOCAL);
	cr_assert_eq(image__tls_code(&image, &code), 0);
	cr_expect_eq(code.library, TLS_LIBRARY_OPENSSL);
	cr_expect_eq(code.offset[TLS_READ], AT_TEXT + 0x10);
	cr_expect_eq(code.offset[TLS_WRITE_EX], AT_TEXT + 0x20);
	cr_expect_eq(code.offset[TLS_SHUTDOWN], AT_TEXT + 0x30);
	cr_expect_eq(code.offset[TLS_WRITE], 0);
}

Test(symbols, a_stripped_file_has_no_tls_code)
{
	struct tls_code code;
	struct image image;

	image__init(&image);
	image__add_pair(&image, SECTION_SYMTAB);
	image.header.e_shoff = 0;
	image.header.e_shnum = 0;
	image.header.e_shentsize = 0;
	cr_expect_eq(image__tls_code(&image, &code), -ENOENT);
}

Test(symbols, a_global_symbol_is_better_than_a_local_one)
{
	struct elf_file *file;
	struct tls_code code;
	struct image image;
	uint64_t offset;
	int fd;

	image__init(&image);
	image__add(&image, SECTION_SYMTAB, "SSL_read", TEXT_ADDRESS + 0x40, STB_LOCAL);
	image__add(&image, SECTION_SYMTAB, "SSL_read", TEXT_ADDRESS + 0x50, STB_LOCAL);
	image__add_pair(&image, SECTION_SYMTAB);
	image__add(&image, SECTION_SYMTAB, "SSL_read", TEXT_ADDRESS + 0x60, STB_GLOBAL);
	image__add(&image, SECTION_SYMTAB, "SSL_read", TEXT_ADDRESS + 0x70, STB_LOCAL);
	image__add(&image, SECTION_SYMTAB, "only_local", TEXT_ADDRESS + 0x80, STB_LOCAL);
	image__add(&image, SECTION_SYMTAB, "only_local", TEXT_ADDRESS + 0x90, STB_LOCAL);
	cr_assert_eq(image__tls_code(&image, &code), 0);
	cr_expect_eq(code.offset[TLS_READ], AT_TEXT + 0x10);

	fd = anonymous_file(image.bytes, IMAGE_SIZE);
	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_expect_eq(elf_file__function(file, "SSL_read", &offset), 0);
	cr_expect_eq(offset, AT_TEXT + 0x10);
	cr_expect_eq(elf_file__function(file, "only_local", &offset), 0);
	cr_expect_eq(offset, AT_TEXT + 0x80);
	elf_file__close(file);
	close(fd);
}

Test(symbols, boringssl_is_told_by_its_own_functions)
{
	static const char *const names[] = {"SSL_set_custom_verify", "_ZN4bssl8ssl_openEv"};
	struct tls_code code;
	struct image image;
	Elf64_Sym *symbol;
	size_t i;

	for (i = 0; i < 2; i++) {
		image__init(&image);
		image__add_pair(&image, SECTION_DYNSYM);
		symbol = image__add(&image, SECTION_SYMTAB, names[i], TEXT_ADDRESS, STB_LOCAL);
		cr_assert_eq(image__tls_code(&image, &code), 0);
		cr_expect_eq(code.library, TLS_LIBRARY_BORINGSSL);
		symbol->st_shndx = SHN_UNDEF;
		cr_assert_eq(image__tls_code(&image, &code), 0);
		cr_expect_eq(code.library, TLS_LIBRARY_OPENSSL);
	}
}

Test(symbols, what_is_no_defined_function_is_skipped)
{
	struct tls_code code;
	struct image image;
	Elf64_Sym *symbol;

	image__init(&image);
	image__add_pair(&image, SECTION_DYNSYM);
	symbol = image__add(&image, SECTION_DYNSYM, "SSL_peek", TEXT_ADDRESS, STB_GLOBAL);
	symbol->st_shndx = SHN_UNDEF;
	symbol = image__add(&image, SECTION_DYNSYM, "SSL_new", TEXT_ADDRESS, STB_GLOBAL);
	symbol->st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
	symbol = image__add(&image, SECTION_DYNSYM, "SSL_free", TEXT_ADDRESS, STB_GLOBAL);
	symbol->st_info = ELF64_ST_INFO(STB_GLOBAL, STT_GNU_IFUNC);
	image__add(&image, SECTION_DYNSYM, "SSL_clear", 0, STB_GLOBAL);
	image__add(&image, SECTION_DYNSYM, "SSL_read_e", TEXT_ADDRESS, STB_GLOBAL);
	image__add(&image, SECTION_DYNSYM, "SSL_read_exx", TEXT_ADDRESS, STB_GLOBAL);
	image__add(&image, SECTION_DYNSYM, "SSL_", TEXT_ADDRESS, STB_GLOBAL);
	image__add(&image, SECTION_DYNSYM, "", TEXT_ADDRESS, STB_GLOBAL);
	cr_assert_eq(image__tls_code(&image, &code), 0);
	cr_expect_eq(code.offset[TLS_PEEK], 0);
	cr_expect_eq(code.offset[TLS_NEW], 0);
	cr_expect_eq(code.offset[TLS_FREE], 0);
	cr_expect_eq(code.offset[TLS_CLEAR], 0);
	cr_expect_eq(code.offset[TLS_READ_EX], 0);
}

Test(symbols, an_offset_is_inside_the_file_part_of_an_executable_segment)
{
	static const struct {
		uint64_t address;
		int err;
	} cases[] = {
		{TEXT_ADDRESS, 0},
		{TEXT_ADDRESS + TEXT_SIZE - 1, 0},
		{TEXT_ADDRESS + TEXT_SIZE, -EBADMSG}, /* memory only */
		{TEXT_ADDRESS - 1, -EBADMSG},	      /* data */
		{0x10, -EBADMSG},
		{UINT64_MAX, -EBADMSG},
	};
	struct tls_code code;
	struct image image;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		image__init(&image);
		image__add(&image, SECTION_DYNSYM, "SSL_read", cases[i].address, STB_GLOBAL);
		image__add(&image, SECTION_DYNSYM, "SSL_write", TEXT_ADDRESS, STB_GLOBAL);
		cr_expect_eq(image__tls_code(&image, &code), cases[i].err, "%#lx",
			     cases[i].address);
		if (cases[i].err == 0)
			cr_expect_eq(code.offset[TLS_READ],
				     cases[i].address - TEXT_ADDRESS + AT_TEXT);
	}
}

Test(symbols, a_segment_that_lies_about_the_file_gives_no_offsets)
{
	struct tls_code code;
	struct image image;

	image__init(&image);
	image__add_pair(&image, SECTION_DYNSYM);
	image.segments[SEGMENT_TEXT].p_filesz = IMAGE_SIZE;
	cr_expect_eq(image__tls_code(&image, &code), -EBADMSG);
	image.segments[SEGMENT_TEXT].p_filesz = UINT64_MAX;
	cr_expect_eq(image__tls_code(&image, &code), -EBADMSG);
	image.segments[SEGMENT_TEXT].p_filesz = TEXT_SIZE;
	image.segments[SEGMENT_TEXT].p_offset = UINT64_MAX - 0x10;
	cr_expect_eq(image__tls_code(&image, &code), -EBADMSG);
	image.segments[SEGMENT_TEXT].p_offset = IMAGE_SIZE + 1;
	cr_expect_eq(image__tls_code(&image, &code), -EBADMSG);
	/* An offset of 0 would say that there is no such function. */
	image.segments[SEGMENT_TEXT].p_offset = 0;
	image.segments[SEGMENT_TEXT].p_vaddr = TEXT_ADDRESS + 0x10;
	cr_expect_eq(image__tls_code(&image, &code), -EBADMSG);
}

Test(symbols, tables_that_contradict_the_file_are_refused)
{
	struct tls_code code;
	struct image image;
	Elf64_Sym *symbol;
	int fd;

#define CHECK(change, expected)                                                                    \
	do {                                                                                       \
		image__init(&image);                                                               \
		image__add_pair(&image, SECTION_DYNSYM);                                           \
		symbol = image__add(&image, SECTION_DYNSYM, "x", TEXT_ADDRESS, STB_GLOBAL);        \
		change;                                                                            \
		cr_expect_eq(image__tls_code(&image, &code), expected, #change);                   \
	} while (0)
	CHECK((void)0, 0);
	CHECK(symbol->st_name = 0x10000, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSTR].sh_size -= 1, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSTR].sh_size = 0, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSTR].sh_type = SHT_PROGBITS, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSTR].sh_offset = IMAGE_SIZE, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSTR].sh_flags = SHF_COMPRESSED, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSYM].sh_link = 1000, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSYM].sh_link = SECTION_DYNSYM, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSYM].sh_size = UINT64_MAX, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSYM].sh_offset = UINT64_MAX, -EBADMSG);
	CHECK(image.sections[SECTION_DYNSYM].sh_flags = SHF_COMPRESSED, -EBADMSG);
	CHECK(image.sections[SECTION_SYMTAB].sh_offset = IMAGE_SIZE, -EBADMSG);
	CHECK(image.header.e_machine = EM_S390, -ENOEXEC);
	CHECK(image.header.e_ident[EI_DATA] = ELFDATA2MSB, -ENOEXEC);
	CHECK(image.header.e_phnum = PN_XNUM, -ENOEXEC);
	CHECK(image.header.e_phoff = UINT64_MAX, -ENOEXEC);
	CHECK(image.header.e_shnum = 0, -ENOEXEC);
#undef CHECK

	/* A sparse file may claim tables of any size. */
	image__init(&image);
	image__add_pair(&image, SECTION_DYNSYM);
	image.sections[SECTION_DYNSYM].sh_size = (256ULL << 20) + sizeof(Elf64_Sym);
	fd = anonymous_file(image.bytes, IMAGE_SIZE);
	cr_assert_eq(ftruncate(fd, 1LL << 40), 0);
	cr_expect_eq(tls_code_of(fd, &code), -EFBIG);
	close(fd);
}

static int interpreter_of(const struct image *image, char *path)
{
	int err, fd = anonymous_file(image->bytes, IMAGE_SIZE);
	struct elf_file *file;

	cr_assert_eq(elf_file__open(fd, &file), 0);
	err = elf_file__interpreter(file, path, PATH_MAX);
	elf_file__close(file);
	close(fd);
	return err;
}

Test(symbols, an_interpreter_is_a_whole_string_in_the_file)
{
	char path[PATH_MAX];
	struct image image;
	Elf64_Phdr *segment;

	image__init(&image);
	segment = &image.segments[SEGMENT_INTERPRETER];
	cr_expect_eq(interpreter_of(&image, path), 0);
	cr_expect_str_eq(path, interpreter);
	segment->p_filesz--;
	cr_expect_eq(interpreter_of(&image, path), -EBADMSG, "no zero at its end");
	segment->p_filesz = 0;
	cr_expect_eq(interpreter_of(&image, path), -EBADMSG);
	segment->p_filesz = PATH_MAX + 1;
	cr_expect_eq(interpreter_of(&image, path), -EBADMSG);
	segment->p_filesz = sizeof(interpreter);
	segment->p_offset = IMAGE_SIZE - 1;
	cr_expect_eq(interpreter_of(&image, path), -EBADMSG);
	segment->p_offset = UINT64_MAX;
	cr_expect_eq(interpreter_of(&image, path), -EBADMSG);
	segment->p_offset = AT_TEXT;
	cr_expect_eq(interpreter_of(&image, path), -EBADMSG, "empty");
	segment->p_type = PT_NULL;
	cr_expect_eq(interpreter_of(&image, path), -ENOENT, "static");
}

Test(symbols, only_programs_and_libraries_are_executable)
{
	static const struct {
		uint16_t type;
		uint32_t flags;
		bool executable;
	} cases[] = {
		{ET_EXEC, PF_R | PF_X, true}, {ET_DYN, PF_R | PF_X, true},   {ET_DYN, PF_R, false},
		{ET_REL, PF_R | PF_X, false}, {ET_CORE, PF_R | PF_X, false},
	};
	struct elf_file *file;
	struct image image;
	size_t i;
	int fd;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		image__init(&image);
		image.header.e_type = cases[i].type;
		image.segments[SEGMENT_TEXT].p_flags = cases[i].flags;
		fd = anonymous_file(image.bytes, IMAGE_SIZE);
		cr_assert_eq(elf_file__open(fd, &file), 0);
		cr_expect_eq(elf_file__is_executable(file), cases[i].executable, "%zu", i);
		elf_file__close(file);
		close(fd);
	}
}

static int stop_at_second(void *context, const struct elf_function *function)
{
	int *count = context;

	cr_expect_gt(strlen(function->name), 0);
	return ++*count == 2 ? 7 : 0;
}

Test(symbols, a_walk_over_functions_ends_when_told)
{
	struct elf_file *file;
	struct image image;
	int fd, count = 0;

	image__init(&image);
	image__add_pair(&image, SECTION_DYNSYM);
	image__add_pair(&image, SECTION_SYMTAB);
	fd = anonymous_file(image.bytes, IMAGE_SIZE);
	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_expect_eq(elf_file__each_function(file, stop_at_second, &count), 7);
	cr_expect_eq(count, 2);
	elf_file__close(file);
	close(fd);
}

/* ---- damaged files ---- */

static bool in_executable_segment(const uint8_t *bytes, size_t size, uint64_t offset)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	size_t i;

	memcpy(&header, bytes, sizeof(header));
	for (i = 0; i < header.e_phnum; i++) {
		memcpy(&segment, bytes + header.e_phoff + i * sizeof(segment), sizeof(segment));
		if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) && offset < size &&
		    offset >= segment.p_offset && offset - segment.p_offset < segment.p_filesz)
			return true;
	}
	return false;
}

/* Runs all of elf_file__ on a file that may be damaged; `bytes` is its content. */
static int exercise(int fd, const uint8_t *bytes, size_t size)
{
	struct elf_file *file;
	struct tls_code code;
	char path[PATH_MAX];
	uint64_t offset, start, size_by_table;
	int err, unwind, i;

	err = elf_file__open(fd, &file);
	if (err) {
		cr_assert_eq(err, -ENOEXEC, "%d", err);
		return err;
	}
	err = elf_file__interpreter(file, path, sizeof(path));
	cr_assert(err == 0 || err == -ENOENT || err == -EBADMSG, "%d", err);
	err = elf_file__function(file, "SSL_do_handshake", &offset);
	cr_assert(err == 0 || err == -ENOENT || err == -EBADMSG, "%d", err);
	if (!err)
		cr_assert(in_executable_segment(bytes, size, offset));
	err = elf_file__tls_code(file, &code);
	cr_assert(err == 0 || err == -ENOENT || err == -EBADMSG, "%d", err);
	for (i = 0; !err && i < TLS_FUNCTION_COUNT; i++)
		if (code.offset[i])
			cr_assert(in_executable_segment(bytes, size, code.offset[i]));
	for (i = 0; !err && i < TLS_FUNCTION_COUNT; i++) {
		unwind = elf_file__unwind_range(file, code.address[i], &start, &size_by_table);
		cr_assert(unwind == 0 || unwind == -ENOENT || unwind == -EBADMSG, "%d", unwind);
		if (!unwind)
			cr_assert_lt(code.address[i] - start, size_by_table);
	}
	elf_file__close(file);
	return err;
}

Test(symbols, a_truncated_library_gives_errors_or_right_offsets)
{
	struct library library = {0};
	size_t size;
	int fd;

	library__load(&library);
	fd = anonymous_file(library.bytes, library.size);
	cr_assert_eq(exercise(fd, library.bytes, library.size), 0);
	for (size = (library.size - 1) & ~4095UL; size > 4096; size -= 4096) {
		cr_assert_eq(ftruncate(fd, (off_t)size), 0);
		exercise(fd, library.bytes, size);
	}
	for (size = 4096; size >= 64; size -= 64) {
		cr_assert_eq(ftruncate(fd, (off_t)size), 0);
		cr_expect_neq(exercise(fd, library.bytes, size), 0, "%zu", size);
	}
	close(fd);
	free(library.bytes);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

Test(symbols, a_damaged_library_gives_errors_or_right_offsets)
{
	enum { VARIANTS = 2000, CHANGES_MAX = 8 };
	uint64_t state = 0x9e3779b97f4a7c15;
	struct library library = {0};
	struct {
		uint64_t offset, size;
	} regions[5] = {0};
	Elf64_Phdr *segments;
	size_t at[CHANGES_MAX];
	uint8_t before[CHANGES_MAX];
	Elf64_Shdr *sections;
	Elf64_Ehdr *header;
	int fd, i, n, count, refused = 0;

	library__load(&library);
	header = (Elf64_Ehdr *)library.bytes;
	sections = (Elf64_Shdr *)(library.bytes + header->e_shoff);
	regions[0].size = sizeof(*header);
	regions[1].offset = header->e_phoff;
	regions[1].size = header->e_phnum * sizeof(Elf64_Phdr);
	regions[2].offset = header->e_shoff;
	regions[2].size = header->e_shnum * sizeof(Elf64_Shdr);
	for (i = 0; i < header->e_shnum; i++) {
		if (sections[i].sh_type == SHT_DYNSYM) {
			regions[3].offset = sections[i].sh_offset;
			regions[3].size = sections[i].sh_size;
		}
	}
	cr_assert_neq(regions[3].size, 0);
	segments = (Elf64_Phdr *)(library.bytes + header->e_phoff);
	for (i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_type == PT_GNU_EH_FRAME) {
			regions[4].offset = segments[i].p_offset;
			regions[4].size = segments[i].p_filesz;
		}
	}
	cr_assert_neq(regions[4].size, 0);
	/* in_executable_segment() reads the segments where a damaged header says they are. */
	library.bytes = realloc(library.bytes, library.size + 65536 * sizeof(Elf64_Phdr));
	cr_assert(library.bytes);

	fd = anonymous_file(library.bytes, library.size);
	for (n = 0; n < VARIANTS; n++) {
		count = 1 + (int)(next_random(&state) % CHANGES_MAX);
		for (i = 0; i < count; i++) {
			int region = (int)(next_random(&state) % 5);

			at[i] = regions[region].offset + next_random(&state) % regions[region].size;
			before[i] = library.bytes[at[i]];
			library.bytes[at[i]] = (uint8_t)next_random(&state);
			cr_assert_eq(pwrite(fd, &library.bytes[at[i]], 1, (off_t)at[i]), 1);
		}
		if (exercise(fd, library.bytes, library.size))
			refused++;
		while (i-- > 0) {
			library.bytes[at[i]] = before[i];
			cr_assert_eq(pwrite(fd, &before[i], 1, (off_t)at[i]), 1);
		}
	}
	cr_assert_eq(exercise(fd, library.bytes, library.size), 0, "damage was undone");
	cr_expect_gt(refused, VARIANTS / 10);
	cr_expect_lt(refused, VARIANTS);
	close(fd);
	free(library.bytes);
}

/* ---- the mapped files of a process ---- */

struct seen_files {
	int count;
	struct {
		dev_t device;
		ino_t inode;
		char path[512];
		int tls_code; /* what elf_file__tls_code() said, through the fd */
	} file[256];
};

static int seen_files__note(void *context, const struct mapped_file *file)
{
	struct seen_files *seen = context;
	struct stat by_link, by_fd;
	struct tls_code code;

	cr_assert_lt(seen->count, 256);
	cr_assert_eq(fstat(file->fd, &by_fd), 0);
	cr_assert_eq(stat(file->link, &by_link), 0);
	cr_assert_eq(by_fd.st_ino, file->inode);
	cr_assert_eq(by_fd.st_dev, file->device);
	cr_assert_eq(by_link.st_ino, file->inode);
	cr_assert_eq(by_link.st_dev, file->device);
	cr_assert_eq(fcntl(file->fd, F_GETFD), FD_CLOEXEC);
	seen->file[seen->count].device = file->device;
	seen->file[seen->count].inode = file->inode;
	snprintf(seen->file[seen->count].path, sizeof(seen->file[0].path), "%s", file->path);
	seen->file[seen->count].tls_code = tls_code_of(file->fd, &code);
	seen->count++;
	return 0;
}

/* The index of the file of that path, or -1. */
static int seen_files__find(const struct seen_files *seen, const char *path)
{
	int i;

	for (i = 0; i < seen->count; i++)
		if (strcmp(seen->file[i].path, path) == 0)
			return i;
	return -1;
}

static bool seen_files__have_part(const struct seen_files *seen, const char *part)
{
	int i;

	for (i = 0; i < seen->count; i++)
		if (strstr(seen->file[i].path, part))
			return true;
	return false;
}

/* Without them, the kernel follows no link in map_files. Returns whether they were there. */
static bool drop_map_files_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	const uint32_t high = CAP_CHECKPOINT_RESTORE - 32;
	bool had;

	cr_assert_eq(syscall(SYS_capget, &header, data), 0);
	had = (data[0].effective & 1U << CAP_SYS_ADMIN) || (data[1].effective & 1U << high);
	data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	data[1].effective &= ~(1U << high);
	cr_assert_eq(syscall(SYS_capset, &header, data), 0);
	return had;
}

/* A copy of libssl in a directory of its own, mapped to execute in this process. */
struct mapped_copy {
	char directory[64];
	char path[128];
	void *memory;
};

static void mapped_copy__make(struct mapped_copy *copy, const char *name)
{
	struct library library = {0};
	int fd;

	library__load(&library);
	snprintf(copy->directory, sizeof(copy->directory), "/tmp/tlstrace-test-XXXXXX");
	cr_assert(mkdtemp(copy->directory));
	snprintf(copy->path, sizeof(copy->path), "%s/%s", copy->directory, name);
	fd = open(copy->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, library.bytes, library.size), (ssize_t)library.size);
	copy->memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	cr_assert_neq(copy->memory, MAP_FAILED);
	close(fd);
	free(library.bytes);
}

static void mapped_copy__remove(struct mapped_copy *copy)
{
	unlink(copy->path);
	cr_expect_eq(rmdir(copy->directory), 0);
}

Test(process, own_files_are_all_found_once)
{
	static struct seen_files seen;
	int i, k;

	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	cr_expect_gt(seen.count, 2);
	cr_expect(seen_files__have_part(&seen, "/libcriterion.so"));
	cr_expect(seen_files__have_part(&seen, "/libc.so"));
	for (i = 0; i < seen.count; i++)
		for (k = 0; k < i; k++)
			cr_expect(seen.file[i].inode != seen.file[k].inode ||
				  seen.file[i].device != seen.file[k].device);
}

static int count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	cr_assert(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

Test(process, a_walk_leaves_no_descriptor_open)
{
	static struct seen_files seen;
	int before = count_descriptors();

	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	cr_expect_eq(count_descriptors(), before);
	cr_assert(drop_map_files_capabilities() || geteuid() != 0);
	seen.count = 0;
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	cr_expect_eq(count_descriptors(), before);
}

static int stop(void *context, const struct mapped_file *file)
{
	++*(int *)context;
	return -EXDEV;
}

Test(process, a_walk_ends_when_told)
{
	int count = 0;

	cr_expect_eq(process__each_mapped_file(getpid(), stop, &count), -EXDEV);
	cr_expect_eq(count, 1);
}

Test(process, a_name_may_hold_anything)
{
	static struct seen_files seen;
	struct mapped_copy copy;
	int i;

	mapped_copy__make(&copy, "  a b\nr-xp \\ \t(deleted) x");
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	mapped_copy__remove(&copy);
	i = seen_files__find(&seen, copy.path);
	cr_assert_geq(i, 0);
	cr_expect_eq(seen.file[i].tls_code, 0);
}

Test(process, a_deleted_file_is_found)
{
	static struct seen_files seen;
	struct mapped_copy copy;
	int i;

	if (geteuid() != 0)
		cr_skip_test("map_files takes root");
	mapped_copy__make(&copy, "libdeleted.so");
	mapped_copy__remove(&copy);
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	i = seen_files__find(&seen, copy.path);
	cr_assert_geq(i, 0);
	cr_expect_eq(seen.file[i].tls_code, 0);
}

Test(process, two_mappings_of_a_file_count_once_and_data_does_not_count)
{
	static struct seen_files seen;
	struct mapped_copy copy;
	int fd, i, times = 0;
	void *memory;

	mapped_copy__make(&copy, "twice.so");
	fd = open(copy.path, O_RDONLY | O_CLOEXEC);
	memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 8192);
	cr_assert_neq(memory, MAP_FAILED);
	close(fd);
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	for (i = 0; i < seen.count; i++)
		times += strcmp(seen.file[i].path, copy.path) == 0;
	cr_expect_eq(times, 1);

	cr_assert_eq(mprotect(memory, 4096, PROT_READ), 0);
	cr_assert_eq(mprotect(copy.memory, 4096, PROT_READ), 0);
	seen.count = 0;
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	mapped_copy__remove(&copy);
	cr_expect_eq(seen_files__find(&seen, copy.path), -1);
}

Test(process, what_is_no_regular_file_is_passed_over)
{
	static struct seen_files seen;
	int fd;

	/* Private /dev/zero is a device; anonymous memory has no file. */
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_neq(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0), MAP_FAILED);
	close(fd);
	cr_assert_neq(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      MAP_FAILED);
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	cr_expect_eq(seen_files__find(&seen, "/dev/zero"), -1);
	cr_expect_not(seen_files__have_part(&seen, "["));
}

Test(process, a_program_in_anonymous_memory_is_found)
{
	static struct seen_files seen;
	struct library library = {0};
	int fd, i;

	if (geteuid() != 0)
		cr_skip_test("map_files takes root");
	library__load(&library);
	fd = anonymous_file(library.bytes, library.size);
	cr_assert_neq(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0), MAP_FAILED);
	close(fd);
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	i = seen_files__find(&seen, "/memfd:test");
	cr_assert_geq(i, 0);
	cr_expect_eq(seen.file[i].tls_code, 0);
	free(library.bytes);
}

Test(process, without_map_files_a_path_is_believed_only_if_the_inode_is_mapped)
{
	static struct seen_files seen;
	struct mapped_copy kept, replaced;
	char as_in_maps[256];
	int fd;

	mapped_copy__make(&kept, "kept.so");
	mapped_copy__make(&replaced, "replaced.so");
	/* A file that has the very name which maps gives for the deleted one. */
	snprintf(as_in_maps, sizeof(as_in_maps), "%s (deleted)", replaced.path);
	cr_assert_eq(unlink(replaced.path), 0);
	fd = open(as_in_maps, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	cr_assert_geq(fd, 0);
	close(fd);
	drop_map_files_capabilities();
	cr_assert_eq(process__each_mapped_file(getpid(), seen_files__note, &seen), 0);
	unlink(as_in_maps);
	mapped_copy__remove(&kept);
	mapped_copy__remove(&replaced);
	cr_expect_geq(seen_files__find(&seen, kept.path), 0);
	cr_expect_eq(seen_files__find(&seen, replaced.path), -1);
	cr_expect(seen_files__have_part(&seen, "/libc.so"));
}

/* A child in a chroot that has `copy` mapped; it waits to be killed. */
static pid_t start_in_chroot(const struct mapped_copy *copy)
{
	int ready[2];
	char byte;
	pid_t pid;

	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		if (chroot(copy->directory) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

Test(process, a_process_in_a_chroot_is_walked_with_and_without_map_files)
{
	static struct seen_files seen;
	struct mapped_copy copy;
	pid_t pid;
	int i;

	if (geteuid() != 0)
		cr_skip_test("chroot takes root");
	mapped_copy__make(&copy, "libinside.so");
	pid = start_in_chroot(&copy);
	for (i = 0; i < 2; i++) {
		seen.count = 0;
		cr_expect_eq(process__each_mapped_file(pid, seen_files__note, &seen), 0);
		cr_expect_geq(seen_files__find(&seen, copy.path), 0, "%d", i);
		if (i == 0)
			cr_expect(drop_map_files_capabilities());
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	mapped_copy__remove(&copy);
}

Test(process, a_zombie_has_no_files_and_then_it_is_gone)
{
	int count = 0;
	siginfo_t info;
	pid_t pid;

	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		_exit(0);
	cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	cr_expect_eq(process__each_mapped_file(pid, stop, &count), 0);
	cr_expect_eq(count, 0);
	waitpid(pid, NULL, 0);
	cr_expect_eq(process__each_mapped_file(pid, stop, &count), -ESRCH);
	cr_expect_eq(process__each_mapped_file(-1, stop, &count), -ESRCH);
	cr_expect_eq(process__each_mapped_file(0, stop, &count), -ESRCH);
}

/* Ends the process whose files are being walked, at the first of them. */
static int kill_walked(void *context, const struct mapped_file *file)
{
	pid_t pid = *(pid_t *)context;

	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		*(pid_t *)context = 0;
	}
	return 0;
}

Test(process, a_process_that_exits_during_the_walk_is_no_error)
{
	pid_t pid = fork(), walked = pid;

	cr_assert_geq(pid, 0);
	if (pid == 0)
		for (;;)
			pause();
	cr_expect_eq(process__each_mapped_file(pid, kill_walked, &walked), 0);
	cr_expect_eq(walked, 0);
}

/* ---- out of memory ---- */

static int ignore(void *context, const struct mapped_file *file)
{
	return 0;
}

Test(symbols, every_failed_allocation_is_reported)
{
	struct elf_file *file;
	unsigned int n;
	int fd, err;

	fd = open("/bin/true", O_RDONLY | O_CLOEXEC);
	for (n = 0;; n++) {
		failing_alloc__arm(n);
		err = elf_file__open(fd, &file);
		if (!failing_alloc__disarm())
			break;
		cr_assert_eq(err, -ENOMEM);
	}
	cr_assert_eq(err, 0);
	cr_expect_gt(n, 0);
	elf_file__close(file);
	close(fd);

	for (n = 0;; n++) {
		failing_alloc__arm(n);
		err = process__each_mapped_file(getpid(), ignore, NULL);
		if (!failing_alloc__disarm())
			break;
		cr_assert_eq(err, -ENOMEM);
	}
	cr_assert_eq(err, 0);
	cr_expect_gt(n, 0);
	elf_file__close(NULL);
}
