/* SHA-256 through OpenSSL; see digest.h.
 *
 * By its plain functions, which OpenSSL 3 calls deprecated, and linked statically: its
 * providers and the whole library cost every process two milliseconds, and there are
 * builds of which that would be a quarter. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "lib/artifact/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20 };

void digester_begin(struct digester *d)
{
	d->failed = !SHA256_Init(&d->state);
}

void digester_add(struct digester *d, const void *data, size_t size)
{
	if (!d->failed && !SHA256_Update(&d->state, data, size))
		d->failed = true;
}

bool digester_end(struct digester *d, struct digest *out, error *err)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[DIGEST_HEX / 2];
	if (d->failed || !SHA256_Final(raw, &d->state))
		return fail(err, EXIT_ENVIRONMENT, "SHA-256: OpenSSL cannot compute it");
	for (size_t i = 0; i < sizeof raw; i++) {
		out->hex[2 * i] = digits[raw[i] >> 4];
		out->hex[2 * i + 1] = digits[raw[i] & 15];
	}
	out->hex[DIGEST_HEX] = '\0';
	return true;
}

bool digest_bytes(const void *data, size_t size, struct digest *out, error *err)
{
	struct digester d;
	digester_begin(&d);
	digester_add(&d, data, size);
	return digester_end(&d, out, err);
}

/* Feeds the whole file to the digester through buffer[size]. */
static bool add_descriptor(struct digester *d, int fd, const char *path, char *buffer,
                           size_t size, uint64_t *bytes, error *err)
{
	*bytes = 0;
	for (;;) {
		ssize_t n = pread(fd, buffer, size, (off_t)*bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(err, errno, "%s: cannot read", path);
		if (n == 0)
			return true;
		digester_add(d, buffer, (size_t)n);
		*bytes += (uint64_t)n;
	}
}

bool digest_descriptor(int fd, const char *path, struct digest *out, uint64_t *bytes,
                       error *err)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return fail_errno(err, errno, "%s: cannot stat", path);
	if (!S_ISREG(st.st_mode))
		return fail(err, EXIT_BAD_INPUT, "%s: expected a regular file, found %s", path,
		            S_ISDIR(st.st_mode) ? "a folder" : "something else");
	/* Small files get a small buffer: the pages of a large one would cost more
	 * than hashing them. */
	size_t size = st.st_size < READ_BYTES ? (size_t)st.st_size + 1 : READ_BYTES;
	char *buffer = malloc(size);
	if (!buffer)
		return fail_memory(err, path, size);
	struct digester d;
	digester_begin(&d);
	bool ok = add_descriptor(&d, fd, path, buffer, size, bytes, err);
	free(buffer);
	return ok && digester_end(&d, out, err);
}

bool digest_file(const char *path, struct digest *out, uint64_t *bytes, error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail_errno(err, errno, "%s: cannot open", path);
	bool ok = digest_descriptor(fd, path, out, bytes, err);
	close(fd);
	return ok;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->hex, b->hex, DIGEST_HEX) == 0;
}

bool digest_parse(const char *text, size_t length, struct digest *out)
{
	if (length != DIGEST_HEX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
			return false;
	memcpy(out->hex, text, DIGEST_HEX);
	out->hex[DIGEST_HEX] = '\0';
	return true;
}
