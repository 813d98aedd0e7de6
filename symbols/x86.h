/* SPDX-License-Identifier: BSD-2-Clause */
/* x86-64's machine code, between the files that read it. Internal to symbols/. */
#ifndef TLSTRACE_X86_H
#define TLSTRACE_X86_H

#include "go_arguments.h"
#include "instruction.h"

/* Registers' numbers as the hardware has them. */
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14 };

instruction_decode_fn x86__decode;

go_arguments_fn x86__keeps_arguments;

#endif
