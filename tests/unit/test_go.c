/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Go executables: files made by hand for the tables of all versions, each of them damaged
 * everywhere, the sites of functions made by hand, and a real program against objdump.
 */
#include <criterion/criterion.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf_file.h"
#include "failing_alloc.h"
#include "go.h"
#include "go_image.h"

#define GO_PROGRAM "/usr/bin/hey" /* Debian 12's is Go 1.19, stripped */

static const struct emulated usual = {.classes = 1U << CLASS_PUSH | 1U << CLASS_BRANCH};

/* ---- helpers ---- */

static int code_of_fd(int fd, struct go_code *ret_code)
{
	struct elf_file *file;
	int err = elf_file__open_any(fd, &file);

	if (err)
		return err;
	err = elf_file__go_code(file, ret_code);
	elf_file__close(file);
	return err;
}

static int code_of_size(const struct go_image *image, size_t size, struct go_code *ret_code)
{
	int fd = go_image__open(image, size), err = code_of_fd(fd, ret_code);

	close(fd);
	return err;
}

static int code_of(const struct go_image *image, struct go_code *ret_code)
{
	return code_of_size(image, sizeof(image->bytes), ret_code);
}

static void expect_all(const struct go_image *image, const struct go_code *code,
		       const char *found_by, unsigned int format, unsigned int flags)
{
	for (int f = 0; f < GO_FUNCTION_COUNT; f++) {
		const struct go_function_code *function = &code->functions[f];

		cr_expect_eq(function->address, image->functions[f], "%s, format %u, flags %x",
			     go_function__name(f), format, flags);
		cr_expect_eq(function->offset, image->functions[f] - GO_IMAGE_ADDRESS);
		cr_expect_eq(function->size, f == GO_TLS_READ ? GO_IMAGE_CODE_BYTES : 0x40);
	}
	cr_expect(code->has_tls);
	cr_expect_not(code->has_symbols);
	cr_expect_str_eq(code->found_by, found_by, "format %u, flags %x", format, flags);
}

/* ---- which functions ---- */

Test(go, every_table_is_read_in_every_form)
{
	static struct go_image image;
	unsigned int format, flags;
	struct go_code code;
	const char *how;

	for (format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		for (flags = 0; flags < GO_IMAGE_FLAGS_END; flags++) {
			if (flags & (GO_IMAGE_NO_TLS | GO_IMAGE_SYMBOLS))
				continue;
			go_image__make(&image, format, flags);
			/* By its sections it is not Go. */
			if (!(flags & GO_IMAGE_NO_SECTIONS) && flags & GO_IMAGE_NO_BUILD_INFO &&
			    flags & GO_IMAGE_NO_MODULE_SECTION &&
			    flags & GO_IMAGE_NO_TABLE_SECTION) {
				cr_expect_eq(code_of(&image, &code), -ENOENT);
				cr_expect_null(code.found_by);
				continue;
			}
			cr_assert_eq(code_of(&image, &code), 0, "format %u, flags %x", format,
				     flags);
			how = flags & (GO_IMAGE_NO_SECTIONS | GO_IMAGE_NO_TABLE_SECTION)
				      ? "pclntab, found by scan"
				      : "section .gopclntab";
			expect_all(&image, &code, how, format, flags);
			cr_expect_str_eq(code.version,
					 flags & GO_IMAGE_NO_BUILD_INFO ? "" : GO_IMAGE_VERSION);
			/* Without a version, the code tells. */
			cr_expect_eq(code.abi,
				     flags & GO_IMAGE_NO_BUILD_INFO && flags & GO_IMAGE_STACK_ABI
					     ? GO_ABI_STACK
					     : GO_ABI_REGISTERS);
		}
	}
}

