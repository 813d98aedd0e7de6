/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which of Go's TLS functions a file has. See go.h.
 *
 * Every mapped file is asked, so what is not Go has to be told by section names and notes. Where
 * there are no section names (sstrip), a Go program is one that has a table which can be read.
 */
#include "go.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elf_file.h"
#include "go_table.h"
#include "machine.h"
#include "relocation.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const char *const function_names[GO_FUNCTION_COUNT] = {
	[GO_TLS_READ] = "crypto/tls.(*Conn).Read",
	[GO_TLS_WRITE] = "crypto/tls.(*Conn).Write",
	[GO_TLS_CLOSE] = "crypto/tls.(*Conn).Close",
	[GO_TLS_CLIENT_HANDSHAKE] = "crypto/tls.(*Conn).clientHandshake",
	[GO_TLS_SERVER_HANDSHAKE] = "crypto/tls.(*Conn).serverHandshake",
	[GO_HPACK_DECODER_WRITE] = "vendor/golang.org/x/net/http2/hpack.(*Decoder).Write",
	[GO_HPACK_ENCODER_WRITE_FIELD] =
		"vendor/golang.org/x/net/http2/hpack.(*Encoder).WriteField",
	[GO_XNET_HPACK_DECODER_WRITE] = "golang.org/x/net/http2/hpack.(*Decoder).Write",
	[GO_XNET_HPACK_ENCODER_WRITE_FIELD] = "golang.org/x/net/http2/hpack.(*Encoder).WriteField",
};

/* What the names above end with. */
static const char *const endings[] = {
	"crypto/tls.(*Conn).Read",
	"crypto/tls.(*Conn).Write",
	"crypto/tls.(*Conn).Close",
	"crypto/tls.(*Conn).clientHandshake",
	"crypto/tls.(*Conn).serverHandshake",
	"golang.org/x/net/http2/hpack.(*Decoder).Write",
	"golang.org/x/net/http2/hpack.(*Encoder).WriteField",
};

static const char build_info_magic[] = "\xff Go buildinf:";

/* Of the build info's header; what it says follows in the same place from 1.18 on. */
#define BUILD_INFO_BYTES 32
/* Where in the first writable segment build info is looked for, as Go's own tools do. */
#define BUILD_INFO_WITHIN (64 << 10)
#define BUILD_INFO_ALIGN  16

#define NOTES_MAX_BYTES 4096
#define SCAN_MAX_BYTES	(1ULL << 30)

/* What the headers of a file show. */
struct marks {
	const struct elf_file *file;
	bool is_go;
	bool has_sections;		   /* with names */
	struct elf_part table, build_info; /* size 0: not seen */
	uint64_t module;
};

/* The functions found so far. */
struct search {
	struct go_function_code functions[GO_FUNCTION_COUNT];
};

const char *go_function__name(enum go_function function)
{
	return function_names[function];
}

static bool ends_with(const char *name, size_t size, const char *ending)
{
	const size_t ending_size = strlen(ending);

	return size >= ending_size && memcmp(name + size - ending_size, ending, ending_size) == 0;
}

/* The function of that name; GO_FUNCTION_COUNT when it is none of them. */
static enum go_function go_function__of(const char *name)
{
	static const char vendor[] = "/vendor/";
	const size_t size = strlen(name);
	size_t before;
	int f;

	for (f = 0; f < GO_FUNCTION_COUNT; f++)
		if (strcmp(name, function_names[f]) == 0)
			return (enum go_function)f;
	/* A program's own copy may be in a directory of its own, but is the same. */
	for (f = GO_XNET_HPACK_DECODER_WRITE; f <= GO_XNET_HPACK_ENCODER_WRITE_FIELD; f++) {
		if (!ends_with(name, size, function_names[f]))
			continue;
		before = size - strlen(function_names[f]);
		if (ends_with(name, before, vendor))
			return (enum go_function)f;
	}
	return GO_FUNCTION_COUNT;
}

