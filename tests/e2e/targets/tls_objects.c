/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs that use their SSL objects in unusual ways. Usage: tls_objects MODE PORT, as a client of
 * the server on 127.0.0.1:PORT; each GET prints a JSON line with what it saw.
 *
 * MODE: `dup` connections made by SSL_dup from a template, and a second reference to one of them;
 * `fork` the same object in parent and child, on a connection of each, requests in turns;
 * `threads` one object that four threads use in turns.
 *
 * tls_objects buffered PORT CERTIFICATE KEY is a server: with read-ahead it takes two requests off
 * the socket at once, after a line of input; answers one, prints `answered`, and after another
 * line of input reads the other from its own buffer, and closes.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BODY_BYTES "300"

static struct sockaddr_in server = {.sin_family = AF_INET};
static SSL_CTX *context;

static void die(const char *what)
{
	fprintf(stderr, "tls_objects: %s failed\n", what);
	exit(1);
}

/* Connects the object, which is at its beginning, over a socket of its own. */
static void open_connection(SSL *tls)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)))
		die("connect");
	if (!SSL_set_fd(tls, fd) || SSL_connect(tls) != 1)
		die("SSL_connect");
}

static SSL *new_connection(void)
{
	SSL *tls = SSL_new(context);

	open_connection(tls);
	return tls;
}

static int local_port(const SSL *tls)
{
	struct sockaddr_in local;
	socklen_t size = sizeof(local);

	if (getsockname(SSL_get_fd(tls), (struct sockaddr *)&local, &size))
		die("getsockname");
	return ntohs(local.sin_port);
}

static void get(SSL *tls, const char *who, int number)
{
	char request[256], response[4096];
	const char *body;
	int size, have = 0, target = 0, target_end = 0;

	size = snprintf(request, sizeof(request),
			"GET %n/size/" BODY_BYTES
			"?who=%s&number=%d%n HTTP/1.1\r\nHost: localhost\r\n\r\n",
			&target, who, number, &target_end);
	if (SSL_write(tls, request, size) != size)
		die("SSL_write");
	do {
		size = SSL_read(tls, response + have, (int)sizeof(response) - 1 - have);
		if (size <= 0)
			die("SSL_read");
		have += size;
		response[have] = '\0';
		body = strstr(response, "\r\n\r\n");
	} while (!body || have - (body + 4 - response) < atoi(BODY_BYTES));
	printf("{\"method\": \"GET\", \"target\": \"%.*s\", \"status\": %d, \"response_size\": "
	       "" BODY_BYTES ", \"local\": [\"127.0.0.1\", %d], \"peer\": [\"127.0.0.1\", %d], "
	       "\"pid\": %d}\n",
	       target_end - target, request + target, atoi(response + strlen("HTTP/1.1 ")),
	       local_port(tls), ntohs(server.sin_port), getpid());
	fflush(stdout);
}

static void use_dup(void)
{
	SSL *template = SSL_new(context), *first, *second, *reference;

	SSL_set_connect_state(template);
	first = SSL_dup(template);
	second = SSL_dup(template);
	open_connection(first);
	open_connection(second);
	for (int i = 0; i < 2; i++) {
		get(first, "first", i);
		get(second, "second", i);
	}
	/* Of an object in use, SSL_dup gives a reference. */
	reference = SSL_dup(first);
	SSL_free(first);
	get(reference, "first", 2);
	get(second, "second", 2);
	SSL_free(reference);
	SSL_free(second);
	SSL_free(template);
}

/* Waits for the other process, and lets it go on. */
static void await_turn(int from)
{
	char turn;

	if (read(from, &turn, 1) != 1)
		die("read of the turn");
}

static void pass_turn(int to)
{
	if (write(to, "", 1) != 1)
		die("write of the turn");
}

static void use_fork(void)
{
	SSL *tls = new_connection();
	int to_child[2], to_parent[2], inherited = SSL_get_fd(tls);
	pid_t child;

	get(tls, "parent", 0);
	if (pipe(to_child) || pipe(to_parent))
		die("pipe");
	child = fork();
	if (child == 0) {
		for (int i = 0; i < 4; i++) {
			await_turn(to_child[0]);
			get(tls, "child", i);
			pass_turn(to_parent[1]);
		}
		_exit(0);
	}
	/* The child has the connection; here the object gets another. */
	close(inherited);
	if (!SSL_clear(tls))
		die("SSL_clear");
	open_connection(tls);
	for (int i = 1; i < 5; i++) {
		pass_turn(to_child[1]);
		get(tls, "parent", i);
		await_turn(to_parent[0]);
	}
	waitpid(child, NULL, 0);
	SSL_free(tls);
}

static pthread_mutex_t object_lock = PTHREAD_MUTEX_INITIALIZER;
static SSL *shared;

static void *use_shared(void *who)
{
	for (int i = 0; i < 5; i++) {
		pthread_mutex_lock(&object_lock);
		get(shared, who, i);
		pthread_mutex_unlock(&object_lock);
	}
	return NULL;
}

static void use_threads(void)
{
	static char names[4][8] = {"one", "two", "three", "four"};
	pthread_t threads[4];

	shared = new_connection();
	for (int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, use_shared, names[i]))
			die("pthread_create");
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	SSL_free(shared);
}

static void await_line(void)
{
	while (getchar() != '\n')
		if (feof(stdin))
			die("reading a line");
}

static void serve_buffered(const char *certificate, const char *key)
{
	static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	char request[1024];
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	SSL *tls;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		die("the certificate");
	if (bind(listener, (struct sockaddr *)&server, sizeof(server)) || listen(listener, 1))
		die("listen");
	puts("listening");
	fflush(stdout);
	tls = SSL_new(context);
	SSL_set_read_ahead(tls, 1);
	if (!SSL_set_fd(tls, accept(listener, NULL, NULL)) || SSL_accept(tls) != 1)
		die("SSL_accept");
	await_line();
	if (SSL_read(tls, request, sizeof(request)) <= 0)
		die("SSL_read");
	if (SSL_write(tls, response, sizeof(response) - 1) <= 0)
		die("SSL_write");
	puts("answered");
	fflush(stdout);
	await_line();
	if (SSL_read(tls, request, sizeof(request)) <= 0)
		die("SSL_read from the buffer");
	SSL_free(tls);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		die("too few arguments: reading them");
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server.sin_port = htons((uint16_t)atoi(argv[2]));
	context = SSL_CTX_new(TLS_method());
	if (strcmp(argv[1], "dup") == 0)
		use_dup();
	else if (strcmp(argv[1], "fork") == 0)
		use_fork();
	else if (strcmp(argv[1], "threads") == 0)
		use_threads();
	else if (argc == 5)
		serve_buffered(argv[3], argv[4]);
	SSL_CTX_free(context);
	return 0;
}
