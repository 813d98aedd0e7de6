/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arm64 instructions, reduced to what go_sites.c needs of struct instruction.
 *
 * Decoded here, by the groups of the Arm Architecture Reference Manual (C4.1, A64 instruction set
 * encoding), and not by a library: where an instruction goes and which registers it may write is
 * in the same bits for whole groups of the fixed-width code, and what is not known by its group is
 * no instruction here. A register is written when the bits for it may mean that it is.
 */
#include "arm64.h"

#include <errno.h>

#define X30 (1U << ARM64_LR)

/* The field of `count` bits from bit `low` on. */
static uint32_t bits(uint32_t word, unsigned int low, unsigned int count)
{
	return word >> low & ((1U << count) - 1);
}

static int32_t signed_bits(uint32_t word, unsigned int low, unsigned int count)
{
	return (int32_t)(word << (32 - low - count)) >> (32 - count);
}

/* A register's bit, where number 31 is zero, which nothing writes. */
static uint32_t register_bit(uint32_t number)
{
	return number == 31 ? 0 : 1U << number;
}

/* ---- memory ---- */

/* ldp, stp and their kin. */
static bool decode_pair(uint32_t word, struct arm64_memory *memory)
{
	enum { POST = 1, PRE = 3 };
	bool is_vector = bits(word, 26, 1), is_load = bits(word, 22, 1);
	uint32_t mode = bits(word, 23, 2), opcode = bits(word, 30, 2);
	int32_t offset;

	/* 1 is ldpsw, which reads 4 bytes; its stores are of tags. */
	if (opcode == 3 || (!is_vector && opcode == 1 && (!is_load || mode == 0)))
		return false;
	memory->size = is_vector ? 4 << opcode : opcode == 2 ? 8 : 4;
	memory->count = 2;
	memory->registers[0] = bits(word, 0, 5);
	memory->registers[1] = bits(word, 10, 5);
	memory->is_store = !is_load;
	memory->is_general = !is_vector;
	memory->is_near = true;
	offset = signed_bits(word, 15, 7) * memory->size;
	memory->offset = mode == POST ? 0 : offset;
	memory->base_moves = mode == POST || mode == PRE ? offset : 0;
	return true;
}

/* ldr, str and their kin, of one register. */
static bool decode_single(uint32_t word, struct arm64_memory *memory)
{
	enum { UNSCALED, POST, UNPRIVILEGED, PRE };
	bool is_vector = bits(word, 26, 1);
	uint32_t size = bits(word, 30, 2), opcode = bits(word, 22, 2), form = bits(word, 10, 2);
	int32_t offset = signed_bits(word, 12, 9);

	/* Vectors of 16 bytes have the size of bytes and another opcode. */
	if (is_vector && opcode >= 2 && size != 0)
		return false;
	memory->size = is_vector && opcode >= 2 ? 16 : 1 << size;
	memory->count = 1;
	memory->registers[0] = bits(word, 0, 5);
	memory->is_store = is_vector ? !(opcode & 1) : opcode == 0;
	memory->is_general = !is_vector;
	if (bits(word, 24, 1)) {
		memory->is_near = true;
		memory->offset = (int32_t)bits(word, 10, 12) * memory->size;
		return true;
	}
	if (bits(word, 21, 1)) /* an index in a register */
		return form == 2;
	memory->is_near = true;
	memory->offset = form == POST ? 0 : offset;
	memory->base_moves = form == POST || form == PRE ? offset : 0;
	return form != UNPRIVILEGED;
}

/* Atomic operations that read and write (ldadd, swp, ...), and ldapr. */
static bool decode_atomic(uint32_t word, struct arm64_memory *memory)
{
	enum { SWAP = 0, LOAD_ACQUIRE = 4 };
	uint32_t opcode = bits(word, 12, 3);

	if (bits(word, 15, 1) && opcode != SWAP && opcode != LOAD_ACQUIRE)
		return false;
	memory->is_store = true;
	memory->is_near = true;
	memory->count = 1;
	memory->size = 1 << bits(word, 30, 2);
	memory->written = register_bit(bits(word, 0, 5));
	return true;
}

