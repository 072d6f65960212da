/* store: what a build tree keeps, looked at by a person: what there is, why an edge
 * ran, whether the bytes are right, what can go, and where the time went. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/artifact/collect.h"
#include "lib/artifact/release.h"
#include "lib/artifact/why.h"
#include "lib/base/options.h"

struct arguments {
	const char *tree;
	int64_t days, megabytes;
	bool limited;
	struct option_list words;
};

enum { FRESH_SECONDS = 3600, SECONDS_A_DAY = 86400 };

static bool open_census(const struct arguments *a, struct store *s, struct census *c,
                        error *err)
{
	char folder[PATH_BYTES];
	return join_path(folder, sizeof folder, a->tree, "store", err) &&
	       (file_exists(folder) || fail(err, EXIT_BAD_INPUT, "%s: expected a store, found "
	                                    "nothing", folder)) &&
	       store_open(s, folder, err) && census_take(c, s, err);
}

/* ---- list ---- */

static bool list_store(const struct arguments *a, error *err)
{
	struct store s;
	struct census c;
	time_t now = time(NULL);
	if (!open_census(a, &s, &c, err))
		return false;
	printf("%-14s %-10s %7s %14s %10s\n", "key", "tool", "objects", "bytes", "days old");
	for (size_t i = 0; i < c.result_count; i++) {
		const struct stored_result *r = &c.results[i];
		printf("%.12s.. %-10s %7zu %14llu %10.1f%s\n", r->key.hex, r->tool,
		       r->result.count, (unsigned long long)result_bytes(r),
		       (double)(now - r->stored) / SECONDS_A_DAY, r->whole ? "" : "  damaged");
	}
	printf("%zu results, %zu objects, %.1f MB in %s\n", c.result_count, c.object_count,
	       (double)c.bytes / 1e6, s.folder);
	census_free(&c);
	return true;
}

/* ---- why ---- */

static bool explain(const struct arguments *a, error *err)
{
	struct edge_log log;
	bool ok = a->words.count >= 2 ||
	          fail(err, EXIT_USAGE, "why: expected a scheme, a baseline or a target");
	if (!ok || !log_read(&log, a->tree, err))
		return false;
	for (int i = 1; ok && i < a->words.count; i++) {
		text out = { 0 };
		int found;
		ok = explain_target(&log, a->tree, a->words.values[i], &out, &found, err) &&
		     (found || fail(err, EXIT_BAD_INPUT, "%s: %s/log/edges.jsonl has no run of it",
		                    a->words.values[i], a->tree));
		if (ok)
			fputs(out.data, stdout);
		text_free(&out);
	}
	log_free(&log);
	return ok;
}

/* ---- verify ---- */

static bool verify_store(const struct arguments *a, error *err)
{
	struct store s;
	struct census c;
	size_t bad = 0;
	if (!open_census(a, &s, &c, err))
		return false;
	bool ok = true;
	for (size_t i = 0; ok && i < c.object_count; i++) {
		enum object_state state;
		ok = store_check(&s, &c.objects[i].digest, true, &state, NULL, err);
		if (ok && state == OBJECT_DAMAGED) {
			printf("object %s: not what its name says; moved to %s/damaged\n",
			       c.objects[i].digest.hex, s.folder);
			bad++;
		}
	}
	for (size_t i = 0; ok && i < c.result_count; i++)
		if (!c.results[i].whole) {
			printf("result %s: damaged; the next run makes it again\n",
			       c.results[i].key.hex);
			bad++;
		}
	size_t objects = c.object_count, results = c.result_count;
	census_free(&c);
	if (ok && bad)
		return fail(err, EXIT_BAD_INPUT, "%zu of %zu objects and results are damaged; run "
		            "ninja to make again what is needed", bad, objects + results);
	if (ok)
		printf("%zu objects and %zu results are what their names say\n", objects, results);
	return ok;
}

/* ---- gc ---- */

/* Every list of files of a published checkpoint, whether a scheme still names it or
 * not. */
static bool mark_published(struct census *c, const struct arguments *a, error *err)
{
	struct folder_list folders = { 0 };
	bool ok = list_published(&folders, a->tree, err);
	for (int i = 0; ok && i < folders.count; i++)
		ok = mark_named(c, folders.folders[i].list, err);
	folder_list_free(&folders);
	return ok;
}