Test(go, symbols_come_first)
{
	static struct go_image image;
	struct go_code code;

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_SYMBOLS);
	image.bytes[GO_IMAGE_TABLE_AT] = 0;
	cr_assert_eq(code_of(&image, &code), 0);
	cr_expect(code.has_symbols);
	cr_expect_str_eq(code.found_by, "ELF symbols");
	cr_expect_eq(code.functions[GO_TLS_READ].address, image.functions[GO_TLS_READ]);
	cr_expect_eq(code.functions[GO_TLS_WRITE].address, image.functions[GO_TLS_WRITE]);
	cr_expect_eq(code.functions[GO_TLS_CLOSE].offset, 0);
}

Test(go, damaged_symbols_do_not_matter)
{
	static struct go_image image;
	Elf64_Ehdr *header = (Elf64_Ehdr *)image.bytes;
	struct go_code code;

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_SYMBOLS);
	/* The section of symbols, which others follow: of their names, and of sections' names. */
	((Elf64_Shdr *)(image.bytes + header->e_shoff))[header->e_shnum - 3].sh_link = 0;
	cr_assert_eq(code_of(&image, &code), 0);
	expect_all(&image, &code, "section .gopclntab", GO_TABLE_1_20, GO_IMAGE_SYMBOLS);
}

Test(go, a_program_without_tls_has_none)
{
	static struct go_image image;
	struct go_code code;

	for (unsigned int format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		go_image__make(&image, format, GO_IMAGE_NO_TLS);
		cr_expect_eq(code_of(&image, &code), -ENOENT);
		cr_expect_str_eq(code.found_by, "section .gopclntab");
	}
}

Test(go, what_is_not_go_is_told_at_once)
{
	struct go_code code;
	int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);

	cr_expect_eq(code_of_fd(fd, &code), -ENOENT);
	cr_expect_null(code.found_by);
	close(fd);
}

Test(go, what_is_packed_is_told)
{
	static struct go_image image;
	struct go_code code;
	Elf64_Phdr *text = (Elf64_Phdr *)(image.bytes + sizeof(Elf64_Ehdr));

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_NO_SECTIONS);
	memcpy(image.bytes + 0x154, "UPX!", 4);
	text->p_offset = 0;
	text->p_vaddr = GO_IMAGE_ADDRESS;
	cr_expect_eq(code_of(&image, &code), -ENOTSUP);
	cr_expect_str_eq(code.found_by, "packed by UPX");
}

Test(go, a_vendored_package_is_the_same)
{
	static const char from[] = "example.com/not/vendored/golang.org", to[] = "example/vendor/";
	static struct go_image image;
	struct go_code code;
	char *name;
	unsigned int format;

	for (format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		go_image__make(&image, format, GO_IMAGE_NO_BUILD_INFO);
		name = memmem(image.bytes, sizeof(image.bytes), from, sizeof(from) - 1);
		cr_assert(name);
		memset(name, 'x', strlen("example.com/not/vendored/"));
		memcpy(name + strlen("example.com/not/vendored/") - strlen(to), to, strlen(to));
		cr_assert_eq(code_of(&image, &code), 0);
		cr_expect_eq(code.functions[GO_XNET_HPACK_DECODER_WRITE].address,
			     GO_IMAGE_ADDRESS + GO_IMAGE_TEXT_AT + 4 * 0x40, "the first one");
	}
}

/* ---- files that lie ---- */

/* Whatever was made of a file, addresses are in its text and nothing is read beyond it. */
static void expect_sane(const struct go_image *image, size_t size, const char *what, size_t at)
{
	struct placement placement;
	struct elf_file *file;
	struct go_code code;
	int fd = go_image__open(image, size), err = elf_file__open_any(fd, &file);

	if (err) {
		close(fd);
		return;
	}
	err = elf_file__go_code(file, &code);
	cr_expect(err == 0 || err == -ENOENT || err == -EBADMSG || err == -ENOTSUP || err == -EFBIG,
		  "%s at %zu: %d", what, at, err);
	for (int f = 0; !err && f < GO_FUNCTION_COUNT; f++) {
		if (!code.functions[f].offset)
			continue;
		cr_expect_lt(code.functions[f].offset, size, "%s at %zu", what, at);
		if (go_sites__find(file, fd, &code, f, &usual, &placement))
			continue;
		cr_expect_lt(placement.entry.offset, size);
		for (unsigned int i = 0; i < placement.exit_count; i++)
			cr_expect_lt(placement.exits[i].offset, size);
	}
	elf_file__close(file);
	close(fd);
}

