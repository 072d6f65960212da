/* Opening a source, making samples, naming them in keys; see source.h. */
#include "lib/quant/source.h"

#include <limits.h>
#include <string.h>

#include "lib/artifact/log.h"
#include "lib/base/file.h"
#include "lib/checkpoint/model_files.h"
#include "lib/quant/source_parts.h"

enum { MOST_BLOCK_SAMPLES = 65536 };

static bool read_form(const struct source_settings *g, enum prompt_form *form)
{
	return prompt_form_from_name(g->prompt, form) && *form != PROMPT_ASK;
}

bool source_check(const struct source_settings *g, error *err)
{
	enum prompt_form form;
	if (!source_check_rows(g, err))
		return false;
	if (!read_form(g, &form))
		return fail(err, EXIT_USAGE, "--prompt: expected answer, user_turn or text, found "
		            "\"%s\"", g->prompt);
	return check_range("--block-samples", g->block_samples, 1, MOST_BLOCK_SAMPLES, err) &&
	       check_range("--max-tokens", g->max_tokens, 0, INT_MAX, err);
}

/* Images that were decoded for other bounds are other samples. */
static bool load_pixels(struct source *s, error *err)
{
	const struct source_settings *g = s->settings;
	const struct pixel_bounds own =
		pixel_bounds(&s->processor, &s->config.vision, g->max_pixels);
	const struct pixel_bounds *found = &s->pixels.bounds;
	char folder[PATH_BYTES];
	if (!join_path(folder, sizeof folder, *g->tree, "store", err) ||
	    !store_open(&s->store, folder, err) ||
	    !pixel_list_read(&s->pixels, g->pixels, err))
		return false;
	return (found->unit == own.unit && found->min_pixels == own.min_pixels &&
	        found->max_pixels == own.max_pixels) ||
	       fail(err, EXIT_BAD_INPUT, "%s: expected images of %lld to %lld pixels in units "
	            "of %d, found %lld to %lld in units of %d", g->pixels,
	            (long long)own.min_pixels, (long long)own.max_pixels, own.unit,
	            (long long)found->min_pixels, (long long)found->max_pixels, found->unit);
}

/* What only samples with images need. */
static bool open_images(struct source *s, error *err)
{
	return s->settings->captions ||
	       (image_processor_load(&s->processor, s->settings->model, err) &&
	        (!s->settings->pixels || load_pixels(s, err)));
}

bool source_open(struct source *s, const struct source_settings *settings, error *err)
{
	*s = (struct source){ .settings = settings };
	bool ok = source_check(settings, err) && read_form(settings, &s->form) &&
	          model_config_load(&s->config, settings->model, err) && open_images(s, err) &&
	          source_load_rows(settings, &s->rows, err) &&
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
	pixel_list_free(&s->pixels);
	if (s->tokenizer)
		tokenizer_free(s->tokenizer);
	*s = (struct source){ 0 };
}

static const struct pixels *find_pixels(const struct source *s, const char *image,
                                        error *err)
{
	const struct pixels *found = pixel_list_find(&s->pixels, image);
	if (!found)
		fail(err, EXIT_USAGE, "%s: expected %s among its images, found it missing; was it "
		     "made for these samples?", s->settings->pixels, image);
	return found;
}

/* A stored image that was lost or damaged is decoded again, which the log tells. */
static bool take_patches(const struct source *s, const struct pixels *p, const char *path,
                         struct patches *out, error *err)
{
	struct log_entry entry = { .tool = "decode", .target = s->settings->pixels };
	struct timespec begun;
	struct image image;
	bool remade;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	if (!pixels_take(&s->store, p, path, &image, &remade, err))
		return false;
	entry.seconds = seconds_since(&begun);
	bool ok = image_to_patches(&image, &s->processor, &s->config.vision, out, err) &&
	          (!remade || log_append(*s->settings->tree, &entry, err));
	image_free(&image);
	return ok;
}

/* An image that cannot be decoded is unreadable; one that was decoded and then was lost
 * from the store and cannot be decoded again is not: its block's key names its pixels. */
static bool make_patches(const struct source *s, const char *image, struct patches *out,
                         bool *unreadable, error *err)
{
	const struct pixels *p = NULL;
	char path[PATH_BYTES];
	bool ok = join_path(path, sizeof path, s->settings->image_root, image, err);
	if (ok && s->settings->pixels) {
		if (!(p = find_pixels(s, image, err)))
			return false;
		if (!p->unreadable)
			return take_patches(s, p, path, out, err);
		ok = fail(err, EXIT_BAD_INPUT, "%s: expected an image, found it unreadable when it "
		          "was decoded", path);
	}
	ok = ok && load_patches(path, &s->processor, &s->config.vision, s->settings->max_pixels,
	                        out, err);
	*unreadable = !ok && err->code == EXIT_BAD_INPUT;
	return ok;
}

bool source_sample(const struct source *s, int64_t index, struct sample *out,
                   bool *unreadable, error *err)
{
	const struct sample_row *row = &s->rows.rows[index];
	struct patches patches = { 0 };
	*unreadable = false;
	if (row->image && !make_patches(s, row->image, &patches, unreadable, err))
		return false;
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

/* What decides a row's image: the pixels that were made of it, or its file. A missing
 * image has no digest, but under "skip" it is still part of the block. */
static bool find_image(const struct source *s, const char *image, struct memo *memo,
                       struct digest *out, bool *found, error *err)
{
	char path[PATH_BYTES];
	if (s->settings->pixels) {
		const struct pixels *p = find_pixels(s, image, err);
		*found = p && !p->unreadable;
		if (*found)
			*out = p->object;
		return p != NULL;
	}
	if (!join_path(path, sizeof path, s->settings->image_root, image, err))
		return false;
	*found = memo_digest(memo, path, out, err);
	return *found || (s->skip_bad && err->code == EXIT_BAD_INPUT);
}

static bool add_row(const struct source *s, const struct sample_row *row,
                    struct memo *memo, struct key *key, error *err)
{
	struct digest caption, image;
	bool found;
	if (!digest_bytes(row->caption, strlen(row->caption), &caption, err))
		return false;
	if (!row->image) {
		key_input(key, "caption", &caption);
		return true;
	}
	if (!find_image(s, row->image, memo, &image, &found, err))
		return false;
	key_addf(key, "sample", "%s %s%s", caption.hex, s->settings->pixels ? "pixels " : "",
	         found ? image.hex : "unreadable");
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
