/* Printing manifests; see manifest.h. */
#include "lib/quant/manifest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/quant/sensitivity_sums.h"

/* All formats here are 8 bits wide; NONE is the checkpoint's own 16. */
static const double FORMAT_BITS = 8, NONE_BITS = 16;

/* ---- making the ranking ---- */

static double value_of(const struct block *b, const char *linear)
{
	for (int i = 0; i < b->count; i++)
		if (strcmp(b->names[i], linear) == 0)
			return b->values[i];
	return -1;
}

/* The group's score in a block, members added in module order; -1 if one of them
 * was not measured. */
static double group_score(const struct ranking *r, const struct group *group,
                          const struct block *b)
{
	double sum = 0;
	for (int m = 0; m < group->member_count; m++) {
		double value = value_of(b, r->linears[group->members[m]].name);
		if (value < 0)
			return -1;
		sum += value;
	}
	return sum;
}

static bool score_group(struct ranking *r, const struct group *group,
                        struct scored_group *out, const char *format, error *err)
{
	double score = group_score(r, group, r->merged);
	if (score < 0)
		return fail(err, EXIT_BAD_INPUT, "%s: expected a score of every member of %s",
		            r->facts->file_name, group->name);
	*out = (struct scored_group){ .name = group->name, .format_count = 2,
		.formats = { format, FORMAT_NONE }, .scores = { score, 0 },
		.costs = { (double)group->weights * FORMAT_BITS / 16,
		           (double)group->weights * NONE_BITS / 16 },
		.importance = score };
	return true;
}

bool ranking_make(struct ranking *r, error *err)
{
	struct baseline *b = &r->baseline;
	*b = (struct baseline){ .count = r->groups->count };
	b->groups = arena_alloc(&b->memory, (size_t)b->count, sizeof *b->groups, err);
	b->name = b->groups ? arena_printf(&b->memory, err, "%s", r->facts->file_name) : NULL;
	const char *format = b->name ? arena_printf(&b->memory, err,
		"%s(effective-bits: %.1f)", r->facts->format, FORMAT_BITS) : NULL;
	bool ok = format != NULL;
	for (int g = 0; ok && g < b->count; g++)
		ok = score_group(r, &r->groups->groups[g], &b->groups[g], format, err);
	ok = ok && rank_groups(b, err);
	if (!ok)
		ranking_free(r);
	return ok;
}

void ranking_free(struct ranking *r)
{
	baseline_free(&r->baseline);
}

/* ---- pieces of manifests ---- */

static void add_scheme(struct json_tree *tree, const char *name, const char *method,
                       double score_samples, const char *format, const struct coverage *c)
{
	cJSON *scheme = tree_object(tree, tree->root, "scheme");
	bool full = c->rule.kind == RULE_FULL;
	tree_text(tree, scheme, "name", name);
	tree_number(tree, scheme, "auto_quantize_bits", c->delivered_bits);
	tree_text(tree, scheme, "auto_quantize_method", method);
	tree_number(tree, scheme, "auto_quantize_score_size", score_samples);
	tree_text(tree, scheme, "coverage_mode", full ? "full" : "top_percent");
	tree_number(tree, scheme, "coverage_fraction", full ? 1 : c->rule.percent / 100);
	tree_text(tree, tree_array(tree, scheme, "quant_formats"), NULL, format);
}

static void add_state_summary(struct json_tree *tree, const struct baseline *b,
                              const struct coverage *c)
{
	double score = 0;
	for (int g = 0; g < b->count; g++)
		if (c->keeps[b->ranking[g]])
			score += b->groups[b->ranking[g]].importance;
	cJSON *state = tree_object(tree, tree->root, "autoquant_state");
	cJSON *keys = tree_array(tree, state, "keys");
	tree_text(tree, keys, NULL, "candidate_stats");
	tree_text(tree, keys, NULL, "best");
	tree_number(tree, tree_object(tree, state, "constraints"), "effective_bits",
	            c->delivered_bits);
	tree_number(tree, state, "score", score);
	tree_boolean(tree, state, "is_satisfied", true);
}

