/* Scoring as the golden searches did; see reference_scores.h. */
#include "tests/support/reference_scores.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/divergence.h"
#include "kernels/matmul.h"
#include "lib/data/tokenizer.h"
#include "lib/model/replay.h"
#include "lib/quant/taps.h"
#include "tests/support/golden.h"

#include <cmocka.h>

enum { RESIDENT_BYTES = 1 << 30 };

static void must(bool ok, const error *err)
{
	if (!ok)
		fail_msg("%s", err->text);
}

static void build_sample(struct reference *r, const struct tokenizer *tokenizer,
                         const char *folder, const cJSON *item, enum prompt_form form,
                         struct sample *out)
{
	struct patches patches = { 0 };
	const cJSON *file = cJSON_GetObjectItem(item, "file");
	error err;
	if (cJSON_IsString(file))
		golden_patches(&patches, folder, file->valuestring, &r->config.vision);
	must(sample_build(out, tokenizer, &r->config, form,
	                  cJSON_GetObjectItem(item, "caption")->valuestring,
	                  patches.values ? &patches : NULL, 0, &err), &err);
	assert_int_equal(out->tokens, cJSON_GetObjectItem(item, "tokens")->valuedouble);
}

static void build_samples(struct reference *r, const char *folder)
{
	const cJSON *list = cJSON_GetObjectItem(r->doc.root, "samples");
	const char *labels = cJSON_GetObjectItem(r->doc.root, "labels")->valuestring;
	enum prompt_form form = strcmp(labels, "answer") == 0 ? PROMPT_ANSWER
	                                                      : PROMPT_USER_TURN;
	error err;
	struct tokenizer *tokenizer = tokenizer_load(DEMO_MODEL, &err);
	must(tokenizer != NULL, &err);
	r->samples = calloc((size_t)cJSON_GetArraySize(list), sizeof *r->samples);
	assert_non_null(r->samples);
	for (const cJSON *item = list->child; item; item = item->next)
		build_sample(r, tokenizer, folder, item, form, &r->samples[r->sample_count++]);
	tokenizer_free(tokenizer);
}

static void calibrate(struct reference *r)
{
	double *amax = calloc((size_t)r->linear_count, sizeof *amax);
	struct amax_watch watch = { .model = &r->model, .amax = amax };
	struct tap tap = amax_tap(&watch);
	struct outcome outcome;
	error err;
	r->input_amax = calloc((size_t)r->linear_count, sizeof *r->input_amax);
	assert_true(amax && r->input_amax);
	for (int i = 0; i < r->sample_count; i++)
		must(model_forward(&r->model, r->space, &r->samples[i], 0, &tap, &outcome, &err),
		     &err);
	for (int i = 0; i < r->linear_count; i++)
		r->input_amax[i] = (float)amax[i];
	free(amax);
}

void reference_open(struct reference *r, const char *folder, const char *name)
{
	error err;
	*r = (struct reference){ 0 };
	matmul_threads(1);
	golden_load(&r->doc, folder, name);
	must(model_config_load(&r->config, DEMO_MODEL, &err) &&
	     checkpoint_open(&r->ckpt, DEMO_MODEL, &err) &&
	     model_open(&r->model, &r->ckpt, &r->config, RESIDENT_BYTES, &err) &&
	     list_linears(&r->config, &r->memory, &r->linears, &r->linear_count, &err) &&
	     make_groups(r->linears, r->linear_count, NULL, 0, &r->memory, &r->groups, &err) &&
	     (r->space = workspace_new(&err)), &err);
	build_samples(r, folder);
	calibrate(r);
}

void reference_close(struct reference *r)
{
	for (int i = 0; i < r->sample_count; i++)
		sample_free(&r->samples[i]);
	free(r->samples);
	free(r->input_amax);
	workspace_free(r->space);
	model_close(&r->model);
	checkpoint_close(&r->ckpt);
	arena_free(&r->memory);
	json_free(&r->doc);
}

