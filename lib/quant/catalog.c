/* Reading and checking the catalog. Errors name line and column; nothing that is
 * unknown is let pass, since a misspelt field would silently mean its default. */
#include "lib/quant/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/data/prompt.h"
#include "lib/quant/catalog_overrides.h"
#include "lib/quant/catalog_set.h"
#include "lib/quant/numerics.h"

enum { MAX_CATALOG_BYTES = 4 << 20 };

static const int64_t MANY = 1000000000;

/* A section of the catalog that must be an object of objects; NULL on failure.
 * *count is the number of its entries. */
static const cJSON *open_section(struct catalog *c, const char *name, int *count,
                                 error *err)
{
	const cJSON *section = json_object(&c->doc, c->doc.root, name, err);
	if (!section)
		return NULL;
	*count = 0;
	for (const cJSON *entry = section->child; entry; entry = entry->next) {
		if (!cJSON_IsObject(entry)) {
			json_fail(&c->doc, entry, err, "expected an object");
			return NULL;
		}
		++*count;
	}
	return section;
}

/* One of a NULL-terminated list of words. */
static bool read_word(struct catalog *c, const cJSON *entry, const char *field,
                      const char *const *words, const char **out, error *err)
{
	if (!json_text_or(&c->doc, entry, field, out, err))
		return false;
	text known = { 0 };
	for (int i = 0; words[i]; i++) {
		if (strcmp(words[i], *out) == 0) {
			text_free(&known);
			return true;
		}
		text_printf(&known, "%s\"%s\"", i ? ", " : "", words[i]);
	}
	json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(entry, field), err,
	          "expected one of %s, found \"%s\"", known.data ? known.data : "", *out);
	text_free(&known);
	return false;
}

/* A name becomes a folder, a target and a part of file names. `place` is what the
 * error points at. */
static bool check_name(struct catalog *c, const cJSON *place, const char *name, error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                              "0123456789_-";
	size_t length = strlen(name);
	if (length == 0 || length > 150 || name[0] == '-' || strspn(name, allowed) != length)
		return json_fail(&c->doc, place, err,
		                 "expected a name of letters, digits, '_' and '-', found "
		                 "\"%.160s\"", name);
	return true;
}

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

/* Where an error about a field points that may be absent. */
static const cJSON *place_of(const cJSON *entry, const char *field)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, field);
	return item ? item : entry;
}

/* Texts end up in build.ninja, where a line ends a value. */
static bool check_one_line(struct catalog *c, const cJSON *item, error *err)
{
	for (const char *p = item->valuestring; *p; p++)
		if ((unsigned char)*p < ' ')
			return json_fail(&c->doc, item, err,
			                 "expected a text without control characters, found \\x%02x",
			                 (unsigned char)*p);
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
	return json_fail(doc, cJSON_GetObjectItemCaseSensitive(e, "prompt_form"), err,
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

static bool read_globs(struct catalog *c, const cJSON *e, struct catalog_format *format,
                       error *err)
{
	const cJSON *globs = json_array(&c->doc, e, "exclude", err);
	if (!globs)
		return false;
	format->exclude = arena_alloc(&c->memory, (size_t)cJSON_GetArraySize(globs),
	                              sizeof *format->exclude, err);
	if (!format->exclude)
		return false;
	for (const cJSON *glob = globs->child; glob; glob = glob->next) {
		if (!cJSON_IsString(glob))
			return json_fail(&c->doc, glob, err, "expected a glob on layer names");
		if (!check_one_line(c, glob, err))
			return false;
		format->exclude[format->exclude_count++] = glob->valuestring;
	}
	return true;
}

static bool read_formats(struct catalog *c, error *err)
{
	static const char *const fields[] = { "element", "granularity", "exclude", NULL };
	static const char *const elements[] = { "fp8_e4m3", NULL };
	static const char *const granularities[] = { "tensor", NULL };
	const cJSON *section = open_section(c, "formats", &c->format_count, err);
	if (!section || !(c->formats = arena_alloc(&c->memory, (size_t)c->format_count,
	                                           sizeof *c->formats, err)))
		return false;
	struct catalog_format *format = c->formats;
	for (const cJSON *e = section->child; e; e = e->next, format++) {
		const char *element = NULL, *granularity = NULL;
		format->name = e->string;
		if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err) ||
		    !json_text(&c->doc, e, "element", &element, err) ||
		    !read_word(c, e, "element", elements, &element, err) ||
		    !json_text(&c->doc, e, "granularity", &granularity, err) ||
		    !read_word(c, e, "granularity", granularities, &granularity, err) ||
		    !read_globs(c, e, format, err))
			return false;
	}
	return true;
}