static const unsigned int forms[] = {
	0,
	GO_IMAGE_RELOCATED | GO_IMAGE_NO_SECTIONS | GO_IMAGE_OLD_BUILD_INFO,
	GO_IMAGE_RELOCATED | GO_IMAGE_TEXT_IN_MODULE,
	GO_IMAGE_TEXT_IN_MODULE | GO_IMAGE_NO_MODULE_SECTION | GO_IMAGE_NO_TABLE_SECTION,
	GO_IMAGE_ARM64,
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

Test(go, truncated_files_give_errors_or_sane_places)
{
	static struct go_image image;

	for (unsigned int format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		for (size_t i = 0; i < FORMS; i++) {
			go_image__make(&image, format, forms[i]);
			for (size_t size = 0; size < sizeof(image.bytes); size += 37)
				expect_sane(&image, size, "truncated", size);
		}
	}
}

/* Sections and segments are all within what is left, so that only the table's end is missing. */
Test(go, truncated_tables_give_errors_or_sane_places)
{
	static struct go_image image;
	Elf64_Shdr *table = NULL;
	struct go_code code;
	uint64_t size;

	for (unsigned int format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		go_image__make(&image, format, 0);
		table = (Elf64_Shdr *)(image.bytes + ((Elf64_Ehdr *)image.bytes)->e_shoff) + 2;
		cr_assert_eq(table->sh_offset, GO_IMAGE_TABLE_AT);
		for (size = 0; size < GO_IMAGE_TABLE_BYTES; size++) {
			table->sh_size = size;
			expect_sane(&image, sizeof(image.bytes), "table truncated", size);
			if (size < 8)
				cr_expect_eq(code_of(&image, &code), -ENOENT);
		}
	}
}

Test(go, damaged_files_give_errors_or_sane_places)
{
	static const uint8_t flips[] = {0x01, 0x80, 0xff};
	static struct go_image image;
	size_t at, k;

	for (unsigned int format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		for (size_t i = 0; i < FORMS; i++) {
			go_image__make(&image, format, forms[i]);
			for (at = 0; at < sizeof(image.bytes); at++) {
				/* There is nothing between. */
				if (image.bytes[at] == 0 && image.bytes[at ^ 1] == 0 &&
				    image.bytes[at ^ 2] == 0 && image.bytes[at ^ 4] == 0)
					continue;
				k = (at + i) % sizeof(flips);
				image.bytes[at] ^= flips[k];
				expect_sane(&image, sizeof(image.bytes), "damaged", at);
				image.bytes[at] ^= flips[k];
			}
		}
	}
}

static void set64(struct go_image *image, size_t at, uint64_t value)
{
	memcpy(image->bytes + at, &value, sizeof(value));
}

Test(go, a_header_that_claims_too_much_is_refused)
{
	static const uint64_t values[] = {0, 17, 1000, 1 << 20, 1ULL << 32, 1ULL << 60, UINT64_MAX};
	static struct go_image image;
	struct go_code code;
	size_t i;

	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		go_image__make(&image, GO_TABLE_1_2, 0);
		set64(&image, GO_IMAGE_TABLE_AT + 8, values[i]);
		cr_expect_eq(code_of(&image, &code), -EBADMSG, "%lu", values[i]);
		cr_expect_str_eq(code.found_by, "section .gopclntab");
	}
	/* Where names and rows are. */
	for (i = 2; i < sizeof(values) / sizeof(values[0]); i++) {
		go_image__make(&image, GO_TABLE_1_20, 0);
		set64(&image, GO_IMAGE_TABLE_AT + 8 + 3 * 8, values[i]);
		cr_expect_eq(code_of(&image, &code), -EBADMSG, "%lu", values[i]);
		go_image__make(&image, GO_TABLE_1_20, 0);
		set64(&image, GO_IMAGE_TABLE_AT + 8 + 7 * 8, values[i] << 4);
		cr_expect_eq(code_of(&image, &code), -EBADMSG, "%lu", values[i]);
	}
}

