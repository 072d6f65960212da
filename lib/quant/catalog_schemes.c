/* Families and schemes of the catalog: names, and the rules behind them. */
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "lib/quant/catalog_fields.h"

/* Whether a name is that of another target of the graph (emit.c's emit_help). */
static bool is_target(const char *name)
{
	static const char *const targets[] = { "all", "always", "cards", "check_quality", "evaluate",
		"help", "pareto", "report", "report_only", "sanity", "test", "tools" };
	static const char *const beginnings[] = { "cards_", "diversity_", "probe_", "report_only_", "sanity_" };
	for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
		if (strcmp(name, targets[i]) == 0)
			return true;
	for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++)
		if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return false;
}

/* Adds a scheme; `place` is what an error about its name points at. */
static bool add_scheme(struct catalog *c, const struct scheme *scheme,
                       const cJSON *place, error *err)
{
	if (is_target(scheme->name))
		return json_fail(&c->doc, place, err,
		                 "expected another name than that of a target, found \"%s\"",
		                 scheme->name);
	if (!scheme->is_baseline &&
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

/* Without a quantization config a checkpoint cannot say what its cache is kept in. */
static bool can_say_cache(const struct catalog_baseline *b)
{
	return strcmp(b->profile, "bf16") != 0;
}

static bool read_kv_cache(struct catalog *c, const cJSON *e, struct scheme *scheme,
                          error *err)
{
	if (!cJSON_HasObjectItem(e, "kv_cache"))
		return true;
	scheme->kv_cache = read_reference(c, e, "kv_cache", c->kv_formats, c->kv_format_count,
	                                  sizeof *c->kv_formats, err);
	return scheme->kv_cache &&
	       (can_say_cache(scheme->baseline) ||
	        json_fail(&c->doc, place_of(e, "kv_cache"), err, "expected a baseline whose "
	                  "profile has quantization configs, found \"%s\" of %s",
	                  scheme->baseline->profile, scheme->baseline->name));
}

/* A sweep becomes a target, and ends in a table of what the report knows. */
static bool read_sweep(struct catalog *c, const cJSON *e, struct scheme *scheme, error *err)
{
	const cJSON *place = place_of(e, "sweep");
	if (!json_text_or(&c->doc, e, "sweep", &scheme->sweep, err))
		return false;
	if (!scheme->sweep)
		return true;
	if (!check_name(c, place, scheme->sweep, err))
		return false;
	return !is_target(scheme->sweep) ||
	       json_fail(&c->doc, place, err,
	                 "expected another name than that of a target, found \"%s\"",
	                 scheme->sweep);
}

/* The name is checked with a plain number in it: that of 12.5 % may have its point. */
static bool expand_family(struct catalog *c, const cJSON *e, error *err)
{
	static const char *const fields[] = { "baseline", "percent", "sweep", "kv_cache", NULL };
	const char *name = fill_name(c, e, 1, err);
	if (!name || !check_name(c, e, name, err) || !json_only_fields(&c->doc, e, fields, err))
		return false;
	struct scheme scheme = { .rule.kind = RULE_TOP_PERCENT, .family = e->string };
	scheme.baseline = read_reference(c, e, "baseline", c->baselines, c->baseline_count,
	                                 sizeof *c->baselines, err);
	if (!scheme.baseline || !read_kv_cache(c, e, &scheme, err) ||
	    !read_sweep(c, e, &scheme, err))
		return false;
	const cJSON *percents = json_array(&c->doc, e, "percent", err);
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

/* Which groups a scheme keeps: by exactly one of these fields, or all. */
static bool read_selection(struct catalog *c, const cJSON *e, struct rule *rule, error *err)
{
	static const char *const ways[] = { "percent", "groups", "coverage_manifest", NULL };
	static const char *const modes[] = { "top_percent", "top_k_blocks", NULL };
	const char *mode = "top_percent";
	int found = 0;
	for (int i = 0; ways[i]; i++)
		found += cJSON_HasObjectItem(e, ways[i]);
	if (found > 1)
		return json_fail(&c->doc, e, err, "expected at most one of \"percent\", "
		                 "\"groups\" and \"coverage_manifest\"");
	if (cJSON_HasObjectItem(e, "percent")) {
		if (!json_number(&c->doc, e, "percent", 0, 100, &rule->percent, err) ||
		    !check_percent(c, cJSON_GetObjectItemCaseSensitive(e, "percent"), err) ||
		    !read_word(c, e, "coverage_mode", modes, &mode, err))
			return false;
		rule->kind = strcmp(mode, "top_k_blocks") == 0 ? RULE_TOP_BLOCKS
		                                               : RULE_TOP_PERCENT;
		return true;
	}
	if (cJSON_HasObjectItem(e, "coverage_mode"))
		return json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(e, "coverage_mode"), err,
		                 "expected \"percent\" beside it");
	rule->kind = cJSON_HasObjectItem(e, "groups") ? RULE_LIST : RULE_FULL;
	if (cJSON_HasObjectItem(e, "coverage_manifest"))
		rule->kind = RULE_MANIFEST;
	if (!read_globs(c, e, "groups", &rule->groups, err))
		return false;
	if (rule->kind == RULE_LIST && !rule->groups.count)
		return json_fail(&c->doc, place_of(e, "groups"), err, "expected at least one glob, "
		                 "found none");
	return json_text_or(&c->doc, e, "coverage_manifest", &rule->manifest, err);
}

/* What the search may spend: bits, or what a cost table counts. */
static bool read_budget(struct catalog *c, const cJSON *e, struct rule *rule, error *err)
{
	bool bits = cJSON_HasObjectItem(e, "effective_bits");
	bool costs = cJSON_HasObjectItem(e, "costs"), budget = cJSON_HasObjectItem(e, "budget");
	if (costs != budget || (bits && costs))
		return json_fail(&c->doc, e, err, "expected \"costs\" together with \"budget\", "
		                 "and without \"effective_bits\"");
	if (!json_number_or(&c->doc, e, "effective_bits", 0, 16, &rule->bits, err) ||
	    !json_number_or(&c->doc, e, "budget", 0, DBL_MAX, &rule->budget, err) ||
	    !json_text_or(&c->doc, e, "costs", &rule->costs, err))
		return false;
	if (bits && rule->bits <= 0)
		return json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(e, "effective_bits"), err,
		                 "expected a number above 0, up to 16");
	return !budget || rule->budget > 0 ||
	       json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(e, "budget"), err,
	                 "expected a number above 0");
}

