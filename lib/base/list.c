/* Files by pattern; see list.h. */
#include "lib/base/list.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"

static bool add_path(struct path_list *list, const char *path, error *err)
{
	if (list->count == list->room) {
		int room = list->room ? 2 * list->room : 64;
		const char **larger = arena_alloc(&list->memory, (size_t)room, sizeof *larger, err);
		if (!larger)
			return false;
		if (list->count)
			memcpy(larger, list->paths, (size_t)list->count * sizeof *larger);
		list->paths = larger;
		list->room = room;
	}
	list->paths[list->count] = arena_text(&list->memory, path, strlen(path), err);
	return list->paths[list->count++] != NULL;
}

static bool list_below(struct path_list *list, const char *folder, const char *pattern,
                       error *err);

/* `path` matches up to where `rest` goes on, if it does. */
static bool go_on(struct path_list *list, const char *path, const char *rest, error *err)
{
	if (*rest)
		return list_below(list, path, rest, err);
	return !file_exists(path) || add_path(list, path, err);
}

/* `folder` is empty for the current one. */
static bool list_below(struct path_list *list, const char *folder, const char *pattern,
                       error *err)
{
	char part[PATH_BYTES], path[PATH_BYTES];
	size_t length = strcspn(pattern, "/");
	const char *rest = pattern + length + (pattern[length] == '/');
	if (length >= sizeof part)
		return fail(err, EXIT_USAGE, "%.80s: pattern is too long", pattern);
	memcpy(part, pattern, length);
	part[length] = '\0';
	DIR *stream = opendir(*folder ? folder : ".");
	if (!stream)
		return errno == ENOENT || errno == ENOTDIR ||
		       fail_errno(err, errno, "%s: cannot list", folder);
	bool ok = true;
	for (const struct dirent *d; ok && (d = readdir(stream));) {
		if (fnmatch(part, d->d_name, FNM_PERIOD) != 0)
			continue;
		int size = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "",
		                    d->d_name);
		ok = size > 0 && (size_t)size < sizeof path
		     ? go_on(list, path, rest, err)
		     : fail(err, EXIT_BAD_INPUT, "%.200s: path is too long", path);
	}
	closedir(stream);
	return ok;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool list_paths(struct path_list *list, const char *pattern, error *err)
{
	int first = list->count;
	if (!list_below(list, "", pattern, err))
		return false;
	if (list->count > first)
		qsort(list->paths + first, (size_t)(list->count - first), sizeof *list->paths,
		      compare_paths);
	return true;
}

void free_paths(struct path_list *list)
{
	arena_free(&list->memory);
	*list = (struct path_list){ 0 };
}
