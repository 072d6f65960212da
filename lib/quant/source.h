/* A sample source as an edge is given it: a model's processors, a captions file or
 * a calibration DB, and how samples are made from its rows. */
#ifndef QUERN_QUANT_SOURCE_H
#define QUERN_QUANT_SOURCE_H

#include <stdint.h>

#include "lib/artifact/key.h"
#include "lib/artifact/memo.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/checkpoint/config.h"
#include "lib/data/image.h"
#include "lib/data/pixels.h"
#include "lib/data/prompt.h"
#include "lib/data/samples.h"
#include "lib/data/tokenizer.h"

/* As on the command line. */
struct source_settings {
	const char *model;
	const char *captions, *calib_db, *eval_list; /* one of the three */
	const char *image_root;
	const char *pixels;        /* list of the images decoded already; NULL: decode here */
	const char *const *tree;   /* whose store has them: where --tree is kept */
	const char *prompt;        /* "answer", "user_turn", "text" */
	const char *on_bad_sample; /* "stop" or "skip" */
	int64_t samples, block_samples, max_tokens, max_pixels;
	int64_t first; /* rows of the source to leave out before these */
};

struct source {
	const struct source_settings *settings;
	enum prompt_form form;
	bool skip_bad;
	struct model_config config;
	struct image_processor processor;
	struct tokenizer *tokenizer;
	struct sample_list rows;
	int64_t blocks; /* of block_samples rows, the last one maybe shorter */
	struct pixel_list pixels; /* with settings->pixels */
	struct store store;
};

/* Whether the settings make sense, before anything is opened; part of source_open. */
bool source_check(const struct source_settings *settings, error *err);

/* The part of that, and of opening, that needs no model: which rows of which file. */
bool source_check_rows(const struct source_settings *settings, error *err);
bool source_load_rows(const struct source_settings *settings, struct sample_list *rows,
                      error *err);

bool source_open(struct source *s, const struct source_settings *settings, error *err);
void source_close(struct source *s);

/* Makes row `index` a sample. On failure *unreadable says whether the fault is the
 * sample's own (its image is missing or broken), which "skip" forgives. */
bool source_sample(const struct source *s, int64_t index, struct sample *out,
                   bool *unreadable, error *err);

/* Adds to a key the digests of all files of a model folder that decide a
 * measurement: weights, configuration, tokenizer, processor. To be asked before any
 * of them is opened: a file replaced later is then not taken for the one in use. */
bool model_key(const char *model, struct memo *memo, struct key *key, error *err);

/* Adds what else decides the samples of a block: the settings, and caption and image
 * of each row. */
bool source_key(const struct source *s, int64_t block, struct memo *memo,
                struct key *key, error *err);

#endif
