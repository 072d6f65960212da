/* large_model FOLDER MEGABYTES: a tiny model in two shards that hold so many bytes
 * together, most of them in one tensor a shard that the model has no use for: large for
 * whoever reads inputs, quick for whoever computes. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/checkpoint/safetensors.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"

enum { SHARDS = 2, AT_ONCE = 1 << 20, MAX_INDEX_BYTES = 1 << 20 };

static void name_shard(int shard, char out[64])
{
	snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, SHARDS);
}

/* No two runs of eight bytes alike, so that nothing stores them in fewer. */
static bool write_noise(FILE *file, size_t bytes, uint64_t seed)
{
	static uint64_t block[AT_ONCE / sizeof(uint64_t)];
	for (size_t done = 0; done < bytes;) {
		for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			block[i] = seed;
		}
		size_t some = bytes - done < AT_ONCE ? bytes - done : AT_ONCE;
		if (fwrite(block, 1, some, file) != some)
			return false;
		done += some;
	}
	return true;
}

/* The shard's own tensors and one of so many more bytes, in a file beside it. */
static bool write_larger(const struct safetensors *shard, int number, size_t more,
                         const char *path, error *err)
{
	text header = { 0 };
	char name[32];
	snprintf(name, sizeof name, "filling.%d", number);
	struct tensor *all = calloc(shard->count + 1, sizeof *all);
	if (!all)
		return fail_memory(err, path, (shard->count + 1) * sizeof *all);
	memcpy(all, shard->tensors, shard->count * sizeof *all);
	all[shard->count] = (struct tensor){ .name = name, .dtype = DTYPE_BF16, .rank = 1,
		.shape = { (int64_t)(more / 2) }, .elements = (int64_t)(more / 2), .bytes = more };
	bool ok = safetensors_header(all, shard->count + 1, &header, err);
	FILE *file = ok ? fopen(path, "w") : NULL;
	bool written = file && fwrite(header.data, 1, header.length, file) == header.length;
	for (size_t i = 0; written && i < shard->count; i++)
		written = fwrite(all[i].data, 1, all[i].bytes, file) == all[i].bytes;
	written = written && write_noise(file, more, (uint64_t)number + 1);
	if (file && fclose(file) != 0)
		written = false;
	text_free(&header);
	free(all);
	return ok && (written || fail(err, EXIT_ENVIRONMENT, "%s: cannot write", path));
}

static bool enlarge(const char *folder, int number, size_t more, error *err)
{
	char name[64], path[PATH_BYTES], larger[PATH_BYTES + 8];
	struct safetensors shard;
	name_shard(number, name);
	if (!join_path(path, sizeof path, folder, name, err) ||
	    !safetensors_open(&shard, path, err))
		return false;
	snprintf(larger, sizeof larger, "%s.larger", path);
	bool ok = write_larger(&shard, number, more, larger, err);
	safetensors_close(&shard);
	return ok && (rename(larger, path) == 0 ||
	              fail(err, EXIT_ENVIRONMENT, "%s: cannot rename", larger));
}

static bool extend_index(const char *folder, error *err)
{
	static const char name[] = "model.safetensors.index.json", mark[] = "\"weight_map\": {";
	char path[PATH_BYTES], *old;
	size_t size;
	text index = { 0 };
	if (!join_path(path, sizeof path, folder, name, err) ||
	    !read_file(path, MAX_INDEX_BYTES, &old, &size, err))
		return false;
	char *at = strstr(old, mark);
	text_add(&index, old, at ? (size_t)(at - old) + strlen(mark) : 0);
	for (int i = 0; i < SHARDS; i++) {
		char shard[64];
		name_shard(i, shard);
		text_printf(&index, "\n    \"filling.%d\": \"%s\",", i, shard);
	}
	text_puts(&index, at ? at + strlen(mark) : "");
	free(old);
	bool ok = at ? text_ok(&index, err)
	             : fail(err, EXIT_INTERNAL, "%s: expected %s", path, mark);
	ok = ok && temp_folder_write(folder, name, index.data, index.length, err);
	text_free(&index);
	return ok;
}

int main(int argc, char **argv)
{
	struct random_model m = random_model_tiny();
	error err;
	size_t megabytes = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
	m.shards = SHARDS;
	bool ok = megabytes > 0 && megabytes < 1 << 20
	          ? make_folders(argv[1], &err) && random_model_write(&m, argv[1], &err)
	          : fail(&err, EXIT_USAGE, "expected FOLDER MEGABYTES");
	for (int i = 0; ok && i < SHARDS; i++)
		ok = enlarge(argv[1], i, megabytes * 1000000 / SHARDS / 8 * 8, &err);
	ok = ok && extend_index(argv[1], &err);
	return ok ? EXIT_OK : error_report("large_model", &err);
}
