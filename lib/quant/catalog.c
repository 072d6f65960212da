/* Reading and checking the catalog. Errors name line and column; nothing that is
 * unknown is let pass, since a misspelt field would silently mean its default. */
#include "lib/quant/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/profile.h"
#include "lib/data/prompt.h"
#include "lib/quant/catalog_fields.h"
#include "lib/quant/catalog_overrides.h"
#include "lib/quant/catalog_set.h"
#include "lib/quant/numerics.h"

enum { MAX_CATALOG_BYTES = 4 << 20 };

static const int64_t MANY = 1000000000;

static bool read_models(struct catalog *c, error *err)
{
	static const char *const fields[] = { "path", "kind", "stand_in", NULL };
	static const char *const kinds[] = { "qwen2_5_vl", NULL };
	const cJSON *section = open_section(c, "models", &c->model_count, err);
	if (!section || !(c->models = arena_alloc(&c->memory, (size_t)c->model_count,
	                                          sizeof *c->models, err)))
		return false;
	struct catalog_model *model = c->models;
	for (const cJSON *e = section->child; e; e = e->next, model++) {
		const char *kind = NULL;
		model->name = e->string;
		if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err) ||
		    !json_text(&c->doc, e, "path", &model->path, err) ||
		    !json_text(&c->doc, e, "kind", &kind, err) ||
		    !read_word(c, e, "kind", kinds, &kind, err) ||
		    !json_boolean_or(&c->doc, e, "stand_in", &model->stand_in, err))
			return false;
	}
	return true;
}

static bool check_source(struct catalog *c, const cJSON *e, const struct calibration *k,
                         error *err)
{
	enum prompt_form form;
	if (!k->captions == !k->calib_db)
		return json_fail(&c->doc, e, err,
		                 "expected either \"captions\" or \"calib_db\", found %s",
		                 k->captions ? "both" : "neither");
	if (k->calib_db && !k->image_root)
		return json_fail(&c->doc, e, err, "expected \"image_root\" beside \"calib_db\"");
	if (!prompt_form_from_name(k->prompt_form, &form) || form == PROMPT_ASK)
		return json_fail(&c->doc, place_of(e, "prompt_form"), err,
		                 "expected \"answer\", \"user_turn\" or \"text\", found \"%s\"",
		                 k->prompt_form);
	if (k->captions && form != PROMPT_TEXT)
		return json_fail(&c->doc, place_of(e, "prompt_form"), err,
		                 "captions have no images: expected the prompt_form \"text\", found "
		                 "\"%s\"", k->prompt_form);
	return true;
}

static bool read_calibration(struct catalog *c, const cJSON *e, struct calibration *k,
                             error *err)
{
	static const char *const fields[] = {
		"captions", "calib_db", "image_root", "data", "stand_in", "prompt_form",
		"calib_samples", "score_samples", "block_samples", "max_tokens", "max_pixels",
		"on_bad_sample", NULL
	};
	static const char *const bad[] = { "stop", "skip", NULL };
	const json_doc *doc = &c->doc;
	*k = (struct calibration){ .name = e->string, .prompt_form = "answer",
		.on_bad_sample = "stop", .calib_samples = 4096, .score_samples = 128,
		.block_samples = 16 };
	return check_name(c, e, e->string, err) && json_only_fields(doc, e, fields, err) &&
	       json_text_or(doc, e, "captions", &k->captions, err) &&
	       json_text_or(doc, e, "calib_db", &k->calib_db, err) &&
	       json_text_or(doc, e, "image_root", &k->image_root, err) &&
	       json_text(doc, e, "data", &k->data, err) &&
	       check_one_line(c, place_of(e, "data"), err) &&
	       json_boolean_or(doc, e, "stand_in", &k->stand_in, err) &&
	       json_text_or(doc, e, "prompt_form", &k->prompt_form, err) &&
	       json_integer_or(doc, e, "calib_samples", 1, MANY, &k->calib_samples, err) &&
	       json_integer_or(doc, e, "score_samples", 1, MANY, &k->score_samples, err) &&
	       json_integer_or(doc, e, "block_samples", 1, 65536, &k->block_samples, err) &&
	       json_integer_or(doc, e, "max_tokens", 2, 1 << 20, &k->max_tokens, err) &&
	       json_integer_or(doc, e, "max_pixels", 0, 1 << 27, &k->max_pixels, err) &&
	       read_word(c, e, "on_bad_sample", bad, &k->on_bad_sample, err) &&
	       check_source(c, e, k, err);
}

