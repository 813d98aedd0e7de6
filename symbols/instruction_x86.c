/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x86-64 instructions, decoded by Zydis and reduced to struct instruction. Every register that
 * Zydis names as written, by name or implicitly, in part or on a condition, counts as written.
 */
#include "x86.h"

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

/* Where glibc, musl and bionic keep the canary: fs:0x28. */
#define CANARY_OFFSET 0x28

/* The register of each integer argument (System V ABI), and those that a call may change. */
static const uint8_t argument_registers[] = {RDI, RSI, RDX, RCX, R8, R9};
static const uint16_t call_clobbers = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RSI | 1 << RDI |
				      1 << R8 | 1 << R9 | 1 << R10 | 1 << R11;

/*
 * Told from the very bytes, because the kernel does so as well. Forms with prefixes are left out:
 * it refuses or steps most of them.
 */
static enum instruction_class classify(const uint8_t *b, size_t length)
{
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

	switch (length) {
	case 1:
		if ((b[0] & 0xf8) == 0x50)
			return CLASS_PUSH;
		if (b[0] == 0x90)
			return CLASS_BRANCH;
		return b[0] == 0xc3 ? CLASS_RETURN : CLASS_OTHER;
	case 2: /* push of r8 to r15, jcc, jmp */
		if (b[0] == 0x41 && (b[1] & 0xf8) == 0x50)
			return CLASS_PUSH;
		return (b[0] & 0xf0) == 0x70 || b[0] == 0xeb ? CLASS_BRANCH : CLASS_OTHER;
	case 4:
		if (b[0] == 0x48 && b[1] == 0x83 && (b[2] == 0xec || b[2] == 0xc4))
			return CLASS_STACK;
		return memcmp(b, endbr64, 4) == 0 ? CLASS_ENDBR : CLASS_OTHER;
	case 5: /* call, jmp */
		if (b[0] == 0xe8 || b[0] == 0xe9)
			return CLASS_BRANCH;
		return memcmp(b, nop5, 5) == 0 ? CLASS_NOP5 : CLASS_OTHER;
	case 6: /* jcc */
		return b[0] == 0x0f && (b[1] & 0xf0) == 0x80 ? CLASS_BRANCH : CLASS_OTHER;
	case 7:
		return b[0] == 0x48 && b[1] == 0x81 && (b[2] == 0xec || b[2] == 0xc4) ? CLASS_STACK
										      : CLASS_OTHER;
	default:
		return CLASS_OTHER;
	}
}

/* The number of the general purpose register that `reg` is, or is a part of; -1 for others. */
static int number_of(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
		return -1;
	return whole - ZYDIS_REGISTER_RAX;
}

static bool is_canary(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	       operand->mem.segment == ZYDIS_REGISTER_FS &&
	       operand->mem.base == ZYDIS_REGISTER_NONE &&
	       operand->mem.index == ZYDIS_REGISTER_NONE &&
	       operand->mem.disp.value == CANARY_OFFSET;
}

/* Whether the operand is the whole register `reg`. */
static bool is_register(const ZydisDecodedOperand *operand, ZydisRegister reg)
{
	return operand->type == ZYDIS_OPERAND_TYPE_REGISTER && operand->reg.value == reg;
}

/* Whether the operand is base + constant, and fits. */
static bool is_near(const ZydisDecodedOperand *operand, ZydisRegister base, int32_t *ret_bytes)
{
	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || operand->mem.base != base ||
	    operand->mem.index != ZYDIS_REGISTER_NONE || operand->mem.disp.value < INT32_MIN / 2 ||
	    operand->mem.disp.value > INT32_MAX / 2)
		return false;
	*ret_bytes = (int32_t)operand->mem.disp.value;
	return true;
}

/* What an instruction that is no call or return makes of the stack and frame pointers. */
static void note_stack(const ZydisDecodedInstruction *raw, const ZydisDecodedOperand *operands,
		       struct instruction *ret)
{
	const ZydisDecodedOperand *from = &operands[1];
	bool to_stack = is_register(&operands[0], ZYDIS_REGISTER_RSP);
	bool to_frame = is_register(&operands[0], ZYDIS_REGISTER_RBP);
	int32_t bytes;

