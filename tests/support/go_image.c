/* SPDX-License-Identifier: BSD-2-Clause */
/* See go_image.h. */
#include "go_image.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elf_file.h"

enum {
	TEXT_AT = GO_IMAGE_TEXT_AT,
	TABLE_AT = GO_IMAGE_TABLE_AT,
	RODATA_AT = 0x2000,
	RODATA_BYTES = 0x1000,
	DATA_AT = 0x3000,
	DATA_BYTES = 0x1000,
	BUILD_INFO_AT = DATA_AT,
	BUILD_INFO_BYTES = 0x40,
	VERSION_AT = DATA_AT + 0x80, /* a pointer and a length */
	MODULE_AT = GO_IMAGE_MODULE_AT,
	DYNAMIC_AT = DATA_AT + 0x300,
	RELOCATIONS_AT = DATA_AT + 0x400,
	SECTIONS_AT = 0x4000,
	SECTION_NAMES_AT = 0x4800,
	SYMBOLS_AT = 0x4a00,
	SYMBOL_NAMES_AT = 0x4b00,
	FUNCTION_BYTES = 0x40,
};

static const char *const other_names[] = {
	"runtime.text",
	"main.main",
	"crypto/tls.(*Conn).ReadFrom",
	"my/crypto/tls.(*Conn).Read",
	"example.com/not/vendored/golang.org/x/net/http2/hpack.(*Decoder).Write",
	"crypto/tls.(*Conn).Read-fm",
};

#define OTHERS (sizeof(other_names) / sizeof(other_names[0]))

/* cmp 0x10(%r14),%rsp; jbe 1f; sub $24,%rsp; add $24,%rsp; ret; 1: call .; jmp 0 */
static const uint8_t code_registers[] = {0x49, 0x3b, 0x66, 0x10, 0x76, 0x09, 0x48, 0x83,
					 0xec, 0x18, 0x48, 0x83, 0xc4, 0x18, 0xc3, 0xe8,
					 0xff, 0x0f, 0,	   0,	 0xeb, 0xea};

/* mov %fs:-8,%rcx; cmp 0x10(%rcx),%rsp; jbe 1f; and as above */
static const uint8_t code_stack[] = {0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff,
				     0xff, 0x48, 0x3b, 0x61, 0x10, 0x76, 0x09, 0x48,
				     0x83, 0xec, 0x18, 0x48, 0x83, 0xc4, 0x18, 0xc3,
				     0xe8, 0xff, 0x0f, 0,    0,	   0xeb, 0xe1};

/* ldr x16, [x28, #16]; cmp sp, x16; b.ls 1f; str x30, [sp, #-32]!; ldr x30, [sp], #32; ret;
 * 1: bl .; b 0 */
static const uint8_t arm64_registers[] = {
	0x90, 0x0b, 0x40, 0xf9, 0xff, 0x63, 0x30, 0xeb, 0x89, 0x00, 0x00,
	0x54, 0xfe, 0x0f, 0x1e, 0xf8, 0xfe, 0x07, 0x42, 0xf8, 0xc0, 0x03,
	0x5f, 0xd6, 0x00, 0x04, 0x00, 0x94, 0xf9, 0xff, 0xff, 0x17,
};

/* ldr x1, [x28, #16]; mov x2, sp; cmp x2, x1; b.ls 1f; and as above */
static const uint8_t arm64_stack[] = {
	0x81, 0x0b, 0x40, 0xf9, 0xe2, 0x03, 0x00, 0x91, 0x5f, 0x00, 0x01, 0xeb,
	0x89, 0x00, 0x00, 0x54, 0xfe, 0x0f, 0x1e, 0xf8, 0xfe, 0x07, 0x42, 0xf8,
	0xc0, 0x03, 0x5f, 0xd6, 0x00, 0x04, 0x00, 0x94, 0xf8, 0xff, 0xff, 0x17,
};