static bool read_calibrations(struct catalog *c, error *err)
{
	const cJSON *section = open_section(c, "calibrations", &c->calibration_count, err);
	if (!section ||
	    !(c->calibrations = arena_alloc(&c->memory, (size_t)c->calibration_count,
	                                    sizeof *c->calibrations, err)))
		return false;
	struct calibration *k = c->calibrations;
	for (const cJSON *e = section->child; e; e = e->next)
		if (!read_calibration(c, e, k++, err))
			return false;
	return true;
}

static bool read_evaluation(struct catalog *c, const cJSON *e, struct evaluation_set *k,
                            error *err)
{
	static const char *const fields[] = { "captions", "eval_list", "image_root", "data",
		"stand_in", "prompt_form", "first", "samples", "block_samples", "max_tokens",
		"max_pixels", NULL };
	const json_doc *doc = &c->doc;
	enum prompt_form form;
	*k = (struct evaluation_set){ .name = e->string, .prompt_form = "answer",
		.samples = 100, .block_samples = 16 };
	if (!check_name(c, e, e->string, err) || !json_only_fields(doc, e, fields, err) ||
	    !json_text_or(doc, e, "captions", &k->captions, err) ||
	    !json_text_or(doc, e, "eval_list", &k->eval_list, err) ||
	    !json_text_or(doc, e, "image_root", &k->image_root, err) ||
	    !json_text(doc, e, "data", &k->data, err) ||
	    !check_one_line(c, place_of(e, "data"), err) ||
	    !json_boolean_or(doc, e, "stand_in", &k->stand_in, err) ||
	    !json_text_or(doc, e, "prompt_form", &k->prompt_form, err) ||
	    !json_integer_or(doc, e, "first", 0, MANY, &k->first, err) ||
	    !json_integer_or(doc, e, "samples", 1, MANY, &k->samples, err) ||
	    !json_integer_or(doc, e, "block_samples", 1, 65536, &k->block_samples, err) ||
	    !json_integer_or(doc, e, "max_tokens", 2, 1 << 20, &k->max_tokens, err) ||
	    !json_integer_or(doc, e, "max_pixels", 0, 1 << 27, &k->max_pixels, err))
		return false;
	if (!k->captions == !k->eval_list || !k->eval_list != !k->image_root)
		return json_fail(doc, e, err, "expected either \"captions\", or \"eval_list\" and "
		                 "\"image_root\"");
	if (prompt_form_from_name(k->prompt_form, &form) && form != PROMPT_ASK &&
	    (!k->captions || form == PROMPT_TEXT))
		return true;
	return json_fail(doc, place_of(e, "prompt_form"), err,
	                 "expected %s, found \"%s\"", k->captions ? "\"text\" for captions"
	                 : "\"answer\", \"user_turn\" or \"text\"", k->prompt_form);
}

/* The section may be absent: nothing is evaluated then. */
static bool read_evaluations(struct catalog *c, error *err)
{
	if (!cJSON_GetObjectItemCaseSensitive(c->doc.root, "evaluations"))
		return true;
	const cJSON *section = open_section(c, "evaluations", &c->evaluation_count, err);
	if (!section ||
	    !(c->evaluations = arena_alloc(&c->memory, (size_t)c->evaluation_count,
	                                   sizeof *c->evaluations, err)))
		return false;
	struct evaluation_set *k = c->evaluations;
	for (const cJSON *e = section->child; e; e = e->next)
		if (!read_evaluation(c, e, k++, err))
			return false;
	return true;
}

