/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Go's functions on arm64, by machine code made by hand (with the assembler's text beside it).
 * That of real programs is compared with a disassembler by tests/e2e/cases/go_arm64.py.
 */
#include <criterion/criterion.h>

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arm64.h"
#include "elf_file.h"
#include "go_image.h"
#include "machine.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const struct emulated usual = {.classes = 1U << CLASS_PUSH | 1U << CLASS_BRANCH};

/* ---- single instructions ---- */

#define R(number) (1U << (number))

struct word_case {
	uint32_t word;
	const char *text;
	uint32_t written;
	enum stack_effect stack;
	int32_t stack_bytes;
	enum instruction_class class;
};

/* Those that go on behind. */
static const struct word_case word_cases[] = {
	{0x91002020, "add x0, x1, #8", R(0), STACK_KEPT, 0, CLASS_OTHER},
	{0xb1002020, "adds x0, x1, #8", R(0), STACK_KEPT, 0, CLASS_OTHER},
	{0xf100203f, "cmp x1, #8", 0, STACK_KEPT, 0, CLASS_OTHER},
	{0x913fffff, "add sp, sp, #4095", R(31), STACK_MOVED, -4095, CLASS_OTHER},
	{0xd14007ff, "sub sp, sp, #1, lsl #12", R(31), STACK_MOVED, 4096, CLASS_OTHER},
	{0xd10023fd, "sub x29, sp, #8", R(29), STACK_KEPT, 0, CLASS_OTHER},
	{0x910043bf, "add sp, x29, #16", R(31), STACK_LOST, 0, CLASS_OTHER},
	{0x110043ff, "add wsp, wsp, #16", R(31), STACK_LOST, 0, CLASS_OTHER},
	{0x927cec1f, "and sp, x0, #-16", R(31), STACK_LOST, 0, CLASS_OTHER},
	{0xf27c0c1f, "ands xzr, x0, #0xf0", 0, STACK_KEPT, 0, CLASS_OTHER},
	{0xd284061b, "mov x27, #8240", R(27), STACK_KEPT, 0, CLASS_OTHER},
	{0xd3431883, "ubfx x3, x4, #3, #4", R(3), STACK_KEPT, 0, CLASS_OTHER},
	{0x93c51c83, "extr x3, x4, x5, #7", R(3), STACK_KEPT, 0, CLASS_OTHER},
	{0x10ffffe4, "adr x4, .-4", R(4), STACK_KEPT, 0, CLASS_BRANCH},
	{0xb0000004, "adrp x4, .+4096", R(4), STACK_KEPT, 0, CLASS_BRANCH},
	{0x8b3b63ff, "add sp, sp, x27", R(31), STACK_LOST, 0, CLASS_OTHER},
	{0xcb3b63f4, "sub x20, sp, x27", R(20), STACK_KEPT, 0, CLASS_OTHER},
	{0xeb3063ff, "cmp sp, x16", 0, STACK_KEPT, 0, CLASS_OTHER},
	{0xaa0203e1, "mov x1, x2", R(1), STACK_KEPT, 0, CLASS_OTHER},
	{0x9a850083, "csel x3, x4, x5, eq", R(3), STACK_KEPT, 0, CLASS_OTHER},
	{0x9b051883, "madd x3, x4, x5, x6", R(3), STACK_KEPT, 0, CLASS_OTHER},
	{0x9e660007, "fmov x7, d0", R(7), STACK_KEPT, 0, CLASS_OTHER},
	{0xf84707fe, "ldr x30, [sp], #112", R(30) | R(31), STACK_MOVED, -112, CLASS_OTHER},
	{0xf8190ffe, "str x30, [sp, #-112]!", R(31), STACK_MOVED, 112, CLASS_OTHER},
	{0xa9bf7bfd, "stp x29, x30, [sp, #-16]!", R(31), STACK_MOVED, 16, CLASS_OTHER},
	{0xa8c17bfd, "ldp x29, x30, [sp], #16", R(29) | R(30) | R(31), STACK_MOVED, -16,
	 CLASS_OTHER},
	{0xa97ffbfd, "ldp x29, x30, [sp, #-8]", R(29) | R(30), STACK_KEPT, 0, CLASS_OTHER},
	{0x68c10861, "ldpsw x1, x2, [x3], #8", R(1) | R(2) | R(3), STACK_KEPT, 0, CLASS_OTHER},
	{0xad0107e0, "stp q0, q1, [sp, #32]", 0, STACK_KEPT, 0, CLASS_OTHER},
	{0x3c810fe0, "str q0, [sp, #16]!", R(31), STACK_MOVED, -16, CLASS_OTHER},
	{0xf8637841, "ldr x1, [x2, x3, lsl #3]", R(1), STACK_KEPT, 0, CLASS_OTHER},
	{0x3980001b, "ldrsb x27, [x0]", R(27), STACK_KEPT, 0, CLASS_OTHER},
	{0x58000041, "ldr x1, .+8", R(1), STACK_KEPT, 0, CLASS_REFUSED},
	{0x5c000041, "ldr d1, .+8", 0, STACK_KEPT, 0, CLASS_REFUSED},
	{0xb8e10062, "ldaddal w1, w2, [x3]", R(2), STACK_KEPT, 0, CLASS_OTHER},
	{0xf8e18062, "swpal x1, x2, [x3]", R(2), STACK_KEPT, 0, CLASS_OTHER},
	{0x4cdf73e0, "ld1 {v0.16b}, [sp], #16", R(31), STACK_LOST, 0, CLASS_REFUSED},
	{0xd503201f, "nop", 0, STACK_KEPT, 0, CLASS_OTHER},
	{0xd503233f, "paciasp", R(16) | R(17) | R(30), STACK_KEPT, 0, CLASS_OTHER},
	{0xd5033bbf, "dmb ish", 0, STACK_KEPT, 0, CLASS_OTHER},
	{0xd53bd043, "mrs x3, tpidr_el0", R(3), STACK_KEPT, 0, CLASS_REFUSED},
	{0xd51bd043, "msr tpidr_el0, x3", 0, STACK_KEPT, 0, CLASS_REFUSED},
	{0xd50b7423, "dc zva, x3", 0, STACK_KEPT, 0, CLASS_REFUSED},
};

