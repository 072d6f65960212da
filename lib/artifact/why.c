/* Keys compared in words; see why.h. */
#include "lib/artifact/why.h"

#include <stdlib.h>
#include <string.h>

#include "lib/artifact/step.h"

/* A key's text, cut into lines. */
struct lines {
	char *copy;
	char **line; /* [count]; NULL where the other key has the same line */
	size_t count;
};

static void free_lines(struct lines *l)
{
	free(l->line);
	free(l->copy);
}

static bool split_lines(struct lines *l, const char *content, error *err)
{
	size_t most = 1;
	for (const char *at = content; *at; at++)
		most += *at == '\n';
	*l = (struct lines){ .copy = strdup(content), .line = calloc(most, sizeof *l->line) };
	if (!l->copy || !l->line) {
		free_lines(l);
		return fail_memory(err, "a key", strlen(content));
	}
	for (char *rest = l->copy, *line; (line = strsep(&rest, "\n"));)
		if (*line)
			l->line[l->count++] = line;
	return true;
}

/* Takes out the lines that both have. */
static void remove_common(struct lines *a, struct lines *b)
{
	for (size_t i = 0; i < a->count; i++)
		for (size_t j = 0; j < b->count; j++)
			if (b->line[j] && strcmp(a->line[i], b->line[j]) == 0) {
				a->line[i] = b->line[j] = NULL;
				break;
			}
}

/* How long the name at the start of a line is: for inputs two words. */
static size_t name_length(const char *line)
{
	size_t length = strcspn(line, " ");
	if (strncmp(line, "input ", 6) == 0)
		length = 6 + strcspn(line + 6, " ");
	return length;
}

static const char *value_of(const char *line)
{
	const char *value = line + name_length(line);
	return *value == ' ' ? value + 1 : value;
}

/* A value as a person wants it: digests are cut short. */
static void add_value(text *out, const char *value)
{
	struct digest digest;
	while (*value) {
		size_t length = strcspn(value, " ");
		if (digest_parse(value, length, &digest))
			text_printf(out, "%.12s...", digest.hex);
		else
			text_add(out, value, length);
		value += length;
		if (*value == ' ')
			text_puts(out, " ");
		value += *value == ' ';
	}
}

static void explain_change(text *out, const char *before, const char *after)
{
	const char *line = after ? after : before;
	if (strncmp(line, "tool_sources ", 13) == 0)
		text_puts(out, "the sources of the tool");
	else
		text_add(out, line, name_length(line));
	if (before && after) {
		text_puts(out, " changed: was ");
		add_value(out, value_of(before));
		text_puts(out, ", is ");
		add_value(out, value_of(after));
	} else {
		text_puts(out, after ? " is new: " : " is gone: was ");
		add_value(out, value_of(line));
	}
	text_puts(out, "\n");
}

bool explain_keys(const char *before, const char *after, text *out, error *err)
{
	struct lines a, b;
	if (!split_lines(&a, before, err))
		return false;
	if (!split_lines(&b, after, err)) {
		free_lines(&a);
		return false;
	}
	remove_common(&a, &b);
	for (size_t i = 0; i < a.count; i++) {
		size_t j = 0, length = a.line[i] ? name_length(a.line[i]) : 0;
		if (!a.line[i])
			continue;
		while (j < b.count && !(b.line[j] && name_length(b.line[j]) == length &&
		                        strncmp(a.line[i], b.line[j], length) == 0))
			j++;
		explain_change(out, a.line[i], j < b.count ? b.line[j] : NULL);
		if (j < b.count)
			b.line[j] = NULL;
	}
	for (size_t j = 0; j < b.count; j++)
		if (b.line[j])
			explain_change(out, NULL, b.line[j]);
	free_lines(&a);
	free_lines(&b);
	return text_ok(out, err);
}

/* ---- runs ---- */

/* Entries [first, end) of a log; none when first == end. */
struct run {
	size_t first, end;
};

static bool has_key(const struct edge_log *log, struct run run, const struct digest *key)
{
	for (size_t i = run.first; i < run.end; i++)
		if (digest_equal(&log->entries[i].key, key))
			return true;
	return false;
}

/* The first key of `run` from `at` on that `other` lacks; run.end when there is none. */
static size_t next_own_key(const struct edge_log *log, struct run run, struct run other,
                           size_t at)
{
	while (at < run.end && has_key(log, other, &log->entries[at].key))
		at++;
	return at;
}

/* Two keys that took each other's place, and in what they differ. */
static bool explain_pair(const struct edge_log *log, const char *tree, size_t before,
                         size_t after, text *out, error *err)
{
	char *old = NULL, *new = NULL;
	bool old_found = false, new_found = false;
	bool ok = key_recall(tree, &log->entries[before].key, &old, &old_found, err) &&
	          key_recall(tree, &log->entries[after].key, &new, &new_found, err);
	if (ok && old_found && new_found)
		ok = explain_keys(old, new, out, err);
	else if (ok)
		text_puts(out, "the text of one of the two is not kept any more\n");
	if (old_found)
		free(old);
	if (new_found)
		free(new);
	return ok && text_ok(out, err);
}

