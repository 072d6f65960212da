/* Which rows of which file are a source's: all that decoding their images needs, so that
 * the sources of `decode` are not those of the tokenizer and the prompts. */
#include <string.h>

#include "lib/quant/source.h"
#include "lib/quant/source_parts.h"

enum { MOST_SAMPLES = 1000000000 };

bool check_range(const char *option, int64_t value, int64_t low, int64_t high, error *err)
{
	return (value >= low && value <= high) ||
	       fail(err, EXIT_USAGE, "%s: expected %lld to %lld, found %lld", option,
	            (long long)low, (long long)high, (long long)value);
}

bool source_check_rows(const struct source_settings *g, error *err)
{
	int given = !!g->captions + !!g->calib_db + !!g->eval_list;
	if (given != 1)
		return fail(err, EXIT_USAGE, "expected --captions or --calib-db, found %s",
		            given ? "both" : "neither");
	if (!g->captions && !g->image_root)
		return fail(err, EXIT_USAGE, "%s needs --image-root",
		            g->calib_db ? "--calib-db" : "--eval-list");
	if (strcmp(g->on_bad_sample, "skip") != 0 && strcmp(g->on_bad_sample, "stop") != 0)
		return fail(err, EXIT_USAGE, "--on-bad-sample: expected stop or skip, found \"%s\"",
		            g->on_bad_sample);
	return check_range("--samples", g->samples, 1, MOST_SAMPLES, err) &&
	       check_range("--first", g->first, 0, MOST_SAMPLES, err) &&
	       check_range("--max-pixels", g->max_pixels, 0, IMAGE_MAX_PIXELS, err);
}

bool source_load_rows(const struct source_settings *g, struct sample_list *rows, error *err)
{
	size_t first = (size_t)g->first, most = (size_t)g->samples;
	return g->captions ? captions_load(rows, g->captions, first, most, err)
	       : g->calib_db ? calib_db_load(rows, g->calib_db, first, most, err)
	                     : eval_list_load(rows, g->eval_list, first, most, err);
}
