/* SPDX-License-Identifier: BSD-2-Clause */
/* arm64's machine code, between the files that read it. Internal to symbols/. */
#ifndef TLSTRACE_ARM64_H
#define TLSTRACE_ARM64_H

#include <string.h>

#include "go_arguments.h"
#include "instruction.h"

#define ARM64_BYTES 4 /* of every instruction */

/* Registers' numbers. 31 is the stack pointer or, in other places, zero. */
enum {
	ARM64_G = 28,
	ARM64_FP = 29,
	ARM64_LR = 30,
	ARM64_SP = 31,
};

/* What a load or store does to its registers, and with which memory. */
struct arm64_memory {
	bool is_store;	 /* it may write */
	bool is_general; /* .registers are R0 to R30, or zero */
	bool has_base;	 /* none: at a distance from the instruction itself */
	bool is_near;	 /* the address is .base + .offset */
	uint8_t base;
	uint8_t count; /* of .registers, each of .size bytes */
	uint8_t size;
	uint8_t registers[2]; /* loaded or stored, lower address first */
	int32_t offset;
	int32_t base_moves; /* .base changes by that, after all */
	bool base_is_lost;  /* it changes by what is not known */
	uint32_t written;   /* registers that may change, by bits; SP not among them */
};

/* A little endian instruction. */
static inline uint32_t arm64__word(const uint8_t *code)
{
	uint32_t word;

	memcpy(&word, code, sizeof(word));
	return word;
}

/* False when the word is not a load or store, or one of a kind that compilers do not make. */
bool arm64__decode_memory(uint32_t word, struct arm64_memory *ret_memory);

/*
 * Whether the word sets a register, or the stack pointer, to another one's value and a constant.
 * Where both are the stack pointer, it is moved.
 */
bool arm64__is_add_constant(uint32_t word, uint8_t *ret_to, uint8_t *ret_from,
			    int32_t *ret_constant);

instruction_decode_fn arm64__decode;

go_arguments_fn arm64__keeps_arguments;

#endif