/* What the edges of the catalog left in the tree. */
static bool mark_catalog(struct census *c, const struct arguments *a,
                         const struct release *r, error *err)
{
	for (size_t i = 0; i < r->count; i++)
		for (size_t k = 0; k < r->artifacts[i].line_count; k++) {
			const struct release_line *line = &r->artifacts[i].lines[k];
			char path[PATH_BYTES];
			bool file = strcmp(line->fields[0], "output") == 0 ||
			            strcmp(line->fields[0], "part") == 0;
			if (file && !(join_path(path, sizeof path, a->tree, line->fields[1], err) &&
			              mark_named(c, path, err)))
				return false;
		}
	return true;
}

static bool collect_garbage(const struct arguments *a, error *err)
{
	struct store s;
	struct census c;
	struct collected done = { 0 };
	struct release release;
	time_t now = time(NULL);
	const struct collect_limits limits = { .before = now - a->days * SECONDS_A_DAY,
		.most_bytes = a->limited ? (uint64_t)a->megabytes * 1000000 : UINT64_MAX,
		.fresh = now - FRESH_SECONDS };
	if (!release_read(&release, a->tree, err))
		return false;
	bool ok = open_census(a, &s, &c, err);
	if (ok) {
		ok = mark_published(&c, a, err) && mark_catalog(&c, a, &release, err);
		mark_related(&c);
		ok = ok && collect_store(&c, &s, &limits, &done, err) &&
		     collect_leftovers(a->tree, now - SECONDS_A_DAY, &done, err);
		census_free(&c);
	}
	release_free(&release);
	if (ok)
		printf("removed %llu results, %llu objects (%.1f MB), %llu temporaries and %llu "
		       "lock files\n", (unsigned long long)done.results,
		       (unsigned long long)done.objects, (double)done.bytes / 1e6,
		       (unsigned long long)done.temporaries, (unsigned long long)done.locks);
	return ok;
}

/* ---- stats ---- */

struct tool_sum {
	const char *tool;
	size_t runs, hits, misses;
	double seconds, longest;
	uint64_t bytes;
};

enum { MOST_TOOLS = 32 };

static struct tool_sum *find_sum(struct tool_sum *sums, const char *tool)
{
	for (int i = 0; i < MOST_TOOLS; i++) {
		if (!sums[i].tool)
			sums[i].tool = tool;
		if (strcmp(sums[i].tool, tool) == 0)
			return &sums[i];
	}
	return NULL;
}

static void add_run(struct tool_sum *sums, const struct edge_log *log, size_t first,
                    size_t end)
{
	struct tool_sum *sum = find_sum(sums, log->entries[first].tool);
	double seconds = 0;
	if (!sum)
		return;
	for (size_t i = first; i < end; i++) {
		const struct log_entry *e = &log->entries[i];
		seconds += e->seconds;
		sum->hits += e->answer == ANSWER_HIT;
		sum->misses += e->answer == ANSWER_MISS;
		sum->bytes += e->bytes;
	}
	sum->runs++;
	sum->seconds += seconds;
	sum->longest = seconds > sum->longest ? seconds : sum->longest;
}

static bool print_stats(const struct arguments *a, error *err)
{
	struct edge_log log;
	struct tool_sum sums[MOST_TOOLS] = { 0 };
	if (!log_read(&log, a->tree, err))
		return false;
	for (size_t i = 0, end; i < log.count; i = end) {
		end = log_run_end(&log, i);
		add_run(sums, &log, i, end);
	}
	printf("%-10s %7s %9s %11s %10s %10s %14s\n", "tool", "runs", "computed",
	       "from store", "seconds", "longest", "bytes");
	for (int i = 0; i < MOST_TOOLS && sums[i].tool; i++)
		printf("%-10s %7zu %9zu %11zu %10.3f %10.3f %14llu\n", sums[i].tool, sums[i].runs,
		       sums[i].misses, sums[i].hits, sums[i].seconds, sums[i].longest,
		       (unsigned long long)sums[i].bytes);
	printf("each run by itself, as JSON: %s/log/edges.jsonl\n", a->tree);
	log_free(&log);
	return true;
}

/* ---- dry run ---- */

/* The value of --out in a command, which is what the log calls the target. */
static bool take_target(const char *command, char *target, size_t size, const char **tool,
                        size_t *tool_length)
{
	const char *out = strstr(command, " --out "), *bin = strstr(command, "/bin/");
	if (!out || !bin || bin > out)
		return false;
	*tool = bin + 5;
	*tool_length = strcspn(*tool, " ");
	snprintf(target, size, "%.*s", (int)strcspn(out + 7, " \n"), out + 7);
	return strstr(command, "-Wl,") == NULL;
}

/* How long the target's last run that computed something took, else its last; of any
 * target of the tool when it never ran; NAN when the tool never ran. */