static int search__note(void *context, const struct elf_function *function)
{
	struct search *search = context;
	enum go_function f = go_function__of(function->name);

	if (f == GO_FUNCTION_COUNT || search->functions[f].address || function->size == 0)
		return 0;
	search->functions[f].address = function->address;
	search->functions[f].size = function->size;
	return 0;
}

static bool search__has_tls(const struct search *search)
{
	return search->functions[GO_TLS_READ].address && search->functions[GO_TLS_WRITE].address;
}

static int marks__note_section(void *context, const struct elf_part *section)
{
	struct marks *marks = context;
	const char *name = section->name;

	marks->has_sections |= name[0] != '\0';
	if (name[0] != '.')
		return 0;
	if (strcmp(name, ".gopclntab") == 0 || strcmp(name, ".data.rel.ro.gopclntab") == 0)
		marks->table = *section;
	else if (strcmp(name, ".go.buildinfo") == 0)
		marks->build_info = *section;
	else if (strcmp(name, ".go.module") == 0)
		marks->module = section->address;
	else if (strcmp(name, ".note.go.buildid") != 0)
		return 0;
	marks->is_go = true;
	return 0;
}

/* Whether one of the notes is Go's build id. */
static int marks__note_notes(struct marks *marks, const struct elf_part *segment)
{
	enum { GO_BUILD_ID = 4 };
	uint8_t notes[NOTES_MAX_BYTES];
	uint64_t at = 0, size = segment->size < sizeof(notes) ? segment->size : sizeof(notes);
	Elf64_Nhdr note;
	int err;

	err = elf_file__read(marks->file, segment->offset, notes, size);
	if (err)
		return err;
	while (at < size && size - at >= sizeof(note) + 4) {
		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		if (note.n_type == GO_BUILD_ID && note.n_namesz == 4 &&
		    memcmp(notes + at, "Go\0", 4) == 0)
			marks->is_go = true;
		at += ((uint64_t)note.n_namesz + 3) / 4 * 4 + ((uint64_t)note.n_descsz + 3) / 4 * 4;
	}
	return 0;
}

static int marks__find_build_info(struct marks *marks, const struct elf_part *segment)
{
	const size_t size = segment->size < BUILD_INFO_WITHIN ? segment->size : BUILD_INFO_WITHIN;
	uint8_t *bytes;
	uint64_t at;
	int err;

	bytes = malloc(BUILD_INFO_WITHIN);
	if (!bytes)
		return -ENOMEM;
	err = elf_file__read(marks->file, segment->offset, bytes, size);
	for (at = -segment->address % BUILD_INFO_ALIGN; !err && at + BUILD_INFO_BYTES <= size;
	     at += BUILD_INFO_ALIGN) {
		if (memcmp(bytes + at, build_info_magic, sizeof(build_info_magic) - 1) != 0)
			continue;
		marks->is_go = true;
		marks->build_info = *segment;
		marks->build_info.address += at;
		marks->build_info.offset += at;
		marks->build_info.size -= at;
		break;
	}
	free(bytes);
	return err;
}

static int marks__note_segment(void *context, const struct elf_part *segment)
{
	struct marks *marks = context;

	if (segment->type == PT_NOTE)
		return marks__note_notes(marks, segment);
	if (segment->type == PT_LOAD && segment->is_writable && !marks->has_sections &&
	    marks->build_info.size == 0)
		return marks__find_build_info(marks, segment);
	return 0;
}

/* Bytes with their length before them, 7 bits a byte, as Go's encoding/binary has it. */
static int read_string(const struct elf_file *file, const struct elf_part *part, uint64_t at,
		       char *ret_text, size_t size)
{
	uint64_t length = 0;
	unsigned int shift;
	uint8_t byte = 0x80;
	int err;

	for (shift = 0; byte & 0x80; shift += 7) {
		if (shift > 28 || at >= part->size)
			return -EBADMSG;
		err = elf_file__read(file, part->offset + at++, &byte, 1);
		if (err)
			return err;
		length |= (uint64_t)(byte & 0x7f) << shift;
	}
	if (at > part->size || length > part->size - at)
		return -EBADMSG;
	length = length < size ? length : size - 1;
	ret_text[length] = '\0';
	return elf_file__read(file, part->offset + at, ret_text, length);
}

