/* See random_model.h. */
#include "tests/support/random_model.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/parallel.h"
#include "lib/base/text.h"
#include "lib/checkpoint/safetensors.h"
#include "tests/support/temp_folder.h"

#define DEMO "demo/tiny-qwen2_5-vl"

struct random_model random_model_tiny(void)
{
	return (struct random_model){
		.config = {
			.vision = { .depth = 2, .hidden = 32, .intermediate = 36, .heads = 2,
			            .channels = 3, .patch = 14, .temporal_patch = 2, .merge = 2,
			            .window = 112, .full_attention = { false, true } },
			.text = { .layers = 2, .hidden = 32, .intermediate = 48, .heads = 2,
			          .kv_heads = 1, .vocab = 4224, .rms_eps = 1e-6f,
			          .rope_theta = 1e6, .tied_head = true },
			.image_token = 4108, .vision_start_token = 4105,
			.vision_end_token = 4106, .end_of_turn_token = 4098,
		},
		.seed = 1,
		.shards = 1,
	};
}

static void derive(struct model_config *c)
{
	struct vision_config *v = &c->vision;
	struct text_config *t = &c->text;
	v->head_dim = v->hidden / v->heads;
	v->patch_values = v->channels * v->temporal_patch * v->patch * v->patch;
	v->out_hidden = t->hidden;
	t->head_dim = t->hidden / t->heads;
	int *section = t->mrope_section;
	if (!section[0] && !section[1] && !section[2]) {
		section[1] = section[2] = t->head_dim / 2 * 3 / 8;
		section[0] = t->head_dim / 2 - 2 * section[1];
	}
}

/* ---- The list of tensors ---- */

enum kind { LINEAR, BIAS, NORM };

struct part {
	struct tensor tensor;
	enum kind kind;
};

struct list {
	struct part *parts;
	size_t count, capacity;
	arena memory;
	bool failed; /* *err is filled */
	error *err;
};

/* A tensor named by format; dimensions behind the rank-th are not used. */
static void __attribute__((format(printf, 5, 6)))
add(struct list *l, enum kind kind, int rank, const int64_t *shape, const char *format, ...)
{
	char name[128];
	va_list args;
	va_start(args, format);
	vsnprintf(name, sizeof name, format, args);
	va_end(args);
	if (l->count == l->capacity) {
		size_t capacity = l->capacity ? l->capacity * 2 : 256;
		struct part *parts = realloc(l->parts, capacity * sizeof *parts);
		if (!parts) {
			l->failed = !fail_memory(l->err, name, capacity * sizeof *parts);
			return;
		}
		l->parts = parts;
		l->capacity = capacity;
	}
	struct tensor t = { .dtype = DTYPE_BF16, .rank = rank, .elements = 1 };
	for (int i = 0; i < rank; i++) {
		t.shape[i] = shape[i];
		t.elements *= shape[i];
	}
	t.bytes = (size_t)t.elements * dtype_bytes(t.dtype);
	t.name = arena_text(&l->memory, name, strlen(name), l->err);
	l->failed = l->failed || !t.name;
	l->parts[l->count++] = (struct part){ t, kind };
}

static void add_linear(struct list *l, bool bias, int out, int in, const char *prefix,
                       const char *name)
{
	add(l, LINEAR, 2, (int64_t[]){ out, in }, "%s%s.weight", prefix, name);
	if (bias)
		add(l, BIAS, 1, (int64_t[]){ out }, "%s%s.bias", prefix, name);
}

static void add_norm(struct list *l, int width, const char *prefix, const char *name)
{
	add(l, NORM, 1, (int64_t[]){ width }, "%s%s.weight", prefix, name);
}

static void list_vision(struct list *l, const struct vision_config *v)
{
	int merged = v->hidden * v->merge * v->merge;
	char prefix[64];
	add(l, LINEAR, 5,
	    (int64_t[]){ v->hidden, v->channels, v->temporal_patch, v->patch, v->patch },
	    "visual.patch_embed.proj.weight");
	for (int i = 0; i < v->depth; i++) {
		snprintf(prefix, sizeof prefix, "visual.blocks.%d.", i);
		add_norm(l, v->hidden, prefix, "norm1");
		add_norm(l, v->hidden, prefix, "norm2");
		add_linear(l, true, 3 * v->hidden, v->hidden, prefix, "attn.qkv");
		add_linear(l, true, v->hidden, v->hidden, prefix, "attn.proj");
		add_linear(l, true, v->intermediate, v->hidden, prefix, "mlp.gate_proj");
		add_linear(l, true, v->intermediate, v->hidden, prefix, "mlp.up_proj");
		add_linear(l, true, v->hidden, v->intermediate, prefix, "mlp.down_proj");
	}
	add_norm(l, v->hidden, "visual.merger.", "ln_q");
	add_linear(l, true, merged, merged, "visual.merger.", "mlp.0");
	add_linear(l, true, v->out_hidden, merged, "visual.merger.", "mlp.2");
}

