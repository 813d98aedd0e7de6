/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Functions to place probes on, in the shapes that TLS libraries have: compiled by the tests with
 * gcc and clang and many flags. What they compute does not matter, that they return in many ways
 * does. placement_check.c calls each through all of them.
 */
#include <alloca.h>
#include <stdlib.h>
#include <string.h>

struct object {
	int (*method)(struct object *object, char *buffer, size_t size, size_t *moved);
	int state;
	int error;
};

int subject_read(struct object *object, char *buffer, int size);
int subject_read_ex(struct object *object, char *buffer, size_t size, size_t *moved);
int subject_handshake(struct object *object);
int subject_only_jump(struct object *object, char *buffer, size_t size, size_t *moved);
int subject_leaf(int a, int b, int c);
int subject_many(struct object *object, int a, int b);
int subject_switch(struct object *object, int a, int b);
int subject_loop(const char *bytes, int size, int step);
int subject_alloca(const char *bytes, int size);
int subject_array(const char *bytes, int size);
int subject_abort(struct object *object, int a);
int subject_cold_return(struct object *object, int a);
int subject_cold_both(struct object *object, int a, int b);
int subject_cold_end(struct object *object, int a);
long subject_recursive(long n);
long subject_wide(long a, long b, long c, long d, long e, long f);
void *subject_new(size_t size);
void subject_free(struct object *object);

#define NOINLINE __attribute__((noinline))
#define COLD	 __attribute__((noinline, cold))

static volatile int sink;

static COLD void raise_error(struct object *object, int error)
{
	object->error = error;
	sink += error;
}

static NOINLINE int worker(struct object *object, char *buffer, size_t size, size_t *moved)
{
	size_t i;

	if (!object->method) {
		raise_error(object, 1);
		return -1;
	}
	for (i = 0; i < size; i++)
		buffer[i] = (char)(i + (size_t)object->state);
	return object->method(object, buffer, size, moved);
}

int subject_read(struct object *object, char *buffer, int size)
{
	size_t moved;
	int result;

	if (size < 0) {
		raise_error(object, 2);
		return -1;
	}
	result = worker(object, buffer, (size_t)size, &moved);
	if (result > 0)
		result = (int)moved;
	return result;
}

int subject_read_ex(struct object *object, char *buffer, size_t size, size_t *moved)
{
	int result = worker(object, buffer, size, moved);

	return result < 0 ? 0 : result;
}

int subject_handshake(struct object *object)
{
	char text[24];
	size_t moved;

	if (object->state == 0) {
		raise_error(object, 3);
		return -1;
	}
	memset(text, object->state, sizeof(text));
	if (object->state > 1 && worker(object, text, sizeof(text), &moved) > 0)
		return 1;
	return object->method(object, NULL, 0, NULL);
}

int subject_only_jump(struct object *object, char *buffer, size_t size, size_t *moved)
{
	return worker(object, buffer, size, moved);
}

int subject_leaf(int a, int b, int c)
{
	if (a < 0)
		return b;
	if (b < a)
		return c * 3;
	return a + b * c;
}

int subject_many(struct object *object, int a, int b)
{
	char text[16];
	size_t moved = 0;

	if (a == 0)
		return -1;
	if (a == 1 && worker(object, text, sizeof(text), &moved) > 0)
		return (int)moved + text[3];
	if (b == 0) {
		raise_error(object, 4);
		return -2;
	}
	while (b-- > 0) {
		if (worker(object, text, (size_t)b & 15, &moved) < 0)
			return b;
		sink += text[b & 15];
	}
	return object->state;
}

int subject_switch(struct object *object, int a, int b)
{
	switch (a) {
	case 0:
		return b;
	case 1:
		raise_error(object, b);
		return 7;
	case 2:
		sink += b;
		break;
	case 3:
		return subject_leaf(b, b, 3);
	case 4:
		b += sink;
		break;
	case 5:
		object->state = b;
		break;
	case 6:
		return sink;
	}
	return object->state + b;
}

int subject_loop(const char *bytes, int size, int step)
{
	int sum = 0;

	do {
		if (bytes[size & 7] == 'x')
			return -sum;
		sum += bytes[size & 7];
		size -= step;
	} while (size > 0);
	return sum;
}

int subject_alloca(const char *bytes, int size)
{
	char *copy;

	if (size <= 0)
		return 0;
	copy = alloca((size_t)size);
	memcpy(copy, bytes, (size_t)size);
	sink += copy[size / 2];
	return copy[0] + size;
}

int subject_array(const char *bytes, int size)
{
	char copy[300] __attribute__((aligned(64)));

	if (size > 300)
		return -1;
	memcpy(copy, bytes, (size_t)size);
	sink += copy[size / 2];
	return copy[0];
}

int subject_abort(struct object *object, int a)
{
	if (!object)
		abort();
	if (a > 3)
		return object->state;
	raise_error(object, a);
	return a;
}

/* What calls a cold function is put elsewhere by gcc; with no stack to put back, it returns there.
 */
int subject_cold_return(struct object *object, int a)
{
	if (__builtin_expect(a < 0, 0)) {
		raise_error(object, a);
		return -1;
	}
	return object->state + a;
}

/* One seldom block returns, the other goes on in the usual code. */
int subject_cold_both(struct object *object, int a, int b)
{
	if (a < 0) {
		raise_error(object, a);
		return -1;
	}
	if (b > 3) {
		raise_error(object, b);
		b -= 3;
	}
	return object->state + b;
}

/* One seldom block ends the program, the other goes on. */
int subject_cold_end(struct object *object, int a)
{
	char text[8];
	size_t moved;

	if (!object)
		abort();
	if (a < 0) {
		raise_error(object, a);
		a = -a;
	}
	return worker(object, text, (size_t)a & 7, &moved) + a;
}

long subject_recursive(long n)
{
	if (n <= 1)
		return 1;
	return subject_recursive(n - 1) * n + subject_recursive(n - 2);
}

long subject_wide(long a, long b, long c, long d, long e, long f)
{
	if (a > b)
		return c;
	sink += (int)d;
	return e + f * subject_recursive(a);
}

void *subject_new(size_t size)
{
	struct object *object;

	if (size == 0)
		return NULL;
	object = calloc(1, sizeof(*object) + size);
	if (!object)
		return NULL;
	object->state = 1;
	return object;
}

void subject_free(struct object *object)
{
	if (!object)
		return;
	if (object->error)
		sink--;
	free(object);
}
