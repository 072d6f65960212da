/* calibrate: the largest absolute input of every linear layer over samples, and the
 * largest absolute key and value of every layer's cache, which cost next to nothing and
 * so are there for whoever asks for a scheme with an FP8 cache later.
 *
 * Quantisation is off while it runs, so one calibration serves every scheme. */
#include <stdlib.h>

#include "lib/quant/block_run.h"
#include "lib/quant/taps.h"
#include "tools/arguments.h"

/* The measurement has no state beyond the call; self is the text-only flag. */
struct calibration_run {
	bool images;
};

static bool add_key(void *self, struct key *key, error *err)
{
	(void)self, (void)key, (void)err;
	return true;
}

static bool prepare(void *self, const struct model *model, error *err)
{
	(void)self, (void)model, (void)err;
	return true;
}

/* The head is not run, and the vision tower only when there are images. */
static bool measures(void *self, const struct model *model, int linear)
{
	const struct calibration_run *run = self;
	bool vision = model->linears[linear].name[0] == 'v';
	return linear != model->linear_count - 1 && (run->images || !vision);
}

static void *begin_thread(void *self, error *err)
{
	(void)err;
	return self;
}

static void end_thread(void *self, void *state)
{
	(void)self, (void)state;
}

static bool measure(void *self, void *state, const struct model *model,
                    struct workspace *w, const struct sample *s, double *values,
                    double *loss, error *err)
{
	(void)self, (void)state;
	struct amax_watch watch = { .model = model, .amax = values,
		.cache = values + model->linear_count };
	struct tap tap = amax_tap(&watch);
	struct outcome outcome;
	*loss = 0;
	return model_forward(model, w, s, 0, &tap, &outcome, err);
}

int main(int argc, char **argv)
{
	struct data_arguments a = { 0 };
	struct option options[DATA_OPTIONS + 1] = { 0 };
	const struct command command = {
		.tool = "calibrate",
		.purpose = "Measures the largest absolute input of every linear layer, and the "
		           "largest key and value of every cache, over calibration samples.",
		.options = options
	};
	error err;
	int part, parts;
	struct device_choice device;
	data_options(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	struct calibration_run run = { .images = a.source.calib_db != NULL };
	const struct measurement m = { .self = &run, .tool = "calibrate", .kind = BLOCK_AMAX,
		.caches = true, .add_key = add_key, .prepare = prepare, .measures = measures,
		.begin_thread = begin_thread, .end_thread = end_thread, .measure = measure,
		.gpu = { .work = GPU_CALIBRATE } };
	bool ok = parsed == PARSE_OK && part_parse(a.part, &part, &parts, &err) &&
	          choose_device(&a.device, &device, &err) &&
	          run_blocks(&a.source, &m, &device, a.tree, part, parts, a.out, &err);
	if (ok)
		say_device(&device, "calibrate");
	return ok ? EXIT_OK : error_report("calibrate", &err);
}