/* What functions begin and end with, and is between them. */
static const struct image_machine {
	const uint8_t *registers, *stack;
	size_t registers_size, stack_size;
	uint32_t relative;
	uint16_t number;
	uint8_t quantum, padding;
} image_x86_64 =
	{
		.registers = code_registers,
		.stack = code_stack,
		.registers_size = sizeof(code_registers),
		.stack_size = sizeof(code_stack),
		.relative = R_X86_64_RELATIVE,
		.number = EM_X86_64,
		.quantum = 1,
		.padding = 0xcc,
},
  image_arm64 = {
	  .registers = arm64_registers,
	  .stack = arm64_stack,
	  .registers_size = sizeof(arm64_registers),
	  .stack_size = sizeof(arm64_stack),
	  .relative = R_AARCH64_RELATIVE,
	  .number = EM_AARCH64,
	  .quantum = 4,
};

struct maker {
	const struct image_machine *machine;
	struct go_image *image;
	enum go_table_format format;
	unsigned int flags;
	size_t at; /* of what is put next */
};

static void put(struct go_image *image, size_t at, const void *bytes, size_t size)
{
	if (at + size > sizeof(image->bytes))
		abort();
	memcpy(image->bytes + at, bytes, size);
}

static void put64(struct go_image *image, size_t at, uint64_t value)
{
	put(image, at, &value, sizeof(value));
}

static void put32(struct go_image *image, size_t at, uint32_t value)
{
	put(image, at, &value, sizeof(value));
}

/* A pointer: in place, or in a relocation. */
static void put_pointer(struct maker *maker, size_t at, uint64_t value)
{
	struct go_image *image = maker->image;
	Elf64_Rela relocation = {
		.r_offset = GO_IMAGE_ADDRESS + at,
		.r_info = ELF64_R_INFO(0, maker->machine->relative),
		.r_addend = (Elf64_Sxword)value,
	};

	if (!(maker->flags & GO_IMAGE_RELOCATED)) {
		put64(image, at, value);
		return;
	}
	put(image, RELOCATIONS_AT + image->relocations++ * sizeof(relocation), &relocation,
	    sizeof(relocation));
}

static void put_headers(struct maker *maker)
{
	struct go_image *image = maker->image;
	const Elf64_Phdr segments[] = {
		{.p_type = PT_LOAD,
		 .p_flags = PF_R | PF_X,
		 .p_offset = TEXT_AT,
		 .p_filesz = GO_IMAGE_TEXT_BYTES},
		{.p_type = PT_LOAD,
		 .p_flags = PF_R,
		 .p_offset = RODATA_AT,
		 .p_filesz = RODATA_BYTES},
		{.p_type = PT_LOAD,
		 .p_flags = PF_R | PF_W,
		 .p_offset = DATA_AT,
		 .p_filesz = DATA_BYTES},
		{.p_type = PT_DYNAMIC,
		 .p_flags = PF_R | PF_W,
		 .p_offset = DYNAMIC_AT,
		 .p_filesz = 4 * sizeof(Elf64_Dyn)},
	};
	Elf64_Ehdr header = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_DYN,
		.e_machine = maker->machine->number,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = sizeof(segments) / sizeof(segments[0]),
	};
	size_t i;

	if (!(maker->flags & GO_IMAGE_NO_SECTIONS)) {
		header.e_shoff = SECTIONS_AT;
		header.e_shentsize = sizeof(Elf64_Shdr);
	}
	put(image, 0, &header, sizeof(header));
	for (i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr segment = segments[i];

		segment.p_vaddr = GO_IMAGE_ADDRESS + segment.p_offset;
		segment.p_memsz = segment.p_filesz;
		put(image, sizeof(header) + i * sizeof(segment), &segment, sizeof(segment));
	}
}

static void put_section(struct maker *maker, const char *name, uint32_t type, uint64_t flags,
			size_t at, size_t size)
{
	Elf64_Ehdr *header = (Elf64_Ehdr *)maker->image->bytes;
	Elf64_Shdr section = {
		.sh_name = (uint32_t)(maker->at - SECTION_NAMES_AT),
		.sh_type = type,
		.sh_flags = flags,
		.sh_addr = flags ? GO_IMAGE_ADDRESS + at : 0,
		.sh_offset = at,
		.sh_size = size,
	};

	/* Names of symbols are in the section behind them. */
	if (type == SHT_SYMTAB) {
		section.sh_link = header->e_shnum + 1u;
		section.sh_entsize = sizeof(Elf64_Sym);
	}
	put(maker->image, maker->at, name, strlen(name) + 1);
	maker->at += strlen(name) + 1;
	put(maker->image, SECTIONS_AT + header->e_shnum++ * sizeof(section), &section,
	    sizeof(section));
}

