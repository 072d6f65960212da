/* Reading config.json; see config.h. Field names and defaults are those of
 * transformers' Qwen2_5_VLConfig, old (flat) and new (text_config). */
#include "lib/checkpoint/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json.h"

enum {
	MAX_CONFIG_BYTES = 16 << 20,
	MAX_SIZE = 1000000, /* of any one dimension; the largest known is 152064 */
};

/* The open config and where its parts are. */
struct source {
	json_doc doc;
	const cJSON *root;
	const cJSON *text; /* the section with the text model's fields: root if flat */
	const cJSON *vision;
};

/* The field, or NULL when it is absent or null. */
static const cJSON *find(const cJSON *section, const char *field)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(section, field);
	return cJSON_IsNull(item) ? NULL : item;
}

/* `other` when only that one has the field, otherwise `section`. */
static const cJSON *holder_of(const cJSON *section, const cJSON *other,
                              const char *field)
{
	return !find(section, field) && find(other, field) ? other : section;
}

static bool read_size(const struct source *s, const cJSON *section, const char *field,
                      int high, int *out, error *err)
{
	int64_t value;
	if (!json_integer(&s->doc, section, field, 1, high, &value, err))
		return false;
	*out = (int)value;
	return true;
}

/* Fails on section.field, a number that is there: "expected <format>, found it". */
static bool __attribute__((format(printf, 5, 6)))
fail_field(const struct source *s, const cJSON *section, const char *field, error *err,
           const char *format, ...)
{
	char expected[200], found[JSON_NUMBER_TEXT];
	va_list args;
	va_start(args, format);
	vsnprintf(expected, sizeof expected, format, args);
	va_end(args);
	const cJSON *item = find(section, field);
	json_format_number(item->valuedouble, found);
	return json_fail(&s->doc, item, err, "expected %s, found %s", expected, found);
}

/* A field that may be absent but, if there, must have this one value. */
static bool check_text(const struct source *s, const cJSON *section, const char *field,
                       const char *only, error *err)
{
	const char *found = only;
	if (!json_text_or(&s->doc, section, field, &found, err))
		return false;
	if (strcmp(found, only) == 0)
		return true;
	return json_fail(&s->doc, find(section, field), err,
	                 "expected \"%s\", found \"%.60s\"", only, found);
}

/* ---- The vision tower ---- */

static bool read_full_attention(const struct source *s, struct vision_config *v,
                                error *err)
{
	const cJSON *item, *list = json_array(&s->doc, s->vision, "fullatt_block_indexes", err);
	if (!list)
		return false;
	cJSON_ArrayForEach(item, list) {
		double block = item->valuedouble;
		if (!cJSON_IsNumber(item) || block < 0 || block >= v->depth ||
		    block != (double)(int)block)
			return json_fail(&s->doc, item, err, "expected a block from 0 to %d",
			                 v->depth - 1);
		v->full_attention[(int)block] = true;
	}
	return true;
}

static bool check_vision(const struct source *s, struct vision_config *v, error *err)
{
	int side = v->merge * v->patch;
	int64_t patch_values = (int64_t)v->channels * v->temporal_patch * v->patch * v->patch;
	if (v->hidden % v->heads)
		return fail_field(s, s->vision, "num_heads", err, "a divisor of hidden_size %d",
		                  v->hidden);
	v->head_dim = v->hidden / v->heads;
	if (v->head_dim % 4) /* half turns with the row, half with the column, in pairs */
		return fail_field(s, s->vision, "num_heads", err,
		                  "hidden_size %d / num_heads to be a multiple of 4", v->hidden);
	if (v->window % side)
		return fail_field(s, s->vision, "window_size", err,
		                  "a multiple of spatial_merge_size * patch_size = %d", side);
	if (patch_values > MAX_SIZE)
		return fail_field(s, s->vision, "patch_size", err,
		                  "a patch of at most %d values", MAX_SIZE);
	v->patch_values = (int)patch_values;
	return true;
}

