/* SPDX-License-Identifier: BSD-2-Clause */
/* libnghttp2's code in a file. See nghttp2.h. */
#include "nghttp2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "elf_file.h"
#include "machine.h"

enum {
	MEM_RECV,
	MEM_RECV2,
	MEM_SEND,
	MEM_SEND2,
	SESSION_SEND,
	SEND_INTERNAL, /* where there are symbols of static functions */
	INFLATE_SIZE,
	DEFLATE_SIZE,
	FUNCTION_COUNT,
};

static const char prefix[] = "nghttp2_session_";

static const char *const names[FUNCTION_COUNT] = {
	[MEM_RECV] = "mem_recv",
	[MEM_RECV2] = "mem_recv2",
	[MEM_SEND] = "mem_send",
	[MEM_SEND2] = "mem_send2",
	[SESSION_SEND] = "send",
	[SEND_INTERNAL] = "mem_send_internal",
	[INFLATE_SIZE] = "get_hd_inflate_dynamic_table_size",
	[DEFLATE_SIZE] = "get_hd_deflate_dynamic_table_size",
};

/* struct nghttp2_hd_context: where hd_table_bufsize is. */
#define SIZE_IN_CONTEXT 40

/* No session is larger: what a getter would say beyond is something else. */
#define SESSION_MAX_BYTES 16384

/* Calls in one function. */
#define CALLS_MAX 64

/* What takes a frame off the queue and packs it is not shorter: stubs of a linkage table are. */
#define SEND_MIN_BYTES 256

struct search {
	struct elf_function functions[FUNCTION_COUNT]; /* address 0: not seen */
};

struct calls {
	uint64_t targets[CALLS_MAX];
	uint64_t returns[CALLS_MAX]; /* addresses of sites behind them */
	size_t count;
};