static int decode_word(uint32_t word, struct instruction *ret_instruction)
{
	return arm64__decode((const uint8_t *)&word, sizeof(word), 0, ret_instruction);
}

Test(arm64, what_instructions_write)
{
	struct instruction instruction;

	for (size_t i = 0; i < LENGTH(word_cases); i++) {
		const struct word_case *c = &word_cases[i];

		cr_assert_eq(decode_word(c->word, &instruction), 0, "%s", c->text);
		cr_expect_eq(instruction.length, 4);
		cr_expect_eq(instruction.flow, FLOW_NEXT, "%s", c->text);
		cr_expect_eq(instruction.registers_written, c->written, "%s: %x", c->text,
			     instruction.registers_written);
		cr_expect_eq(instruction.stack, c->stack, "%s", c->text);
		if (c->stack == STACK_MOVED)
			cr_expect_eq(instruction.stack_bytes, c->stack_bytes, "%s", c->text);
		cr_expect_eq(instruction.class, c->class, "%s", c->text);
		cr_expect_eq(instruction.is_padding, strcmp(c->text, "nop") == 0);
	}
}

/* Exclusives and compare-and-swap may write what they name, and more. */
Test(arm64, what_atomic_instructions_write_at_least)
{
	static const struct word_case cases[] = {
		{0x88dffc85, "ldar w5, [x4]", R(5), 0, 0, 0},
		{0x885ffc9b, "ldaxr w27, [x4]", R(27), 0, 0, 0},
		{0x881bfc85, "stlxr w27, w5, [x4]", R(27), 0, 0, 0},
		{0x88fbfc85, "casal w27, w5, [x4]", R(27), 0, 0, 0},
		{0x4862fcc4, "caspal x2, x3, x4, x5, [x6]", R(2) | R(3), 0, 0, 0},
	};
	struct instruction instruction;

	for (size_t i = 0; i < LENGTH(cases); i++) {
		cr_assert_eq(decode_word(cases[i].word, &instruction), 0, "%s", cases[i].text);
		cr_expect_eq(instruction.registers_written & cases[i].written, cases[i].written,
			     "%s", cases[i].text);
		cr_expect_eq(instruction.class, CLASS_REFUSED, "%s", cases[i].text);
	}
}

