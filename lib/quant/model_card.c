/* The model card; see model_card.h. Nothing is assumed: what the manifest does not
 * say is not in the card. */
#include "lib/quant/model_card.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/artifact/card.h"
#include "lib/base/file.h"
#include "lib/checkpoint/model_files.h"
#include "lib/quant/checkpoint_draft.h"

static const char *text_of(const cJSON *object, const char *field, const char *otherwise)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	return cJSON_IsString(item) ? item->valuestring : otherwise;
}

/* The lines of the front matter of the base's README.md that say under what licence it
 * is, appended as they stand; nothing where there are none. */
static bool add_licence(text *out, const char *model, error *err)
{
	enum { MAX_README_BYTES = 16 << 20 };
	static const char *const fields[] = { "license:", "license_name:", "license_link:" };
	char path[PATH_BYTES], *readme;
	size_t size;
	if (!join_path(path, sizeof path, model, "README.md", err))
		return false;
	if (!file_exists(path))
		return true;
	if (!read_file(path, MAX_README_BYTES, &readme, &size, err))
		return false;
	char *end = strncmp(readme, "---\n", 4) == 0 ? strstr(readme + 4, "\n---") : NULL;
	if (end)
		end[1] = '\0';
	for (char *line = end ? readme : NULL; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
			if (strncmp(line, fields[i], strlen(fields[i])) == 0)
				text_printf(out, "%.*s\n", (int)strcspn(line, "\n"), line);
		if (!*line)
			break;
	}
	free(readme);
	return true;
}

/* Licence files of the base lie beside the card. */
static bool add_licence_files(text *out, const char *model, int *count, error *err)
{
	arena memory = { 0 };
	struct file_names names;
	bool ok = list_model_files(model, FILES_TEXTS, &memory, &names, err);
	*count = 0;
	for (int i = 0; ok && i < names.count; i++)
		if (strncasecmp(names.names[i], "licen", 5) == 0)
			text_printf(out, "%s%s", (*count)++ ? ", " : "", names.names[i]);
	arena_free(&memory);
	return ok;
}

/* The same for a person; `front` is what add_licence gave. */
static bool add_licence_line(text *out, const char *model, const text *front, error *err)
{
	int files;
	text names = { 0 };
	bool ok = add_licence_files(&names, model, &files, err);
	text_puts(out, "- Licence: ");
	for (size_t i = 0; i + 1 < front->length; i++)
		if (front->data[i] == '\n')
			text_puts(out, ", ");
		else
			text_add(out, front->data + i, 1);
	if (front->length)
		text_puts(out, " (copied from the base model's card)");
	if (files)
		text_printf(out, "%sthe base model's %s, beside this file",
		            front->length ? "; " : "", names.data);
	if (!front->length && !files)
		text_puts(out, "the base model's folder names none");
	text_puts(out, "\n");
	text_free(&names);
	return ok;
}

static void add_origin(text *out, const struct card_facts *f)
{
	const cJSON *root = f->baseline->doc.root;
	const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
	const cJSON *data = cJSON_GetObjectItemCaseSensitive(root, "calibration");
	bool model_stands_in = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(model, "stand_in"));
	bool data_stands_in = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(data, "stand_in"));
	text_printf(out, "- Base model: %s%s\n", text_of(model, "name", "(not recorded)"),
	            model_stands_in ? " (a stand-in, not the model that the scheme names "
	                              "speak of)" : "");
	text_printf(out, "- Calibrated and scored on: %s%s\n",
	            text_of(data, "data", "(not recorded)"),
	            data_stands_in ? " (a stand-in for COCO 2017)" : "");
	text_printf(out, "- Baseline: %s\n", f->baseline->name);
}

static void add_coverage(text *out, const struct coverage *c, const char *elements)
{
	text_printf(out, "- Groups in %s: %d of %d", elements, c->selected, c->total);
	if (c->asked != c->selected)
		text_printf(out, " (%d asked; the others cannot be exported)", c->asked);
	text_printf(out, "\n- Effective bits of the searched weights: %.3f (asked %.3f)\n",
	            c->delivered_bits, c->asked_bits);
	if (c->kv_cache.name)
		text_puts(out, "- Key/value cache: FP8 (E4M3), one static scale for the keys and one "
		          "for the values of each layer. vLLM uses it unless told otherwise "
		          "(`--kv-cache-dtype`), transformers with compressed-tensors 0.20 or later "
		          "(earlier ones do not load it). SGLang 0.5.23 leaves the cache of the "
		          "universal profile as it is, and does not load the modelopt profile.\n");
}

