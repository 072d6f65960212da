/* The log of edges; see log.h. */
#include "lib/artifact/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

enum { MAX_LOG_BYTES = 1 << 30 };

double seconds_since(const struct timespec *begun)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - begun->tv_sec) +
	       (double)(now.tv_nsec - begun->tv_nsec) * 1e-9;
}

bool log_begin_line(text *line, const char *tool, const char *target, error *err)
{
	text_printf(line, "{\"at\":%lld,\"process\":%lld,\"tool\":", (long long)time(NULL),
	            (long long)getpid());
	bool ok = json_quote(line, tool, strlen(tool));
	text_puts(line, ",\"target\":");
	ok = ok && json_quote(line, target, strlen(target));
	return ok ? text_ok(line, err)
	          : fail(err, EXIT_USAGE, "%.200s: expected a name in UTF-8", target);
}

static bool print_entry(const struct log_entry *e, text *line, error *err)
{
	if (!log_begin_line(line, e->tool, e->target, err))
		return false;
	if (*e->key.hex)
		text_printf(line, ",\"key\":\"%s\"", e->key.hex);
	if (e->answer != ANSWER_NONE)
		text_printf(line, ",\"hit\":%s", e->answer == ANSWER_HIT ? "true" : "false");
	text_printf(line, ",\"seconds\":%.6f,\"bytes\":%" PRIu64 "}\n", e->seconds, e->bytes);
	return text_ok(line, err);
}

static bool name_log(const char *tree, char folder[PATH_BYTES], char path[PATH_BYTES],
                     error *err)
{
	return join_path(folder, PATH_BYTES, tree, "log", err) &&
	       join_path(path, PATH_BYTES, folder, "edges.jsonl", err);
}

bool log_append_line(const char *tree, const text *line, error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	if (!name_log(tree, folder, path, err))
		return false;
	int result = disk_make_folders(folder);
	int fd = result == 0 ? disk_append(path) : result;
	result = fd < 0 ? fd : disk_write_once(fd, line->data, line->length);
	if (fd >= 0)
		close(fd);
	return result == 0 || fail_disk(err, result, path, "append a line");
}

bool log_append(const char *tree, const struct log_entry *entry, error *err)
{
	text line = { 0 };
	bool ok = print_entry(entry, &line, err) && log_append_line(tree, &line, err);
	text_free(&line);
	return ok;
}

/* ---- reading ---- */

/* False for a line of another form. The texts go into the log's memory. */
static bool take_entry(struct edge_log *log, const json_doc *doc, struct log_entry *e,
                       error *err)
{
	const char *tool, *target, *key = "";
	double at, process, bytes;
	if (!cJSON_IsObject(doc->root) || !json_text(doc, doc->root, "tool", &tool, err) ||
	    !json_text(doc, doc->root, "target", &target, err) ||
	    !json_text_or(doc, doc->root, "key", &key, err) ||
	    !json_number(doc, doc->root, "at", 0, 1e15, &at, err) ||
	    !json_number(doc, doc->root, "process", 0, 1e15, &process, err) ||
	    !json_number(doc, doc->root, "bytes", 0, 1e18, &bytes, err) ||
	    !json_number(doc, doc->root, "seconds", 0, 1e12, &e->seconds, err) ||
	    (*key && !digest_parse(key, strlen(key), &e->key)))
		return false;
	const cJSON *hit = cJSON_GetObjectItemCaseSensitive(doc->root, "hit");
	e->answer = cJSON_IsTrue(hit) ? ANSWER_HIT : hit ? ANSWER_MISS : ANSWER_NONE;
	e->at = (int64_t)at;
	e->process = (int64_t)process;
	e->bytes = (uint64_t)bytes;
	e->tool = arena_text(&log->memory, tool, strlen(tool), err);
	e->target = arena_text(&log->memory, target, strlen(target), err);
	return e->tool && e->target;
}

static size_t count_lines(const char *data, size_t size)
{
	size_t lines = 1;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	return lines;
}

static int compare_entries(const void *a, const void *b)
{
	const struct log_entry *x = a, *y = b;
	int order = strcmp(x->target, y->target);
	return order ? order : x->line < y->line ? -1 : x->line > y->line;
}

static bool read_lines(struct edge_log *log, const char *data, size_t size, error *err)
{
	log->entries = arena_alloc(&log->memory, count_lines(data, size), sizeof *log->entries,
	                           err);
	if (!log->entries)
		return false;
	for (const char *at = data, *end = data + size; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t length = (size_t)((stop ? stop : end) - at);
		struct log_entry *e = &log->entries[log->count];
		json_doc doc;
		*e = (struct log_entry){ .line = log->count };
		bool taken = json_parse(&doc, "a line of the log", at, length, err);
		if (taken) {
			taken = take_entry(log, &doc, e, err);
			json_free(&doc);
		}
		if (!taken && err->code == EXIT_ENVIRONMENT) /* no memory, which says nothing */
			return false;
		log->count += taken;
		at += length + 1;
	}
	qsort(log->entries, log->count, sizeof *log->entries, compare_entries);
	return true;
}

bool log_read(struct edge_log *log, const char *tree, error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES], *data;
	size_t size;
	*log = (struct edge_log){ 0 };
	if (!name_log(tree, folder, path, err))
		return false;
	if (!file_exists(path))
		return true;
	if (!read_file(path, MAX_LOG_BYTES, &data, &size, err))
		return false;
	bool ok = read_lines(log, data, size, err);
	free(data);
	if (!ok)
		log_free(log);
	return ok;
}

void log_free(struct edge_log *log)
{
	arena_free(&log->memory);
	*log = (struct edge_log){ 0 };
}

size_t log_run_end(const struct edge_log *log, size_t first)
{
	size_t end = first + 1;
	while (end < log->count && log->entries[end].process == log->entries[first].process &&
	       strcmp(log->entries[end].target, log->entries[first].target) == 0)
		end++;
	return end;
}

size_t log_target_end(const struct edge_log *log, size_t first)
{
	size_t end = first + 1;
	while (end < log->count &&
	       strcmp(log->entries[end].target, log->entries[first].target) == 0)
		end++;
	return end;
}
