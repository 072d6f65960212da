/* Reading artifacts; see findings.h. */
#include "lib/report/findings.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"

enum { MAX_BYTES = 256 << 20 };

static const double LARGE = 1e300;

static const struct estimate NO_ESTIMATE = { MISSING, -1 };

/* ---- documents ---- */

/* Keeps a file's document open. *doc is NULL when there is no such file. */
static bool open_doc(struct findings *f, const char *path, json_doc **doc, error *err)
{
	*doc = NULL;
	if (!file_exists(path))
		return true;
	if (f->doc_count == f->doc_capacity)
		return fail(err, EXIT_INTERNAL, "%s: more artifacts than were counted", path);
	if (!json_load(&f->docs[f->doc_count], path, MAX_BYTES, err))
		return false;
	*doc = &f->docs[f->doc_count++];
	return true;
}

static const cJSON *item_of(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = item_of(object, name);
	return cJSON_IsString(item) ? item->valuestring : NULL;
}

static double number_of(const cJSON *object, const char *name)
{
	const cJSON *item = item_of(object, name);
	return cJSON_IsNumber(item) ? item->valuedouble : MISSING;
}

static struct estimate estimate_of(const cJSON *object, const char *name)
{
	const cJSON *item = item_of(object, name), *error = item_of(item, "standard_error");
	struct estimate e = NO_ESTIMATE;
	e.mean = number_of(item, "mean");
	if (cJSON_IsNumber(error))
		e.error = error->valuedouble;
	return e;
}

/* A list of numbers; *out stays NULL when there is none. */
static bool numbers_of(const cJSON *object, const char *name, arena *memory, double **out,
                       int *count, error *err)
{
	const cJSON *list = item_of(object, name);
	if (!cJSON_IsArray(list))
		return true;
	*count = 0;
	*out = arena_alloc(memory, (size_t)cJSON_GetArraySize(list) + 1, sizeof **out, err);
	for (const cJSON *item = *out ? list->child : NULL; item; item = item->next)
		(*out)[(*count)++] = cJSON_IsNumber(item) ? item->valuedouble : MISSING;
	return *out != NULL;
}

/* ---- baselines ---- */

static bool name_members(const cJSON *stats, const struct baseline *ranked,
                         struct linear_shape *linears, int *count, error *err)
{
	for (int g = 0; g < ranked->count; g++) {
		const cJSON *entry = item_of(stats, ranked->groups[g].name);
		const cJSON *names = item_of(entry, "module_names");
		for (const cJSON *name = names ? names->child : NULL; name; name = name->next)
			if (!cJSON_IsString(name) || *count == MAX_MEMBERS * ranked->count)
				return fail(err, EXIT_BAD_INPUT, "%s: expected up to %d module names",
				            ranked->groups[g].name, MAX_MEMBERS);
			else
				strncpy(linears[(*count)++].name, name->valuestring, NAME_BYTES - 1);
	}
	return true;
}

static bool read_blocks(struct found_baseline *b, const cJSON *stats, arena *memory,
                        error *err)
{
	for (int g = 0; g < b->ranked.count; g++) {
		double *scores = NULL;
		int count = 0;
		const struct scored_group *group = &b->ranked.groups[g];
		const cJSON *formats = item_of(item_of(stats, group->name), "block_scores");
		if (!numbers_of(formats, group->formats[0], memory, &scores, &count, err))
			return false;
		if (g == 0) {
			b->block_count = count;
			b->block_scores = arena_alloc(memory, (size_t)b->ranked.count * (size_t)count + 1,
			                              sizeof *b->block_scores, err);
			if (!b->block_scores)
				return false;
		}
		if (count != b->block_count)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected %d block scores, found %d",
			            b->name, b->ranked.groups[g].name, b->block_count, count);
		for (int i = 0; i < count; i++)
			b->block_scores[g * count + i] = scores[i];
	}
	return true;
}

/* The state has the groups' members, whose names say what kind a group is, and the
 * scores block by block. */
static bool read_state(struct findings *f, struct found_baseline *b, const char *path,
                       error *err)
{
	json_doc *doc;
	struct linear_shape *linears;
	int count = 0;
	if (!open_doc(f, path, &doc, err))
		return false;
	if (!doc)
		return true;
	const cJSON *stats = json_object(doc, doc->root, "candidate_stats", err);
	if (!stats)
		return false;
	linears = arena_alloc(&f->memory, (size_t)b->ranked.count * MAX_MEMBERS + 1,
	                      sizeof *linears, err);
	if (!linears || !name_members(stats, &b->ranked, linears, &count, err) ||
	    !make_groups(linears, count, NULL, 0, &f->memory, &b->groups, err))
		return false;
	for (int g = 0; g < b->groups.count; g++)
		if (b->groups.count != b->ranked.count ||
		    strcmp(b->groups.groups[g].name, b->ranked.groups[g].name) != 0)
			return fail(err, EXIT_BAD_INPUT, "%s: its groups are not those of %s", path,
			            b->ranked.doc.name);
	return read_blocks(b, stats, &f->memory, err);
}

