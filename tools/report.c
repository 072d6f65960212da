/* report: one page about all schemes of a model, from the artifacts that are there. */
#include <string.h>

#include "lib/artifact/publish.h"
#include "lib/base/options.h"
#include "lib/report/report.h"

typedef bool printer(const struct findings *f, text *out, error *err);

static bool write_report(const struct findings *f, printer *print, const char *path,
                         error *err)
{
	text printed = { 0 };
	bool ok = print(f, &printed, err) &&
	          write_file_if_changed(path, printed.data, printed.length, NULL, err);
	text_free(&printed);
	return ok;
}

static bool make_parent(const char *path, error *err)
{
	char folder[PATH_BYTES];
	const char *slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) >= sizeof folder)
		return true;
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = '\0';
	return make_folders(folder, err);
}

static bool report(const char *plan, const char *model, const struct option_list *files,
                   error *err)
{
	struct findings f;
	if (files->count != 2)
		return fail(err, EXIT_USAGE, "expected two files to write, found %d", files->count);
	if (strcmp(files->values[0], files->values[1]) == 0)
		return fail(err, EXIT_USAGE, "expected two files to write, found %s twice",
		            files->values[0]);
	if (!findings_load(&f, plan, model, err))
		return false;
	bool ok = make_parent(files->values[0], err) && make_parent(files->values[1], err) &&
	          write_report(&f, print_report_markdown, files->values[0], err) &&
	          write_report(&f, print_report_page, files->values[1], err);
	findings_free(&f);
	return ok;
}

int main(int argc, char **argv)
{
	const char *plan = NULL, *model = NULL;
	const struct option options[] = {
		{ "plan", OPTION_TEXT, &plan, "FILE", "report.json of the build tree", true },
		{ "model", OPTION_TEXT, &model, "NAME", "the model to report on", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "report",
		.purpose = "Writes a Markdown report and an HTML page about all schemes of a model. "
		           "Reads artifacts only; what is not there is shown as missing.",
		.operands = "FILE.md FILE.html",
		.options = options
	};
	error err;
	struct option_list files = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &files, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && report(plan, model, &files, &err));
	options_free(&files);
	return ok ? EXIT_OK : error_report("report", &err);
}
