/* diversity: asserts that published checkpoints differ in precisely the groups they
 * should, and records by how many. */
#include "lib/artifact/publish.h"
#include "lib/base/options.h"
#include "lib/quant/diversity.h"

int main(int argc, char **argv)
{
	const char *out = NULL;
	const struct option options[] = {
		{ "out", OPTION_TEXT, &out, "FILE", "where the comparison goes", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "diversity",
		.purpose = "Compares checkpoints pair by pair, from their lists of files "
		           "(layer-sensitivity/*_files.json): exactly the groups that one "
		           "coverage selects and the other does not must differ.",
		.operands = "LIST...",
		.options = options
	};
	error err;
	struct option_list lists = { 0 };
	text printed = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &lists, &err);
	bool ok = parsed == PARSE_HELP ||
	          (parsed == PARSE_OK &&
	           compare_checkpoints(lists.values, lists.count, &printed, &err) &&
	           write_file_if_changed(out, printed.data, printed.length, NULL, &err));
	text_free(&printed);
	options_free(&lists);
	return ok ? EXIT_OK : error_report("diversity", &err);
}
