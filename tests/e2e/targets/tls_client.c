/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An HTTPS client that makes its TLS calls exactly as told, to be linked with libssl shared and
 * static. Usage: tls_client HOST PORT MODE BUFFER TARGET... makes one GET a TARGET, each read with
 * calls of BUFFER bytes until the response (which must have a Content-Length) is whole, and prints
 * a JSON line for each: pid, local port, status, body bytes.
 *
 * MODE: `classic` SSL_read and SSL_write; `ex` SSL_read_ex and SSL_write_ex; `peek` SSL_peek before
 * every SSL_read; `clear` every request on a new connection with the same SSL object; `nonblocking`
 * on a socket that does not block, partial writes on, every WANT_READ and WANT_WRITE waited for;
 * `renewed` every
 * request on a new connection with a new SSL object, which malloc puts where the freed one was.
 */
#include <netdb.h>
#include <poll.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *host, *port, *mode;
static size_t buffer_size;
static SSL_CTX *context;
static SSL *tls;
static int fd = -1;

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void die(const char *what)
{
	fprintf(stderr, "tls_client: %s failed\n", what);
	exit(1);
}

static int connect_socket(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	int s;

	if (getaddrinfo(host, port, &hints, &found))
		die("getaddrinfo");
	s = socket(found->ai_family, SOCK_STREAM, 0);
	if (s < 0 || connect(s, found->ai_addr, found->ai_addrlen))
		die("connect");
	freeaddrinfo(found);
	return s;
}

/* Whether the call that returned `result` is to be made again; waits until it can be. */
static bool again(int result)
{
	struct pollfd wait = {.fd = fd};
	int error = SSL_get_error(tls, result);

	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		return false;
	wait.events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
	poll(&wait, 1, -1);
	return true;
}

static void open_connection(void)
{
	int result;

	fd = connect_socket();
	if (is("nonblocking"))
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (!tls)
		tls = SSL_new(context);
	if (!tls || !SSL_set_fd(tls, fd))
		die("SSL_new");
	SSL_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while ((result = SSL_connect(tls)) != 1)
		if (!again(result))
			die("SSL_connect");
}

static void close_connection(void)
{
	SSL_shutdown(tls);
	if (is("clear")) {
		SSL_clear(tls);
	} else {
		SSL_free(tls);
		tls = NULL;
	}
	close(fd);
	fd = -1;
}

static void write_all(const char *data, size_t size)
{
	while (size) {
		size_t done = 0;
		int result;

		if (is("ex")) {
			result = SSL_write_ex(tls, data, size, &done);
		} else {
			result = SSL_write(tls, data, (int)size);
			done = result > 0 ? (size_t)result : 0;
		}
		if (result <= 0 && !again(result))
			die("SSL_write");
		data += done;
		size -= done;
	}
}

static size_t read_some(char *data, size_t size)
{
	for (;;) {
		size_t done = 0;
		int result;

		if (is("peek") && SSL_peek(tls, data, (int)size) <= 0)
			die("SSL_peek");
		if (is("ex")) {
			result = SSL_read_ex(tls, data, size, &done);
		} else {
			result = SSL_read(tls, data, (int)size);
			done = result > 0 ? (size_t)result : 0;
		}
		if (result > 0)
			return done;
		if (!again(result))
			die("SSL_read");
	}
}

/* Reads one response; returns the bytes of its body and its status. */
static size_t read_response(int *ret_status)
{
	static char head[1 << 16];
	size_t have = 0, length, body;
	char *buffer = malloc(buffer_size), *end, *field;

	do {
		size_t got = read_some(buffer, buffer_size);

		if (have + got >= sizeof(head))
			die("a head of this size");
		memcpy(head + have, buffer, got);
		have += got;
		head[have] = '\0';
	} while (!(end = strstr(head, "\r\n\r\n")));
	field = strcasestr(head, "content-length:");
	if (!field)
		die("a response without a length");
	length = strtoul(field + strlen("content-length:"), NULL, 10);
	*ret_status = atoi(head + strlen("HTTP/1.1 "));
	for (body = have - (size_t)(end + 4 - head); body < length;)
		body += read_some(buffer, buffer_size);
	free(buffer);
	return body;
}

static int local_port(void)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	char service[16];

	getsockname(fd, (struct sockaddr *)&address, &size);
	getnameinfo((struct sockaddr *)&address, size, NULL, 0, service, sizeof(service),
		    NI_NUMERICSERV);
	return atoi(service);
}

static void get(const char *target)
{
	char request[4096];
	int status, size;
	size_t body;

	size = snprintf(request, sizeof(request),
			"GET %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: tls_client\r\n\r\n", target,
			host, port);
	write_all(request, (size_t)size);
	body = read_response(&status);
	printf("{\"method\": \"GET\", \"target\": \"%s\", \"status\": %d, \"response_size\": %zu, "
	       "\"local\": [\"127.0.0.1\", %d], \"peer\": [\"127.0.0.1\", %s], \"pid\": %d}\n",
	       target, status, body, local_port(), port, getpid());
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		die("too few arguments: reading them");
	host = argv[1];
	port = argv[2];
	mode = argv[3];
	buffer_size = strtoul(argv[4], NULL, 10);
	context = SSL_CTX_new(TLS_client_method());
	for (int i = 5; i < argc; i++) {
		if (fd < 0)
			open_connection();
		get(argv[i]);
		if (is("clear") || is("renewed"))
			close_connection();
	}
	if (fd >= 0)
		close_connection();
	SSL_free(tls);
	SSL_CTX_free(context);
	return 0;
}
