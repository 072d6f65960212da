/* score: the gradient sensitivity of every group's members.
 *
 * For each linear m in the format: the sum over samples, tokens and outputs of
 * (g * d)^2, g = dLoss/dY_m, d = Y_m with m's input and weight quantised, minus
 * Y_m (modelopt/torch/quantization/algorithms.py, method "gradient"). A group's
 * score is the sum over its members; rank adds them up. */
#include <math.h>
#include <stdlib.h>

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
	bool *scored; /* [linear] */
	arena memory;
};

/* A linear's score depends on the scales of its group alone, that is on the
 * numerics and the amax; which other groups are scored does not matter to it but
 * decides what the block holds. */
static bool add_key(void *self, struct key *key, error *err)
{
	const struct scoring *s = self;
	(void)err;
	key_add(key, "numerics", numerics_name(s->format.numerics));
	key_add(key, "scales", s->format.scale_per_member ? "member" : "group");
	for (int i = 0; i < s->linear_count; i++)
		if (s->scored[i])
			key_addf(key, "amax", "%s %.9g", s->linears[i].name,
			         (double)s->amax.amax[i]);
	return true;
}

static bool prepare(void *self, const struct model *model, error *err)
{
	struct scoring *s = self;
	return quantise_model(&s->quantised, model, &s->groups, NULL, s->format.numerics,
	                      !s->format.scale_per_member, s->amax.amax, RESIDENT_BYTES, err);
}

/* The same scales as quantise_model makes, for the device to make the codes. */
static bool quantisation(void *self, const struct model *model, const float *weight_amax,
                         struct gpu_quantisation *out, error *err)
{
	const struct scoring *s = self;
	(void)model;
	for (int g = 0; g < s->groups.count; g++) {
		const struct group *group = &s->groups.groups[g];
		float shared = 0;
		for (int m = 0; m < group->member_count; m++)
			shared = fmaxf(shared, weight_amax[group->members[m]]);
		for (int m = 0; m < group->member_count; m++) {
			int linear = group->members[m];
			float amax = s->format.scale_per_member ? weight_amax[linear] : shared;
			if (!check_amax(amax, s->linears[linear].name, err))
				return false;
			struct fp8_step weight = fp8_step_for(s->format.numerics, amax);
			struct fp8_step input = fp8_step_for(s->format.numerics, s->amax.amax[linear]);
			out[linear] = (struct gpu_quantisation){ .scored = true,
				.divide = s->format.numerics == NUMERICS_QUERN,
				.weight_encode = weight.encode, .weight_decode = weight.decode,
				.input_encode = input.encode, .input_decode = input.decode };
		}
	}
	return true;
}

static bool measures(void *self, const struct model *model, int linear)
{
	(void)model;
	return ((const struct scoring *)self)->scored[linear];
}

static void *begin_thread(void *self, error *err)
{
	return perturbation_new(&((struct scoring *)self)->quantised, err);
}

static void end_thread(void *self, void *state)
{
	(void)self;
	perturbation_free(state);
}

static bool measure(void *self, void *state, const struct model *model,
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

static bool load_scoring(struct scoring *s, const char *model, const char *amax, error *err)
{
	struct model_config config;
	if (!model_config_load(&config, model, err) ||
	    !list_linears(&config, &s->memory, &s->linears, &s->linear_count, err) ||
	    !make_groups(s->linears, s->linear_count, s->format.exclude.values,
	                 s->format.exclude.count, &s->memory, &s->groups, err) ||
	    !amax_read(&s->amax, amax, s->linears, s->linear_count, err))
		return false;
	s->scored = arena_alloc(&s->memory, (size_t)s->linear_count, sizeof *s->scored, err);
	if (!s->scored)
		return false;
	for (int g = 0; g < s->groups.count; g++) {
		const struct group *group = &s->groups.groups[g];
		for (int m = 0; m < group->member_count; m++) {
			int linear = group->members[m];
			s->scored[linear] = true;
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
	options_free(&s->format.exclude);
}

int main(int argc, char **argv)
{
	struct data_arguments a = { 0 };
	struct scoring s = { 0 };
	const char *amax = NULL;
	struct option options[DATA_OPTIONS + FORMAT_OPTIONS + 2] = { 0 };
	const struct command command = {
		.tool = "score",
		.purpose = "Measures how much the loss minds each linear layer being quantised.",
		.options = options
	};
	error err;
	int part, parts;
	struct device_choice device;
	data_options(&a, options);
	format_options(&s.format, options + DATA_OPTIONS);
	options[DATA_OPTIONS + FORMAT_OPTIONS] = (struct option){
		"amax", OPTION_TEXT, &amax, "FILE", "amax.json of the calibration", true
	};
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	const struct measurement m = { .self = &s, .tool = "score", .kind = BLOCK_GRADIENT,
		.add_key = add_key, .prepare = prepare, .measures = measures,
		.begin_thread = begin_thread, .end_thread = end_thread, .measure = measure,
		.gpu = { .work = GPU_SCORE, .quantisation = quantisation } };
	bool ok = parsed == PARSE_OK && part_parse(a.part, &part, &parts, &err) &&
	          format_check(&s.format, &err) &&
	          load_scoring(&s, a.source.model, amax, &err) &&
	          choose_device(&a.device, &device, &err) &&
	          say_device(&device, "score") &&
	          run_blocks(&a.source, &m, &device, a.tree, part, parts, a.out, &err);
	free_scoring(&s);
	return ok ? EXIT_OK : error_report("score", &err);
}
