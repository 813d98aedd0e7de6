/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where to put the probes of one function: the proof. See placement.h for what is chosen and why.
 *
 * The function is decoded along its control flow, from the first byte, with the depth of the stack
 * at every instruction. Where two ways to an instruction disagree, a depth is unknown. What follows
 * then is read off that graph:
 *
 *   A compiler may put code that seldom runs elsewhere, a cold part. A branch out of the function,
 *   or a jump with the stack not as at the entry, has the code that it goes to decoded as well, if
 *   code_source knows where that begins and ends: whatever it is, it runs as part of the call. It
 *   may be code that others run too (a tail call, identical parts folded by the linker), and then
 *   no site may be in it. It is not if it jumps back into the middle of the function.
 *
 *   The graph must be whole for an exit to be proven: every jump goes to an instruction of the
 *   function or its parts, no byte but padding is left that nothing leads to (a jump table's cases,
 * a landing pad of exceptions), no call goes into the function. A call is taken to return always,
 * which only adds ways that no program takes. Two do not: the call on the failing side of the stack
 *   protector's check, and one with nothing behind it.
 *
 *   Final are the instructions from which nothing that can still run writes the result register.
 *   Exit sites are taken from them: first one alone, then several, then the return instructions.
 *   Whatever the choice, it is used only if a walk of its own over the whole graph finds that
 *   every way to a return crosses exactly one site (check_exits()).
 *
 *   An entry site lies in the straight line that every call runs first, so it is passed exactly
 *   once unless something jumps back into that line. Where not all jumps are known (the graph is
 *   not whole), the line ends at the first byte, with two exceptions. A push right behind the
 *   first byte's endbr64 saves a register: a loop around it would need the stack to be put back
 *   each time, and compilers place a prologue in no loop. And a jump that leaves with the stack as
 *   at the entry is a tail call if it is direct; if it is not, it may be a jump table, which can
 *   come back only to where the stack is the same, and only to a mark if marks are in use.
 */
#include "placement.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf_file.h"
#include "instruction.h"
#include "machine.h"

#define UNKNOWN INT32_MIN
/* Deeper is taken for nonsense: no thread's stack is larger by default. */
#define DEPTH_MAX (8 << 20)

#define OUTSIDE INT64_MIN

/* The function and a cold part, as gcc has it, and some to spare. */
#define PARTS_MAX 4

/* More emulated instructions between the last change of the result and a return are not tried. */
#define CANDIDATES_MAX 32

/* What is known when an instruction is about to run. */
struct state {
	int32_t depth;		   /* stack pointer at the entry, less now */
	int32_t frame;		   /* stack pointer at the entry, less the frame pointer */
	uint16_t canary_registers; /* they hold the canary */
	bool canary_compared;	   /* the flags tell whether the canary is whole */
};

/* One byte of the function. What begins with `is_` is false unless an instruction begins here. */
struct step {
	struct instruction instruction;
	struct state state;
	int64_t away; /* where a jump to OUTSIDE goes, in bytes from the function's first one */
	bool is_decoded;
	bool is_queued;
	bool is_final;
	bool is_candidate;
	bool is_visited;	 /* of the walk at hand */
	bool is_first_candidate; /* of explore() */
	bool covered;		 /* an instruction's first or later byte */
	uint8_t crossings;	 /* of check_exits() */
};

/* A stretch of code. Offsets in the graph, `begin` to `end`, are not distances between them. */
struct part {
	uint32_t begin, end;
	int64_t at;	      /* of its first byte, relative to the function's */
	uint64_t file_offset; /* the same */
	bool is_own;	      /* nothing but the function runs it */
};

struct graph {
	uint8_t *code; /* the function, then its other parts, a byte between them */
	size_t size;
	const struct emulated *emulated;
	instruction_decode_fn *decode;
	struct part parts[PARTS_MAX]; /* the first is the function by its symbol */
	unsigned int part_count;
	struct step *steps; /* one for each byte */
	uint32_t *queue;    /* offsets; each at most once */
	size_t queued;
	const char *odd; /* why the function cannot be analysed, NULL when it can */

	/* Ways by which it is left but for returns. */
	bool leaves;		   /* any */
	bool leaves_unknown;	   /* not a tail call, or unseen code can be what runs next */
	bool jumps_by_table;	   /* an indirect jump with the stack as at the entry ... */
	bool jumps_by_table_marks; /* ... and all of those need a mark where they go */