static bool read_manifest(struct found_baseline *b, const char *path, error *err)
{
	b->calib_samples = b->score_samples = MISSING;
	if (!file_exists(path))
		return true;
	if (!baseline_read(&b->ranked, path, err))
		return false;
	const cJSON *root = b->ranked.doc.root;
	const cJSON *data = item_of(root, "calibration"), *origin = item_of(root, "provenance");
	b->method = text_of(item_of(root, "scheme"), "auto_quantize_method");
	b->model = text_of(item_of(root, "model"), "name");
	b->stand_in = cJSON_IsTrue(item_of(root, "stand_in"));
	b->data = text_of(data, "data");
	b->prompt = text_of(data, "prompt_form");
	b->calib_samples = number_of(data, "calib_samples");
	b->score_samples = number_of(data, "score_samples");
	b->numerics = text_of(origin, "numerics");
	b->scales = text_of(origin, "weight_scales");
	return true;
}

static bool read_set(struct findings *f, struct found_set *set, const char *path,
                     json_doc **doc, error *err)
{
	set->base_perplexity = set->samples = set->tokens = MISSING;
	if (!open_doc(f, path, doc, err))
		return false;
	if (!*doc)
		return true;
	const cJSON *root = (*doc)->root;
	set->data = text_of(root, "data");
	set->stand_in = cJSON_IsTrue(item_of(root, "stand_in"));
	set->base_perplexity = number_of(root, "base_perplexity");
	set->samples = number_of(root, "samples");
	set->tokens = number_of(root, "tokens");
	return json_object(*doc, root, "schemes", err) &&
	       numbers_of(root, "per_sample_tokens", &f->memory, &set->sample_tokens,
	                  &set->sample_count, err);
}

/* ---- schemes ---- */

static void no_damage(struct found_damage *d)
{
	*d = (struct found_damage){ .perplexity = MISSING, .loss_change = NO_ESTIMATE,
		.kl = NO_ESTIMATE, .agreement = NO_ESTIMATE, .last_mse = NO_ESTIMATE,
		.last_kl = NO_ESTIMATE, .kl_all = NO_ESTIMATE, .kl_p99 = MISSING,
		.kl_max = MISSING };
}

static bool take_damage(struct findings *f, struct found_damage *d, const cJSON *item,
                        error *err)
{
	const cJSON *last = item_of(item, "last_token"), *each = item_of(item, "per_sample");
	d->perplexity = number_of(item, "perplexity");
	d->loss_change = estimate_of(item, "loss_change");
	d->kl = estimate_of(item, "kl");
	d->kl_p99 = number_of(item_of(item, "kl"), "p99");
	d->kl_max = number_of(item_of(item, "kl"), "max");
	d->agreement = estimate_of(item, "top1_agreement");
	d->last_mse = estimate_of(last, "mse");
	d->last_kl = estimate_of(last, "kl");
	d->kl_all = estimate_of(item, "kl_all_positions");
	return numbers_of(each, "kl", &f->memory, &d->sample_kl, &d->samples, err) &&
	       numbers_of(each, "loss_change", &f->memory, &d->sample_loss, &d->samples, err);
}

static bool read_damage(struct findings *f, const cJSON *plan, struct found_baseline *b,
                        error *err)
{
	const cJSON *paths = item_of(plan, "damage");
	for (int k = 0; k < f->set_count; k++) {
		const char *path = text_of(paths, f->sets[k]);
		json_doc *doc = NULL;
		b->sets[k].name = f->sets[k];
		if (!path || !read_set(f, &b->sets[k], path, &doc, err))
			return false;
		for (int i = 0; i < f->scheme_count; i++) {
			struct found_scheme *s = &f->schemes[i];
			const cJSON *item = doc ? item_of(item_of(doc->root, "schemes"), s->name) : NULL;
			if (s->baseline != b)
				continue;
			no_damage(&s->damage[k]);
			if (item && !take_damage(f, &s->damage[k], item, err))
				return false;
		}
	}
	return true;
}

static bool read_files(struct findings *f, struct found_scheme *s, const char *path,
                       error *err)
{
	json_doc *doc;
	s->bytes = MISSING;
	if (!open_doc(f, path, &doc, err))
		return false;
	if (!doc)
		return true;
	s->bytes = 0;
	for (const cJSON *file = doc->root->child; file; file = file->next) {
		double bytes;
		if (!json_number(doc, file, "bytes", 0, LARGE, &bytes, err))
			return false;
		s->bytes += bytes;
	}
	return true;
}

