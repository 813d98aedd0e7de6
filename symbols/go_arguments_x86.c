/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arguments that are kept on the stack, on x86-64. See go_arguments.h.
 *
 * The frame of a Go function has one size, from the end of its prologue to its returns. So a word
 * of the caller's frame is named in one way, as [rsp + frame + distance], or with rbp, which is 8
 * below the stack pointer at the entry. In the straight line up to the first call or branch (but
 * that to more stack, which comes back to the begin), each argument's register must be stored in
 * its place; behind it, no instruction may write there or take an address there.
 */
#include "x86.h"

#include <Zydis/Zydis.h>

#define WORD	  8
#define ARGUMENTS 8 /* distance of the first one from the stack pointer at the entry */

/* In Go's order of integer arguments (internal ABI, amd64). */
static const ZydisRegister argument_registers[] = {
	ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_RBX, ZYDIS_REGISTER_RCX,
	ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_RSI, ZYDIS_REGISTER_R8,
	ZYDIS_REGISTER_R9,  ZYDIS_REGISTER_R10, ZYDIS_REGISTER_R11,
};

struct frame {
	int64_t size; /* the stack pointer at the entry, less what it is now */
	bool is_set;  /* the prologue is over */
	unsigned int count;
	uint32_t stored; /* arguments that are in their place, by bits */
	uint32_t lost;	 /* whose registers were written before that */
};

/* Where in the caller's frame an operand points: its distance from the entry's stack pointer. */
static bool place_of(const struct frame *frame, const ZydisDecodedOperand *operand,
		     int64_t *ret_place)
{
	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	if (operand->mem.base == ZYDIS_REGISTER_RSP)
		*ret_place = operand->mem.disp.value - frame->size;
	else if (operand->mem.base == ZYDIS_REGISTER_RBP)
		*ret_place = operand->mem.disp.value - WORD;
	else
		return false;
	return true;
}

/* Whether the bytes from `place` on may be of an argument. What is indexed reaches anywhere. */
static bool touches_arguments(const struct frame *frame, const ZydisDecodedOperand *operand,
			      int64_t place)
{
	int64_t end = ARGUMENTS + WORD * (int64_t)frame->count;
	int64_t size = operand->size / 8;

	if (operand->mem.index != ZYDIS_REGISTER_NONE)
		return true;
	return place < end && place + (size ? size : WORD) > ARGUMENTS;
}

/* A store of an argument's register in the argument's place. */
static bool note_spill(struct frame *frame, const ZydisDecodedInstruction *instruction,
		       const ZydisDecodedOperand *operands, int64_t place)
{
	int64_t argument = (place - ARGUMENTS) / WORD;

	if (frame->is_set || instruction->mnemonic != ZYDIS_MNEMONIC_MOV ||
	    (place - ARGUMENTS) % WORD || operands[0].size != 8 * WORD ||
	    operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    operands[1].reg.value != argument_registers[argument] || frame->lost & 1u << argument)
		return false;
	frame->stored |= 1u << argument;
	return true;
}

/* False when the instruction may change what is kept. */
static bool check_memory(struct frame *frame, const ZydisDecodedInstruction *instruction,
			 const ZydisDecodedOperand *operands)
{
	bool is_address = instruction->mnemonic == ZYDIS_MNEMONIC_LEA;
	int64_t place;

	for (unsigned int i = 0; i < instruction->operand_count; i++) {
		bool writes = operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

		if ((!writes && !is_address) || !place_of(frame, &operands[i], &place) ||
		    !touches_arguments(frame, &operands[i], place))
			continue;
		/* An address of the stack check, of a large frame, is compared and not kept. */
		if (is_address && !frame->is_set && place < 0)
			continue;
		if (is_address || !note_spill(frame, instruction, operands, place))
			return false;
	}
	return true;
}

static void note_lost_registers(struct frame *frame, const ZydisDecodedInstruction *instruction,
				const ZydisDecodedOperand *operands)
{
	for (unsigned int i = 0; i < instruction->operand_count; i++) {
		ZydisRegister whole;

		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
							 operands[i].reg.value);
		for (unsigned int a = 0; a < frame->count; a++)
			if (whole == argument_registers[a])
				frame->lost |= 1u << a;
	}
}

/* Follows the stack pointer through the prologue, and notices its end. */
static bool follow_prologue(struct frame *frame, const ZydisDecodedInstruction *instruction,
			    const ZydisDecodedOperand *operands)
{
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		frame->size += WORD;
		return true;
	case ZYDIS_MNEMONIC_SUB:
		if (operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    operands[0].reg.value == ZYDIS_REGISTER_RSP) {
			if (operands[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
				return false;
			frame->size += operands[1].imm.value.s;
		}
		return true;
	case ZYDIS_MNEMONIC_ADD: /* of a negative number, where that is shorter */
		if (operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    operands[0].reg.value == ZYDIS_REGISTER_RSP) {
			if (operands[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
				return false;
			frame->size -= operands[1].imm.value.s;
		}
		return true;
	case ZYDIS_MNEMONIC_JBE: /* to more stack */
		return true;
	default:
		break;
	}
	switch (instruction->meta.category) {
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_RET:
		frame->is_set = true;
		break;
	default:
		break;
	}
	return true;
}

bool x86__keeps_arguments(const uint8_t *code, size_t size, enum go_abi abi, unsigned int count)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct frame frame = {.count = count};
	ZydisDecodedInstruction instruction;
	ZydisDecoder decoder;

	if (count > sizeof(argument_registers) / sizeof(argument_registers[0]) ||
	    !ZYAN_SUCCESS(
		    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return false;
	if (abi == GO_ABI_STACK)
		frame.stored = (1u << count) - 1;
	for (size_t at = 0; at < size; at += instruction.length) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code + at, size - at,
							 &instruction, operands)) ||
		    !check_memory(&frame, &instruction, operands))
			return false;
		if (frame.is_set)
			continue;
		note_lost_registers(&frame, &instruction, operands);
		if (!follow_prologue(&frame, &instruction, operands))
			return false;
	}
	return frame.stored == (1u << count) - 1;
}
