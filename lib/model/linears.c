/* Spells out the linear layers of Qwen2.5-VL from its configuration; names as
 * in the released files but for language_model (see lib/checkpoint/names.h). */
#include "lib/model/linears.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PER_VISION_BLOCK = 5, PER_TEXT_LAYER = 7, ELSEWHERE = 4 };

struct shape_list {
	struct linear_shape *shapes;
	int count;
};

static void add_linear(struct shape_list *list, int out, int in, bool bias,
                       const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add_linear(struct shape_list *list, int out, int in, bool bias,
                       const char *format, ...)
{
	struct linear_shape *shape = &list->shapes[list->count++];
	va_list args;
	va_start(args, format);
	vsnprintf(shape->name, sizeof shape->name, format, args);
	va_end(args);
	shape->out = out;
	shape->in = in;
	shape->bias = bias;
}

static void add_vision(struct shape_list *list, const struct vision_config *v)
{
	int merged = v->hidden * v->merge * v->merge;
	add_linear(list, v->hidden, v->patch_values, false, "visual.patch_embed.proj");
	for (int i = 0; i < v->depth; i++) {
		add_linear(list, 3 * v->hidden, v->hidden, true, "visual.blocks.%d.attn.qkv", i);
		add_linear(list, v->hidden, v->hidden, true, "visual.blocks.%d.attn.proj", i);
		add_linear(list, v->intermediate, v->hidden, true,
		           "visual.blocks.%d.mlp.gate_proj", i);
		add_linear(list, v->intermediate, v->hidden, true,
		           "visual.blocks.%d.mlp.up_proj", i);
		add_linear(list, v->hidden, v->intermediate, true,
		           "visual.blocks.%d.mlp.down_proj", i);
	}
	add_linear(list, merged, merged, true, "visual.merger.mlp.0");
	add_linear(list, v->out_hidden, merged, true, "visual.merger.mlp.2");
}

static void add_text(struct shape_list *list, const struct text_config *t)
{
	int q = t->heads * t->head_dim, kv = t->kv_heads * t->head_dim;
	for (int i = 0; i < t->layers; i++) {
		add_linear(list, q, t->hidden, true,
		           "language_model.layers.%d.self_attn.q_proj", i);
		add_linear(list, kv, t->hidden, true,
		           "language_model.layers.%d.self_attn.k_proj", i);
		add_linear(list, kv, t->hidden, true,
		           "language_model.layers.%d.self_attn.v_proj", i);
		add_linear(list, t->hidden, q, false,
		           "language_model.layers.%d.self_attn.o_proj", i);
		add_linear(list, t->intermediate, t->hidden, false,
		           "language_model.layers.%d.mlp.gate_proj", i);
		add_linear(list, t->intermediate, t->hidden, false,
		           "language_model.layers.%d.mlp.up_proj", i);
		add_linear(list, t->hidden, t->intermediate, false,
		           "language_model.layers.%d.mlp.down_proj", i);
	}
	add_linear(list, t->vocab, t->hidden, false, "lm_head");
}

bool list_linears(const struct model_config *config, arena *memory,
                  struct linear_shape **out, int *count, error *err)
{
	size_t total = (size_t)config->vision.depth * PER_VISION_BLOCK +
	               (size_t)config->text.layers * PER_TEXT_LAYER + ELSEWHERE;
	struct shape_list list = {
		.shapes = arena_alloc(memory, total, sizeof(struct linear_shape), err)
	};
	if (!list.shapes)
		return false;
	add_vision(&list, &config->vision);
	add_text(&list, &config->text);
	*out = list.shapes;
	*count = list.count;
	return true;
}

bool norm_of_linear(const char *linear, char norm[NAME_BYTES])
{
	static const struct {
		const char *linear, *norm; /* ends of names */
	} fed[] = {
		{ ".attn.qkv", ".norm1" },
		{ ".self_attn.q_proj", ".input_layernorm" },
		{ ".self_attn.k_proj", ".input_layernorm" },
		{ ".self_attn.v_proj", ".input_layernorm" },
		{ ".mlp.gate_proj", NULL },
		{ ".mlp.up_proj", NULL },
	};
	bool vision = strncmp(linear, "visual.", strlen("visual.")) == 0;
	size_t length = strlen(linear);
	for (size_t i = 0; i < sizeof fed / sizeof fed[0]; i++) {
		size_t tail = strlen(fed[i].linear);
		const char *end = fed[i].norm ? fed[i].norm
		                : vision ? ".norm2" : ".post_attention_layernorm";
		if (length <= tail || strcmp(linear + length - tail, fed[i].linear) != 0)
			continue;
		snprintf(norm, NAME_BYTES, "%.*s%s", (int)(length - tail), linear, end);
		return true;
	}
	return false;
}