/* Finds the entry that field of e names in an array of structs whose first member
 * is the name. */
static const void *read_reference(struct catalog *c, const cJSON *e, const char *field,
                                  const void *entries, int count, size_t size, error *err)
{
	const char *name;
	if (!json_text(&c->doc, e, field, &name, err))
		return NULL;
	for (int i = 0; i < count; i++) {
		const void *entry = (const char *)entries + (size_t)i * size;
		if (strcmp(*(const char *const *)entry, name) == 0)
			return entry;
	}
	json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(e, field), err,
	          "the catalog has no %s \"%s\"", field, name);
	return NULL;
}

static bool read_baseline(struct catalog *c, const cJSON *e, struct catalog_baseline *b,
                          error *err)
{
	static const char *const fields[] = { "file_name", "model", "calibration", "format",
		"method", "numerics", "shared_scales", "profile", NULL };
	static const char *const methods[] = { "gradient", NULL };
	static const char *const numerics[] = { "quern", "modelopt", NULL };
	static const char *const profiles[] = { "universal", "modelopt", NULL };
	*b = (struct catalog_baseline){ .name = e->string, .file_name = e->string,
		.method = "gradient", .numerics = "quern", .profile = "universal",
		.shared_scales = true };
	if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err))
		return false;
	b->model = read_reference(c, e, "model", c->models, c->model_count,
	                          sizeof *c->models, err);
	b->calibration = !b->model ? NULL : read_reference(c, e, "calibration",
		c->calibrations, c->calibration_count, sizeof *c->calibrations, err);
	b->format = !b->calibration ? NULL : read_reference(c, e, "format", c->formats,
		c->format_count, sizeof *c->formats, err);
	return b->format && json_text_or(&c->doc, e, "file_name", &b->file_name, err) &&
	       check_name(c, place_of(e, "file_name"), b->file_name, err) &&
	       read_word(c, e, "method", methods, &b->method, err) &&
	       read_word(c, e, "numerics", numerics, &b->numerics, err) &&
	       read_word(c, e, "profile", profiles, &b->profile, err) &&
	       json_boolean_or(&c->doc, e, "shared_scales", &b->shared_scales, err);
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

/* Whether a name is that of another target of the graph (emit.c's emit_help). */
static bool is_target(const char *name)
{
	static const char *const targets[] = { "all", "always", "help", "test", "tools" };
	for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
		if (strcmp(name, targets[i]) == 0)
			return true;
	return strncmp(name, "diversity_", strlen("diversity_")) == 0;
}

/* Adds a scheme; `place` is what an error about its name points at. */
static bool add_scheme(struct catalog *c, const struct scheme *scheme,
                       const cJSON *place, error *err)
{
	if (is_target(scheme->name))
		return json_fail(&c->doc, place, err,
		                 "expected another name than that of a target, found \"%s\"",
		                 scheme->name);
	if (scheme->rule.kind != RULE_FULL &&
	    strcmp(scheme->name, scheme->baseline->file_name) == 0)
		return json_fail(&c->doc, place, err,
		                 "expected another name than the baseline's \"file_name\", found "
		                 "\"%s\"", scheme->name);
	for (int i = 0; i < c->scheme_count; i++)
		if (strcmp(c->schemes[i].name, scheme->name) == 0)
			return json_fail(&c->doc, place, err, "there is already a scheme \"%s\"",
			                 scheme->name);
	c->schemes[c->scheme_count++] = *scheme;
	return true;
}

static bool check_percent(struct catalog *c, const cJSON *item, error *err)
{
	if (cJSON_IsNumber(item) && item->valuedouble > 0 && item->valuedouble <= 100)
		return true;
	return json_fail(&c->doc, item, err, "expected a percentage above 0, up to 100");
}

