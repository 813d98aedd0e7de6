/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes and replays recordings. See recording.h. */
#include "capture/recording.h"

#include <errno.h>
#include <stdlib.h>

static const char magic[8] = {'t', 'l', 's', 't', 'r', 'a', 'c', 'e'};

static int stream_error(FILE *file)
{
	return ferror(file) && errno ? -errno : -EIO;
}

int recording__write_head(FILE *file, const struct policy *policy)
{
	struct recording_head head = {
		.version = WIRE_VERSION,
		.clock_offset_ns = policy->clock_offset_ns,
	};

	memcpy(head.magic, magic, sizeof(magic));
	memcpy(head.key, policy->key, sizeof(head.key));
	return recording__write(file, bytes__of(&head, sizeof(head)));
}

int recording__write(FILE *file, struct bytes record)
{
	errno = 0;
	if (fwrite(record.data, 1, record.size, file) != record.size)
		return stream_error(file);
	return 0;
}

int recording__read_head(FILE *file, struct policy *policy, uint32_t *ret_version)
{
	struct recording_head head;

	errno = 0;
	if (fread(&head, 1, sizeof(head), file) != sizeof(head))
		return ferror(file) ? stream_error(file) : -ENOMSG;
	if (memcmp(head.magic, magic, sizeof(magic)))
		return -ENOMSG;
	*ret_version = head.version;
	if (head.version != WIRE_VERSION)
		return -EPROTO;
	memcpy(policy->key, head.key, sizeof(head.key));
	policy->clock_offset_ns = head.clock_offset_ns;
	return 0;
}

int recording__replay(FILE *file, recording_fn *fn, void *context, uint64_t *ret_offset)
{
	uint64_t offset = sizeof(struct recording_head);
	struct wire_header header;
	uint8_t *record = NULL, *larger;
	size_t capacity = 0, got;
	int err = 0;

	do {
		errno = 0;
		got = fread(&header, 1, sizeof(header), file);
		if (got != sizeof(header)) {
			err = ferror(file) ? stream_error(file) : -ENODATA;
			break;
		}
		if (header.size < sizeof(header) || header.size > RECORDING_MAX_RECORD) {
			err = -EBADMSG;
			break;
		}
		if (header.size > capacity) {
			larger = realloc(record, header.size);
			if (!larger) {
				err = -ENOMEM;
				break;
			}
			record = larger;
			capacity = header.size;
		}
		memcpy(record, &header, sizeof(header));
		got = header.size - sizeof(header);
		if (fread(record + sizeof(header), 1, got, file) != got) {
			err = ferror(file) ? stream_error(file) : -ENODATA;
			break;
		}
		fn(context, bytes__of(record, header.size));
		offset += header.size;
	} while (header.type != WIRE_END);
	free(record);
	*ret_offset = offset;
	return err;
}
