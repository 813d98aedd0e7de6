/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages to the user, on stderr, each line beginning with "tlstrace: ". For the program alone:
 * library code returns errors instead.
 */
#ifndef TLSTRACE_LOG_H
#define TLSTRACE_LOG_H

enum log_level {
	LOG_ALWAYS,  /* the ready line, the totals, what ends the program */
	LOG_WARNING, /* not with -q */
	LOG_VERBOSE, /* with -v */
	LOG_DEBUG,   /* with -vv */
};

/* Shows messages up to `level`; LOG_WARNING until it is called. */
void log__set_level(enum log_level level);

void log__print(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...)	 log__print(LOG_ALWAYS, __VA_ARGS__)
#define log_notice(...)	 log__print(LOG_ALWAYS, __VA_ARGS__)
#define log_warning(...) log__print(LOG_WARNING, __VA_ARGS__)
#define log_verbose(...) log__print(LOG_VERBOSE, __VA_ARGS__)
#define log_debug(...)	 log__print(LOG_DEBUG, __VA_ARGS__)

#endif
