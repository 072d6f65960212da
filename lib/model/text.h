/* The language model: token and image vectors in, logits and loss out. Private to
 * lib/model. */
#ifndef QUERN_MODEL_TEXT_H
#define QUERN_MODEL_TEXT_H

#include "lib/model/tower.h"

struct text_run {
	struct tower_run tower; /* rows are tokens */
	const struct sample *sample;
};

/* `past` tokens are in the key/value cache already; see generate.c. */
bool text_prepare(struct text_run *t, struct run *run, const struct sample *s,
                  enum keeping keeping, error *err);

/* features[cells][hidden] take the places of the image tokens; NULL without image.
 * The hidden state of every token is then in t->tower.output. */
bool text_forward(struct text_run *t, const float *features, error *err);

/* After text_forward: output[tokens][hidden] once more, from block `first` on, or with
 * other features from the embedding on. */
bool text_forward_again(struct text_run *t, int first, const float *features,
                        float *output, error *err);

/* From dx[tokens][hidden], the gradient of tower.output, which becomes that of the
 * embeddings where there is an image. */
bool text_backward(struct text_run *t, float *dx, error *err);

/* The rows of the image, consecutive as check_sample made sure: first_image_row is
 * -1 without image. */
int first_image_row(const struct model *m, const struct sample *s);

/* x[hidden] = the embedding of a token. */
void embed_token(const struct model *m, int32_t id, float *x);

/* Final norm and head over some of the tokens. */
struct head_run {
	struct run *run;
	int rows;       /* tokens that logits are computed of */
	int32_t *at;    /* [rows] which; NULL: all */
	int graded;     /* predictions that count */
	int32_t *from;  /* [graded] the row of logits that predicts ... */
	int32_t *target; /* [graded] ... this token */
	float *picked;  /* [rows][hidden] hidden states, before the norm */
	float *normed;  /* [rows][hidden] */
	float *logits;  /* [rows][vocab] */
	float *largest, *sum; /* [graded]; see cross_entropy.h */
};

/* The rows of `s` that predict a graded token, or with `all` every row. */
bool head_prepare(struct head_run *h, struct run *run, const struct sample *s, bool all,
                  error *err);

/* From hidden[tokens][hidden]. */
bool head_forward(struct head_run *h, const float *hidden, error *err);

/* The mean cross entropy over the graded tokens; 0 if there are none. */
double head_loss(struct head_run *h);

/* After head_loss, for a head prepared without `all`: dx[tokens][hidden] becomes the
 * gradient of the hidden states. The logits are used up. */
bool head_backward(struct head_run *h, float *dx, int tokens, error *err);

#endif
