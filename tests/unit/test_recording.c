/* SPDX-License-Identifier: BSD-2-Clause */
/* Recordings: what is written is replayed, and what is no sound recording is told apart. */
#include "capture/recording.h"
#include "failing_alloc.h"
#include "records.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#define RECORDS_MAX 16

static const struct policy policy = {
	.key = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
	.clock_offset_ns = -1234567890123,
};

/* A recording in memory, and where its records begin. */
struct tape {
	char *data;
	size_t size;
	size_t starts[RECORDS_MAX];
	size_t count;
};

struct replayed {
	const struct tape *tape;
	size_t count;
};

static void put(FILE *file, struct tape *tape, struct bytes record)
{
	tape->starts[tape->count++] = (size_t)ftell(file);
	cr_assert_eq(recording__write(file, record), 0);
	record__free(record);
}

static struct tape make_tape(void)
{
	struct source source = source__of(7, 0x1000);
	struct tape tape = {0};
	FILE *file = open_memstream(&tape.data, &tape.size);

	cr_assert_not_null(file);
	cr_assert_eq(recording__write_head(file, &policy), 0);
	put(file, &tape, source__process(&source, "/usr/bin/curl"));
	put(file, &tape,
	    source__data(&source, WIRE_WRITE, bytes__str("GET / HTTP/1.1\r\n\r\n"), 18));
	put(file, &tape, source__close(&source, WIRE_CLOSE_FREE));
	put(file, &tape, source__exit(&source));
	put(file, &tape, source__end(&source, 0, false));
	fclose(file);
	tape.starts[tape.count] = tape.size;
	return tape;
}

/* Each record as it was written. */
static void on_record(void *context, struct bytes record)
{
	struct replayed *replayed = context;
	const struct tape *tape = replayed->tape;
	size_t start = tape->starts[replayed->count];

	cr_assert_lt(replayed->count, tape->count);
	cr_assert(bytes__equal(record, bytes__of(tape->data + start,
						 tape->starts[replayed->count + 1] - start)));
	replayed->count++;
}

/* Opens bytes as a file. */
static FILE *open_bytes(const void *data, size_t size)
{
	FILE *file = tmpfile();

	cr_assert_not_null(file);
	cr_assert_eq(fwrite(data, 1, size, file), size);
	rewind(file);
	return file;
}

/* The error of replaying the first `size` bytes of a tape, past its head. */
static int replay(const struct tape *tape, size_t size, struct replayed *ret_replayed,
		  uint64_t *ret_offset)
{
	FILE *file = open_bytes(tape->data, size);
	struct policy read = {0};
	uint32_t version = 0;
	int err;

	*ret_replayed = (struct replayed){.tape = tape};
	cr_assert_eq(recording__read_head(file, &read, &version), 0);
	cr_assert_eq(version, WIRE_VERSION);
	cr_assert_eq(memcmp(read.key, policy.key, sizeof(policy.key)), 0);
	cr_assert_eq(read.clock_offset_ns, policy.clock_offset_ns);
	err = recording__replay(file, on_record, ret_replayed, ret_offset);
	fclose(file);
	return err;
}

Test(recording, replays_what_was_written)
{
	struct tape tape = make_tape();
	struct replayed replayed;
	uint64_t offset = 0;

	cr_assert_eq(replay(&tape, tape.size, &replayed, &offset), 0);
	cr_assert_eq(replayed.count, tape.count);
	cr_assert_eq(offset, tape.size);
	free(tape.data);
}

Test(recording, ends_with_its_end_record)
{
	struct tape tape = make_tape();
	struct replayed replayed;
	uint64_t offset = 0;
	size_t size = tape.size;

	tape.data = realloc(tape.data, size + 100);
	cr_assert_not_null(tape.data);
	memset(tape.data + size, 0xff, 100);
	cr_assert_eq(replay(&tape, size + 100, &replayed, &offset), 0);
	cr_assert_eq(replayed.count, tape.count);
	cr_assert_eq(offset, size);
	free(tape.data);
}

Test(recording, cut_at_every_byte)
{
	struct tape tape = make_tape();
	struct replayed replayed;
	uint64_t offset;

	for (size_t size = sizeof(struct recording_head); size < tape.size; size++) {
		size_t whole = 0;

		while (tape.starts[whole + 1] <= size)
			whole++;
		offset = UINT64_MAX;
		cr_assert_eq(replay(&tape, size, &replayed, &offset), -ENODATA);
		cr_assert_eq(replayed.count, whole);
		cr_assert_eq(offset, tape.starts[whole]);
	}
	free(tape.data);
}

Test(recording, head_cut_at_every_byte)
{
	struct tape tape = make_tape();
	struct policy read = {0};
	uint32_t version;

	for (size_t size = 0; size < sizeof(struct recording_head); size++) {
		FILE *file = open_bytes(tape.data, size);

		cr_assert_eq(recording__read_head(file, &read, &version), -ENOMSG);
		fclose(file);
	}
	free(tape.data);
}