/* Up to 1.17 build info points to a string, which is a pointer and a length. */
static int read_pointed_string(const struct elf_file *file, uint64_t pointer, char *ret_text,
			       size_t size)
{
	struct elf_word word = {.address = pointer};
	struct elf_word string[2];
	uint64_t length;
	int err;

	err = elf_file__read_words(file, &word, 1);
	if (err)
		return err;
	string[0].address = word.value;
	string[1].address = word.value + sizeof(uint64_t);
	err = elf_file__read_words(file, string, LENGTH(string));
	if (err)
		return err;
	length = string[1].value < size ? string[1].value : size - 1;
	ret_text[length] = '\0';
	return elf_file__read_memory(file, string[0].value, ret_text, length);
}

/* The version by the build info. It is nothing that is needed: without it, "". */
static void read_version(const struct marks *marks, char *ret_version, size_t size)
{
	enum {
		POINTER_SIZE_AT = 14,
		FLAGS_AT = 15,
		POINTER_AT = 16,
		BIG_ENDIAN_FLAG = 1,
		INLINE = 2
	};
	const struct elf_part *part = &marks->build_info;
	uint8_t header[BUILD_INFO_BYTES];
	int err;

	if (part->size < sizeof(header))
		return;
	err = elf_file__read(marks->file, part->offset, header, sizeof(header));
	if (!err && memcmp(header, build_info_magic, sizeof(build_info_magic) - 1) != 0)
		err = -EBADMSG;
	if (!err && header[FLAGS_AT] & INLINE)
		err = read_string(marks->file, part, sizeof(header), ret_version, size);
	else if (!err && header[FLAGS_AT] == 0 && header[POINTER_SIZE_AT] == sizeof(uint64_t))
		err = read_pointed_string(marks->file, part->address + POINTER_AT, ret_version,
					  size);
	else
		err = -ENOENT;
	if (err || strncmp(ret_version, "go", 2) != 0)
		ret_version[0] = '\0';
}

/* What is to be scanned for the table, and what came of it. */
struct scan {
	const struct marks *marks;
	uint64_t bytes; /* so far */
	struct go_table *table;
	bool found;
	int err; /* why what looked like a table was none */
};

static int scan__part(void *context, const struct elf_part *part)
{
	struct scan *scan = context;
	int err;

	if (part->size > SCAN_MAX_BYTES - scan->bytes)
		return -EFBIG;
	scan->bytes += part->size;
	err = go_table__scan(scan->marks->file, part, scan->marks->module, scan->table);
	if (err == 0) {
		scan->found = true;
		return 1;
	}
	if (err == -EBADMSG || err == -ENOTSUP || err == -EFBIG)
		scan->err = err;
	return err == -ENOMEM || err == -EIO ? err : 0;
}

static int scan__section(void *context, const struct elf_part *section)
{
	if (section->type != SHT_PROGBITS || !section->is_allocated || section->is_executable)
		return 0;
	return scan__part(context, section);
}

static int scan__segment(void *context, const struct elf_part *segment)
{
	return segment->type == PT_LOAD ? scan__part(context, segment) : 0;
}

/* 0; -ENOENT when there is no table; another -errno. */
static int find_table(const struct marks *marks, struct go_table *ret_table, const char **ret_how)
{
	struct scan scan = {.marks = marks, .table = ret_table, .err = -ENOENT};
	int err;

	if (marks->table.size) {
		*ret_how = "section .gopclntab";
		return go_table__open(marks->file, &marks->table, marks->module, ret_table);
	}
	*ret_how = "pclntab, found by scan";
	if (marks->has_sections)
		err = elf_file__each_section(marks->file, scan__section, &scan);
	else
		err = elf_file__each_segment(marks->file, scan__segment, &scan);
	if (err < 0)
		return err;
	return scan.found ? 0 : scan.err;
}