static void list_text(struct list *l, const struct text_config *t)
{
	int kv = t->kv_heads * t->head_dim;
	char prefix[64];
	add_linear(l, false, t->vocab, t->hidden, "model.", "embed_tokens");
	for (int i = 0; i < t->layers; i++) {
		snprintf(prefix, sizeof prefix, "model.layers.%d.", i);
		add_norm(l, t->hidden, prefix, "input_layernorm");
		add_norm(l, t->hidden, prefix, "post_attention_layernorm");
		add_linear(l, true, t->hidden, t->hidden, prefix, "self_attn.q_proj");
		add_linear(l, true, kv, t->hidden, prefix, "self_attn.k_proj");
		add_linear(l, true, kv, t->hidden, prefix, "self_attn.v_proj");
		add_linear(l, false, t->hidden, t->hidden, prefix, "self_attn.o_proj");
		add_linear(l, false, t->intermediate, t->hidden, prefix, "mlp.gate_proj");
		add_linear(l, false, t->intermediate, t->hidden, prefix, "mlp.up_proj");
		add_linear(l, false, t->hidden, t->intermediate, prefix, "mlp.down_proj");
	}
	add_norm(l, t->hidden, "model.", "norm");
	if (!t->tied_head)
		add_linear(l, false, t->vocab, t->hidden, "", "lm_head");
}

static int compare_parts(const void *a, const void *b)
{
	return strcmp(((const struct part *)a)->tensor.name,
	              ((const struct part *)b)->tensor.name);
}

/* ---- Values ---- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Near N(0, 1): four uniform 16-bit numbers summed, without libm, so that every
 * machine draws the same. */
static float next_normal(uint64_t *state)
{
	uint64_t bits = next_random(state);
	int sum = 0;
	for (int i = 0; i < 4; i++)
		sum += (int)(bits >> (16 * i) & 0xffff);
	return (float)(sum - 2 * 0xffff) / 37837.0f; /* 65536 / sqrt(3) */
}

