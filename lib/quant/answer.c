/* See answer.h. */
#include "lib/quant/answer.h"

#include <unistd.h>

#include "kernels/matmul.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/quant/taps.h"

enum { MOST_STOPS = 16, MAX_CONFIG_BYTES = 1 << 20 };

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

static bool make_prompt(const struct question *q, const char *folder,
                        const struct model_config *config, const struct tokenizer *t,
                        struct sample *out, error *err)
{
	struct image_processor processor;
	struct patches patches;
	if (!q->image)
		return sample_build(out, t, config, PROMPT_TEXT, q->prompt, NULL, 0, err);
	return image_processor_load(&processor, folder, err) &&
	       load_patches(q->image, &processor, &config->vision, q->max_pixels, &patches,
	                    err) &&
	       sample_build(out, t, config, PROMPT_ASK, q->prompt, &patches, 0, err);
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

bool speaker_open(struct speaker *s, const char *folder, error *err)
{
	*s = (struct speaker){ .folder = folder };
	if (!served_model_open(&s->served, folder, err))
		return false;
	matmul_threads(count_threads(&s->served.model));
	s->tokenizer = tokenizer_load(folder, err);
	if (!s->tokenizer)
		served_model_close(&s->served);
	return s->tokenizer != NULL;
}

void speaker_close(struct speaker *s)
{
	tokenizer_free(s->tokenizer);
	served_model_close(&s->served);
}

static bool generate(struct speaker *s, const struct question *q, const struct sample *prompt,
                     struct token_list *ids, error *err)
{
	struct generation_wishes wishes;
	if (!read_wishes(s->folder, &s->served.config, &wishes, err))
		return false;
	struct workspace *w = workspace_new(err);
	struct served *served = w ? served_new(&s->served.quantised, err) : NULL;
	bool ok = served != NULL;
	if (ok) {
		struct tap tap = served_tap(served);
		const struct generation how = { .max_new = q->max_new, .stop = wishes.stops,
			.stop_count = wishes.stop_count,
			.repetition_penalty = (float)wishes.repetition_penalty };
		ok = model_generate(&s->served.model, w, prompt, &how, &tap, ids, err);
	}
	served_free(served);
	workspace_free(w);
	return ok;
}

bool speaker_answer(struct speaker *s, const struct question *q, struct token_list *ids,
                    text *out, error *err)
{
	struct sample prompt;
	if (!make_prompt(q, s->folder, &s->served.config, s->tokenizer, &prompt, err))
		return false;
	bool ok = generate(s, q, &prompt, ids, err) &&
	          tokenizer_decode(s->tokenizer, ids->ids, ids->count, true, out, err) &&
	          text_ok(out, err);
	sample_free(&prompt);
	return ok;
}
