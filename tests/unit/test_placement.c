/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * symbols/placement: machine code written for each rule, this machine's libssl, a small library
 * compiled by gcc and clang with many flags, damaged code. Whether the sites are right when the
 * code runs is for tests/bpf/placement_check.c.
 */
#if defined(__x86_64__)

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failing_alloc.h"
#include "machine.h"
#include "placement.h"

#define FILE_OFFSET 0x1000

/*
 * A function as data: from snippet_NAME to snippet_NAME_end, with the labels entry_NAME and
 * exit_NAME where the sites should be, if it says so. `outside` is no part of any of them.
 */
#define SNIPPET(name, code)                                                                        \
	__asm__(".pushsection .rodata\nsnippet_" #name ":\n" code "\nsnippet_" #name               \
		"_end:\n.byte 0xcc\n.popsection\n");                                               \
	extern const uint8_t snippet_##name[], snippet_##name##_end[];                             \
	extern const uint8_t entry_##name[], exit_##name[]

__asm__(".pushsection .rodata\noutside: ret\n.popsection\n");

static const struct emulated usual = {1U << CLASS_PUSH | 1U << CLASS_BRANCH};

/* In memory of just that size, so that reading beyond is noticed. */
static struct code_part copy_of(const uint8_t *start, size_t size)
{
	struct code_part part = {
		.code = malloc(size ? size : 1),
		.size = size,
		.file_offset = FILE_OFFSET,
		.machine = &machine_x86_64,
	};

	cr_assert(part.code);
	memcpy(part.code, start, size);
	return part;
}

static struct placement place_bytes(const uint8_t *start, size_t size, unsigned int arguments,
				    const struct emulated *emulated)
{
	struct code_part code = copy_of(start, size);
	struct placement placement;

	cr_assert_eq(placement__find(&code, NULL, arguments, true, emulated, &placement), 0);
	free(code.code);
	return placement;
}

#define PLACE_WITH(name, arguments, emulated)                                                      \
	place_bytes(snippet_##name, (size_t)(snippet_##name##_end - snippet_##name), arguments,    \
		    emulated)
#define PLACE(name, arguments) PLACE_WITH(name, arguments, &usual)

static void expect_site(struct placement_site site, ptrdiff_t at, uint32_t stack_bytes,
			enum site_class class, const char *what)
{
	cr_expect_eq(site.offset, FILE_OFFSET + (uint64_t)at, "%s: +%lu, not +%td", what,
		     (unsigned long)(site.offset - FILE_OFFSET), at);
	cr_expect_eq(site.stack_bytes, stack_bytes, "%s: %u", what, site.stack_bytes);
	cr_expect_eq(site.class, class, "%s", what);
}

