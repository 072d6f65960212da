/* schemes.json: models, calibration sets, formats, baselines, families, schemes.
 * Parsed and checked whole before anything is built from it. */
#ifndef QUERN_QUANT_CATALOG_H
#define QUERN_QUANT_CATALOG_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/options.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/kv_format.h"
#include "lib/quant/slice.h"

struct catalog_model {
	const char *name; /* also the folder under out/models */
	const char *path;
	bool stand_in; /* a demo model, not the one the scheme names speak of */
};

struct calibration {
	const char *name;
	const char *captions; /* a captions file, or NULL */
	const char *calib_db; /* a calibration DB, or NULL */
	const char *image_root;
	const char *data; /* what the samples really are, for manifests */
	bool stand_in;
	const char *prompt_form;
	const char *on_bad_sample; /* "stop" or "skip" */
	int64_t calib_samples, score_samples, block_samples;
	int64_t max_tokens, max_pixels; /* max_pixels 0: the processor's own */
};

/* What schemes are measured on. */
struct evaluation_set {
	const char *name;
	const char *captions;  /* a captions file, or NULL */
	const char *eval_list; /* an evaluation list, or NULL */
	const char *image_root;
	const char *data; /* what the samples really are, for reports */
	bool stand_in;
	const char *prompt_form;
	int64_t first, samples; /* rows of the source: left out, then used */
	int64_t block_samples, max_tokens, max_pixels;
};

struct catalog_format {
	const char *name, *element, *granularity;
	const struct format *format; /* of those two */
	struct globs include, exclude; /* on linears; no include: all */
	bool skip_bad_shapes; /* leave groups in BF16 whose shape the format does not take */
};

struct catalog_baseline {
	const char *name;      /* the scheme that keeps every group; a checkpoint folder */
	const char *file_name; /* what its manifests are called */
	const struct catalog_model *model;
	const struct calibration *calibration;
	const struct catalog_format **formats; /* candidates */
	int format_count;
	const char *method; /* "gradient" or "kl_div" */
	const char *numerics;
	const char *profile; /* of its schemes' own targets; others are beside them */
	const char *layout;  /* of all their checkpoints */
	bool shared_scales; /* one weight scale per group */
	int64_t score_samples; /* the calibration's, or fewer if it says so itself */
	const char *import; /* a quant manifest whose scores stand in for own ones, or NULL */
	bool publish; /* there is a scheme of this name that keeps every group */
};

struct scheme {
	const char *name;
	const struct catalog_baseline *baseline;
	struct rule rule;
	const struct kv_format *kv_cache; /* NULL: the cache stays as the model computes it */
	bool is_baseline; /* keeps every group of the baseline whose name it has */
	const char *family; /* the name's pattern, or NULL */
	const char *sweep;  /* the target that builds the whole family, or NULL */
};

struct catalog {
	struct catalog_model *models;
	struct calibration *calibrations;
	struct evaluation_set *evaluations;
	struct catalog_format *formats;
	struct catalog_baseline *baselines;
	struct kv_format *kv_formats;
	struct scheme *schemes; /* baselines first, then families in order, then the rest */
	/* Schemes that nobody listed, each one of the above with a format of the key/value
	 * cache beside it, called SCHEME_FORMAT: there for whoever names them, no part of
	 * what is built, measured or locked as a whole. */
	struct scheme *unlisted;
	int model_count, calibration_count, evaluation_count, format_count, baseline_count;
	int kv_format_count, scheme_count, unlisted_count;
	json_doc doc;
	arena memory;
};

/* Replacements for what the catalog names, from the command line; NULL or empty:
 * as the catalog says. */
struct catalog_overrides {
	const char *model;    /* a model folder */
	const char *captions; /* a file, for every calibration and evaluation of captions */
	const char *calib_db;
	const char *eval_list;
	const char *image_root; /* of calib_db and eval_list */
	struct option_list sets; /* "path.to.field=value" */
};

bool catalog_load(struct catalog *c, const char *path,
                  const struct catalog_overrides *overrides, error *err);
void catalog_free(struct catalog *c);

#endif