	if (ret->registers_written & 1 << RBP)
		ret->frame = FRAME_LOST;
	if (ret->registers_written & 1 << RSP)
		ret->stack = STACK_LOST;

	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_POPFQ:
		if (raw->operand_width != 64 || (to_stack && raw->mnemonic == ZYDIS_MNEMONIC_POP))
			return;
		ret->stack = STACK_MOVED;
		ret->stack_bytes = raw->mnemonic == ZYDIS_MNEMONIC_PUSH ||
						   raw->mnemonic == ZYDIS_MNEMONIC_PUSHFQ
					   ? 8
					   : -8;
		return;
	case ZYDIS_MNEMONIC_LEAVE:
		if (raw->operand_width != 64)
			return;
		ret->stack = STACK_FROM_FRAME;
		ret->stack_bytes = -8;
		return;
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_ADD:
		if (!to_stack || from->type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    from->imm.value.s < INT32_MIN / 2 || from->imm.value.s > INT32_MAX / 2)
			return;
		ret->stack = STACK_MOVED;
		ret->stack_bytes = (int32_t)from->imm.value.s;
		if (raw->mnemonic == ZYDIS_MNEMONIC_ADD)
			ret->stack_bytes = -ret->stack_bytes;
		return;
	case ZYDIS_MNEMONIC_MOV:
		if (to_stack && is_register(from, ZYDIS_REGISTER_RBP))
			ret->stack = STACK_FROM_FRAME;
		if (to_frame && is_register(from, ZYDIS_REGISTER_RSP))
			ret->frame = FRAME_FROM_STACK;
		return;
	case ZYDIS_MNEMONIC_LEA:
		if (to_stack && is_near(from, ZYDIS_REGISTER_RSP, &bytes)) {
			ret->stack = STACK_MOVED;
			ret->stack_bytes = -bytes;
		}
		if (to_stack && is_near(from, ZYDIS_REGISTER_RBP, &bytes)) {
			ret->stack = STACK_FROM_FRAME;
			ret->stack_bytes = -bytes;
		}
		if (to_frame && is_near(from, ZYDIS_REGISTER_RSP, &bytes)) {
			ret->frame = FRAME_FROM_STACK;
			ret->frame_bytes = -bytes;
		}
		return;
	default:
		return;
	}
}

/*
 * The stack protector's check ends in one of
 *	sub/xor %fs:0x28,%reg		gcc
 *	mov %fs:0x28,%reg; cmp ...	clang
 * and a branch if that is not zero, or not equal, to a call that does not return.
 */
static void note_canary(const ZydisDecodedInstruction *raw, const ZydisDecodedOperand *operands,
			struct instruction *ret)
{
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		if (is_canary(&operands[1]) && operands[1].size == 64)
			ret->canary_loaded_to = (int8_t)number_of(operands[0].reg.value);
		return;
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_XOR:
		/* With itself, a register is cleared. */
		if (operands[0].size != 64 || operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    (operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		     is_register(&operands[0], operands[1].reg.value)))
			return;
		for (int i = 0; i < 2; i++) {
			if (is_canary(&operands[i]))
				ret->compares_canary = true;
			if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			    number_of(operands[i].reg.value) >= 0)
				ret->registers_compared |= 1 << number_of(operands[i].reg.value);
		}
		return;
	default:
		return;
	}
}

/*
 * The memory operand, if there is one; of two, the one that is written. String instructions do not
 * show theirs, but those of push, pop and calls are the stack. `at` is where the instruction
 * begins.
 */