	int64_t missing; /* where a branch goes that may be to another part, OUTSIDE: none */

	size_t lowest_target; /* of all jumps within the function; size when there are none */
	uint32_t line_end;    /* the last instruction of the entry's straight line looked at */
	unsigned int returns;
	bool returns_at_entry_depth; /* all of them */
};

struct edges {
	uint32_t to[2];
	unsigned int count;
	bool leaves;	    /* to other code, and returns from there, or comes back */
	bool never_returns; /* by a trap or a call that does not come back */
};

struct emulated emulated__default(void)
{
	return (struct emulated){.classes = 1U << CLASS_PUSH | 1U << CLASS_BRANCH};
}

bool emulated__covers(const struct emulated *emulated, enum instruction_class instruction)
{
	return instruction > CLASS_REFUSED && emulated->classes & 1U << instruction;
}

static bool state__same(const struct state *a, const struct state *b)
{
	return a->depth == b->depth && a->frame == b->frame &&
	       a->canary_registers == b->canary_registers &&
	       a->canary_compared == b->canary_compared;
}

/* What is known when it is one of the two. */
static struct state state__either(const struct state *a, const struct state *b)
{
	return (struct state){
		.depth = a->depth == b->depth ? a->depth : UNKNOWN,
		.frame = a->frame == b->frame ? a->frame : UNKNOWN,
		.canary_registers = a->canary_registers & b->canary_registers,
		.canary_compared = a->canary_compared && b->canary_compared,
	};
}

static int32_t depth_sum(int32_t depth, int32_t bytes)
{
	int64_t sum = (int64_t)depth + bytes;

	return depth == UNKNOWN || sum < -DEPTH_MAX || sum > DEPTH_MAX ? UNKNOWN : (int32_t)sum;
}

static struct state state__after(const struct state *before, const struct instruction *instruction)
{
	struct state after = *before;

	switch (instruction->stack) {
	case STACK_KEPT:
		break;
	case STACK_MOVED:
		after.depth = depth_sum(before->depth, instruction->stack_bytes);
		break;
	case STACK_FROM_FRAME:
		after.depth = depth_sum(before->frame, instruction->stack_bytes);
		break;
	case STACK_LOST:
		after.depth = UNKNOWN;
		break;
	}
	switch (instruction->frame) {
	case FRAME_KEPT:
		break;
	case FRAME_FROM_STACK:
		after.frame = depth_sum(before->depth, instruction->frame_bytes);
		break;
	case FRAME_LOST:
		after.frame = UNKNOWN;
		break;
	}
	if (instruction->writes_flags || instruction->flow == FLOW_CALL ||
	    instruction->flow == FLOW_CALL_UNKNOWN)
		after.canary_compared = instruction->compares_canary ||
					instruction->registers_compared & before->canary_registers;
	after.canary_registers &= ~instruction->registers_written;
	if (instruction->canary_loaded_to >= 0)
		after.canary_registers |= 1 << instruction->canary_loaded_to;
	return after;
}

static struct part *graph__part(struct graph *graph, int64_t at)
{
	unsigned int i;

	for (i = 0; i < graph->part_count; i++)
		if (at >= graph->parts[i].begin && at < graph->parts[i].end)
			return &graph->parts[i];
	return NULL;
}

static bool graph__contains(struct graph *graph, int64_t target)
{
	return graph__part(graph, target) != NULL;
}

/*
 * Where in the graph a jump in `part` to `target` goes, counted in bytes from the function's first
 * one; OUTSIDE when it goes nowhere there. To the first byte go calls, and jumps of the function
 * itself; from another part it would be a tail call, by code that is not the function's.
 */
static int64_t graph__locate(const struct graph *graph, const struct part *part, int64_t target)
{
	const struct part *to;
	unsigned int i;

	if (target == 0 && part != &graph->parts[0])
		return OUTSIDE;
	for (i = 0; i < graph->part_count; i++) {
		to = &graph->parts[i];
		if (target >= to->at && target - to->at < to->end - to->begin)
			return target - to->at + to->begin;
	}
	return OUTSIDE;
}

