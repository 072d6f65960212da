/* flips MODEL FOLDER STORE PAYLOAD PLACES: damages the files of a checkpoint and the records
 * of a store, one bit or one cut at a time, and looks whether each is found; see
 * tests/faults/flips.
 *
 * Every file counts in full, but for weights behind their header and the base's token
 * tables: of those PAYLOAD bits are sampled. Of the rest PLACES bits and lengths of each
 * file are tried, or every one when PLACES is 0. */
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/census.h"
#include "lib/quant/verify.h"

enum { MOST_FILES = 4096 };

static struct target {
	char *path;
	uint64_t bytes, header; /* of header: what counts in full */
} files[MOST_FILES];
static int file_count;

static const char *model, *folder;
static struct store store;
static uint64_t bits, cuts, missed, seed = 1;

/* splitmix64 */
static uint64_t random_below(uint64_t limit)
{
	uint64_t z = (seed += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % limit;
}

static void __attribute__((noreturn)) give_up(const char *what)
{
	perror(what);
	exit(3);
}

/* ---- what is damaged ---- */

static uint64_t count_header(const char *path, uint64_t bytes)
{
	static const char *const tables[] = { "tokenizer.json", "vocab.json", "merges.txt" };
	const char *name = strrchr(path, '/') + 1, *dot = strrchr(name, '.');
	uint64_t length = 0;
	for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
		if (strcmp(name, tables[i]) == 0)
			return 0;
	if (!dot || strcmp(dot, ".safetensors") != 0)
		return bytes;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, &length, sizeof length) != sizeof length)
		give_up(path);
	close(fd);
	return sizeof length + length;
}

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type != FTW_F)
		return 0;
	if (file_count == MOST_FILES)
		return -1;
	struct target *t = &files[file_count++];
	t->path = strdup(path);
	t->bytes = (uint64_t)st->st_size;
	t->header = count_header(path, t->bytes);
	return 0;
}

/* ---- who has to find it ---- */

static bool checkpoint_is_found_whole(void)
{
	struct verified v;
	error err;
	if (verify_checkpoint(folder, model, &v, &err))
		return true;
	if (err.code != EXIT_BAD_INPUT)
		give_up(err.text);
	return false;
}

/* As `store verify` does. */
static bool store_is_found_whole(void)
{
	struct census c;
	error err;
	bool whole = true;
	if (!census_take(&c, &store, &err))
		give_up(err.text);
	for (size_t i = 0; i < c.result_count; i++)
		whole = whole && c.results[i].whole;
	census_free(&c);
	return whole;
}

static bool (*is_found_whole)(void);

static void expect_found(const char *what, const struct target *t, uint64_t place)
{
	if (!is_found_whole())
		return;
	missed++;
	printf("MISSED %s %" PRIu64 " of %s\n", what, place, t->path);
}

/* ---- damaging ---- */

static void flip(const struct target *t, uint64_t bit)
{
	unsigned char byte = 0;
	int fd = open(t->path, O_RDWR);
	off_t at = (off_t)(bit / 8);
	if (fd < 0 || pread(fd, &byte, 1, at) != 1)
		give_up(t->path);
	byte ^= (unsigned char)(1 << bit % 8);
	if (pwrite(fd, &byte, 1, at) != 1)
		give_up(t->path);
	bits++;
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
	cuts++;
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

static void damage_in_full(const char *what, uint64_t places)
{
	bits = cuts = 0;
	for (int i = 0; i < file_count; i++) {
		each(flip, &files[i], files[i].header * 8, places);
		each(cut, &files[i], files[i].header, places);
	}
	printf("%s: %" PRIu64 " bits, %" PRIu64 " cuts of %d files\n", what, bits, cuts,
	       file_count);
	fflush(stdout);
}

static void damage_payload(uint64_t payload)
{
	uint64_t total = 0;
	bits = 0;
	for (int i = 0; i < file_count; i++)
		total += files[i].bytes - files[i].header;
	for (uint64_t i = 0; i < payload; i++) {
		uint64_t byte = random_below(total);
		int f = 0;
		for (; byte >= files[f].bytes - files[f].header; f++)
			byte -= files[f].bytes - files[f].header;
		flip(&files[f], (files[f].header + byte) * 8 + random_below(8));
	}
	printf("weights and token tables: %" PRIu64 " bits of %" PRIu64 " bytes\n", bits, total);
}

static void list_files(const char *below)
{
	file_count = 0;
	if (nftw(below, add_file, 16, FTW_PHYS) != 0)
		give_up(below);
	if (!is_found_whole()) {
		printf("%s is not found whole before it is damaged\n", below);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	char results[PATH_BYTES];
	error err;
	if (argc != 6 || !store_open(&store, argv[3], &err) ||
	    !join_path(results, sizeof results, argv[3], "results", &err))
		return 1;
	model = argv[1];
	folder = argv[2];
	uint64_t payload = strtoull(argv[4], NULL, 10), places = strtoull(argv[5], NULL, 10);
	is_found_whole = store_is_found_whole;
	list_files(results);
	damage_in_full("keys and results of the store", places);
	bool whole = is_found_whole();
	is_found_whole = checkpoint_is_found_whole;
	list_files(folder);
	damage_payload(payload);
	damage_in_full("headers, index, manifests, configurations, tables of a checkpoint",
	               places);
	whole = whole && is_found_whole();
	printf("%" PRIu64 " missed; undamaged again: %s\n", missed, whole ? "whole" : "NOT whole");
	return missed || !whole;
}
