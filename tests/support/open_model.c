/* See open_model.h. */
#include "tests/support/open_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include "tests/support/numeric.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

void open_random_model(struct open_model *o, struct random_model shape,
                       size_t resident_bytes)
{
	error err;
	*o = (struct open_model){ 0 };
	if (!temp_folder_make(o->folder, &err) ||
	    !random_model_write(&shape, o->folder, &err) ||
	    !model_config_load(&o->config, o->folder, &err) ||
	    !checkpoint_open(&o->ckpt, o->folder, &err) ||
	    !model_open(&o->model, &o->ckpt, &o->config, resident_bytes, &err) ||
	    !(o->space = workspace_new(&err)))
		fail_msg("%s", err.text);
}

void close_random_model(struct open_model *o)
{
	workspace_free(o->space);
	model_close(&o->model);
	checkpoint_close(&o->ckpt);
	temp_folder_remove(o->folder);
}

void random_sample(struct sample *s, const struct model_config *config, int before,
                   int grid_h, int grid_w, int after, uint32_t seed)
{
	const struct vision_config *v = &config->vision;
	int cells = grid_h * grid_w / (v->merge * v->merge);
	int ordinary = config->text.vocab < 4096 ? config->text.vocab : 4096;
	*s = (struct sample){ .tokens = before + cells + after };
	s->ids = calloc((size_t)s->tokens, sizeof *s->ids);
	s->graded = calloc((size_t)s->tokens, sizeof *s->graded);
	float *random = calloc((size_t)s->tokens, sizeof *random);
	assert_true(s->ids && s->graded && random);
	fill_random(random, (size_t)s->tokens, 1, seed);
	for (int i = 0; i < s->tokens; i++) {
		bool image = i >= before && i < before + cells;
		float share = (random[i] + 1) / 2;
		s->ids[i] = image ? (int32_t)config->image_token
		                  : (int32_t)(share * (float)(ordinary - 1));
		s->graded[i] = i > 0 && !image;
	}
	free(random);
	if (!cells)
		return;
	size_t values = (size_t)(grid_h * grid_w) * (size_t)v->patch_values;
	s->patches.grid_h = grid_h;
	s->patches.grid_w = grid_w;
	s->patches.values = malloc(values * sizeof *s->patches.values);
	assert_non_null(s->patches.values);
	fill_random(s->patches.values, values, 2, seed + 1);
}