static void add_coverage(struct json_tree *tree, const struct coverage *c)
{
	cJSON *coverage = tree_object(tree, tree->root, "coverage");
	tree_number(tree, coverage, "groups_total", c->total);
	tree_number(tree, coverage, "groups_asked", c->asked);
	tree_number(tree, coverage, "groups_delivered", c->selected);
	tree_number(tree, coverage, "bits_asked", c->asked_bits);
	tree_number(tree, coverage, "bits_delivered", c->delivered_bits);
}

static void add_layer(struct json_tree *tree, cJSON *layers, const char *name,
                      bool quantised)
{
	cJSON *layer = tree_object(tree, layers, name);
	tree_boolean(tree, layer, "quantized", quantised);
	tree_text(tree, layer, "module_type", quantised ? "QuantLinear" : "Linear");
}

static void add_model(struct json_tree *tree, const struct ranking *r)
{
	const struct baseline_facts *f = r->facts;
	cJSON *model = tree_object(tree, tree->root, "model");
	tree_text(tree, model, "name", f->model_name);
	tree_boolean(tree, model, "stand_in", f->model_stand_in);
	cJSON *data = tree_object(tree, tree->root, "calibration");
	tree_text(tree, data, "data", f->data_name);
	tree_boolean(tree, data, "stand_in", f->data_stand_in);
	tree_text(tree, data, "prompt_form", f->prompt);
	tree_copy(tree, data, "calib_samples",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "samples"));
	tree_number(tree, data, "score_samples", (double)r->merged->samples);
	tree_number(tree, data, "score_samples_cut", (double)r->merged->cut);
	tree_number(tree, data, "mean_loss",
	            r->merged->samples ? r->merged->loss / (double)r->merged->samples : 0);
	tree_copy(tree, data, "calib_skipped",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "skipped"));
	cJSON *skipped = tree_array(tree, data, "score_skipped");
	for (int i = 0; i < r->merged->skipped_count; i++)
		tree_text(tree, skipped, NULL, r->merged->skipped[i]);
	tree_boolean(tree, tree->root, "stand_in", f->model_stand_in || f->data_stand_in);
}

static void add_provenance(struct json_tree *tree, const struct ranking *r)
{
	cJSON *p = tree_object(tree, tree->root, "provenance");
	tree_text(tree, p, "numerics", r->facts->numerics);
	tree_text(tree, p, "weight_scales", r->facts->shared_scales ? "group" : "member");
	tree_text(tree, p, "device", "cpu float32");
	tree_text(tree, p, "image_decoder", "stb_image");
	tree_copy(tree, p, "calibration_key",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "key"));
	tree_text(tree, p, "score_key", r->merged->key);
}

/* ---- the baseline's files ---- */

bool print_baseline_manifest(const struct ranking *r, text *out, error *err)
{
	const struct baseline *b = &r->baseline;
	const struct rule full = { .kind = RULE_FULL, .percent = 100 };
	struct coverage c;
	if (!slice_baseline(&c, b, r->facts->file_name, &full, err))
		return false;
	struct json_tree tree = tree_new();
	int quantised = 0;
	add_scheme(&tree, r->facts->file_name, r->facts->method, (double)r->merged->samples,
	           r->facts->format, &c);
	add_model(&tree, r);
	for (int g = 0; g < b->count; g++)
		if (c.keeps[g])
			quantised += r->groups->groups[g].member_count;
	tree_number(&tree, tree.root, "num_quantized_layers", quantised);
	cJSON *layers = tree_object(&tree, tree.root, "layers");
	for (int g = 0; g < b->count; g++)
		for (int m = 0; m < r->groups->groups[g].member_count; m++)
			add_layer(&tree, layers, r->linears[r->groups->groups[g].members[m]].name,
			          c.keeps[g]);
	add_coverage(&tree, &c);
	add_state_summary(&tree, b, &c);
	add_sensitivity(&tree, tree.root, b);
	add_provenance(&tree, r);
	coverage_free(&c);
	return tree_finish(&tree, out, err);
}

