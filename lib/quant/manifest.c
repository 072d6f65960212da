/* Printing manifests; see manifest.h. */
#include "lib/quant/manifest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/quant/sensitivity_sums.h"

/* ---- pieces of manifests ---- */

/* `formats` are copied: names in an array. */
static void add_scheme(struct json_tree *tree, const char *name, const char *method,
                       double score_samples, const cJSON *formats, const struct coverage *c)
{
	cJSON *scheme = tree_object(tree, tree->root, "scheme");
	tree_text(tree, scheme, "name", name);
	tree_number(tree, scheme, "auto_quantize_bits", c->delivered_bits);
	tree_text(tree, scheme, "auto_quantize_method", method);
	tree_number(tree, scheme, "auto_quantize_score_size", score_samples);
	tree_text(tree, scheme, "coverage_mode", rule_kind_name(c->rule.kind));
	tree_number(tree, scheme, "coverage_fraction", coverage_percent(c) / 100);
	if (formats)
		tree_copy(tree, scheme, "quant_formats", formats);
}

static void add_state_summary(struct json_tree *tree, const struct baseline *b,
                              const struct coverage *c)
{
	double score = 0;
	for (int g = 0; g < b->count; g++)
		if (c->keeps[b->ranking[g]])
			score += b->groups[b->ranking[g]].scores[c->choice[b->ranking[g]]];
	cJSON *state = tree_object(tree, tree->root, "autoquant_state");
	cJSON *keys = tree_array(tree, state, "keys");
	tree_text(tree, keys, NULL, "candidate_stats");
	tree_text(tree, keys, NULL, "best");
	tree_number(tree, tree_object(tree, state, "constraints"), "effective_bits",
	            c->rule.bits > 0 ? c->rule.bits : c->delivered_bits);
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

/* format NULL: it stays as it is. */
static void add_layer(struct json_tree *tree, cJSON *layers, const char *name,
                      const char *format)
{
	cJSON *layer = tree_object(tree, layers, name);
	tree_boolean(tree, layer, "quantized", format != NULL);
	tree_text(tree, layer, "module_type", format ? "QuantLinear" : "Linear");
	if (format)
		tree_text(tree, layer, "format", format);
}

/* Which format a group keeps, or NULL. */
static const char *kept_format(const struct baseline *b, const struct coverage *c, int group)
{
	return c->keeps[group] ? b->groups[group].formats[c->choice[group]] : NULL;
}

static void add_model(struct json_tree *tree, const struct ranking *r)
{
	const struct baseline_facts *f = r->facts;
	const struct block *scores = &r->formats[0].merged; /* the samples are every format's */
	cJSON *model = tree_object(tree, tree->root, "model");
	tree_text(tree, model, "name", f->model_name);
	tree_boolean(tree, model, "stand_in", f->model_stand_in);
	cJSON *data = tree_object(tree, tree->root, "calibration");
	tree_text(tree, data, "data", f->data_name);
	tree_boolean(tree, data, "stand_in", f->data_stand_in);
	tree_text(tree, data, "prompt_form", f->prompt);
	tree_copy(tree, data, "calib_samples",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "samples"));
	tree_number(tree, data, "score_samples", (double)scores->samples);
	tree_number(tree, data, "score_samples_cut", (double)scores->cut);
	if (scores->loss > 0)
		tree_number(tree, data, "mean_loss", scores->loss / (double)scores->samples);
	tree_copy(tree, data, "calib_skipped",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "skipped"));
	cJSON *skipped = tree_array(tree, data, "score_skipped");
	for (int i = 0; i < scores->skipped_count; i++)
		tree_text(tree, skipped, NULL, scores->skipped[i]);
	tree_boolean(tree, tree->root, "stand_in", f->model_stand_in || f->data_stand_in);
}

static void add_provenance(struct json_tree *tree, const struct ranking *r)
{
	cJSON *p = tree_object(tree, tree->root, "provenance");
	tree_text(tree, p, "numerics", r->facts->numerics);
	tree_text(tree, p, "weight_scales", r->facts->shared_scales ? "group" : "member");
	const char *device = r->format_count ? r->formats[0].merged.device : NULL;
	tree_text(tree, p, "device", device ? device : "cpu float32");
	tree_text(tree, p, "image_decoder", "stb_image");
	tree_copy(tree, p, "calibration_key",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "key"));
	cJSON *formats = tree_object(tree, p, "formats");
	for (int f = 0; f < r->format_count; f++) {
		cJSON *format = tree_object(tree, formats, r->formats[f].name);
		tree_text(tree, format, "element", r->formats[f].format->element);
		tree_text(tree, format, "granularity", r->formats[f].format->granularity);
	}
	cJSON *keys = tree_object(tree, p, "score_keys");
	for (int f = 0; f < r->format_count; f++)
		tree_text(tree, keys, r->formats[f].part.name, r->formats[f].merged.key);
}

/* ---- the baseline's files ---- */

static bool add_format_names(struct json_tree *tree, const struct ranking *r)
{
	cJSON *names = tree_array(tree, tree->root, "names");
	for (int f = 0; f < r->format_count; f++)
		tree_text(tree, names, NULL, r->formats[f].part.name);
	return !tree->failed;
}

static void add_ranked_layers(struct json_tree *tree, const struct ranking *r,
                              const struct coverage *c)
{
	const struct baseline *b = &r->baseline;
	int quantised = 0;
	for (int g = 0; g < b->count; g++)
		if (c->keeps[g])
			quantised += r->groups.groups[g].member_count;
	tree_number(tree, tree->root, "num_quantized_layers", quantised);
	cJSON *layers = tree_object(tree, tree->root, "layers");
	for (int g = 0; g < b->count; g++)
		for (int m = 0; m < r->groups.groups[g].member_count; m++)
			add_layer(tree, layers, r->linears[r->groups.groups[g].members[m]].name,
			          kept_format(b, c, g));
}