/* Decodes what begins at `at`, unless that is done. False when that makes the function odd. */
static bool graph__decode(struct graph *graph, uint32_t at)
{
	const struct part *part = graph__part(graph, at);
	struct step *step = &graph->steps[at];
	uint32_t i;

	if (step->is_decoded)
		return true;
	if (graph->decode(graph->code, part->end, at, &step->instruction)) {
		graph->odd = "it has bytes that are no known instruction";
		return false;
	}
	step->away = part->at + (step->instruction.target - part->begin);
	step->instruction.target = graph__locate(graph, part, step->away);
	for (i = 0; i < step->instruction.length; i++) {
		if (step[i].covered) {
			graph->odd = "its instructions overlap";
			return false;
		}
		step[i].covered = true;
	}
	step->is_decoded = true;
	return true;
}

/*
 * Whether going from the branch at `at` to `target` means that the stack protector's check failed,
 * with the call there that does not return, or with it elsewhere (a cold part).
 */
static bool graph__is_failure(struct graph *graph, uint32_t at, int64_t target)
{
	const struct step *step = &graph->steps[at];
	bool to_failure = step->instruction.condition == CONDITION_UNEQUAL
				  ? target == step->instruction.target
				  : target != step->instruction.target;

	if (!step->state.canary_compared || step->instruction.condition == CONDITION_OTHER ||
	    !to_failure)
		return false;
	if (!graph__contains(graph, target))
		return true;
	if (!graph__decode(graph, (uint32_t)target))
		return false;
	return graph->steps[target].instruction.flow == FLOW_CALL ||
	       graph->steps[target].instruction.flow == FLOW_CALL_UNKNOWN;
}

/* Where the instruction at `at` goes by what is known of its state. */
static struct edges graph__edges(struct graph *graph, uint32_t at)
{
	const struct instruction *instruction = &graph->steps[at].instruction;
	int64_t behind = (int64_t)at + instruction->length;
	int64_t targets[2];
	struct edges edges = {0};
	unsigned int count = 0, i;

	switch (instruction->flow) {
	case FLOW_NEXT:
		targets[count++] = behind;
		break;
	case FLOW_CALL:
	case FLOW_CALL_UNKNOWN:
		if (behind == graph__part(graph, at)->end)
			edges.never_returns = true;
		else
			targets[count++] = behind;
		break;
	case FLOW_JUMP:
		targets[count++] = instruction->target;
		break;
	case FLOW_BRANCH:
		targets[count++] = behind;
		targets[count++] = instruction->target;
		break;
	case FLOW_JUMP_UNKNOWN:
		edges.leaves = true;
		break;
	case FLOW_RETURN:
		break;
	case FLOW_STOP:
		edges.never_returns = true;
		break;
	}
	for (i = 0; i < count; i++) {
		if (instruction->flow == FLOW_BRANCH && graph__is_failure(graph, at, targets[i]))
			continue;
		if (graph__contains(graph, targets[i]))
			edges.to[edges.count++] = (uint32_t)targets[i];
		else
			edges.leaves = true;
	}
	return edges;
}

static void graph__reach(struct graph *graph, uint32_t at, const struct state *state)
{
	struct step *step = &graph->steps[at];
	struct state merged = *state;

	if (step->is_visited) {
		merged = state__either(&step->state, state);
		if (state__same(&merged, &step->state))
			return;
	}
	step->state = merged;
	step->is_visited = true;
	if (!step->is_queued) {
		step->is_queued = true;
		graph->queue[graph->queued++] = at;
	}
}

/* Decodes all that can be reached from the first byte, and finds the states. */
static void graph__build(struct graph *graph)
{
	const struct state at_entry = {.frame = UNKNOWN};
	const struct instruction *instruction;
	struct edges edges;
	struct state after;
	struct step *step;
	uint32_t at;

	graph__reach(graph, 0, &at_entry);
	while (graph->queued > 0 && !graph->odd) {
		at = graph->queue[--graph->queued];
		step = &graph->steps[at];
		step->is_queued = false;
		if (!graph__decode(graph, at))
			return;
		instruction = &step->instruction;
		if (instruction->flow == FLOW_CALL && instruction->target != 0 &&
		    graph__contains(graph, instruction->target)) {
			graph->odd = "it calls into itself";
			return;
		}
		edges = graph__edges(graph, at);
		after = state__after(&step->state, instruction);
		while (edges.count > 0)
			graph__reach(graph, edges.to[--edges.count], &after);
	}
}

