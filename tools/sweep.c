/* sweep: builds a family of schemes, or some of it, and prints a table of them. */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "lib/base/options.h"
#include "lib/report/findings.h"
#include "lib/report/format.h"

extern char **environ;

struct arguments {
	const char *plan, *model, *only;
	bool dry_run, table;
};

/* The last part of a scheme's name, "top10". */
static void last_part(char *out, size_t size, const char *scheme)
{
	char name[256];
	short_name(name, sizeof name, scheme);
	const char *part = strrchr(name, '_');
	snprintf(out, size, "%s", part ? part + 1 : name);
}

/* The next entry of a comma-separated list, NULL at its end; *length may be 0. */
static const char *next_entry(const char **list, size_t *length)
{
	const char *entry = *list;
	if (!entry)
		return NULL;
	*length = strcspn(entry, ",");
	*list = entry[*length] ? entry + *length + 1 : NULL;
	return entry;
}

static bool is_called(const char *scheme, const char *entry, size_t length)
{
	char part[256];
	last_part(part, sizeof part, scheme);
	return strlen(part) == length && strncmp(part, entry, length) == 0;
}

static bool is_of_sweep(const struct found_scheme *s, const char *sweep)
{
	return s->sweep && strcmp(s->sweep, sweep) == 0;
}

static bool is_wanted(const char *only, const char *scheme)
{
	size_t length;
	if (!only)
		return true;
	for (const char *entry; (entry = next_entry(&only, &length));)
		if (is_called(scheme, entry, length))
			return true;
	return false;
}

/* Every entry of --only must name a scheme of the sweep. */
static bool check_only(const struct findings *f, const char *only, const char *sweep,
                       error *err)
{
	size_t length;
	for (const char *entry; (entry = next_entry(&only, &length));) {
		bool found = false;
		for (int i = 0; i < f->scheme_count; i++)
			found = found || (is_of_sweep(&f->schemes[i], sweep) &&
			                  is_called(f->schemes[i].name, entry, length));
		if (!found)
			return fail(err, EXIT_USAGE, "--only: sweep \"%s\" has no scheme \"%.*s\"",
			            sweep, (int)(length > 80 ? 80 : length), entry);
	}
	return true;
}

static const struct found_scheme **list_schemes(const struct findings *f,
                                                const struct arguments *a,
                                                const char *sweep, int *count, error *err)
{
	const struct found_scheme **list = calloc((size_t)f->scheme_count + 1, sizeof *list);
	*count = 0;
	if (!list) {
		fail_memory(err, "schemes", 0);
		return NULL;
	}
	for (int i = 0; i < f->scheme_count; i++)
		if (is_of_sweep(&f->schemes[i], sweep) && is_wanted(a->only, f->schemes[i].name))
			list[(*count)++] = &f->schemes[i];
	bool ok = check_only(f, *count ? a->only : NULL, sweep, err);
	if (ok && *count == 0)
		ok = fail(err, EXIT_USAGE, a->only ? "sweep \"%s\" has none of the schemes %s"
		                                   : "there is no sweep \"%s\"%s", sweep,
		          a->only ? a->only : "");
	if (ok)
		return list;
	free(list);
	return NULL;
}

static bool wait_for(pid_t child, error *err)
{
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fail_errno(err, errno, "ninja");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	return fail(err, EXIT_BAD_INPUT, "ninja failed; what it printed says why");
}

/* ninja [-n] SCHEME... */
static bool run_ninja(const struct found_scheme *const *list, int count, bool dry_run,
                      error *err)
{
	char **argv = calloc((size_t)count + 3, sizeof *argv);
	pid_t child;
	int n = 0;
	if (!argv)
		return fail_memory(err, "arguments", 0);
	argv[n++] = (char *)"ninja";
	if (dry_run)
		argv[n++] = (char *)"-n";
	for (int i = 0; i < count; i++)
		argv[n++] = (char *)list[i]->name;
	int code = posix_spawnp(&child, "ninja", NULL, NULL, argv, environ);
	free(argv);
	return code == 0 ? wait_for(child, err) : fail_errno(err, code, "ninja");
}

static void print_table(const struct findings *f, const struct found_scheme *const *list,
                        int count)
{
	char a[SHOWN_BYTES], b[SHOWN_BYTES], c[SHOWN_BYTES];
	printf("%-46s %7s %7s %9s %9s", "scheme", "groups", "bits", "MB", "verified");
	for (int k = 0; k < f->set_count; k++)
		printf("  %-24.24s", f->sets[k]);
	printf("\n");
	for (int i = 0; i < count; i++) {
		const struct found_scheme *s = list[i];
		bool known = s->coverage.total > 0;
		printf("%-46s %7s %7s %9s %9s", s->name,
		       show(a, "%.0f", known ? s->coverage.selected : MISSING),
		       show(b, "%.2f", known ? s->coverage.delivered_bits : MISSING),
		       show(c, "%.1f", is_missing(s->bytes) ? MISSING : s->bytes / 1e6),
		       is_missing(s->verified) ? NOT_THERE : "yes");
		for (int k = 0; k < f->set_count; k++)
			printf("  KL %-21s", show_estimate(a, "%.2e", s->damage[k].kl));
		printf("\n");
	}
}

/* The table is of what is there after ninja ran, so it is read again then. */
static bool print_result(const struct arguments *a, const char *sweep, error *err)
{
	struct findings f;
	int count;
	if (!findings_load(&f, a->plan, a->model, err))
		return false;
	const struct found_scheme **list = list_schemes(&f, a, sweep, &count, err);
	if (list)
		print_table(&f, list, count);
	free(list);
	findings_free(&f);
	return list != NULL;
}

static bool build(const struct arguments *a, const char *sweep, error *err)
{
	struct findings f;
	int count;
	if (!findings_load(&f, a->plan, a->model, err))
		return false;
	const struct found_scheme **list = list_schemes(&f, a, sweep, &count, err);
	bool ok = list && run_ninja(list, count, a->dry_run, err);
	free(list);
	findings_free(&f);
	return ok;
}

static bool run(const struct arguments *a, const struct option_list *names, error *err)
{
	if (names->count != 1)
		return fail(err, EXIT_USAGE, "expected one sweep, found %d", names->count);
	if (a->table && a->dry_run)
		return fail(err, EXIT_USAGE, "--table builds nothing: expected no --dry-run beside it");
	const char *sweep = names->values[0];
	return (a->table || build(a, sweep, err)) &&
	       (a->dry_run || print_result(a, sweep, err));
}

int main(int argc, char **argv)
{
	struct arguments a = { .plan = "out/report.json" };
	const struct option options[] = {
		{ "plan", OPTION_TEXT, &a.plan, "FILE",
		  "report.json of the build tree (default out/report.json)", false },
		{ "model", OPTION_TEXT, &a.model, "NAME", "needed where the tree has several",
		  false },
		{ "only", OPTION_TEXT, &a.only, "LIST", "some of the schemes: top10,top50", false },
		{ "dry-run", OPTION_FLAG, &a.dry_run, NULL, "show what ninja would do", false },
		{ "table", OPTION_FLAG, &a.table, NULL, "build nothing, print the table", false },
		{ 0 },
	};
	const struct command command = {
		.tool = "sweep",
		.purpose = "Builds a family of schemes through ninja, or some of it, and prints a "
		           "table of them. `ninja SWEEP` does the same for the whole family.",
		.operands = "SWEEP",
		.options = options
	};
	error err;
	struct option_list names = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &names, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && run(&a, &names, &err));
	options_free(&names);
	return ok ? EXIT_OK : error_report("sweep", &err);
}