Test(go, functions_out_of_order_are_refused)
{
	static struct go_image image;
	struct go_code code;

	go_image__make(&image, GO_TABLE_1_20, 0);
	memcpy(image.bytes + image.rows_at + 3 * 8 + 4, image.bytes + image.rows_at + 4, 4);
	cr_expect_eq(code_of(&image, &code), -EBADMSG);
}

Test(go, a_function_without_code_or_outside_of_it_is_refused)
{
	static struct go_image image;
	struct go_code code;
	uint32_t far = 0x1000000;

	go_image__make(&image, GO_TABLE_1_20, 0);
	memcpy(image.bytes + image.rows_at + image.count * 8,
	       image.bytes + image.rows_at + (image.count - 1) * 8, 4);
	cr_expect_eq(code_of(&image, &code), -EBADMSG, "no bytes");
	memcpy(image.bytes + image.rows_at + (image.count - 1) * 8, &far, sizeof(far));
	far += 0x40;
	memcpy(image.bytes + image.rows_at + image.count * 8, &far, sizeof(far));
	cr_expect_eq(code_of(&image, &code), -EBADMSG, "not in the text");
}

Test(go, without_a_text_address_nothing_is_guessed)
{
	static struct go_image image;
	struct go_code code;

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_TEXT_IN_MODULE);
	set64(&image, GO_IMAGE_MODULE_AT, 0);
	cr_expect_eq(code_of(&image, &code), -ENOTSUP, "no pointer to the table");
	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_TEXT_IN_MODULE);
	set64(&image, GO_IMAGE_MODULE_AT + 176, image.functions[GO_TLS_READ]);
	cr_expect_eq(code_of(&image, &code), -ENOTSUP, "it contradicts the table");
}

/* Sparse: it claims to have gigabytes. */
Test(go, a_large_file_is_not_read_whole, .timeout = 20)
{
	static struct go_image image;
	struct go_code code;
	struct stat st;
	int fd;

	for (unsigned int format = GO_TABLE_1_2; format <= GO_TABLE_1_20; format++) {
		for (size_t i = 0; i < FORMS; i++) {
			Elf64_Phdr *rodata = (Elf64_Phdr *)(image.bytes + sizeof(Elf64_Ehdr)) + 1;

			go_image__make(&image, format, forms[i]);
			rodata->p_filesz = 1ULL << 40;
			rodata[1].p_filesz = 1ULL << 40;
			fd = go_image__open(&image, sizeof(image.bytes));
			cr_assert_eq(ftruncate(fd, 1LL << 41), 0);
			code_of_fd(fd, &code);
			cr_assert_eq(fstat(fd, &st), 0);
			close(fd);
		}
	}
}

Test(go, every_failed_allocation_is_reported)
{
	static struct go_image image;
	struct placement placement;
	struct elf_file *file;
	struct go_code code;
	unsigned int n;
	int fd, err;

	for (size_t i = 0; i < FORMS; i++) {
		go_image__make(&image, GO_TABLE_1_20, forms[i]);
		fd = go_image__open(&image, sizeof(image.bytes));
		for (n = 0;; n++) {
			cr_assert_eq(elf_file__open_any(fd, &file), 0);
			failing_alloc__arm(n);
			err = elf_file__go_code(file, &code);
			if (!failing_alloc__disarm())
				break;
			elf_file__close(file);
			cr_expect(err == -ENOMEM || (err == 0 && !code.version[0]), "%d", err);
		}
		cr_assert_eq(err, 0);
		cr_expect_gt(n, 2);
		for (n = 0;; n++) {
			failing_alloc__arm(n);
			err = go_sites__find(file, fd, &code, GO_TLS_READ, &usual, &placement);
			if (!failing_alloc__disarm())
				break;
			cr_expect_eq(err, -ENOMEM);
		}
		cr_expect_eq(err, 0);
		cr_expect_eq(n, 3);
		elf_file__close(file);
		close(fd);
	}
}

