/* What quern does at a linear layer: watch its input (calibration), perturb it and
 * weigh the damage (scoring), or run it as a server would (generation, damage).
 * Each belongs to one thread; the quantised weights behind them are shared. */
#ifndef QUERN_QUANT_TAPS_H
#define QUERN_QUANT_TAPS_H

#include "lib/base/error.h"
#include "lib/model/qwen.h"
#include "lib/quant/quantised.h"

/* ---- calibration: the largest absolute input of every linear, and the largest
 * absolute key and value of every layer's cache ---- */

struct amax_watch {
	const struct model *model;
	double *amax;  /* [linear]; 0 where nothing was seen; owned by the caller, and so is */
	double *cache; /* [part], see lib/model/caches.h; NULL: nobody asks for them */
};

struct tap amax_tap(struct amax_watch *watch);

/* ---- scoring ---- */

/* For one sample, score[linear] += sum((g * d)^2) over rows and outputs, with
 * d = the output with weight and input quantised, minus the output; g = dLoss/dY.
 * Only this layer is perturbed: its input is the unquantised one. */
struct perturbation;

struct perturbation *perturbation_new(const struct quantised_model *q, error *err);
void perturbation_free(struct perturbation *p);

/* The tap, adding into score[linear] (of the caller) from now on. */
struct tap perturbation_tap(struct perturbation *p, double *score);

/* ---- running as served ---- */

/* y = Q(x) Q(W)^T + b for every quantised linear; others untouched. Keys and values go
 * through FP8 on their way into the cache where the model has scales for it, so that
 * everything attends to what a server's cache would hold, the prompt to itself included. */
struct served;

struct served *served_new(const struct quantised_model *q, error *err);
void served_free(struct served *s);
struct tap served_tap(struct served *s);

/* From now on only linears [first, first + count). */
void served_limit(struct served *s, int first, int count);

#endif