Test(arm64, where_instructions_go)
{
	enum { AT = 64, NOWHERE = 0 };
	static const struct {
		uint32_t word;
		const char *text;
		enum instruction_flow flow;
		int64_t target;
		enum instruction_class class;
	} cases[] = {
		{0xd65f03c0, "ret", FLOW_RETURN, NOWHERE, CLASS_BRANCH},
		{0xd65f0360, "ret x27", FLOW_JUMP_UNKNOWN, NOWHERE, CLASS_BRANCH},
		{0xd61f0020, "br x1", FLOW_JUMP_UNKNOWN, NOWHERE, CLASS_BRANCH},
		{0xd63f0020, "blr x1", FLOW_CALL_UNKNOWN, NOWHERE, CLASS_BRANCH},
		{0x97fffffe, "bl .-8", FLOW_CALL, AT - 8, CLASS_BRANCH},
		{0x14000002, "b .+8", FLOW_JUMP, AT + 8, CLASS_BRANCH},
		{0x17ffffff, "b .-4", FLOW_JUMP, AT - 4, CLASS_BRANCH},
		{0x54ffffc9, "b.ls .-8", FLOW_BRANCH, AT - 8, CLASS_BRANCH},
		{0x34000040, "cbz w0, .+8", FLOW_BRANCH, AT + 8, CLASS_BRANCH},
		{0xb5ffffc0, "cbnz x0, .-8", FLOW_BRANCH, AT - 8, CLASS_BRANCH},
		{0xb747ffe3, "tbnz x3, #40, .-4", FLOW_BRANCH, AT - 4, CLASS_BRANCH},
		{0xd4200000, "brk #0", FLOW_STOP, NOWHERE, CLASS_REFUSED},
		{0x00000000, "udf #0", FLOW_STOP, NOWHERE, CLASS_REFUSED},
		{0x00000001, "udf #1", FLOW_STOP, NOWHERE, CLASS_REFUSED},
	};
	struct instruction instruction;
	uint32_t code[AT / 4 + 1] = {0};

	for (size_t i = 0; i < LENGTH(cases); i++) {
		code[AT / 4] = cases[i].word;
		cr_assert_eq(arm64__decode((const uint8_t *)code, sizeof(code), AT, &instruction),
			     0, "%s", cases[i].text);
		cr_expect_eq(instruction.flow, cases[i].flow, "%s", cases[i].text);
		cr_expect_eq(instruction.target, cases[i].target, "%s", cases[i].text);
		cr_expect_eq(instruction.class, cases[i].class, "%s", cases[i].text);
		cr_expect_eq(instruction.is_padding, cases[i].word == 0);
		if (instruction.flow == FLOW_CALL || instruction.flow == FLOW_CALL_UNKNOWN)
			cr_expect_eq(instruction.registers_written, UINT32_MAX);
	}
}

Test(arm64, what_compilers_do_not_make_is_no_instruction)
{
	static const struct {
		uint32_t word;
		const char *text;
	} cases[] = {
		{0xd4000001, "svc #0"},
		{0xd4000002, "hvc #0"},
		{0xd65f0bff, "retaa"},
		{0xd71f0801, "braa x0, x1"},
		{0xd69f03e0, "eret"},
		{0xf8200420, "ldraa x0, [x1]"},
		{0xd9200820, "stg x0, [x1]"},
		{0xf8400820, "ldtr x0, [x1]"},
		{0xd50342df, "msr daifset, #2"},
		{0xf83fd1a0, "ld64b x0, [x13]"},
		{0x2518e3e0, "ptrue p0.b"},
		{0x00010000, "unallocated"},
		{0x02000000, "unallocated"},
	};
	struct instruction instruction;

	for (size_t i = 0; i < LENGTH(cases); i++)
		cr_expect_eq(decode_word(cases[i].word, &instruction), -EBADMSG, "%s",
			     cases[i].text);
}

Test(arm64, an_instruction_is_whole_and_aligned)
{
	static const uint32_t code[] = {0xd503201f, 0xd503201f};
	const uint8_t *bytes = (const uint8_t *)code;
	struct instruction instruction;

	cr_expect_eq(arm64__decode(bytes, 7, 0, &instruction), 0);
	cr_expect_eq(arm64__decode(bytes, 7, 4, &instruction), -EBADMSG);
	cr_expect_eq(arm64__decode(bytes, 8, 2, &instruction), -EBADMSG);
	cr_expect_eq(arm64__decode(bytes, 8, 8, &instruction), -EBADMSG);
}

