/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TLS libraries of the OpenSSL family: what their functions are called, and how to tell
 * OpenSSL from BoringSSL. Takes an open ELF file, gives its struct tls_code. Looks at names
 * only, never at library versions or file names: TLS code inside an executable has neither.
 */
#include "symbols.h"

#include <errno.h>
#include <string.h>

static const char *const function_names[TLS_FUNCTION_COUNT] = {
	[TLS_READ] = "SSL_read",
	[TLS_READ_EX] = "SSL_read_ex",
	[TLS_PEEK] = "SSL_peek",
	[TLS_PEEK_EX] = "SSL_peek_ex",
	[TLS_READ_EARLY_DATA] = "SSL_read_early_data",
	[TLS_WRITE] = "SSL_write",
	[TLS_WRITE_EX] = "SSL_write_ex",
	[TLS_WRITE_EX2] = "SSL_write_ex2",
	[TLS_WRITE_EARLY_DATA] = "SSL_write_early_data",
	[TLS_SENDFILE] = "SSL_sendfile",
	[TLS_DO_HANDSHAKE] = "SSL_do_handshake",
	[TLS_CONNECT] = "SSL_connect",
	[TLS_ACCEPT] = "SSL_accept",
	[TLS_NEW] = "SSL_new",
	[TLS_UP_REF] = "SSL_up_ref",
	[TLS_FREE] = "SSL_free",
	[TLS_CLEAR] = "SSL_clear",
	[TLS_SHUTDOWN] = "SSL_shutdown",
	[TLS_SET_FD] = "SSL_set_fd",
	[TLS_SET_RFD] = "SSL_set_rfd",
	[TLS_SET_WFD] = "SSL_set_wfd",
	[TLS_BIO_READ] = "BIO_read",
	[TLS_BIO_WRITE] = "BIO_write",
};

/*
 * Functions that neither OpenSSL nor LibreSSL has. Several, because a linker that collects garbage
 * leaves only what the program calls.
 */
static const char *const boringssl_names[] = {
	"SSL_early_callback_ctx_extension_get",
	"SSL_CTX_set_custom_verify",
	"SSL_set_custom_verify",
	"SSL_CTX_set_grease_enabled",
};

/* C++ namespace bssl, in which BoringSSL's libssl is written: SSL_read itself calls into it. */
static const char boringssl_namespace[] = "_ZN4bssl";

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const char ssl_prefix[] = "SSL_", bio_prefix[] = "BIO_";

/* What is known of each function while the symbols go by. */
struct search {
	uint64_t address[TLS_FUNCTION_COUNT]; /* 0: not seen */
	uint64_t size[TLS_FUNCTION_COUNT];
	bool local[TLS_FUNCTION_COUNT];
	bool boringssl;
};

const char *tls_library__name(enum tls_library_kind library)
{
	return library == TLS_LIBRARY_BORINGSSL ? "boringssl" : "openssl";
}

const char *tls_function__name(enum tls_function function)
{
	return function_names[function];
}

static bool begins_with(const char *name, const char *beginning, size_t length)
{
	return strncmp(name, beginning, length) == 0;
}

static int search__note(void *context, const struct elf_function *function)
{
	struct search *search = context;
	size_t i;

	if (!begins_with(function->name, ssl_prefix, sizeof(ssl_prefix) - 1) &&
	    !begins_with(function->name, bio_prefix, sizeof(bio_prefix) - 1)) {
		if (begins_with(function->name, boringssl_namespace,
				sizeof(boringssl_namespace) - 1))
			search->boringssl = true;
		return 0;
	}
	for (i = 0; i < LENGTH(boringssl_names); i++)
		if (strcmp(function->name, boringssl_names[i]) == 0)
			search->boringssl = true;
	for (i = 0; i < TLS_FUNCTION_COUNT; i++)
		if (strcmp(function->name, function_names[i]) == 0)
			break;
	if (i == TLS_FUNCTION_COUNT)
		return 0;
	/* A program's own static SSL_read must not hide the library's; a hidden library's is local.
	 */
	if (!search->address[i] || (search->local[i] && !function->local)) {
		search->address[i] = function->address;
		search->size[i] = function->size;
		search->local[i] = function->local;
	}
	return 0;
}

int elf_file__tls_code(struct elf_file *file, struct tls_code *ret_code)
{
	struct tls_code code = {0};
	struct search search = {0};
	size_t i;
	int err;

	err = elf_file__each_function(file, search__note, &search);
	if (err)
		return err;
	code.has_tls = (search.address[TLS_READ] || search.address[TLS_READ_EX]) &&
		       (search.address[TLS_WRITE] || search.address[TLS_WRITE_EX]);
	code.has_bio = search.address[TLS_BIO_READ] && search.address[TLS_BIO_WRITE];
	if (!code.has_tls && !code.has_bio)
		return -ENOENT;
	code.library = search.boringssl ? TLS_LIBRARY_BORINGSSL : TLS_LIBRARY_OPENSSL;
	for (i = 0; i < TLS_FUNCTION_COUNT; i++) {
		if (!search.address[i])
			continue;
		code.address[i] = search.address[i];
		code.size[i] = search.size[i];
		err = elf_file__offset(file, search.address[i], &code.offset[i]);
		if (err)
			return err;
	}
	*ret_code = code;
	return 0;
}
