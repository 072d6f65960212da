/* fold: the channel scales of a format that has such, found over calibration samples and
 * folded into the norms before its groups; lib/quant/fold.h says how. */
#include <string.h>

#include "lib/artifact/publish.h"
#include "lib/quant/fold_run.h"
#include "tools/arguments.h"

static bool fold(struct data_arguments *a, struct format_arguments *format, arena *memory,
                 error *err)
{
	struct model_config config;
	struct device_choice device;
	struct linear_shape *linears;
	struct group_list groups;
	int count;
	text printed = { 0 };
	if (strcmp(a->part, "0/1") != 0)
		return fail(err, EXIT_USAGE, "--part: channel scales are searched for in one piece");
	if (!format_check(format, err) ||
	    !choose_format_device(&format->format, 1, &a->device, &device, err))
		return false;
	if (!format->format->channel_scales)
		return fail(err, EXIT_USAGE, "--element, --granularity: %s %s has no channel scales",
		            format->element, format->granularity);
	if (!model_config_load(&config, a->source.model, err) ||
	    !list_linears(&config, memory, &linears, &count, err) ||
	    !format_groups(format, linears, count, memory, &groups, err))
		return false;
	const struct fold_job job = { .data = &a->source, .linears = linears,
		.linear_count = count, .groups = &groups, .format = format->format,
		.numerics = format->numerics, .tree = a->tree, .target = a->out };
	bool ok = run_folds(&job, &printed, err) &&
	          write_file_if_changed(a->out, printed.data, printed.length, NULL, err);
	if (ok)
		say_device(&device, "fold");
	text_free(&printed);
	return ok;
}

int main(int argc, char **argv)
{
	struct data_arguments a = { 0 };
	struct format_arguments format;
	struct option options[DATA_OPTIONS + FORMAT_OPTIONS + 1] = { 0 };
	const struct command command = {
		.tool = "fold",
		.purpose = "Finds a format's scales of input channels, and folds them into the "
		           "norms that make the inputs.",
		.options = options
	};
	arena memory = { 0 };
	error err;
	data_options(&a, options);
	format_options(&format, options + DATA_OPTIONS);
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK && fold(&a, &format, &memory, &err);
	arena_free(&memory);
	format_free(&format);
	return ok ? EXIT_OK : error_report("fold", &err);
}