/* Whether bytes that nothing leads to are anything but padding. */
static bool part__has_unseen_code(const struct graph *graph, const struct part *part)
{
	struct instruction instruction;
	uint32_t at = part->begin;

	while (at < part->end) {
		if (graph->steps[at].covered) {
			at++;
			continue;
		}
		if (graph->decode(graph->code, part->end, at, &instruction) ||
		    !instruction.is_padding)
			return true;
		at += instruction.length;
	}
	return false;
}

/* Sums up how the function is left, once the states are final. */
static void graph__note_ways_out(struct graph *graph)
{
	const struct instruction *instruction;
	const struct step *step;
	struct edges edges;
	unsigned int i;
	uint32_t at;

	graph->returns_at_entry_depth = true;
	graph->jumps_by_table_marks = true;
	for (at = 0; at < graph->size; at++) {
		step = &graph->steps[at];
		instruction = &step->instruction;
		/* The failing call of a stack protector is decoded, but nothing comes there. */
		if (!step->is_decoded || !step->is_visited)
			continue;
		edges = graph__edges(graph, at);
		while (edges.count > 0) {
			edges.count--;
			if (edges.to[edges.count] < graph->parts[0].end)
				graph__part(graph, at)->is_own = true;
			if (edges.to[edges.count] != at + instruction->length &&
			    edges.to[edges.count] < graph->lowest_target)
				graph->lowest_target = edges.to[edges.count];
		}
		if (instruction->flow == FLOW_RETURN) {
			graph->returns++;
			if (step->state.depth != 0)
				graph->returns_at_entry_depth = false;
		}
		if (!edges.leaves)
			continue;
		graph->leaves = true;
		if (step->state.depth != 0 || instruction->flow == FLOW_BRANCH ||
		    instruction->flow == FLOW_NEXT || instruction->flow == FLOW_CALL ||
		    instruction->flow == FLOW_CALL_UNKNOWN) {
			graph->leaves_unknown = true;
			if (instruction->flow == FLOW_BRANCH || instruction->flow == FLOW_JUMP)
				graph->missing = step->away;
		} else if (instruction->flow == FLOW_JUMP_UNKNOWN) {
			graph->jumps_by_table = true;
			if (instruction->is_unmarked_jump)
				graph->jumps_by_table_marks = false;
		}
	}
	for (i = 0; i < graph->part_count; i++) {
		if (part__has_unseen_code(graph, &graph->parts[i])) {
			graph->leaves = true;
			graph->leaves_unknown = true;
		}
	}
}

/* Analyses what the graph has in sight, again after it got another part. */
static int graph__analyse(struct graph *graph)
{
	free(graph->steps);
	free(graph->queue);
	graph->steps = calloc(graph->size, sizeof(*graph->steps));
	graph->queue = calloc(graph->size, sizeof(*graph->queue));
	if (!graph->steps || !graph->queue)
		return -ENOMEM;
	graph->odd = NULL;
	graph->leaves = graph->leaves_unknown = graph->jumps_by_table = false;
	graph->missing = OUTSIDE;
	graph->lowest_target = graph->size;
	graph->returns = 0;
	graph__build(graph);
	if (!graph->odd)
		graph__note_ways_out(graph);
	return 0;
}

/* -ENOENT when it cannot be a part of the function, or there are too many. */
static int graph__add(struct graph *graph, const struct code_part *code)
{
	const size_t begin = graph->part_count ? graph->size + 1 : 0;
	const struct part *other;
	unsigned int i;
	uint8_t *grown;

	if (graph->part_count == PARTS_MAX || code->size == 0 ||
	    code->size > PLACEMENT_MAX_BYTES - graph->size)
		return -ENOENT;
	for (i = 0; i < graph->part_count; i++) {
		other = &graph->parts[i];
		if (code->at < other->at + (other->end - other->begin) &&
		    other->at < code->at + (int64_t)code->size)
			return -ENOENT;
	}
	grown = realloc(graph->code, begin + code->size);
	if (!grown)
		return -ENOMEM;
	memcpy(grown + begin, code->code, code->size);
	if (begin)
		grown[begin - 1] = 0;
	graph->code = grown;
	graph->size = begin + code->size;
	graph->parts[graph->part_count] = (struct part){
		.begin = (uint32_t)begin,
		.end = (uint32_t)graph->size,
		.at = code->at,
		.file_offset = code->file_offset,
		.is_own = graph->part_count == 0,
	};
	graph->part_count++;
	return 0;
}

