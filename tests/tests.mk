# SPDX-License-Identifier: BSD-2-Clause
# The tests and checks. Each suite leaves its count, `N passed, N failed, N skipped`, in
# $(RESULTS)/NAME.txt.
#
#   make test       all suites, then a line for each; a machine without the tools gets them first
#   make unit, test-san (unit tests with sanitizers), test-fuzz, placement, golden, test-e2e   one suite
#   make test-go    the end-to-end cases of Go with programs of all Debian's suites: 400 MB to fetch
#   make soak-go    ten minutes of tlstrace coming to and going from Go programs under load
#   make test-vm    the end-to-end suite under Debian's kernels, in emulated machines
#   make lint       style and static checks; `make format` does what can be done about style

RESULTS ?= $(O)/results
SUITES  := unit test-san test-fuzz placement golden test-e2e

test:
	scripts/setup build test
	@rm -rf $(RESULTS); failed=; \
	for suite in $(SUITES); do \
		$(MAKE) --no-print-directory $$suite || failed=1; \
	done; \
	$(O)/tlstrace --check >/dev/null 2>&1; if test $$? -eq 3; then \
		echo "this host cannot trace: end-to-end tests under Debian's kernel 6.12, emulated"; \
		$(MAKE) --no-print-directory test-vm KERNELS=6.12 || failed=1; \
		set -- vm-6.12; \
	fi; \
	for suite in $(SUITES:test-%=%) $$@; do \
		echo "$$suite: $$(cat $(RESULTS)/$$suite.txt 2>/dev/null || echo did not run)"; \
	done; \
	test -z "$$failed"

# The one file of capture/ that needs no kernel.
$(O)/unit-tests: $(call obj,tracer/capture/recording.c)

UNIT_NAME ?= unit
unit: $(O)/unit-tests
	tests/unit/run $(O)/unit-tests $(UNIT_NAME) $(RESULTS)

test-san:
	$(MAKE) --no-print-directory O=$(O)/san SANITIZE=1 RESULTS=$(RESULTS) UNIT_NAME=san unit

$(O)/placement-check: $(call obj,tests/bpf/placement_check.c tracer/capture/emulation.c tracer/capture/closing.c \
			tracer/capture/uprobe.c tracer/capture/trial.c) $(O)/libsymbols.a
	$(CC) $(LDFLAGS) -o $@ $^ -lbpf -lelf -lZydis -ldl

placement: $(O)/placement-check
	tests/bpf/run_placement $(O)/placement-check $(O)/placement $(RESULTS)

golden: all
	@mkdir -p $(RESULTS)
	TLSTRACE=$(O)/tlstrace tests/golden/run --results $(RESULTS)/golden.txt

# Reads Go programs of machines other than this.
$(O)/go-sites: $(call obj,tests/go/sites.c) $(O)/libsymbols.a
	$(CC) $(LDFLAGS) -o $@ $^ -lelf -lZydis

test-e2e: all $(O)/go-sites
	@mkdir -p $(RESULTS)
	tests/e2e/run.py --tlstrace $(O)/tlstrace --results $(RESULTS)/e2e.txt

test-go: all $(O)/go-sites
	@mkdir -p $(RESULTS)
	TLSTRACE_GO_SUITES=all tests/e2e/run.py --tlstrace $(O)/tlstrace \
		--results $(RESULTS)/go.txt 'go.*' 'go_odd.*' 'go_arm64.*'

soak-go: all
	tests/soak/go.py --tlstrace $(O)/tlstrace

KERNELS ?= 5.10 6.1 6.12 sid
test-vm: all
	@scripts/setup test vm || true
	tests/vm/run $(O)/tlstrace $(RESULTS) $(KERNELS)

demo:
	scripts/setup build demo
	$(MAKE) all
	scripts/demo $(O)/tlstrace

bench:
	scripts/setup build bench
	$(MAKE) all
	tests/bench/bench.py --tlstrace $(O)/tlstrace

.PHONY: test unit test-san placement golden test-e2e test-go soak-go test-vm demo bench

# ---- lint ----

C_FILES  := $(shell find probes symbols tracer tests -name '*.[ch]')
# cppcheck knows neither BPF's types nor Criterion's macros.
CPPCHECK_FILES := $(filter symbols/%.c tracer/%.c,$(C_FILES))
CPPCHECKFLAGS := --quiet --std=c11 --language=c --enable=warning,performance,portability \
                 --inline-suppr --error-exitcode=1 --suppress=missingIncludeSystem \
                 --suppress=autovarInvalidDeallocation \
                 --library=tests/cppcheck.cfg -D_GNU_SOURCE -D__x86_64__
