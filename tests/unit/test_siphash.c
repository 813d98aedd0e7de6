/* SPDX-License-Identifier: BSD-2-Clause */
/* SipHash-2-4 against the vectors of its authors' reference implementation. */
#include "base/siphash.h"

#include <criterion/criterion.h>

/* Of the inputs "", 00, 00 01, 00 01 02, ... under the key 00 01 .. 0f. */
static const uint64_t expected[] = {
	0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
	0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
	0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
	0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
};

Test(siphash, official_vectors)
{
	uint8_t key[SIPHASH_KEY_BYTES], input[16];

	for (uint8_t i = 0; i < 16; i++)
		key[i] = input[i] = i;
	for (size_t size = 0; size < 16; size++)
		cr_expect_eq(siphash__24(key, bytes__of(input, size)), expected[size],
			     "input of %zu bytes", size);
}

Test(siphash, key_matters)
{
	uint8_t key[SIPHASH_KEY_BYTES] = {0}, other[SIPHASH_KEY_BYTES] = {[15] = 1};
	struct bytes input = bytes__str("secret");

	cr_expect_neq(siphash__24(key, input), siphash__24(other, input));
}