bool print_state(const struct ranking *r, text *out, error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "method", r->facts->method);
	tree_text(&tree, tree.root, "cost_model", "weight");
	add_provenance(&tree, r);
	cJSON *stats = tree_object(&tree, tree.root, "candidate_stats");
	cJSON *recipe = NULL;
	for (int g = 0; g < r->baseline.count; g++) {
		const struct scored_group *scored = &r->baseline.groups[g];
		const struct group *group = &r->groups->groups[g];
		cJSON *entry = tree_object(&tree, stats, scored->name);
		cJSON *formats = tree_array(&tree, entry, "formats");
		cJSON *scores = tree_array(&tree, entry, "scores");
		cJSON *costs = tree_array(&tree, entry, "costs");
		for (int f = 0; f < scored->format_count; f++) {
			tree_text(&tree, formats, NULL, scored->formats[f]);
			tree_number(&tree, scores, NULL, scored->scores[f]);
			tree_number(&tree, costs, NULL, scored->costs[f]);
		}
		cJSON *names = tree_array(&tree, entry, "module_names");
		for (int m = 0; m < group->member_count; m++)
			tree_text(&tree, names, NULL, r->linears[group->members[m]].name);
		cJSON *blocks = tree_array(&tree, entry, "block_scores");
		for (int i = 0; i < r->blocks->count; i++)
			tree_number(&tree, blocks, NULL,
			            group_score(r, group, &r->blocks->blocks[i]));
	}
	tree_copy(&tree, tree.root, "input_amax",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "amax"));
	cJSON *best = tree_object(&tree, tree.root, "best");
	recipe = tree_object(&tree, best, "recipe");
	for (int g = 0; g < r->baseline.count; g++)
		tree_text(&tree, recipe, r->baseline.groups[g].name,
		          r->baseline.groups[g].formats[0]);
	tree_boolean(&tree, best, "is_satisfied", true);
	return tree_finish(&tree, out, err);
}

/* The name as tables show it, without ".quant_recipe". */
static int shown_length(const char *group)
{
	const char *suffix = strstr(group, ".quant_recipe");
	return (int)(suffix ? suffix - group : (long)strlen(group));
}

bool print_sensitivity_table(const struct ranking *r, text *out, error *err)
{
	const struct baseline *b = &r->baseline;
	text_printf(out, "# Layer sensitivity of %s\n\n", r->facts->file_name);
	if (r->facts->model_stand_in || r->facts->data_stand_in)
		text_printf(out, "Measured on stand-ins: model %s, data %s.\n\n",
		            r->facts->model_name, r->facts->data_name);
	text_puts(out, "Layer: first member of the group. Num Bits: of the candidate format. "
	          "Sensitivity: its score, higher means that quantising the group does more "
	          "harm. Costs: weights times bits over 16.\n\n"
	          "|Layer|Num Bits|Sensitivity|Costs|\n| :--- | :--- | :--- | :--- |\n");
	for (int i = b->count - 1; i >= 0; i--) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		text_printf(out, "|%.*s|%.1f|%.3e|%.3e|\n", shown_length(group->name),
		            group->name, FORMAT_BITS, group->scores[0], group->costs[0]);
	}
	return print_sums_table(r, out, err) && text_ok(out, err);
}

bool print_sensitivity_json(const struct ranking *r, text *out, error *err)
{
	const struct baseline *b = &r->baseline;
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "scheme", r->facts->file_name);
	cJSON *rows = tree_array(&tree, tree.root, "layers");
	for (int i = b->count - 1; i >= 0; i--) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		const struct group *shape = &r->groups->groups[b->ranking[i]];
		char name[NAME_BYTES];
		snprintf(name, sizeof name, "%.*s", shown_length(group->name), group->name);
		cJSON *row = tree_object(&tree, rows, NULL);
		tree_text(&tree, row, "layer", name);
		tree_number(&tree, row, "num_bits", FORMAT_BITS);
		tree_number(&tree, row, "sensitivity", group->scores[0]);
		tree_number(&tree, row, "cost", group->costs[0]);
		tree_text(&tree, row, "kind", group_kind_name(shape->kind));
		tree_text(&tree, row, "tower", shape->vision ? "vision" : "language");
		tree_number(&tree, row, "block", shape->block);
	}
	if (!add_sums(&tree, r, err)) {
		tree_free(&tree);
		return false;
	}
	return tree_finish(&tree, out, err);
}

/* ---- a scheme's manifest ---- */

