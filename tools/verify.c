/* verify: re-reads a published checkpoint and checks every promise it makes; or says what
 * one program makes of it. */
#include <stdio.h>

#include "lib/artifact/publish.h"
#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/base/json_tree.h"
#include "lib/quant/consumer_view.h"
#include "lib/quant/verify.h"
#include "lib/quant/verify_files.h"
#include "tools/arguments.h"

static bool write_report(const char *out, const struct verified *v, error *err)
{
	struct json_tree tree = tree_new();
	text printed = { 0 };
	tree_boolean(&tree, tree.root, "verified", true);
	tree_text(&tree, tree.root, "profile", v->profile);
	tree_text(&tree, tree.root, "layout", v->layout);
	tree_number(&tree, tree.root, "files", v->files);
	tree_number(&tree, tree.root, "bytes", (double)v->bytes);
	tree_number(&tree, tree.root, "tensors", v->tensors);
	tree_number(&tree, tree.root, "quantized_linears", v->quantised_linears);
	tree_number(&tree, tree.root, "kv_cache_scales", v->cache_scales);
	tree_number(&tree, tree.root, "groups_selected", v->groups_selected);
	tree_number(&tree, tree.root, "groups_total", v->groups_total);
	tree_number(&tree, tree.root, "delivered_bits", v->bits);
	cJSON *lost = tree_object(&tree, tree.root, "quantized_linears_lost");
	for (int c = 0; c < CONSUMER_COUNT; c++)
		if (v->lost[c] >= 0)
			tree_number(&tree, lost, consumer_name((enum consumer)c), v->lost[c]);
	bool ok = tree_finish(&tree, &printed, err) &&
	          write_file(out, printed.data, printed.length, err);
	text_free(&printed);
	return ok;
}

/* The list of files holds the digest of every other file. */
static bool begin_step(struct step *step, const char *tree, const char *out,
                       const char *folder, error *err)
{
	char list[PATH_BYTES];
	return !tree || (step_begin(step, tree, "verify", out ? out : folder, err) &&
	                 find_file_list(folder, list, sizeof list, err) &&
	                 step_input(step, "files", list, err));
}

struct arguments {
	const char *model, *out, *tree, *consumer, *layer;
	struct option_list folders;
};

static bool check_arguments(const struct arguments *a, error *err)
{
	if (a->folders.count != 1)
		return fail(err, EXIT_USAGE, "expected one checkpoint folder, found %d",
		            a->folders.count);
	if (a->layer && !a->consumer)
		return fail(err, EXIT_USAGE, "--layer: expected --consumer beside it");
	return a->model || a->consumer ||
	       fail(err, EXIT_USAGE, "expected --model, the base checkpoint (or --consumer)");
}

static bool verify_all(const struct arguments *a, error *err)
{
	const char *folder = a->folders.values[0];
	struct verified verified;
	struct step step = { 0 };
	bool ok = begin_step(&step, a->tree, a->out, folder, err) &&
	          verify_checkpoint(folder, a->model, &verified, err) &&
	          (!a->out || write_report(a->out, &verified, err)) && step_end(&step, err);
	step_drop(&step);
	return ok;
}

static bool show_consumer(const struct arguments *a, error *err)
{
	text view = { 0 };
	bool ok = print_consumer_view(a->folders.values[0], a->consumer, a->layer, &view, err);
	if (view.data)
		fputs(view.data, stdout);
	text_free(&view);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	const struct option options[] = {
		{ "model", OPTION_TEXT, &a.model, "DIR", "the base checkpoint", false },
		{ "out", OPTION_TEXT, &a.out, "FILE", "where the report goes", false },
		{ "consumer", OPTION_TEXT, &a.consumer, "NAME", "what " PROGRAM_NAMES
		  " builds of the linears, by its own rules", false },
		{ "layer", OPTION_TEXT, &a.layer, "NAME", "with --consumer: of this linear, and why",
		  false },
		tree_option(&a.tree),
		{ 0 },
	};
	const struct command command = {
		.tool = "verify",
		.purpose = "Checks every promise of a published checkpoint against its bytes and "
		           "the base model's: digests, tensors, codes, scales, coverage, "
		           "configurations, consumers. Says nothing and exits 0 when all hold.",
		.operands = "CHECKPOINT",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, &a.folders, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK && check_arguments(&a, &err) &&
	          (a.consumer ? show_consumer(&a, &err) : verify_all(&a, &err));
	options_free(&a.folders);
	return ok ? EXIT_OK : error_report("verify", &err);
}
