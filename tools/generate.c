/* generate: greedy text from a base or an exported checkpoint, so that a person can
 * look at what a scheme does. FP8 linears run as a server runs them. */
#include <stdio.h>
#include <unistd.h>

#include "kernels/matmul.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/options.h"
#include "lib/quant/served_model.h"
#include "lib/quant/taps.h"

enum { MOST_STOPS = 16, MAX_CONFIG_BYTES = 1 << 20 };

struct arguments {
	const char *image, *prompt;
	int64_t max_new, max_pixels;
};

/* What generation_config.json asks for: the tokens that end an answer, beside the end
 * of a turn, and the repetition penalty. */
struct generation_wishes {
	int32_t stops[MOST_STOPS];
	size_t stop_count;
	double repetition_penalty;
};

static void add_stop(struct generation_wishes *w, const cJSON *id)
{
	if (cJSON_IsNumber(id) && w->stop_count < MOST_STOPS)
		w->stops[w->stop_count++] = (int32_t)id->valuedouble;
}

static bool read_wishes(const char *folder, const struct model_config *config,
                        struct generation_wishes *w, error *err)
{
	char path[PATH_BYTES];
	json_doc doc;
	*w = (struct generation_wishes){ .stops = { (int32_t)config->end_of_turn_token },
		.stop_count = 1, .repetition_penalty = 1 };
	if (!join_path(path, sizeof path, folder, "generation_config.json", err))
		return false;
	if (!file_exists(path))
		return true;
	if (!json_load(&doc, path, MAX_CONFIG_BYTES, err))
		return false;
	const cJSON *eos = cJSON_GetObjectItemCaseSensitive(doc.root, "eos_token_id");
	add_stop(w, eos);
	for (const cJSON *id = cJSON_IsArray(eos) ? eos->child : NULL; id; id = id->next)
		add_stop(w, id);
	bool ok = json_number_or(&doc, doc.root, "repetition_penalty", 0.01, 100,
	                         &w->repetition_penalty, err);
	json_free(&doc);
	return ok;
}

static bool make_prompt(const struct arguments *a, const char *folder,
                        const struct model_config *config, const struct tokenizer *t,
                        struct sample *out, error *err)
{
	struct image_processor processor;
	struct patches patches;
	if (!a->image)
		return sample_build(out, t, config, PROMPT_TEXT, a->prompt, NULL, 0, err);
	return image_processor_load(&processor, folder, err) &&
	       load_patches(a->image, &processor, &config->vision, a->max_pixels, &patches,
	                    err) &&
	       sample_build(out, t, config, PROMPT_ASK, a->prompt, &patches, 0, err);
}

static bool print_answer(const struct tokenizer *t, const struct token_list *ids, error *err)
{
	text answer = { 0 };
	bool ok = tokenizer_decode(t, ids->ids, ids->count, true, &answer, err) &&
	          text_ok(&answer, err);
	if (ok)
		printf("%s\n", answer.data ? answer.data : "");
	text_free(&answer);
	return ok;
}

static bool answer(const struct arguments *a, const char *folder, struct served_model *m,
                   const struct tokenizer *t, error *err)
{
	struct sample sample;
	struct token_list ids = { 0 };
	struct generation_wishes wishes;
	if (!read_wishes(folder, &m->config, &wishes, err) ||
	    !make_prompt(a, folder, &m->config, t, &sample, err))
		return false;
	struct workspace *w = workspace_new(err);
	struct served *served = w ? served_new(&m->quantised, err) : NULL;
	bool ok = served != NULL;
	if (ok) {
		struct tap tap = served_tap(served);
		const struct generation how = { .max_new = (int)a->max_new,
			.stop = wishes.stops, .stop_count = wishes.stop_count,
			.repetition_penalty = (float)wishes.repetition_penalty };
		ok = model_generate(&m->model, w, &sample, &how, &tap, &ids, err) &&
		     print_answer(t, &ids, err);
	}
	served_free(served);
	workspace_free(w);
	token_list_free(&ids);
	sample_free(&sample);
	return ok;
}

/* One thread, unless that would try a person's patience: products summed by several
 * threads round differently, and near a tie the text would depend on the machine. */
static int count_threads(const struct model *m)
{
	static const int64_t MANY_WEIGHTS = (int64_t)1 << 28;
	int64_t weights = 0;
	for (int i = 0; i < m->linear_count; i++)
		weights += (int64_t)m->linears[i].out * m->linears[i].in;
	return weights < MANY_WEIGHTS ? 1 : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static bool generate(const struct arguments *a, const char *folder, error *err)
{
	struct served_model m;
	if (!served_model_open(&m, folder, err))
		return false;
	matmul_threads(count_threads(&m.model));
	struct tokenizer *t = tokenizer_load(folder, err);
	bool ok = t && answer(a, folder, &m, t, err);
	if (t)
		tokenizer_free(t);
	served_model_close(&m);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { .prompt = NULL, .max_new = 64 };
	const struct option options[] = {
		{ "image", OPTION_TEXT, &a.image, "FILE", "JPEG or PNG to ask about", false },
		{ "prompt", OPTION_TEXT, &a.prompt, "TEXT",
		  "question about the image (default \"Describe this image.\"), or the beginning "
		  "of a text to go on with", false },
		{ "max-new", OPTION_INTEGER, &a.max_new, "N", "tokens at most (default 64)", false },
		{ "max-pixels", OPTION_INTEGER, &a.max_pixels, "N",
		  "shrink the image to at most N pixels (default 0: the model's own limit)",
		  false },
		{ 0 },
	};
	const struct command command = {
		.tool = "generate",
		.purpose = "Prints what a checkpoint answers, greedily; FP8 layers run as served.",
		.operands = "CHECKPOINT",
		.options = options
	};
	error err;
	struct option_list folders = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &folders, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK;
	if (ok && folders.count != 1)
		ok = fail(&err, EXIT_USAGE, "expected one checkpoint folder, found %d",
		          folders.count);
	if (ok && !a.prompt && !a.image)
		ok = fail(&err, EXIT_USAGE, "expected --prompt, --image or both");
	if (!a.prompt)
		a.prompt = "Describe this image.";
	ok = ok && generate(&a, folders.values[0], &err);
	options_free(&folders);
	return ok ? EXIT_OK : error_report("generate", &err);
}
