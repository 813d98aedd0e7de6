/* SPDX-License-Identifier: BSD-2-Clause */
/* SipHash-2-4. See siphash.h; names and constants are the paper's. */
#include "base/siphash.h"

struct state {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate_left(uint64_t value, unsigned int bits)
{
	return value << bits | value >> (64 - bits);
}

/* `size` (up to 8) bytes as a little-endian number. */
static uint64_t load(const uint8_t *data, size_t size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)data[i] << (8 * i);
	return value;
}

static void sip_round(struct state *s)
{
	s->v0 += s->v1;
	s->v1 = rotate_left(s->v1, 13) ^ s->v0;
	s->v0 = rotate_left(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate_left(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate_left(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate_left(s->v1, 17) ^ s->v2;
	s->v2 = rotate_left(s->v2, 32);
}

static void compress(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

uint64_t siphash__24(const uint8_t key[SIPHASH_KEY_BYTES], struct bytes input)
{
	uint64_t k0 = load(key, 8), k1 = load(key + 8, 8);
	struct state s = {
		.v0 = k0 ^ 0x736f6d6570736575,
		.v1 = k1 ^ 0x646f72616e646f6d,
		.v2 = k0 ^ 0x6c7967656e657261,
		.v3 = k1 ^ 0x7465646279746573,
	};
	size_t whole = input.size - input.size % 8;
	uint64_t last = (uint64_t)input.size << 56;

	for (size_t pos = 0; pos < whole; pos += 8)
		compress(&s, load(input.data + pos, 8));
	if (input.size > whole)
		last |= load(input.data + whole, input.size - whole);
	compress(&s, last);

	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
