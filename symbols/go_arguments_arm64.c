/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arguments that are kept on the stack, on arm64. See go_arguments.h.
 *
 * As on x86-64 (go_arguments_x86.c): the frame has one size, the caller's words are named by the
 * stack pointer, or by the frame pointer, which is 8 below it. The word that the stack pointer
 * points to at the entry is the caller's copy of LR; arguments begin behind it.
 */
#include "arm64.h"

#define WORD	  8
#define ARGUMENTS 8 /* distance of the first one from the stack pointer at the entry */
#define COUNT_MAX 9

struct frame {
	int64_t size; /* the stack pointer at the entry, less what it is now */
	bool is_set;  /* the prologue is over */
	unsigned int count;
	uint32_t stored; /* arguments that are in their place, by bits */
	uint32_t lost;	 /* registers that were written before that */
};

/* Where in the caller's frame `offset` from a register is: its distance from the entry's stack
 * pointer. */
static bool place_of(const struct frame *frame, uint8_t base, int32_t offset, int64_t *ret_place)
{
	if (base == ARM64_SP)
		*ret_place = offset - frame->size;
	else if (base == ARM64_FP)
		*ret_place = offset - WORD - frame->size;
	else
		return false;
	return true;
}

static bool touches_arguments(const struct frame *frame, int64_t place, int64_t size)
{
	return place < ARGUMENTS + WORD * (int64_t)frame->count && place + size > ARGUMENTS;
}

/* A store of the arguments' registers in the arguments' places. */
static bool note_spill(struct frame *frame, const struct arm64_memory *memory, int64_t place)
{
	int64_t argument = (place - ARGUMENTS) / WORD;

	if (frame->is_set || !memory->is_general || memory->size != WORD || memory->count == 0 ||
	    place < ARGUMENTS || (place - ARGUMENTS) % WORD)
		return false;
	for (unsigned int i = 0; i < memory->count; i++, argument++) {
		/* One that is not asked for may be anything. */
		if (argument >= frame->count)
			break;
		if (memory->registers[i] != argument || frame->lost & 1U << argument)
			return false;
		frame->stored |= 1U << argument;
	}
	return true;
}

/* False when the instruction may change what is kept. */
static bool check_memory(struct frame *frame, uint32_t word)
{
	struct arm64_memory memory;
	int64_t place;

	if (!arm64__decode_memory(word, &memory) || !memory.is_store || !memory.has_base ||
	    !place_of(frame, memory.base, memory.offset, &place))
		return true;
	/* What is indexed reaches anywhere. */
	if (!memory.is_near)
		return false;
	return !touches_arguments(frame, place, memory.count * memory.size) ||
	       note_spill(frame, &memory, place);
}

/*
 * False when an instruction makes an address of an argument, or may: one that is near to it is
 * enough for code to reach it by an offset.
 */
static bool check_address(const struct frame *frame, const uint8_t *code, size_t size, size_t at)
{
	int32_t constant, more;
	uint8_t to, from, next_to, next_from;
	int64_t place;

	if (!arm64__is_add_constant(arm64__word(code + at), &to, &from, &constant))
		return true;
	/* The stack and frame pointers themselves, and the stack check's of a large frame. */
	if (to == ARM64_SP || to == ARM64_FP || !place_of(frame, from, constant, &place))
		return true;
	/* It may be made in two steps. */
	if (size - at >= 2 * ARM64_BYTES &&
	    arm64__is_add_constant(arm64__word(code + at + ARM64_BYTES), &next_to, &next_from,
				   &more) &&
	    next_from == to)
		place += more;
	return !touches_arguments(frame, place, 1);
}

/* Address arithmetic with the stack pointer that is not by a constant. */
static bool is_unknown_address(uint32_t word)
{
	bool is_extended_add = (word & 0x9f200000) == 0x8b200000;
	uint32_t to = word & 0x1f, from = word >> 5 & 0x1f;

	return is_extended_add && from == ARM64_SP && to != ARM64_SP;
}

/* Follows the stack pointer through the prologue, and notices its end. */
static bool follow_prologue(struct frame *frame, const struct instruction *instruction,
			    uint32_t word)
{
	enum { LOWER_OR_SAME = 9 };
	bool is_more_stack = (word & 0xff000010) == 0x54000000 && (word & 0xf) == LOWER_OR_SAME;

	if (instruction->stack == STACK_MOVED)
		frame->size += instruction->stack_bytes;
	else if (instruction->stack != STACK_KEPT)
		return false;
	if (instruction->flow != FLOW_NEXT && !is_more_stack)
		frame->is_set = true;
	return true;
}

bool arm64__keeps_arguments(const uint8_t *code, size_t size, enum go_abi abi, unsigned int count)
{
	struct frame frame = {.count = count};
	struct instruction instruction;
	uint32_t word;

	if (count > COUNT_MAX)
		return false;
	if (abi == GO_ABI_STACK)
		frame.stored = (1U << count) - 1;
	for (size_t at = 0; at < size; at += ARM64_BYTES) {
		if (arm64__decode(code, size, at, &instruction))
			return false;
		word = arm64__word(code + at);
		if (!check_memory(&frame, word) || !check_address(&frame, code, size, at))
			return false;
		if (frame.is_set) {
			if (is_unknown_address(word))
				return false;
			continue;
		}
		frame.lost |= instruction.registers_written;
		if (!follow_prologue(&frame, &instruction, word))
			return false;
	}
	return frame.stored == (1U << count) - 1;
}
