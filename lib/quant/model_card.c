/* The model card; see model_card.h. Nothing is assumed: what the manifest does not
 * say is not in the card. */
#include "lib/quant/model_card.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"

static const char *text_of(const cJSON *object, const char *field, const char *otherwise)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	return cJSON_IsString(item) ? item->valuestring : otherwise;
}

/* The value of "license:" in the front matter of the base's README.md, appended as
 * it stands; nothing where there is none. */
static bool add_licence(text *out, const char *model, error *err)
{
	enum { MAX_README_BYTES = 16 << 20 };
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
		*end = '\0';
	char *line = end ? strstr(readme, "\nlicense:") : NULL;
	if (line)
		text_printf(out, "%.*s\n", (int)strcspn(line + 1, "\n"), line + 1);
	free(readme);
	return true;
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
		"- SGLang: `python -m sglang.launch_server --model-path FOLDER`\n",
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

bool print_model_card(const struct card_facts *f, text *out, error *err)
{
	text_puts(out, "---\n");
	if (!add_licence(out, f->model, err))
		return false;
	text_puts(out, "tags:\n");
	add_tags(out, f->elements);
	text_printf(out, "- quantized\n---\n\n# %s\n\nA mixed %s / BF16 checkpoint: the groups of "
	            "layers that mind quantisation least are in %s, the others as they were.\n\n",
	            f->scheme, f->elements, f->elements);
	add_origin(out, f);
	add_coverage(out, f->coverage, f->elements);
	text_printf(out, "- Profile: %s\n\n## Loading\n\n%s", profile_name(f->profile),
	            f->bilingual ? LOADING[f->profile] : LOADING_OTHERS[f->profile]);
	text_puts(out, "\n`layer-sensitivity/` holds the ranking, the coverage and the digest of "
	          "every file.\n");
	return text_ok(out, err);
}