/* Explanations in a row, of which equal ones are told once. */
struct story {
	text *out;
	text last;    /* the explanation not yet told */
	size_t count; /* of keys that it holds for */
	const struct log_entry *first;
};

static void tell(struct story *s)
{
	if (s->count == 1)
		text_printf(s->out, "  key %.12s... is new:\n", s->first->key.hex);
	else if (s->count)
		text_printf(s->out, "  %zu keys are new, %.12s... the first:\n", s->count,
		            s->first->key.hex);
	for (char *rest = s->last.data, *line; (line = strsep(&rest, "\n"));)
		if (*line)
			text_printf(s->out, "    %s\n", line);
	text_free(&s->last);
	s->count = 0;
}

static void add_to_story(struct story *s, const struct log_entry *entry, text *explanation)
{
	if (s->count && strcmp(s->last.data, explanation->data) == 0) {
		text_free(explanation);
	} else {
		tell(s);
		s->last = *explanation;
		s->first = entry;
	}
	s->count++;
}

static bool explain_difference(const struct edge_log *log, const char *tree,
                               struct run before, struct run after, text *out, error *err)
{
	size_t old = next_own_key(log, before, after, before.first);
	size_t new = next_own_key(log, after, before, after.first);
	struct story story = { .out = out };
	bool ok = true;
	if (old == before.end && new == after.end)
		text_puts(out, "  the same keys as the run before: nothing that decides its result "
		          "changed; an output was gone, or an input was written anew\n");
	while (ok && new < after.end) {
		text explanation = { 0 };
		if (old < before.end)
			ok = explain_pair(log, tree, old, new, &explanation, err);
		else
			text_puts(&explanation, "it comes in addition to those of the run before\n");
		if (ok && (ok = text_ok(&explanation, err)))
			add_to_story(&story, &log->entries[new], &explanation);
		else
			text_free(&explanation);
		if (old < before.end)
			old = next_own_key(log, before, after, old + 1);
		new = next_own_key(log, after, before, new + 1);
	}
	tell(&story);
	for (; ok && old < before.end; old = next_own_key(log, before, after, old + 1))
		text_printf(out, "  key %.12s... is not needed any more\n",
		            log->entries[old].key.hex);
	return ok;
}

static void print_run(const struct edge_log *log, struct run run, text *out)
{
	int hits = 0, misses = 0;
	double seconds = 0;
	char when[32];
	time_t at = (time_t)log->entries[run.first].at;
	struct tm local;
	for (size_t i = run.first; i < run.end; i++) {
		hits += log->entries[i].answer == ANSWER_HIT;
		misses += log->entries[i].answer == ANSWER_MISS;
		seconds += log->entries[i].seconds;
	}
	strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &local));
	text_printf(out, "%s\n  last run %s, %.3f s", log->entries[run.first].target, when,
	            seconds);
	if (hits + misses)
		text_printf(out, ": %d computed, %d from the store", misses, hits);
	text_puts(out, "\n");
}

static bool explain_runs(const struct edge_log *log, const char *tree, struct run before,
                         struct run last, text *out, error *err)
{
	print_run(log, last, out);
	if (before.first == before.end) {
		text_puts(out, "  the first run in this tree\n");
		return true;
	}
	return explain_difference(log, tree, before, last, out, err);
}

/* ---- targets ---- */

static bool is_named(const char *target, const char *name)
{
	size_t length = strlen(name);
	if (strcmp(target, name) == 0)
		return true;
	for (const char *at = target; (at = strstr(at, name)); at++)
		if ((at == target || at[-1] == '/') && length &&
		    (at[length] == '/' || at[length] == '.' || at[length] == '\0'))
			return true;
	return false;
}

/* The last run among the entries [first, end) of a target; *before the one before. */
static struct run last_runs(const struct edge_log *log, size_t first, size_t end,
                            struct run *before)
{
	struct run last = { 0 };
	*before = last;
	for (size_t i = first; i < end; i = log_run_end(log, i)) {
		*before = last;
		last = (struct run){ .first = i, .end = log_run_end(log, i) };
	}
	return last;
}

bool explain_target(const struct edge_log *log, const char *tree, const char *name,
                    text *out, int *found, error *err)
{
	*found = 0;
	for (size_t i = 0, end; i < log->count; i = end) {
		const struct log_entry *e = &log->entries[i];
		struct run before;
		end = log_target_end(log, i);
		if (!*e->key.hex || !is_named(e->target, name))
			continue;
		struct run last = last_runs(log, i, end, &before);
		++*found;
		if (!explain_runs(log, tree, before, last, out, err))
			return false;
	}
	return text_ok(out, err);
}