/* "element" and "granularity" must be a pair of lib/quant/formats. */
static bool find_element(struct catalog *c, const cJSON *e, struct catalog_format *f,
                         error *err)
{
	text known = { 0 };
	f->format = format_find(f->element, f->granularity);
	for (int i = 0; !f->format && format_at(i); i++)
		text_printf(&known, "%s\"%s\" \"%s\"", i ? ", " : "", format_at(i)->element,
		            format_at(i)->granularity);
	bool element = false;
	for (int i = 0; format_at(i); i++)
		element |= strcmp(format_at(i)->element, f->element) == 0;
	if (!f->format)
		json_fail(&c->doc, place_of(e, element ? "granularity" : "element"), err,
		          "expected element and granularity to be one of %s, "
		          "found \"%s\" \"%s\"", known.data ? known.data : "", f->element,
		          f->granularity);
	text_free(&known);
	return f->format != NULL;
}

static bool read_format(struct catalog *c, const cJSON *e, struct catalog_format *f,
                        error *err)
{
	static const char *const fields[] = { "element", "granularity", "include", "exclude",
		"on_bad_shape", NULL };
	static const char *const bad[] = { "stop", "bf16", NULL };
	const char *on_bad_shape = "stop";
	*f = (struct catalog_format){ .name = e->string };
	if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err) ||
	    !json_text(&c->doc, e, "element", &f->element, err) ||
	    !json_text(&c->doc, e, "granularity", &f->granularity, err) ||
	    !find_element(c, e, f, err) || !read_globs(c, e, "include", &f->include, err) ||
	    !read_globs(c, e, "exclude", &f->exclude, err) ||
	    !read_word(c, e, "on_bad_shape", bad, &on_bad_shape, err))
		return false;
	f->skip_bad_shapes = strcmp(on_bad_shape, "bf16") == 0;
	return true;
}

/* "<scheme>_<cache format>" is a target, and so is "<scheme>_<profile>" of any scheme. */
static bool check_kv_name(struct catalog *c, const cJSON *e, error *err)
{
	const char *tail = strrchr(e->string, '_');
	enum profile unused;
	return check_name(c, e, e->string, err) &&
	       (!profile_from_name(tail ? tail + 1 : e->string, &unused) ||
	        json_fail(&c->doc, e, err, "expected a name that does not end in a profile's, "
	                  "found \"%s\"", e->string));
}

/* The section may be absent: no scheme has a quantised cache then. */
static bool read_kv_formats(struct catalog *c, error *err)
{
	static const char *const fields[] = { "element", "granularity", "symmetric", NULL };
	if (!cJSON_GetObjectItemCaseSensitive(c->doc.root, "kv_cache_formats"))
		return true;
	const cJSON *section = open_section(c, "kv_cache_formats", &c->kv_format_count, err);
	if (!section || !(c->kv_formats = arena_alloc(&c->memory, (size_t)c->kv_format_count,
	                                              sizeof *c->kv_formats, err)))
		return false;
	struct kv_format *f = c->kv_formats;
	for (const cJSON *e = section->child; e; e = e->next, f++) {
		bool symmetric = true;
		*f = (struct kv_format){ .name = e->string };
		if (!check_kv_name(c, e, err) || !json_only_fields(&c->doc, e, fields, err) ||
		    !json_text(&c->doc, e, "element", &f->element, err) ||
		    !json_text(&c->doc, e, "granularity", &f->granularity, err) ||
		    !json_boolean_or(&c->doc, e, "symmetric", &symmetric, err))
			return false;
		if (!kv_format_known(f))
			return json_fail(&c->doc, e, err, "expected the element \"fp8_e4m3\" and the "
			                 "granularity \"tensor\", found \"%s\" and \"%s\"",
			                 f->element, f->granularity);
		if (!symmetric)
			return json_fail(&c->doc, place_of(e, "symmetric"), err,
			                 "expected true: no consumer reads zero points of a cache");
	}
	return true;
}

