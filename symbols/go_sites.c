/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the probes of a Go function go. See go.h.
 *
 * Code that Go's compiler made is simpler than what placement.c is for. It has no data between
 * instructions, so that all of a function can be decoded from front to back and every return
 * instruction is seen, whatever leads there. Its stack frame has one size from the prologue to each
 * epilogue. A function is left by its returns only, but for the calls that ask for a larger stack
 * and come back to its first byte. Each of these is checked here, and a function of which it is not
 * true gets no probes: a uretprobe, the way out elsewhere, would crash the program when its
 * stack is moved.
 *
 *   entry  The jump that prologues have for a stack that is too small (cmp 0x10(%r14),%rsp; jbe;
 *	    on arm64 ldr x16, [x28, #16]; cmp sp, x16; b.ls) is emulated by all kernels, and all
 *	    arguments are in place there. Else the first byte.
 *   exits  The return instructions; or, where this kernel emulates it, the instruction before that
 *	    gives the frame back (add $N,%rsp). On arm64 the returns are emulated themselves.
 */
#include "go.h"

#include <errno.h>
#include <stdlib.h>

#include "instruction.h"
#include "machine.h"

/* Arguments that probes read: receiver, buffer and length. */
#define ARGUMENTS 3

struct step {
	struct instruction instruction;
	uint32_t at;
	int32_t depth;	/* stack pointer at the entry, less before this instruction */
	bool is_target; /* of a jump */
};

struct listing {
	struct code_part code;
	const struct emulated *emulated; /* NULL: of no interest */
	struct step *steps;
	size_t count;
	uint32_t *index; /* of the step that begins at a byte, plus 1; 0: none does */
	bool has_table;	 /* a jump to what a table has */
	const char *odd; /* why there can be no probes */
};

static bool is_emulated(const struct listing *listing, const struct step *step)
{
	/* Kernels turn a 5-byte nop into a call, which not every place can bear. */
	return listing->emulated && step->instruction.class != CLASS_NOP5 &&
	       emulated__covers(listing->emulated, step->instruction.class);
}

static int listing__decode(struct listing *listing)
{
	size_t at;
	struct step *step;

	for (at = 0; at < listing->code.size; at += step->instruction.length) {
		step = &listing->steps[listing->count];
		step->at = (uint32_t)at;
		if (listing->code.machine->decode(listing->code.code, listing->code.size, at,
						  &step->instruction)) {
			listing->odd = "it has bytes that are no known instruction";
			return -EBADMSG;
		}
		listing->index[at] = (uint32_t)++listing->count;
	}
	return 0;
}

/* Notes where jumps go. */
static int listing__follow(struct listing *listing)
{
	const struct instruction *instruction;
	const struct step *last = &listing->steps[listing->count - 1];
	bool inside;
	size_t i;

	for (i = 0; i < listing->count; i++) {
		instruction = &listing->steps[i].instruction;
		if (instruction->flow == FLOW_JUMP_UNKNOWN)
			listing->has_table = true;
		if (instruction->flow != FLOW_JUMP && instruction->flow != FLOW_BRANCH &&
		    instruction->flow != FLOW_CALL)
			continue;
		inside = instruction->target >= 0 &&
			 instruction->target < (int64_t)listing->code.size;
		if (instruction->flow == FLOW_CALL && (!inside || instruction->target == 0))
			continue;
		if (!inside) {
			listing->odd = "it jumps to another function";
			return -ENOTSUP;
		}
		if (!listing->index[instruction->target]) {
			listing->odd = "it jumps between instructions";
			return -EBADMSG;
		}
		if (instruction->flow == FLOW_CALL) {
			listing->odd = "it calls into itself";
			return -ENOTSUP;
		}
		listing->steps[listing->index[instruction->target] - 1].is_target = true;
	}
	if ((last->instruction.flow == FLOW_NEXT && !last->instruction.is_padding) ||
	    last->instruction.flow == FLOW_BRANCH) {
		listing->odd = "it runs on into the next function";
		return -ENOTSUP;
	}
	return 0;
}

/* Finds the depth of the stack at each instruction, and that it is 0 at all returns. */
static int listing__measure(struct listing *listing)
{
	int64_t depth = 0, deepest = 0;
	struct step *step;
	size_t i;

	for (i = 0; i < listing->count; i++) {
		step = &listing->steps[i];
		step->depth = (int32_t)depth;
		switch (step->instruction.stack) {
		case STACK_KEPT:
			break;
		case STACK_MOVED:
			depth += step->instruction.stack_bytes;
			break;
		case STACK_FROM_FRAME:
		case STACK_LOST:
			listing->odd = "its stack is not understood";
			return -ENOTSUP;
		}
		if (depth < 0 || depth > INT32_MAX) {
			listing->odd = "its stack is not understood";
			return -ENOTSUP;
		}
		if (depth > deepest)
			deepest = depth;
		if (step->instruction.flow == FLOW_RETURN) {
			if (depth != 0) {
				listing->odd = "its stack is not understood";
				return -ENOTSUP;
			}
			/* What is behind comes from where the frame is there. */
			depth = deepest;
		}
		if (step->instruction.flow == FLOW_JUMP_UNKNOWN && depth == 0) {
			listing->odd = "it ends in a call of another function (tail call)";
			return -ENOTSUP;
		}
	}
	return 0;
}

static struct placement_site listing__site(const struct listing *listing, const struct step *step)
{
	return (struct placement_site){
		.offset = listing->code.file_offset + step->at,
		.stack_bytes = (uint32_t)step->depth,
		.class = is_emulated(listing, step) ? SITE_EMULATED : SITE_STEPPED,
	};
}

static int listing__entry(struct listing *listing, enum go_abi abi, struct placement *placement)
{
	const uint32_t argument_registers = listing->code.machine->go_arguments;
	const struct step *step;
	size_t i;

	for (i = 0; i < listing->count; i++) {
		step = &listing->steps[i];
		if (i > 0 && step->is_target)
			break;
		if (is_emulated(listing, step) && step->instruction.flow != FLOW_RETURN) {
			placement->entry_reason =
				"the first emulated instruction with all arguments in place";
			placement->entry = listing__site(listing, step);
			return 0;
		}
		if (step->instruction.flow != FLOW_NEXT ||
		    (abi == GO_ABI_REGISTERS &&
		     step->instruction.registers_written & argument_registers))
			break;
	}
	if (listing->steps[0].instruction.class == CLASS_REFUSED) {
		listing->odd = "the kernel allows no probe at its begin";
		return -ENOTSUP;
	}
	placement->entry_reason = listing->emulated
					  ? "no emulated instruction with all arguments in place"
					  : "asked for";
	placement->entry = listing__site(listing, &listing->steps[0]);
	return 0;
}

/*
 * The exit site for a return: an emulated instruction that only this return can follow, and behind
 * which nothing but the stack and frame pointers change; else the return itself.
 */
static const struct step *listing__exit(const struct listing *listing, const struct step *at_return)
{
	const uint32_t pointers = listing->code.machine->go_pointers;
	const struct step *step = at_return;

	/* Where a table's jump goes is not known. */
	while (!listing->has_table && step > listing->steps && !step->is_target) {
		step--;
		if (step->instruction.flow != FLOW_NEXT || step->instruction.class == CLASS_PUSH ||
		    step->instruction.registers_written == 0 ||
		    step->instruction.registers_written & ~pointers)
			break;
		if (is_emulated(listing, step))
			return step;
	}
	return at_return;
}

static int listing__exits(struct listing *listing, struct placement *placement)
{
	const struct step *step;
	bool early = false;
	size_t i;

	for (i = 0; i < listing->count; i++) {
		if (listing->steps[i].instruction.flow != FLOW_RETURN)
			continue;
		if (placement->exit_count == PLACEMENT_MAX_EXITS) {
			listing->odd = "it has too many returns";
			return -ENOTSUP;
		}
		step = listing__exit(listing, &listing->steps[i]);
		early |= step != &listing->steps[i];
		placement->exits[placement->exit_count++] = listing__site(listing, step);
	}
	if (placement->exit_count == 0) {
		listing->odd = "it never returns";
		return -ENOTSUP;
	}
	placement->exit_kind = EXIT_SITES;
	placement->exit_reason = early ? "emulated instructions before its returns"
				 : placement->exits[0].class == SITE_EMULATED
					 ? "its returns, which are emulated"
					 : "no emulated instruction before the returns";
	return 0;
}

int go_sites__find(const struct elf_file *file, int fd, const struct go_code *code,
		   enum go_function function, const struct emulated *emulated,
		   struct placement *ret_placement)
{
	const struct elf_function found = {
		.name = go_function__name(function),
		.address = code->functions[function].address,
		.size = code->functions[function].size,
	};
	struct listing listing = {.emulated = emulated};
	struct placement placement = {0};
	int err;

	*ret_placement = (struct placement){
		.exit_reason = "its code cannot be read as a whole",
	};
	if (!code->functions[function].offset)
		return -ENOENT;
	err = function_code__read(file, fd, &found, &listing.code);
	if (err)
		return err;
	listing.steps = calloc(listing.code.size, sizeof(*listing.steps));
	listing.index = calloc(listing.code.size, sizeof(*listing.index));
	err = -ENOMEM;
	if (!listing.steps || !listing.index)
		goto out;
	err = listing__decode(&listing);
	if (!err)
		err = listing__follow(&listing);
	if (!err)
		err = listing__measure(&listing);
	if (!err)
		err = listing__exits(&listing, &placement);
	if (!err)
		err = listing__entry(&listing, code->abi, &placement);
	if (err)
		goto out;
	placement.uretprobe = listing__site(&listing, &listing.steps[0]);
	placement.keeps_arguments =
		listing.code.machine->go_keeps_arguments(listing.code.code, listing.code.size,
							 code->abi, ARGUMENTS);
	*ret_placement = placement;
out:
	if (listing.odd)
		ret_placement->exit_reason = listing.odd;
	free(listing.index);
	free(listing.steps);
	free(listing.code.code);
	return err;
}

int go_sites__find_all(const struct elf_file *file, int fd, const struct go_code *code,
		       const struct emulated *emulated, struct go_sites *ret_sites,
		       enum go_function *ret_odd)
{
	*ret_sites = (struct go_sites){0};
	for (int f = GO_TLS_READ; f <= GO_TLS_SERVER_HANDSHAKE; f++) {
		struct placement *placement = &ret_sites->placement[f];
		bool moves_data = f == GO_TLS_READ || f == GO_TLS_WRITE;
		int err = go_sites__find(file, fd, code, f, emulated, placement);

		ret_sites->wanted[f] = !err;
		if (err && moves_data) {
			*ret_odd = f;
			return err;
		}
		if (!moves_data)
			placement->exit_kind = EXIT_NONE;
	}
	return 0;
}

int go_hpack_sites__find(const struct elf_file *file, int fd, const struct go_code *code,
			 const struct emulated *emulated, struct go_hpack_sites *ret_sites)
{
	static const enum go_function decoders[] = {GO_HPACK_DECODER_WRITE,
						    GO_XNET_HPACK_DECODER_WRITE};
	static const enum go_function encoders[] = {GO_HPACK_ENCODER_WRITE_FIELD,
						    GO_XNET_HPACK_ENCODER_WRITE_FIELD};
	struct go_hpack_sites sites = {0};
	struct placement placement;
	int err = go_sites__find(file, fd, code, GO_TLS_WRITE, emulated, &placement);

	if (err)
		return err == -ENOMEM ? err : -ENOENT;
	sites.write = placement.entry;
	for (int i = 0; i < 2; i++) {
		err = go_sites__find(file, fd, code, decoders[i], emulated, &placement);
		if (err == -ENOMEM)
			return err;
		if (!err)
			sites.decoders[sites.decoder_count++] = placement.entry;
		err = go_sites__find(file, fd, code, encoders[i], emulated, &placement);
		if (err == -ENOMEM)
			return err;
		if (!err)
			sites.encoders[sites.encoder_count++] = placement.entry;
	}
	if (!sites.decoder_count && !sites.encoder_count)
		return -ENOENT;
	*ret_sites = sites;
	return 0;
}
