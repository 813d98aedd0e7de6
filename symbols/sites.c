/* SPDX-License-Identifier: BSD-2-Clause */
/* The probe sites of all TLS functions of a file. See sites.h. */
#include "sites.h"

#include <errno.h>
#include <stdlib.h>

/* What the probes of each function need (probes/openssl.bpf.c). */
static const struct need {
	unsigned int arguments;
	bool entry;
	bool exit;
} needs[TLS_FUNCTION_COUNT] = {
	[TLS_READ] = {3, true, true},
	[TLS_READ_EX] = {4, true, true},
	[TLS_PEEK] = {3, true, true},
	[TLS_PEEK_EX] = {4, true, true},
	[TLS_READ_EARLY_DATA] = {4, true, true},
	[TLS_WRITE] = {3, true, true},
	[TLS_WRITE_EX] = {4, true, true},
	[TLS_WRITE_EX2] = {5, true, true},
	[TLS_WRITE_EARLY_DATA] = {4, true, true},
	[TLS_SENDFILE] = {4, true, true},
	[TLS_DO_HANDSHAKE] = {1, true, true},
	[TLS_CONNECT] = {1, true, true},
	[TLS_ACCEPT] = {1, true, true},
	[TLS_NEW] = {0, false, true},
	[TLS_UP_REF] = {1, true, false},
	[TLS_FREE] = {1, true, false},
	[TLS_CLEAR] = {1, true, false},
	[TLS_SHUTDOWN] = {1, true, false},
	[TLS_SET_FD] = {2, true, false},
	[TLS_SET_RFD] = {2, true, false},
	[TLS_SET_WFD] = {2, true, false},
	[TLS_BIO_READ] = {3, true, true},
	[TLS_BIO_WRITE] = {3, true, false},
};

bool tls_function__has_entry(enum tls_function function)
{
	return needs[function].entry;
}

/* The first byte and a uretprobe: always right. */
static struct placement plain_placement(const struct need *need, uint64_t offset,
					const char *reason)
{
	struct placement_site site = {.offset = offset, .class = SITE_STEPPED};

	return (struct placement){
		.entry = site,
		.uretprobe = site,
		.exit_kind = need->exit ? EXIT_URETPROBE : EXIT_NONE,
		.entry_reason = reason,
		.exit_reason = reason,
	};
}

static int place(const struct elf_file *file, int fd, const struct elf_function *function,
		 const struct need *need, const struct emulated *emulated,
		 struct placement *ret_placement)
{
	struct function_parts parts = {file, fd, function->address};
	const struct code_source source = {function_parts__read, &parts};
	struct code_part code;
	int err = function_code__read(file, fd, function, &code);

	if (err)
		return err;
	err = placement__find(&code, &source, need->arguments, need->exit, emulated, ret_placement);
	free(code.code);
	return err;
}

/* Return instructions cost more than a uretprobe on an instruction that the kernel emulates. */
static void prefer_uretprobe(struct placement *placement)
{
	bool stepped = false;

	for (unsigned int i = 0; i < placement->exit_count; i++)
		stepped |= placement->exits[i].class == SITE_STEPPED;
	if (placement->exit_kind != EXIT_SITES || !stepped ||
	    placement->uretprobe.class != SITE_EMULATED)
		return;
	placement->exit_kind = EXIT_URETPROBE;
	placement->entry = placement->uretprobe;
	placement->exit_reason = "cheaper here than its stepped return instructions";
}

int tls_sites__find(const struct elf_file *file, int fd, const struct tls_code *code,
		    const struct emulated *emulated, bool uretprobes, struct tls_sites *ret_sites)
{
	int err = 0;

	*ret_sites = (struct tls_sites){0};
	for (int f = 0; f < TLS_FUNCTION_COUNT; f++) {
		struct elf_function function = {
			.name = tls_function__name(f),
			.address = code->address[f],
			.size = code->size[f],
		};

		if (!code->offset[f])
			continue;
		/* SSL_write_ex is a call of SSL_write_ex2 where there is one, nothing else. */
		if (f == TLS_WRITE_EX && code->offset[TLS_WRITE_EX2])
			continue;
		ret_sites->wanted[f] = true;
		if (emulated)
			err = place(file, fd, &function, &needs[f], emulated,
				    &ret_sites->placement[f]);
		if (err == -ENOMEM)
			return err;
		if (!emulated || err)
			ret_sites->placement[f] =
				plain_placement(&needs[f], code->offset[f],
						emulated ? "its code cannot be read as a whole"
							 : "asked for");
		if (uretprobes && emulated)
			prefer_uretprobe(&ret_sites->placement[f]);
		if (!uretprobes && ret_sites->placement[f].exit_kind == EXIT_URETPROBE) {
			ret_sites->wanted[f] = false;
			ret_sites->left_out++;
		}
	}
	return 0;
}