static bool read_formats(struct catalog *c, error *err)
{
	const cJSON *section = open_section(c, "formats", &c->format_count, err);
	if (!section || !(c->formats = arena_alloc(&c->memory, (size_t)c->format_count,
	                                           sizeof *c->formats, err)))
		return false;
	struct catalog_format *format = c->formats;
	for (const cJSON *e = section->child; e; e = e->next)
		if (!read_format(c, e, format++, err))
			return false;
	return true;
}

static const struct catalog_format *find_format(const struct catalog *c, const char *name)
{
	for (int i = 0; name && i < c->format_count; i++)
		if (strcmp(c->formats[i].name, name) == 0)
			return &c->formats[i];
	return NULL;
}

static bool read_candidates(struct catalog *c, const cJSON *e, struct catalog_baseline *b,
                            error *err)
{
	const cJSON *names = json_array(&c->doc, e, "formats", err);
	if (!names)
		return false;
	int count = cJSON_GetArraySize(names);
	if (count < 1 || count > MAX_FORMATS - 1)
		return json_fail(&c->doc, names, err, "expected 1 to %d formats, found %d",
		                 MAX_FORMATS - 1, count);
	b->formats = arena_alloc(&c->memory, (size_t)count, sizeof *b->formats, err);
	if (!b->formats)
		return false;
	for (const cJSON *n = names->child; n; n = n->next) {
		const struct catalog_format *f = find_format(c, cJSON_GetStringValue(n));
		if (!f)
			return json_fail(&c->doc, n, err, "expected the name of a format of the "
			                 "catalog, found \"%s\"",
			                 cJSON_IsString(n) ? n->valuestring : "(no text)");
		for (int i = 0; i < b->format_count; i++)
			if (b->formats[i] == f)
				return json_fail(&c->doc, n, err, "format \"%s\" is named twice", f->name);
		b->formats[b->format_count++] = f;
	}
	return true;
}

static bool check_numerics(struct catalog *c, const cJSON *e,
                           const struct catalog_baseline *b, error *err)
{
	enum numerics n = NUMERICS_QUERN;
	numerics_from_name(b->numerics, &n);
	for (int i = 0; i < b->format_count; i++)
		if (!format_computes(b->formats[i]->format, n))
			return json_fail(&c->doc, place_of(e, "numerics"), err,
			                 "expected \"quern\" beside format %s: its channel scales are "
			                 "folded into norms, and ModelOpt scores them unfolded",
			                 b->formats[i]->name);
	return true;
}

static bool read_baseline(struct catalog *c, const cJSON *e, struct catalog_baseline *b,
                          error *err)
{
	static const char *const fields[] = { "file_name", "model", "calibration", "formats",
		"method", "numerics", "shared_scales", "profile", "layout", "score_samples",
		"publish", "import", NULL };
	static const char *const methods[] = { "gradient", "kl_div", NULL };
	static const char *const numerics[] = { "quern", "modelopt", NULL };
	static const char *const profiles[] = { "universal", "modelopt", "bf16", NULL };
	static const char *const layouts[] = { "linked", "packed", NULL };
	*b = (struct catalog_baseline){ .name = e->string, .file_name = e->string,
		.method = "gradient", .numerics = "quern", .profile = "universal", .layout = "linked",
		.shared_scales = true, .publish = true };
	if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err))
		return false;
	b->model = read_reference(c, e, "model", c->models, c->model_count,
	                          sizeof *c->models, err);
	b->calibration = !b->model ? NULL : read_reference(c, e, "calibration",
		c->calibrations, c->calibration_count, sizeof *c->calibrations, err);
	if (!b->calibration || !read_candidates(c, e, b, err))
		return false;
	int64_t most = b->score_samples = b->calibration->score_samples;
	bool ok = json_text_or(&c->doc, e, "file_name", &b->file_name, err) &&
	       check_name(c, place_of(e, "file_name"), b->file_name, err) &&
	       read_word(c, e, "method", methods, &b->method, err) &&
	       read_word(c, e, "numerics", numerics, &b->numerics, err) &&
	       read_word(c, e, "profile", profiles, &b->profile, err) &&
	       read_word(c, e, "layout", layouts, &b->layout, err) &&
	       json_boolean_or(&c->doc, e, "shared_scales", &b->shared_scales, err) &&
	       json_integer_or(&c->doc, e, "score_samples", 1, MANY, &b->score_samples, err) &&
	       json_boolean_or(&c->doc, e, "publish", &b->publish, err) &&
	       json_text_or(&c->doc, e, "import", &b->import, err) &&
	       (!b->import || b->format_count == 1 ||
	        json_fail(&c->doc, e, err, "expected one format beside \"import\""));
	b->score_samples = b->score_samples < most ? b->score_samples : most;
	return ok && check_numerics(c, e, b, err);
}