static void put_sections(struct maker *maker, size_t symbols, size_t symbol_names)
{
	Elf64_Ehdr *header = (Elf64_Ehdr *)maker->image->bytes;
	const unsigned int flags = maker->flags;

	maker->at = SECTION_NAMES_AT;
	put_section(maker, "", SHT_NULL, 0, 0, 0);
	put_section(maker, ".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, TEXT_AT,
		    GO_IMAGE_TEXT_BYTES);
	if (flags & GO_IMAGE_NO_TABLE_SECTION)
		put_section(maker, ".data.rel.ro", SHT_PROGBITS, SHF_ALLOC, RODATA_AT,
			    RODATA_BYTES);
	else
		put_section(maker, ".gopclntab", SHT_PROGBITS, SHF_ALLOC, TABLE_AT,
			    GO_IMAGE_TABLE_BYTES);
	if (!(flags & GO_IMAGE_NO_BUILD_INFO))
		put_section(maker, ".go.buildinfo", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE,
			    BUILD_INFO_AT, BUILD_INFO_BYTES);
	if (!(flags & GO_IMAGE_NO_MODULE_SECTION))
		put_section(maker, ".go.module", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, MODULE_AT,
			    0x100);
	if (symbols) {
		put_section(maker, ".symtab", SHT_SYMTAB, 0, SYMBOLS_AT, symbols);
		put_section(maker, ".strtab", SHT_STRTAB, 0, SYMBOL_NAMES_AT, symbol_names);
	}
	header->e_shstrndx = header->e_shnum;
	put_section(maker, ".shstrtab", SHT_STRTAB, 0, SECTION_NAMES_AT, 0x100);
}

static void put_symbols(struct maker *maker)
{
	static const enum go_function functions[] = {GO_TLS_READ, GO_TLS_WRITE};
	size_t names = 1, at = SYMBOLS_AT + sizeof(Elf64_Sym), i;

	if (!(maker->flags & GO_IMAGE_SYMBOLS)) {
		put_sections(maker, 0, 0);
		return;
	}
	for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		const char *name = go_function__name(functions[i]);
		Elf64_Sym symbol = {
			.st_name = (uint32_t)names,
			.st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC),
			.st_shndx = 1,
			.st_value = maker->image->functions[functions[i]],
			.st_size = FUNCTION_BYTES,
		};

		put(maker->image, SYMBOL_NAMES_AT + names, name, strlen(name) + 1);
		names += strlen(name) + 1;
		put(maker->image, at, &symbol, sizeof(symbol));
		at += sizeof(symbol);
	}
	put_sections(maker, at - SYMBOLS_AT, names);
}

/* The functions of the table: other ones, those that are looked for, and Read at the end. */
static const char *name_of(const struct maker *maker, unsigned int n)
{
	unsigned int f = n - OTHERS + 1;

	if (n < OTHERS)
		return other_names[n];
	if (n == maker->image->count - 1)
		f = GO_TLS_READ;
	return maker->flags & GO_IMAGE_NO_TLS && f < GO_HPACK_DECODER_WRITE
		       ? "main.something"
		       : go_function__name((enum go_function)f);
}

static uint64_t address_of(unsigned int n)
{
	return GO_IMAGE_ADDRESS + TEXT_AT + n * FUNCTION_BYTES;
}

static uint64_t end_of(const struct go_image *image)
{
	return address_of(image->count - 1) + GO_IMAGE_CODE_BYTES;
}