/* ---- sites ---- */

#define AT(image, function) ((image).functions[function] - GO_IMAGE_ADDRESS)

Test(go_sites, the_stack_check_and_the_returns)
{
	static struct go_image image;
	struct placement placement;
	unsigned int flags;

	for (flags = 0; flags <= GO_IMAGE_STACK_ABI; flags += GO_IMAGE_STACK_ABI) {
		go_image__make(&image, GO_TABLE_1_2, flags | GO_IMAGE_NO_BUILD_INFO);
		for (int f = 0; f < GO_FUNCTION_COUNT; f++) {
			cr_assert_eq(go_image__sites(&image, f, &usual, &placement), 0);
			cr_expect_eq(placement.entry.offset, AT(image, f) + (flags ? 13 : 4));
			cr_expect_eq(placement.entry.class, SITE_EMULATED);
			cr_expect_eq(placement.entry.stack_bytes, 0);
			cr_expect_eq(placement.exit_kind, EXIT_SITES);
			cr_assert_eq(placement.exit_count, 1);
			cr_expect_eq(placement.exits[0].offset, AT(image, f) + (flags ? 23 : 14));
			cr_expect_eq(placement.exits[0].class, SITE_STEPPED);
			cr_expect_eq(placement.exits[0].stack_bytes, 0);
			cr_expect(placement.entry_reason && placement.exit_reason);
		}
	}
}

Test(go_sites, without_emulation_first_bytes_and_returns)
{
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, 0);
	cr_assert_eq(go_image__sites(&image, GO_TLS_READ, NULL, &placement), 0);
	cr_expect_eq(placement.entry.offset, AT(image, GO_TLS_READ));
	cr_expect_eq(placement.entry.class, SITE_STEPPED);
	cr_expect_eq(placement.exits[0].offset, AT(image, GO_TLS_READ) + 14);
}

Test(go_sites, an_emulated_epilogue_is_taken_before_its_return)
{
	const struct emulated more = {.classes = usual.classes | 1U << CLASS_STACK};
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, 0);
	cr_assert_eq(go_image__sites(&image, GO_TLS_READ, &more, &placement), 0);
	cr_assert_eq(placement.exit_count, 1);
	cr_expect_eq(placement.exits[0].offset, AT(image, GO_TLS_READ) + 10);
	cr_expect_eq(placement.exits[0].class, SITE_EMULATED);
	cr_expect_eq(placement.exits[0].stack_bytes, 24);
}

Test(go_sites, a_function_that_the_file_does_not_have)
{
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_SYMBOLS);
	cr_expect_eq(go_image__sites(&image, GO_TLS_CLOSE, &usual, &placement), -ENOENT);
}

/* What is made of a function with this code, behind which there is padding. */
struct code_case {
	const char *what;
	uint8_t code[32];
	uint8_t size;
	int err;
	uint8_t entry;
	bool entry_is_emulated;
	uint8_t exit_count;
	uint8_t exits[3];
	uint8_t stack_bytes; /* at the entry */
};

#define CHECK 0x49, 0x3b, 0x66, 0x10 /* cmp 0x10(%r14),%rsp */