static int graph__new(struct graph *graph, const struct code_part *function,
		      const struct emulated *emulated, const struct code_source *source)
{
	struct code_part more;
	int err;

	*graph = (struct graph){.emulated = emulated, .decode = function->machine->decode};
	err = graph__add(graph, function);
	if (!err)
		err = graph__analyse(graph);
	while (!err && source && graph->missing != OUTSIDE) {
		err = source->part(source->context, graph->missing, &more);
		if (err)
			break;
		err = graph__add(graph, &more);
		free(more.code);
		if (!err)
			err = graph__analyse(graph);
	}
	return err == -ENOMEM ? err : 0;
}

static void graph__free(struct graph *graph)
{
	free(graph->code);
	free(graph->steps);
	free(graph->queue);
}

static void graph__clear_visited(struct graph *graph)
{
	size_t i;

	for (i = 0; i < graph->size; i++)
		graph->steps[i].is_visited = false;
}

/* ---- entry ---- */

static bool is_emulated(const struct emulated *emulated, const struct instruction *instruction)
{
	return emulated__covers(emulated, instruction->class);
}

/*
 * Whether an instruction of the straight line, not the first, at `at`, could be where an unknown
 * jump goes: it and what runs before it would then run more than once in a call.
 */
static bool graph__may_come_back(const struct graph *graph, uint32_t at)
{
	const struct step *step = &graph->steps[at], *first = &graph->steps[0];

	if (at == first->instruction.length && first->instruction.is_landing &&
	    step->instruction.class == CLASS_PUSH)
		return false;
	if (graph->odd || graph->leaves_unknown)
		return true;
	if (!graph->jumps_by_table || step->state.depth != 0)
		return false;
	return !first->instruction.is_landing || !graph->jumps_by_table_marks ||
	       step->instruction.is_landing;
}

static struct placement_site graph__site(struct graph *graph, uint32_t at)
{
	const struct part *part = graph__part(graph, at);
	const struct step *step = &graph->steps[at];

	return (struct placement_site){
		.offset = part->file_offset + (at - part->begin),
		.stack_bytes = (uint32_t)step->state.depth,
		.class = is_emulated(graph->emulated, &step->instruction) ? SITE_EMULATED
									  : SITE_STEPPED,
	};
}

/* Where the stack is as the caller left it, whatever jumps back there. */
static struct placement_site graph__first_byte(struct graph *graph)
{
	struct placement_site site = graph__site(graph, 0);

	site.stack_bytes = 0;
	return site;
}

/*
 * Whether a breakpoint on the instruction at `at` of the straight line costs one exception. Not a
 * return: that is an exit site. Not a 5-byte nop unless it is the first instruction: kernels from
 * 6.18 on turn it into a call, which writes below the stack pointer, where a function that calls
 * nothing may keep variables.
 */
static bool graph__suits_entry(const struct graph *graph, uint32_t at)
{
	const struct step *step = &graph->steps[at], *first = &graph->steps[0];

	if (!is_emulated(graph->emulated, &step->instruction) ||
	    step->instruction.flow == FLOW_RETURN || step->state.depth < 0)
		return false;
	return step->instruction.class != CLASS_NOP5 || at == 0 ||
	       (first->instruction.is_landing && at == first->instruction.length);
}

/*
 * The first emulated instruction that is right for an entry probe, else the first byte. Sets
 * line_end to it. Of an odd function, what was decoded before that was found out is in steps.
 */
static struct placement_site graph__entry(struct graph *graph, unsigned int argument_count,
					  const char **ret_reason)
{
	const uint8_t arguments = (uint8_t)((1U << argument_count) - 1);
	const struct instruction *instruction;
	const char *reason = NULL;
	uint32_t at = 0;

	while (!reason) {
		instruction = &graph->steps[at].instruction;
		if (at > 0 && graph__may_come_back(graph, at)) {
			reason = graph->odd ? graph->odd
					    : "a jump that is not resolved may come back to its "
					      "first instructions";
		} else if (graph->lowest_target <= at) {
			reason = "a jump comes back to its first instructions";
		} else if (graph__suits_entry(graph, at)) {
			graph->line_end = at;
			*ret_reason = at == 0 ? "its first instruction is emulated"
					      : "the first emulated instruction, arguments intact";
			return graph__site(graph, at);
		} else if (instruction->flow != FLOW_NEXT) {
			reason = "no instruction is emulated before its first jump";
		} else if (instruction->arguments_written & arguments) {
			reason = "no instruction is emulated before its arguments change";
		} else {
			at += instruction->length;
			if (at >= graph->size || !graph->steps[at].is_decoded)
				reason = graph->odd ? graph->odd : "no instruction is emulated";
		}
	}
	*ret_reason = reason;
	return graph__first_byte(graph);
}

