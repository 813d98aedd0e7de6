/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The probe sites of all TLS functions of a file. What each function needs (how many arguments its
 * probes read, whether they want its return) is known here; where that is to be had, placement.h
 * knows.
 */
#ifndef TLSTRACE_SITES_H
#define TLSTRACE_SITES_H

#include "placement.h"
#include "symbols.h"

struct tls_sites {
	bool wanted[TLS_FUNCTION_COUNT]; /* probes go there; placement means something */
	struct placement placement[TLS_FUNCTION_COUNT];
	unsigned int left_out; /* functions whose return only a uretprobe could see */
};

/* Whether the probes of a function want its entry. */
bool tls_function__has_entry(enum tls_function function);

/*
 * The sites of the functions of `code`, which elf_file__tls_code found in the file that was opened
 * with `fd`. With `emulated` NULL, first bytes and returns, without analysis. A function that
 * cannot be analysed gets those too. 0 or -ENOMEM.
 *
 * `uretprobes` tells that they harm nobody on this kernel. Then one on an emulated first
 * instruction is taken before return instructions, which are single-stepped and 4 to 24 times as
 * dear. If not, functions that would need one are left out: better not seen than killed.
 */
int tls_sites__find(const struct elf_file *file, int fd, const struct tls_code *code,
		    const struct emulated *emulated, bool uretprobes, struct tls_sites *ret_sites);

#endif
