/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exits in deferred functions, on x86-64. See go_defers.h.
 */
#include "go_defers.h"

#include <errno.h>
#include <stdlib.h>

#include "x86.h"

#define WORD 8
/* Of a deferred function, as much as its check and what that leads to may have. */
#define FUNCTION_BYTES 128
/* More than that of a frame has no room in what a probe can be told. */
#define MAX_DISTANCE (1023 * WORD)

static bool is_load(const struct step *step, int base, int reg)
{
	const struct memory_operand *memory = &step->instruction.memory;

	return step->instruction.flow == FLOW_NEXT && memory->use == MEMORY_READ &&
	       memory->base == base && memory->reg == reg && memory->bytes == WORD;
}

/* Where the step's memory is above the stack pointer of a call at `depth`, if in the frame. */
static bool place_in_frame(const struct step *step, int32_t depth, int64_t *ret_place)
{
	const struct memory_operand *memory = &step->instruction.memory;

	*ret_place = memory->distance + depth - step->depth;
	return memory->use != MEMORY_UNUSED && memory->base == RSP;
}

/* The step's use of the word at `distance` above the stack pointer of a call at `depth`. */
static enum memory_use use_of(const struct step *step, int32_t depth, int64_t distance)
{
	const struct memory_operand *memory = &step->instruction.memory;
	int64_t place;

	/* The check for a large frame computes an address below, compares it and forgets it. */
	if (memory->use == MEMORY_ADDRESS && memory->distance < 0)
		return MEMORY_UNUSED;
	return place_in_frame(step, depth, &place) && place == distance ? memory->use
									: MEMORY_UNUSED;
}

/* Whether it writes the word there, or may. */
static bool may_write(const struct step *step, int32_t depth, int64_t distance)
{
	int64_t place;

	if (step->instruction.memory.use != MEMORY_WRITTEN)
		return false;
	return !place_in_frame(step, depth, &place) ||
	       (place < distance + WORD && place + step->instruction.memory.bytes > distance);
}

/*
 * The instruction before, in the straight line, NULL when others lead here too. Compilers put nops
 * before some calls and branches, so that these do not lie across a cache line's end.
 */
static const struct step *step_before(const struct listing *listing, const struct step *step)
{
	do {
		if (step == listing->steps || step->is_target)
			return NULL;
		step--;
	} while (step->instruction.is_padding && step->instruction.flow == FLOW_NEXT);
	return step;
}

/*
 * The slot whose closure is called at `call`: mov slot(%rsp),%rdx; mov (%rdx),%reg; call *%reg. The
 * first of these three, NULL when it is no such call.
 */
static const struct step *slot_of_call(const struct listing *listing, const struct step *call,
				       int32_t *ret_slot)
{
	const struct step *load, *slot;

	if (call->instruction.flow != FLOW_CALL_UNKNOWN)
		return NULL;
	load = step_before(listing, call);
	slot = load ? step_before(listing, load) : NULL;
	if (!slot || !is_load(slot, RSP, RDX) || load->instruction.memory.reg < 0 ||
	    load->instruction.memory.distance != 0 ||
	    !is_load(load, RDX, load->instruction.memory.reg) ||
	    slot->instruction.memory.distance < 0 ||
	    slot->instruction.memory.distance > MAX_DISTANCE)
		return NULL;
	*ret_slot = (int32_t)slot->instruction.memory.distance;
	return slot;
}

/*
 * What is stored in the word at `distance` above the stack pointer, where the instruction before
 * computes it: an address from `base`. All of these must be the same. What else is stored there are
 * zeros, before the calls are deferred.
 */
static bool address_in(const struct listing *listing, int32_t depth, int64_t distance, int base,
		       int64_t *ret_address)
{
	bool found = false;
	int64_t value;

	for (size_t i = 0; i < listing->count; i++) {
		const struct step *step = &listing->steps[i], *before = step_before(listing, step);
		const struct memory_operand *address = before ? &before->instruction.memory : NULL;

		if (!before || use_of(step, depth, distance) != MEMORY_WRITTEN ||
		    step->instruction.memory.reg < 0 || address->use != MEMORY_ADDRESS ||
		    address->reg != step->instruction.memory.reg || address->base != base)
			continue;
		value = address->distance;
		if (base == RSP)
			place_in_frame(before, depth, &value);
		if (found && value != *ret_address)
			return false;
		*ret_address = value;
		found = true;
	}
	return found;
}

/* Whether nobody has the address of the word, through which it might be changed. */
static bool is_private(const struct listing *listing, int32_t depth, int64_t distance)
{
	for (size_t i = 0; i < listing->count; i++)
		if (use_of(&listing->steps[i], depth, distance) == MEMORY_ADDRESS)
			return false;
	return true;
}

/* Completes a defer whose .slot and .result are known. */
static bool go_defer__resolve(struct go_defer *defer, const struct listing *listing)
{
	int64_t closure, function;

	if (!is_private(listing, defer->depth, defer->result) ||
	    !address_in(listing, defer->depth, defer->slot, RSP, &closure) || closure < 0 ||
	    closure > MAX_DISTANCE - WORD ||
	    !address_in(listing, defer->depth, closure, MEMORY_IN_CODE, &function))
		return false;
	defer->closure = (int32_t)closure;
	defer->function = function;
	return true;
}

