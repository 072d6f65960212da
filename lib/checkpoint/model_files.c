/* Listing a model folder; see model_files.h. */
#include "lib/checkpoint/model_files.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/file.h"

static bool matches_any(const char *name, const char *const *patterns)
{
	for (; *patterns; patterns++)
		if (fnmatch(*patterns, name, 0) == 0)
			return true;
	return false;
}

static bool belongs(const char *name, enum file_class class)
{
	static const char *const weights[] = { "config.json", "*.safetensors",
		"*.safetensors.index.json", NULL };
	static const char *const tokens[] = { "tokenizer.json", "vocab.json", "merges.txt",
		"tokenizer_config.json", "preprocessor_config.json", NULL };
	static const char *const foreign[] = { ".*", "*.bin", "*.pt", "*.pth", "*.gguf",
		"hf_quant_config.json", NULL };
	switch (class) {
	case FILES_WEIGHTS:
		return matches_any(name, weights);
	case FILES_TOKENS:
		return matches_any(name, tokens);
	case FILES_TEXTS:
		break;
	}
	return !matches_any(name, weights) && !matches_any(name, foreign);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_regular(const char *folder, const char *name, bool *regular, error *err)
{
	char path[PATH_BYTES];
	struct stat st;
	if (!join_path(path, sizeof path, folder, name, err))
		return false;
	*regular = stat(path, &st) == 0 && S_ISREG(st.st_mode);
	return true;
}

/* Two passes over the folder: count, then keep. */
static bool collect(DIR *dir, const char *folder, enum file_class class, arena *memory,
                    struct file_names *out, int room, error *err)
{
	struct dirent *entry;
	out->count = 0;
	rewinddir(dir);
	while ((entry = readdir(dir))) {
		bool regular;
		if (!belongs(entry->d_name, class))
			continue;
		if (!is_regular(folder, entry->d_name, &regular, err))
			return false;
		if (!regular)
			continue;
		if (out->count < room) {
			const char *name = arena_text(memory, entry->d_name, strlen(entry->d_name),
			                              err);
			if (!name)
				return false;
			out->names[out->count] = name;
		}
		out->count++;
	}
	return true;
}

bool list_model_files(const char *folder, enum file_class class, arena *memory,
                      struct file_names *out, error *err)
{
	DIR *dir = opendir(folder);
	*out = (struct file_names){ 0 };
	if (!dir)
		return fail_errno(err, errno, "%s: cannot open the model folder", folder);
	bool ok = collect(dir, folder, class, memory, out, 0, err);
	int room = out->count;
	out->names = ok ? arena_alloc(memory, (size_t)room, sizeof *out->names, err) : NULL;
	ok = out->names && collect(dir, folder, class, memory, out, room, err);
	closedir(dir);
	if (!ok)
		return false;
	if (out->count > room)
		out->count = room; /* files that appeared in between wait for the next scan */
	qsort(out->names, (size_t)out->count, sizeof *out->names, compare_names);
	return true;
}