static int find_scored(const struct baseline *b, const char *group)
{
	for (int i = 0; i < b->count; i++)
		if (strcmp(b->groups[i].name, group) == 0)
			return i;
	return -1;
}

/* A layer that was never a candidate may be listed too, as not quantized. */
static bool check_ungrouped(const struct baseline *b, const cJSON *layer, error *err)
{
	bool quantised = true;
	return json_boolean_or(&b->doc, layer, "quantized", &quantised, err) &&
	       (!quantised ||
	        json_fail(&b->doc, layer, err, "the layer is in no scored group"));
}

/* Which group of the baseline each of its layers belongs to, by their names; -1 for
 * none. */
static bool map_layers(const struct baseline *b, const cJSON *layers, arena *memory,
                       int **group_of, error *err)
{
	size_t count = (size_t)cJSON_GetArraySize(layers);
	struct linear_shape *names = arena_alloc(memory, count, sizeof *names, err);
	struct group_list groups;
	*group_of = names ? arena_alloc(memory, count, sizeof **group_of, err) : NULL;
	if (!*group_of)
		return false;
	int n = 0;
	for (const cJSON *layer = layers->child; layer; layer = layer->next)
		snprintf(names[n++].name, NAME_BYTES, "%s", layer->string);
	if (!make_groups(names, n, NULL, 0, memory, &groups, err))
		return false;
	for (int g = 0; g < groups.count; g++) {
		int scored = find_scored(b, groups.groups[g].name);
		for (int m = 0; m < groups.groups[g].member_count; m++) {
			int member = groups.groups[g].members[m];
			(*group_of)[member] = scored;
			if (scored < 0 &&
			    !check_ungrouped(b, cJSON_GetArrayItem(layers, member), err))
				return false;
		}
	}
	return true;
}

static bool add_layers(struct json_tree *tree, const struct baseline *b,
                       const struct coverage *c, error *err)
{
	const cJSON *layers = json_object(&b->doc, b->doc.root, "layers", err);
	arena memory = { 0 };
	int *group_of, quantised = 0, n = 0;
	bool ok = layers && map_layers(b, layers, &memory, &group_of, err);
	if (ok) {
		for (int i = 0; i < cJSON_GetArraySize(layers); i++)
			quantised += group_of[i] >= 0 && c->keeps[group_of[i]];
		tree_number(tree, tree->root, "num_quantized_layers", quantised);
		cJSON *out = tree_object(tree, tree->root, "layers");
		for (const cJSON *layer = layers->child; layer; layer = layer->next, n++)
			add_layer(tree, out, layer->string,
			          group_of[n] >= 0 && c->keeps[group_of[n]]);
	}
	arena_free(&memory);
	return ok;
}

bool print_scheme_manifest(const struct baseline *b, const struct coverage *c,
                           const char *scheme, text *out, error *err)
{
	static const char *const carried[] = { "model", "calibration", "stand_in",
		"provenance" };
	const cJSON *old = json_object(&b->doc, b->doc.root, "scheme", err);
	const char *method = "gradient";
	int64_t samples = 0;
	if (!old || !json_text_or(&b->doc, old, "auto_quantize_method", &method, err) ||
	    !json_integer_or(&b->doc, old, "auto_quantize_score_size", 0, INT64_MAX, &samples,
	                     err))
		return false;
	const cJSON *formats = cJSON_GetObjectItemCaseSensitive(old, "quant_formats");
	const cJSON *first = cJSON_GetArrayItem(formats, 0);
	struct json_tree tree = tree_new();
	add_scheme(&tree, scheme, method, (double)samples,
	           cJSON_IsString(first) ? first->valuestring : b->groups[0].formats[0], c);
	for (size_t i = 0; i < sizeof carried / sizeof carried[0]; i++) {
		const cJSON *item = cJSON_GetObjectItemCaseSensitive(b->doc.root, carried[i]);
		if (item)
			tree_copy(&tree, tree.root, carried[i], item);
	}
	if (!add_layers(&tree, b, c, err)) {
		tree_free(&tree);
		return false;
	}
	add_coverage(&tree, c);
	add_state_summary(&tree, b, c);
	add_sensitivity(&tree, tree.root, b);
	return tree_finish(&tree, out, err);
}