/* Of any word at all. */
Test(arm64, what_moves_the_stack_pointer_writes_it)
{
	uint64_t random = 88172645463325252;
	struct instruction instruction;

	for (unsigned int i = 0; i < 1U << 20; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (decode_word((uint32_t)random, &instruction) || instruction.flow == FLOW_CALL ||
		    instruction.flow == FLOW_CALL_UNKNOWN)
			continue;
		cr_assert_eq(instruction.stack != STACK_KEPT,
			     (instruction.registers_written & R(ARM64_SP)) != 0, "%x",
			     (uint32_t)random);
	}
}

/* ---- functions ---- */

#define RET		   0xd65f03c0
#define NOP		   0xd503201f
#define B(words)	   (0x14000000 | ((uint32_t)(words)&0x3ffffff))
#define BL(words)	   (0x94000000 | ((uint32_t)(words)&0x3ffffff))
#define B_LS(words)	   (0x54000009 | ((uint32_t)(words)&0x7ffff) << 5)
#define CBZ_X0(words)	   (0xb4000000 | ((uint32_t)(words)&0x7ffff) << 5)
#define PUSH_LR(bytes)	   (0xf8000ffe | ((uint32_t) - (bytes)&0x1ff) << 12) /* str x30, [sp, #-N]! */
#define POP_LR(bytes)	   (0xf84007fe | (uint32_t)(bytes) << 12)	     /* ldr x30, [sp], #N */
#define ADD_SP(bytes)	   (0x910003ff | (uint32_t)(bytes) << 10)	     /* add sp, sp, #N */
#define ADDRESS(to, bytes) (0x910003e0 | (uint32_t)(bytes) << 10 | (to))     /* add xTO, sp, #N */
#define SUB_SP(to, bytes)  (0xd10003e0 | (uint32_t)(bytes) << 10 | (to))     /* sub xTO, sp, #N */
#define STORE(reg, at)	   (0xf90003e0 | (uint32_t)(at) / 8 << 10 | (reg)) /* str xREG, [sp, #N] */
/* stp xFIRST, xSECOND, [sp, #N] */
#define STORE_TWO(first, second, at)                                                               \
	(0xa90003e0 | (uint32_t)(at) / 8 << 15 | (second) << 10 | (first))

/* The stack check: ldr x16, [x28, #16]; cmp sp, x16 */
#define CHECK 0xf9400b90, 0xeb3063ff

/* What is made of a function with this code, behind which there is padding; places in words. */
struct code_case {
	const char *what;
	uint32_t code[12];
	uint8_t count;
	int err;
	uint8_t entry;
	bool entry_is_emulated;
	uint8_t exit_count;
	uint8_t exits[3];
	uint16_t stack_bytes; /* at the entry */
};