static bool read_verified(struct findings *f, struct found_scheme *s, const char *path,
                          error *err)
{
	json_doc *doc;
	s->verified = MISSING;
	if (!open_doc(f, path, &doc, err))
		return false;
	if (doc && cJSON_IsTrue(item_of(doc->root, "verified")))
		s->verified = 1;
	s->lost = doc ? item_of(doc->root, "quantized_linears_lost") : NULL;
	return true;
}

static bool read_scheme(struct findings *f, const json_doc *plan, const cJSON *item,
                        struct found_scheme *s, error *err)
{
	const char *baseline, *slice, *files, *verify;
	s->model_bits = MISSING;
	if (!json_text(plan, item, "name", &s->name, err) ||
	    !json_text(plan, item, "baseline", &baseline, err) ||
	    !json_text(plan, item, "slice", &slice, err) ||
	    !json_text(plan, item, "files", &files, err) ||
	    !json_text(plan, item, "verify", &verify, err) ||
	    !json_text_or(plan, item, "family", &s->family, err) ||
	    !json_text_or(plan, item, "sweep", &s->sweep, err))
		return false;
	for (int i = 0; i < f->baseline_count; i++)
		if (strcmp(f->baselines[i].name, baseline) == 0)
			s->baseline = &f->baselines[i];
	if (!s->baseline)
		return json_fail(plan, item, err, "there is no baseline \"%s\"", baseline);
	s->damage = arena_alloc(&f->memory, (size_t)f->set_count + 1, sizeof *s->damage, err);
	return s->damage &&
	       (!s->baseline->ranked.count || !file_exists(slice) ||
	        coverage_read(&s->coverage, &s->baseline->ranked, slice, err)) &&
	       read_files(f, s, files, err) && read_verified(f, s, verify, err);
}

/* The last cost of a group is that of leaving it in 16 bits: its weights. */
static double weights_of(const struct scored_group *g)
{
	return g->costs[g->format_count - 1];
}

static void measure_bits(struct findings *f)
{
	double widest = 0;
	for (int i = 0; i < f->baseline_count; i++) {
		double weights = 0;
		for (int g = 0; g < f->baselines[i].ranked.count; g++)
			weights += weights_of(&f->baselines[i].ranked.groups[g]);
		widest = weights > widest ? weights : widest;
	}
	for (int i = 0; i < f->scheme_count; i++) {
		struct found_scheme *s = &f->schemes[i];
		double saved = 0;
		if (!s->coverage.total)
			continue;
		for (int g = 0; g < s->coverage.total; g++) {
			const struct scored_group *group = &s->baseline->ranked.groups[g];
			double cost = group->costs[s->coverage.choice[g]];
			saved += s->coverage.keeps[g] ? weights_of(group) - cost : 0;
		}
		s->model_bits = 16 - 16 * saved / widest;
	}
}

double quality_number(const cJSON *cut, const char *field)
{
	return number_of(cut, field);
}

struct estimate quality_estimate(const cJSON *cut, const char *field)
{
	return estimate_of(cut, field);
}

/* ---- all of a model ---- */

static bool list_sets(struct findings *f, const cJSON *baselines, error *err)
{
	const cJSON *paths = baselines->child ? item_of(baselines->child, "damage") : NULL;
	f->sets = arena_alloc(&f->memory, (size_t)cJSON_GetArraySize(paths) + 1,
	                      sizeof *f->sets, err);
	for (const cJSON *set = f->sets && paths ? paths->child : NULL; set; set = set->next)
		f->sets[f->set_count++] = set->string;
	return f->sets != NULL;
}

static bool take_room(struct findings *f, const cJSON *baselines, const cJSON *schemes,
                      error *err)
{
	f->baseline_count = cJSON_GetArraySize(baselines);
	f->scheme_count = cJSON_GetArraySize(schemes);
	size_t b = (size_t)f->baseline_count, s = (size_t)f->scheme_count;
	/* State, quality and a file a set of every baseline, two files of every scheme, a
	 * record of every probe, the plan. */
	f->doc_capacity = (int)(b * (2 + (size_t)f->set_count) + 2 * s +
	                        (size_t)f->probe_count + 1);
	f->baselines = arena_alloc(&f->memory, b + 1, sizeof *f->baselines, err);
	f->schemes = f->baselines ? arena_alloc(&f->memory, s + 1, sizeof *f->schemes, err)
	                          : NULL;
	return f->schemes != NULL;
}

