/* SPDX-License-Identifier: BSD-2-Clause */
/* Views of bytes: searching and comparing. See bytes.h. */
#include "base/bytes.h"

bool bytes__equal_nocase(struct bytes a, struct bytes b)
{
	if (a.size != b.size)
		return false;
	for (size_t i = 0; i < a.size; i++)
		if (ascii__lower(a.data[i]) != ascii__lower(b.data[i]))
			return false;
	return true;
}

size_t bytes__find(struct bytes view, uint8_t byte)
{
	const uint8_t *hit = view.size ? memchr(view.data, byte, view.size) : NULL;

	return hit ? (size_t)(hit - view.data) : view.size;
}

struct bytes bytes__trim(struct bytes view)
{
	while (view.size && (view.data[0] == ' ' || view.data[0] == '\t')) {
		view.data++;
		view.size--;
	}
	while (view.size && (view.data[view.size - 1] == ' ' || view.data[view.size - 1] == '\t'))
		view.size--;
	return view;
}