static const struct code_case code_cases[] = {
	{"returns in a row", {CHECK, B_LS(2), RET, RET, RET}, 6, 0, 2, true, 3, {3, 4, 5}, 0},
	{"a larger frame's check: sub x17, sp, #80; cmp x17, x16",
	 {0xf9400b90, SUB_SP(17, 80), 0xeb10023f, B_LS(2), RET, B(-5)},
	 6,
	 0,
	 3,
	 true,
	 1,
	 {4},
	 0},
	{"a small frame",
	 {CHECK, B_LS(4), PUSH_LR(32), POP_LR(32), RET, B(-6)},
	 7,
	 0,
	 2,
	 true,
	 1,
	 {5},
	 0},
	{"a frame given back by add: ldp x29, x30, [sp, #-8]",
	 {CHECK, B_LS(5), PUSH_LR(112), 0xa97ffbfd, ADD_SP(112), RET, B(-7)},
	 8,
	 0,
	 2,
	 true,
	 1,
	 {6},
	 0},
	{"a large frame: stp x29, x30, [x20, #-8]; mov sp, x20",
	 {CHECK, B_LS(6), SUB_SP(20, 928), 0xa93ffa9d, 0x9100029f, ADD_SP(928), RET, B(-8)},
	 9,
	 0,
	 2,
	 true,
	 1,
	 {7},
	 0},
	{"a large frame of Go 1.15: str x30, [x27]; mov sp, x27",
	 {CHECK, B_LS(6), SUB_SP(27, 288), 0xf900037e, 0x9100037f, ADD_SP(288), RET, B(-8)},
	 9,
	 0,
	 2,
	 true,
	 1,
	 {7},
	 0},
	{"a call of a function, and one of a closure: blr x0",
	 {CHECK, B_LS(6), PUSH_LR(32), BL(4096), 0xd63f0000, POP_LR(32), RET, B(-8)},
	 9,
	 0,
	 2,
	 true,
	 1,
	 {7},
	 0},
	{"no check: a branch within the frame",
	 {PUSH_LR(16), CBZ_X0(1), POP_LR(16), RET},
	 4,
	 0,
	 1,
	 true,
	 1,
	 {3},
	 16},
	{"an address first: adr x0, .", {0x10000000, RET}, 2, 0, 0, true, 1, {1}, 0},
	{"nothing emulated first", {NOP, RET}, 2, 0, 0, false, 1, {1}, 0},
	{"nothing but the return", {RET}, 1, 0, 0, true, 1, {0}, 0},
	{"an argument is changed first: mov x15, #0",
	 {0xd280000f, CBZ_X0(1), RET},
	 3,
	 0,
	 0,
	 false,
	 1,
	 {2},
	 0},
	{"a jump back into the prologue", {CHECK, B_LS(-1), RET}, 4, 0, 0, false, 1, {3}, 0},
	{"a jump to the entry", {CHECK, B_LS(2), RET, B(-4)}, 5, 0, 2, true, 1, {3}, 0},
	{"a jump by a table within the frame: br x1",
	 {PUSH_LR(16), 0xd61f0020, POP_LR(16), RET},
	 4,
	 0,
	 1,
	 true,
	 1,
	 {3},
	 16},
	{"an atomic load first: ldar x16, [x0]",
	 {0xc8dffc10, CBZ_X0(1), RET},
	 3,
	 0,
	 1,
	 true,
	 1,
	 {2},
	 0},
	{"no probe can be there: ldar x0, [x0]",
	 {0xc8dffc00, CBZ_X0(1), RET},
	 3,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"nor there: ldr x0, .+8", {0x58000040, RET}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a tail call by a register: br x1",
	 {CHECK, 0xd61f0020, RET},
	 4,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"a return by another register: ret x27",
	 {CHECK, 0xd65f0360, RET},
	 4,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"a tail call", {CHECK, B(4096), RET}, 4, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a branch before the function", {CHECK, CBZ_X0(-16), RET}, 4, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"no return", {CHECK, B_LS(-1), B(-1)}, 4, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a return within the frame", {PUSH_LR(16), RET}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"more given back than taken", {POP_LR(16), RET}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a stack of its own: mov sp, x0",
	 {NOP, NOP, 0x9100001f, RET},
	 4,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"one that is aligned: and sp, x0, #-16", {0x927cec1f, RET}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a frame of unknown size: add sp, sp, x27",
	 {0x8b3b63ff, RET},
	 2,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"a large frame by another register: mov sp, x20",
	 {SUB_SP(19, 928), 0xa93ffa9d, 0x9100029f, ADD_SP(928), RET},
	 5,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"a large frame with something else between: mov x20, x1",
	 {SUB_SP(20, 928), 0xaa0103f4, 0x9100029f, ADD_SP(928), RET},
	 5,
	 -ENOTSUP,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"a call into itself", {BL(1), RET}, 2, -ENOTSUP, 0, 0, 0, {0}, 0},
	{"a system call", {CHECK, 0xd4000001, RET}, 4, -EBADMSG, 0, 0, 0, {0}, 0},
	{"a return that authenticates: retaa",
	 {CHECK, RET, 0xd65f0bff},
	 4,
	 -EBADMSG,
	 0,
	 0,
	 0,
	 {0},
	 0},
	{"no instruction", {CHECK, 0x00010000, RET}, 4, -EBADMSG, 0, 0, 0, {0}, 0},
};

