/* fold.json: the norms of a model with a format's channel scales folded into them, as
 * tools/fold.c found them; see fold.h. */
#ifndef QUERN_QUANT_FOLD_FILE_H
#define QUERN_QUANT_FOLD_FILE_H

#include "lib/artifact/key.h"
#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/model/linears.h"
#include "lib/quant/fold.h"

/* One group with a norm before it. */
struct fold {
	const struct format *format;
	const char *group;     /* its name */
	char norm[NAME_BYTES]; /* quern's name of the norm */
	int in;
	float *before, *after; /* [in] the norm's weights, all of them BF16 */
	float *scales;         /* [in] that they stand for; set by folds_read */
	struct fold_choice choice;
};

struct folds {
	struct fold *folds;
	int count;
	arena memory;
};

/* What was measured for it. */
struct fold_facts {
	const struct format *format;
	const char *key; /* of the result, in hexadecimal */
	int64_t samples; /* of the calibration */
};

bool print_folds(const struct folds *f, const struct fold_facts *facts, text *out,
                 error *err);

/* Adds a file's to those of f, all zero at first. Fails unless it is of this format (NULL:
 * of any), and its norms are as long as the linears behind them are wide. */
bool folds_read(struct folds *f, const char *path, const struct format *format,
                const struct linear_shape *linears, int count, error *err);
void folds_free(struct folds *f);

/* NULL where the group's inputs are as they were, or f is NULL. */
const struct fold *find_fold(const struct folds *f, const struct format *format,
                             const char *group);

/* Adds to a key what folding means to a group: nothing where there is none. */
void fold_key(struct key *key, const struct folds *f, const struct format *format,
              const char *group);

#endif
