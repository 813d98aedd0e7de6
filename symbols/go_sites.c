/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the probes of a Go function go. See go.h.
 *
 * A function that go_listing.h does not understand gets no probes: a uretprobe, the way out
 * elsewhere, would crash the program when its stack is moved.
 *
 *   entry  The jump that prologues have for a stack that is too small (cmp 0x10(%r14),%rsp; jbe;
 *	    on arm64 ldr x16, [x28, #16]; cmp sp, x16; b.ls) is emulated by all kernels, and all
 *	    arguments are in place there. Else the first byte.
 *   exits  The same jump of a function that is deferred and so is called before each return
 *	    (go_defers.h). Where there is none, the return instructions; or, where this kernel
 *	    emulates it, the instruction before that gives the frame back (add $N,%rsp). On arm64
 *	    the returns are emulated themselves.
 */
#include "go.h"

#include <errno.h>
#include <string.h>

#include "go_defers.h"
#include "machine.h"

/* Arguments that probes read: receiver, buffer and length. */
#define ARGUMENTS 3

static int listing__entry(struct listing *listing, enum go_abi abi, struct placement *placement)
{
	const uint32_t argument_registers = listing->code.machine->go_arguments;
	const struct step *step;
	size_t i;

	for (i = 0; i < listing->count; i++) {
		step = &listing->steps[i];
		if (i > 0 && step->is_target)
			break;
		if (listing__is_emulated(listing, step) && step->instruction.flow != FLOW_RETURN) {
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
		if (listing__is_emulated(listing, step))
			return step;
	}
	return at_return;
}

/*
 * The deferred function in which most returns can be seen at once, if there is one, and which
 * returns these are (by their number): 0 for none.
 */
static uint32_t listing__deferred(const struct listing *listing, struct go_defer *ret_defer)
{
	struct go_defer defers[PLACEMENT_MAX_EXITS] = {0};
	uint32_t has = 0, most = 0;
	int number = 0;

	if (!listing->emulated || !listing->code.machine->go_has_defers)
		return 0;
	for (size_t i = 0; i < listing->count && number < PLACEMENT_MAX_EXITS; i++) {
		if (listing->steps[i].instruction.flow != FLOW_RETURN)
			continue;
		if (go_defer__before(listing, &listing->steps[i], &defers[number]))
			has |= 1U << number;
		number++;
	}
	for (int d = 0; d < number; d++) {
		uint32_t covered = 0;

		for (int i = 0; i < number; i++)
			if (has & 1U << i && memcmp(&defers[i], &defers[d], sizeof(*defers)) == 0)
				covered |= 1U << i;
		/* It must not be called from elsewhere, where what was found may not be so. */
		if (has & 1U << d && __builtin_popcount(covered) > __builtin_popcount(most) &&
		    go_defer__uses(listing, &defers[d]) == (unsigned)__builtin_popcount(covered)) {
			*ret_defer = defers[d];
			most = covered;
		}
	}
	return most;
}

static int listing__exits(struct listing *listing, const struct elf_file *file, int fd,
			  uint64_t address, struct placement *placement)
{
	bool early = false;
	struct placement_site site;
	const struct step *step;
	struct go_defer defer;
	unsigned int number = 0;
	uint32_t covered = listing__deferred(listing, &defer);
	int err;

	if (covered) {
		err = go_defer__site(&defer, file, fd, address, listing->emulated, &site);
		if (err == -ENOMEM)
			return err;
		if (err)
			covered = 0;
		else
			placement->exits[placement->exit_count++] = site;
	}
	for (size_t i = 0; i < listing->count; i++) {
		if (listing->steps[i].instruction.flow != FLOW_RETURN)
			continue;
		if (number == PLACEMENT_MAX_EXITS || placement->exit_count == PLACEMENT_MAX_EXITS) {
			listing->odd = "it has too many returns";
			return -ENOTSUP;
		}
		if (covered & 1U << number++)
			continue;
		step = listing__exit(listing, &listing->steps[i]);
		early |= step != &listing->steps[i];
		placement->exits[placement->exit_count++] = listing__site(listing, step);
	}
	if (number == 0) {
		listing->odd = "it never returns";
		return -ENOTSUP;
	}
	placement->exit_kind = EXIT_SITES;
	/* Of the returns; the first place may be the deferred function's. */
	placement->exit_reason =
		early ? "emulated instructions before its returns"
		: placement->exit_count &&
				placement->exits[placement->exit_count - 1].class == SITE_EMULATED
			? "its returns, which are emulated"
			: "no emulated instruction before the return";
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
	struct listing listing;
	struct placement placement = {0};
	int err;

	*ret_placement = (struct placement){
		.exit_reason = "its code cannot be read as a whole",
	};
	if (!code->functions[function].offset)
		return -ENOENT;
	err = listing__read(&listing, file, fd, &found, emulated);
	if (!err)
		err = listing__exits(&listing, file, fd, found.address, &placement);
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
	listing__free(&listing);
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
