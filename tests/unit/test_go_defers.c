/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exits in deferred functions: code as Go's compiler makes it, each thing that it relies on changed
 * in turn, and real programs' sites against objdump.
 */
#if defined(__x86_64__)

#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "go.h"
#include "go_image.h"

#define GO_PROGRAM "/usr/bin/hey" /* Debian 12's is Go 1.19, stripped */

static const struct emulated usual = {.classes = 1U << CLASS_PUSH | 1U << CLASS_BRANCH};

/* The deferred function is in the 64 bytes before the function. */
#define BEFORE 0x40

/*
 * Code as data: a deferred function, and one that defers it, of these parts: how it prepares the
 * call, and how it makes it and returns. The label exit_NAME is where the site should be.
 */
#define SNIPPET(name, deferred, prepare, leave)                                                    \
	CHECKED(name, "cmp 0x10(%r14), %rsp\n", deferred, prepare, leave)
#define CHECKED(name, check, deferred, prepare, leave)                                             \
	__asm__(".pushsection .rodata\n.balign 64\nsnippet_" #name ":\n" deferred                  \
		"\n.balign 64, 0xcc\n9: " check "jbe 8f\n push %rbp\n"                             \
		"mov %rsp, %rbp\n sub $0x60, %rsp\n mov %rax, 0x70(%rsp)\n" prepare                \
		"\nmov %rcx, 0x28(%rsp)\n" leave "\n8: call elsewhere\n jmp 9b\nsnippet_" #name    \
		"_end:\n.popsection\n");                                                           \
	extern const uint8_t snippet_##name[], snippet_##name##_end[], exit_##name[]

#define DEFERRED(name)                                                                             \
	"1: cmp 0x10(%r14), %rsp\n exit_" #name ": jbe 2f\n push %rbp\n mov %rsp, %rbp\n"          \
	"mov 0x8(%rdx), %rax\n pop %rbp\n ret\n 2: call elsewhere\n jmp 1b\n"
#define PREPARE                                                                                    \
	"lea 1b(%rip), %rdi\n mov %rdi, 0x40(%rsp)\n lea 0x180(%rsi), %rdi\n"                      \
	"mov %rdi, 0x48(%rsp)\n lea 0x40(%rsp), %rdi\n mov %rdi, 0x50(%rsp)\n"
#define CALL   "movb $0, 0x1f(%rsp)\n mov 0x50(%rsp), %rdx\n mov (%rdx), %rax\n call *%rax\n"
#define RELOAD "mov 0x28(%rsp), %rax\n mov 0x30(%rsp), %rbx\n mov 0x38(%rsp), %rcx\n"
#define RETURN "add $0x60, %rsp\n pop %rbp\n ret\n"

__asm__(".pushsection .rodata\nelsewhere: ret\n.popsection\n");

static struct placement place(const uint8_t *start, const uint8_t *end,
			      const struct emulated *emulated, uint64_t *ret_begin)
{
	static struct go_image image;
	struct placement placement;

	go_image__make(&image, GO_TABLE_1_20, 0);
	*ret_begin = image.functions[GO_TLS_READ] - GO_IMAGE_ADDRESS - BEFORE;
	go_image__set_code(&image, start + BEFORE, (size_t)(end - start) - BEFORE);
	memcpy(image.bytes + *ret_begin, start, BEFORE);
	cr_assert_eq(go_image__sites(&image, GO_TLS_READ, emulated, &placement), 0, "%s",
		     placement.exit_reason);
	return placement;
}

