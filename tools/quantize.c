/* quantize: every group of a model once in a number format and once as it is, into the
 * store, for all schemes to link. */
#include "lib/artifact/publish.h"
#include "lib/quant/variants.h"
#include "tools/arguments.h"

/* Of a format with channel scales. */
static bool load_folds(struct format_arguments *format, const char *model, arena *memory,
                       error *err)
{
	struct model_config config;
	struct linear_shape *linears;
	int count;
	if (!format->format->channel_scales && !format->fold_path)
		return true;
	return model_config_load(&config, model, err) &&
	       list_linears(&config, memory, &linears, &count, err) &&
	       format_folds(format, linears, count, err);
}

static bool quantize(const struct variant_job *job, const char *out, error *err)
{
	struct variant_set set;
	text printed = { 0 };
	if (!make_variants(&set, job, err))
		return false;
	bool ok = print_variants(&set, &printed, err) &&
	          write_file_if_changed(out, printed.data, printed.length, NULL, err);
	text_free(&printed);
	variants_free(&set);
	return ok;
}

int main(int argc, char **argv)
{
	struct format_arguments format;
	const char *profile_text = "universal";
	enum profile profile = PROFILE_UNIVERSAL;
	const char *model = NULL, *tree = NULL, *out = NULL;
	struct option options[FORMAT_OPTIONS + 6] = { 0 };
	const struct command command = {
		.tool = "quantize",
		.purpose = "Quantises every group of a model into the store, once for all schemes.",
		.options = options
	};
	arena memory = { 0 };
	error err;
	format_options(&format, options);
	options[FORMAT_OPTIONS] = (struct option){
		"model", OPTION_TEXT, &model, "DIR", "checkpoint folder", true
	};
	options[FORMAT_OPTIONS + 1] = (struct option){
		"tree", OPTION_TEXT, &tree, "DIR", "build tree with the store", true
	};
	options[FORMAT_OPTIONS + 2] = (struct option){
		"out", OPTION_TEXT, &out, "FILE", "where the list of pieces goes", true
	};
	options[FORMAT_OPTIONS + 3] = (struct option){
		"profile", OPTION_TEXT, &profile_text, "NAME",
		"whose tensors to make, universal or modelopt (default universal)", false
	};
	options[FORMAT_OPTIONS + 4] = fold_option(&format);
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK && format_check(&format, &err) &&
	          load_folds(&format, model, &memory, &err);
	if (ok && (!profile_from_name(profile_text, &profile) || !profile_is_quantised(profile)))
		ok = fail(&err, EXIT_USAGE, "--profile: expected universal or modelopt, found "
		          "\"%s\"", profile_text);
	if (ok) {
		const struct variant_job job = { .model = model, .tree = tree, .target = out,
			.format_name = format.name, .format = format.format, .profile = profile,
			.folds = &format.folds, .numerics = format.numerics,
			.shared_scales = !format.scale_per_member,
			.skip_bad_shapes = format.skip_bad_shapes,
			.include = format.include.values, .include_count = format.include.count,
			.exclude = format.exclude.values, .exclude_count = format.exclude.count };
		ok = quantize(&job, out, &err);
	}
	format_free(&format);
	arena_free(&memory);
	return ok ? EXIT_OK : error_report("quantize", &err);
}
