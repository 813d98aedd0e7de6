# SPDX-License-Identifier: BSD-2-Clause
"""The cases, one module a subject; lib.case says what a case is."""
