/* Opening a source, making samples, naming them in keys; see source.h. */
#include "lib/quant/source.h"

#include <limits.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/checkpoint/model_files.h"

enum { MOST_SAMPLES = 1000000000, MOST_BLOCK_SAMPLES = 65536 };

static bool in_range(const char *option, int64_t value, int64_t low, int64_t high,
                     error *err)
{
	return (value >= low && value <= high) ||
	       fail(err, EXIT_USAGE, "%s: expected %lld to %lld, found %lld", option,
	            (long long)low, (long long)high, (long long)value);
}

static bool read_form(const struct source_settings *g, enum prompt_form *form)
{
	return prompt_form_from_name(g->prompt, form) && *form != PROMPT_ASK;
}

bool source_check(const struct source_settings *g, error *err)
{
	enum prompt_form form;
	int given = !!g->captions + !!g->calib_db + !!g->eval_list;
	if (given != 1)
		return fail(err, EXIT_USAGE, "expected --captions or --calib-db, found %s",
		            given ? "both" : "neither");
	if (!g->captions && !g->image_root)
		return fail(err, EXIT_USAGE, "%s needs --image-root",
		            g->calib_db ? "--calib-db" : "--eval-list");
	if (!read_form(g, &form))
		return fail(err, EXIT_USAGE, "--prompt: expected answer, user_turn or text, found "
		            "\"%s\"", g->prompt);
	if (strcmp(g->on_bad_sample, "skip") != 0 && strcmp(g->on_bad_sample, "stop") != 0)
		return fail(err, EXIT_USAGE, "--on-bad-sample: expected stop or skip, found \"%s\"",
		            g->on_bad_sample);
	return in_range("--samples", g->samples, 1, MOST_SAMPLES, err) &&
	       in_range("--first", g->first, 0, MOST_SAMPLES, err) &&
	       in_range("--block-samples", g->block_samples, 1, MOST_BLOCK_SAMPLES, err) &&
	       in_range("--max-tokens", g->max_tokens, 0, INT_MAX, err) &&
	       in_range("--max-pixels", g->max_pixels, 0, IMAGE_MAX_PIXELS, err);
}

static bool load_rows(struct source *s, error *err)
{
	const struct source_settings *g = s->settings;
	size_t first = (size_t)g->first, most = (size_t)g->samples;
	if (g->captions)
		return captions_load(&s->rows, g->captions, first, most, err);
	return image_processor_load(&s->processor, g->model, err) &&
	       (g->calib_db ? calib_db_load(&s->rows, g->calib_db, first, most, err)
	                    : eval_list_load(&s->rows, g->eval_list, first, most, err));
}

bool source_open(struct source *s, const struct source_settings *settings, error *err)
{
	*s = (struct source){ .settings = settings };
	bool ok = source_check(settings, err) && read_form(settings, &s->form) &&
	          model_config_load(&s->config, settings->model, err) && load_rows(s, err) &&
	          (s->tokenizer = tokenizer_load(settings->model, err));
	if (!ok) {
		source_close(s);
		return false;
	}
	s->skip_bad = strcmp(settings->on_bad_sample, "skip") == 0;
	int64_t rows = (int64_t)s->rows.count, size = settings->block_samples;
	s->blocks = (rows + size - 1) / size;
	return true;
}

void source_close(struct source *s)
{
	sample_list_free(&s->rows);
	if (s->tokenizer)
		tokenizer_free(s->tokenizer);
	*s = (struct source){ 0 };
}

bool source_sample(const struct source *s, int64_t index, struct sample *out,
                   bool *unreadable, error *err)
{
	const struct sample_row *row = &s->rows.rows[index];
	struct patches patches = { 0 };
	char path[PATH_BYTES];
	*unreadable = false;
	if (row->image && (!join_path(path, sizeof path, s->settings->image_root, row->image,
	                              err) ||
	                   !load_patches(path, &s->processor, &s->config.vision,
	                                 s->settings->max_pixels, &patches, err))) {
		*unreadable = err->code == EXIT_BAD_INPUT;
		return false;
	}
	if (sample_build(out, s->tokenizer, &s->config, s->form, row->caption,
	                 row->image ? &patches : NULL, (int)s->settings->max_tokens, err))
		return true;
	error cause = *err; /* knows nothing of rows */
	const struct source_settings *g = s->settings;
	return fail(err, cause.code, "%s: sample %lld: %s", g->captions ? g->captions
	            : g->calib_db, (long long)index + 1, cause.text);
}

static bool add_files(const char *folder, enum file_class class, struct memo *memo,
                      struct key *key, error *err)
{
	arena memory = { 0 };
	struct file_names files;
	bool ok = list_model_files(folder, class, &memory, &files, err);
	for (int i = 0; ok && i < files.count; i++) {
		char path[PATH_BYTES];
		struct digest digest;
		ok = join_path(path, sizeof path, folder, files.names[i], err) &&
		     memo_digest(memo, path, &digest, err);
		if (ok)
			key_input(key, files.names[i], &digest);
	}
	arena_free(&memory);
	return ok;
}

bool model_key(const char *model, struct memo *memo, struct key *key, error *err)
{
	return add_files(model, FILES_WEIGHTS, memo, key, err) &&
	       add_files(model, FILES_TOKENS, memo, key, err);
}

/* A missing image has no digest, but under "skip" it is still part of the block. */
static bool add_row(const struct source *s, const struct sample_row *row,
                    struct memo *memo, struct key *key, error *err)
{
	struct digest caption, image;
	if (!digest_bytes(row->caption, strlen(row->caption), &caption, err))
		return false;
	if (!row->image) {
		key_input(key, "caption", &caption);
		return true;
	}
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, s->settings->image_root, row->image, err))
		return false;
	bool found = memo_digest(memo, path, &image, err);
	if (!found && !(s->skip_bad && err->code == EXIT_BAD_INPUT))
		return false;
	key_addf(key, "sample", "%s %s", caption.hex, found ? image.hex : "unreadable");
	if (s->skip_bad)
		key_add(key, "image", row->image); /* a skipped sample is recorded by name */
	return true;
}

bool source_key(const struct source *s, int64_t block, struct memo *memo,
                struct key *key, error *err)
{
	const struct source_settings *g = s->settings;
	int64_t first = block * g->block_samples, end = first + g->block_samples;
	if (end > (int64_t)s->rows.count)
		end = (int64_t)s->rows.count;
	key_add(key, "prompt", g->prompt);
	key_addf(key, "max_tokens", "%lld", (long long)g->max_tokens);
	key_addf(key, "max_pixels", "%lld", (long long)g->max_pixels);
	key_add(key, "on_bad_sample", g->on_bad_sample);
	for (int64_t i = first; i < end; i++)
		if (!add_row(s, &s->rows.rows[i], memo, key, err))
			return false;
	return true;
}
