/* SPDX-License-Identifier: BSD-2-Clause */
/* x86-64's machine code, between the files that read it. Internal to symbols/. */
#ifndef TLSTRACE_X86_H
#define TLSTRACE_X86_H

#include "go_arguments.h"
#include "instruction.h"

instruction_decode_fn x86__decode;

go_arguments_fn x86__keeps_arguments;

#endif