/* Exclusive and ordered ones (ldaxr, stlr, ...), compare and swap. */
static bool decode_exclusive(uint32_t word, struct arm64_memory *memory)
{
	uint32_t status = bits(word, 16, 5), first = bits(word, 0, 5);

	memory->is_store = true;
	memory->is_near = true;
	memory->count = 2;
	memory->size = 8;
	memory->written =
		register_bit(first) | register_bit(bits(word, 10, 5)) | register_bit(status);
	/* casp has two registers for each that is named: an even one and the next. */
	if (!bits(word, 31, 1) && !bits(word, 23, 1) && bits(word, 21, 1))
		memory->written |= register_bit(first | 1) | register_bit(status | 1);
	return true;
}

/* ld1 to ld4 and st1 to st4 of vectors. */
static bool decode_structures(uint32_t word, struct arm64_memory *memory)
{
	if (bits(word, 31, 1))
		return false;
	memory->is_store = true;
	memory->base_is_lost = bits(word, 23, 1);
	return true;
}

/* By bits 27 to 29. */
enum { ORDERED = 1, LITERAL = 3, PAIR = 5, SINGLE = 7 };

static bool decode_group(uint32_t word, struct arm64_memory *memory)
{
	bool is_vector = bits(word, 26, 1), is_24 = bits(word, 24, 1);

	switch (bits(word, 27, 3)) {
	case PAIR:
		return decode_pair(word, memory);
	case SINGLE:
		if (!is_24 && bits(word, 21, 1) && bits(word, 10, 2) == 0)
			return !is_vector && decode_atomic(word, memory);
		return decode_single(word, memory);
	case LITERAL:
		memory->has_base = false;
		memory->is_general = !is_vector;
		memory->written = is_vector ? 0 : register_bit(bits(word, 0, 5));
		return !is_24;
	case ORDERED:
		if (is_vector)
			return decode_structures(word, memory);
		return !is_24 && decode_exclusive(word, memory);
	default:
		return false;
	}
}

bool arm64__decode_memory(uint32_t word, struct arm64_memory *ret)
{
	struct arm64_memory memory = {.has_base = true, .base = bits(word, 5, 5)};

	if (bits(word, 27, 1) != 1 || bits(word, 25, 1) != 0 || !decode_group(word, &memory))
		return false;
	if (memory.is_general && !memory.is_store)
		for (unsigned int i = 0; i < memory.count; i++)
			memory.written |= register_bit(memory.registers[i]);
	if (memory.has_base && (memory.base_moves || memory.base_is_lost))
		memory.written |= register_bit(memory.base);
	*ret = memory;
	return true;
}

static bool note_memory(uint32_t word, struct instruction *ret)
{
	struct arm64_memory memory;

	if (!arm64__decode_memory(word, &memory))
		return false;
	ret->registers_written = memory.written;
	if (!memory.has_base || bits(word, 27, 3) == ORDERED)
		ret->class = CLASS_REFUSED;
	if (!memory.has_base || memory.base != ARM64_SP)
		return true;
	if (memory.base_is_lost)
		ret->stack = STACK_LOST;
	else if (memory.base_moves)
		ret->stack = STACK_MOVED;
	if (ret->stack != STACK_KEPT)
		ret->registers_written |= 1U << ARM64_SP;
	ret->stack_bytes = -memory.base_moves;
	return true;
}

/* ---- constants ---- */

bool arm64__is_add_constant(uint32_t word, uint8_t *ret_to, uint8_t *ret_from,
			    int32_t *ret_constant)
{
	/* 64 bits wide; flags stay. */
	if ((word & 0xbf800000) != 0x91000000)
		return false;
	*ret_to = bits(word, 0, 5);
	*ret_from = bits(word, 5, 5);
	*ret_constant = (int32_t)(bits(word, 10, 12) << (bits(word, 22, 1) ? 12 : 0));
	if (bits(word, 30, 1))
		*ret_constant = -*ret_constant;
	return true;
}

