/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages to the user. See log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum log_level shown = LOG_WARNING;

void log__set_level(enum log_level level)
{
	shown = level;
}

void log__print(enum log_level level, const char *format, ...)
{
	char line[1024] = "tlstrace: ";
	size_t size = strlen(line);
	va_list args;
	int more;

	if (level > shown)
		return;
	va_start(args, format);
	more = vsnprintf(line + size, sizeof(line) - size - 1, format, args);
	va_end(args);
	if (more < 0)
		return;
	size += (size_t)more;
	if (size > sizeof(line) - 2)
		size = sizeof(line) - 2;
	/* Paths are other people's: no control character of theirs reaches the terminal. */
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[size++] = '\n';
	/* One write, so that lines of the traced command do not get between. */
	if (write(STDERR_FILENO, line, size) < 0)
		return;
}
