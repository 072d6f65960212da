/* How a program sees a checkpoint; see consumer_view.h. */
#include "lib/quant/consumer_view.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/checkpoint/consumers.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/model/linears.h"
#include "lib/quant/packed.h"

enum { MAX_JSON_BYTES = 256 << 20 };

struct view {
	const char *folder, *program;
	json_doc config, hf_quant;
	bool has_hf_quant;
	struct consumer_rules *rules;
	struct checkpoint checkpoint;
	struct model_config model;
	struct module_decision *linears; /* as the tensors are */
	int count;
	arena memory;
};

static bool load_configs(struct view *v, error *err)
{
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, v->folder, "config.json", err) ||
	    !json_load(&v->config, path, MAX_JSON_BYTES, err) ||
	    !join_path(path, sizeof path, v->folder, "hf_quant_config.json", err))
		return false;
	v->has_hf_quant = file_exists(path);
	return (!v->has_hf_quant || json_load(&v->hf_quant, path, MAX_JSON_BYTES, err)) &&
	       consumer_open(&v->rules, &v->config, v->has_hf_quant ? &v->hf_quant : NULL,
	                     err);
}

/* The form in which the tensors of a linear are all there; NULL for a plain weight. A tied
 * head has no tensor, and is what the embedding is. */
static const struct linear_form *form_of_tensors(const struct view *v,
                                                 const struct linear_shape *linear)
{
	const struct tensor_source from = tensors_of_checkpoint(&v->checkpoint);
	const cJSON *block = cJSON_GetObjectItemCaseSensitive(v->config.root,
	                                                      "quantization_config");
	const char *method = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(block, "quant_method"));
	bool modelopt = method && strcmp(method, "modelopt") == 0;
	for (int k = 0; format_at(k); k++) {
		struct packed_linear found;
		error unused;
		if (packed_find(&found, format_at(k), modelopt ? PROFILE_MODELOPT
		                                               : PROFILE_UNIVERSAL, linear, &from,
		                &unused))
			return &format_at(k)->form;
	}
	return NULL;
}

static bool load_linears(struct view *v, error *err)
{
	struct linear_shape *shapes;
	if (!checkpoint_open(&v->checkpoint, v->folder, err) ||
	    !model_config_load(&v->model, v->folder, err) ||
	    !list_linears(&v->model, &v->memory, &shapes, &v->count, err) ||
	    !(v->linears = arena_alloc(&v->memory, (size_t)v->count, sizeof *v->linears, err)))
		return false;
	for (int i = 0; i < v->count; i++) {
		const struct linear_form *form = form_of_tensors(v, &shapes[i]);
		v->linears[i] = (struct module_decision){ shapes[i].name, form != NULL, form };
	}
	return true;
}

/* ---- one linear ---- */

/* Whether a name in any spelling means this linear, by itself or fused. */
static bool is_named(const char *name, const char *module)
{
	const struct fused_layer *fused = fused_layer_of(module);
	char own[NAME_BYTES], alias[NAME_BYTES + 16];
	name_from_any(name, own);
	if (strcmp(own, module) == 0)
		return true;
	if (!fused)
		return false;
	snprintf(alias, sizeof alias, "%.*s%s", (int)(name_leaf(module) - module), module,
	         fused->name);
	return strcmp(own, alias) == 0;
}

static const struct module_decision *find_linear(const struct view *v, const char *name,
                                                 error *err)
{
	for (int i = 0; i < v->count; i++)
		if (is_named(name, v->linears[i].name))
			return &v->linears[i];
	fail(err, EXIT_USAGE, "--layer: %s has no linear \"%.200s\"; expected a name like %s",
	     v->folder, name, v->linears[v->count / 2].name);
	return NULL;
}

/* What the program builds and what the tensors are, in its words. */
struct verdict {
	char built[64], tensors[64];
};

static struct verdict judge(enum consumer c, const struct module_decision *linear,
                            const struct explanation *e)
{
	struct verdict verdict;
	consumer_spells(verdict.built, c, e->form);
	consumer_spells(verdict.tensors, c, linear->form);
	return verdict;
}

static void print_explanation(text *out, enum consumer c,
                              const struct module_decision *linear,
                              const struct explanation *e)
{
	struct verdict verdict = judge(c, linear, e);
	text_printf(out, "  builds   %s", e->built);
	for (int s = 0; s < e->shard_count; s++)
		text_printf(out, "%s%s", s ? ", " : " of ", name_leaf(e->shards[s]));
	if (e->entry)
		text_printf(out, "\n  entry    \"%s\" %s it\n", e->entry, e->how);
	else
		text_puts(out, "\n  entry    none\n");
	text_printf(out, "  rule     %s\n  decides  %s; the tensor is %s\n", e->rule,
	            verdict.built, verdict.tensors);
}

