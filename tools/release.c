/* release: the lock of what a tree publishes, the check of a tree against it, and the
 * removal of checkpoints that no scheme names any more. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/artifact/publish.h"
#include "lib/artifact/release.h"
#include "lib/base/options.h"

struct arguments {
	const char *tree, *lock;
	bool yes;
	struct option_list words;
};

static bool write_lock(const struct arguments *a, const struct release *r, error *err)
{
	text lock = { 0 };
	bool changed;
	bool ok = release_lock(r, a->tree, &lock, err) &&
	          write_file_if_changed(a->lock, lock.data, lock.length, &changed, err);
	text_free(&lock);
	if (ok)
		printf("%s: %zu artifacts, %s\n", a->lock, r->count,
		       changed ? "written" : "as it was");
	return ok;
}

static bool check_tree(const struct arguments *a, const struct release *r, error *err)
{
	text report = { 0 };
	int faults;
	bool ok = release_check(r, a->tree, a->lock, &report, &faults, err);
	if (ok && faults) {
		fputs(report.data, stdout);
		ok = fail(err, EXIT_BAD_INPUT, "%d faults against %s", faults, a->lock);
	} else if (ok) {
		printf("%zu artifacts are what %s says\n", r->count, a->lock);
	}
	text_free(&report);
	return ok;
}

/* ---- prune ---- */

static bool confirm(const struct arguments *a, int count)
{
	char answer[8] = "";
	if (a->yes)
		return true;
	if (!isatty(STDIN_FILENO)) {
		printf("nothing removed; to remove them: %s/bin/release prune --yes\n", a->tree);
		return false;
	}
	printf("remove %s? [y/N] ", count == 1 ? "it" : "them");
	fflush(stdout);
	return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static bool prune(const struct arguments *a, const struct release *r, error *err)
{
	struct folder_list folders;
	int count = 0;
	if (!list_published(&folders, a->tree, err))
		return false;
	for (int i = 0; i < folders.count; i++)
		if (!release_has_folder(r, a->tree, folders.folders[i].path)) {
			printf("%s\n", folders.folders[i].path);
			count++;
		}
	bool ok = true;
	if (count == 0)
		printf("every checkpoint is a scheme of the catalog\n");
	else if (confirm(a, count))
		for (int i = 0; ok && i < folders.count; i++)
			if (!release_has_folder(r, a->tree, folders.folders[i].path))
				ok = remove_folder(folders.folders[i].path, err);
	folder_list_free(&folders);
	return ok;
}

/* ---- verbs ---- */

static bool run_verb(const struct arguments *a, error *err)
{
	const char *verb = a->words.count == 1 ? a->words.values[0] : "";
	bool (*run)(const struct arguments *, const struct release *, error *) =
		strcmp(verb, "lock") == 0    ? write_lock
		: strcmp(verb, "ci") == 0    ? check_tree
		: strcmp(verb, "prune") == 0 ? prune : NULL;
	struct release release;
	if (!run)
		return fail(err, EXIT_USAGE, "expected lock, ci or prune");
	if (!release_read(&release, a->tree, err))
		return false;
	bool ok = run(a, &release, err);
	release_free(&release);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { .tree = "out", .lock = "schemes.lock.json" };
	const struct option options[] = {
		{ "tree", OPTION_TEXT, &a.tree, "DIR", "build tree (default out)", false },
		{ "lock", OPTION_TEXT, &a.lock, "FILE", "the lock (default schemes.lock.json)",
		  false },
		{ "yes", OPTION_FLAG, &a.yes, NULL, "prune: remove without asking", false },
		{ 0 },
	};
	const struct command command = {
		.tool = "release",
		.purpose = "Holds a tree against a lock that is reviewed with the catalog.\n\n"
		           "  lock    writes the lock: sources, parameters, inputs and digest of "
		           "every artifact (`ninja lock` builds them first)\n"
		           "  ci      says what is stale, missing, foreign or damaged; builds "
		           "nothing\n"
		           "  prune   lists checkpoints that no scheme names any more, and removes "
		           "them when told to",
		.operands = "VERB",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, &a.words, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && run_verb(&a, &err));
	options_free(&a.words);
	return ok ? EXIT_OK : error_report("release", &err);
}