#define EXPECT_DEFERRED(name, others)                                                              \
	do {                                                                                       \
		uint64_t begin;                                                                    \
		struct placement p = place(snippet_##name, snippet_##name##_end, &usual, &begin);  \
                                                                                                   \
		cr_assert_eq(p.exit_count, 1 + (others));                                          \
		cr_expect_eq(p.exits[0].class, SITE_EMULATED);                                     \
		cr_expect_eq(p.exits[0].offset, begin + (uint64_t)(exit_##name - snippet_##name)); \
		cr_expect_eq(p.exits[0].stack_bytes, 0x60 + 8 + 8);                                \
		cr_expect_eq(p.exits[0].closure_bytes, 0x40 + 8);                                  \
		cr_expect_eq(p.exits[0].result_bytes, 0x28 + 8);                                   \
		for (unsigned int i = 1; i < p.exit_count; i++)                                    \
			cr_expect(p.exits[i].class == SITE_STEPPED && !p.exits[i].closure_bytes);  \
	} while (0)

/* The returns themselves. */
#define EXPECT_RETURNS(name, count)                                                                \
	do {                                                                                       \
		uint64_t begin;                                                                    \
		struct placement p = place(snippet_##name, snippet_##name##_end, &usual, &begin);  \
                                                                                                   \
		cr_assert_eq(p.exit_count, count);                                                 \
		for (unsigned int i = 0; i < p.exit_count; i++)                                    \
			cr_expect(p.exits[i].class == SITE_STEPPED && !p.exits[i].closure_bytes);  \
	} while (0)

/* ---- what is taken ---- */

SNIPPET(plain, DEFERRED(plain), PREPARE, CALL RELOAD RETURN);
SNIPPET(nops, DEFERRED(nops), PREPARE,
	"mov 0x50(%rsp), %rdx\n nop\n mov (%rdx), %rax\n xchg %ax, %ax\n call *%rax\n" RELOAD
		RETURN);
SNIPPET(other_return, DEFERRED(other_return), "test %rcx, %rcx\n je 7f\n" PREPARE,
	CALL RELOAD RETURN "7: xor %eax, %eax\n" RETURN);
SNIPPET(two_returns, DEFERRED(two_returns), PREPARE "test %rcx, %rcx\n je 7f\n",
	CALL RELOAD RETURN "7: movq $0, 0x28(%rsp)\n" CALL RELOAD RETURN);
/* Of two, the first that is called. */
SNIPPET(two_deferred, DEFERRED(two_deferred),
	"lea elsewhere(%rip), %r8\n mov %r8, 0x10(%rsp)\n lea 0x10(%rsp), %r8\n mov %r8, "
	"0x8(%rsp)\n" PREPARE,
	CALL "movb $0, 0x1f(%rsp)\n mov 0x8(%rsp), %rdx\n mov (%rdx), %rax\n call *%rax\n" RELOAD
		RETURN);
/* Of two, the one that is understood: both returns come behind it. */
SNIPPET(one_understood, DEFERRED(one_understood),
	"lea elsewhere(%rip), %r8\n mov %r8, 0x10(%rsp)\n lea 0x10(%rsp), %r8\n xor %r9d, %r9d\n"
	"mov %r8, 0x8(%rsp)\n" PREPARE "test %rcx, %rcx\n je 7f\n",
	"mov 0x8(%rsp), %rdx\n mov (%rdx), %rax\n call *%rax\n" CALL RELOAD RETURN
	"7: movq $0, 0x28(%rsp)\n" CALL RELOAD RETURN);
/* The check computes the address that the closure will have, and forgets it. */
CHECKED(large_check, "lea -0x28(%rsp), %r12\n cmp 0x10(%r14), %r12\n", DEFERRED(large_check),
	PREPARE, CALL RELOAD RETURN);
SNIPPET(zeroed, DEFERRED(zeroed),
	"movups %xmm15, 0x40(%rsp)\n xor %r13d, %r13d\n mov %r13, 0x50(%rsp)\n" PREPARE,
	CALL RELOAD RETURN);

Test(go_defers, the_check_in_the_deferred_function_is_the_exit)
{
	EXPECT_DEFERRED(plain, 0);
	EXPECT_DEFERRED(nops, 0);
	EXPECT_DEFERRED(other_return, 1);
	EXPECT_DEFERRED(two_returns, 0);
	EXPECT_DEFERRED(two_deferred, 0);
	EXPECT_DEFERRED(one_understood, 0);
	EXPECT_DEFERRED(large_check, 0);
	EXPECT_DEFERRED(zeroed, 0);
}

Test(go_defers, a_kernel_that_emulates_nothing_has_the_returns)
{
	static const struct emulated nothing = {0};
	uint64_t begin;
	struct placement p = place(snippet_plain, snippet_plain_end, &nothing, &begin);

	cr_assert_eq(p.exit_count, 1);
	cr_expect_eq(p.exits[0].closure_bytes, 0);
}

/* ---- what is refused ---- */

SNIPPET(changed_after, DEFERRED(changed_after), PREPARE,
	CALL "movq $0, 0x28(%rsp)\n" RELOAD RETURN);
SNIPPET(changed_partly, DEFERRED(changed_partly), PREPARE,
	CALL "movb $0, 0x2f(%rsp)\n" RELOAD RETURN);
SNIPPET(changed_by_pointer, DEFERRED(changed_by_pointer), PREPARE,
	CALL "mov %rbx, 0x8(%rsi)\n" RELOAD RETURN);
SNIPPET(changed_by_string, DEFERRED(changed_by_string), PREPARE, CALL "rep stosq\n" RELOAD RETURN);
SNIPPET(changed_from_below, DEFERRED(changed_from_below), PREPARE,
	CALL "sub $0x60, %rsp\n mov %rbx, 0x88(%rsp)\n add $0x60, %rsp\n" RELOAD RETURN);
SNIPPET(result_elsewhere, DEFERRED(result_elsewhere), PREPARE, CALL "xor %eax, %eax\n" RETURN);
SNIPPET(result_added_to, DEFERRED(result_added_to), PREPARE, CALL RELOAD "inc %rax\n" RETURN);
SNIPPET(result_shared, DEFERRED(result_shared), "lea 0x28(%rsp), %r9\n" PREPARE,
	CALL RELOAD RETURN);
SNIPPET(jumped_over, DEFERRED(jumped_over), PREPARE "test %rcx, %rcx\n je 7f\n",
	CALL "7: " RELOAD RETURN);
SNIPPET(jumped_into, DEFERRED(jumped_into), PREPARE "test %rcx, %rcx\n je 7f\n",
	"movb $0, 0x1f(%rsp)\n mov 0x50(%rsp), %rdx\n 7: mov (%rdx), %rax\n call *%rax\n" RELOAD
		RETURN);
SNIPPET(called_elsewhere, DEFERRED(called_elsewhere), PREPARE CALL, CALL RELOAD RETURN);
SNIPPET(called_directly, DEFERRED(called_directly), PREPARE "lea 0x40(%rsp), %rdx\n call 1b\n",
	CALL RELOAD RETURN);
SNIPPET(called_by_register, DEFERRED(called_by_register),
	PREPARE "lea 0x40(%rsp), %rdx\n mov 0x40(%rsp), %rax\n call *%rax\n", CALL RELOAD RETURN);
SNIPPET(two_closures, DEFERRED(two_closures),
	"lea 0x10(%rsp), %rdi\n mov %rdi, 0x50(%rsp)\n" PREPARE, CALL RELOAD RETURN);
SNIPPET(two_functions, DEFERRED(two_functions),
	"lea elsewhere(%rip), %rdi\n mov %rdi, 0x40(%rsp)\n" PREPARE, CALL RELOAD RETURN);
SNIPPET(closure_given, DEFERRED(closure_given), "mov %rax, 0x50(%rsp)\n", CALL RELOAD RETURN);
SNIPPET(direct, DEFERRED(direct), PREPARE, "call elsewhere\n" RELOAD RETURN);
SNIPPET(large_frame, DEFERRED(large_frame), PREPARE "sub $0x2000, %rsp\n",
	"mov 0x2050(%rsp), %rdx\n mov (%rdx), %rax\n call *%rax\n mov 0x2028(%rsp), %rax\n"
	"add $0x2000, %rsp\n" RETURN);

Test(go_defers, a_function_that_does_it_otherwise_has_its_returns)
{
	EXPECT_RETURNS(changed_after, 1);
	EXPECT_RETURNS(changed_partly, 1);
	EXPECT_RETURNS(changed_by_pointer, 1);
	EXPECT_RETURNS(changed_by_string, 1);
	EXPECT_RETURNS(changed_from_below, 1);
	EXPECT_RETURNS(result_elsewhere, 1);
	EXPECT_RETURNS(result_added_to, 1);
	EXPECT_RETURNS(result_shared, 1);
	EXPECT_RETURNS(jumped_over, 1);
	EXPECT_RETURNS(jumped_into, 1);
	EXPECT_RETURNS(called_elsewhere, 1);
	EXPECT_RETURNS(called_directly, 1);
	EXPECT_RETURNS(called_by_register, 1);
	EXPECT_RETURNS(two_closures, 1);
	EXPECT_RETURNS(two_functions, 1);
	EXPECT_RETURNS(closure_given, 1);
	EXPECT_RETURNS(direct, 1);
	EXPECT_RETURNS(large_frame, 1);
}

#define ANEW "2: call elsewhere\n jmp 1b\n"

SNIPPET(no_check, "1: mov 0x8(%rdx), %rax\n ret\n", PREPARE, CALL RELOAD RETURN);
SNIPPET(other_condition, "1: cmp 0x10(%r14), %rsp\n jne 2f\n ret\n" ANEW, PREPARE,
	CALL RELOAD RETURN);
SNIPPET(check_after_push, "1: push %rbp\n cmp 0x10(%r14), %rsp\n jbe 2f\n pop %rbp\n ret\n" ANEW,
	PREPARE, CALL RELOAD RETURN);
SNIPPET(closure_lost, "1: xor %edx, %edx\n cmp 0x10(%r14), %rsp\n jbe 2f\n ret\n" ANEW, PREPARE,
	CALL RELOAD RETURN);
SNIPPET(goes_on, "1: cmp 0x10(%r14), %rsp\n jbe 2f\n ret\n 2: call elsewhere\n jmp 2b\n", PREPARE,
	CALL RELOAD RETURN);
SNIPPET(asks_nobody, "1: cmp 0x10(%r14), %rsp\n jbe 2f\n ret\n 2: jmp 1b\n", PREPARE,
	CALL RELOAD RETURN);
SNIPPET(returns_instead, "1: cmp 0x10(%r14), %rsp\n jbe 2f\n ret\n 2: call elsewhere\n ret\n",
	PREPARE, CALL RELOAD RETURN);
SNIPPET(no_instruction, "1: .byte 0x06\n", PREPARE, CALL RELOAD RETURN);

Test(go_defers, a_deferred_function_without_its_check_is_left_alone)
{
	EXPECT_RETURNS(no_check, 1);
	EXPECT_RETURNS(other_condition, 1);
	EXPECT_RETURNS(check_after_push, 1);
	EXPECT_RETURNS(closure_lost, 1);
	EXPECT_RETURNS(goes_on, 1);
	EXPECT_RETURNS(asks_nobody, 1);
	EXPECT_RETURNS(returns_instead, 1);
	EXPECT_RETURNS(no_instruction, 1);
}

/* ---- a real program ---- */

/* The instruction at an address, by binutils, up to its first blank: "jbe". */
static void mnemonic_at(uint64_t address, char *ret_mnemonic)
{
	char command[256], line[512];
	unsigned long at;
	FILE *pipe;

	snprintf(command, sizeof(command),
		 "objdump -d --no-show-raw-insn --start-address=%#lx --stop-address=%#lx %s",
		 address, address + 16, GO_PROGRAM);
	pipe = popen(command, "r");
	cr_assert(pipe);
	*ret_mnemonic = 0;
	while (fgets(line, sizeof(line), pipe))
		if (!*ret_mnemonic && sscanf(line, " %lx: %15s", &at, ret_mnemonic) == 2)
			cr_expect_eq(at, address);
	cr_assert_eq(pclose(pipe), 0);
}

Test(go_defers, a_real_program_has_them)
{
	int fd = open(GO_PROGRAM, O_RDONLY | O_CLOEXEC);
	struct placement placement;
	struct elf_file *file;
	struct go_code code;
	char mnemonic[16];

	cr_assert_geq(fd, 0, "%s, see scripts/setup", GO_PROGRAM);
	cr_assert_eq(elf_file__open(fd, &file), 0);
	cr_assert_eq(elf_file__go_code(file, &code), 0);
	for (int f = GO_TLS_READ; f <= GO_TLS_WRITE; f++) {
		const struct go_function_code *function = &code.functions[f];

		cr_assert_eq(go_sites__find(file, fd, &code, f, &usual, &placement), 0);
		cr_assert_gt(placement.exits[0].closure_bytes, 0);
		mnemonic_at(placement.exits[0].offset - function->offset + function->address,
			    mnemonic);
		cr_expect_str_eq(mnemonic, "jbe");
		/* Those of no bytes to read, of a handshake that failed, and after a panic. */
		cr_expect_eq(placement.exit_count, 4, "%u", placement.exit_count);
	}
	elf_file__close(file);
	close(fd);
}

#endif