static bool read_vision(const struct source *s, struct vision_config *v, error *err)
{
	const cJSON *section = s->vision;
	/* The release says in_chans, which transformers ignores for in_channels. */
	bool renamed = find(section, "in_channels") != NULL;
	return check_text(s, section, "hidden_act", "silu", err) &&
	       read_size(s, section, "depth", MAX_VISION_DEPTH, &v->depth, err) &&
	       read_size(s, section, "hidden_size", MAX_SIZE, &v->hidden, err) &&
	       read_size(s, section, "intermediate_size", MAX_SIZE, &v->intermediate, err) &&
	       read_size(s, section, "num_heads", MAX_SIZE, &v->heads, err) &&
	       read_size(s, section, renamed ? "in_channels" : "in_chans", 16, &v->channels,
	                 err) &&
	       read_size(s, section, "patch_size", 1024, &v->patch, err) &&
	       read_size(s, section, "temporal_patch_size", 16, &v->temporal_patch, err) &&
	       read_size(s, section, "spatial_merge_size", 16, &v->merge, err) &&
	       read_size(s, section, "window_size", MAX_SIZE, &v->window, err) &&
	       read_size(s, section, "out_hidden_size", MAX_SIZE, &v->out_hidden, err) &&
	       read_full_attention(s, v, err) && check_vision(s, v, err);
}

/* ---- The text model ---- */

/* The object that describes the rotary positions: rope_scaling in the release,
 * rope_parameters in newer files. */
static const cJSON *find_rope(const struct source *s, error *err)
{
	static const char *const names[] = { "rope_scaling", "rope_parameters" };
	const cJSON *rope = NULL;
	for (int i = 0; i < 2 && !rope; i++)
		rope = find(s->text, names[i]);
	for (int i = 0; i < 2 && !rope; i++)
		rope = find(s->root, names[i]);
	if (!rope)
		json_fail(&s->doc, s->text, err, "lacks rope_scaling or rope_parameters");
	else if (!cJSON_IsObject(rope))
		json_fail(&s->doc, rope, err, "expected an object");
	else
		return rope;
	return NULL;
}

/* "mrope", or "default" with an mrope_section, mean the same; anything else, as
 * "yarn", moves the positions. */
static bool check_rope_type(const struct source *s, const cJSON *rope, const char *field,
                            error *err)
{
	const char *type = "mrope";
	if (!json_text_or(&s->doc, rope, field, &type, err))
		return false;
	if (strcmp(type, "mrope") == 0 || strcmp(type, "default") == 0)
		return true;
	return json_fail(&s->doc, find(rope, field), err,
	                 "expected \"mrope\" or \"default\", found \"%.60s\"", type);
}

static bool read_rope(const struct source *s, struct text_config *t, error *err)
{
	const cJSON *rope = find_rope(s, err);
	if (!rope || !check_rope_type(s, rope, "type", err) ||
	    !check_rope_type(s, rope, "rope_type", err))
		return false;
	const cJSON *holder = holder_of(s->text, s->root, "rope_theta");
	if (!json_number(&s->doc, holder_of(rope, holder, "rope_theta"), "rope_theta", 1, 1e12,
	                 &t->rope_theta, err))
		return false;
	const cJSON *item, *sections = json_array(&s->doc, rope, "mrope_section", err);
	if (!sections)
		return false;
	int count = 0, sum = 0;
	cJSON_ArrayForEach(item, sections) {
		double width = item->valuedouble;
		bool fits = cJSON_IsNumber(item) && width >= 0 && width <= t->head_dim / 2;
		if (count == 3 || !fits || width != (double)(int)width)
			break;
		t->mrope_section[count++] = (int)width;
		sum += (int)width;
	}
	if (item || count != 3 || sum != t->head_dim / 2)
		return json_fail(&s->doc, item ? item : sections, err,
		                 "expected three integers, not negative, with the sum "
		                 "head_dim / 2 = %d",
		                 t->head_dim / 2);
	return true;
}

