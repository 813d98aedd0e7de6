/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SipHash-2-4, a keyed 64-bit hash: without the key, nobody can find the input or make two inputs
 * collide on purpose. Own code, because what is packaged offers it only inside a crypto library.
 * J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF", 2012.
 */
#ifndef TLSTRACE_SIPHASH_H
#define TLSTRACE_SIPHASH_H

#include "base/bytes.h"

#define SIPHASH_KEY_BYTES 16

uint64_t siphash__24(const uint8_t key[SIPHASH_KEY_BYTES], struct bytes input);

#endif
