/* sources: the digest of everything a program was made from.
 *
 * A link map names the objects that went into a program. Their sources, and every
 * header those include, in sorted order, each with its SHA-256, are digested into
 * one number: what a key holds of the tool. Another compiler, flag or folder gives
 * the same number; any edit of a source gives another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/digest.h"
#include "lib/artifact/publish.h"
#include "lib/base/arena.h"
#include "lib/base/file.h"
#include "lib/base/list.h"
#include "lib/base/options.h"
#include "lib/base/text.h"

enum { MAX_SOURCES = 4096, MAX_MAP_BYTES = 64 << 20, MAX_SOURCE_BYTES = 16 << 20 };

/* A set of paths that grows while it is walked. */
struct source_set {
	const char *paths[MAX_SOURCES];
	int count;
	arena memory;
};

static bool add_source(struct source_set *set, const char *path, size_t length, error *err)
{
	for (int i = 0; i < set->count; i++)
		if (strlen(set->paths[i]) == length && memcmp(set->paths[i], path, length) == 0)
			return true;
	if (set->count == MAX_SOURCES)
		return fail(err, EXIT_INTERNAL, "more than %d sources", MAX_SOURCES);
	char *copy = arena_text(&set->memory, path, length, err);
	set->paths[set->count] = copy;
	set->count += copy != NULL;
	return copy != NULL;
}

/* A program that can use a GPU has its sources among its own whether or not this build
 * has CUDA: otherwise keys would differ between machines that have a toolkit and machines
 * that have none. */
static bool add_gpu(struct source_set *set, error *err)
{
	struct path_list found = { 0 };
	bool ok = list_paths(&found, "lib/gpu/*.c", err) &&
	          list_paths(&found, "kernels/*.cu", err);
	if (ok && found.count == 0)
		ok = fail(err, EXIT_INTERNAL, "lib/gpu/*.c, kernels/*.cu: expected sources");
	for (int i = 0; ok && i < found.count; i++)
		ok = add_source(set, found.paths[i], strlen(found.paths[i]), err);
	free_paths(&found);
	return ok;
}

/* The map spells objects OUT/[sanitized/]obj/PATH.o, perhaps in parentheses after
 * an archive; the source is PATH.c. */
static bool add_objects(struct source_set *set, const char *map, error *err)
{
	static const char mark[] = "/obj/";
	for (const char *at = map; (at = strstr(at, mark));) {
		const char *path = at + sizeof mark - 1;
		size_t length = strcspn(path, " \t\n()");
		at = path + length;
		char source[PATH_BYTES];
		if (length < 3 || length >= sizeof source || strncmp(path + length - 2, ".o", 2) ||
		    strncmp(path + length - 5, ".cu.o", 5) == 0)
			continue;
		snprintf(source, sizeof source, "%.*s.c", (int)length - 2, path);
		if (!add_source(set, source, length, err))
			return false;
		if (strncmp(source, "lib/gpu/", 8) == 0 && !add_gpu(set, err))
			return false;
	}
	return true;
}

/* Adds the files that a source includes by a path from the root. */
static bool add_includes(struct source_set *set, const char *content, error *err)
{
	static const char mark[] = "#include \"";
	for (const char *at = content; (at = strstr(at, mark));) {
		at += sizeof mark - 1;
		if (!add_source(set, at, strcspn(at, "\"\n"), err))
			return false;
	}
	return true;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool digest_set(struct source_set *set, struct digest *out, error *err)
{
	text lines = { 0 };
	bool ok = true;
	qsort(set->paths, (size_t)set->count, sizeof set->paths[0], compare_paths);
	for (int i = 0; ok && i < set->count; i++) {
		struct digest file;
		uint64_t bytes;
		ok = digest_file(set->paths[i], &file, &bytes, err);
		if (ok)
			text_printf(&lines, "%s  %s\n", file.hex, set->paths[i]);
	}
	ok = ok && text_ok(&lines, err) && digest_bytes(lines.data, lines.length, out, err);
	text_free(&lines);
	return ok;
}

static bool collect_sources(struct source_set *set, const char *map, error *err)
{
	char *content;
	size_t size;
	if (!read_file(map, MAX_MAP_BYTES, &content, &size, err))
		return false;
	bool ok = add_objects(set, content, err);
	free(content);
	if (ok && set->count == 0)
		return fail(err, EXIT_INTERNAL, "%s: expected objects in the link map, found none",
		            map);
	for (int i = 0; ok && i < set->count; i++) {
		ok = read_file(set->paths[i], MAX_SOURCE_BYTES, &content, &size, err);
		if (ok) {
			ok = add_includes(set, content, err);
			free(content);
		}
	}
	return ok;
}

int main(int argc, char **argv)
{
	const char *map = NULL, *out = NULL;
	const struct option options[] = {
		{ "map", OPTION_TEXT, &map, "FILE", "link map of the program", true },
		{ "out", OPTION_TEXT, &out, "FILE", "where the digest goes", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "sources",
		.purpose = "Digests the sources and headers that a program was linked from.",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	struct source_set *set = calloc(1, sizeof *set);
	struct digest digest;
	bool ok = parsed == PARSE_OK &&
	          (set || fail_memory(&err, "the sources", sizeof *set)) &&
	          collect_sources(set, map, &err) && digest_set(set, &digest, &err);
	if (ok) {
		char line[DIGEST_HEX + 2];
		snprintf(line, sizeof line, "%s\n", digest.hex);
		ok = write_file_if_changed(out, line, DIGEST_HEX + 1, NULL, &err);
	}
	if (set)
		arena_free(&set->memory);
	free(set);
	return ok ? EXIT_OK : error_report("sources", &err);
}