static bool check_heads(const struct source *s, struct text_config *t, error *err)
{
	if (t->hidden % t->heads)
		return fail_field(s, s->text, "num_attention_heads", err,
		                  "a divisor of hidden_size %d", t->hidden);
	if (t->heads % t->kv_heads)
		return fail_field(s, s->text, "num_key_value_heads", err,
		                  "a divisor of num_attention_heads %d", t->heads);
	t->head_dim = t->hidden / t->heads;
	if (t->head_dim % 2)
		return fail_field(s, s->text, "num_attention_heads", err,
		                  "hidden_size %d / num_attention_heads to be even", t->hidden);
	return true;
}

static bool read_flags(const struct source *s, struct text_config *t, error *err)
{
	bool sliding = false;
	if (!json_boolean_or(&s->doc, s->text, "use_sliding_window", &sliding, err))
		return false;
	if (sliding)
		return json_fail(&s->doc, find(s->text, "use_sliding_window"), err,
		                 "expected false, found true");
	t->tied_head = false;
	return json_boolean_or(&s->doc, holder_of(s->text, s->root, "tie_word_embeddings"),
	                       "tie_word_embeddings", &t->tied_head, err);
}

static bool read_text(const struct source *s, struct text_config *t, error *err)
{
	const cJSON *section = s->text;
	double eps;
	if (!check_text(s, section, "hidden_act", "silu", err) ||
	    !read_size(s, section, "num_hidden_layers", MAX_TEXT_LAYERS, &t->layers, err) ||
	    !read_size(s, section, "hidden_size", MAX_SIZE, &t->hidden, err) ||
	    !read_size(s, section, "intermediate_size", MAX_SIZE, &t->intermediate, err) ||
	    !read_size(s, section, "num_attention_heads", MAX_SIZE, &t->heads, err) ||
	    !read_size(s, section, "num_key_value_heads", MAX_SIZE, &t->kv_heads, err) ||
	    !read_size(s, section, "vocab_size", MAX_SIZE, &t->vocab, err) ||
	    !json_number(&s->doc, section, "rms_norm_eps", 1e-12, 0.1, &eps, err))
		return false;
	t->rms_eps = (float)eps;
	return check_heads(s, t, err) && read_rope(s, t, err) && read_flags(s, t, err);
}

/* ---- The whole ---- */

static bool read_token(const struct source *s, const char *field, int vocab,
                       int64_t *out, error *err)
{
	return json_integer(&s->doc, holder_of(s->root, s->text, field), field, 0, vocab - 1,
	                    out, err);
}

static bool find_sections(struct source *s, error *err)
{
	const char *type;
	s->root = s->doc.root;
	if (!json_text(&s->doc, s->root, "model_type", &type, err) ||
	    !check_text(s, s->root, "model_type", "qwen2_5_vl", err))
		return false;
	s->vision = json_object(&s->doc, s->root, "vision_config", err);
	if (!s->vision)
		return false;
	s->text = s->root;
	if (find(s->root, "text_config"))
		s->text = json_object(&s->doc, s->root, "text_config", err);
	return s->text != NULL;
}

static bool read_config(struct source *s, struct model_config *c, error *err)
{
	if (!find_sections(s, err) || !read_text(s, &c->text, err) ||
	    !read_vision(s, &c->vision, err))
		return false;
	if (c->vision.out_hidden != c->text.hidden)
		return fail_field(s, s->vision, "out_hidden_size", err,
		                  "the text model's hidden_size %d", c->text.hidden);
	int vocab = c->text.vocab;
	return read_token(s, "image_token_id", vocab, &c->image_token, err) &&
	       read_token(s, "vision_start_token_id", vocab, &c->vision_start_token, err) &&
	       read_token(s, "vision_end_token_id", vocab, &c->vision_end_token, err) &&
	       read_token(s, "eos_token_id", vocab, &c->end_of_turn_token, err);
}

bool model_config_load(struct model_config *config, const char *folder, error *err)
{
	char path[PATH_BYTES];
	struct source s = { .doc = { 0 } };
	*config = (struct model_config){ 0 };
	if (!join_path(path, sizeof path, folder, "config.json", err) ||
	    !json_load(&s.doc, path, MAX_CONFIG_BYTES, err))
		return false;
	bool ok = read_config(&s, config, err);
	json_free(&s.doc);
	return ok;
}
