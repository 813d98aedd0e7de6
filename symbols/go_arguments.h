/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether the arguments of a call can still be read when it returns: for calls that were entered
 * before there were probes. Internal to symbols/; one file per machine.
 *
 * From Go 1.17 on arguments come in registers, and the caller keeps room for them above the return
 * address, where a function puts those that it needs later (Go's internal ABI, "spill space").
 * Before, they are there from the beginning. Nothing else writes to that room, as long as the
 * function neither assigns to its parameters nor passes on their address, which can be seen.
 */
#ifndef TLSTRACE_GO_ARGUMENTS_H
#define TLSTRACE_GO_ARGUMENTS_H

#include "go.h"

/*
 * Whether the function's code keeps its first `count` (at most 9) arguments, one word each, at 8
 * bytes and up from where the stack pointer is at its entry and at its returns. False also when
 * that cannot be proven.
 */
typedef bool go_arguments_fn(const uint8_t *code, size_t size, enum go_abi abi, unsigned int count);

#endif
