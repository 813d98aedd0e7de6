/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Finds secrets and replaces each by `<redacted:HHHHHHHH>`. See secrets.h.
 *
 * There are three kinds of places. Some header fields are secrets as a whole, or are lists of them
 * (credentials, cookies): their name tells. URLs carry secrets in their userinfo and in parameters
 * whose name tells; URLs may stand in every header field, not only in those made for them, in the
 * path and in parameters of other URLs, there percent-encoded, perhaps twice. And what is not
 * understood in such a place is taken for a secret: a log line with too little in it is a
 * nuisance, one with too much is a breach.
 *
 * Everything here is linear in its input but for the depth of encoding, which is bounded: the
 * input is what a stranger sent.
 */
#include "policy/secrets.h"

/* A scratch buffer never holds more than one value. */
#define SCRATCH_MAX_BYTES (1024 * 1024)

/* In a name, anywhere; for header fields and parameters. */
static const char *const secret_parts[] = {
	"token",   "secret",	       "password",	  "passwd",	"api-key",
	"apikey",  "access-key",       "accesskey",	  "credential", "signature",
	"session", "subscription-key", "subscriptionkey", "jwt",	"authorization",
};

/* Names of parameters of a query, whole. */
static const char *const secret_parameters[] = {"key", "sig", "code", "auth", "pwd", "pass"};

/* Names of header fields, whole, that the parts above do not find. */
static const char *const secret_headers[] = {
	"x-auth-key",
	"dpop",
	/* Digest's rspauth lets a password be guessed, SCRAM's data as well. */
	"authentication-info",
	"proxy-authentication-info",
};

/* How the name of a field whose value is a URL ends. In all others a URL is looked for. */
static const char *const url_headers[] = {
	"url",	  "uri",      "path",	     "location", "referer",   "referrer",
	"origin", "redirect", "destination", "refresh",	 "sourcemap", "request-target",
};

/* The schemes registered with IANA, and others in wide use. */
static const char *const auth_schemes[] = {
	"basic",
	"bearer",
	"concealed",
	"digest",
	"dpop",
	"gnap",
	"hoba",
	"mutual",
	"negotiate",
	"oauth",
	"privatetoken",
	"scram-sha-1",
	"vapid",
	"ntlm",
	"scram-sha-256",
	"aws4-hmac-sha256",
	"kerberos",
	"token",
	"apikey",
	"aws4-ecdsa-p256-sha256",
	"aws",
	"sharedkey",
	"hawk",
	"signature",
	"sharedkeylite",
	"jwt",
	"goog4-hmac-sha256",
	"api-key",
	"sso-key",
	"goog4-rsa-sha256",
	"key",
	"mac",
	"splunk",
	"googlelogin",
	"aws4-hmac-sha256-payload",
};

