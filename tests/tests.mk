# SPDX-License-Identifier: BSD-2-Clause
# The tests and checks that `make test` and `make lint` run.

# The one file of capture/ that needs no kernel.
$(O)/unit-tests: $(call obj,tracer/capture/recording.c)

unit: $(O)/unit-tests
	$(O)/unit-tests
.PHONY: unit