static double past_seconds(const struct edge_log *log, const char *target, const char *tool,
                           size_t tool_length)
{
	double same = NAN, computed = NAN, other = NAN;
	for (size_t i = 0, end; i < log->count; i = end) {
		const struct log_entry *e = &log->entries[i];
		double seconds = 0;
		bool missed = false;
		end = log_run_end(log, i);
		for (size_t k = i; k < end; k++) {
			seconds += log->entries[k].seconds;
			missed |= log->entries[k].answer == ANSWER_MISS;
		}
		if (strlen(e->tool) != tool_length || memcmp(e->tool, tool, tool_length) != 0)
			continue;
		other = seconds;
		if (strcmp(e->target, target) == 0)
			*(missed ? &computed : &same) = seconds;
	}
	return !isnan(computed) ? computed : !isnan(same) ? same : other;
}

/* Reads what `ninja -n -v` printed from standard input. */
static bool print_dry_run(const struct arguments *a, error *err)
{
	struct edge_log log;
	char *line = NULL, target[PATH_BYTES];
	size_t capacity = 0;
	int edges = 0, others = 0, unknown = 0;
	double total = 0;
	if (!log_read(&log, a->tree, err))
		return false;
	while (getline(&line, &capacity, stdin) > 0) {
		const char *tool;
		size_t length;
		if (line[0] != '[')
			continue;
		if (!take_target(line, target, sizeof target, &tool, &length)) {
			others++;
			continue;
		}
		double seconds = past_seconds(&log, target, tool, length);
		edges++;
		if (isnan(seconds)) {
			unknown++;
			printf("%-10.*s        ? s  %s\n", (int)length, tool, target);
		} else {
			total += seconds;
			printf("%-10.*s %8.3f s  %s\n", (int)length, tool, seconds, target);
		}
	}
	bool ok = !ferror(stdin) && feof(stdin);
	if (ok && others)
		printf("%d other commands (compiling, linking, showing)\n", others);
	if (ok)
		printf("%d edges, about %.1f s of work by past times%s; less where the store has "
		       "results or outputs stay the same\n", edges, total,
		       unknown ? ", not counting what never ran" : "");
	free(line);
	log_free(&log);
	return ok || fail(err, EXIT_ENVIRONMENT, "cannot read what ninja would do");
}

/* ---- verbs ---- */

struct verb {
	const char *name;
	bool (*run)(const struct arguments *a, error *err);
};

static bool run_verb(const struct arguments *a, error *err)
{
	static const struct verb verbs[] = { { "list", list_store }, { "why", explain },
		{ "verify", verify_store }, { "gc", collect_garbage }, { "stats", print_stats },
		{ "dry-run", print_dry_run } };
	const char *name = a->words.count ? a->words.values[0] : "";
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return verbs[i].run == explain || a->words.count == 1
			       ? verbs[i].run(a, err)
			       : fail(err, EXIT_USAGE, "%s: expected nothing after it", name);
	return fail(err, EXIT_USAGE, "expected list, why, verify, gc, stats or dry-run, found "
	            "\"%s\"", name);
}

int main(int argc, char **argv)
{
	struct arguments a = { .tree = "out", .days = 14, .megabytes = -1 };
	const struct option options[] = {
		{ "tree", OPTION_TEXT, &a.tree, "DIR", "build tree (default out)", false },
		{ "days", OPTION_INTEGER, &a.days, "N",
		  "gc: keep what was stored in the last N days (default 14)", false },
		{ "megabytes", OPTION_INTEGER, &a.megabytes, "N",
		  "gc: remove younger ones too, oldest first, until the store has N MB", false },
		{ 0 },
	};
	const struct command command = {
		.tool = "store",
		.purpose = "Looks after the store of a build tree.\n\n"
		           "  list         every result: key, tool, size, age\n"
		           "  why TARGET   which line of which key changed before the last run of "
		           "a target, scheme or baseline\n"
		           "  verify       reads every object; damaged ones are set aside and made "
		           "again by the next build\n"
		           "  gc           removes results that neither the catalog nor a published "
		           "checkpoint needs, and what killed processes left\n"
		           "  stats        time, bytes and store hits of every tool\n"
		           "  dry-run      reads `ninja -n -v`, tells how long its edges took "
		           "before (use `ninja dry-run`)",
		.operands = "VERB [TARGET...]",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, &a.words, &err);
	a.limited = a.megabytes >= 0;
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && run_verb(&a, &err));
	options_free(&a.words);
	return ok ? EXIT_OK : error_report("store", &err);
}
