/* score: the sensitivity of every group, by one of two methods.
 *
 * gradient: for each linear m in the format, the sum over samples, tokens and outputs
 * of (g * d)^2, g = dLoss/dY_m, d = Y_m with m's input and weight quantised, minus
 * Y_m. A group's score is the sum over its members; rank adds them up.
 * kl_div: for each group alone in the format, the sum over samples and tokens of the
 * Kullback-Leibler divergence of the model's predictions from the unquantised ones.
 * Both as in modelopt/torch/quantization/algorithms.py. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/divergence.h"
#include "lib/model/replay.h"
#include "lib/quant/amax_file.h"
#include "lib/quant/block_run.h"
#include "lib/quant/taps.h"
#include "tools/arguments.h"

/* Quantised weights are kept decoded up to this size. */
static const size_t RESIDENT_BYTES = (size_t)4 << 30;

struct scoring {
	struct format_arguments format;
	struct linear_shape *linears;
	int linear_count;
	struct group_list groups;
	struct amax_table amax;
	struct quantised_model quantised;
	enum block_kind kind;
	bool wide_codes;
	bool *scored; /* [linear]; under kl_div: the first member of a group */
	arena memory;
};

/* A linear's score depends on the scales of its group alone, that is on the
 * numerics and the amax; which other groups are scored does not matter to it but
 * decides what the block holds. */
static bool add_key(void *self, struct key *key, error *err)
{
	const struct scoring *s = self;
	(void)err;
	key_add(key, "method", block_kind_name(s->kind));
	key_addf(key, "format", "%s %s", s->format.format->element,
	         s->format.format->granularity);
	key_add(key, "numerics", numerics_name(s->format.numerics));
	key_add(key, "scales", s->format.scale_per_member ? "member" : "group");
	for (int g = 0; g < s->groups.count; g++) {
		for (int m = 0; m < s->groups.groups[g].member_count; m++) {
			int linear = s->groups.groups[g].members[m];
			key_addf(key, "amax", "%s %.9g", s->linears[linear].name,
			         (double)s->amax.amax[linear]);
		}
		fold_key(key, &s->format.folds, s->format.format, s->groups.groups[g].name);
	}
	return true;
}

static bool prepare(void *self, const struct model *model, error *err)
{
	struct scoring *s = self;
	return quantise_model(&s->quantised, model, &s->groups, NULL, s->format.format,
	                      s->format.numerics, !s->format.scale_per_member, s->amax.amax,
	                      &s->format.folds, RESIDENT_BYTES, err);
}

static bool measures(void *self, const struct model *model, int linear)
{
	(void)model;
	return ((const struct scoring *)self)->scored[linear];
}

/* ---- gradient ---- */

static void *begin_gradient(void *self, error *err)
{
	return perturbation_new(&((struct scoring *)self)->quantised, err);
}

static void end_gradient(void *self, void *state)
{
	(void)self;
	perturbation_free(state);
}

static bool measure_gradient(void *self, void *state, const struct model *model,
                             struct workspace *w, const struct sample *s, double *values,
                             double *loss, error *err)
{
	(void)self;
	struct tap tap = perturbation_tap(state, values);
	struct outcome outcome;
	if (!model_gradient(model, w, s, &tap, &outcome, err))
		return false;
	*loss = outcome.loss;
	return true;
}

/* ---- kl_div ---- */

static void *begin_divergence(void *self, error *err)
{
	return served_new(&((struct scoring *)self)->quantised, err);
}

static void end_divergence(void *self, void *state)
{
	(void)self;
	served_free(state);
}

static bool measure_divergence(void *self, void *state, const struct model *model,
                               struct workspace *w, const struct sample *s,
                               double *values, double *loss, error *err)
{
	const struct scoring *scoring = self;
	struct tap tap = served_tap(state);
	struct replay *replay = replay_new(model, w, s, &tap, err);
	bool ok = replay != NULL;
	*loss = 0;
	for (int g = 0; ok && g < scoring->groups.count; g++) {
		const struct group *group = &scoring->groups.groups[g];
		served_limit(state, group->members[0], group->member_count);
		const float *logits = replay_from(replay, group->members[0], err);
		ok = logits != NULL;
		if (ok)
			values[group->members[0]] = divergence(replay_plain_logits(replay), logits,
			                                       s->tokens,
			                                       model->config.text.vocab);
	}
	replay_free(replay);
	return ok;
}

/* ---- the program ---- */

