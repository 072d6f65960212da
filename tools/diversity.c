/* diversity: asserts that published checkpoints differ in precisely the groups they
 * should, and records by how many. */
#include "lib/artifact/step.h"
#include "lib/quant/diversity.h"
#include "tools/arguments.h"

int main(int argc, char **argv)
{
	const char *out = NULL, *tree = NULL;
	const struct option options[] = {
		{ "out", OPTION_TEXT, &out, "FILE", "where the comparison goes", true },
		tree_option(&tree),
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
	struct step step = { 0 };
	text printed = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &lists, &err);
	bool ok = parsed == PARSE_HELP ||
	          (parsed == PARSE_OK && step_begin(&step, tree, "diversity", out, &err) &&
	           step_inputs(&step, "list", lists.values, lists.count, &err) &&
	           compare_checkpoints(lists.values, lists.count, &printed, &err) &&
	           step_write(&step, out, &printed, &err) && step_end(&step, &err));
	step_drop(&step);
	text_free(&printed);
	options_free(&lists);
	return ok ? EXIT_OK : error_report("diversity", &err);
}
