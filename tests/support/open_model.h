/* A random model of a given shape, opened, and samples for it. Failures fail the
 * test. */
#ifndef QUERN_TESTS_SUPPORT_OPEN_MODEL_H
#define QUERN_TESTS_SUPPORT_OPEN_MODEL_H

#include "lib/base/file.h"
#include "lib/model/qwen.h"
#include "tests/support/random_model.h"

struct open_model {
	char folder[PATH_BYTES];
	struct model_config config;
	struct checkpoint ckpt;
	struct model model;
	struct workspace *space;
};

/* Writes the model into a folder of its own and opens it; resident_bytes as in
 * model_open. */
void open_random_model(struct open_model *o, struct random_model shape,
                       size_t resident_bytes);
void close_random_model(struct open_model *o);

/* Random ids and, where grid_h > 0, random patches whose placeholders stand after
 * the first `before` tokens; every token but the placeholders and the first is
 * graded. sample_free it. */
void random_sample(struct sample *s, const struct model_config *config, int before,
                   int grid_h, int grid_w, int after, uint32_t seed);

#endif