/*
 * How far a frame too large for an offset has moved the stack pointer when it is set, at code[at]:
 *	sub xT, sp, #N; a store that uses xT; mov sp, xT
 */
static bool is_large_frame(const uint8_t *code, size_t at, uint8_t from, int32_t *ret_bytes)
{
	struct arm64_memory memory;
	uint8_t to, base;

	return at >= 2 * ARM64_BYTES &&
	       arm64__is_add_constant(arm64__word(code + at - 2 * ARM64_BYTES), &to, &base,
				      ret_bytes) &&
	       to == from && base == ARM64_SP &&
	       arm64__decode_memory(arm64__word(code + at - ARM64_BYTES), &memory) &&
	       memory.is_store && memory.has_base && memory.base == from && memory.written == 0;
}

/* add and sub of a constant, which alone set the stack pointer in a way that is followed. */
static void note_add(const uint8_t *code, size_t at, struct instruction *ret)
{
	uint32_t word = arm64__word(code + at);
	int32_t constant = 0;
	uint8_t to = 0, from = 0;

	/* Those that set flags write to zero. */
	if (bits(word, 29, 1)) {
		ret->registers_written = register_bit(bits(word, 0, 5));
		return;
	}
	ret->registers_written = 1U << bits(word, 0, 5);
	if (bits(word, 0, 5) != ARM64_SP)
		return;
	ret->stack = STACK_LOST;
	if (!arm64__is_add_constant(word, &to, &from, &constant))
		return;
	if (from == ARM64_SP || (constant == 0 && is_large_frame(code, at, from, &constant))) {
		ret->stack = STACK_MOVED;
		ret->stack_bytes = -constant;
	}
}

/* By bits 23 to 25. */
enum { ADDRESS = 0, ADDRESS_TOO = 1, ADD = 2, LOGICAL = 4, MOVE = 5, BIT_FIELD = 6, EXTRACT = 7 };

static bool note_constant(const uint8_t *code, size_t at, struct instruction *ret)
{
	uint32_t word = arm64__word(code + at), to = bits(word, 0, 5);

	ret->registers_written = register_bit(to);
	switch (bits(word, 23, 3)) {
	case ADDRESS:
	case ADDRESS_TOO:
		ret->class = CLASS_BRANCH;
		return true;
	case ADD:
		note_add(code, at, ret);
		return true;
	case LOGICAL:
		if (to == ARM64_SP && bits(word, 29, 2) != 3) {
			ret->registers_written = 1U << ARM64_SP;
			ret->stack = STACK_LOST;
		}
		return true;
	case MOVE:
	case BIT_FIELD:
		return true;
	case EXTRACT:
		return bits(word, 29, 2) == 0;
	default:
		return false;
	}
}

/* ---- registers ---- */

static void note_registers(uint32_t word, struct instruction *ret)
{
	uint32_t to = bits(word, 0, 5);
	bool is_extended_add = (word & 0x1f200000) == 0x0b200000;

	ret->registers_written = register_bit(to);
	if (is_extended_add && to == ARM64_SP && !bits(word, 29, 1)) {
		ret->registers_written = 1U << ARM64_SP;
		ret->stack = STACK_LOST;
	}
}

/* ---- branches and the system ---- */

static void note_jump(struct instruction *ret, enum instruction_flow flow, size_t at,
		      int32_t distance)
{
	ret->class = CLASS_BRANCH;
	ret->flow = flow;
	ret->target = (int64_t)at + (int64_t)distance * ARM64_BYTES;
	if (flow == FLOW_CALL)
		ret->registers_written = ~0U;
}

