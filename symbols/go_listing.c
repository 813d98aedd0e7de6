/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instructions of a Go function. See go_listing.h.
 */
#include "go_listing.h"

#include <errno.h>
#include <stdlib.h>

#include "machine.h"

bool listing__is_emulated(const struct listing *listing, const struct step *step)
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

int listing__read(struct listing *listing, const struct elf_file *file, int fd,
		  const struct elf_function *function, const struct emulated *emulated)
{
	int err;

	*listing = (struct listing){.emulated = emulated};
	err = function_code__read(file, fd, function, &listing->code);
	if (err)
		return err;
	listing->steps = calloc(listing->code.size, sizeof(*listing->steps));
	listing->index = calloc(listing->code.size, sizeof(*listing->index));
	if (!listing->steps || !listing->index)
		return -ENOMEM;
	err = listing__decode(listing);
	if (!err)
		err = listing__follow(listing);
	return err ? err : listing__measure(listing);
}

void listing__free(struct listing *listing)
{
	free(listing->index);
	free(listing->steps);
	free(listing->code.code);
}

struct placement_site listing__site(const struct listing *listing, const struct step *step)
{
	return (struct placement_site){
		.offset = listing->code.file_offset + step->at,
		.stack_bytes = (uint32_t)step->depth,
		.class = listing__is_emulated(listing, step) ? SITE_EMULATED : SITE_STEPPED,
	};
}
