/* SPDX-License-Identifier: BSD-2-Clause */
/* x86-64. See machine.h. */
#include "machine.h"

#include <elf.h>
#include <string.h>

#include "x86.h"

/*
 * Functions begin with a look at how much stack g has left (cmp 0x10(%r14),%reg); where g is not in
 * R14, they get it first.
 */
static bool uses_registers(const uint8_t *code, size_t size)
{
	static const uint8_t compare[] = {0x3b, 0x66, 0x10};
	const uint8_t *hit = memmem(code + 1, size - 1, compare, sizeof(compare));

	/* REX.W and REX.B, R14; with REX.R the left side is an extended register as well. */
	return hit && (hit[-1] == 0x49 || hit[-1] == 0x4d);
}

const struct machine machine_x86_64 = {
	.elf_number = EM_X86_64,
	.relative_relocation = R_X86_64_RELATIVE,
	.code_quantum = 1,
	.decode = x86__decode,
	.knows_c = true,
	.go_arguments = 1 << RAX | 1 << RBX | 1 << RCX | 1 << RDI | 1 << RSI | 1 << R8 | 1 << R9 |
			1 << R10 | 1 << R11 | 1 << R14,
	.go_pointers = 1 << RSP | 1 << RBP,
	.go_registers_since = 17,
	.go_uses_registers = uses_registers,
	.go_keeps_arguments = x86__keeps_arguments,
	.go_has_defers = true,
};