Test(go_arm64, functions_of_all_kinds)
{
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_ARM64);
	for (size_t i = 0; i < LENGTH(code_cases); i++) {
		const struct code_case *c = &code_cases[i];
		const uint64_t begin = image.functions[GO_TLS_READ] - GO_IMAGE_ADDRESS;

		go_image__set_code(&image, (const uint8_t *)c->code, c->count * sizeof(c->code[0]));
		cr_expect_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), c->err,
			     "%s: %s", c->what, placement.exit_reason);
		cr_assert(placement.exit_reason, "%s", c->what);
		if (c->err)
			continue;
		cr_expect_eq(placement.entry.offset, begin + 4 * c->entry, "%s", c->what);
		cr_expect_eq(placement.entry.class == SITE_EMULATED, c->entry_is_emulated, "%s",
			     c->what);
		cr_expect_eq(placement.entry.stack_bytes, c->stack_bytes, "%s", c->what);
		cr_assert_eq(placement.exit_count, c->exit_count, "%s", c->what);
		for (unsigned int k = 0; k < c->exit_count; k++) {
			cr_expect_eq(placement.exits[k].offset, begin + 4 * c->exits[k], "%s",
				     c->what);
			cr_expect_eq(placement.exits[k].class, SITE_EMULATED, "%s", c->what);
			cr_expect_eq(placement.exits[k].stack_bytes, 0, "%s", c->what);
		}
	}
}

Test(go_arm64, code_that_runs_on_is_refused)
{
	static struct go_image image;
	uint32_t code[GO_IMAGE_CODE_BYTES / 4];
	struct placement placement;

	/* cmp x1, #8 */
	for (size_t i = 0; i < LENGTH(code); i++)
		code[i] = 0xf100203f;
	code[0] = RET;
	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_ARM64);
	go_image__set_code(&image, (const uint8_t *)code, sizeof(code));
	cr_expect_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), -ENOTSUP);
}

Test(go_arm64, usual_functions_in_both_conventions)
{
	static struct go_image image;
	struct placement placement;
	unsigned int flags;

	for (flags = 0; flags <= GO_IMAGE_STACK_ABI; flags += GO_IMAGE_STACK_ABI) {
		const uint64_t stack = flags ? 4 : 0;

		go_image__make(&image, GO_TABLE_1_2,
			       flags | GO_IMAGE_NO_BUILD_INFO | GO_IMAGE_ARM64);
		cr_assert_eq(go_image__sites(&image, GO_TLS_READ, &usual, &placement), 0);
		cr_expect_eq(placement.entry.offset,
			     image.functions[GO_TLS_READ] - GO_IMAGE_ADDRESS + 8 + stack);
		cr_expect_eq(placement.entry.class, SITE_EMULATED);
		cr_assert_eq(placement.exit_count, 1);
		cr_expect_eq(placement.exits[0].offset,
			     image.functions[GO_TLS_READ] - GO_IMAGE_ADDRESS + 20 + stack);
		cr_expect_eq(placement.exits[0].class, SITE_EMULATED);
		/* On the stack they are from the begin. */
		cr_expect_eq(placement.keeps_arguments, flags != 0);
	}
}

Test(go_arm64, without_emulation_first_bytes_and_returns)
{
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, GO_IMAGE_ARM64);
	cr_assert_eq(go_image__sites(&image, GO_TLS_READ, NULL, &placement), 0);
	cr_expect_eq(placement.entry.offset, image.functions[GO_TLS_READ] - GO_IMAGE_ADDRESS);
	cr_expect_eq(placement.entry.class, SITE_STEPPED);
	cr_expect_eq(placement.exits[0].class, SITE_STEPPED);
}

/* The convention by the version, which is another one than on x86-64. */
Test(go_arm64, arguments_are_in_registers_from_1_18_on)
{
	static const struct {
		const char *version;
		unsigned int flags;
		enum go_abi abi;
	} cases[] = {
		{"go1.17.9", 0, GO_ABI_REGISTERS},
		{"go1.17.9", GO_IMAGE_ARM64, GO_ABI_STACK},
		{"go1.18.0", GO_IMAGE_ARM64, GO_ABI_REGISTERS},
	};
	static struct go_image image;
	struct elf_file *file;
	struct go_code code;

	for (size_t i = 0; i < LENGTH(cases); i++) {
		char *version;
		int fd;

		go_image__make(&image, GO_TABLE_1_18, cases[i].flags);
		version = memmem(image.bytes, sizeof(image.bytes), GO_IMAGE_VERSION,
				 sizeof(GO_IMAGE_VERSION));
		cr_assert(version);
		cr_assert_eq(strlen(cases[i].version), sizeof(GO_IMAGE_VERSION) - 1);
		memcpy(version, cases[i].version, sizeof(GO_IMAGE_VERSION));
		fd = go_image__open(&image, sizeof(image.bytes));
		cr_assert_eq(elf_file__open_any(fd, &file), 0);
		cr_assert_eq(elf_file__go_code(file, &code), 0);
		cr_expect_str_eq(code.version, cases[i].version);
		cr_expect_eq(code.abi, cases[i].abi, "%s", cases[i].version);
		elf_file__close(file);
		close(fd);
	}
}

