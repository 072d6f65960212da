/* {"samples": [{"tokens", ..., "token_kl": [...]}]}; see damage_block.h. */
#include "lib/quant/damage_block.h"

#include "lib/base/json.h"
#include "lib/base/json_tree.h"

static const double BIG = 1e300;

bool print_damage_block(const struct sample_damage *samples, int count, text *out,
                        error *err)
{
	struct json_tree tree = tree_new();
	cJSON *list = tree_array(&tree, tree.root, "samples");
	for (int i = 0; i < count; i++) {
		const struct sample_damage *s = &samples[i];
		cJSON *item = tree_object(&tree, list, NULL);
		tree_number(&tree, item, "tokens", s->tokens);
		tree_number(&tree, item, "positions", s->positions);
		tree_number(&tree, item, "agreed", s->agreed);
		tree_number(&tree, item, "base_loss", s->base_loss);
		tree_number(&tree, item, "loss", s->loss);
		tree_number(&tree, item, "kl", s->kl);
		tree_number(&tree, item, "kl_all", s->kl_all);
		tree_number(&tree, item, "last_kl", s->last_kl);
		tree_number(&tree, item, "last_mse", s->last_mse);
		cJSON *tokens = tree_array(&tree, item, "token_kl");
		for (int t = 0; t < s->tokens; t++)
			tree_number(&tree, tokens, NULL, s->token_kl[t]);
	}
	return tree_finish(&tree, out, err);
}

static bool read_count(const json_doc *doc, const cJSON *item, const char *field, int *out,
                       error *err)
{
	int64_t value;
	bool ok = json_integer(doc, item, field, 0, INT32_MAX, &value, err);
	*out = ok ? (int)value : 0;
	return ok;
}

static bool read_one(struct sample_damage *s, const json_doc *doc, const cJSON *item,
                     arena *memory, error *err)
{
	if (!read_count(doc, item, "tokens", &s->tokens, err) ||
	    !read_count(doc, item, "positions", &s->positions, err) ||
	    !read_count(doc, item, "agreed", &s->agreed, err) ||
	    !json_number(doc, item, "base_loss", -BIG, BIG, &s->base_loss, err) ||
	    !json_number(doc, item, "loss", -BIG, BIG, &s->loss, err) ||
	    !json_number(doc, item, "kl", -BIG, BIG, &s->kl, err) ||
	    !json_number(doc, item, "kl_all", -BIG, BIG, &s->kl_all, err) ||
	    !json_number(doc, item, "last_kl", -BIG, BIG, &s->last_kl, err) ||
	    !json_number(doc, item, "last_mse", -BIG, BIG, &s->last_mse, err))
		return false;
	const cJSON *list = json_array(doc, item, "token_kl", err);
	if (!list)
		return false;
	if (cJSON_GetArraySize(list) != s->tokens)
		return json_fail(doc, list, err, "expected %d numbers, found %d", s->tokens,
		                 cJSON_GetArraySize(list));
	if (!(s->token_kl = arena_alloc(memory, (size_t)s->tokens + 1, sizeof *s->token_kl,
	                                err)))
		return false;
	double *next = s->token_kl;
	for (const cJSON *kl = list->child; kl; kl = kl->next) {
		if (!cJSON_IsNumber(kl))
			return json_fail(doc, kl, err, "expected a number");
		*next++ = kl->valuedouble;
	}
	return true;
}

bool read_damage_block(struct sample_damage *samples, int count, const char *name,
                       const char *data, size_t size, arena *memory, error *err)
{
	json_doc doc;
	if (!json_parse(&doc, name, data, size, err))
		return false;
	const cJSON *list = json_array(&doc, doc.root, "samples", err);
	bool ok = list != NULL;
	if (ok && cJSON_GetArraySize(list) != count)
		ok = json_fail(&doc, list, err, "expected %d samples, found %d", count,
		               cJSON_GetArraySize(list));
	for (const cJSON *item = ok ? list->child : NULL; ok && item; item = item->next)
		ok = read_one(samples++, &doc, item, memory, err);
	json_free(&doc);
	return ok;
}