static uint16_t to_bf16(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A tensor's values depend on its name and the seed alone, not on the others. */
static uint64_t seed_of(uint64_t seed, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325 ^ seed; /* FNV-1a */
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
	return hash;
}

enum { BLOCK = 1 << 16 };

static bool write_values(int fd, off_t at, const struct part *p, uint64_t seed,
                         uint16_t block[BLOCK])
{
	uint64_t state = seed_of(seed, p->tensor.name);
	int64_t in = p->tensor.elements / p->tensor.shape[0];
	float mean = p->kind == NORM ? 1.0f : 0.0f;
	float deviation = p->kind == LINEAR ? 0.8f / sqrtf((float)in) : 0.05f;
	for (int64_t done = 0; done < p->tensor.elements;) {
		int64_t left = p->tensor.elements - done;
		size_t n = left < BLOCK ? (size_t)left : BLOCK;
		for (size_t i = 0; i < n; i++) {
			float offset = deviation * next_normal(&state); /* never fused with + */
			block[i] = to_bf16(mean + offset);
		}
		if (pwrite(fd, block, n * sizeof *block, at) != (ssize_t)(n * sizeof *block))
			return false;
		at += (off_t)(n * sizeof *block);
		done += (int64_t)n;
	}
	return true;
}

/* ---- Files ---- */

/* A shard being written, its tensors by any number of threads. */
struct shard {
	const struct part *parts;
	off_t *offsets; /* of each part in the file */
	uint64_t seed;
	const char *path;
	int fd;
};

static bool write_part(void *self, int thread, int index, error *err)
{
	const struct shard *s = self;
	uint16_t *block = malloc(BLOCK * sizeof *block);
	(void)thread;
	if (!block)
		return fail_memory(err, s->path, BLOCK * sizeof *block);
	bool ok = write_values(s->fd, s->offsets[index], &s->parts[index], s->seed, block) ||
	          fail_errno(err, errno, "%s: cannot write", s->path);
	free(block);
	return ok;
}

static bool write_parts(struct shard *s, size_t count, const text *header, error *err)
{
	off_t at = (off_t)header->length;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	for (size_t i = 0; i < count; i++) {
		s->offsets[i] = at;
		at += (off_t)s->parts[i].tensor.bytes;
	}
	s->fd = open(s->path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (s->fd < 0)
		return fail_errno(err, errno, "%s: cannot open", s->path);
	bool ok = write(s->fd, header->data, header->length) == (ssize_t)header->length ||
	          fail_errno(err, errno, "%s: cannot write", s->path);
	ok = ok && parallel_run(cores < 1 ? 1 : (int)cores, (int)count, s, write_part, err);
	if (close(s->fd) != 0 && ok)
		ok = fail_errno(err, errno, "%s: cannot write", s->path);
	return ok;
}

static bool write_shard(const struct list *l, size_t first, size_t count, uint64_t seed,
                        const char *path, error *err)
{
	text header = { 0 };
	struct tensor *tensors = calloc(count, sizeof *tensors);
	struct shard s = { .parts = l->parts + first, .seed = seed, .path = path,
		.offsets = calloc(count, sizeof *s.offsets) };
	bool ok = (tensors && s.offsets) || fail_memory(err, path, count * sizeof *tensors);
	for (size_t i = 0; ok && i < count; i++)
		tensors[i] = s.parts[i].tensor;
	ok = ok && safetensors_header(tensors, count, &header, err) &&
	     write_parts(&s, count, &header, err);
	free(tensors);
	free(s.offsets);
	text_free(&header);
	return ok;
}

/* How many tensors from `first` on go into shard `shard` of `shards`: about an
 * equal share of the bytes, and at least one for this and every later shard. */
static size_t share_of(const struct list *l, size_t first, int shard, int shards)
{
	size_t left = 0, used = 0, n = 0;
	size_t most = l->count - first - (size_t)(shards - shard - 1);
	for (size_t i = first; i < l->count; i++)
		left += l->parts[i].tensor.bytes;
	while (n < most && (n == 0 || used < left / (size_t)(shards - shard)))
		used += l->parts[first + n++].tensor.bytes;
	return shard == shards - 1 ? most : n;
}

static void shard_name(char *out, size_t size, int shard, int shards)
{
	if (shards == 1)
		snprintf(out, size, "model.safetensors");
	else
		snprintf(out, size, "model-%05d-of-%05d.safetensors", shard + 1, shards);
}

/* The index without its closing braces grows in *index. */
static bool write_shards(const struct random_model *m, const struct list *l,
                         const char *folder, text *index, error *err)
{
	char name[64], path[PATH_BYTES];
	size_t first = 0, bytes = 0;
	for (size_t i = 0; i < l->count; i++)
		bytes += l->parts[i].tensor.bytes;
	text_printf(index, "{\n  \"metadata\": {\n    \"total_size\": %zu\n  },\n", bytes);
	text_puts(index, "  \"weight_map\": {");
	for (int shard = 0; shard < m->shards; shard++) {
		size_t count = share_of(l, first, shard, m->shards);
		shard_name(name, sizeof name, shard, m->shards);
		if (!join_path(path, sizeof path, folder, name, err) ||
		    !write_shard(l, first, count, m->seed, path, err))
			return false;
		for (size_t i = first; i < first + count; i++)
			text_printf(index, "%s\n    \"%s\": \"%s\"", i ? "," : "",
			            l->parts[i].tensor.name, name);
		first += count;
	}
	text_puts(index, "\n  }\n}\n");
	return text_ok(index, err);
}

static bool write_weights(const struct random_model *m, const char *folder, error *err)
{
	struct list l = { .err = err };
	text index = { 0 };
	list_vision(&l, &m->config.vision);
	list_text(&l, &m->config.text);
	bool ok = !l.failed;
	if (ok && (m->shards < 1 || (size_t)m->shards > l.count))
		ok = fail(err, EXIT_INTERNAL, "%d shards for %zu tensors", m->shards, l.count);
	if (ok) {
		qsort(l.parts, l.count, sizeof *l.parts, compare_parts);
		ok = write_shards(m, &l, folder, &index, err);
	}
	if (ok && m->shards > 1)
		ok = temp_folder_write(folder, "model.safetensors.index.json", index.data,
		                       index.length, err);
	text_free(&index);
	arena_free(&l.memory);
	free(l.parts);
	return ok;
}

static void print_vision(text *out, const struct vision_config *v)
{
	text_printf(out,
	            "  \"vision_config\": {\n    \"depth\": %d,\n    \"hidden_act\": \"silu\",\n"
	            "    \"hidden_size\": %d,\n    \"intermediate_size\": %d,\n"
	            "    \"num_heads\": %d,\n    \"in_chans\": %d,\n"
	            "    \"out_hidden_size\": %d,\n    \"patch_size\": %d,\n"
	            "    \"spatial_merge_size\": %d,\n    \"spatial_patch_size\": %d,\n"
	            "    \"window_size\": %d,\n    \"temporal_patch_size\": %d,\n"
	            "    \"tokens_per_second\": 2,\n    \"fullatt_block_indexes\": [",
	            v->depth, v->hidden, v->intermediate, v->heads, v->channels, v->out_hidden,
	            v->patch, v->merge, v->patch, v->window, v->temporal_patch);
	bool first = true;
	for (int i = 0; i < v->depth; i++)
		if (v->full_attention[i]) {
			text_printf(out, "%s%d", first ? "" : ", ", i);
			first = false;
		}
	text_puts(out, "]\n  }\n");
}

static bool write_config(const struct model_config *c, const char *folder, error *err)
{
	const struct text_config *t = &c->text;
	char theta[JSON_NUMBER_TEXT], eps[JSON_NUMBER_TEXT];
	text out = { 0 };
	json_format_number(t->rope_theta, theta);
	json_format_number(t->rms_eps, eps);
	text_printf(&out,
	            "{\n  \"architectures\": [\"Qwen2_5_VLForConditionalGeneration\"],\n"
	            "  \"model_type\": \"qwen2_5_vl\",\n  \"torch_dtype\": \"bfloat16\",\n"
	            "  \"eos_token_id\": %lld,\n  \"image_token_id\": %lld,\n"
	            "  \"vision_start_token_id\": %lld,\n  \"vision_end_token_id\": %lld,\n",
	            (long long)c->end_of_turn_token, (long long)c->image_token,
	            (long long)c->vision_start_token, (long long)c->vision_end_token);
	text_printf(&out,
	            "  \"hidden_act\": \"silu\",\n  \"hidden_size\": %d,\n"
	            "  \"intermediate_size\": %d,\n  \"num_hidden_layers\": %d,\n"
	            "  \"num_attention_heads\": %d,\n  \"num_key_value_heads\": %d,\n"
	            "  \"rms_norm_eps\": %s,\n  \"rope_theta\": %s,\n"
	            "  \"tie_word_embeddings\": %s,\n  \"use_sliding_window\": false,\n"
	            "  \"vocab_size\": %d,\n",
	            t->hidden, t->intermediate, t->layers, t->heads, t->kv_heads, eps, theta,
	            t->tied_head ? "true" : "false", t->vocab);
	text_printf(&out,
	            "  \"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": "
	            "[%d, %d, %d]},\n",
	            t->mrope_section[0], t->mrope_section[1], t->mrope_section[2]);
	print_vision(&out, &c->vision);
	text_puts(&out, "}\n");
	bool ok = text_ok(&out, err) &&
	          temp_folder_write(folder, "config.json", out.data, out.length, err);
	text_free(&out);
	return ok;
}

static bool copy_demo_file(const char *name, const char *folder, error *err)
{
	char path[PATH_BYTES], *data;
	size_t size;
	if (!join_path(path, sizeof path, DEMO, name, err) ||
	    !read_file(path, 1 << 24, &data, &size, err))
		return false;
	bool ok = temp_folder_write(folder, name, data, size, err);
	free(data);
	return ok;
}

static bool write_preprocessor(const struct vision_config *v, const char *folder,
                               error *err)
{
	json_doc doc;
	text out = { 0 };
	if (!json_load(&doc, DEMO "/preprocessor_config.json", 1 << 20, err))
		return false;
	struct { const char *field; int value; } sizes[] = {
		{ "patch_size", v->patch },
		{ "temporal_patch_size", v->temporal_patch },
		{ "merge_size", v->merge },
	};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(doc.root, sizes[i].field),
		                     sizes[i].value);
	bool ok = json_print(doc.root, &out, err) &&
	          temp_folder_write(folder, "preprocessor_config.json", out.data, out.length,
	                            err);
	text_free(&out);
	json_free(&doc);
	return ok;
}

bool random_model_write(struct random_model *m, const char *folder, error *err)
{
	static const char *const copied[] = {
		"tokenizer.json", "tokenizer_config.json",  "vocab.json",
		"merges.txt",     "generation_config.json", "chat_template.json",
	};
	derive(&m->config);
	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
		if (!copy_demo_file(copied[i], folder, err))
			return false;
	return write_preprocessor(&m->config.vision, folder, err) &&
	       write_config(&m->config, folder, err) && write_weights(m, folder, err);
}
