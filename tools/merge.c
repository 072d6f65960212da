/* merge: the parts of a calibration -> one amax a linear. */
#include "lib/artifact/step.h"
#include "lib/quant/amax_file.h"
#include "tools/arguments.h"

static bool merge(const struct option_list *parts, const char *out, struct step *step,
                  error *err)
{
	struct block_list blocks;
	struct block merged;
	text printed = { 0 };
	if (!read_parts(&blocks, parts->values, parts->count, BLOCK_AMAX, err))
		return false;
	bool ok = merge_blocks(&blocks, BLOCK_AMAX, &merged, err) &&
	          print_amax(&merged, &printed, err) &&
	          step_write(step, out, &printed, err);
	text_free(&printed);
	block_list_free(&blocks);
	return ok;
}

int main(int argc, char **argv)
{
	const char *out = NULL, *tree = NULL;
	const struct option options[] = {
		{ "out", OPTION_TEXT, &out, "FILE", "where the merged amax go", true },
		tree_option(&tree),
		{ 0 },
	};
	const struct command command = {
		.tool = "merge",
		.purpose = "Merges the parts that calibrate wrote into one amax a linear.",
		.operands = "PART...",
		.options = options
	};
	error err;
	struct option_list parts = { 0 };
	struct step step = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &parts, &err);
	bool ok = parsed == PARSE_HELP || 
	          (parsed == PARSE_OK && step_begin(&step, tree, "merge", out, &err) &&
	           step_inputs(&step, "part", parts.values, parts.count, &err) &&
	           merge(&parts, out, &step, &err) && step_end(&step, &err));
	step_drop(&step);
	options_free(&parts);
	return ok ? EXIT_OK : error_report("merge", &err);
}