/* ---- exits ---- */

/* Marks the instructions after which, themselves included, nothing changes the result. */
static void graph__find_final(struct graph *graph)
{
	struct edges edges;
	struct step *step;
	bool changed = true;
	size_t at;

	for (at = 0; at < graph->size; at++) {
		step = &graph->steps[at];
		step->is_final = step->is_visited && !step->instruction.writes_result;
	}
	while (changed) {
		changed = false;
		for (at = graph->size; at-- > 0;) {
			step = &graph->steps[at];
			if (!step->is_final)
				continue;
			edges = graph__edges(graph, (uint32_t)at);
			if (edges.leaves || edges.never_returns)
				step->is_final = false;
			while (edges.count > 0)
				if (!graph->steps[edges.to[--edges.count]].is_final)
					step->is_final = false;
			changed |= !step->is_final;
		}
	}
}

static void graph__visit(struct graph *graph, uint32_t at)
{
	if (graph->steps[at].is_visited)
		return;
	graph->steps[at].is_visited = true;
	graph->queue[graph->queued++] = at;
}

/* Visits what runs after the instruction at `at`. */
static void graph__visit_next(struct graph *graph, uint32_t at)
{
	struct edges edges = graph__edges(graph, at);

	while (edges.count > 0)
		graph__visit(graph, edges.to[--edges.count]);
}

/* Marks the candidates that are the first on some way, and visits all before them and them. */
static void graph__explore(struct graph *graph)
{
	uint32_t at;

	graph__clear_visited(graph);
	for (at = 0; at < graph->size; at++)
		graph->steps[at].is_first_candidate = false;
	graph__visit(graph, 0);
	while (graph->queued > 0) {
		at = graph->queue[--graph->queued];
		if (graph->steps[at].is_candidate)
			graph->steps[at].is_first_candidate = true;
		else
			graph__visit_next(graph, at);
	}
}

/* Whether a first candidate, or a return that none is before, can run after the one at `from`. */
static bool graph__is_followed(struct graph *graph, uint32_t from, const uint32_t *bare_returns,
			       unsigned int bare_count)
{
	bool found = false;
	unsigned int i;
	uint32_t at;

	graph__clear_visited(graph);
	graph__visit_next(graph, from);
	while (graph->queued > 0) {
		at = graph->queue[--graph->queued];
		found |= graph->steps[at].is_first_candidate;
		for (i = 0; i < bare_count; i++)
			found |= bare_returns[i] == at;
		graph__visit_next(graph, at);
	}
	return found;
}

/*
 * The check on whatever was chosen: over the whole function, every way to each instruction
 * crosses the same number of sites, and every way to a return, itself included, exactly one.
 */
static bool graph__check_exits(struct graph *graph, const uint32_t *sites, unsigned int count)
{
	enum { UNSET = 0xff };
	struct edges edges;
	struct step *step;
	unsigned int i;
	uint8_t after;
	bool right = true;
	uint32_t at;

	for (at = 0; at < graph->size; at++)
		graph->steps[at].crossings = UNSET;
	for (i = 0; i < count; i++) {
		step = &graph->steps[sites[i]];
		if (!step->is_final || step->state.depth < 0 || sites[i] <= graph->line_end ||
		    !graph__part(graph, sites[i])->is_own)
			return false;
	}
	graph__clear_visited(graph);
	graph->steps[0].crossings = 0;
	graph__visit(graph, 0);
	while (graph->queued > 0) {
		at = graph->queue[--graph->queued];
		step = &graph->steps[at];
		after = step->crossings;
		for (i = 0; i < count; i++)
			after += sites[i] == at;
		if (after > 1 || (step->instruction.flow == FLOW_RETURN && after != 1))
			right = false;
		edges = graph__edges(graph, at);
		while (edges.count > 0) {
			step = &graph->steps[edges.to[--edges.count]];
			if (step->crossings == UNSET)
				step->crossings = after;
			else if (step->crossings != after)
				right = false;
			graph__visit(graph, edges.to[edges.count]);
		}
	}
	return right;
}