/* Only what can run here is traced. */
Test(go_arm64, a_file_of_another_machine_is_opened_by_those_who_ask_for_it)
{
	static struct go_image image;
	const struct machine *machine;
	struct elf_file *file;
	unsigned int opened = 0;
	int fd;

	for (unsigned int flags = 0; flags <= GO_IMAGE_ARM64; flags += GO_IMAGE_ARM64) {
		go_image__make(&image, GO_TABLE_1_20, flags);
		fd = go_image__open(&image, sizeof(image.bytes));
		cr_assert_eq(elf_file__open_any(fd, &file), 0);
		machine = elf_file__machine(file);
		cr_expect_eq(machine->elf_number, flags ? EM_AARCH64 : EM_X86_64);
		elf_file__close(file);
		if (elf_file__open(fd, &file) == 0) {
			cr_expect_eq(machine, machine__of_host());
			elf_file__close(file);
			opened++;
		} else {
			cr_expect_neq(machine, machine__of_host());
		}
		close(fd);
	}
	cr_expect_eq(opened, 1);
	cr_expect_null(machine__of_elf(EM_S390));
}

/* ---- arguments that are kept ---- */

#define FRAME	    64
#define PLACE(n)    (FRAME + 8 + 8 * (n)) /* of argument n, from the stack pointer */
#define SPILL_THREE STORE(0, PLACE(0)), STORE(2, PLACE(2)), STORE(1, PLACE(1))
#define BEGIN	    CHECK, B_LS(8), PUSH_LR(FRAME)
#define END	    POP_LR(FRAME), RET
#define AFTER(word)                                                                                \
	{                                                                                          \
		BEGIN, SPILL_THREE, BL(4096), word, END                                            \
	}