/* A family's name with a percentage in the place of its mark. */
static const char *fill_name(struct catalog *c, const cJSON *e, double percent, error *err)
{
	static const char name[] = "{percent}";
	const char *mark = strstr(e->string, name);
	if (mark)
		return arena_printf(&c->memory, err, "%.*s%g%s", (int)(mark - e->string),
		                    e->string, percent, mark + strlen(name));
	json_fail(&c->doc, e, err, "expected \"{percent}\" in a family's name, found \"%s\"",
	          e->string);
	return NULL;
}

/* A sweep becomes a target. */
static bool read_sweep(struct catalog *c, const cJSON *e, const char **out, error *err)
{
	return json_text_or(&c->doc, e, "sweep", out, err) &&
	       (!*out || check_name(c, cJSON_GetObjectItemCaseSensitive(e, "sweep"), *out, err));
}

/* The name is checked with a plain number in it: that of 12.5 % may have its point. */
static bool expand_family(struct catalog *c, const cJSON *e, error *err)
{
	static const char *const fields[] = { "baseline", "percent", "sweep", NULL };
	const char *name = fill_name(c, e, 1, err);
	if (!name || !check_name(c, e, name, err) || !json_only_fields(&c->doc, e, fields, err))
		return false;
	struct scheme scheme = { .rule.kind = RULE_TOP_PERCENT, .family = e->string };
	if (!read_sweep(c, e, &scheme.sweep, err))
		return false;
	scheme.baseline = read_reference(c, e, "baseline", c->baselines, c->baseline_count,
	                                 sizeof *c->baselines, err);
	const cJSON *percents = !scheme.baseline ? NULL
	                                         : json_array(&c->doc, e, "percent", err);
	if (!percents)
		return false;
	for (const cJSON *p = percents->child; p; p = p->next) {
		if (!check_percent(c, p, err))
			return false;
		scheme.rule.percent = p->valuedouble;
		scheme.name = fill_name(c, e, p->valuedouble, err);
		if (!scheme.name || !add_scheme(c, &scheme, p, err))
			return false;
	}
	return true;
}

static bool read_scheme(struct catalog *c, const cJSON *e, error *err)
{
	static const char *const fields[] = { "baseline", "percent", NULL };
	struct scheme scheme = { .name = e->string, .rule.kind = RULE_TOP_PERCENT };
	if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err))
		return false;
	scheme.baseline = read_reference(c, e, "baseline", c->baselines, c->baseline_count,
	                                 sizeof *c->baselines, err);
	return scheme.baseline &&
	       json_number(&c->doc, e, "percent", 0, 100, &scheme.rule.percent, err) &&
	       check_percent(c, cJSON_GetObjectItemCaseSensitive(e, "percent"), err) &&
	       add_scheme(c, &scheme, e, err);
}

static int count_schemes(const struct catalog *c, const cJSON *families,
                         const cJSON *schemes)
{
	int count = c->baseline_count + cJSON_GetArraySize(schemes);
	for (const cJSON *f = families->child; f; f = f->next)
		count += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(f, "percent"));
	return count;
}

static bool read_schemes(struct catalog *c, error *err)
{
	int count;
	const cJSON *families = open_section(c, "families", &count, err);
	const cJSON *schemes = families ? open_section(c, "schemes", &count, err) : NULL;
	if (!schemes)
		return false;
	c->schemes = arena_alloc(&c->memory, (size_t)count_schemes(c, families, schemes),
	                         sizeof *c->schemes, err);
	if (!c->schemes)
		return false;
	for (int i = 0; i < c->baseline_count; i++) {
		struct scheme scheme = { .name = c->baselines[i].name,
			.baseline = &c->baselines[i], .rule = { .kind = RULE_FULL, .percent = 100 } };
		if (!add_scheme(c, &scheme, c->doc.root, err))
			return false;
	}
	for (const cJSON *f = families->child; f; f = f->next)
		if (!expand_family(c, f, err))
			return false;
	for (const cJSON *s = schemes->child; s; s = s->next)
		if (!read_scheme(c, s, err))
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
		"formats", "baselines", "families", "schemes", NULL };
	if (!cJSON_IsObject(c->doc.root))
		return json_fail(&c->doc, c->doc.root, err, "expected an object");
	return json_only_fields(&c->doc, c->doc.root, sections, err) && read_models(c, err) &&
	       read_calibrations(c, err) && read_evaluations(c, err) && read_formats(c, err) && read_baselines(c, err) &&
	       read_schemes(c, err);
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