SH_FILES  = $(shell grep -rlE '^\#!.*\<(ba)?sh$$' .ci scripts tests)
LIB_SYMBOLS := tests/library-symbols.txt

lint:
	scripts/setup build lint
	$(MAKE) --no-print-directory -k lint-format lint-cppcheck lint-sh lint-man lint-spdx \
		lint-symbols lint-bpf

format:
	$(CLANGFORMAT) -i $(C_FILES)

lint-format:
	@$(CLANGFORMAT) --dry-run -Werror $(C_FILES)

lint-cppcheck:
	@cppcheck $(CPPCHECKFLAGS) -Itracer -Iprobes -Isymbols $(CPPCHECK_FILES)

lint-sh:
	@shellcheck $(SH_FILES)

lint-man:
	@test ! -e docs/tlstrace.8 || mandoc -T lint -W warning docs/tlstrace.8

lint-spdx:
	@! grep -L SPDX-License-Identifier Makefile $(C_FILES) $(SH_FILES) \
		$$(find probes symbols tracer tests scripts -name '*.py' -o -name '*.js' -o -name '*.inc' \
		-o -name '*.mk') | sed 's/$$/: no SPDX-License-Identifier/' | grep .

# The library does no I/O and reads no clock: it may need these symbols and its own.
lint-symbols: $(O)/libtlstrace.a
	@! nm -u --format=posix $< | sed -n 's/ U.*//p' | sort -u | \
		grep -vxF -e "$$(nm -g --defined-only --format=posix $< | sed -n 's/ [TDBRVWC] .*//p')" \
		-e "$$(grep -v '^#' $(LIB_SYMBOLS))" | sed 's|$$|: not in $(LIB_SYMBOLS)|' | grep .

lint-bpf:
	@! grep -rn '#include <bpf/' tracer symbols | grep -v '^tracer/capture/'

.PHONY: lint format lint-format lint-cppcheck lint-sh lint-man lint-spdx lint-symbols lint-bpf

# ---- fuzzing ----

FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 60
FUZZ_BRIEF_SECONDS ?= 8
HAS_LIBFUZZER = $(shell echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	$(CLANG) -fsanitize=fuzzer,address -x c -o /dev/null - 2>/dev/null && echo yes)

# make fuzz [FUZZERS=http2] [FUZZ_SECONDS=3600]: each in turn, with sanitizers; what it found stays
# in $(O)/fuzz/NAME.corpus, and an input that fails in $(O)/fuzz.
fuzz: $(FUZZERS:%=$(O)/fuzz/%) $(O)/fuzz/seeds
	tests/fuzz/run $(O)/fuzz $(O)/fuzz/results.txt $(FUZZ_SECONDS) $(FUZZERS)

test-fuzz:
	@mkdir -p $(O)/fuzz
	test -z "$(HAS_LIBFUZZER)" || \
		$(MAKE) --no-print-directory $(FUZZERS:%=$(O)/fuzz/%) $(O)/fuzz/seeds
	tests/fuzz/run $(O)/fuzz $(RESULTS)/fuzz.txt $(FUZZ_BRIEF_SECONDS) $(FUZZERS)

# Beside the library, what this one reads files with.
$(O)/fuzz/go: $(SYMBOLS_SRC) tests/support/go_image.c

# An offset of zero from NULL is defined by now, whatever clang 14 says.
$(O)/fuzz/%: tests/fuzz/fuzz_%.c $(LIB_SRC) Makefile tests/tests.mk
	@mkdir -p $(@D)
	echo "  FUZZ $@"
	$(CLANG) $(CPPFLAGS) -std=gnu11 -g -O1 -fno-strict-aliasing \
		-fsanitize=fuzzer,address,undefined -fno-sanitize=pointer-overflow \
		-fno-sanitize-recover=all -o $@ \
		$(filter %.c,$^) -lnghttp2 -lelf -lZydis

$(O)/fuzz/pairing: tests/support/records.c tests/support/json_check.c $(SINK_SRC)

$(O)/fuzz/seeds: tests/fuzz/seeds $(wildcard tests/golden/*.rec) tests/unit/http1_corpus.inc
	@rm -rf $@
	tests/fuzz/seeds $@ $(filter %.rec %.inc,$^)

.PHONY: fuzz test-fuzz