/* Whether the code has its arguments in registers. */
static int uses_registers(const struct elf_file *file, const struct go_function_code *function,
			  bool *ret_uses)
{
	uint8_t code[32];
	int err = elf_file__read(file, function->offset, code, sizeof(code));

	if (!err)
		*ret_uses = elf_file__machine(file)->go_uses_registers(code, sizeof(code));
	return err;
}

static int find_abi(const struct elf_file *file, const struct go_code *code, enum go_abi *ret_abi)
{
	unsigned int minor;
	bool registers;
	int err = 0;

	if (sscanf(code->version, "go1.%u", &minor) == 1)
		registers = minor >= elf_file__machine(file)->go_registers_since;
	else
		err = uses_registers(file, &code->functions[GO_TLS_READ], &registers);
	if (err)
		return err;
	*ret_abi = registers ? GO_ABI_REGISTERS : GO_ABI_STACK;
	return 0;
}

static int note_packer(void *context, const struct elf_part *segment)
{
	const struct marks *marks = context;
	static const char magic[] = "UPX!";
	char bytes[512];
	size_t size = segment->size < sizeof(bytes) ? segment->size : sizeof(bytes);
	int err;

	if (segment->type != PT_LOAD || segment->offset != 0)
		return 0;
	err = elf_file__read(marks->file, 0, bytes, size);
	if (err)
		return err;
	return memmem(bytes, size, magic, sizeof(magic) - 1) ? 1 : 0;
}

/* What is packed has no sections, and the packer's mark behind its headers. */
static int is_packed(const struct marks *marks)
{
	if (marks->has_sections)
		return 0;
	return elf_file__each_segment(marks->file, note_packer, (void *)marks);
}

/* Sets the file offsets of the functions. */
static int locate(const struct elf_file *file, struct go_code *code)
{
	int f, err;

	for (f = 0; f < GO_FUNCTION_COUNT; f++) {
		if (!code->functions[f].address)
			continue;
		err = elf_file__offset(file, code->functions[f].address,
				       &code->functions[f].offset);
		if (err)
			return err;
	}
	return 0;
}

static int find_functions(struct elf_file *file, const struct marks *marks, struct go_code *code)
{
	struct search search = {0};
	struct go_table table;
	int err;

	code->found_by = "ELF symbols";
	err = elf_file__each_function(file, search__note, &search);
	if (err == -ENOMEM)
		return err;
	/* Nothing needs them to run, so they may be damaged. */
	code->has_symbols = !err && search__has_tls(&search);
	if (!code->has_symbols) {
		search = (struct search){0};
		err = find_table(marks, &table, &code->found_by);
		if (!err)
			err = go_table__each_function(&table, endings, LENGTH(endings),
						      search__note, &search);
		if (err)
			return err;
	}
	code->has_tls = search__has_tls(&search);
	if (!code->has_tls)
		return -ENOENT;
	memcpy(code->functions, search.functions, sizeof(code->functions));
	return locate(file, code);
}

int elf_file__go_code(struct elf_file *file, struct go_code *ret_code)
{
	struct marks marks = {.file = file};
	struct go_code code = {0};
	int err;

	ret_code->found_by = NULL;
	err = elf_file__each_section(file, marks__note_section, &marks);
	if (!err && !marks.is_go)
		err = elf_file__each_segment(file, marks__note_segment, &marks);
	if (err)
		return err;
	if (!marks.is_go && marks.has_sections)
		return -ENOENT;
	err = is_packed(&marks);
	if (err > 0) {
		ret_code->found_by = "packed by UPX";
		return -ENOTSUP;
	}
	if (err)
		return err;
	read_version(&marks, code.version, sizeof(code.version));
	err = find_functions(file, &marks, &code);
	if (!err)
		err = find_abi(file, &code, &code.abi);
	/* Whatever has no section names may be Go or not. */
	if (err && (marks.is_go || err != -ENOENT))
		ret_code->found_by = code.found_by;
	if (!err)
		*ret_code = code;
	return err;
}