static void put_code(struct maker *maker)
{
	struct go_image *image = maker->image;
	const struct image_machine *machine = maker->machine;
	const bool on_stack = maker->flags & GO_IMAGE_STACK_ABI;
	unsigned int n;

	image->padding = machine->padding;
	memset(image->bytes + TEXT_AT, image->padding, GO_IMAGE_TEXT_BYTES);
	image->count = OTHERS + GO_FUNCTION_COUNT;
	for (n = 0; n < image->count; n++) {
		put(image, TEXT_AT + n * FUNCTION_BYTES,
		    on_stack ? machine->stack : machine->registers,
		    on_stack ? machine->stack_size : machine->registers_size);
		if (n >= OTHERS)
			image->functions[n == image->count - 1 ? 0 : n - OTHERS + 1] =
				address_of(n);
	}
}

/* A row of the table. */
static void put_row(struct maker *maker, unsigned int n, size_t description)
{
	struct go_image *image = maker->image;
	const uint64_t address = n < image->count ? address_of(n) : end_of(image);
	const bool small = maker->format >= GO_TABLE_1_18;
	const size_t at = image->rows_at + n * (small ? 8 : 16);

	if (small)
		put32(image, at, (uint32_t)(address - address_of(0)));
	else
		put_pointer(maker, at, address);
	if (n < image->count && small)
		put32(image, at + 4, (uint32_t)description);
	else if (n < image->count)
		put64(image, at + 8, description);
}

static size_t put_description(struct maker *maker, unsigned int n, size_t at, size_t name)
{
	const size_t entry_size = maker->format >= GO_TABLE_1_18 ? 4 : 8;

	if (entry_size == 4)
		put32(maker->image, at, (uint32_t)(address_of(n) - address_of(0)));
	put32(maker->image, at + entry_size, (uint32_t)name);
	return at + 24;
}

static size_t aligned(size_t at)
{
	return (at + 7) / 8 * 8;
}

/* Up to 1.15: the rows, then each function's name and description. */
static void put_old_table(struct maker *maker)
{
	struct go_image *image = maker->image;
	size_t at, name;
	unsigned int n;

	put64(image, TABLE_AT + 8, image->count);
	image->rows_at = TABLE_AT + 16;
	at = image->rows_at + (image->count + 1) * 16;
	for (n = 0; n < image->count; n++) {
		name = at;
		put(image, at, name_of(maker, n), strlen(name_of(maker, n)) + 1);
		at = aligned(at + strlen(name_of(maker, n)) + 1);
		put_row(maker, n, at - TABLE_AT);
		at = put_description(maker, n, at, name - TABLE_AT);
	}
	put_row(maker, n, 0);
}

/* From 1.16 on: names, then the rows, then the descriptions. */
static void put_new_table(struct maker *maker)
{
	struct go_image *image = maker->image;
	const bool has_text = maker->format >= GO_TABLE_1_18;
	size_t words = has_text ? 8 : 7, at, names[32], description;
	uint64_t header[8];
	unsigned int n, k = 0;

	if (image->count > sizeof(names) / sizeof(names[0]))
		abort();
	at = TABLE_AT + 8 + words * 8;
	header[k++] = image->count;
	header[k++] = 1;
	if (has_text)
		header[k++] = 0;
	header[k++] = at - TABLE_AT;
	for (n = 0; n < image->count; n++) {
		names[n] = at - (TABLE_AT + 8 + words * 8);
		put(image, at, name_of(maker, n), strlen(name_of(maker, n)) + 1);
		at += strlen(name_of(maker, n)) + 1;
	}
	at = aligned(at);
	header[k++] = at - TABLE_AT;
	header[k++] = at - TABLE_AT;
	header[k++] = at - TABLE_AT;
	header[k++] = at - TABLE_AT;
	image->rows_at = at;
	put(image, TABLE_AT + 8, header, words * 8);
	if (has_text && !(maker->flags & GO_IMAGE_TEXT_IN_MODULE))
		put_pointer(maker, TABLE_AT + 24, address_of(0));
	at = aligned(at + (image->count + 1) * (has_text ? 8 : 16));
	image->descriptions_at = at;
	for (n = 0; n < image->count; n++) {
		description = at;
		put_row(maker, n, description - image->rows_at);
		at = put_description(maker, n, at, names[n]);
	}
	put_row(maker, n, 0);
}