double reference_score(const struct reference *r, const struct group *group, int format)
{
	const cJSON *stats = cJSON_GetObjectItem(r->doc.root, "candidate_stats");
	for (const cJSON *entry = stats->child; entry; entry = entry->next) {
		char name[NAME_BYTES];
		name_from_any(entry->string, name);
		const cJSON *scores = cJSON_GetObjectItem(entry, "scores");
		if (strcmp(name, group->name) == 0)
			return cJSON_GetArraySize(scores) < 2
			       ? -1 : cJSON_GetArrayItem(scores, format)->valuedouble;
	}
	fail_msg("the golden file lacks %s", group->name);
	return -1;
}

static void quantise(struct reference *r, const struct format *format,
                     struct quantised_model *q, double *scores)
{
	bool *keeps = calloc((size_t)r->groups.count, sizeof *keeps);
	error err;
	assert_non_null(keeps);
	for (int g = 0; g < r->groups.count; g++) {
		keeps[g] = reference_score(r, &r->groups.groups[g], 0) >= 0;
		scores[g] = keeps[g] ? 0 : -1;
	}
	must(quantise_model(q, &r->model, &r->groups, keeps, format, NUMERICS_MODELOPT, false,
	                    r->input_amax, NULL, RESIDENT_BYTES, &err), &err);
	free(keeps);
}

void score_gradient(struct reference *r, const struct format *format, double *scores)
{
	struct quantised_model q;
	struct outcome outcome;
	error err;
	double *values = calloc((size_t)r->linear_count, sizeof *values);
	quantise(r, format, &q, scores);
	struct perturbation *p = perturbation_new(&q, &err);
	assert_true(values && p);
	struct tap tap = perturbation_tap(p, values);
	for (int i = 0; i < r->sample_count; i++)
		must(model_gradient(&r->model, r->space, &r->samples[i], &tap, &outcome, &err),
		     &err);
	for (int g = 0; g < r->groups.count; g++)
		for (int m = 0; scores[g] >= 0 && m < r->groups.groups[g].member_count; m++)
			scores[g] += values[r->groups.groups[g].members[m]];
	perturbation_free(p);
	quantised_free(&q);
	free(values);
}

void score_divergence(struct reference *r, const struct format *format, double *scores)
{
	struct quantised_model q;
	error err;
	quantise(r, format, &q, scores);
	struct served *served = served_new(&q, &err);
	assert_non_null(served);
	struct tap tap = served_tap(served);
	for (int i = 0; i < r->sample_count; i++) {
		struct replay *replay = replay_new(&r->model, r->space, &r->samples[i], &tap,
		                                   &err);
		must(replay != NULL, &err);
		for (int g = 0; g < r->groups.count; g++) {
			const struct group *group = &r->groups.groups[g];
			if (scores[g] < 0)
				continue;
			served_limit(served, group->members[0], group->member_count);
			const float *logits = replay_from(replay, group->members[0], &err);
			must(logits != NULL, &err);
			scores[g] += divergence(replay_plain_logits(replay), logits,
			                        r->samples[i].tokens, r->config.text.vocab);
		}
		replay_free(replay);
	}
	served_free(served);
	quantised_free(&q);
}

static int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

/* How many of x[n] lie below x[i]; scores are all different. */
static int rank_of(const double *x, int n, int i)
{
	int rank = 0;
	for (int k = 0; k < n; k++)
		rank += x[k] < x[i];
	return rank;
}

struct agreement compare_scores(const struct reference *r, int format,
                                const double *scores)
{
	double found[256], golden[256], relative[256], squares = 0;
	int n = 0;
	for (int g = 0; g < r->groups.count; g++) {
		double expected = reference_score(r, &r->groups.groups[g], format);
		if (expected < 0)
			continue;
		assert_true(n < 256);
		found[n] = scores[g];
		golden[n] = expected;
		relative[n] = fabs(scores[g] - expected) / expected;
		n++;
	}
	for (int i = 0; i < n; i++) {
		double apart = rank_of(found, n, i) - rank_of(golden, n, i);
		squares += apart * apart;
	}
	qsort(relative, (size_t)n, sizeof *relative, compare_doubles);
	return (struct agreement){ n ? relative[n / 2] : 0,
		1 - 6 * squares / ((double)n * ((double)n * n - 1)), n };
}
