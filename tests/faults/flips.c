/* flips VERIFY MODEL FOLDER PAYLOAD PLACES: damages the files of a checkpoint, one bit or one
 * cut at a time, and runs verify after each; see tests/faults/flips.
 *
 * PAYLOAD bits of weights are flipped; of headers and of all other files PLACES bits and
 * lengths each, or every one when PLACES is 0. */
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_FILES = 4096 };

static struct target {
	char *path;
	uint64_t bytes, header; /* of header: all of a file that is no safetensors */
} files[MOST_FILES];
static int file_count;

static const char *verify, *model, *folder;
static uint64_t tried, missed, seed = 1;

/* splitmix64 */
static uint64_t random_below(uint64_t limit)
{
	uint64_t z = (seed += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % limit;
}

static void give_up(const char *what)
{
	perror(what);
	exit(3);
}

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type != FTW_F || file_count == MOST_FILES)
		return 0;
	struct target *t = &files[file_count++];
	t->path = strdup(path);
	t->bytes = t->header = (uint64_t)st->st_size;
	const char *dot = strrchr(path, '.');
	if (dot && strcmp(dot, ".safetensors") == 0) {
		uint64_t length;
		int fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, &length, sizeof length) != sizeof length)
			give_up(path);
		close(fd);
		t->header = sizeof length + length;
	}
	return 0;
}

static int run_verify(void)
{
	pid_t child = fork();
	if (child < 0)
		give_up("fork");
	if (child == 0) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		dup2(null, 2);
		execl(verify, verify, "--model", model, folder, (char *)NULL);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void expect_found(const char *what, const struct target *t, uint64_t place)
{
	int code = run_verify();
	tried++;
	if (code == 2)
		return;
	missed++;
	printf("MISSED %s %" PRIu64 " of %s: verify ended with %d\n", what, place, t->path, code);
}

static void flip(const struct target *t, uint64_t bit)
{
	unsigned char byte;
	int fd = open(t->path, O_RDWR);
	off_t at = (off_t)(bit / 8);
	if (fd < 0 || pread(fd, &byte, 1, at) != 1)
		give_up(t->path);
	byte ^= (unsigned char)(1 << bit % 8);
	if (pwrite(fd, &byte, 1, at) != 1)
		give_up(t->path);
	expect_found("bit", t, bit);
	byte ^= (unsigned char)(1 << bit % 8);
	if (pwrite(fd, &byte, 1, at) != 1)
		give_up(t->path);
	close(fd);
}

static void cut(const struct target *t, uint64_t length)
{
	size_t lost = (size_t)(t->bytes - length);
	char *tail = malloc(lost + 1);
	int fd = open(t->path, O_RDWR);
	if (!tail || fd < 0 || pread(fd, tail, lost, (off_t)length) != (ssize_t)lost ||
	    ftruncate(fd, (off_t)length) != 0)
		give_up(t->path);
	expect_found("length", t, length);
	if (pwrite(fd, tail, lost, (off_t)length) != (ssize_t)lost)
		give_up(t->path);
	close(fd);
	free(tail);
}

/* `places` places below `limit`; 0: every one. */
static void each(void (*damage)(const struct target *, uint64_t), const struct target *t,
                 uint64_t limit, uint64_t places)
{
	for (uint64_t i = 0; i < (places ? places : limit) && limit; i++)
		damage(t, places ? random_below(limit) : i);
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 1;
	verify = argv[1];
	model = argv[2];
	folder = argv[3];
	uint64_t payload = strtoull(argv[4], NULL, 10), total = 0;
	uint64_t places = strtoull(argv[5], NULL, 10);
	if (nftw(folder, add_file, 16, FTW_PHYS) != 0)
		give_up(folder);
	if (run_verify() != 0) {
		printf("verify does not pass the undamaged checkpoint\n");
		return 1;
	}
	for (int i = 0; i < file_count; i++)
		total += files[i].bytes - files[i].header;
	for (int i = 0; i < file_count; i++) {
		each(flip, &files[i], files[i].header * 8, places);
		each(cut, &files[i], files[i].header, places);
	}
	for (uint64_t i = 0; i < payload; i++) {
		uint64_t byte = random_below(total);
		int f = 0;
		for (; byte >= files[f].bytes - files[f].header; f++)
			byte -= files[f].bytes - files[f].header;
		flip(&files[f], (files[f].header + byte) * 8 + random_below(8));
	}
	int code = run_verify();
	printf("%" PRIu64 " damages in %d files, %" PRIu64 " missed; undamaged again: %s\n",
	       tried, file_count, missed, code == 0 ? "verified" : "NOT verified");
	return missed || code ? 1 : 0;
}