static void put_table(struct maker *maker)
{
	static const uint8_t magics[] = {0xfb, 0xfa, 0xf0, 0xf1};
	const uint8_t magic[] = {magics[maker->format],	  0xff, 0xff, 0xff, 0, 0,
				 maker->machine->quantum, 8};

	put(maker->image, TABLE_AT, magic, sizeof(magic));
	if (maker->format == GO_TABLE_1_2)
		put_old_table(maker);
	else
		put_new_table(maker);
}

static void put_data(struct maker *maker)
{
	static const char version[] = GO_IMAGE_VERSION, magic[] = "\xff Go buildinf:\x08";
	struct go_image *image = maker->image;
	size_t i;

	if (!(maker->flags & GO_IMAGE_NO_BUILD_INFO)) {
		put(image, BUILD_INFO_AT, magic, sizeof(magic) - 1);
		if (maker->flags & GO_IMAGE_OLD_BUILD_INFO) {
			put_pointer(maker, BUILD_INFO_AT + 16, GO_IMAGE_ADDRESS + VERSION_AT);
			put_pointer(maker, VERSION_AT, GO_IMAGE_ADDRESS + VERSION_AT + 16);
			put64(image, VERSION_AT + 8, sizeof(version) - 1);
			put(image, VERSION_AT + 16, version, sizeof(version));
		} else {
			image->bytes[BUILD_INFO_AT + 15] = 2;
			image->bytes[BUILD_INFO_AT + 32] = sizeof(version) - 1;
			put(image, BUILD_INFO_AT + 33, version, sizeof(version));
		}
	}
	put_pointer(maker, MODULE_AT, GO_IMAGE_ADDRESS + TABLE_AT);
	put_pointer(maker, MODULE_AT + 160, address_of(0));
	put_pointer(maker, MODULE_AT + 168, end_of(image));
	put_pointer(maker, MODULE_AT + 176, address_of(0));
	if (image->relocations > 0) {
		const Elf64_Dyn dynamic[] = {
			{.d_tag = DT_RELA, .d_un.d_ptr = GO_IMAGE_ADDRESS + RELOCATIONS_AT},
			{.d_tag = DT_RELASZ, .d_un.d_val = image->relocations * sizeof(Elf64_Rela)},
			{.d_tag = DT_RELAENT, .d_un.d_val = sizeof(Elf64_Rela)},
		};

		for (i = 0; i < sizeof(dynamic) / sizeof(dynamic[0]); i++)
			put(image, DYNAMIC_AT + i * sizeof(dynamic[i]), &dynamic[i],
			    sizeof(dynamic[i]));
	}
}

void go_image__make(struct go_image *image, enum go_table_format format, unsigned int flags)
{
	struct maker maker = {
		.machine = flags & GO_IMAGE_ARM64 ? &image_arm64 : &image_x86_64,
		.image = image,
		.format = format,
		.flags = flags,
	};

	memset(image, 0, sizeof(*image));
	put_headers(&maker);
	put_code(&maker);
	put_table(&maker);
	put_data(&maker);
	if (!(flags & GO_IMAGE_NO_SECTIONS))
		put_symbols(&maker);
}

void go_image__set_code(struct go_image *image, const uint8_t *code, size_t size)
{
	const size_t at = image->functions[GO_TLS_READ] - GO_IMAGE_ADDRESS;

	if (size > GO_IMAGE_CODE_BYTES)
		abort();
	memset(image->bytes + at, image->padding, GO_IMAGE_CODE_BYTES);
	put(image, at, code, size);
}

int go_image__open(const struct go_image *image, size_t size)
{
	int fd = memfd_create("go", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, image->bytes, size, 0) != (ssize_t)size)
		abort();
	return fd;
}

int go_image__sites(const struct go_image *image, enum go_function function,
		    const struct emulated *emulated, struct placement *ret_placement)
{
	int fd = go_image__open(image, sizeof(image->bytes)), err;
	struct elf_file *file;
	struct go_code code;

	if (elf_file__open_any(fd, &file) || elf_file__go_code(file, &code))
		abort();
	err = go_sites__find(file, fd, &code, function, emulated, ret_placement);
	elf_file__close(file);
	close(fd);
	return err;
}