/* Whether the first three arguments are kept. */
static const struct kept_case {
	const char *what;
	uint32_t code[12];
	enum go_abi abi;
	bool kept;
} kept_cases[] = {
	{"each in its place", AFTER(NOP), GO_ABI_REGISTERS, true},
	{"two by one instruction",
	 {BEGIN, STORE(0, PLACE(0)), STORE_TWO(1, 2, PLACE(1)), BL(4096), END},
	 GO_ABI_REGISTERS,
	 true},
	{"with a fourth one, or what is no argument, beside them",
	 {BEGIN, STORE_TWO(0, 1, PLACE(0)), STORE_TWO(2, 7, PLACE(2)), BL(4096), END},
	 GO_ABI_REGISTERS,
	 true},
	{"two by one instruction, exchanged",
	 {BEGIN, STORE(0, PLACE(0)), STORE_TWO(2, 1, PLACE(1)), BL(4096), END},
	 GO_ABI_REGISTERS,
	 false},
	{"of vectors: stp q0, q1, [sp, #80]",
	 {BEGIN, SPILL_THREE, 0xad0287e0, BL(4096), END},
	 GO_ABI_REGISTERS,
	 false},
	{"one is not stored",
	 {BEGIN, STORE(0, PLACE(0)), STORE(1, PLACE(1)), BL(4096), END},
	 GO_ABI_REGISTERS,
	 false},
	{"one is stored behind a call",
	 {BEGIN, STORE(0, PLACE(0)), STORE(1, PLACE(1)), BL(4096), STORE(2, PLACE(2)), END},
	 GO_ABI_REGISTERS,
	 false},
	{"one is stored on one way only",
	 {BEGIN, STORE_TWO(0, 1, PLACE(0)), CBZ_X0(2), STORE(2, PLACE(2)), END},
	 GO_ABI_REGISTERS,
	 false},
	{"one is changed before: mov x2, #0",
	 {BEGIN, 0xd2800002, SPILL_THREE, BL(4096), END},
	 GO_ABI_REGISTERS,
	 false},
	{"half a register: str w0",
	 {BEGIN, 0xb9004be0, STORE_TWO(1, 2, PLACE(1)), BL(4096), END},
	 GO_ABI_REGISTERS,
	 false},
	{"the own frame is written", AFTER(STORE(5, FRAME - 8)), GO_ABI_REGISTERS, true},
	{"LR's word of the caller is written", AFTER(STORE(5, FRAME)), GO_ABI_REGISTERS, true},
	{"what is behind the third is written", AFTER(STORE(5, PLACE(3))), GO_ABI_REGISTERS, true},
	{"the first is written", AFTER(STORE(5, PLACE(0))), GO_ABI_REGISTERS, false},
	{"the third is written", AFTER(STORE(5, PLACE(2))), GO_ABI_REGISTERS, false},
	{"the same again, behind the prologue", AFTER(STORE(0, PLACE(0))), GO_ABI_REGISTERS, false},
	{"two words, of which one is the first", AFTER(STORE_TWO(5, 6, FRAME)), GO_ABI_REGISTERS,
	 false},
	{"a byte is written: strb w5, [sp, #95]", AFTER(0x39017fe5), GO_ABI_REGISTERS, false},
	{"by an index: str x5, [sp, x1]", AFTER(0xf8216be5), GO_ABI_REGISTERS, false},
	{"by the frame pointer: str x5, [x29, #80]", AFTER(0xf9002ba5), GO_ABI_REGISTERS, false},
	{"below it: stur x5, [x29, #-8]", AFTER(0xf81f83a5), GO_ABI_REGISTERS, true},
	{"they are read", AFTER(STORE(5, PLACE(0)) | 1U << 22), GO_ABI_REGISTERS, true},
	{"the address is taken", AFTER(ADDRESS(1, PLACE(1))), GO_ABI_REGISTERS, false},
	{"that of the own frame is", AFTER(ADDRESS(1, FRAME - 8)), GO_ABI_REGISTERS, true},
	{"the address is taken by the frame pointer: add x1, x29, #80", AFTER(0x910143a1),
	 GO_ABI_REGISTERS, false},
	{"in two steps: add x1, x1, #72",
	 {BEGIN, STORE_TWO(0, 1, PLACE(0)), STORE(2, PLACE(2)), ADDRESS(1, 0), 0x91012021, BL(4096),
	  END},
	 GO_ABI_REGISTERS,
	 false},
	{"in two steps, of the own frame: add x1, x1, #8",
	 {BEGIN, STORE_TWO(0, 1, PLACE(0)), STORE(2, PLACE(2)), ADDRESS(1, 0), 0x91002021, BL(4096),
	  END},
	 GO_ABI_REGISTERS,
	 true},
	{"by a register: add x1, sp, x27", AFTER(0x8b3b63e1), GO_ABI_REGISTERS, false},
	{"code that is not understood", AFTER(0x00010000), GO_ABI_REGISTERS, false},
	{"a stack of its own: mov sp, x0",
	 {CHECK, B_LS(8), 0x9100001f, SPILL_THREE, BL(4096), END},
	 GO_ABI_REGISTERS,
	 false},
	{"a large frame: stp x29, x30, [x20, #-8]; mov sp, x20",
	 {CHECK, B_LS(8), SUB_SP(20, FRAME), 0xa93ffa9d, 0x9100029f, SPILL_THREE, BL(4096),
	  ADD_SP(FRAME), RET},
	 GO_ABI_REGISTERS,
	 true},
	{"on the stack", {BEGIN, BL(4096), END}, GO_ABI_STACK, true},
	{"on the stack, and one is written",
	 {BEGIN, STORE(5, PLACE(1)), BL(4096), END},
	 GO_ABI_STACK,
	 false},
};

Test(go_arm64, arguments_are_kept_or_not)
{
	for (size_t i = 0; i < LENGTH(kept_cases); i++) {
		const struct kept_case *c = &kept_cases[i];

		cr_expect_eq(arm64__keeps_arguments((const uint8_t *)c->code, sizeof(c->code),
						    c->abi, 3),
			     c->kept, "%s", c->what);
	}
	cr_expect_not(arm64__keeps_arguments((const uint8_t *)kept_cases[0].code,
					     sizeof(kept_cases[0].code), GO_ABI_REGISTERS, 4));
	cr_expect_not(arm64__keeps_arguments((const uint8_t *)kept_cases[0].code,
					     sizeof(kept_cases[0].code), GO_ABI_REGISTERS, 10));
}
