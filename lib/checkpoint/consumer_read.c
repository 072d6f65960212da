/* What the two files of a checkpoint say, whoever reads them; see consumer_lists.h. Only
 * what quern writes is read, and the simpler things that ModelOpt writes. */
#include <string.h>

#include "lib/checkpoint/consumer_lists.h"

/* Fails unless the field is this text. */
static bool expect_text(const json_doc *doc, const cJSON *object, const char *field,
                        const char *expected, error *err)
{
	const char *found;
	if (!json_text(doc, object, field, &found, err))
		return false;
	return strcmp(found, expected) == 0 ||
	       json_fail(doc, cJSON_GetObjectItemCaseSensitive(object, field), err,
	                 "expected \"%s\", found \"%.60s\"", expected, found);
}

/* One of the words, as this file's own constant. */
static bool read_word(const json_doc *doc, const cJSON *object, const char *field,
                      const char *const *words, const char **out, error *err)
{
	const char *found;
	if (!json_text(doc, object, field, &found, err))
		return false;
	for (; *words; words++)
		if (strcmp(*words, found) == 0) {
			*out = *words;
			return true;
		}
	return json_fail(doc, cJSON_GetObjectItemCaseSensitive(object, field), err,
	                 "a word that quern does not write: \"%.60s\"", found);
}

/* ---- compressed-tensors ---- */

static bool read_time(const json_doc *doc, const cJSON *numbers, enum scale_time *out,
                      error *err)
{
	static const char *const words[] = { "local", NULL };
	const char *word;
	bool dynamic = false;
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(numbers, "dynamic");
	*out = SCALE_LOCAL;
	if (cJSON_IsString(item))
		return read_word(doc, numbers, "dynamic", words, &word, err);
	if (!json_boolean(doc, numbers, "dynamic", &dynamic, err))
		return false;
	*out = dynamic ? SCALE_DYNAMIC : SCALE_STATIC;
	return true;
}

/* Without it compressed-tensors rounds no scale that it finds as inputs come. */
static bool read_scales(const json_doc *doc, const cJSON *numbers, const char **out,
                        error *err)
{
	static const char *const words[] = { "torch.float8_e4m3fn", NULL };
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(numbers, "scale_dtype");
	return !item || cJSON_IsNull(item) ||
	       read_word(doc, numbers, "scale_dtype", words, out, err);
}

/* {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false}, or null. */
static bool read_numbers(const json_doc *doc, const cJSON *group, const char *field,
                         struct number_form *out, error *err)
{
	static const char *const types[] = { "float", "int", NULL };
	static const char *const strategies[] = { "tensor", "channel", "token", "group",
		"tensor_group", NULL };
	int64_t bits, group_size = 0;
	bool symmetric = true;
	*out = (struct number_form){ 0 };
	if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(group, field)))
		return true;
	const cJSON *numbers = json_object(doc, group, field, err);
	if (!numbers || !json_integer(doc, numbers, "num_bits", 1, 16, &bits, err) ||
	    !read_word(doc, numbers, "type", types, &out->type, err) ||
	    !read_word(doc, numbers, "strategy", strategies, &out->strategy, err) ||
	    !json_integer_or(doc, numbers, "group_size", 1, 65536, &group_size, err) ||
	    !read_scales(doc, numbers, &out->scales, err) ||
	    !read_time(doc, numbers, &out->time, err) ||
	    !json_boolean_or(doc, numbers, "symmetric", &symmetric, err))
		return false;
	out->bits = (int)bits;
	out->group_size = (int)group_size;
	return symmetric || json_fail(doc, numbers, err, "expected symmetric numbers");
}

/* ["Linear"], which leaves *out NULL, or names and patterns. Beside others, that word
 * means other linears to each program. */
static bool read_targets(const json_doc *doc, const cJSON *group, const cJSON **out,
                         error *err)
{
	const cJSON *targets = json_array(doc, group, "targets", err), *item;
	if (!targets)
		return false;
	*out = targets;
	cJSON_ArrayForEach(item, targets) {
		if (!cJSON_IsString(item) || strcmp(item->valuestring, "Linear") != 0)
			continue;
		*out = NULL;
		if (targets->child->next || group->prev != group || group->next)
			return json_fail(doc, targets, err,
			                 "expected \"Linear\" by itself, in one group alone");
	}
	return targets->child || json_fail(doc, targets, err, "expected [\"Linear\"]");
}

static bool read_group(const json_doc *doc, const cJSON *block, const cJSON *group,
                       struct stated_group *out, arena *memory, error *err)
{
	const char *format = NULL;
	if (!cJSON_IsObject(group))
		return json_fail(doc, group, err, "expected an object");
	if (!json_text_or(doc, group, "format", &format, err) ||
	    (!format && !json_text(doc, block, "format", &format, err)))
		return false;
	out->form.algorithm = "";
	out->form.format = arena_text(memory, format, strlen(format), err);
	return out->form.format && read_targets(doc, group, &out->targets, err) &&
	       read_numbers(doc, group, "weights", &out->form.weights, err) &&
	       read_numbers(doc, group, "input_activations", &out->form.inputs, err) &&
	       (out->form.weights.bits ||
	        json_fail(doc, group, err, "expected quantised weights"));
}

