/* The list of artifacts, and checkpoints in a tree; see release.h. */
#include "lib/artifact/release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/list.h"

enum { MAX_LIST_BYTES = 64 << 20 };

static size_t count_lines(const char *content)
{
	size_t lines = 1;
	for (; *content; content++)
		lines += *content == '\n';
	return lines;
}

static struct release_line cut_line(char *line)
{
	struct release_line cut = { .fields = { "", "", "" } };
	for (int i = 0; i < RELEASE_FIELDS && line; i++)
		cut.fields[i] = strsep(&line, "\t");
	return cut;
}

static bool read_lines(struct release *r, const char *path, error *err)
{
	size_t lines = count_lines(r->content);
	struct release_line *line = arena_alloc(&r->memory, lines, sizeof *line, err);
	r->artifacts = line ? arena_alloc(&r->memory, lines, sizeof *r->artifacts, err) : NULL;
	if (!r->artifacts)
		return false;
	for (char *rest = r->content, *row; (row = strsep(&rest, "\n")) && *row;) {
		*line = cut_line(row);
		if (strcmp(line->fields[0], "artifact") == 0)
			r->artifacts[r->count++] = (struct artifact){ .name = line->fields[1],
				.published = strcmp(line->fields[2], "published") == 0,
				.lines = line + 1 };
		else if (r->count == 0)
			return fail(err, EXIT_BAD_INPUT, "%s: expected an artifact first, found "
			            "\"%.80s\" (run configure again)", path, line->fields[0]);
		else
			r->artifacts[r->count - 1].line_count++;
		line++;
	}
	return true;
}

bool release_read(struct release *r, const char *tree, error *err)
{
	char path[PATH_BYTES];
	size_t size;
	*r = (struct release){ 0 };
	if (!join_path(path, sizeof path, tree, "artifacts.list", err) ||
	    !read_file(path, MAX_LIST_BYTES, &r->content, &size, err))
		return false;
	bool ok = read_lines(r, path, err);
	if (!ok)
		release_free(r);
	return ok;
}

void release_free(struct release *r)
{
	arena_free(&r->memory);
	free(r->content);
	*r = (struct release){ 0 };
}

bool release_has_folder(const struct release *r, const char *tree, const char *folder)
{
	for (size_t i = 0; i < r->count; i++)
		for (size_t k = 0; k < r->artifacts[i].line_count; k++) {
			const struct release_line *line = &r->artifacts[i].lines[k];
			char path[PATH_BYTES];
			error unused;
			bool named = strcmp(line->fields[0], "list") == 0 ||
			             strcmp(line->fields[0], "sibling") == 0;
			if (named && join_path(path, sizeof path, tree, line->fields[1], &unused) &&
			    strcmp(path, folder) == 0)
				return true;
		}
	return false;
}

/* ---- checkpoints in a tree ---- */

bool list_published(struct folder_list *list, const char *tree, error *err)
{
	static const char pattern[] = "models/*/quantized/*/layer-sensitivity/*_files.json";
	char path[PATH_BYTES];
	struct path_list found = { 0 };
	*list = (struct folder_list){ 0 };
	bool ok = join_path(path, sizeof path, tree, pattern, err) &&
	          list_paths(&found, path, err) &&
	          (list->folders = arena_alloc(&list->memory, (size_t)found.count,
	                                       sizeof *list->folders, err));
	for (int i = 0; ok && i < found.count; i++) {
		const char *file = found.paths[i], *at = strstr(file, "/layer-sensitivity/");
		struct published_folder *folder = &list->folders[list->count++];
		folder->path = arena_text(&list->memory, file, (size_t)(at - file), err);
		folder->list = arena_text(&list->memory, file, strlen(file), err);
		ok = folder->path && folder->list;
	}
	free_paths(&found);
	if (!ok)
		folder_list_free(list);
	return ok;
}

void folder_list_free(struct folder_list *list)
{
	arena_free(&list->memory);
	*list = (struct folder_list){ 0 };
}
