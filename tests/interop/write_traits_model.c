/* write_traits_model: a random model with the traits of the 7B that the demo lacks: a
 * head of its own, several query heads to a key head, other head counts and windows,
 * a deeper tower, three shards.
 *
 *   write_traits_model FOLDER */
#include <stdio.h>

#include "lib/base/file.h"
#include "tests/support/random_model.h"

int main(int argc, char **argv)
{
	struct random_model m = random_model_tiny();
	error err;
	if (argc != 2) {
		fprintf(stderr, "usage: write_traits_model FOLDER\n");
		return EXIT_USAGE;
	}
	struct vision_config *v = &m.config.vision;
	v->depth = 5;
	v->hidden = 96;
	v->heads = 6;
	v->intermediate = 172;
	v->window = 56; /* 2 x 2 cells: all scenes have several windows */
	for (int i = 0; i < v->depth; i++)
		v->full_attention[i] = i == 2 || i == 4;
	struct text_config *t = &m.config.text;
	t->layers = 4;
	t->hidden = 224;
	t->heads = 14;
	t->kv_heads = 2;
	t->intermediate = 296;
	t->rms_eps = 1e-5f;
	t->rope_theta = 5e5;
	t->tied_head = false;
	m.shards = 3;
	m.seed = 7;
	if (!make_folders(argv[1], &err) || !random_model_write(&m, argv[1], &err))
		return error_report("write_traits_model", &err);
	return EXIT_OK;
}