static bool print_layer(const struct view *v, enum consumer c,
                        const struct module_decision *linear, text *out, error *err)
{
	struct explanation e;
	if (!consumer_explain(v->rules, c, linear->name, &e, err))
		return false;
	print_explanation(out, c, linear, &e);
	if (consumer_agrees(c, e.form, linear))
		return true;
	if (!e.form && !consumer_takes_codes(c, linear->name)) {
		text_puts(out, "  lost: whatever the files say, it never quantises this one\n");
		return true;
	}
	struct verdict verdict = judge(c, linear, &e);
	return fail(err, EXIT_BAD_INPUT, "%s: %s: %s builds %s, the tensor is %s", v->folder,
	            linear->name, consumer_name(c), verdict.built, verdict.tensors);
}

/* ---- all of them ---- */

/* Rules that decided, and how often each. */
struct tally {
	const char *rules[8];
	int counts[8], used;
};

static void count_rule(struct tally *t, const char *rule)
{
	int i = 0;
	while (i < t->used && strcmp(t->rules[i], rule) != 0)
		i++;
	if (i == t->used && t->used < 8)
		t->rules[t->used++] = rule;
	if (i < 8)
		t->counts[i]++;
}

static bool print_all(const struct view *v, enum consumer c, text *out, error *err)
{
	struct tally tally = { 0 };
	int quantised = 0, lost = 0, wrong = 0;
	const char *first = NULL;
	for (int i = 0; i < v->count; i++) {
		const struct module_decision *linear = &v->linears[i];
		struct explanation e;
		if (!consumer_explain(v->rules, c, linear->name, &e, err))
			return false;
		count_rule(&tally, e.rule);
		quantised += e.form != NULL;
		if (consumer_agrees(c, e.form, linear))
			continue;
		if (!e.form && !consumer_takes_codes(c, linear->name)) {
			lost++;
			continue;
		}
		first = wrong++ ? first : linear->name;
		text_printf(out, "  %s: the tensor is %s\n", linear->name,
		            judge(c, linear, &e).tensors);
		print_explanation(out, c, linear, &e);
	}
	text_printf(out, "  builds %d linears quantised, %d in BF16\n", quantised,
	            v->count - quantised);
	for (int i = 0; i < tally.used; i++)
		text_printf(out, "  %4d by %s\n", tally.counts[i], tally.rules[i]);
	if (lost)
		text_printf(out, "  lost: %d that are quantised in the files it never builds so\n", lost);
	return !wrong || fail(err, EXIT_BAD_INPUT, "%s: %s builds %d linears otherwise than "
	                      "their tensors are, the first %s", v->folder, consumer_name(c),
	                      wrong, first);
}

/* ---- the program ---- */

static bool print_plain(const struct view *v, text *out, error *err)
{
	text_printf(out, "%s: finds no quantization config, builds everything as it is\n",
	            v->program);
	for (int i = 0; i < v->count; i++)
		if (v->linears[i].quantised)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: the tensor is quantised, and %s finds no "
			            "quantization config", v->folder, v->linears[i].name, v->program);
	return true;
}

static bool print_program(const struct view *v, const char *layer, text *out, error *err)
{
	const struct module_decision *linear = layer ? find_linear(v, layer, err) : NULL;
	bool known = false, read = false, ok = !layer || linear;
	for (enum consumer c = 0; ok && c < CONSUMER_COUNT; c++) {
		if (strcmp(consumer_program(c), v->program) != 0)
			continue;
		known = true;
		if (!consumer_reads(v->rules, c))
			continue;
		read = true;
		text_printf(out, "%s, %s%s%s\n", consumer_name(c),
		            consumer_chooses(v->rules, c) ? "its choice by itself"
		                                          : "if it is told to",
		            linear ? ": " : "", linear ? linear->name : "");
		ok = linear ? print_layer(v, c, linear, out, err) : print_all(v, c, out, err);
	}
	if (ok && !known)
		return fail(err, EXIT_USAGE, "--consumer: expected " PROGRAM_NAMES ", found \"%s\"",
		            v->program);
	if (ok && !read && cJSON_HasObjectItem(v->config.root, "quantization_config"))
		return fail(err, EXIT_BAD_INPUT, "%s: neither config says anything that %s reads",
		            v->folder, v->program);
	return ok && (read || print_plain(v, out, err));
}

bool print_consumer_view(const char *folder, const char *program, const char *layer,
                         text *out, error *err)
{
	struct view v = { .folder = folder, .program = program };
	bool ok = load_configs(&v, err) && load_linears(&v, err) &&
	          print_program(&v, layer, out, err) && text_ok(out, err);
	json_free(&v.config);
	json_free(&v.hf_quant);
	consumer_close(v.rules);
	checkpoint_close(&v.checkpoint);
	arena_free(&v.memory);
	return ok;
}