bool print_baseline_manifest(const struct ranking *r, text *out, error *err)
{
	const struct baseline *b = &r->baseline;
	const struct rule full = { .kind = RULE_FULL };
	struct coverage c;
	if (!slice_baseline(&c, b, r->facts->file_name, &full, err))
		return false;
	struct json_tree tree = tree_new(), names = tree_new();
	tree.failed |= !add_format_names(&names, r);
	add_scheme(&tree, r->facts->file_name, block_kind_name(r->kind),
	           (double)r->formats[0].merged.samples,
	           cJSON_GetObjectItemCaseSensitive(names.root, "names"), &c);
	tree_free(&names);
	add_model(&tree, r);
	add_ranked_layers(&tree, r, &c);
	add_coverage(&tree, &c);
	add_state_summary(&tree, b, &c);
	add_sensitivity(&tree, tree.root, b);
	add_provenance(&tree, r);
	coverage_free(&c);
	return tree_finish(&tree, out, err);
}

/* Block by block, so that a part of the samples can be looked at by itself. */
static void add_block_scores(struct json_tree *tree, cJSON *entry, const struct ranking *r,
                             const struct group *group)
{
	cJSON *formats = tree_object(tree, entry, "block_scores");
	for (int f = 0; f < r->format_count; f++) {
		const struct scored_format *format = &r->formats[f];
		if (group_score(r, group, &format->merged) < 0)
			continue;
		cJSON *blocks = tree_array(tree, formats, format->name);
		for (int i = 0; i < format->blocks.count; i++)
			tree_number(tree, blocks, NULL,
			            group_score(r, group, &format->blocks.blocks[i]));
	}
}

bool print_state(const struct ranking *r, text *out, error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "method", block_kind_name(r->kind));
	tree_text(&tree, tree.root, "cost_model", "weight");
	add_provenance(&tree, r);
	cJSON *stats = tree_object(&tree, tree.root, "candidate_stats");
	cJSON *recipe = NULL;
	for (int g = 0; g < r->baseline.count; g++) {
		const struct scored_group *scored = &r->baseline.groups[g];
		const struct group *group = &r->groups.groups[g];
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
		add_block_scores(&tree, entry, r, group);
	}
	tree_copy(&tree, tree.root, "input_amax",
	          cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, "amax"));
	const cJSON *cache = cJSON_GetObjectItemCaseSensitive(r->amax->doc.root, AMAX_CACHE);
	if (cache)
		tree_copy(&tree, tree.root, AMAX_CACHE, cache);
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

/* Every group's last candidate is NONE, 16 bits a weight. */
static double bits_of(const struct scored_group *group, int format)
{
	return 16 * group->costs[format] / group->costs[group->format_count - 1];
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
		for (int f = 0; f < group->format_count - 1; f++)
			text_printf(out, "|%.*s|%.1f|%.3e|%.3e|\n", shown_length(group->name),
			            group->name, bits_of(group, f), group->scores[f],
			            group->costs[f]);
	}
	return print_sums_table(r, out, err) && text_ok(out, err);
}

/* One entry a format, where there is more than one. */
static void add_candidates(struct json_tree *tree, cJSON *row,
                           const struct scored_group *group)
{
	if (group->format_count < 3)
		return;
	cJSON *list = tree_array(tree, row, "candidates");
	for (int f = 0; f < group->format_count - 1; f++) {
		cJSON *entry = tree_object(tree, list, NULL);
		tree_text(tree, entry, "format", group->formats[f]);
		tree_number(tree, entry, "num_bits", bits_of(group, f));
		tree_number(tree, entry, "sensitivity", group->scores[f]);
		tree_number(tree, entry, "cost", group->costs[f]);
	}
}

bool print_sensitivity_json(const struct ranking *r, text *out, error *err)
{
	const struct baseline *b = &r->baseline;
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "scheme", r->facts->file_name);
	cJSON *rows = tree_array(&tree, tree.root, "layers");
	for (int i = b->count - 1; i >= 0; i--) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		const struct group *shape = &r->groups.groups[b->ranking[i]];
		char name[NAME_BYTES];
		snprintf(name, sizeof name, "%.*s", shown_length(group->name), group->name);
		cJSON *row = tree_object(&tree, rows, NULL);
		tree_text(&tree, row, "layer", name);
		tree_number(&tree, row, "num_bits", bits_of(group, 0));
		tree_number(&tree, row, "sensitivity", group->scores[0]);
		tree_number(&tree, row, "cost", group->costs[0]);
		add_candidates(&tree, row, group);
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
			          group_of[n] < 0 ? NULL : kept_format(b, c, group_of[n]));
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
	struct json_tree tree = tree_new();
	add_scheme(&tree, scheme, method, (double)samples,
	           formats, c);
	for (size_t i = 0; i < sizeof carried / sizeof carried[0]; i++) {
		const cJSON *item = cJSON_GetObjectItemCaseSensitive(b->doc.root, carried[i]);
		if (item)
			tree_copy(&tree, tree.root, carried[i], item);
	}
	if (!add_layers(&tree, b, c, err)) {
		tree_free(&tree);
		return false;
	}
	kv_format_add(&tree, tree.root, &c->kv_cache);
	add_coverage(&tree, c);
	add_coverage_blocks(&tree, c);
	add_state_summary(&tree, b, c);
	add_sensitivity(&tree, tree.root, b);
	return tree_finish(&tree, out, err);
}
