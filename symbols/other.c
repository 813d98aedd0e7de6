/* SPDX-License-Identifier: BSD-2-Clause */
/* TLS libraries that no probes know: so that it can be said why nothing is seen. See symbols.h. */
#include "symbols.h"

#include <string.h>

/* By the beginning of the file's name. */
static const struct other_library {
	const char *file;
	const char *name;
} libraries[] = {
	{"libgnutls.so", "GnuTLS"},    {"libnss3.so", "NSS"},
	{"libssl3.so", "NSS"},	       {"libnspr4.so", "NSPR, which NSS uses"},
	{"libmbedtls.so", "Mbed TLS"}, {"libwolfssl.so", "wolfSSL"},
};

const char *other_tls_library(const char *path)
{
	const char *name = basename(path);

	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
		if (!strncmp(name, libraries[i].file, strlen(libraries[i].file)))
			return libraries[i].name;
	return NULL;
}