static int search__note(void *context, const struct elf_function *function)
{
	struct search *search = context;

	if (strncmp(function->name, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	for (int i = 0; i < FUNCTION_COUNT; i++) {
		if (strcmp(function->name + sizeof(prefix) - 1, names[i]) != 0)
			continue;
		search->functions[i] = *function;
		search->functions[i].name = names[i];
	}
	return 0;
}

/*
 * Where a getter looks for the table, from what its argument points to: it adds that and jumps to
 * the table's own getter, or has taken that in and loads the size. -ENOENT when it is another code.
 */
static int code__table_at(const struct code_part *code, uint32_t *ret_at)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	static const uint8_t add[] = {0x48, 0x81, 0xc7}, lea[] = {0x48, 0x8d, 0xbf};
	static const uint8_t load[] = {0x48, 0x8b, 0x87};
	const uint8_t *bytes = code->code;
	size_t size = code->size;
	bool is_load;
	uint32_t at;

	if (size >= sizeof(endbr64) && !memcmp(bytes, endbr64, sizeof(endbr64))) {
		bytes += sizeof(endbr64);
		size -= sizeof(endbr64);
	}
	if (size < sizeof(load) + sizeof(at) + 1)
		return -ENOENT;
	is_load = !memcmp(bytes, load, sizeof(load));
	if (!is_load && memcmp(bytes, add, sizeof(add)) != 0 &&
	    memcmp(bytes, lea, sizeof(lea)) != 0)
		return -ENOENT;
	memcpy(&at, bytes + sizeof(load), sizeof(at));
	bytes += sizeof(load) + sizeof(at);
	/* ret; or jmp, direct or by the linkage table */
	if (is_load ? *bytes != 0xc3 : *bytes != 0xe9 && *bytes != 0xeb && *bytes != 0xff)
		return -ENOENT;
	if (is_load && at < SIZE_IN_CONTEXT)
		return -ENOENT;
	at -= is_load ? SIZE_IN_CONTEXT : 0;
	if (at > SESSION_MAX_BYTES || at % sizeof(void *))
		return -ENOENT;
	*ret_at = at;
	return 0;
}

static int file__table_at(const struct elf_file *file, int fd, const struct elf_function *getter,
			  uint32_t *ret_at)
{
	struct code_part code;
	int err;

	if (!getter->address)
		return -ENOENT;
	err = function_code__read(file, fd, getter, &code);
	if (err)
		return err == -ENOMEM ? err : -ENOENT;
	err = code__table_at(&code, ret_at);
	free(code.code);
	return err;
}

/* Whether code jumps to behind `from`, up to `to`. */
static bool code__jumps_between(const struct code_part *code, size_t from, size_t to)
{
	struct instruction instruction;

	for (size_t at = 0; at < code->size; at += instruction.length) {
		if (code->machine->decode(code->code, code->size, at, &instruction))
			break;
		if ((instruction.flow == FLOW_JUMP || instruction.flow == FLOW_BRANCH) &&
		    instruction.target > (int64_t)from && instruction.target <= (int64_t)to)
			return true;
	}
	return false;
}

/*
 * Where behind a call, which returns to `from`, its result is probed: at an instruction that the
 * kernel emulates, where there is one in the straight line (often the jump that tests the result).
 */
static size_t code__site_behind(const struct code_part *code, size_t from,
				const struct emulated *emulated)
{
	struct instruction instruction;

	for (size_t at = from; at < code->size; at += instruction.length) {
		if (code->machine->decode(code->code, code->size, at, &instruction))
			break;
		if (emulated__covers(emulated, instruction.class))
			return code__jumps_between(code, from, at) ? from : at;
		if (instruction.flow != FLOW_NEXT || instruction.writes_result ||
		    instruction.stack != STACK_KEPT)
			break;
	}
	return from;
}

/* The functions that one calls directly, in the straight reading of its code. */
static int file__calls(const struct elf_file *file, int fd, const struct elf_function *function,
		       const struct emulated *emulated, struct calls *ret_calls)
{
	struct instruction instruction;
	struct code_part code;
	int err;

	ret_calls->count = 0;
	if (!function->address)
		return 0;
	err = function_code__read(file, fd, function, &code);
	if (err)
		return err == -ENOMEM ? err : 0;
	for (size_t at = 0; at < code.size; at += instruction.length) {
		if (code.machine->decode(code.code, code.size, at, &instruction))
			break;
		if (instruction.flow != FLOW_CALL || ret_calls->count == CALLS_MAX)
			continue;
		ret_calls->targets[ret_calls->count] =
			function->address + (uint64_t)instruction.target;
		ret_calls->returns[ret_calls->count++] =
			function->address +
			code__site_behind(&code, at + instruction.length, emulated);
	}
	free(code.code);
	return 0;
}

static bool calls__have(const struct calls *calls, uint64_t target)
{
	for (size_t i = 0; i < calls->count; i++)
		if (calls->targets[i] == target)
			return true;
	return false;
}

/* The one function that both call, and that begins where it is called. Address 0: none, or two. */
static struct elf_function file__common_callee(const struct elf_file *file, const struct calls *a,
					       const struct calls *b)
{
	struct elf_function found = {0};

	for (size_t i = 0; i < a->count; i++) {
		uint64_t target = a->targets[i], start, size;

		if (target == found.address || !calls__have(b, target) ||
		    elf_file__unwind_range(file, target, &start, &size) || start != target ||
		    size < SEND_MIN_BYTES)
			continue;
		if (found.address)
			return (struct elf_function){0};
		found = (struct elf_function){
			.name = names[SEND_INTERNAL],
			.address = target,
			.size = size,
		};
	}
	return found;
}

/* Whether it is a stub of a linkage table, whose unwind range may begin with it. */
static bool file__is_stub(const struct elf_file *file, int fd, const struct elf_function *function)
{
	struct instruction instruction = {0};
	struct code_part code;
	size_t at = 0;
	bool is_stub;

	if (function_code__read(file, fd, function, &code))
		return false;
	is_stub = code.machine->decode(code.code, code.size, 0, &instruction);
	if (!is_stub && instruction.is_landing) {
		at = instruction.length;
		is_stub = code.machine->decode(code.code, code.size, at, &instruction);
	}
	is_stub |= instruction.flow != FLOW_NEXT;
	free(code.code);
	return is_stub;
}

/* Where the entry's probe of a function goes. 0; -ENOENT when that cannot be told; -ENOMEM. */
static int file__entry(const struct elf_file *file, int fd, const struct elf_function *function,
		       unsigned int arguments, const struct emulated *emulated,
		       struct placement_site *ret_site)
{
	struct placement_site first = {.class = SITE_STEPPED};
	struct placement placement;
	struct code_part code;
	int err;

	if (elf_file__offset(file, function->address, &first.offset))
		return -ENOENT;
	err = function_code__read(file, fd, function, &code);
	if (err == -ENOMEM)
		return err;
	*ret_site = first;
	if (err)
		return 0; /* too large to be analysed: its first byte */
	err = placement__find(&code, NULL, arguments, false, emulated, &placement);
	if (!err)
		*ret_site = placement.entry;
	free(code.code);
	return err;
}

/* The function that gives bytes out, and its returns, if it can be told. 0 or -errno. */
static int file__send(const struct elf_file *file, int fd, const struct search *search,
		      const struct emulated *emulated, struct nghttp2_code *code)
{
	static const int callers[] = {SESSION_SEND, MEM_SEND, MEM_SEND2};
	struct elf_function send = search->functions[SEND_INTERNAL];
	struct calls calls[3];
	int err = 0;

	for (size_t i = 0; i < 3 && !err; i++)
		err = file__calls(file, fd, &search->functions[callers[i]], emulated, &calls[i]);
	for (size_t i = 1; i < 3 && !err && !send.address; i++)
		send = file__common_callee(file, &calls[0], &calls[i]);
	if (err || !send.address || file__is_stub(file, fd, &send))
		return err;
	err = file__entry(file, fd, &send, 2, emulated, &code->send);
	for (size_t i = 0; i < 3 && !err; i++) {
		for (size_t j = 0; j < calls[i].count && code->return_count < NGHTTP2_RETURNS; j++)
			if (calls[i].targets[j] == send.address &&
			    !elf_file__offset(file, calls[i].returns[j],
					      &code->returns[code->return_count]))
				code->return_count++;
	}
	return err;
}

int nghttp2_code__find(struct elf_file *file, int fd, const struct emulated *emulated,
		       struct nghttp2_code *ret_code)
{
	struct nghttp2_code code = {0};
	struct search search = {0};
	int err = -ENOENT;

	if (elf_file__machine(file)->knows_c)
		err = elf_file__each_function(file, search__note, &search);
	if (!err)
		err = file__table_at(file, fd, &search.functions[INFLATE_SIZE], &code.inflater_at);
	if (!err)
		err = file__table_at(file, fd, &search.functions[DEFLATE_SIZE], &code.deflater_at);
	if (!err && code.inflater_at == code.deflater_at)
		err = -ENOENT;
	for (int i = MEM_RECV; i <= MEM_RECV2 && !err; i++) {
		const struct elf_function *receive = &search.functions[i];

		if (receive->address)
			err = file__entry(file, fd, receive, 3, emulated,
					  &code.receives[code.receive_count++]);
	}
	if (!err && !code.receive_count)
		err = -ENOENT;
	if (!err)
		err = file__send(file, fd, &search, emulated, &code);
	if (!err)
		*ret_code = code;
	return err;
}
