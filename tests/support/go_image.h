/* SPDX-License-Identifier: BSD-2-Clause */
/* Small ELF files that have what Go programs of all versions have, made by hand. */
#ifndef TLSTRACE_GO_IMAGE_H
#define TLSTRACE_GO_IMAGE_H

#include "go.h"
#include "go_table.h"

enum go_image_flags {
	GO_IMAGE_RELOCATED = 1 << 0,	    /* pointers are in relocations only */
	GO_IMAGE_NO_SECTIONS = 1 << 1,	    /* as sstrip leaves it */
	GO_IMAGE_NO_TABLE_SECTION = 1 << 2, /* the table is in a section of another name */
	GO_IMAGE_TEXT_IN_MODULE = 1 << 3,   /* the text address is not in the table's header */
	GO_IMAGE_NO_MODULE_SECTION = 1 << 4,
	GO_IMAGE_SYMBOLS = 1 << 5,	  /* Read and Write are in .symtab */
	GO_IMAGE_OLD_BUILD_INFO = 1 << 6, /* with pointers, as up to 1.17 */
	GO_IMAGE_NO_BUILD_INFO = 1 << 7,
	GO_IMAGE_NO_TLS = 1 << 8,
	GO_IMAGE_STACK_ABI = 1 << 9,
	GO_IMAGE_ARM64 = 1 << 10, /* else x86-64 */
	GO_IMAGE_FLAGS_END = 1 << 11,
};

enum {
	GO_IMAGE_BYTES = 0x6000,
	GO_IMAGE_TEXT_AT = 0x1000, /* in the file */
	GO_IMAGE_TEXT_BYTES = 0xc00,
	GO_IMAGE_TABLE_AT = 0x2040,
	GO_IMAGE_TABLE_BYTES = 0xfc0, /* of its section */
	GO_IMAGE_MODULE_AT = 0x3100,
	GO_IMAGE_CODE_BYTES = 0x100, /* of GO_TLS_READ, which is last */
	GO_IMAGE_ADDRESS = 0x400000, /* of the file's first byte; all is linked as it lies */
};

#define GO_IMAGE_VERSION "go1.99.1"

struct go_image {
	uint8_t bytes[GO_IMAGE_BYTES];
	uint64_t functions[GO_FUNCTION_COUNT]; /* addresses */
	/* In the file: */
	size_t rows_at;		/* of the table */
	size_t descriptions_at; /* of its functions, one behind the other; 1.16 and later */
	size_t relocations;	/* their number */
	unsigned int count;	/* of functions */
	uint8_t padding;	/* between functions */
};

void go_image__make(struct go_image *image, enum go_table_format format, unsigned int flags);

/* Makes `code` the code of GO_TLS_READ, with padding behind it. */
void go_image__set_code(struct go_image *image, const uint8_t *code, size_t size);

/* A file with the first `size` bytes; to be closed. */
int go_image__open(const struct go_image *image, size_t size);

/* What go_sites__find() says of a function, once its file has been read. */
int go_image__sites(const struct go_image *image, enum go_function function,
		    const struct emulated *emulated, struct placement *ret_placement);

#endif
