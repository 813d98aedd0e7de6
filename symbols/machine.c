/* SPDX-License-Identifier: BSD-2-Clause */
/* The machines whose files are read. See machine.h. */
#include "machine.h"

#if defined(__x86_64__)
#define HOST machine_x86_64
#elif defined(__aarch64__)
#define HOST machine_arm64
#else
#error "which e_machine is this?"
#endif

static const struct machine *const machines[] = {&machine_x86_64, &machine_arm64};

const struct machine *machine__of_elf(uint16_t elf_number)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
		if (machines[i]->elf_number == elf_number)
			return machines[i];
	return NULL;
}

const struct machine *machine__of_host(void)
{
	return &HOST;
}