#define BF16_LOADING \
	"The dequantised twin: a model like the base, whose weights are the numbers that " \
	"come back of the codes, rounded to BF16. Activations are not quantised, so it " \
	"shows the error of the weights alone. Whatever loads the base model loads it:\n\n" \
	"- transformers: `Qwen2_5_VLForConditionalGeneration.from_pretrained(FOLDER)`\n" \
	"- vLLM: `vllm serve FOLDER`\n" \
	"- SGLang: `python -m sglang.launch_server --model-path FOLDER`\n" \
	"- TensorRT-LLM: `trtllm-serve FOLDER`\n"

/* What the profile is, and how each program loads it. */
static const char *const LOADING[PROFILE_COUNT] = {
	[PROFILE_UNIVERSAL] =
		"config.json describes the layers in compressed-tensors' form, "
		"hf_quant_config.json in ModelOpt's.\n\n"
		"- transformers (with the compressed-tensors package): "
		"`Qwen2_5_VLForConditionalGeneration.from_pretrained(FOLDER)`; it computes in BF16\n"
		"- vLLM: `vllm serve FOLDER`\n"
		"- SGLang: `python -m sglang.launch_server --model-path FOLDER`\n"
		"- TensorRT-LLM: `trtllm-serve FOLDER` reads hf_quant_config.json; its Qwen2.5-VL "
		"keeps the vision tower in BF16.\n",
	[PROFILE_MODELOPT] =
		"Both configurations are in ModelOpt's form, scales in F32.\n\n"
		"- vLLM: `vllm serve FOLDER --quantization modelopt`\n"
		"- SGLang: `python -m sglang.launch_server --model-path FOLDER --quantization "
		"modelopt_fp8`\n"
		"- TensorRT-LLM: `trtllm-serve FOLDER` reads hf_quant_config.json; its Qwen2.5-VL "
		"keeps the vision tower in BF16.\n"
		"- transformers does not read this form; use the universal or the bf16 profile.\n",
	[PROFILE_BF16] = BF16_LOADING,
};

/* The same where the two languages mean other tensors. */
static const char *const LOADING_OTHERS[PROFILE_COUNT] = {
	[PROFILE_UNIVERSAL] =
		"config.json describes the layers in compressed-tensors' form.\n\n"
		"- transformers (with the compressed-tensors package): "
		"`Qwen2_5_VLForConditionalGeneration.from_pretrained(FOLDER)`; it computes in BF16\n"
		"- vLLM: `vllm serve FOLDER`\n"
		"- SGLang: `python -m sglang.launch_server --model-path FOLDER`; 0.5.23 does not load "
		"layers in INT8\n",
	[PROFILE_MODELOPT] =
		"Both configurations are in ModelOpt's form, tensors and scales as its exporter "
		"writes them. Which formats each reader knows by that form differs: TensorRT-LLM "
		"all of them, vLLM FP8 and NVFP4, also mixed, SGLang one of FP8 and NVFP4; none "
		"but TensorRT-LLM INT8 and INT4.\n\n"
		"- vLLM: `vllm serve FOLDER`\n"
		"- TensorRT-LLM: `trtllm-serve FOLDER`; its Qwen2.5-VL keeps the vision tower in "
		"BF16.\n",
	[PROFILE_BF16] = BF16_LOADING,
};

/* "FP8 and NVFP4" as tags: "- fp8", "- nvfp4". */
static void add_tags(text *out, const char *elements)
{
	const char *word = elements;
	while (*word) {
		size_t length = strcspn(word, ", ");
		if (length && strncmp(word, "and", length) != 0) {
			text_puts(out, "- ");
			for (size_t i = 0; i < length; i++)
				text_add(out, &(char){ (char)tolower((unsigned char)word[i]) }, 1);
			text_puts(out, "\n");
		}
		word += length + (word[length] != '\0');
	}
}

/* ---- damage ---- */