#define EXPECT_ENTRY(placement, name, stack)                                                       \
	expect_site((placement).entry, entry_##name - snippet_##name, stack, SITE_EMULATED,        \
		    #name " entry")
#define EXPECT_FIRST_BYTE(placement, name)                                                         \
	expect_site((placement).entry, 0, 0, SITE_STEPPED, #name " entry")
#define EXPECT_EXIT(placement, name, stack, class)                                                 \
	do {                                                                                       \
		cr_assert_eq((placement).exit_kind, EXIT_SITES, #name ": %s",                      \
			     (placement).exit_reason);                                             \
		cr_expect_eq((placement).exit_count, 1);                                           \
		expect_site((placement).exits[0], exit_##name - snippet_##name, stack, class,      \
			    #name " exit");                                                        \
	} while (0)
/* A uretprobe at the entry, for which the stack must be as the caller left it. */
#define EXPECT_URETPROBE(placement)                                                                \
	do {                                                                                       \
		cr_expect_eq((placement).exit_kind, EXIT_URETPROBE);                               \
		cr_expect_eq((placement).exit_count, 0);                                           \
		cr_expect_eq((placement).entry.offset, (placement).uretprobe.offset);              \
		cr_expect_eq((placement).uretprobe.stack_bytes, 0);                                \
	} while (0)

/* ---- the shapes that are placed well ---- */

SNIPPET(protected, "sub $0x18, %rsp\n mov %fs:0x28, %rax\n mov %rax, 8(%rsp)\n xor %eax, %eax\n"
		   "test %edx, %edx\n entry_protected: js 2f\n mov %rsp, %rcx\n movslq %edx, %rdx\n"
		   "call outside\n test %eax, %eax\n jle 1f\n mov (%rsp), %eax\n"
		   "1: mov 8(%rsp), %rdx\n sub %fs:0x28, %rdx\n exit_protected: jne 3f\n"
		   "add $0x18, %rsp\n xor %edx, %edx\n xor %edi, %edi\n ret\n"
		   "2: call outside\n mov $-1, %eax\n jmp 1b\n 3: call outside");

Test(placement, a_stack_protected_function_has_both_sites_emulated)
{
	struct placement placement = PLACE(protected, 3);

	EXPECT_ENTRY(placement, protected, 0x18);
	EXPECT_EXIT(placement, protected, 0x18, SITE_EMULATED);
	expect_site(placement.uretprobe, 0, 0, SITE_STEPPED, "uretprobe");
}

SNIPPET(clang, "push %rbx\n sub $0x10, %rsp\n mov %fs:0x28, %rax\n mov %rax, 8(%rsp)\n"
	       "call outside\n mov %fs:0x28, %rcx\n mov %ebx, %eax\n cmp 8(%rsp), %rcx\n"
	       "exit_clang: jne 1f\n add $0x10, %rsp\n pop %rbx\n ret\n 1: call outside");

Test(placement, clang_compares_the_canary_with_a_register)
{
	struct placement placement = PLACE(clang, 1);

	expect_site(placement.entry, 0, 0, SITE_EMULATED, "entry");
	EXPECT_EXIT(placement, clang, 0x18, SITE_EMULATED);
}

SNIPPET(unoptimized, "endbr64\n entry_unoptimized: push %rbp\n mov %rsp, %rbp\n sub $0x20, %rsp\n"
		     "mov %rdi, -0x18(%rbp)\n call outside\n mov -8(%rbp), %rdx\n"
		     "sub %fs:0x28, %rdx\n exit_unoptimized: je 1f\n call outside\n"
		     "1: leave\n ret");

Test(placement, without_optimization_the_failing_call_is_in_the_middle)
{
	struct placement placement = PLACE(unoptimized, 1);

	EXPECT_ENTRY(placement, unoptimized, 0);
	EXPECT_EXIT(placement, unoptimized, 0x28, SITE_EMULATED);
	cr_expect_eq(placement.uretprobe.offset, placement.entry.offset);
}

SNIPPET(wrapper, "sub $8, %rsp\n entry_wrapper: call outside\n xor %edx, %edx\n test %eax, %eax\n"
		 "cmovs %edx, %eax\n add $8, %rsp\n xor %edx, %edx\n exit_wrapper: ret");

Test(placement, a_result_that_changes_to_the_end_is_read_at_the_return)
{
	struct placement placement = PLACE(wrapper, 4);

	EXPECT_ENTRY(placement, wrapper, 8);
	EXPECT_EXIT(placement, wrapper, 0, SITE_STEPPED);
}

SNIPPET(late, "push %rbx\n call outside\n mov %eax, %ebx\n mov 8(%rsp), %rax\n"
	      "sub %fs:0x28, %rax\n jne 1f\n mov %ebx, %eax\n pop %rbx\n exit_late: ret\n"
	      "1: call outside");

Test(placement, a_result_written_after_the_check_is_not_read_before)
{
	EXPECT_EXIT(PLACE(late, 1), late, 0, SITE_STEPPED);
}

SNIPPET(mixed, "test %edi, %edi\n entry_mixed: je 2f\n push %rbx\n call outside\n"
	       "mov (%rsp), %rdx\n sub %fs:0x28, %rdx\n exit_mixed: jne 3f\n pop %rbx\n ret\n"
	       "2: mov $-1, %eax\n ret\n 3: call outside");

Test(placement, an_early_return_has_a_site_of_its_own)
{
	struct placement placement = PLACE(mixed, 1);

	EXPECT_ENTRY(placement, mixed, 0);
	cr_assert_eq(placement.exit_kind, EXIT_SITES);
	cr_assert_eq(placement.exit_count, 2);
	cr_expect_neq(placement.exits[0].class, placement.exits[1].class);
	cr_expect_eq(placement.exits[0].stack_bytes + placement.exits[1].stack_bytes, 8);
}

SNIPPET(final_loop, "push %rbx\n call outside\n 1: dec %ecx\n jne 1b\n pop %rbx\n"
		    "exit_final_loop: ret");

Test(placement, a_site_is_in_no_loop)
{
	EXPECT_EXIT(PLACE(final_loop, 1), final_loop, 0, SITE_STEPPED);
}

SNIPPET(joined, "push %rbx\n call outside\n test %eax, %eax\n js 1f\n mov $1, %eax\n jmp 2f\n"
		"1: xor %eax, %eax\n 2: exit_joined: jmp 3f\n 3: pop %rbx\n ret");

Test(placement, of_several_on_the_way_one_is_chosen)
{
	EXPECT_EXIT(PLACE(joined, 1), joined, 8, SITE_EMULATED);
}

SNIPPET(alloca, "entry_alloca: push %rbp\n mov %rsp, %rbp\n push %rbx\n sub %rdi, %rsp\n"
		"call outside\n mov -0x10(%rbp), %rdx\n sub %fs:0x28, %rdx\n jne 1f\n"
		"lea -8(%rbp), %rsp\n pop %rbx\n pop %rbp\n exit_alloca: ret\n 1: call outside");

Test(placement, where_the_stack_is_not_known_there_is_no_site)
{
	struct placement placement = PLACE(alloca, 1);

	EXPECT_ENTRY(placement, alloca, 0);
	EXPECT_EXIT(placement, alloca, 0, SITE_STEPPED);
}

SNIPPET(rep_ret, "push %rbx\n call outside\n pop %rbx\n exit_rep_ret: .byte 0xf3, 0xc3");
SNIPPET(bnd_ret, "push %rbx\n call outside\n pop %rbx\n exit_bnd_ret: .byte 0xf2, 0xc3");
SNIPPET(ret_imm, "push %rbx\n call outside\n pop %rbx\n exit_ret_imm: ret $8");

Test(placement, all_kinds_of_near_returns_are_returns)
{
	EXPECT_EXIT(PLACE(rep_ret, 1), rep_ret, 0, SITE_STEPPED);
	EXPECT_EXIT(PLACE(bnd_ret, 1), bnd_ret, 0, SITE_STEPPED);
	EXPECT_EXIT(PLACE(ret_imm, 1), ret_imm, 0, SITE_STEPPED);
}

SNIPPET(recursive, "snippet_self: push %rbx\n call snippet_self\n pop %rbx\n"
		   "exit_recursive: ret");

Test(placement, recursion_is_no_jump)
{
	EXPECT_EXIT(PLACE(recursive, 1), recursive, 0, SITE_STEPPED);
}

SNIPPET(aborts, "push %rbx\n test %edi, %edi\n je 1f\n call outside\n pop %rbx\n"
		"exit_aborts: ret\n 1: call outside");

Test(placement, a_call_with_nothing_behind_it_does_not_return)
{
	EXPECT_EXIT(PLACE(aborts, 1), aborts, 0, SITE_STEPPED);
}

/* ---- entry: what is in the way ---- */

SNIPPET(clobbered, "sub $8, %rsp\n mov %esi, %edx\n entry_clobbered: call outside\n"
		   "add $8, %rsp\n exit_clobbered: ret");
SNIPPET(extended, "sub $8, %rsp\n mov %edx, %edx\n call outside\n add $8, %rsp\n ret");

Test(placement, an_argument_that_changed_is_too_late)
{
	EXPECT_FIRST_BYTE(PLACE(clobbered, 3), clobbered);
	EXPECT_ENTRY(PLACE(clobbered, 2), clobbered, 8);
	/* It clears the upper half. */
	EXPECT_FIRST_BYTE(PLACE(extended, 3), extended);
}

SNIPPET(loop_inside, "sub $8, %rsp\n 1: test %esi, %esi\n js 2f\n call outside\n jmp 1b\n"
		     "2: add $8, %rsp\n ret");
SNIPPET(loop_first, "1: push %rbx\n pop %rbx\n dec %eax\n jne 1b\n ret");

Test(placement, what_a_loop_comes_back_to_is_no_entry)
{
	EXPECT_FIRST_BYTE(PLACE(loop_inside, 2), loop_inside);
	cr_expect_eq(PLACE(loop_first, 1).entry.offset, FILE_OFFSET);
}

SNIPPET(leaf, "lea (%rdi,%rsi), %eax\n exit_leaf: ret");

Test(placement, with_nothing_emulated_it_is_the_first_byte_and_the_return)
{
	struct placement placement = PLACE(leaf, 2);

	EXPECT_FIRST_BYTE(placement, leaf);
	EXPECT_EXIT(placement, leaf, 0, SITE_STEPPED);
}

SNIPPET(nop5, "endbr64\n .byte 0x0f, 0x1f, 0x44, 0, 0\n entry_nop5: push %rbx\n pop %rbx\n ret");
SNIPPET(red_zone, "mov %rdi, -8(%rsp)\n .byte 0x0f, 0x1f, 0x44, 0, 0\n mov -8(%rsp), %rax\n ret");

Test(placement, a_5_byte_nop_is_used_only_where_nothing_is_below_the_stack)
{
	const struct emulated newer = {usual.classes | 1U << CLASS_NOP5};

	EXPECT_ENTRY(PLACE(nop5, 1), nop5, 0);
	expect_site(PLACE_WITH(nop5, 1, &newer).entry, 4, 0, SITE_EMULATED, "nop5");
	EXPECT_FIRST_BYTE(PLACE_WITH(red_zone, 1, &newer), red_zone);
}

Test(placement, what_the_kernel_emulates_is_up_to_it)
{
	const struct emulated none = {0};
	const struct emulated all = {(1U << CLASS_COUNT) - 1};
	struct placement placement = PLACE_WITH(protected, 3, &none);

	EXPECT_FIRST_BYTE(placement, protected);
	cr_expect_eq(placement.exits[0].class, SITE_STEPPED);
	placement = PLACE_WITH(protected, 3, &all);
	expect_site(placement.entry, 0, 0, SITE_EMULATED, "sub");
	placement = PLACE_WITH(leaf, 2, &all);
	EXPECT_EXIT(placement, leaf, 0, SITE_EMULATED);
	cr_expect(emulated__covers(&usual, CLASS_PUSH));
	cr_expect_not(emulated__covers(&usual, CLASS_RETURN));
	cr_expect_not(emulated__covers(&all, CLASS_OTHER));
	cr_expect_not(emulated__covers(&all, CLASS_REFUSED));
	cr_expect_eq(emulated__default().classes, usual.classes);
}

/* ---- exit: what cannot be proven ---- */

SNIPPET(only_jump, "entry_only_jump: jmp outside");
SNIPPET(tail, "push %rbx\n call outside\n pop %rbx\n jmp outside");
SNIPPET(tail_pointer, "sub $8, %rsp\n entry_tail_pointer: call outside\n add $8, %rsp\n"
		      "jmp *%rax");
SNIPPET(tail_or_not, "test %edi, %edi\n entry_tail_or_not: je outside\n xor %eax, %eax\n ret");
SNIPPET(cold, "sub $8, %rsp\n test %edi, %edi\n js outside\n call outside\n 1: add $8, %rsp\n ret");
SNIPPET(cold_marked, "endbr64\n entry_cold_marked: push %rbx\n test %edi, %edi\n js outside\n"
		     "call outside\n pop %rbx\n ret");
SNIPPET(falls_off, "push %rbx\n pop %rbx\n xor %eax, %eax");
SNIPPET(odd_stack, "push %rbx\n call outside\n ret");
SNIPPET(forever, "push %rbx\n 1: call outside\n jmp 1b");

Test(placement, what_does_not_come_back_by_its_own_return_has_a_uretprobe)
{
	struct placement placement;

	placement = PLACE(only_jump, 4);
	EXPECT_ENTRY(placement, only_jump, 0);
	EXPECT_URETPROBE(placement);
	placement = PLACE(tail, 1);
	cr_expect_eq(placement.entry.class, SITE_EMULATED);
	EXPECT_URETPROBE(placement);
	/* The entry would be right at the call, but the uretprobe must be where the stack is. */
	placement = PLACE(tail_pointer, 1);
	EXPECT_FIRST_BYTE(placement, tail_pointer);
	EXPECT_URETPROBE(placement);
	placement = PLACE(tail_or_not, 1);
	EXPECT_URETPROBE(placement);
	placement = PLACE(cold, 1);
	EXPECT_FIRST_BYTE(placement, cold);
	EXPECT_URETPROBE(placement);
	placement = PLACE(cold_marked, 1);
	EXPECT_ENTRY(placement, cold_marked, 0);
	EXPECT_URETPROBE(placement);
	EXPECT_URETPROBE(PLACE(falls_off, 1));
	EXPECT_URETPROBE(PLACE(odd_stack, 1));
	EXPECT_URETPROBE(PLACE(forever, 1));
}

Test(placement, without_an_exit_the_entry_is_free)
{
	struct code_part code = copy_of(snippet_tail_pointer,
					(size_t)(snippet_tail_pointer_end - snippet_tail_pointer));
	struct placement placement;

	cr_assert_eq(placement__find(&code, NULL, 1, false, &usual, &placement), 0);
	free(code.code);
	cr_expect_eq(placement.exit_kind, EXIT_NONE);
	EXPECT_ENTRY(placement, tail_pointer, 8);
}

SNIPPET(table, "test %edi, %edi\n lea 2f(%rip), %rdx\n movslq (%rdx,%rdi,4), %rax\n"
	       "add %rdx, %rax\n notrack jmp *%rax\n 1: push %rbx\n pop %rbx\n ret\n 2: ret");
SNIPPET(table_late, "push %rbx\n notrack jmp *%rax\n 1: xor %eax, %eax\n pop %rbx\n ret");
SNIPPET(pointer_first, "test %edi, %edi\n je 1f\n jmp *%rax\n 1: xor %eax, %eax\n ret");
SNIPPET(pointer_marked, "endbr64\n test %edi, %edi\n entry_pointer_marked: je 1f\n jmp *%rax\n"
			"1: xor %eax, %eax\n ret");

Test(placement, a_jump_table_may_lead_anywhere)
{
	EXPECT_FIRST_BYTE(PLACE(table, 1), table);
	EXPECT_URETPROBE(PLACE(table, 1));
	cr_expect_eq(PLACE(table_late, 1).entry.class, SITE_EMULATED);
	EXPECT_URETPROBE(PLACE(table_late, 1));
	/* Where jumps need no mark, it may be a table that leads to the second instruction. */
	EXPECT_FIRST_BYTE(PLACE(pointer_first, 1), pointer_first);
	EXPECT_ENTRY(PLACE(pointer_marked, 1), pointer_marked, 0);
}

SNIPPET(overlap, "push %rbx\n test %edi, %edi\n je 1f + 1\n 1: mov $0xc3, %eax\n pop %rbx\n ret");
SNIPPET(into_itself, "push %rbx\n call 1f\n 1: pop %rax\n pop %rbx\n ret");
SNIPPET(system_call, "push %rbx\n syscall\n pop %rbx\n ret");
SNIPPET(no_code, "push %rbx\n .byte 0x06, 0x06, 0x06");

Test(placement, odd_code_is_left_alone)
{
	struct placement placements[] = {PLACE(overlap, 1), PLACE(into_itself, 1),
					 PLACE(system_call, 1), PLACE(no_code, 1)};

	for (size_t i = 0; i < sizeof(placements) / sizeof(placements[0]); i++) {
		cr_expect_eq(placements[i].entry.offset, FILE_OFFSET, "%zu", i);
		EXPECT_URETPROBE(placements[i]);
	}
}

Test(placement, many_returns_are_too_many)
{
	static const uint8_t part[] = {0xff, 0xc8, 0x75, 0x01, 0xc3}; /* dec %eax; jne +1; ret */
	uint8_t code[sizeof(part) * (PLACEMENT_MAX_EXITS + 1) + 1];

	for (size_t i = 0; i <= PLACEMENT_MAX_EXITS; i++)
		memcpy(code + i * sizeof(part), part, sizeof(part));
	code[sizeof(code) - 1] = 0xc3;
	cr_expect_eq(place_bytes(code + sizeof(part) * 2, sizeof(code) - sizeof(part) * 2, 1,
				 &usual)
			     .exit_kind,
		     EXIT_SITES);
	EXPECT_URETPROBE(place_bytes(code, sizeof(code), 1, &usual));
}

Test(placement, a_size_that_is_not_known_or_too_large_is_not_analysed)
{
	uint8_t *code = calloc(1, PLACEMENT_MAX_BYTES + 1);

	cr_assert(code);
	memset(code, 0x90, PLACEMENT_MAX_BYTES);
	code[PLACEMENT_MAX_BYTES] = 0xc3;
	EXPECT_URETPROBE(place_bytes(code, 0, 1, &usual));
	EXPECT_URETPROBE(place_bytes(code, PLACEMENT_MAX_BYTES + 1, 1, &usual));
	cr_expect_eq(place_bytes(code + 1, PLACEMENT_MAX_BYTES, 1, &usual).exit_kind, EXIT_SITES);
	free(code);
}

/* ---- parts elsewhere ---- */

/* A function as above, and from part_NAME to part_NAME_end a part of it elsewhere. */
#define SNIPPET_PARTS(name, code, part)                                                            \
	__asm__(".pushsection .rodata\npart_" #name ":\n" part "\npart_" #name                     \
		"_end:\n.byte 0xcc\nsnippet_" #name ":\n" code "\nsnippet_" #name                  \
		"_end:\n.byte 0xcc\n.popsection\n");                                               \
	extern const uint8_t snippet_##name[], snippet_##name##_end[];                             \
	extern const uint8_t part_##name[], part_##name##_end[];                                   \
	extern const uint8_t entry_##name[], exit_##name[]

struct test_source {
	const uint8_t *function, *part, *part_end;
};

static int test_source__part(void *context, int64_t target, struct code_part *ret_part)
{
	const struct test_source *source = context;
	const uint8_t *wanted = source->function + target;

	if (wanted < source->part || wanted >= source->part_end)
		return -ENOENT;
	*ret_part = (struct code_part){
		.size = (size_t)(source->part_end - source->part),
		.at = source->part - source->function,
		.file_offset = FILE_OFFSET + (uint64_t)(source->part - source->function),
	};
	ret_part->code = malloc(ret_part->size);
	if (!ret_part->code)
		return -ENOMEM;
	memcpy(ret_part->code, source->part, ret_part->size);
	return 0;
}

static struct placement place_parts(const uint8_t *start, const uint8_t *end, const uint8_t *part,
				    const uint8_t *part_end)
{
	struct code_part code = copy_of(start, (size_t)(end - start));
	struct test_source parts = {start, part, part_end};
	const struct code_source source = {test_source__part, &parts};
	struct placement placement;

	cr_assert_eq(placement__find(&code, &source, 1, true, &usual, &placement), 0);
	free(code.code);
	return placement;
}

#define PLACE_PARTS(name)                                                                          \
	place_parts(snippet_##name, snippet_##name##_end, part_##name, part_##name##_end)

/* All of it but the cold part; with "sub" and "js", both sites must be found. */
#define WITH_COLD(name)                                                                            \
	"sub $8, %rsp\n test %edi, %edi\n entry_" #name ": js part_" #name                         \
	"\n call outside\n back_" #name ": mov (%rsp), %rdx\n sub %fs:0x28, %rdx\n exit_" #name    \
	": jne 1f\n add $8, %rsp\n ret\n 1: call outside"

SNIPPET_PARTS(cold_back, WITH_COLD(cold_back), "call outside\n mov $-1, %eax\n jmp back_cold_back");
SNIPPET_PARTS(cold_abort, WITH_COLD(cold_abort), "mov %eax, %edi\n call outside");
SNIPPET_PARTS(cold_trap, WITH_COLD(cold_trap), "call outside\n ud2");

Test(placement, a_cold_part_is_of_the_function)
{
	struct placement placement = PLACE_PARTS(cold_back);

	EXPECT_ENTRY(placement, cold_back, 8);
	EXPECT_EXIT(placement, cold_back, 8, SITE_EMULATED);
	placement = PLACE_PARTS(cold_abort);
	EXPECT_ENTRY(placement, cold_abort, 8);
	EXPECT_EXIT(placement, cold_abort, 8, SITE_EMULATED);
	placement = PLACE_PARTS(cold_trap);
	EXPECT_ENTRY(placement, cold_trap, 8);
	EXPECT_EXIT(placement, cold_trap, 8, SITE_EMULATED);
}

/* The second block of the part, to which another branch goes, is what makes the part its own. */
SNIPPET_PARTS(cold_returns,
	      "sub $8, %rsp\n test %edi, %edi\n entry_cold_returns: js part_cold_returns\n"
	      "je 3b\n call outside\n 1: add $8, %rsp\n ret",
	      "call outside\n or $-1, %eax\n add $8, %rsp\n exit_cold_returns: ret\n"
	      "3: call outside\n jmp 1f");

SNIPPET_PARTS(cold_leaves, WITH_COLD(cold_leaves), "mov $-1, %eax\n add $8, %rsp\n ret");
SNIPPET_PARTS(cold_unseen, WITH_COLD(cold_unseen), "jmp back_cold_unseen\n mov $-1, %eax");
SNIPPET_PARTS(cold_falls, WITH_COLD(cold_falls), "call outside\n mov $-1, %eax");
SNIPPET_PARTS(cold_odd, WITH_COLD(cold_odd), "syscall\n jmp back_cold_odd");
SNIPPET_PARTS(cold_first, WITH_COLD(cold_first), "add $8, %rsp\n jmp snippet_cold_first");
SNIPPET_PARTS(cold_entry, WITH_COLD(cold_entry), "jmp entry_cold_entry");
SNIPPET_PARTS(cold_stack, WITH_COLD(cold_stack), "push %rax\n jmp back_cold_stack");
SNIPPET_PARTS(cold_inside, WITH_COLD(cold_inside), "call part_cold_inside + 5\n 1: jmp 1b");
SNIPPET_PARTS(other_function, "test %edi, %edi\n js part_other_function\n xor %eax, %eax\n ret",
	      "xor %eax, %eax\n ret");

Test(placement, a_part_that_may_be_of_others_too_has_no_sites)
{
	EXPECT_URETPROBE(PLACE_PARTS(cold_leaves));
	EXPECT_URETPROBE(PLACE_PARTS(other_function));
}

Test(placement, a_part_that_is_not_understood_gives_nothing)
{
	EXPECT_URETPROBE(PLACE_PARTS(cold_unseen));
	EXPECT_FIRST_BYTE(PLACE_PARTS(cold_unseen), cold_unseen);
	EXPECT_URETPROBE(PLACE_PARTS(cold_falls));
	EXPECT_URETPROBE(PLACE_PARTS(cold_odd));
	EXPECT_URETPROBE(PLACE_PARTS(cold_inside));
	/* A tail call of the function by code that need not be its own. */
	EXPECT_URETPROBE(PLACE_PARTS(cold_first));
	EXPECT_FIRST_BYTE(PLACE_PARTS(cold_first), cold_first);
	EXPECT_URETPROBE(PLACE_PARTS(cold_stack));
	/* A loop through the part. */
	EXPECT_FIRST_BYTE(PLACE_PARTS(cold_entry), cold_entry);
}

Test(placement, a_part_that_jumps_back_may_return_as_well)
{
	struct placement placement = PLACE_PARTS(cold_returns);

	EXPECT_ENTRY(placement, cold_returns, 8);
	cr_assert_eq(placement.exit_kind, EXIT_SITES, "%s", placement.exit_reason);
	cr_assert_eq(placement.exit_count, 2);
	expect_site(placement.exits[1], exit_cold_returns - snippet_cold_returns, 0, SITE_STEPPED,
		    "in the part");
}

Test(placement, a_source_that_gives_other_code_is_not_believed)
{
	struct code_part code =
		copy_of(snippet_cold_back, (size_t)(snippet_cold_back_end - snippet_cold_back));
	/* All of it is one stretch: the function again, too. */
	struct test_source parts = {snippet_cold_back, part_cold_back, snippet_cold_back_end};
	const struct code_source source = {test_source__part, &parts};
	struct placement placement;

	cr_assert_eq(placement__find(&code, &source, 1, true, &usual, &placement), 0);
	EXPECT_FIRST_BYTE(placement, cold_back);
	EXPECT_URETPROBE(placement);
	/* One that ends before what was asked for, by being empty. */
	parts.part_end = parts.part;
	cr_assert_eq(placement__find(&code, &source, 1, true, &usual, &placement), 0);
	EXPECT_URETPROBE(placement);
	free(code.code);
}

Test(placement, every_failed_allocation_is_reported)
{
	struct code_part code =
		copy_of(snippet_cold_back, (size_t)(snippet_cold_back_end - snippet_cold_back));
	struct test_source parts = {snippet_cold_back, part_cold_back, part_cold_back_end};
	const struct code_source source = {test_source__part, &parts};
	struct placement placement;
	unsigned int n;
	int err;

	for (n = 0;; n++) {
		failing_alloc__arm(n);
		err = placement__find(&code, &source, 1, true, &usual, &placement);
		if (!failing_alloc__disarm())
			break;
		cr_expect_eq(err, -ENOMEM);
	}
	cr_expect_eq(err, 0);
	cr_expect_gt(n, 6);
	free(code.code);
}

/* ---- real files ---- */

typedef void placed_fn(const char *file, const char *name, const struct code_part *code,
		       const struct code_source *source);

struct each {
	const char *path;
	const char *prefix;
	placed_fn *fn;
	struct elf_file *file;
	int fd;
	unsigned int count;
};

static int each__note(void *context, const struct elf_function *function)
{
	struct each *each = context;
	struct function_parts parts = {each->file, each->fd, function->address};
	const struct code_source source = {function_parts__read, &parts};
	struct code_part code;

	if (strncmp(function->name, each->prefix, strlen(each->prefix)) != 0 ||
	    strstr(function->name, ".cold"))
		return 0;
	if (function_code__read(each->file, each->fd, function, &code))
		return 0;
	each->fn(each->path, function->name, &code, &source);
	free(code.code);
	each->count++;
	return 0;
}

/* Calls `fn` for the functions of a file that begin with `prefix`. Their number. */
static unsigned int for_each(const char *path, const char *prefix, placed_fn *fn)
{
	struct each each = {.path = path, .prefix = prefix, .fn = fn};

	each.fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(each.fd, 0, "%s", path);
	cr_assert_eq(elf_file__open(each.fd, &each.file), 0, "%s", path);
	cr_assert_eq(elf_file__each_function(each.file, each__note, &each), 0);
	elf_file__close(each.file);
	close(each.fd);
	return each.count;
}

static void expect_sane(const char *file, const char *name, const struct placement *placement,
			const struct code_part *code)
{
	const uint64_t begin = code->file_offset, end = begin + code->size;

	cr_expect(placement->entry.offset >= begin && placement->entry.offset < end, "%s %s", file,
		  name);
	cr_expect_eq(placement->uretprobe.stack_bytes, 0, "%s %s", file, name);
	cr_expect_leq(placement->exit_count, PLACEMENT_MAX_EXITS, "%s %s", file, name);
	cr_expect_eq(placement->exit_kind == EXIT_SITES, placement->exit_count > 0, "%s %s", file,
		     name);
	cr_expect(placement->entry_reason && placement->exit_reason, "%s %s", file, name);
	/* Those in a cold part are before or behind all of the function. */
	for (unsigned int i = 0; i < placement->exit_count; i++)
		cr_expect(placement->exits[i].offset > placement->entry.offset ||
				  placement->exits[i].offset < begin,
			  "%s %s", file, name);
}

/* SSL_read and SSL_write are shaped alike in every OpenSSL, and must be had at the low price. */
static void expect_libssl(const char *file, const char *name, const struct code_part *code,
			  const struct code_source *source)
{
	struct placement placement;

	cr_assert_eq(placement__find(code, source, 4, true, &usual, &placement), 0);
	expect_sane(file, name, &placement, code);
	if (strcmp(name, "SSL_read") == 0 || strcmp(name, "SSL_write") == 0 ||
	    strcmp(name, "SSL_peek") == 0) {
		cr_assert_eq(placement__find(code, source, 3, true, &usual, &placement), 0);
		cr_expect_eq(placement.entry.class, SITE_EMULATED, "%s %s", file, name);
		cr_expect_eq(placement.exit_kind, EXIT_SITES, "%s %s", file, name);
		cr_expect_eq(placement.exit_count, 1, "%s %s", file, name);
		cr_expect_eq(placement.exits[0].class, SITE_EMULATED, "%s %s", file, name);
	}
	if (strcmp(name, "SSL_read_ex") == 0) {
		cr_expect_eq(placement.entry.class, SITE_EMULATED, "%s", file);
		cr_expect_eq(placement.exit_kind, EXIT_SITES, "%s", file);
	}
}

Test(placement, this_machines_libssl)
{
	cr_expect_gt(for_each("/usr/lib/x86_64-linux-gnu/libssl.so.3", "SSL_", expect_libssl), 200);
}

/* TLSTRACE_ROOTS: directories of other systems' files, separated by colons. */
Test(placement, other_systems_libssl)
{
	static const char *const names[] = {"libssl.so.1.1", "libssl.so.3", "libssl.so.4"};
	const char *roots = getenv("TLSTRACE_ROOTS");
	char copy[4096], path[PATH_MAX], *root, *rest = copy;
	unsigned int count = 0;

	if (!roots)
		cr_skip_test("TLSTRACE_ROOTS is not set");
	snprintf(copy, sizeof(copy), "%s", roots);
	while ((root = strsep(&rest, ":"))) {
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			snprintf(path, sizeof(path), "%s/usr/lib/x86_64-linux-gnu/%s", root,
				 names[i]);
			if (access(path, R_OK) == 0)
				count += for_each(path, "SSL_", expect_libssl);
		}
	}
	cr_expect_gt(count, 0);
}

static unsigned int boringssl_count;

static void expect_boringssl(const char *file, const char *name, const struct code_part *code,
			     const struct code_source *source)
{
	struct placement placement;

	cr_assert_eq(placement__find(code, source, 3, true, &usual, &placement), 0);
	expect_sane(file, name, &placement, code);
	if (strcmp(name, "SSL_read") == 0 || strcmp(name, "SSL_write") == 0 ||
	    strcmp(name, "SSL_peek") == 0 || strcmp(name, "SSL_do_handshake") == 0) {
		cr_expect_eq(placement.entry.class, SITE_EMULATED, "%s %s", file, name);
		cr_expect_eq(placement.exit_kind, EXIT_SITES, "%s %s", file, name);
		boringssl_count++;
	}
}

/* Debian's package android-libboringssl. */
Test(placement, boringssl)
{
	static const char path[] = "/usr/lib/x86_64-linux-gnu/android/libssl.so.0";

	if (access(path, R_OK) != 0)
		cr_skip_test("%s is not installed", path);
	for_each(path, "SSL_", expect_boringssl);
	cr_expect_eq(boringssl_count, 4);
}

/* ---- libraries compiled here ---- */

static bool wants_protector, has_unwind_table;
static unsigned int cold_sites;

static void expect_subject(const char *file, const char *name, const struct code_part *code,
			   const struct code_source *source)
{
	struct placement placement;

	cr_assert_eq(placement__find(code, source, 3, true, &usual, &placement), 0);
	expect_sane(file, name, &placement, code);
	/* Of a function with no cold part and no tail call, the returns are proven at the least. */
	if (strcmp(name, "subject_array") == 0 || strcmp(name, "subject_alloca") == 0)
		cr_expect_eq(placement.exit_kind, EXIT_SITES, "%s %s: %s", file, name,
			     placement.exit_reason);
	/* gcc's cold parts of them jump back or end the program; clang makes none. */
	if (has_unwind_table &&
	    (strcmp(name, "subject_cold_both") == 0 || strcmp(name, "subject_cold_end") == 0 ||
	     strcmp(name, "subject_read") == 0 || strcmp(name, "subject_abort") == 0)) {
		cr_expect_eq(placement.exit_kind, EXIT_SITES, "%s %s: %s", file, name,
			     placement.exit_reason);
		for (unsigned int i = 0; i < placement.exit_count; i++)
			cold_sites += placement.exits[i].offset < code->file_offset;
	}
	if (wants_protector && strcmp(name, "subject_read") == 0)
		cr_expect_eq(placement.entry.class, SITE_EMULATED, "%s: %s", file,
			     placement.entry_reason);
}

static void compile_with(const char *compiler)
{
	static const char *const levels[] = {"-O0", "-O1", "-O2", "-O3", "-Os"};
	static const char *const flags[] = {
		"",
		"-fno-stack-protector -fno-omit-frame-pointer",
		"-fstack-protector-all -fcf-protection",
		"-fstack-protector-strong -mno-red-zone -fno-plt",
		"-fzero-call-used-regs=used -fstack-protector-strong",
		"-s -ffunction-sections",
		"-s -fno-asynchronous-unwind-tables -fno-unwind-tables",
	};
	char source[PATH_MAX], path[] = "/tmp/tlstrace-test-XXXXXX", command[3 * PATH_MAX];
	const char *slash = strrchr(__FILE__, '/');
	int fd;

	snprintf(command, sizeof(command), "command -v %s >/dev/null", compiler);
	if (system(command) != 0)
		cr_skip_test("%s is not installed", compiler);
	snprintf(source, sizeof(source), "%.*s/../bpf/placement_subject.c", (int)(slash - __FILE__),
		 __FILE__);
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
	for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
		for (size_t f = 0; f < sizeof(flags) / sizeof(flags[0]); f++) {
			/* clang 14 has no -fzero-call-used-regs. */
			if (strstr(flags[f], "zero") && strcmp(compiler, "clang") == 0)
				continue;
			snprintf(command, sizeof(command), "%s %s %s -fPIC -shared -o %s %s",
				 compiler, levels[l], flags[f], path, source);
			cr_assert_eq(system(command), 0, "%s", command);
			/* From -O2 on, gcc puts the error's code elsewhere. */
			has_unwind_table = !strstr(flags[f], "-fno-unwind-tables");
			wants_protector = strstr(flags[f], "-all") && l < 2;
			cr_expect_geq(for_each(path, "subject_", expect_subject), 15, "%s",
				      command);
		}
	}
	unlink(path);
}

Test(placement, libraries_compiled_by_gcc)
{
	compile_with("gcc");
	/* What subject_cold_both returns from its cold part is seen there. */
	cr_expect_gt(cold_sites, 0);
}

Test(placement, libraries_compiled_by_clang)
{
	compile_with("clang");
}

/* ---- damaged code ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void damage(const char *file, const char *name, const struct code_part *code,
		   const struct code_source *source)
{
	struct code_part copy;
	struct placement placement;
	size_t cut;

	if (code->size > 600)
		return;
	for (int n = 0; n < 20; n++) {
		cut = 1 + next_random() % code->size;
		copy = copy_of(code->code, cut);
		copy.file_offset = code->file_offset;
		for (uint64_t k = next_random() % 4; k > 0; k--)
			copy.code[next_random() % cut] = (uint8_t)next_random();
		cr_assert_eq(placement__find(&copy, source, 3, true, &usual, &placement), 0);
		expect_sane(file, name, &placement, &copy);
		free(copy.code);
	}
}

Test(placement, damaged_code_gives_places_within_it)
{
	for_each("/usr/lib/x86_64-linux-gnu/libssl.so.3", "SSL_", damage);
}

Test(placement, a_function_outside_its_segment_is_not_read)
{
	static const char path[] = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
	struct elf_function function = {.name = "f", .address = 0, .size = 16};
	struct elf_file *file;
	struct code_part code;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_expect_eq(function_code__read(file, fd, &function, &code), -EBADMSG);
	function.address = UINT64_MAX - 4;
	cr_expect_eq(function_code__read(file, fd, &function, &code), -EBADMSG);
	function.size = 0;
	cr_expect_eq(function_code__read(file, fd, &function, &code), -EFBIG);
	function.size = PLACEMENT_MAX_BYTES + 1;
	cr_expect_eq(function_code__read(file, fd, &function, &code), -EFBIG);
	elf_file__close(file);
	close(fd);
}

#endif
