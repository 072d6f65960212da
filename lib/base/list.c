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

/* `name` in `folder` matches up to where `rest` of the pattern goes on, if it does.
 * `folder` is empty for the current one. */
static bool go_on(struct path_list *list, const char *folder, const char *name,
                  const char *rest, error *err)
{
	char path[PATH_BYTES];
	const char *slash = *folder && folder[strlen(folder) - 1] != '/' ? "/" : "";
	int size = snprintf(path, sizeof path, "%s%s%s", folder, slash, name);
	if (size < 0 || (size_t)size >= sizeof path)
		return fail(err, EXIT_BAD_INPUT, "%.200s: path is too long", path);
	if (*rest)
		return list_below(list, path, rest, err);
	return !file_exists(path) || add_path(list, path, err);
}

static bool list_below(struct path_list *list, const char *folder, const char *pattern,
                       error *err)
{
	char part[PATH_BYTES];
	size_t length = strcspn(pattern, "/");
	const char *rest = pattern + length + strspn(pattern + length, "/");
	if (length >= sizeof part)
		return fail(err, EXIT_BAD_INPUT, "%.200s: path is too long", pattern);
	memcpy(part, pattern, length);
	part[length] = '\0';
	if (!strpbrk(part, "*?["))
		return go_on(list, folder, part, rest, err);
	DIR *stream = opendir(*folder ? folder : ".");
	if (!stream)
		return errno == ENOENT || errno == ENOTDIR ||
		       fail_errno(err, errno, "%s: cannot list", folder);
	bool ok = true;
	for (const struct dirent *d; ok && (d = readdir(stream));)
		if (fnmatch(part, d->d_name, FNM_PERIOD) == 0)
			ok = go_on(list, folder, d->d_name, rest, err);
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
	const char *start = pattern + strspn(pattern, "/");
	if (!list_below(list, start > pattern ? "/" : "", start, err))
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
