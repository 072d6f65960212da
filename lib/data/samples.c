/* Sample sources; see samples.h. The calibration DB: calib_db.c. */
#include "lib/data/samples.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/data/lines.h"
#include "lib/data/sample_rows.h"

bool push_row(struct sample_list *list, size_t *capacity, struct row_text row,
              error *err)
{
	if (list->count == *capacity) {
		size_t wanted = *capacity ? *capacity * 2 : 256;
		struct sample_row *rows = realloc(list->rows, wanted * sizeof *rows);
		if (!rows)
			return fail_memory(err, "samples", wanted * sizeof *rows);
		list->rows = rows;
		*capacity = wanted;
	}
	struct sample_row copy = { .image = NULL };
	copy.caption = arena_text(&list->memory, row.caption, row.caption_length, err);
	if (!copy.caption)
		return false;
	if (row.image) {
		copy.image = arena_text(&list->memory, row.image, row.image_length, err);
		if (!copy.image)
			return false;
	}
	list->rows[list->count++] = copy;
	return true;
}

const char *image_path_fault(const char *path, size_t length)
{
	if (length == 0)
		return "is empty";
	if (memchr(path, '\0', length))
		return "holds a NUL byte";
	if (path[0] == '/')
		return "is absolute";
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return "leads out of the image root";
	}
	return NULL;
}

void sample_list_free(struct sample_list *list)
{
	free(list->rows);
	arena_free(&list->memory);
	*list = (struct sample_list){ 0 };
}

/* What reading one text source needs to know. */
struct text_source {
	const char *path;
	size_t first, count; /* the rows wanted */
	size_t rows_seen;
	size_t capacity;
};

/* Takes one line that is not blank into the list. */
typedef bool take_line(struct sample_list *list, struct text_source *source,
                       long number, const char *line, size_t length, error *err);

static bool is_blank(const char *line, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (line[i] != ' ' && line[i] != '\t')
			return false;
	return true;
}

static bool take_lines(struct sample_list *list, struct text_source *source,
                       const mapped_file *file, take_line *take, error *err)
{
	static const char byte_order_mark[] = "\xEF\xBB\xBF";
	struct line_reader lines = { (const char *)file->data, file->size, 0 };
	const char *line;
	size_t length;
	if (file->size >= 3 && memcmp(file->data, byte_order_mark, 3) == 0) {
		lines.rest += 3;
		lines.left -= 3;
	}
	while (next_line(&lines, &line, &length)) {
		if (is_blank(line, length))
			continue;
		size_t row = source->rows_seen++;
		if (row < source->first)
			continue;
		if (row - source->first >= source->count)
			break;
		if (!take(list, source, lines.number, line, length, err))
			return false;
	}
	return source->rows_seen > 0 ||
	       fail(err, EXIT_BAD_INPUT, "%s: expected one sample a line, found none",
	            source->path);
}

static bool load_lines(struct sample_list *list, const char *path, size_t first,
                       size_t count, take_line *take, error *err)
{
	struct text_source source = { .path = path, .first = first, .count = count };
	mapped_file file;
	*list = (struct sample_list){ 0 };
	if (!map_file(&file, path, err))
		return false;
	bool ok = take_lines(list, &source, &file, take, err);
	unmap_file(&file);
	if (!ok)
		sample_list_free(list);
	return ok;
}

static bool take_caption(struct sample_list *list, struct text_source *source,
                         long number, const char *line, size_t length, error *err)
{
	if (memchr(line, '\0', length))
		return fail(err, EXIT_BAD_INPUT, "%s:%ld: expected a caption, found a NUL byte",
		            source->path, number);
	struct row_text row = { .caption = line, .caption_length = length };
	return push_row(list, &source->capacity, row, err);
}

bool captions_load(struct sample_list *list, const char *path, size_t first,
                   size_t count, error *err)
{
	return load_lines(list, path, first, count, take_caption, err);
}

static bool take_eval_row(struct sample_list *list, struct text_source *source,
                          const json_doc *doc, error *err)
{
	const char *caption, *image;
	if (!json_text(doc, doc->root, "image_relpath", &image, err) ||
	    !json_text(doc, doc->root, "caption", &caption, err))
		return false;
	const char *fault = image_path_fault(image, strlen(image));
	if (fault)
		return json_fail(doc, cJSON_GetObjectItemCaseSensitive(doc->root,
		                                                       "image_relpath"),
		                 err, "the path \"%.200s\" %s", image, fault);
	struct row_text row = { caption, strlen(caption), image, strlen(image) };
	return push_row(list, &source->capacity, row, err);
}

static bool take_json_line(struct sample_list *list, struct text_source *source,
                           long number, const char *line, size_t length, error *err)
{
	json_doc doc;
	text name = { 0 };
	text_printf(&name, "%s:%ld", source->path, number);
	bool ok = text_ok(&name, err) && json_parse(&doc, name.data, line, length, err);
	text_free(&name);
	if (!ok)
		return false;
	ok = take_eval_row(list, source, &doc, err);
	json_free(&doc);
	return ok;
}

bool eval_list_load(struct sample_list *list, const char *path, size_t first,
                    size_t count, error *err)
{
	return load_lines(list, path, first, count, take_json_line, err);
}