static const cJSON *item_of(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void add_number(text *out, const char *format, const cJSON *item)
{
	if (cJSON_IsNumber(item))
		text_printf(out, format, item->valuedouble);
	else
		text_puts(out, "missing");
}

static void add_estimate(text *out, const char *format, const cJSON *item)
{
	const cJSON *error = item_of(item, "standard_error");
	add_number(out, format, item_of(item, "mean"));
	if (cJSON_IsNumber(error))
		text_printf(out, " ± %.0e", error->valuedouble);
}

static void add_damage_row(text *out, const cJSON *set, const cJSON *scheme)
{
	text_printf(out, "| %s: %s%s | ", text_of(set, "set", "?"), text_of(set, "data", "?"),
	            cJSON_IsTrue(item_of(set, "stand_in")) ? " (a stand-in)" : "");
	add_number(out, "%.0f | ", item_of(set, "samples"));
	add_number(out, "%.4f | ", item_of(set, "base_perplexity"));
	add_number(out, "%.4f | ", item_of(scheme, "perplexity"));
	add_estimate(out, "%+.2e", item_of(scheme, "loss_change"));
	text_puts(out, " | ");
	add_estimate(out, "%.2e", item_of(scheme, "kl"));
	text_puts(out, " | ");
	add_estimate(out, "%.4f", item_of(scheme, "top1_agreement"));
	text_puts(out, " |\n");
}

static const char DAMAGE[] = "\n## Damage\n\n", FILES[] = "\n## Files\n\n";

static void add_damage(text *out, const char *scheme, const json_doc *damage, int count)
{
	text_puts(out, DAMAGE);
	if (!count) {
		text_puts(out, "Missing: not measured (`ninja cards` measures schemes of published "
		          "baselines and completes their cards).\n");
		return;
	}
	text_puts(out, "Against the base model as it is, weights and inputs quantised as a "
	          "server does it (the bf16 profile rounds no inputs: its own is less); ± is one "
	          "standard error.\n\n| measured on | samples | perplexity before | after | loss "
	          "change per token | KL per token | same first choice |\n|---|---:|---:|---:|---:|"
	          "---:|---:|\n");
	for (int i = 0; i < count; i++)
		add_damage_row(out, damage[i].root,
		               item_of(item_of(damage[i].root, "schemes"), scheme));
}

bool complete_card(const char *path, const char *scheme, const json_doc *damage, int count,
                   text *out, error *err)
{
	text card = { 0 };
	if (!card_read(path, &card, err))
		return false;
	const char *from = card.data ? strstr(card.data, DAMAGE) : NULL;
	const char *to = from ? strstr(from, FILES) : NULL;
	bool ok = to != NULL || fail(err, EXIT_BAD_INPUT, "%s: expected a section on damage "
	                             "before one on files", path);
	if (ok) {
		text_add(out, card.data, (size_t)(from - card.data));
		add_damage(out, scheme, damage, count);
		text_puts(out, to);
		ok = card_seal(out, err);
	}
	text_free(&card);
	return ok;
}

bool print_model_card(const struct card_facts *f, text *out, error *err)
{
	text licence = { 0 };
	bool ok = add_licence(&licence, f->model, err);
	text_printf(out, "---\n%stags:\n", licence.data ? licence.data : "");
	add_tags(out, f->elements);
	text_printf(out, "- quantized\n---\n\n# %s\n\nA mixed %s / BF16 checkpoint: the groups of "
	            "layers that mind quantisation least are in %s, the others as they were.\n\n",
	            f->scheme, f->elements, f->elements);
	add_origin(out, f);
	ok = ok && add_licence_line(out, f->model, &licence, err);
	add_coverage(out, f->coverage, f->elements);
	text_printf(out, "- Profile: %s\n\n## Loading\n\n%s", profile_name(f->profile),
	            f->bilingual ? LOADING[f->profile] : LOADING_OTHERS[f->profile]);
	add_damage(out, f->scheme, NULL, 0);
	text_puts(out, FILES);
	if (f->folded)
		text_puts(out, "Norms before quantised groups are not the base's: they have the "
		          "groups' channel scales (AWQ) folded in, and belong to these weights "
		          "alone.\n\n");
	text_printf(out, "`layer-sensitivity/` holds the ranking, the coverage and the digest of "
	            "every file. SHA-256 of `layer-sensitivity/%s" FILES_SUFFIX "`: `%s`\n",
	            f->file_name, f->list->hex);
	text_free(&licence);
	return ok && card_seal(out, err);
}