/* Attributes of a cookie: RFC 6265 5.2, its successor, and what RFC 2965 had. */
static const char *const cookie_attributes[] = {
	"expires",     "max-age",  "domain",  "path",	 "secure",     "httponly", "samesite",
	"partitioned", "priority", "version", "comment", "commenturl", "port",	   "discard",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void secrets__init(struct secrets *secrets, const uint8_t key[SIPHASH_KEY_BYTES])
{
	*secrets = (struct secrets){0};
	memcpy(secrets->key, key, SIPHASH_KEY_BYTES);
	buf__init(&secrets->name, SCRATCH_MAX_BYTES);
	buf__init(&secrets->secret, SCRATCH_MAX_BYTES);
	for (size_t i = 0; i < SECRETS_MAX_DEPTH; i++)
		buf__init(&secrets->decoded[i], SCRATCH_MAX_BYTES);
}

void secrets__free(struct secrets *secrets)
{
	buf__free(&secrets->name);
	buf__free(&secrets->secret);
	for (size_t i = 0; i < SECRETS_MAX_DEPTH; i++)
		buf__free(&secrets->decoded[i]);
}

static struct bytes slice(struct bytes text, size_t from, size_t to)
{
	return bytes__of(text.data + from, to - from);
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static bool contains(struct bytes text, const char *part)
{
	return text.size && memmem(text.data, text.size, part, strlen(part));
}

static bool ends_with(struct bytes text, const char *end)
{
	size_t size = strlen(end);

	return text.size >= size && !memcmp(text.data + text.size - size, end, size);
}

static bool equals_any(struct bytes text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes__equal_nocase(text, bytes__str(words[i])))
			return true;
	return false;
}

/* The last `byte` in the text, or text.size. */
static size_t find_last(struct bytes text, uint8_t byte)
{
	const uint8_t *hit = text.size ? memrchr(text.data, byte, text.size) : NULL;

	return hit ? (size_t)(hit - text.data) : text.size;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii__lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte at *pos, percent-decoded; moves on behind it. */
static uint8_t decode_byte(struct bytes text, size_t *pos)
{
	uint8_t c = text.data[(*pos)++];

	if (c == '%' && text.size - *pos >= 2) {
		int high = hex_digit(text.data[*pos]), low = hex_digit(text.data[*pos + 1]);

		if (high >= 0 && low >= 0) {
			*pos += 2;
			return (uint8_t)(high << 4 | low);
		}
	}
	return c;
}

/* Percent-decodes into `out`. A `+` stays: base64 in a badly made URL has it as it is. */
static void secrets__decode(struct secrets *s, struct bytes text, struct buf *out)
{
	size_t size = 0;

	buf__clear(out);
	if (!s->err)
		s->err = buf__append(out, text);
	for (size_t pos = 0; pos < out->size;) {
		uint8_t c = decode_byte(buf__view(out), &pos);

		out->data[size++] = c;
	}
	out->size = size;
}

static void secrets__copy(struct secrets *s, struct bytes text)
{
	if (!s->err && s->out)
		s->err = buf__append(s->out, text);
}

/* Writes what stands for a secret; the hash is of the decoded form, which is what is equal. */
static void secrets__replace(struct secrets *s, struct bytes secret)
{
	if (!secret.size)
		return;
	s->found++;
	if (!s->out)
		return;
	if (bytes__find(secret, '%') < secret.size) {
		secrets__decode(s, secret, &s->secret);
		secret = buf__view(&s->secret);
	}
	if (!s->err)
		s->err = buf__printf(s->out, "<redacted:%08x>",
				     (unsigned int)(siphash__24(s->key, secret) & 0xffffffff));
}

/* The same, but the blanks around it stay. */
static void secrets__replace_trimmed(struct secrets *s, struct bytes text)
{
	struct bytes secret = bytes__trim(text);
	size_t start = secret.size ? (size_t)(secret.data - text.data) : text.size;

	secrets__copy(s, slice(text, 0, start));
	secrets__replace(s, secret);
	secrets__copy(s, slice(text, start + secret.size, text.size));
}

/*
 * The name as names are compared: decoded, in lower case, `_` as `-`. Blanks and controls are
 * left out, because some servers do so too.
 */
static struct bytes secrets__name(struct secrets *s, struct bytes name)
{
	struct buf *out = &s->name;
	size_t size = 0;

	buf__clear(out);
	if (!s->err)
		s->err = buf__append(out, name);
	for (size_t pos = 0; pos < out->size;) {
		uint8_t c = ascii__lower(decode_byte(buf__view(out), &pos));

		if (c > ' ' && c != 0x7f && c != '+')
			out->data[size++] = c == '_' ? '-' : c;
	}
	out->size = size;
	return buf__view(out);
}

static bool has_secret_part(struct bytes name)
{
	/* How much is left of an allowance, in tokens or other units: no secret. */
	if (contains(name, "ratelimit") || contains(name, "rate-limit"))
		return false;
	for (size_t i = 0; i < COUNT(secret_parts); i++)
		if (contains(name, secret_parts[i]))
			return true;
	return false;
}

/* One of the whole names, also as a part of `a[key]`. */
static bool is_secret_parameter(struct bytes name)
{
	for (size_t pos = 0, end; pos <= name.size; pos = end + 1) {
		for (end = pos; end < name.size; end++)
			if (name.data[end] == '[' || name.data[end] == ']')
				break;
		if (equals_any(slice(name, pos, end), secret_parameters, COUNT(secret_parameters)))
			return true;
	}
	return false;
}

/* How a header field's value is read. */
enum field_kind {
	FIELD_TEXT, /* a URL may stand in it */
	FIELD_URL,
	FIELD_HOST,
	FIELD_CREDENTIALS,
	FIELD_COOKIES,
	FIELD_SET_COOKIE,
	FIELD_SECRET,
};

static enum field_kind field_kind(struct bytes name)
{
	if (contains(name, "authorization"))
		return FIELD_CREDENTIALS;
	if (contains(name, "set-cookie"))
		return FIELD_SET_COOKIE;
	if (ends_with(name, "cookie") || ends_with(name, "cookie2"))
		return FIELD_COOKIES;
	if (has_secret_part(name) || equals_any(name, secret_headers, COUNT(secret_headers)))
		return FIELD_SECRET;
	if (ends_with(name, "host") || ends_with(name, ":authority"))
		return FIELD_HOST;
	for (size_t i = 0; i < COUNT(url_headers); i++)
		if (ends_with(name, url_headers[i]))
			return FIELD_URL;
	return FIELD_TEXT;
}

enum parameter_kind {
	PARAMETER_OPEN,
	PARAMETER_QUERY_SECRET, /* only in queries */
	PARAMETER_SECRET,
};

static enum parameter_kind parameter_kind(struct bytes name)
{
	if (has_secret_part(name))
		return PARAMETER_SECRET;
	return is_secret_parameter(name) ? PARAMETER_QUERY_SECRET : PARAMETER_OPEN;
}

/* Names that differ do so at one of their ends, mostly; those that do not take turns. */
static struct known_name *secrets__known(struct secrets *s, struct bytes name, enum name_use use)
{
	uint64_t first = name.data[0], last = name.data[name.size - 1];

	if (name.size >= sizeof(first)) {
		memcpy(&first, name.data, sizeof(first));
		memcpy(&last, name.data + name.size - sizeof(last), sizeof(last));
	}
	first = (first ^ (last << 7 | last >> 57) ^ name.size ^ use) * 0x9e3779b97f4a7c15;
	return &s->known[(first >> 32) % SECRETS_KNOWN_NAMES];
}

/* The kind of a name as it is on the wire: an enum field_kind or parameter_kind. */
static unsigned int secrets__kind(struct secrets *s, struct bytes name, enum name_use use)
{
	bool keeps = name.size && name.size <= sizeof(s->known->text);
	struct known_name *known = keeps ? secrets__known(s, name, use) : NULL;
	struct bytes compared;
	unsigned int kind;

	if (keeps && known->use == use && bytes__equal(bytes__of(known->text, known->size), name))
		return known->kind;
	compared = secrets__name(s, name);
	kind = use == NAME_OF_FIELD ? field_kind(compared) : parameter_kind(compared);
	if (keeps && !s->err) {
		known->use = (uint8_t)use;
		known->kind = (uint8_t)kind;
		known->size = (uint8_t)name.size;
		memcpy(known->text, name.data, name.size);
	}
	return kind;
}

/* What the bytes of a URL mean; a mask. */
enum mark {
	MARK_AND = 0x1,
	MARK_SEMICOLON = 0x2,
	MARK_QUESTION = 0x4,
	MARK_HASH = 0x8,
	MARK_EQUALS = 0x10,
	MARK_SLASH = 0x20,
	MARK_BACKSLASH = 0x40,
	MARK_COLON = 0x80,
	MARK_AROUND = 0x100, /* ends a URL that stands in a text */
};

static const uint16_t marks[256] = {
	['&'] = MARK_AND,	['?'] = MARK_QUESTION, ['='] = MARK_EQUALS, ['/'] = MARK_SLASH,
	[';'] = MARK_SEMICOLON, ['#'] = MARK_HASH,     [':'] = MARK_COLON,  ['\\'] = MARK_BACKSLASH,
	[' '] = MARK_AROUND,	['\t'] = MARK_AROUND,  ['"'] = MARK_AROUND, ['<'] = MARK_AROUND,
	['>'] = MARK_AROUND,
};

/* A parameter's name or value ends at one of these, in a query and in a path. */
#define MARKS_QUERY_NAME  (MARK_EQUALS | MARK_AND | MARK_SEMICOLON | MARK_QUESTION | MARK_HASH)
#define MARKS_PATH_NAME	  (MARKS_QUERY_NAME | MARK_SLASH)
#define MARKS_QUERY_VALUE (MARK_AND | MARK_SEMICOLON | MARK_HASH)
#define MARKS_PATH_VALUE  (MARKS_QUERY_VALUE | MARK_QUESTION | MARK_SLASH)
/* What can change anything, in a URL and outside of it. */
#define MARKS_ANY  0xffff
#define MARKS_TEXT (MARK_QUESTION | MARK_HASH | MARK_SLASH | MARK_BACKSLASH | MARK_COLON)
/* What ends a segment of a path, and an authority. */
#define MARKS_SEGMENT	(MARKS_PATH_VALUE | MARK_BACKSLASH)
#define MARKS_AUTHORITY (MARK_SLASH | MARK_QUESTION | MARK_HASH | MARK_BACKSLASH)

/* Which names make a parameter secret, where one may begin. */
enum names {
	NAMES_NONE, /* no parameter begins here */
	NAMES_PARTS,
	NAMES_ALL, /* also those that are only for queries */
};

enum context {
	CONTEXT_TEXT, /* outside of a URL */
	CONTEXT_PATH,
	CONTEXT_QUERY, /* or fragment */
};

struct scan {
	struct secrets *secrets;
	struct bytes text;
	bool whole; /* the text is one URL; else URLs are somewhere in it, and end at blanks */
	unsigned int depth;
	enum context context;
	enum names names;
	size_t pos;
	size_t copied;	      /* what is before is written */
	size_t authority_end; /* what is before was searched for userinfo */
};

static void scan__run(struct scan *scan);

/* The first byte that means one of `stops` at or after `from`, or the end of the URL. */
static size_t scan__span(const struct scan *scan, size_t from, unsigned int stops)
{
	if (!scan->whole)
		stops |= MARK_AROUND;
	while (from < scan->text.size && !(marks[scan->text.data[from]] & stops))
		from++;
	return from;
}

/* The next byte from `pos` on that can change anything, or the end of the text. */
static size_t find_mark(struct bytes text, size_t pos, enum context context)
{
	unsigned int stops = context == CONTEXT_TEXT ? MARKS_TEXT : MARKS_ANY;

	while (pos < text.size && !(marks[text.data[pos]] & stops))
		pos++;
	return pos;
}

/* Replaces [from, to) and goes on behind it. */
static void scan__replace(struct scan *scan, size_t from, size_t to)
{
	secrets__copy(scan->secrets, slice(scan->text, scan->copied, from));
	secrets__replace(scan->secrets, slice(scan->text, from, to));
	scan->pos = scan->copied = to;
}

/* Whether there is a secret in an encoded text once it is decoded. It then goes as a whole. */
static bool scan__hides_secret(struct scan *scan, struct bytes text)
{
	struct secrets *s = scan->secrets;
	struct buf *out = s->out, *decoded;
	size_t found = s->found;
	struct scan inner;
	bool hides;

	if (scan->depth >= SECRETS_MAX_DEPTH || bytes__find(text, '%') == text.size)
		return false;
	decoded = &s->decoded[scan->depth];
	secrets__decode(s, text, decoded);
	inner = (struct scan){
		.secrets = s,
		.text = buf__view(decoded),
		.whole = true,
		.depth = scan->depth + 1,
		.context = CONTEXT_PATH,
		.names = NAMES_PARTS,
	};
	s->out = NULL;
	scan__run(&inner);
	/* Encoded once more, it has no structure of its own yet. */
	hides = s->found > found || scan__hides_secret(&inner, inner.text);
	s->out = out;
	s->found = found;
	return hides;
}

/* A parameter may begin here. Whether there was one whose value is replaced. */
static bool scan__parameter(struct scan *scan, enum names names)
{
	bool query = scan->context == CONTEXT_QUERY;
	unsigned int stops = query ? MARKS_QUERY_VALUE : MARKS_PATH_VALUE;
	struct bytes text = scan->text;
	/* Of `a=b=c`, c was looked at as part of b; twice would make the search quadratic. */
	bool first = !scan->pos || text.data[scan->pos - 1] != '=';
	size_t equals = scan__span(scan, scan->pos, query ? MARKS_QUERY_NAME : MARKS_PATH_NAME);
	size_t value = equals + 1, end;
	unsigned int kind;

	if (equals >= text.size || text.data[equals] != '=')
		return false;
	kind = secrets__kind(scan->secrets, slice(text, scan->pos, equals), NAME_OF_PARAMETER);
	if (kind == PARAMETER_OPEN || (kind == PARAMETER_QUERY_SECRET && names != NAMES_ALL)) {
		if (!first)
			return false;
		end = scan__span(scan, value,
				 MARKS_QUERY_VALUE |
					 MARK_QUESTION); /* behind `?` another one may begin */
		if (!scan__hides_secret(scan, slice(text, value, end)))
			return false;
		scan__replace(scan, value, end);
		return true;
	}
	/* A blank or quote would end the URL, but in front of the value it is of it. */
	for (end = value; end < text.size && (is_blank(text.data[end]) || text.data[end] == '"');)
		end++;
	end = scan__span(scan, end, stops);
	if (end == value)
		return false;
	scan__replace(scan, value, end);
	/* To those who know no `;` and no fragment here, what follows is of the value as well. */
	while (query && end < text.size && (text.data[end] == ';' || text.data[end] == '#')) {
		size_t next = scan__span(scan, end + 1, MARKS_QUERY_NAME);

		if (next < text.size && text.data[next] == '=')
			break;
		scan__replace(scan, end + 1, next);
		end = next;
	}
	return true;
}

/* Behind `//`: takes the userinfo out. */
static void scan__authority(struct scan *scan)
{
	bool query = scan->context == CONTEXT_QUERY;
	size_t start = scan->pos;
	struct bytes authority, port;
	size_t end, at;

	if (scan->context == CONTEXT_TEXT)
		scan->context = CONTEXT_PATH;
	/* `http:http:http:` would be searched to its end from each colon. */
	if (start < scan->authority_end)
		return;
	end = scan__span(scan, start, query ? MARKS_AUTHORITY | MARK_AND : MARKS_AUTHORITY);
	scan->authority_end = end;
	authority = slice(scan->text, start, end);
	at = find_last(authority, '@');
	if (at < authority.size) {
		scan__replace(scan, start, start + at);
		return;
	}
	/*
	 * A port that is no number may be the start of a password that has a `/` in it, which
	 * sloppy clients let pass. The way to the `@` is bounded: there may be many such ports.
	 */
	port = bytes__from(authority, find_last(authority, ':'));
	if (bytes__find(port, ']') < port.size)
		return;
	for (size_t i = 1; i < port.size; i++) {
		if (port.data[i] >= '0' && port.data[i] <= '9')
			continue;
		at = bytes__find(bytes__first(bytes__from(scan->text, end), 256), '@');
		if (end + at < scan->text.size && scan->text.data[end + at] == '@')
			scan__replace(scan, start, end + at);
		return;
	}
}

/* Whether the name before a `:` at `colon` is of a scheme that needs no `//` for browsers. */
static bool scan__special_scheme(const struct scan *scan, size_t colon)
{
	static const char *const schemes[] = {"http", "https", "ws", "wss", "ftp"};
	size_t start = colon;

	while (start && colon - start < 6) {
		uint8_t c = ascii__lower(scan->text.data[start - 1]);

		if (c < 'a' || c > 'z')
			break;
		start--;
	}
	return start < colon &&
	       equals_any(slice(scan->text, start, colon), schemes, COUNT(schemes));
}

static size_t scan__slashes(const struct scan *scan, size_t from)
{
	size_t pos = from;

	while (pos < scan->text.size &&
	       (scan->text.data[pos] == '/' || scan->text.data[pos] == '\\'))
		pos++;
	return pos - from;
}

static void scan__colon(struct scan *scan)
{
	size_t slashes = scan__slashes(scan, scan->pos + 1);

	if (slashes >= 2 || scan__special_scheme(scan, scan->pos)) {
		scan->pos += 1 + slashes;
		scan__authority(scan);
	} else {
		scan->pos++;
	}
}

static void scan__slash(struct scan *scan)
{
	size_t slashes = scan__slashes(scan, scan->pos), start, end;

	if (slashes >= 2 &&
	    (!scan->pos || strchr(" \t\"'<>=,;&?#([{", scan->text.data[scan->pos - 1]))) {
		scan->pos += slashes;
		scan__authority(scan);
		return;
	}
	start = ++scan->pos;
	if (scan->context != CONTEXT_PATH)
		return;
	end = scan__span(scan, start, MARKS_SEGMENT);
	if (scan__hides_secret(scan, slice(scan->text, start, end)))
		scan__replace(scan, start, end);
}

/* Reads the text from `pos` on and writes it all. */
static void scan__run(struct scan *scan)
{
	while (scan->pos < scan->text.size && !scan->secrets->err) {
		enum names names = scan->names;
		uint8_t c;

		scan->names = NAMES_NONE;
		if (names != NAMES_NONE && scan__parameter(scan, names))
			continue;
		scan->pos = find_mark(scan->text, scan->pos, scan->context);
		if (scan->pos == scan->text.size)
			break;
		c = scan->text.data[scan->pos];
		switch (c) {
		case '?':
		case '#':
			scan->context = CONTEXT_QUERY;
			scan->names = NAMES_ALL;
			scan->pos++;
			break;
		case '&':
		case ';':
			if (scan->context == CONTEXT_QUERY)
				scan->names = NAMES_ALL;
			else if (scan->context == CONTEXT_PATH)
				scan->names = NAMES_PARTS;
			scan->pos++;
			break;
		case '=':
			if (scan->context != CONTEXT_TEXT)
				scan->names = NAMES_PARTS;
			scan->pos++;
			break;
		case ':':
			scan__colon(scan);
			break;
		case '/':
		case '\\':
			scan__slash(scan);
			break;
		default:
			/* A blank does not end a query for good: it may be one that nobody encoded.
			 */
			if (!scan->whole && (scan->context == CONTEXT_PATH || !is_blank(c)))
				scan->context = CONTEXT_TEXT;
			scan->pos++;
		}
	}
	secrets__copy(scan->secrets, bytes__from(scan->text, scan->copied));
}

static void secrets__scan(struct secrets *s, struct bytes text, bool whole, enum context context,
			  enum names names)
{
	struct scan scan;

	/* Most texts have nothing of a URL in them. */
	if (names == NAMES_NONE && find_mark(text, 0, context) == text.size) {
		secrets__copy(s, text);
		return;
	}
	scan = (struct scan){
		.secrets = s, .text = text, .whole = whole, .context = context, .names = names};
	scan__run(&scan);
}

/* Credentials behind a known scheme, else all. */
static void secrets__credentials(struct secrets *s, struct bytes value)
{
	struct bytes all = bytes__trim(value);
	size_t scheme = 0;

	while (scheme < all.size && !is_blank(all.data[scheme]))
		scheme++;
	if (scheme < all.size &&
	    equals_any(bytes__first(all, scheme), auth_schemes, COUNT(auth_schemes))) {
		secrets__copy(s, bytes__first(all, scheme));
		secrets__replace_trimmed(s, bytes__from(all, scheme));
		return;
	}
	secrets__replace_trimmed(s, value);
}

/* `name=secret`, or a secret alone. */
static void secrets__pair(struct secrets *s, struct bytes pair)
{
	size_t equals = bytes__find(pair, '=');
	size_t value = equals < pair.size ? equals + 1 : 0;

	secrets__copy(s, slice(pair, 0, value));
	secrets__replace_trimmed(s, bytes__from(pair, value));
}

/* Where the cookie at `from` ends: at the next `;`, but for one in a quoted value (RFC 2109). */
static size_t cookie_end(struct bytes text, size_t from)
{
	size_t end = from + bytes__find(bytes__from(text, from), ';');
	size_t pos = from + bytes__find(slice(text, from, end), '=') + 1;

	while (pos < end && is_blank(text.data[pos]))
		pos++;
	if (pos >= end || text.data[pos] != '"')
		return end;
	for (pos++; pos < text.size && text.data[pos] != '"'; pos++)
		if (text.data[pos] == '\\')
			pos++;
	for (pos++; pos < text.size && is_blank(text.data[pos]); pos++)
		;
	if (pos >= text.size)
		return end;
	return text.data[pos] == ';' ? pos : end;
}

/*
 * An attribute of a cookie stays. What is none is taken for a value, and so is what a comma
 * brings: some software joins several Set-Cookie fields so.
 */
static void secrets__attribute(struct secrets *s, struct bytes piece)
{
	struct bytes name = bytes__trim(bytes__first(piece, bytes__find(piece, '=')));
	size_t comma = bytes__find(piece, ',');
	struct bytes rest;

	if (!equals_any(name, cookie_attributes, COUNT(cookie_attributes))) {
		secrets__pair(s, piece);
		return;
	}
	if (comma == piece.size) {
		secrets__copy(s, piece);
		return;
	}
	rest = bytes__from(piece, comma + 1);
	secrets__copy(s, bytes__first(piece, comma + 1));
	if (bytes__equal_nocase(name, bytes__str("expires")) && bytes__find(rest, '=') == rest.size)
		secrets__copy(s, rest); /* the comma behind the day of the week */
	else
		secrets__pair(s, rest);
}

static void secrets__cookies(struct secrets *s, struct bytes value, bool set_cookie)
{
	for (size_t pos = 0, end; pos < value.size; pos = end + 1) {
		bool attribute = set_cookie && pos;

		if (attribute)
			end = pos + bytes__find(bytes__from(value, pos), ';');
		else
			end = cookie_end(value, pos);
		if (attribute)
			secrets__attribute(s, slice(value, pos, end));
		else
			secrets__pair(s, slice(value, pos, end));
		if (end < value.size)
			secrets__copy(s, slice(value, end, end + 1));
	}
}

/* Host, perhaps with userinfo, which goes. */
static void secrets__host(struct secrets *s, struct bytes value)
{
	size_t at = find_last(value, '@');

	if (at < value.size) {
		secrets__replace(s, bytes__first(value, at));
		value = bytes__from(value, at);
	}
	secrets__copy(s, value);
}

static void secrets__field(struct secrets *s, enum field_kind kind, struct bytes value)
{
	switch (kind) {
	case FIELD_TEXT:
		secrets__scan(s, value, false, CONTEXT_TEXT, NAMES_NONE);
		break;
	case FIELD_URL:
		secrets__scan(s, value, true, CONTEXT_PATH, NAMES_NONE);
		break;
	case FIELD_HOST:
		secrets__host(s, value);
		break;
	case FIELD_CREDENTIALS:
		secrets__credentials(s, value);
		break;
	case FIELD_COOKIES:
		secrets__cookies(s, value, false);
		break;
	case FIELD_SET_COOKIE:
		secrets__cookies(s, value, true);
		break;
	case FIELD_SECRET:
		secrets__replace_trimmed(s, value);
		break;
	}
}

static void secrets__begin(struct secrets *s, struct buf *out)
{
	s->out = out;
	s->err = 0;
	s->found = 0;
}

int secrets__header(struct secrets *secrets, struct bytes name, struct bytes value, struct buf *out)
{
	enum field_kind kind;

	secrets__begin(secrets, out);
	kind = secrets__kind(secrets, name, NAME_OF_FIELD);
	if (!secrets->err)
		secrets__field(secrets, kind, value);
	return secrets->err;
}

int secrets__url(struct secrets *secrets, struct bytes value, struct buf *out)
{
	secrets__begin(secrets, out);
	secrets__scan(secrets, value, true, CONTEXT_PATH, NAMES_NONE);
	return secrets->err;
}

int secrets__query(struct secrets *secrets, struct bytes value, struct buf *out)
{
	secrets__begin(secrets, out);
	secrets__scan(secrets, value, true, CONTEXT_QUERY, NAMES_ALL);
	return secrets->err;
}

int secrets__whole(struct secrets *secrets, struct bytes value, struct buf *out)
{
	secrets__begin(secrets, out);
	secrets__replace(secrets, value);
	return secrets->err;
}
