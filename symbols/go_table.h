/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table from code addresses to functions that Go's runtime walks stacks with (pclntab). Every
 * Go program has it, stripped or not, since it does not run without. Internal to symbols/.
 *
 *	Go	    magic	code addresses
 *	1.2-1.15    fffffffb	as linked
 *	1.16-1.17   fffffffa	as linked
 *	1.18-1.19   fffffff0	4 bytes, from the text address in the table's header
 *	1.20-1.25   fffffff1	the same
 *	from 1.26   fffffff1	from the text address in the runtime's moduledata; 0 in the header
 */
#ifndef TLSTRACE_GO_TABLE_H
#define TLSTRACE_GO_TABLE_H

#include "elf_file.h"

enum go_table_format {
	GO_TABLE_1_2,
	GO_TABLE_1_16,
	GO_TABLE_1_18,
	GO_TABLE_1_20,
};

struct go_table {
	const struct elf_file *file;
	enum go_table_format format;
	uint64_t offset;  /* in the file */
	uint64_t address; /* as linked */
	uint64_t size;	  /* the table ends within */
	uint64_t count;	  /* of functions */
	uint64_t text;	  /* code addresses count from here; 0: from 0 */
	/* Offsets in the table: */
	uint64_t names, names_size;
	uint64_t rows;	    /* an address and the function's description for each function */
	uint64_t functions; /* what the rows' offsets of descriptions count from */
};

/*
 * The table that begins where `part` does. `module` is the address of moduledata, 0 if not known.
 * 0; -ENOENT when no table begins there; -EBADMSG when it contradicts itself or the file; -ENOTSUP
 * when the text address cannot be told; -EFBIG; -ENOMEM; another -errno from reading.
 */
int go_table__open(const struct elf_file *file, const struct elf_part *part, uint64_t module,
		   struct go_table *ret_table);

/*
 * The same, of a table that begins anywhere in `part`: the first that can be opened. -ENOENT when
 * there is none.
 */
int go_table__scan(const struct elf_file *file, const struct elf_part *part, uint64_t module,
		   struct go_table *ret_table);

/* Longer ones are not taken: of what stands before an ending, and an ending. */
#define GO_TABLE_PREFIX_MAX 160
#define GO_TABLE_ENDING_MAX 64

/*
 * Calls `fn` for each function whose name ends with one of `endings`. One pass over the names, one
 * over the functions. 0, what `fn` returned, or a -errno as above. The address is not checked.
 */
int go_table__each_function(const struct go_table *table, const char *const *endings, size_t count,
			    elf_function_fn *fn, void *context);

#endif
