"""The cases, one module a subject; lib.case says what a case is."""