/* The error of a head with one byte changed. */
static int read_changed_head(size_t offset, uint8_t byte, uint32_t *ret_version)
{
	struct tape tape = make_tape();
	struct policy read = {0};
	FILE *file;
	int err;

	tape.data[offset] = (char)byte;
	file = open_bytes(tape.data, tape.size);
	err = recording__read_head(file, &read, ret_version);
	cr_assert_eq(read.clock_offset_ns, err ? 0 : policy.clock_offset_ns);
	fclose(file);
	free(tape.data);
	return err;
}

Test(recording, is_none)
{
	uint32_t version = 0;

	for (size_t i = 0; i < sizeof(((struct recording_head *)NULL)->magic); i++)
		cr_assert_eq(read_changed_head(i, 0xff, &version), -ENOMSG);
}

Test(recording, of_another_version)
{
	uint32_t version = 0;
	size_t offset = offsetof(struct recording_head, version);

	cr_assert_eq(read_changed_head(offset, WIRE_VERSION + 1, &version), -EPROTO);
	cr_assert_eq(version, WIRE_VERSION + 1);
	cr_assert_eq(read_changed_head(offset, 0, &version), -EPROTO);
	cr_assert_eq(version, 0);
}

Test(recording, sizes_that_cannot_be)
{
	static const uint32_t sizes[] = {
		0,	   1,	      sizeof(struct wire_header) - 1, RECORDING_MAX_RECORD + 1,
		INT32_MAX, UINT32_MAX};
	struct replayed replayed;
	uint64_t offset;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct tape tape = make_tape();

		memcpy(tape.data + tape.starts[1], &sizes[i], sizeof(sizes[i]));
		cr_assert_eq(replay(&tape, tape.size, &replayed, &offset), -EBADMSG);
		cr_assert_eq(replayed.count, 1);
		cr_assert_eq(offset, tape.starts[1]);
		free(tape.data);
	}
}

static void count_bytes(void *context, struct bytes record)
{
	*(size_t *)context += record.size;
}

/* The error of replaying one record of `size` bytes; *ret_bytes are those that were handed on. */
static int replay_one(uint32_t size, size_t *ret_bytes)
{
	struct wire_header header = {.size = size, .type = WIRE_END};
	uint8_t *record = calloc(1, size);
	FILE *file;
	uint64_t offset;
	int err;

	cr_assert_not_null(record);
	memcpy(record, &header, sizeof(header));
	file = open_bytes(record, size);
	*ret_bytes = 0;
	err = recording__replay(file, count_bytes, ret_bytes, &offset);
	fclose(file);
	free(record);
	return err;
}

Test(recording, smallest_and_largest_record)
{
	size_t bytes;

	cr_assert_eq(replay_one(sizeof(struct wire_header), &bytes), 0);
	cr_assert_eq(bytes, sizeof(struct wire_header));
	cr_assert_eq(replay_one(RECORDING_MAX_RECORD, &bytes), 0);
	cr_assert_eq(bytes, RECORDING_MAX_RECORD);
}

Test(recording, a_large_size_costs_no_more_than_the_maximum)
{
	struct tape tape = make_tape();
	struct replayed replayed;
	uint64_t offset;
	uint32_t size = RECORDING_MAX_RECORD;

	memcpy(tape.data + tape.starts[1], &size, sizeof(size));
	cr_assert_eq(replay(&tape, tape.size, &replayed, &offset), -ENODATA);
	cr_assert_eq(replayed.count, 1);
	cr_assert_eq(offset, tape.starts[1]);
	free(tape.data);
}

Test(recording, no_memory)
{
	struct tape tape = make_tape();
	struct replayed replayed = {.tape = &tape};
	FILE *file = open_bytes(tape.data + sizeof(struct recording_head),
				tape.size - sizeof(struct recording_head));
	uint64_t offset;

	failing_alloc__arm(0);
	cr_assert_eq(recording__replay(file, on_record, &replayed, &offset), -ENOMEM);
	cr_assert(failing_alloc__disarm());
	cr_assert_eq(offset, sizeof(struct recording_head));
	cr_assert_eq(replayed.count, 0);
	fclose(file);
	free(tape.data);
}

Test(recording, reading_fails)
{
	FILE *file = fopen("/", "r");
	struct policy read = {0};
	uint32_t version;
	uint64_t offset;
	size_t bytes = 0;

	cr_assert_not_null(file);
	cr_assert_eq(recording__read_head(file, &read, &version), -EISDIR);
	clearerr(file);
	cr_assert_eq(recording__replay(file, count_bytes, &bytes, &offset), -EISDIR);
	cr_assert_eq(offset, sizeof(struct recording_head));
	fclose(file);
}

Test(recording, writing_fails)
{
	FILE *file = fopen("/dev/full", "w");
	struct source source = source__of(7, 0x1000);
	struct bytes record = source__exit(&source);

	cr_assert_not_null(file);
	setvbuf(file, NULL, _IONBF, 0);
	cr_assert_eq(recording__write_head(file, &policy), -ENOSPC);
	cr_assert_eq(recording__write(file, record), -ENOSPC);
	record__free(record);
	fclose(file);
}