static bool read_compressed(const json_doc *doc, const cJSON *block, struct statement *s,
                            arena *memory, error *err)
{
	const cJSON *groups = json_object(doc, block, "config_groups", err), *group;
	if (!groups || !expect_text(doc, block, "quantization_status", "compressed", err) ||
	    !(s->ignores = json_array(doc, block, "ignore", err)))
		return false;
	cJSON_ArrayForEach(group, groups) {
		if (s->group_count == MAX_STATED)
			return json_fail(doc, group, err, "expected at most %d groups", MAX_STATED);
		if (!read_group(doc, block, group, &s->groups[s->group_count++], memory, err))
			return false;
	}
	s->doc = doc;
	return s->group_count || json_fail(doc, groups, err, "expected at least one group");
}

/* ---- ModelOpt ---- */

/* {"quant_algo": "NVFP4", "group_size": 16, ...}. vLLM makes capitals of the name first,
 * SGLang does not. */
static bool read_algorithm(const json_doc *doc, const cJSON *object,
                           struct linear_form *out, arena *memory, error *err)
{
	const char *name;
	int64_t group_size = 0;
	if (!cJSON_IsObject(object))
		return json_fail(doc, object, err, "expected an object");
	if (!json_text(doc, object, "quant_algo", &name, err) ||
	    !json_integer_or(doc, object, "group_size", 1, 65536, &group_size, err))
		return false;
	if (!*name || strpbrk(name, "abcdefghijklmnopqrstuvwxyz"))
		return json_fail(doc, cJSON_GetObjectItemCaseSensitive(object, "quant_algo"), err,
		                 "expected a name in capitals, as \"FP8\", found \"%.60s\"", name);
	out->format = "";
	out->weights.group_size = (int)group_size;
	return (out->algorithm = arena_text(memory, name, strlen(name), err)) != NULL;
}

static struct stated_group *group_of(struct statement *s, const struct linear_form *form)
{
	int g = 0;
	while (g < s->group_count && !forms_equal_modelopt(&s->groups[g].form, form))
		g++;
	if (g == MAX_STATED)
		return NULL;
	s->group_count += g == s->group_count;
	return &s->groups[g];
}

/* {module: its algorithm}: one group an algorithm. */
static bool read_layers(const json_doc *doc, const cJSON *layers, struct statement *s,
                        arena *memory, error *err)
{
	const cJSON *layer;
	cJSON_ArrayForEach(layer, layers) {
		struct linear_form form = { 0 };
		if (!read_algorithm(doc, layer, &form, memory, err))
			return false;
		struct stated_group *group = group_of(s, &form);
		if (!group)
			return json_fail(doc, layer, err, "expected at most %d formats", MAX_STATED);
		group->form = form;
		if (!group->owned)
			group->owned = cJSON_CreateArray();
		group->targets = group->owned;
		cJSON *name = cJSON_CreateString(layer->string);
		if (!group->owned || !name || !cJSON_AddItemToArray(group->owned, name)) {
			cJSON_Delete(name);
			return fail_memory(err, "the layers of a config", 0);
		}
	}
	return s->group_count || json_fail(doc, layers, err, "expected at least one layer");
}

/* Nested ("quantization", "exclude_modules") or flat ("ignore"). */
static bool read_modelopt(const json_doc *doc, const cJSON *block, struct statement *s,
                          arena *memory, error *err)
{
	bool nested = cJSON_GetObjectItemCaseSensitive(block, "quantization") != NULL;
	const cJSON *inner = nested ? json_object(doc, block, "quantization", err) : block;
	const char *list = nested ? "exclude_modules" : "ignore";
	struct linear_form form = { 0 };
	if (!inner || !read_algorithm(doc, inner, &form, memory, err))
		return false;
	s->doc = doc;
	if (strcmp(form.algorithm, "MIXED_PRECISION") == 0) {
		const cJSON *layers = json_object(doc, inner, "quantized_layers", err);
		if (cJSON_HasObjectItem(inner, list))
			s->ignores = json_array(doc, inner, list, err);
		return layers && (s->ignores || !cJSON_HasObjectItem(inner, list)) &&
		       read_layers(doc, layers, s, memory, err);
	}
	s->groups[s->group_count++].form = form;
	return (s->ignores = json_array(doc, inner, list, err)) != NULL;
}

/* ---- Both files ---- */

bool statements_read(struct statements *all, const json_doc *config,
                     const json_doc *hf_quant_config, arena *memory, error *err)
{
	const char *method;
	const cJSON *block = cJSON_GetObjectItemCaseSensitive(config->root,
	                                                      "quantization_config");
	*all = (struct statements){ 0 };
	if (hf_quant_config && !read_modelopt(hf_quant_config, hf_quant_config->root,
	                                      &all->file_modelopt, memory, err))
		return false;
	if (!block)
		return true;
	if (!json_text(config, block, "quant_method", &method, err))
		return false;
	if (strcmp(method, "modelopt") == 0)
		return read_modelopt(config, block, &all->inline_modelopt, memory, err);
	if (strcmp(method, "compressed-tensors") == 0)
		return read_compressed(config, block, &all->compressed, memory, err);
	return json_fail(config, cJSON_GetObjectItemCaseSensitive(block, "quant_method"),
	                 err, "expected \"modelopt\" or \"compressed-tensors\", found "
	                 "\"%.60s\"", method);
}

static void free_statement(struct statement *s)
{
	for (int g = 0; g < s->group_count; g++)
		cJSON_Delete(s->groups[g].owned);
}

void statements_free(struct statements *all)
{
	free_statement(&all->inline_modelopt);
	free_statement(&all->file_modelopt);
	free_statement(&all->compressed);
}
