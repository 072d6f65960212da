/* check_quality: fails unless every ranking that was measured is worth something. */
#include <stdio.h>

#include "lib/base/json.h"
#include "lib/base/options.h"

enum { MAX_QUALITY_BYTES = 1 << 20 };

enum { RATIO_BYTES = 48 };

/* "0.27 ± 0.02" */
static bool read_ratio(const json_doc *doc, const cJSON *item, char out[RATIO_BYTES],
                       error *err)
{
	const cJSON *ratio = json_object(doc, item, "ratio", err);
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(ratio, "standard_error");
	double mean;
	if (!ratio || !json_number(doc, ratio, "mean", 0, 1e300, &mean, err))
		return false;
	int length = snprintf(out, RATIO_BYTES, "%.3f", mean);
	if (cJSON_IsNumber(error) && length > 0 && length < RATIO_BYTES)
		snprintf(out + length, RATIO_BYTES - (size_t)length, " ± %.3f",
		         error->valuedouble);
	return true;
}

static bool check_cut(const json_doc *doc, const cJSON *cut, bool *all, error *err)
{
	double percent, least, median;
	char ratio[RATIO_BYTES];
	bool holds;
	if (!json_number(doc, cut, "percent", 0, 100, &percent, err) ||
	    !json_number(doc, cut, "least_sensitive_kl", 0, 1e300, &least, err) ||
	    !json_number(doc, cut, "random_median_kl", 0, 1e300, &median, err) ||
	    !read_ratio(doc, cut, ratio, err) || !json_boolean(doc, cut, "holds", &holds, err))
		return false;
	printf("  %s at %g %%: KL %.2e, median of random choices %.2e: %s of it, at most 0.5\n",
	       holds ? "holds" : "FAILS", percent, least, median, ratio);
	*all = *all && holds;
	return true;
}

static bool check_file(const char *path, bool *all, error *err)
{
	json_doc doc;
	const char *baseline, *set;
	double kl, correlation;
	char ratio[RATIO_BYTES];
	bool holds;
	if (!json_load(&doc, path, MAX_QUALITY_BYTES, err))
		return false;
	const cJSON *cuts = json_array(&doc, doc.root, "cuts", err);
	bool ok = cuts && json_text(&doc, doc.root, "baseline", &baseline, err) &&
	          json_text(&doc, doc.root, "set", &set, err);
	if (ok)
		printf("%s on %s\n", baseline, set);
	for (const cJSON *cut = ok ? cuts->child : NULL; ok && cut; cut = cut->next)
		ok = check_cut(&doc, cut, all, err);
	const cJSON *reversed = ok ? json_object(&doc, doc.root, "reversed", err) : NULL;
	const cJSON *alone = reversed ? json_object(&doc, doc.root, "alone", err) : NULL;
	ok = alone && json_number(&doc, reversed, "kl", 0, 1e300, &kl, err) &&
	     read_ratio(&doc, reversed, ratio, err) &&
	     json_boolean(&doc, reversed, "holds", &holds, err) &&
	     json_number(&doc, alone, "rank_correlation", -1, 1, &correlation, err);
	if (ok) {
		printf("  %s at 50 %%: reversed ranking KL %.2e: %s of it, at most 0.2\n",
		       holds ? "holds" : "FAILS", kl, ratio);
		printf("  rank correlation of scores and KL, some groups alone: %.3f\n",
		       correlation);
		*all = *all && holds;
	}
	json_free(&doc);
	return ok;
}

int main(int argc, char **argv)
{
	const struct option options[] = { { 0 } };
	const struct command command = {
		.tool = "check_quality",
		.purpose = "Prints what quality measured; fails when a ranking does not do clearly "
		           "less damage than chance.",
		.operands = "QUALITY.json...",
		.options = options
	};
	error err;
	struct option_list files = { 0 };
	bool all = true;
	enum parse_outcome parsed = parse_options(&command, argc, argv, &files, &err);
	bool ok = parsed == PARSE_HELP || parsed == PARSE_OK;
	for (int i = 0; ok && i < files.count; i++)
		ok = check_file(files.values[i], &all, &err);
	options_free(&files);
	if (ok && !all)
		ok = fail(&err, EXIT_BAD_INPUT, "a ranking is not good enough; score more samples");
	return ok ? EXIT_OK : error_report("check_quality", &err);
}