static void note_indirect(uint32_t word, struct instruction *ret)
{
	enum { JUMP, CALL, RETURN };

	ret->class = CLASS_BRANCH;
	ret->flow = FLOW_JUMP_UNKNOWN;
	if (bits(word, 21, 2) == CALL) {
		ret->flow = FLOW_CALL_UNKNOWN;
		ret->registers_written = ~0U;
	} else if (bits(word, 21, 2) == RETURN && bits(word, 5, 5) == ARM64_LR) {
		ret->flow = FLOW_RETURN;
	}
}

/* Barriers, hints, and registers of the system. */
static bool note_system(uint32_t word, struct instruction *ret)
{
	if ((word & 0xfffff01f) == 0xd503201f) {
		/* Some sign an address in R16, R17 or LR. */
		ret->is_padding = word == 0xd503201f;
		ret->registers_written = ret->is_padding ? 0 : 1U << 16 | 1U << 17 | X30;
		return true;
	}
	if ((word & 0xfffff000) == 0xd5033000)
		return true;
	ret->class = CLASS_REFUSED;
	/* sys, sysl, msr and mrs, but for those that set fields of the processor's state. */
	if (bits(word, 21, 1) || bits(word, 19, 2) != 0) {
		ret->registers_written = bits(word, 21, 1) ? register_bit(bits(word, 0, 5)) : 0;
		return true;
	}
	return false;
}

static bool note_branch(uint32_t word, size_t at, struct instruction *ret)
{
	if ((word & 0x7c000000) == 0x14000000) {
		note_jump(ret, bits(word, 31, 1) ? FLOW_CALL : FLOW_JUMP, at,
			  signed_bits(word, 0, 26));
		return true;
	}
	/* b.cond, cbz and cbnz; tbz and tbnz. */
	if ((word & 0xff000010) == 0x54000000 || (word & 0x7e000000) == 0x34000000) {
		note_jump(ret, FLOW_BRANCH, at, signed_bits(word, 5, 19));
		return true;
	}
	if ((word & 0x7e000000) == 0x36000000) {
		note_jump(ret, FLOW_BRANCH, at, signed_bits(word, 5, 14));
		return true;
	}
	/* br, blr, ret: those that authenticate have other bits. */
	if ((word & 0xff9ffc1f) == 0xd61f0000 && bits(word, 21, 2) != 3) {
		note_indirect(word, ret);
		return true;
	}
	/* brk, hlt */
	if ((word & 0xffe0001f) == 0xd4200000 || (word & 0xffe0001f) == 0xd4400000) {
		ret->class = CLASS_REFUSED;
		ret->flow = FLOW_STOP;
		return true;
	}
	return (word & 0xffc00000) == 0xd5000000 && note_system(word, ret);
}

/* By bits 25 to 28. */
static bool note_group(const uint8_t *code, size_t at, struct instruction *ret)
{
	uint32_t word = arm64__word(code + at);

	switch (bits(word, 25, 4)) {
	case 0: /* udf; zeros are between functions */
		ret->class = CLASS_REFUSED;
		ret->flow = FLOW_STOP;
		ret->is_padding = word == 0;
		return word <= UINT16_MAX;
	case 8:
	case 9:
		return note_constant(code, at, ret);
	case 10:
	case 11:
		return note_branch(word, at, ret);
	case 4:
	case 6:
	case 12:
	case 14:
		return note_memory(word, ret);
	case 5:
	case 13:
		note_registers(word, ret);
		return true;
	case 7:
	case 15: /* of vectors; the result may be in a general register */
		ret->registers_written = register_bit(bits(word, 0, 5));
		return true;
	default: /* unallocated, or scalable vectors */
		return false;
	}
}

int arm64__decode(const uint8_t *code, size_t size, size_t at, struct instruction *ret)
{
	struct instruction instruction = {.length = ARM64_BYTES, .canary_loaded_to = -1};

	if (at > size || size - at < ARM64_BYTES || at % ARM64_BYTES ||
	    !note_group(code, at, &instruction))
		return -EBADMSG;
	*ret = instruction;
	return 0;
}
