/* logits: all logits that quern itself computes of a checkpoint, as files that a
 * Python script can read.
 *
 * The checks beside it load the same checkpoint in somebody else's program and compare
 * distributions; greedy text comes from out/bin/generate. FP8 linears run as served:
 * inputs and weights in FP8, all else in float32.
 *
 *   logits CHECKPOINT CASES FOLDER
 *
 * CASES is a JSON array of {"name", "form" (a prompt form: "answer", "text", "ask"),
 * "text", "image" (a file, or null)}. FOLDER/NAME.json gets {"ids", "graded", "loss",
 * "grid": height and width in patches}, FOLDER/NAME.logits float32 [ids][vocab], and
 * FOLDER/NAME.patches, of a case with an image, float32 [patches][values]. */
#include <stdio.h>

#include "kernels/matmul.h"
#include "lib/artifact/publish.h"
#include "lib/base/json.h"
#include "lib/base/json_tree.h"
#include "lib/quant/served_model.h"
#include "lib/quant/taps.h"

enum { MAX_CASES_BYTES = 1 << 20 };

/* What all cases share. */
struct session {
	const char *folder;
	struct served_model served;
	struct tokenizer *tokenizer;
	struct image_processor processor;
	struct workspace *space;
	struct served *fp8;
	json_doc cases;
};

struct request {
	const char *name, *text, *image;
	enum prompt_form form;
};

static bool read_request(const struct session *s, const cJSON *item, struct request *r,
                         error *err)
{
	const char *form;
	*r = (struct request){ 0 };
	if (!json_text(&s->cases, item, "name", &r->name, err) ||
	    !json_text(&s->cases, item, "text", &r->text, err) ||
	    !json_text(&s->cases, item, "form", &form, err) ||
	    !json_text_or(&s->cases, item, "image", &r->image, err))
		return false;
	return prompt_form_from_name(form, &r->form) ||
	       json_fail(&s->cases, item, err, "expected a prompt form, found \"%s\"", form);
}

static bool build_sample(const struct session *s, const struct request *r,
                         struct sample *sample, error *err)
{
	const struct model_config *config = &s->served.config;
	struct patches patches;
	if (r->image && !load_patches(r->image, &s->processor, &config->vision, 0, &patches,
	                              err))
		return false;
	return sample_build(sample, s->tokenizer, config, r->form, r->text,
	                    r->image ? &patches : NULL, 0, err);
}

static bool write_part(const struct session *s, const struct request *r,
                       const char *kind, const void *data, size_t bytes, error *err)
{
	char file[PATH_BYTES], path[PATH_BYTES];
	snprintf(file, sizeof file, "%s.%s", r->name, kind);
	return join_path(path, sizeof path, s->folder, file, err) &&
	       write_file(path, data, bytes, err);
}

static bool write_description(const struct session *s, const struct request *r,
                              const struct sample *sample, const struct outcome *out,
                              error *err)
{
	struct json_tree tree = tree_new();
	text printed = { 0 };
	cJSON *ids = tree_array(&tree, tree.root, "ids");
	cJSON *graded = tree_array(&tree, tree.root, "graded");
	for (int i = 0; i < sample->tokens; i++) {
		tree_number(&tree, ids, NULL, sample->ids[i]);
		tree_number(&tree, graded, NULL, sample->graded[i]);
	}
	tree_number(&tree, tree.root, "loss", out->loss);
	cJSON *grid = tree_array(&tree, tree.root, "grid");
	tree_number(&tree, grid, NULL, sample->patches.values ? sample->patches.grid_h : 0);
	tree_number(&tree, grid, NULL, sample->patches.values ? sample->patches.grid_w : 0);
	bool ok = tree_finish(&tree, &printed, err) &&
	          write_part(s, r, "json", printed.data, printed.length, err);
	text_free(&printed);
	return ok;
}

static bool run_sample(const struct session *s, const struct request *r,
                       const struct sample *sample, error *err)
{
	const struct model_config *config = &s->served.config;
	const struct patches *p = &sample->patches;
	struct tap tap = served_tap(s->fp8);
	struct outcome out;
	if (!model_forward(&s->served.model, s->space, sample, WANT_LOSS | WANT_LOGITS, &tap,
	                   &out, err) ||
	    !write_part(s, r, "logits", out.logits,
	                (size_t)sample->tokens * (size_t)config->text.vocab * sizeof(float),
	                err) ||
	    !write_description(s, r, sample, &out, err))
		return false;
	return !p->values ||
	       write_part(s, r, "patches", p->values,
	                  (size_t)p->grid_h * (size_t)p->grid_w *
	                      (size_t)config->vision.patch_values * sizeof(float), err);
}

static bool run_case(const struct session *s, const cJSON *item, error *err)
{
	struct request request;
	struct sample sample;
	if (!read_request(s, item, &request, err) ||
	    !build_sample(s, &request, &sample, err))
		return false;
	bool ok = run_sample(s, &request, &sample, err);
	sample_free(&sample);
	return ok;
}

static bool run_cases(struct session *s, const char *checkpoint, error *err)
{
	bool ok = (s->tokenizer = tokenizer_load(checkpoint, err)) &&
	          image_processor_load(&s->processor, checkpoint, err) &&
	          (s->space = workspace_new(err)) &&
	          (s->fp8 = served_new(&s->served.quantised, err));
	for (const cJSON *item = s->cases.root->child; ok && item; item = item->next)
		ok = run_case(s, item, err);
	served_free(s->fp8);
	workspace_free(s->space);
	if (s->tokenizer)
		tokenizer_free(s->tokenizer);
	return ok;
}

int main(int argc, char **argv)
{
	struct session s = { 0 };
	error err;
	if (argc != 4) {
		fprintf(stderr, "usage: logits CHECKPOINT CASES FOLDER\n");
		return EXIT_USAGE;
	}
	matmul_threads(1);
	s.folder = argv[3];
	if (!json_load(&s.cases, argv[2], MAX_CASES_BYTES, &err))
		return error_report("logits", &err);
	bool ok = make_folders(s.folder, &err) &&
	          served_model_open(&s.served, argv[1], &err) && run_cases(&s, argv[1], &err);
	served_model_close(&s.served);
	json_free(&s.cases);
	return ok ? EXIT_OK : error_report("logits", &err);
}
