/* quality: measures whether a baseline's ranking is worth anything. */
#include "lib/quant/quality.h"

#include "lib/artifact/publish.h"
#include "tools/arguments.h"

static bool measure(struct evaluation_arguments *a, error *err)
{
	struct material m = { 0 };
	struct evaluation job;
	struct variant_choice choices[QUALITY_CHOICES];
	struct damage damage[QUALITY_CHOICES];
	struct quality quality;
	text printed = { 0 };
	bool ok = evaluation_begin(a, &m, &job, "quality", err) &&
	          quality_choices(&m, choices, err);
	if (ok) {
		job.choices = choices;
		job.choice_count = QUALITY_CHOICES;
		ok = evaluate_choices(&job, damage, &m.memory, err) &&
		     judge_quality(&m, damage, &quality, err) &&
		     print_quality(&quality, &a->facts, &printed, err) &&
		     write_file_if_changed(a->data.out, printed.data, printed.length, NULL, err);
	}
	text_free(&printed);
	material_free(&m);
	return ok;
}

int main(int argc, char **argv)
{
	struct evaluation_arguments a = { 0 };
	struct option options[EVALUATION_OPTIONS + 1] = { 0 };
	const struct command command = {
		.tool = "quality",
		.purpose = "Measures the least sensitive 25, 50 and 75 % of a baseline's groups "
		           "against random choices of the same size and the reversed ranking. Only "
		           "measures; check_quality says whether it is enough.",
		.options = options
	};
	error err;
	evaluation_options(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && measure(&a, &err));
	options_free(&a.format.include);
	options_free(&a.format.exclude);
	return ok ? EXIT_OK : error_report("quality", &err);
}
