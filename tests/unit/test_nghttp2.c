/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is found in libnghttp2's code, held against the library that runs here: its sessions'
 * tables must be where the code says, and as the probes read them.
 */
#include "h2_talk.h"
#include "nghttp2.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <unistd.h>

/* As in probes/hpack.bpf.c. */
struct hd_context {
	uint64_t buffer;
	uint64_t mask;
	uint64_t first;
	uint64_t count;
	uint64_t memory;
	uint64_t size_bytes;
	uint64_t max_bytes;
};

struct rcbuf {
	uint64_t user_data;
	uint64_t free;
	const char *base;
	uint64_t size;
};

struct hd_entry {
	const struct rcbuf *name;
	const struct rcbuf *value;
};

/* 0 or -errno, of the library that a function of this process is in. */
static int find(const void *function, struct nghttp2_code *ret_code, uint64_t *ret_offset)
{
	struct emulated emulated = emulated__default();
	struct elf_file *elf;
	Dl_info info;
	int fd, err;

	cr_assert(dladdr(function, &info));
	*ret_offset = (uint64_t)((const char *)function - (const char *)info.dli_fbase);
	fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(elf_file__open(fd, &elf), 0);
	err = nghttp2_code__find(elf, fd, &emulated, ret_code);
	elf_file__close(elf);
	close(fd);
	return err;
}

static const struct hd_entry *table__entry(const struct hd_context *table, uint64_t index)
{
	const struct hd_entry *const *buffer = (const void *)(uintptr_t)table->buffer;

	return buffer[(table->first + index) & table->mask];
}

/* Whether the lengths of what is in it are its size. */
static void check_sum(const struct hd_context *table)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < table->count; i++)
		sum += table__entry(table, i)->name->size + table__entry(table, i)->value->size +
		       32;
	cr_expect_eq(sum, table->size_bytes);
}

#if defined(__x86_64__)

Test(nghttp2, tables_are_where_the_code_says)
{
	static struct talk talk;
	const struct hd_context *sends, *receives;
	struct nghttp2_code code;
	uint64_t offset;

	cr_assert_eq(find((const void *)nghttp2_session_mem_recv, &code, &offset), 0);
	cr_assert_geq(code.receive_count, 1);
	cr_expect_eq(code.receives[0].offset, offset);
	cr_expect_geq(code.return_count, 2);
	talk__begin(&talk);
	for (unsigned int n = 0; n < 40; n++) {
		struct talk_stream *stream = talk__stream(&talk);

		talk__field(&stream->request, ":method", "GET");
		talk__field(&stream->request, ":scheme", "https");
		talk__field(&stream->request, ":authority", "h");
		talk__field(&stream->request, ":path", "/");
		talk__field(&stream->request, "x-many", "some value of request %u", n);
		talk__field(&stream->response, ":status", "200");
		talk__field(&stream->response, "x-other", "%u", n);
		talk__say(&talk, 1);
		sends = (const void *)((const char *)talk.client + code.deflater_at);
		receives = (const void *)((const char *)talk.server + code.inflater_at);
		cr_assert_eq(sends->size_bytes,
			     nghttp2_session_get_hd_deflate_dynamic_table_size(talk.client));
		cr_assert_eq(receives->size_bytes,
			     nghttp2_session_get_hd_inflate_dynamic_table_size(talk.server));
		cr_assert_eq(sends->max_bytes, 4096);
		cr_assert_eq(sends->count, receives->count);
		check_sum(sends);
		check_sum(receives);
		for (uint64_t i = 0; i < sends->count; i++) {
			const struct hd_entry *a = table__entry(sends, i);
			const struct hd_entry *b = table__entry(receives, i);

			cr_assert(bytes__equal(bytes__of(a->name->base, a->name->size),
					       bytes__of(b->name->base, b->name->size)));
			cr_assert(bytes__equal(bytes__of(a->value->base, a->value->size),
					       bytes__of(b->value->base, b->value->size)));
		}
		cr_assert(bytes__equal(bytes__of(table__entry(sends, 0)->value->base,
						 table__entry(sends, 0)->value->size),
				       bytes__str(stream->request.fields[4].value)));
	}
	talk__free(&talk);
}

#endif

Test(nghttp2, not_in_other_libraries)
{
	struct nghttp2_code code;
	uint64_t offset;

	cr_expect_eq(find((const void *)criterion_run_all_tests, &code, &offset), -ENOENT);
	cr_expect_eq(find((const void *)open, &code, &offset), -ENOENT);
}