static bool load_scoring(struct scoring *s, const char *model, const char *amax, error *err)
{
	struct model_config config;
	if (!model_config_load(&config, model, err) ||
	    !list_linears(&config, &s->memory, &s->linears, &s->linear_count, err) ||
	    !format_groups(&s->format, s->linears, s->linear_count, &s->memory, &s->groups,
	                   err) ||
	    !format_folds(&s->format, s->linears, s->linear_count, err) ||
	    !amax_read(&s->amax, amax, s->linears, s->linear_count, err))
		return false;
	s->scored = arena_alloc(&s->memory, (size_t)s->linear_count, sizeof *s->scored, err);
	if (!s->scored)
		return false;
	for (int g = 0; g < s->groups.count; g++) {
		const struct group *group = &s->groups.groups[g];
		for (int m = 0; m < group->member_count; m++) {
			int linear = group->members[m];
			s->scored[linear] = m == 0 || s->kind == BLOCK_GRADIENT;
			if (s->amax.amax[linear] < 0)
				return fail(err, EXIT_BAD_INPUT,
				            "%s: expected an amax of %s, found none: it was not "
				            "calibrated", amax, s->linears[linear].name);
		}
	}
	return true;
}

static void free_scoring(struct scoring *s)
{
	quantised_free(&s->quantised);
	amax_free(&s->amax);
	arena_free(&s->memory);
	format_free(&s->format);
}

static bool score(struct scoring *s, const struct data_arguments *a, const char *method,
                  const char *amax, error *err)
{
	int part, parts;
	struct device_choice device;
	if (!score_kind_from_name(method, &s->kind))
		return fail(err, EXIT_USAGE, "--method: expected gradient or kl_div, found \"%s\"",
		            method);
	if (!part_parse(a->part, &part, &parts, err) || !format_check(&s->format, err) ||
	    !load_scoring(s, a->source.model, amax, err) ||
	    !choose_format_device(&s->format.format, 1, &a->device, &device, err))
		return false;
	const struct part_format format = { s->format.name, s->format.element,
	                                    s->format.granularity };
	const struct gpu_scales scales = { .linears = s->linears, .groups = &s->groups,
		.input_amax = s->amax.amax, .numerics = s->format.numerics,
		.shared = !s->format.scale_per_member };
	struct measurement m = { .self = s, .tool = "score", .kind = s->kind,
		.format = &format, .add_key = add_key, .prepare = prepare, .measures = measures,
		.begin_thread = begin_gradient, .end_thread = end_gradient,
		.measure = measure_gradient,
		.gpu = { .work = GPU_SCORE, .scales = &scales, .wide_codes = s->wide_codes } };
	if (s->kind == BLOCK_KL) {
		m.begin_thread = begin_divergence;
		m.end_thread = end_divergence;
		m.measure = measure_divergence;
		m.gpu.work = GPU_COMPARE;
	}
	bool ok = run_blocks(&a->source, &m, &device, a->tree, part, parts, a->out, err);
	if (ok)
		say_device(&device, "score");
	return ok;
}

int main(int argc, char **argv)
{
	struct data_arguments a = { 0 };
	struct scoring s = { 0 };
	const char *amax = NULL, *method = "gradient";
	struct option options[DATA_OPTIONS + FORMAT_OPTIONS + 5] = { 0 };
	const struct command command = {
		.tool = "score",
		.purpose = "Measures how much the model minds each group being quantised.",
		.options = options
	};
	error err;
	data_options(&a, options);
	format_options(&s.format, options + DATA_OPTIONS);
	options[DATA_OPTIONS + FORMAT_OPTIONS] = (struct option){
		"amax", OPTION_TEXT, &amax, "FILE", "amax.json of the calibration", true
	};
	options[DATA_OPTIONS + FORMAT_OPTIONS + 1] = (struct option){
		"method", OPTION_TEXT, &method, "NAME", "gradient or kl_div (default gradient)",
		false
	};
	options[DATA_OPTIONS + FORMAT_OPTIONS + 2] = (struct option){
		"wide-codes", OPTION_FLAG, &s.wide_codes, NULL,
		"a GPU multiplies codes as 16-bit numbers, also where it could in FP8", false
	};
	options[DATA_OPTIONS + FORMAT_OPTIONS + 3] = fold_option(&s.format);
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK && score(&s, &a, method, amax, &err);
	free_scoring(&s);
	return ok ? EXIT_OK : error_report("score", &err);
}