static bool read_baselines(struct catalog *c, error *err)
{
	const cJSON *section = open_section(c, "baselines", &c->baseline_count, err);
	if (!section || !(c->baselines = arena_alloc(&c->memory, (size_t)c->baseline_count,
	                                             sizeof *c->baselines, err)))
		return false;
	struct catalog_baseline *b = c->baselines;
	for (const cJSON *e = section->child; e; e = e->next)
		if (!read_baseline(c, e, b++, err))
			return false;
	return true;
}

/* Paths stand in lists of one line an entry, fields between tabs. */
static bool check_path(const struct catalog *c, const char *path, error *err)
{
	for (const char *p = path; p && *p; p++)
		if ((unsigned char)*p < ' ')
			return fail(err, EXIT_BAD_INPUT,
			            "%s: expected paths without control characters, found \\x%02x in "
			            "the path %.*s...", c->doc.name, (unsigned char)*p,
			            (int)(p - path), path);
	return true;
}

static bool check_paths(const struct catalog *c, error *err)
{
	for (int i = 0; i < c->model_count; i++)
		if (!check_path(c, c->models[i].path, err))
			return false;
	for (int i = 0; i < c->calibration_count; i++) {
		const struct calibration *k = &c->calibrations[i];
		if (!check_path(c, k->captions, err) || !check_path(c, k->calib_db, err) ||
		    !check_path(c, k->image_root, err))
			return false;
	}
	for (int i = 0; i < c->evaluation_count; i++) {
		const struct evaluation_set *k = &c->evaluations[i];
		if (!check_path(c, k->captions, err) || !check_path(c, k->eval_list, err) ||
		    !check_path(c, k->image_root, err))
			return false;
	}
	return true;
}

static bool parse_catalog(struct catalog *c, error *err)
{
	static const char *const sections[] = { "models", "calibrations", "evaluations",
		"formats", "kv_cache_formats", "baselines", "families", "schemes", NULL };
	if (!cJSON_IsObject(c->doc.root))
		return json_fail(&c->doc, c->doc.root, err, "expected an object");
	return json_only_fields(&c->doc, c->doc.root, sections, err) && read_models(c, err) &&
	       read_calibrations(c, err) && read_evaluations(c, err) && read_formats(c, err) &&
	       read_kv_formats(c, err) && read_baselines(c, err) && read_schemes(c, err);
}

bool catalog_load(struct catalog *c, const char *path,
                  const struct catalog_overrides *overrides, error *err)
{
	*c = (struct catalog){ 0 };
	if (!json_load(&c->doc, path, MAX_CATALOG_BYTES, err))
		return false;
	bool ok = parse_catalog(c, err);
	if (ok && overrides->sets.count) {
		/* The catalog itself is sound; now with the changes asked for. */
		struct catalog changed = { 0 };
		ok = catalog_apply_sets(c, &overrides->sets, &changed.doc, err);
		catalog_free(c);
		*c = changed;
		ok = ok && parse_catalog(c, err);
	}
	if (ok && catalog_override(c, overrides, err) && check_paths(c, err))
		return true;
	catalog_free(c);
	return false;
}

void catalog_free(struct catalog *c)
{
	json_free(&c->doc);
	arena_free(&c->memory);
	*c = (struct catalog){ 0 };
}
