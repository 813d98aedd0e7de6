# SPDX-License-Identifier: BSD-2-Clause
# Builds tlstrace. All artefacts go to $(O); nothing is read from the build host's kernel.
#
#   make            the program, $(O)/tlstrace
#   make demo       see it work              make test     all tests
#   make lint       style and static checks  make bench    what tracing costs
#   make install    DESTDIR, prefix          make clean

O       ?= build
prefix  ?= /usr/local
sbindir ?= $(prefix)/sbin
mandir  ?= $(prefix)/share/man

CC          ?= gcc
CLANG       ?= clang
LLVM_STRIP  ?= llvm-strip
BPFTOOL     ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
CLANGFORMAT ?= clang-format

VERSION := $(shell cat VERSION)
# Multiarch triplet, of the machine that is built for: where Debian keeps asm/types.h, which the BPF
# target has no headers of.
TRIPLET := $(shell $(CC) -print-multiarch 2>/dev/null)
BPF_ARCH_x86_64  := x86
BPF_ARCH_aarch64 := arm64
BPF_ARCH := $(BPF_ARCH_$(firstword $(subst -, ,$(shell $(CC) -dumpmachine))))

CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wshadow \
            -Wpointer-arith -Wvla -Wformat=2 -Wno-unused-parameter
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DTLSTRACE_VERSION='"$(VERSION)"' \
            -Itracer -Iprobes -Isymbols -I$(O)
ALL_CFLAGS = -std=gnu11 $(WARNINGS) -fno-strict-aliasing $(CFLAGS)
ifdef SANITIZE
ALL_CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS    += -fsanitize=address,undefined
endif

# The library: from intake to policy, and the formats. No I/O, no clock, no libbpf (see lint).
LIB_SRC := $(wildcard tracer/base/*.c tracer/intake/*.c tracer/flow/*.c tracer/proto/*.c \
                      tracer/exchange/*.c tracer/policy/*.c tracer/pipeline.c)
SINK_SRC    := $(wildcard tracer/sink/*.c)
SYMBOLS_SRC := $(wildcard symbols/*.c)
CAPTURE_SRC := $(wildcard tracer/capture/*.c)
MAIN_SRC    := $(filter-out tracer/pipeline.c,$(wildcard tracer/*.c))
UNIT_SRC    := $(wildcard tests/unit/*.c tests/support/*.c)
PROBES      := $(wildcard probes/*.bpf.c)

obj = $(patsubst %.c,$(O)/%.o,$(1))
SKELETON := $(O)/probes.skel.h

# Short lines; `make V=1` shows the commands.
ifndef V
.SILENT:
endif

all: $(O)/tlstrace

$(O)/tlstrace: $(call obj,$(MAIN_SRC) $(CAPTURE_SRC) $(SINK_SRC)) $(O)/libtlstrace.a $(O)/libsymbols.a
	echo "  LD   $@"
	$(CC) $(LDFLAGS) -o $@ $^ -lbpf -lelf -lZydis -lnghttp2

# Archives are made anew: ar would keep the member of a file that is gone.
$(O)/libtlstrace.a: $(call obj,$(LIB_SRC)) $(O)/lib.list
	rm -f $@; $(AR) rcs $@ $(filter %.o,$^)
$(O)/libsymbols.a: $(call obj,$(SYMBOLS_SRC)) $(O)/symbols.list
	rm -f $@; $(AR) rcs $@ $(filter %.o,$^)

# Lists change only when the set of files does; what depends on one is remade when a file goes.
$(O)/lib.list: LIST = $(LIB_SRC)
$(O)/symbols.list: LIST = $(SYMBOLS_SRC)
$(O)/unit.list: LIST = $(UNIT_SRC)
$(O)/probes.list: LIST = $(PROBES)
$(O)/%.list: FORCE
	@mkdir -p $(@D); echo $(LIST) | cmp -s - $@ || echo $(LIST) >$@

$(O)/%.o: %.c Makefile VERSION
	mkdir -p $(@D)
	echo "  CC   $@"
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(call obj,$(CAPTURE_SRC)): $(SKELETON)

$(O)/%.bpf.o: probes/%.bpf.c Makefile
	mkdir -p $(@D)
	echo "  BPF  $@"
	$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Werror -D__TARGET_ARCH_$(BPF_ARCH) -Iprobes \
		-idirafter /usr/include/$(TRIPLET) -MMD -MP -c -o $@ $<
	$(LLVM_STRIP) -g $@
# One object of all probes: they share maps, and adding a file needs no change here.
$(O)/probes.bpf.o: $(patsubst probes/%.c,$(O)/%.o,$(PROBES)) $(O)/probes.list
	$(BPFTOOL) gen object $@ $(filter %.o,$^)
$(SKELETON): $(O)/probes.bpf.o
	$(BPFTOOL) gen skeleton $< name tlstrace_bpf >$@.tmp && mv $@.tmp $@

# The allocators are wrapped so that tests can make the n-th allocation fail.
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(O)/unit-tests: $(call obj,$(UNIT_SRC)) $(call obj,$(SINK_SRC)) $(O)/libtlstrace.a $(O)/libsymbols.a $(O)/unit.list
	$(CC) $(LDFLAGS) $(WRAP) -o $@ $(filter %.o %.a,$^) -lcriterion -lelf -lZydis -lnghttp2
CPPFLAGS += -Itests/support

include tests/tests.mk

install: all
	install -D -m 755 $(O)/tlstrace $(DESTDIR)$(sbindir)/tlstrace
	install -D -m 644 docs/tlstrace.8 $(DESTDIR)$(mandir)/man8/tlstrace.8

clean:
	rm -rf $(O)

FORCE:
.PHONY: all install clean FORCE
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $(O) -name '*.d' 2>/dev/null)