static const struct code_case code_cases[] = {
	{"returns in a row", {CHECK, 0x76, 0x02, 0xc3, 0xc3, 0xc3}, 9, 0, 4, true, 3, {6, 7, 8}, 0},
	{"a large frame's check",
	 {0x4c, 0x8d, 0x64, 0x24, 0x90, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x01, 0xc3, 0xeb, 0xf2},
	 14,
	 0,
	 9,
	 true,
	 1,
	 {11},
	 0},
	{"no check: a push", {0x55, 0x5d, 0xc3}, 3, 0, 0, true, 1, {2}, 0},
	{"a push behind sub",
	 {0x48, 0x83, 0xec, 0x08, 0x55, 0x5d, 0x48, 0x83, 0xc4, 0x08, 0xc3},
	 11,
	 0,
	 4,
	 true,
	 1,
	 {10},
	 8},
	{"nothing emulated", {0x31, 0xd2, 0xc3}, 3, 0, 0, false, 1, {2}, 0},
	{"an argument is changed first", {0x31, 0xc0, 0x74, 0x00, 0xc3}, 5, 0, 0, false, 1, {4}, 0},
	{"another one, R11", {0x45, 0x31, 0xdb, 0x74, 0x00, 0xc3}, 6, 0, 0, false, 1, {5}, 0},
	{"a jump back into the prologue", {CHECK, 0x76, 0xfe, 0xc3}, 7, 0, 0, false, 1, {6}, 0},
	{"a jump to the entry", {CHECK, 0x76, 0x01, 0xc3, 0xeb, 0xf7}, 9, 0, 4, true, 1, {6}, 0},
	{"a 5-byte nop", {0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3}, 6, 0, 0, false, 1, {5}, 0},
	{"a jump by a table within the frame",
	 {0x55, 0xff, 0x24, 0xc8, 0x5d, 0xc3},
	 6,
	 0,
	 0,
	 true,
	 1,
	 {5},
	 0},
	{"a tail call by a register", {CHECK, 0xff, 0xe0, 0xc3}, 7, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a tail call", {CHECK, 0xe9, 0x00, 0x10, 0x00, 0x00, 0xc3}, 10, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a branch before the function", {CHECK, 0x74, 0x80, 0xc3}, 7, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"no return", {CHECK, 0x76, 0xfa, 0xeb, 0xf8}, 8, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a return within the frame", {0x55, 0xc3}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"more popped than pushed", {0x5d, 0xc3}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a stack of its own", {0x48, 0x89, 0xc4, 0xc3}, 4, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a call into itself", {0xe8, 0x00, 0x00, 0x00, 0x00, 0xc3}, 6, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a jump between instructions", {CHECK, 0x76, 0xfc, 0xc3}, 7, -EBADMSG, 0, 0, 0, {0}, 0},
	{"no instruction", {CHECK, 0x06, 0xc3}, 6, -EBADMSG, 0, 0, 0, {0}, 0},
	{"a system call", {CHECK, 0x0f, 0x05, 0xc3}, 7, -EBADMSG, 0, 0, 0, {0}, 0},
};

Test(go_sites, functions_of_all_kinds)
{
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, 0);
	for (size_t i = 0; i < sizeof(code_cases) / sizeof(code_cases[0]); i++) {
		const struct code_case *c = &code_cases[i];
		const uint64_t begin = AT(image, GO_TLS_READ);

		go_image__set_code(&image, c->code, c->size);
		cr_expect_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), c->err,
			     "%s: %s", c->what, placement.exit_reason);
		cr_assert(placement.exit_reason, "%s", c->what);
		if (c->err)
			continue;
		cr_expect_eq(placement.entry.offset, begin + c->entry, "%s", c->what);
		cr_expect_eq(placement.entry.class == SITE_EMULATED, c->entry_is_emulated, "%s",
			     c->what);
		cr_expect_eq(placement.entry.stack_bytes, c->stack_bytes, "%s", c->what);
		cr_assert_eq(placement.exit_count, c->exit_count, "%s", c->what);
		for (unsigned int k = 0; k < c->exit_count; k++)
			cr_expect_eq(placement.exits[k].offset, begin + c->exits[k], "%s", c->what);
	}
}

