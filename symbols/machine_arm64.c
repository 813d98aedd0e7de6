/* SPDX-License-Identifier: BSD-2-Clause */
/* arm64 (AArch64). See machine.h. */
#include "machine.h"

#include <elf.h>

#include "arm64.h"

/*
 * Functions begin with a look at how much stack g, in R28, has left. Where R0 to R15 have
 * arguments, that is read into none of these.
 */
static bool uses_registers(const uint8_t *code, size_t size)
{
	for (size_t at = 0; at + ARM64_BYTES <= size; at += ARM64_BYTES) {
		uint32_t word = arm64__word(code + at);

		/* ldr xT, [x28, #16] */
		if ((word & 0xffffffe0) == 0xf9400b80)
			return (word & 0x1f) >= 16;
	}
	return false;
}

const struct machine machine_arm64 = {
	.elf_number = EM_AARCH64,
	.relative_relocation = R_AARCH64_RELATIVE,
	.code_quantum = ARM64_BYTES,
	.decode = arm64__decode,
	.go_arguments = 0xffff | 1U << ARM64_G,
	.go_pointers = 1U << ARM64_SP | 1U << ARM64_FP | 1U << ARM64_LR,
	.go_registers_since = 18,
	.go_uses_registers = uses_registers,
	.go_keeps_arguments = arm64__keeps_arguments,
};
