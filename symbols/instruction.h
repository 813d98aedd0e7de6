/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One machine instruction, reduced to what matters for placing probes. Internal to symbols/;
 * decoded by one file per machine (machine.h), used by placement.c and what is Go's, which know
 * none.
 */
#ifndef TLSTRACE_INSTRUCTION_H
#define TLSTRACE_INSTRUCTION_H

#include "placement.h"

enum instruction_flow {
	FLOW_NEXT,	   /* goes on behind */
	FLOW_JUMP,	   /* to .target */
	FLOW_BRANCH,	   /* behind or to .target */
	FLOW_CALL,	   /* calls .target, comes back behind */
	FLOW_CALL_UNKNOWN, /* calls what is not in the instruction */
	FLOW_JUMP_UNKNOWN,
	FLOW_RETURN,
	FLOW_STOP, /* a trap: goes nowhere */
};

enum stack_effect {
	STACK_KEPT,
	STACK_MOVED,	  /* .stack_bytes further down */
	STACK_FROM_FRAME, /* .stack_bytes below the frame pointer */
	STACK_LOST,
};

enum frame_effect {
	FRAME_KEPT,
	FRAME_FROM_STACK, /* .frame_bytes below the stack pointer */
	FRAME_LOST,
};

enum branch_condition {
	CONDITION_OTHER,
	CONDITION_EQUAL,
	CONDITION_UNEQUAL,
	CONDITION_BELOW_EQUAL, /* unsigned */
};

enum memory_use {
	MEMORY_UNUSED,
	MEMORY_READ,
	MEMORY_WRITTEN, /* perhaps read as well */
	MEMORY_ADDRESS, /* not touched: its address goes to .reg */
};

/*
 * The memory that an instruction names, once at most. The stack of push and call is not meant. Told
 * of x86-64 alone.
 */
struct memory_operand {
	enum memory_use use;
	int8_t base;	  /* register; MEMORY_IN_CODE; -1: another, or there is an index too */
	int8_t reg;	  /* the whole register that is loaded or stored; -1: something else */
	uint16_t bytes;	  /* of memory that are touched */
	int64_t distance; /* from the base */
};

#define MEMORY_IN_CODE (-2) /* .distance is from the first byte of the code */

struct instruction {
	enum instruction_class class;
	enum instruction_flow flow;
	enum branch_condition condition; /* of FLOW_BRANCH */
	enum stack_effect stack;
	enum frame_effect frame;
	int32_t stack_bytes;
	int32_t frame_bytes;
	int64_t target; /* relative to the first byte of the code */
	uint8_t length;
	uint8_t arguments_written; /* bit n: the register of argument n */
	bool writes_result;
	bool writes_flags;
	bool is_landing;       /* endbr64: marks where indirect jumps may go, does nothing */
	bool is_unmarked_jump; /* FLOW_JUMP_UNKNOWN to a place that has no such mark */
	bool is_padding;       /* what fills the space between functions */
	/* The stack protector's check: the canary is read, and compared with. */
	bool compares_canary;
	int8_t canary_loaded_to; /* register, -1: none */
	uint16_t registers_compared;
	uint32_t registers_written; /* by the machine's numbers */
	struct memory_operand memory;
};

/*
 * Decodes the instruction at code[at], at < size. 0; -EBADMSG when there is none, it does not end
 * before code[size], or it is of a kind that functions of ordinary programs do not have.
 */
typedef int instruction_decode_fn(const uint8_t *code, size_t size, size_t at,
				  struct instruction *ret_instruction);

#endif