static bool read_scheme(struct catalog *c, const cJSON *e, error *err)
{
	static const char *const fields[] = { "baseline", "percent", "coverage_mode", "groups",
		"coverage_manifest", "effective_bits", "costs", "budget", "pin_bf16", "pin_quantized",
		"cost_exclude", "kv_cache", NULL };
	struct scheme scheme = { .name = e->string };
	struct rule *rule = &scheme.rule;
	if (!check_name(c, e, e->string, err) || !json_only_fields(&c->doc, e, fields, err))
		return false;
	scheme.baseline = read_reference(c, e, "baseline", c->baselines, c->baseline_count,
	                                 sizeof *c->baselines, err);
	if (!scheme.baseline || !read_kv_cache(c, e, &scheme, err) ||
	    !read_selection(c, e, rule, err) ||
	    !read_budget(c, e, rule, err) ||
	    !read_globs(c, e, "pin_bf16", &rule->pin_bf16, err) ||
	    !read_globs(c, e, "pin_quantized", &rule->pin_quantised, err) ||
	    !read_globs(c, e, "cost_exclude", &rule->cost_exclude, err))
		return false;
	return add_scheme(c, &scheme, e, err);
}

static int count_schemes(const struct catalog *c, const cJSON *families,
                         const cJSON *schemes)
{
	int count = c->baseline_count + cJSON_GetArraySize(schemes);
	for (const cJSON *f = families->child; f; f = f->next)
		count += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(f, "percent"));
	return count;
}

static const struct scheme *find_scheme(const struct catalog *c, const char *name)
{
	for (int i = 0; i < c->scheme_count; i++)
		if (strcmp(c->schemes[i].name, name) == 0)
			return &c->schemes[i];
	return NULL;
}

/* The scheme with the cache in a format, unless the catalog lists it. */
static bool add_with_cache(struct catalog *c, const struct scheme *scheme,
                     const struct kv_format *format, error *err)
{
	struct scheme own = { .baseline = scheme->baseline, .rule = scheme->rule,
		.kv_cache = format };
	own.name = arena_printf(&c->memory, err, "%s_%s", scheme->name, format->name);
	if (!own.name)
		return false;
	for (int i = 0; i < c->unlisted_count; i++)
		if (strcmp(c->unlisted[i].name, own.name) == 0)
			return json_fail(&c->doc, c->doc.root, err, "expected other names: \"%s\" means "
			                 "two schemes, %s with the cache in %s is one of them", own.name,
			                 scheme->name, format->name);
	const struct scheme *listed = find_scheme(c, own.name);
	if (!listed)
		c->unlisted[c->unlisted_count++] = own;
	return !listed || listed->kv_cache == format ||
	       json_fail(&c->doc, c->doc.root, err, "scheme \"%s\": a name that ends in \"_%s\" "
	                 "means %s with the cache in that format: expected \"kv_cache\": \"%s\" "
	                 "or another name", own.name, format->name, scheme->name, format->name);
}

/* Every scheme, in every format of the cache. */
static bool add_unlisted(struct catalog *c, error *err)
{
	c->unlisted = arena_alloc(&c->memory, (size_t)c->scheme_count * (size_t)c->kv_format_count,
	                       sizeof *c->unlisted, err);
	if (!c->unlisted)
		return false;
	for (int i = 0; i < c->scheme_count; i++)
		for (int k = 0; k < c->kv_format_count; k++)
			if (!c->schemes[i].kv_cache && can_say_cache(c->schemes[i].baseline) &&
			    !add_with_cache(c, &c->schemes[i], &c->kv_formats[k], err))
				return false;
	return true;
}

bool read_schemes(struct catalog *c, error *err)
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
		const struct scheme scheme = { .name = c->baselines[i].name,
			.baseline = &c->baselines[i], .rule.kind = RULE_FULL, .is_baseline = true };
		if (c->baselines[i].publish && !add_scheme(c, &scheme, c->doc.root, err))
			return false;
	}
	for (const cJSON *f = families->child; f; f = f->next)
		if (!expand_family(c, f, err))
			return false;
	for (const cJSON *s = schemes->child; s; s = s->next)
		if (!read_scheme(c, s, err))
			return false;
	return add_unlisted(c, err);
}