bool go_defer__before(const struct listing *listing, const struct step *at_return,
		      struct go_defer *ret_defer)
{
	struct go_defer defer = {.result = -1};
	const struct step *step = at_return, *load;
	bool found = false;
	int32_t slot;

	while (!listing->has_table && (step = step_before(listing, step))) {
		load = slot_of_call(listing, step, &slot);
		if (load) {
			if (defer.result < 0 || step->depth != defer.depth)
				break;
			defer.slot = slot;
			if (go_defer__resolve(&defer, listing)) {
				*ret_defer = defer;
				found = true;
			}
			step = load;
			continue;
		}
		if (step->instruction.flow != FLOW_NEXT)
			break;
		if (defer.result >= 0) {
			if (may_write(step, defer.depth, defer.result))
				break;
			continue;
		}
		if (is_load(step, RSP, RAX) && step->instruction.memory.distance >= 0 &&
		    step->instruction.memory.distance <= MAX_DISTANCE - WORD) {
			defer.result = (int32_t)step->instruction.memory.distance;
			defer.depth = step->depth;
		} else if (step->instruction.registers_written & 1 << RAX ||
			   step->instruction.memory.use == MEMORY_WRITTEN) {
			break;
		}
	}
	return found;
}

/* Whether the closure's address, which `step` computes, goes to its slot at once. */
static bool is_stored(const struct listing *listing, const struct step *step,
		      const struct go_defer *defer)
{
	const struct step *end = listing->steps + listing->count, *next = step + 1;

	while (next < end && next->instruction.is_padding && next->instruction.flow == FLOW_NEXT)
		next++;
	return next < end && use_of(next, defer->depth, defer->slot) == MEMORY_WRITTEN &&
	       next->instruction.memory.reg == step->instruction.memory.reg;
}

unsigned int go_defer__uses(const struct listing *listing, const struct go_defer *defer)
{
	unsigned int uses = 0;

	for (size_t i = 0; i < listing->count; i++) {
		const struct step *step = &listing->steps[i];
		enum memory_use closure = use_of(step, defer->depth, defer->closure);

		uses += use_of(step, defer->depth, defer->slot) == MEMORY_READ;
		uses += closure == MEMORY_READ ||
			(closure == MEMORY_ADDRESS && !is_stored(listing, step, defer));
		uses += step->instruction.flow == FLOW_CALL &&
			step->instruction.target == defer->function;
	}
	return uses;
}

/* Whether what is at `at` asks for a larger stack and then begins anew. */
static bool begins_anew(const struct code_part *code, int64_t at)
{
	struct instruction instruction;

	for (bool called = false; at >= 0 && at < (int64_t)code->size; at += instruction.length) {
		if (x86__decode(code->code, code->size, (size_t)at, &instruction))
			return false;
		if (instruction.flow == FLOW_JUMP)
			return called && instruction.target == 0;
		if (instruction.flow != FLOW_NEXT && (called || instruction.flow != FLOW_CALL))
			return false;
		called |= instruction.flow == FLOW_CALL;
	}
	return false;
}

/*
 * Finds the check of the stack's size, with the stack as it was at the entry. It is the one place
 * of which the probe knows by the flags whether it will come by again for the same call.
 */
static int find_check(const struct code_part *code, const struct emulated *emulated, size_t *ret_at)
{
	struct instruction instruction;

	for (size_t at = 0; at < code->size; at += instruction.length) {
		if (x86__decode(code->code, code->size, at, &instruction))
			return -ENOENT;
		if (instruction.flow == FLOW_BRANCH) {
			*ret_at = at;
			return instruction.condition == CONDITION_BELOW_EQUAL &&
					       emulated__covers(emulated, instruction.class) &&
					       begins_anew(code, instruction.target)
				       ? 0
				       : -ENOENT;
		}
		if (instruction.flow != FLOW_NEXT || instruction.stack != STACK_KEPT ||
		    instruction.registers_written & (1 << RDX | 1 << R14))
			return -ENOENT;
	}
	return -ENOENT;
}

int go_defer__site(const struct go_defer *defer, const struct elf_file *file, int fd,
		   uint64_t address, const struct emulated *emulated,
		   struct placement_site *ret_site)
{
	const struct elf_function function = {
		.name = "deferred function",
		.address = address + (uint64_t)defer->function,
		.size = FUNCTION_BYTES,
	};
	struct code_part code;
	size_t at = 0;
	int err = function_code__read(file, fd, &function, &code);

	if (err)
		return err == -ENOMEM ? err : -ENOENT;
	err = find_check(&code, emulated, &at);
	*ret_site = (struct placement_site){
		.offset = code.file_offset + at,
		.class = SITE_EMULATED,
		.stack_bytes = (uint32_t)(defer->depth + WORD), /* with the return address */
		.closure_bytes = (uint16_t)(defer->closure + WORD),
		.result_bytes = (uint16_t)(defer->result + WORD),
	};
	free(code.code);
	return err;
}