struct exits {
	uint32_t at[PLACEMENT_MAX_EXITS];
	unsigned int count;
};

static bool exits__add(struct exits *exits, uint32_t at)
{
	if (exits->count == PLACEMENT_MAX_EXITS)
		return false;
	exits->at[exits->count++] = at;
	return true;
}

/* One emulated instruction that all returns share: the last there is. */
static bool graph__find_single(struct graph *graph, const uint32_t *candidates, unsigned int count,
			       struct exits *ret_exits)
{
	while (count > 0) {
		*ret_exits = (struct exits){.at = {candidates[--count]}, .count = 1};
		if (graph__check_exits(graph, ret_exits->at, 1))
			return true;
	}
	return false;
}

/*
 * Several: on each way the first candidate, or the return itself where there is none. A candidate
 * that is followed by another of these is none, until that is so no more.
 */
static bool graph__find_several(struct graph *graph, const uint32_t *candidates, unsigned int count,
				struct exits *ret_exits)
{
	uint32_t bare_returns[PLACEMENT_MAX_EXITS];
	unsigned int bare_count = 0, i;
	bool changed = true;
	uint32_t at;

	for (i = 0; i < count; i++)
		graph->steps[candidates[i]].is_candidate = true;
	while (changed) {
		changed = false;
		bare_count = 0;
		*ret_exits = (struct exits){0};
		graph__explore(graph);
		for (at = 0; at < graph->size; at++) {
			const struct step *step = &graph->steps[at];

			if (!step->is_visited || step->is_first_candidate ||
			    step->instruction.flow != FLOW_RETURN)
				continue;
			if (!exits__add(ret_exits, at))
				return false;
			bare_returns[bare_count++] = at;
		}
		for (i = 0; i < count; i++) {
			struct step *step = &graph->steps[candidates[i]];

			if (!step->is_first_candidate)
				continue;
			if (graph__is_followed(graph, candidates[i], bare_returns, bare_count)) {
				step->is_candidate = false;
				changed = true;
			} else if (!changed && !exits__add(ret_exits, candidates[i])) {
				return false;
			}
		}
	}
	/* Returns alone are the next thing to try. */
	return ret_exits->count > bare_count &&
	       graph__check_exits(graph, ret_exits->at, ret_exits->count);
}

static bool graph__find_returns(struct graph *graph, struct exits *ret_exits)
{
	uint32_t at;

	*ret_exits = (struct exits){0};
	for (at = 0; at < graph->size; at++)
		if (graph->steps[at].is_final && graph->steps[at].instruction.flow == FLOW_RETURN &&
		    !exits__add(ret_exits, at))
			return false;
	return graph__check_exits(graph, ret_exits->at, ret_exits->count);
}

/* Whether it can return in code that may not be its own, where there are no sites. */
static bool graph__returns_elsewhere(struct graph *graph)
{
	const struct step *step;
	uint32_t at;

	for (at = graph->parts[0].end; at < graph->size; at++) {
		step = &graph->steps[at];
		if (step->is_visited && step->instruction.flow == FLOW_RETURN &&
		    !graph__part(graph, at)->is_own)
			return true;
	}
	return false;
}

/* Chooses exit sites. False, with the reason why not, when there are none. */
static bool graph__exits(struct graph *graph, struct exits *ret_exits, const char **ret_reason)
{
	uint32_t candidates[CANDIDATES_MAX];
	unsigned int count = 0;
	const struct step *step;
	uint32_t at;

	if (graph->odd)
		*ret_reason = graph->odd;
	else if (graph->leaves_unknown)
		*ret_reason = "it goes on in code that is not in sight";
	else if (graph->leaves)
		*ret_reason = "it ends in a call of another function (tail call)";
	else if (graph->returns == 0)
		*ret_reason = "it never returns";
	else if (!graph->returns_at_entry_depth)
		*ret_reason = "its stack is not understood";
	else if (graph__returns_elsewhere(graph))
		*ret_reason = "it may return in code that is not its own";
	else
		*ret_reason = NULL;
	if (*ret_reason)
		return false;

	graph__find_final(graph);
	for (at = graph->line_end + 1; at < graph->size; at++) {
		step = &graph->steps[at];
		if (!step->is_final || !graph__part(graph, at)->is_own ||
		    !is_emulated(graph->emulated, &step->instruction) ||
		    step->instruction.class == CLASS_NOP5 || step->state.depth < 0)
			continue;
		if (count == CANDIDATES_MAX) {
			count = 0;
			break;
		}
		candidates[count++] = at;
	}
	if (graph__find_single(graph, candidates, count, ret_exits)) {
		*ret_reason = "an emulated instruction before all returns";
		return true;
	}
	if (count > 0 && graph__find_several(graph, candidates, count, ret_exits)) {
		*ret_reason = "emulated instructions before the returns that have one";
		return true;
	}
	if (graph__find_returns(graph, ret_exits)) {
		*ret_reason = "no emulated instruction before the returns";
		return true;
	}
	*ret_reason = "it has too many returns";
	return false;
}