static bool read_baseline(struct findings *f, const json_doc *plan, const cJSON *item,
                          struct found_baseline *b, error *err)
{
	const char *manifest, *state, *quality;
	json_doc *doc = NULL;
	b->sets = arena_alloc(&f->memory, (size_t)f->set_count + 1, sizeof *b->sets, err);
	if (!json_text(plan, item, "quality", &quality, err) || !open_doc(f, quality, &doc, err))
		return false;
	b->quality = doc ? doc->root : NULL;
	return b->sets && json_text(plan, item, "name", &b->name, err) &&
	       json_text(plan, item, "format", &b->format, err) &&
	       json_text(plan, item, "profile", &b->profile, err) &&
	       json_text(plan, item, "manifest", &manifest, err) &&
	       json_text(plan, item, "state", &state, err) && read_manifest(b, manifest, err) &&
	       (!b->ranked.count || read_state(f, b, state, err));
}

static bool read_probes(struct findings *f, const cJSON *probes, error *err)
{
	f->probes = arena_alloc(&f->memory, (size_t)f->probe_count + 1, sizeof *f->probes, err);
	int n = 0;
	for (const cJSON *p = f->probes && probes ? probes->child : NULL; p; p = p->next) {
		json_doc *doc = NULL;
		if (!cJSON_IsString(p) || !open_doc(f, p->valuestring, &doc, err))
			return false;
		f->probes[n++] = (struct found_probe){ .program = p->string,
			.record = doc ? doc->root : NULL };
	}
	return f->probes != NULL;
}

static bool read_model(struct findings *f, const json_doc *plan, const cJSON *model,
                       error *err)
{
	const cJSON *baselines = json_array(plan, model, "baselines", err);
	const cJSON *schemes = baselines ? json_array(plan, model, "schemes", err) : NULL;
	const cJSON *probes = item_of(model, "probes");
	f->probe_count = cJSON_GetArraySize(probes);
	if (!schemes || !list_sets(f, baselines, err) || !take_room(f, baselines, schemes, err))
		return false;
	json_doc *docs = calloc((size_t)f->doc_capacity, sizeof *docs);
	if (!docs)
		return fail_memory(err, "documents", 0);
	docs[0] = f->docs[0];
	free(f->docs);
	f->docs = docs;
	plan = &f->docs[0];
	int n = 0;
	for (const cJSON *item = baselines->child; item; item = item->next)
		if (!read_baseline(f, plan, item, &f->baselines[n++], err))
			return false;
	n = 0;
	for (const cJSON *item = schemes->child; item; item = item->next)
		if (!read_scheme(f, plan, item, &f->schemes[n++], err))
			return false;
	n = 0;
	for (const cJSON *item = baselines->child; item; item = item->next)
		if (!read_damage(f, item, &f->baselines[n++], err))
			return false;
	measure_bits(f);
	return read_probes(f, probes, err);
}

bool findings_load(struct findings *f, const char *plan, const char *model, error *err)
{
	*f = (struct findings){ .docs = calloc(1, sizeof *f->docs) };
	if (!f->docs)
		return fail_memory(err, "documents", sizeof *f->docs);
	bool ok = json_load(&f->docs[0], plan, MAX_BYTES, err);
	f->doc_count = ok;
	const cJSON *models = ok ? json_object(&f->docs[0], f->docs[0].root, "models", err)
	                         : NULL;
	const cJSON *item = !models ? NULL : model ? item_of(models, model) : models->child;
	if (models && !model && cJSON_GetArraySize(models) != 1) {
		fail(err, EXIT_USAGE, "%s has %d models: expected --model", plan,
		     cJSON_GetArraySize(models));
		item = NULL;
	} else if (models && !item)
		fail(err, EXIT_BAD_INPUT, "%s: there is no model \"%s\"", plan, model);
	f->model = item ? item->string : NULL;
	if (item && read_model(f, &f->docs[0], item, err))
		return true;
	findings_free(f);
	return false;
}

void findings_free(struct findings *f)
{
	for (int i = 0; i < f->scheme_count && f->schemes; i++)
		coverage_free(&f->schemes[i].coverage);
	for (int i = 0; i < f->baseline_count && f->baselines; i++)
		if (f->baselines[i].ranked.count)
			baseline_free(&f->baselines[i].ranked);
	for (int i = 0; i < f->doc_count; i++)
		json_free(&f->docs[i]);
	free(f->docs);
	arena_free(&f->memory);
	*f = (struct findings){ 0 };
}

struct found_scheme *find_scheme(const struct findings *f, const char *name)
{
	for (int i = 0; i < f->scheme_count; i++)
		if (strcmp(f->schemes[i].name, name) == 0)
			return &f->schemes[i];
	return NULL;
}
