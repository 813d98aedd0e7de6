/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What differs between the machines whose files are read: it is chosen by the file's e_machine, so
 * that files of any of them can be read, and tested, on all. Internal to symbols/.
 */
#ifndef TLSTRACE_MACHINE_H
#define TLSTRACE_MACHINE_H

#include "go_arguments.h"
#include "instruction.h"

struct machine {
	uint16_t elf_number;	      /* e_machine */
	uint32_t relative_relocation; /* where the file was loaded, and a constant */
	uint8_t code_quantum;	      /* what lengths of instructions are multiples of */
	instruction_decode_fn *decode;
	/* Decoded instructions have what placement.c needs, too: C's calling convention. */
	bool knows_c;
	/* Registers, by bits, that have arguments or g in Go's ABI; and stack and frame pointers.
	 */
	uint32_t go_arguments;
	uint32_t go_pointers;
	/* The first minor version of Go 1 with arguments in registers. */
	unsigned int go_registers_since;
	/* Tells the same by how a function of crypto/tls begins. */
	bool (*go_uses_registers)(const uint8_t *code, size_t size);
	go_arguments_fn *go_keeps_arguments;
	/* Returns are single-stepped, and go_defers.h is for its code, a way to do without. */
	bool go_has_defers;
};

extern const struct machine machine_x86_64, machine_arm64;

/* The machine of that e_machine; NULL when it is another. */
const struct machine *machine__of_elf(uint16_t elf_number);

/* The one that runs this program. */
const struct machine *machine__of_host(void);

#endif