Test(go_sites, as_many_returns_as_there_is_room_for)
{
	static struct go_image image;
	uint8_t code[PLACEMENT_MAX_EXITS + 1];
	struct placement placement;

	memset(code, 0xc3, sizeof(code));
	go_image__make(&image, GO_TABLE_1_20, 0);
	go_image__set_code(&image, code, PLACEMENT_MAX_EXITS);
	cr_assert_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), 0);
	cr_expect_eq(placement.exit_count, PLACEMENT_MAX_EXITS);
	go_image__set_code(&image, code, PLACEMENT_MAX_EXITS + 1);
	cr_expect_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), -ENOTSUP);
}

Test(go_sites, code_that_runs_on_is_refused)
{
	static struct go_image image;
	uint8_t code[GO_IMAGE_CODE_BYTES];
	struct placement placement;

	/* cmp %eax,%eax; the last thing is no padding. */
	for (size_t i = 0; i < sizeof(code); i += 2)
		memcpy(code + i, "\x39\xc0", 2);
	code[0] = code[1] = 0xc3;
	go_image__make(&image, GO_TABLE_1_20, 0);
	go_image__set_code(&image, code, sizeof(code));
	cr_expect_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), -ENOTSUP);
}

/* ---- a real program ---- */

/* The returns of a function by binutils, as distances from its begin; their number. */
static unsigned int returns_by_objdump(const struct go_function_code *function, uint64_t *ret_at,
				       unsigned int max)
{
	char command[256], line[512], mnemonic[16];
	unsigned int count = 0;
	unsigned long at;
	FILE *pipe;

	snprintf(command, sizeof(command),
		 "objdump -d --no-show-raw-insn --start-address=%#lx --stop-address=%#lx %s",
		 function->address, function->address + function->size, GO_PROGRAM);
	pipe = popen(command, "r");
	cr_assert(pipe);
	while (fgets(line, sizeof(line), pipe)) {
		if (sscanf(line, " %lx: %15s", &at, mnemonic) != 2 ||
		    strncmp(mnemonic, "ret", 3) != 0)
			continue;
		cr_assert_lt(count, max);
		ret_at[count++] = at - function->address;
	}
	cr_assert_eq(pclose(pipe), 0);
	return count;
}

Test(go, a_real_program_has_the_returns_of_objdump)
{
	uint64_t returns[PLACEMENT_MAX_EXITS];
	struct placement placement;
	struct elf_file *file;
	struct go_code code;
	unsigned int count, first, i, k;
	int fd = open(GO_PROGRAM, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0, "%s, see scripts/setup", GO_PROGRAM);
	cr_assert_eq(elf_file__open_any(fd, &file), 0);
	cr_assert_eq(elf_file__go_code(file, &code), 0);
	cr_expect(strncmp(code.version, "go1.", 4) == 0, "%s", code.version);
	cr_expect_not(code.has_symbols);
	for (int f = 0; f < GO_FUNCTION_COUNT; f++) {
		const struct go_function_code *function = &code.functions[f];

		/* A client has no server's handshake. */
		cr_assert(function->offset || f == GO_TLS_SERVER_HANDSHAKE, "%s",
			  go_function__name(f));
		if (!function->offset)
			continue;
		cr_assert_eq(go_sites__find(file, fd, &code, f, &usual, &placement), 0, "%s",
			     go_function__name(f));
		cr_expect_eq(placement.entry.class, SITE_EMULATED);
		count = returns_by_objdump(function, returns, PLACEMENT_MAX_EXITS);
		/* The first may be in a deferred function, and for several of them. */
		first = placement.exits[0].closure_bytes != 0;
		cr_assert_leq(placement.exit_count - first, count - first, "%s",
			      go_function__name(f));
		for (i = first, k = 0; i < placement.exit_count; i++, k++) {
			while (k < count &&
			       function->offset + returns[k] != placement.exits[i].offset)
				k++;
			cr_expect_lt(k, count, "%s: exit %u is no return", go_function__name(f), i);
		}
	}
	elf_file__close(file);
	close(fd);
}
