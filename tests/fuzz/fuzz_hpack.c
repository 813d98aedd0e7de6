/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For libFuzzer: HPACK. The input is blocks, each behind two bytes of size. A decoder that saw all
 * and one that joined later read the same blocks; what the late one tells must be what the other
 * tells, or be unknown.
 */
#include "base/buf.h"
#include "proto/hpack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELDS_MAX 64

struct field_copy {
	uint8_t name[64];
	uint8_t value[64];
	size_t name_size, value_size;
};

struct told {
	struct field_copy fields[FIELDS_MAX];
	size_t count;
};

static int on_field(void *context, struct bytes name, struct bytes value)
{
	struct told *told = context;
	struct field_copy *field = &told->fields[told->count];

	if (told->count++ >= FIELDS_MAX)
		return 1;
	name = bytes__first(name, sizeof(field->name));
	value = bytes__first(value, sizeof(field->value));
	field->name_size = name.size;
	field->value_size = value.size;
	if (name.size)
		memcpy(field->name, name.data, name.size);
	if (value.size)
		memcpy(field->value, value.data, value.size);
	return 0;
}

static void compare(const struct told *all, const struct told *late)
{
	for (size_t i = 0; i < late->count && i < all->count && i < FIELDS_MAX; i++) {
		const struct field_copy *a = &all->fields[i], *l = &late->fields[i];

		if (l->name_size && !bytes__equal(bytes__of(a->name, a->name_size),
						  bytes__of(l->name, l->name_size)))
			abort();
		if ((l->name_size || l->value_size) &&
		    !bytes__equal(bytes__of(a->value, a->value_size),
				  bytes__of(l->value, l->value_size)))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct told all, late;
	struct bytes input = bytes__of(data, size);
	struct hpack *first, *joined;
	size_t skip = size ? data[0] % 8 : 0;

	if (hpack__new(true, &first) || hpack__new(false, &joined))
		abort();
	hpack__set_limit(first, HPACK_TABLE_MAX_BYTES);
	input = bytes__from(input, 1);
	for (size_t n = 0; input.size >= 2; n++) {
		size_t length = (size_t)input.data[0] << 8 | input.data[1];
		struct bytes block = bytes__first(bytes__from(input, 2), length);
		int err;

		all.count = late.count = 0;
		err = hpack__block(first, block, on_field, &all);
		/* Only what a peer could have sent is compared. */
		if ((err && err != 1) || hpack__resets(first))
			break;
		if (n >= skip) {
			err = hpack__block(joined, block, on_field, &late);
			if (err && err != 1)
				abort();
			compare(&all, &late);
		}
		input = bytes__from(input, 2 + block.size);
	}
	hpack__free(first);
	hpack__free(joined);
	return 0;
}