static void note_memory(const ZydisDecodedInstruction *raw, const ZydisDecodedOperand *operands,
			size_t at, struct memory_operand *ret)
{
	bool hides_stack = raw->meta.category == ZYDIS_CATEGORY_PUSH ||
			   raw->meta.category == ZYDIS_CATEGORY_POP ||
			   raw->meta.category == ZYDIS_CATEGORY_CALL ||
			   raw->meta.category == ZYDIS_CATEGORY_RET;
	unsigned int count = hides_stack ? raw->operand_count_visible : raw->operand_count;

	for (unsigned int i = 0; i < count && ret->use != MEMORY_WRITTEN; i++) {
		const ZydisDecodedOperand *memory = &operands[i], *other = &operands[!i];

		if (memory->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		*ret = (struct memory_operand){
			.use = raw->mnemonic == ZYDIS_MNEMONIC_LEA		   ? MEMORY_ADDRESS
			       : memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? MEMORY_WRITTEN
										   : MEMORY_READ,
			.base = -1,
			.reg = -1,
			.bytes = (uint16_t)(memory->size / 8),
			.distance = memory->mem.disp.value,
		};
		if (memory->mem.base == ZYDIS_REGISTER_RIP) {
			ret->base = MEMORY_IN_CODE;
			ret->distance += (int64_t)(at + raw->length);
		} else if (memory->mem.index == ZYDIS_REGISTER_NONE) {
			ret->base = (int8_t)number_of(memory->mem.base);
		}
		if ((raw->mnemonic == ZYDIS_MNEMONIC_LEA || raw->mnemonic == ZYDIS_MNEMONIC_MOV) &&
		    other->type == ZYDIS_OPERAND_TYPE_REGISTER && other->size == 64)
			ret->reg = (int8_t)number_of(other->reg.value);
	}
}

/* Where the instruction goes. False for what is not understood. */
static bool note_flow(const ZydisDecodedInstruction *raw, const ZydisDecodedOperand *operands,
		      size_t at, struct instruction *ret)
{
	bool is_direct = raw->operand_count_visible > 0 &&
			 operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
			 operands[0].imm.is_relative;

	if (is_direct)
		ret->target = (int64_t)(at + raw->length) + operands[0].imm.value.s;
	switch (raw->meta.category) {
	case ZYDIS_CATEGORY_CALL:
		ret->flow = is_direct ? FLOW_CALL : FLOW_CALL_UNKNOWN;
		return raw->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
	case ZYDIS_CATEGORY_RET:
		ret->flow = FLOW_RETURN;
		return raw->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR;
	case ZYDIS_CATEGORY_UNCOND_BR:
		ret->flow = is_direct ? FLOW_JUMP : FLOW_JUMP_UNKNOWN;
		ret->is_unmarked_jump = (raw->attributes & ZYDIS_ATTRIB_HAS_NOTRACK) != 0;
		return raw->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
	case ZYDIS_CATEGORY_COND_BR:
		ret->flow = FLOW_BRANCH;
		if (raw->mnemonic == ZYDIS_MNEMONIC_JZ)
			ret->condition = CONDITION_EQUAL;
		else if (raw->mnemonic == ZYDIS_MNEMONIC_JNZ)
			ret->condition = CONDITION_UNEQUAL;
		else if (raw->mnemonic == ZYDIS_MNEMONIC_JBE)
			ret->condition = CONDITION_BELOW_EQUAL;
		return is_direct;
	default:
		break;
	}
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		ret->flow = FLOW_STOP;
		return true;
	default:
		ret->flow = FLOW_NEXT;
		/*
		 * A system call writes the result register, which the decoder does not know.
		 * Relative operands of anything else (xbegin) go somewhere, too.
		 */
		return !is_direct && raw->meta.category != ZYDIS_CATEGORY_INTERRUPT &&
		       raw->meta.category != ZYDIS_CATEGORY_SYSCALL &&
		       raw->meta.category != ZYDIS_CATEGORY_SYSRET;
	}
}

int x86__decode(const uint8_t *code, size_t size, size_t at, struct instruction *ret)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct instruction instruction = {.canary_loaded_to = -1};
	ZydisDecodedInstruction raw;
	ZydisDecoder decoder;
	size_t i;
	int number;

	memset(operands, 0, sizeof(operands));
	if (!ZYAN_SUCCESS(
		    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code + at, size - at, &raw, operands)))
		return -EBADMSG;
	instruction.length = raw.length;
	instruction.class = classify(code + at, raw.length);
	if (!note_flow(&raw, operands, at, &instruction))
		return -EBADMSG;

	for (i = 0; i < raw.operand_count; i++) {
		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		number = number_of(operands[i].reg.value);
		if (number >= 0)
			instruction.registers_written |= 1 << number;
	}
	if (instruction.flow == FLOW_CALL || instruction.flow == FLOW_CALL_UNKNOWN)
		instruction.registers_written = call_clobbers;
	else if (instruction.flow != FLOW_RETURN)
		note_stack(&raw, operands, &instruction);
	for (i = 0; i < sizeof(argument_registers); i++)
		if (instruction.registers_written & 1 << argument_registers[i])
			instruction.arguments_written |= 1 << i;
	instruction.writes_result = instruction.registers_written & 1 << RAX;
	instruction.writes_flags = !raw.cpu_flags || raw.cpu_flags->modified ||
				   raw.cpu_flags->set_0 || raw.cpu_flags->set_1 ||
				   raw.cpu_flags->undefined;
	instruction.is_landing = instruction.class == CLASS_ENDBR;
	instruction.is_padding = raw.mnemonic == ZYDIS_MNEMONIC_NOP ||
				 raw.mnemonic == ZYDIS_MNEMONIC_INT3 ||
				 (raw.length == 2 && code[at] == 0x66 && code[at + 1] == 0x90);
	note_canary(&raw, operands, &instruction);
	note_memory(&raw, operands, at, &instruction.memory);
	*ret = instruction;
	return 0;
}