int placement__find(const struct code_part *code, const struct code_source *source,
		    unsigned int argument_count, bool has_exit, const struct emulated *emulated,
		    struct placement *ret_placement)
{
	const struct placement_site first_byte = {
		.offset = code->file_offset,
		.class = SITE_STEPPED,
	};
	struct placement placement = {
		.entry = first_byte,
		.exit_kind = has_exit ? EXIT_URETPROBE : EXIT_NONE,
		.uretprobe = first_byte,
		.entry_reason = "its size is not known, or too large",
		.exit_reason = "its size is not known, or too large",
	};
	struct graph graph = {0};
	struct exits exits = {0};
	unsigned int i;
	int err = 0;

	if (code->size == 0 || code->size > PLACEMENT_MAX_BYTES)
		goto out;
	if (!code->machine->knows_c) {
		placement.entry_reason = placement.exit_reason = "not known for this machine";
		goto out;
	}
	err = graph__new(&graph, code, emulated, source);
	if (err)
		goto out;
	placement.entry = graph__entry(&graph, argument_count, &placement.entry_reason);
	placement.uretprobe =
		placement.entry.stack_bytes == 0 ? placement.entry : graph__first_byte(&graph);
	if (!has_exit) {
		placement.exit_reason = "none is needed";
	} else if (graph__exits(&graph, &exits, &placement.exit_reason)) {
		placement.exit_kind = EXIT_SITES;
		placement.exit_count = exits.count;
		for (i = 0; i < exits.count; i++)
			placement.exits[i] = graph__site(&graph, exits.at[i]);
	} else {
		/* One breakpoint for both. */
		if (placement.entry.offset != placement.uretprobe.offset)
			placement.entry_reason = "where its uretprobe must be";
		placement.entry = placement.uretprobe;
	}
out:
	graph__free(&graph);
	if (!err)
		*ret_placement = placement;
	return err;
}

int function_code__read(const struct elf_file *file, int fd, const struct elf_function *function,
			struct code_part *ret_code)
{
	uint64_t first, last;
	uint8_t *code;
	size_t done = 0;
	ssize_t n;
	int err;

	if (function->size == 0 || function->size > PLACEMENT_MAX_BYTES)
		return -EFBIG;
	if (function->address + function->size < function->address)
		return -EBADMSG;
	err = elf_file__offset(file, function->address, &first);
	if (!err)
		err = elf_file__offset(file, function->address + function->size - 1, &last);
	if (err)
		return err;
	if (last - first != function->size - 1)
		return -EBADMSG;
	code = malloc(function->size);
	if (!code)
		return -ENOMEM;
	while (done < function->size) {
		n = pread(fd, code + done, function->size - done, (off_t)(first + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err = n < 0 ? -errno : -EBADMSG;
			free(code);
			return err;
		}
		done += (size_t)n;
	}
	*ret_code = (struct code_part){
		.code = code,
		.size = function->size,
		.file_offset = first,
		.machine = elf_file__machine(file),
	};
	return 0;
}

int function_parts__read(void *context, int64_t target, struct code_part *ret_part)
{
	const struct function_parts *parts = context;
	struct elf_function part = {0};
	int err;

	err = elf_file__unwind_range(parts->file, parts->address + (uint64_t)target, &part.address,
				     &part.size);
	if (!err)
		err = function_code__read(parts->file, parts->fd, &part, ret_part);
	if (!err)
		ret_part->at = (int64_t)(part.address - parts->address);
	return err;
}
