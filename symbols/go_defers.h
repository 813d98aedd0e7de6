/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exits of a Go function in the functions that it has deferred. Internal to symbols/.
 *
 * Nothing emulated comes between the last change of a Go function's results and its return, unless
 * it has deferred calls, as crypto/tls has them to unlock its mutexes:
 *
 *	mov	%rcx,0x20(%rsp)		the result, to its slot
 *	mov	0x50(%rsp),%rdx		the deferred closure, in this function's frame
 *	mov	(%rdx),%rax
 *	call	*%rax
 *	mov	0x20(%rsp),%rax		the result, from its slot
 *	add	$0x58,%rsp
 *	pop	%rbp
 *	ret
 *
 * The function called is the compiler's and nobody else's. It begins with the check of the stack's
 * size, which is emulated. There, the result is complete, and a known distance above the stack
 * pointer; and that the caller is the function (and not the runtime, in a panic) shows in the
 * distance of the closure, whose address is in RDX. Besides, the mutex is still locked there, so
 * that calls of several goroutines on one connection are seen in their order.
 */
#ifndef TLSTRACE_GO_DEFERS_H
#define TLSTRACE_GO_DEFERS_H

#include "go_listing.h"

struct go_defer {
	int64_t function; /* its first byte's distance from that of the one that defers */
	int32_t slot, closure, result; /* above the stack pointer, at the call */
	int32_t depth;		       /* of the stack at the call */
};

/*
 * The first deferred call of those that come immediately before `at_return`, in the one way that
 * leads there. False when there is none.
 */
bool go_defer__before(const struct listing *listing, const struct step *at_return,
		      struct go_defer *ret_defer);

/*
 * How many instructions may call it: that read the closure's slot, or have the closure's address
 * for anything else, or call the function itself.
 */
unsigned int go_defer__uses(const struct listing *listing, const struct go_defer *defer);

/*
 * The site in the deferred function, whose listing function is at `address`. 0; -ENOENT when it has
 * none that is emulated, or is not understood; -ENOMEM.
 */
int go_defer__site(const struct go_defer *defer, const struct elf_file *file, int fd,
		   uint64_t address, const struct emulated *emulated,
		   struct placement_site *ret_site);

#endif
