# SPDX-License-Identifier: BSD-2-Clause
# The tests and checks that `make test` and `make lint` run.

unit: $(O)/unit-tests
	$(O)/unit-tests
.PHONY: unit
