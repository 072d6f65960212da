/* Everything a report tells of one model, read from artifacts alone: manifests, search
 * states, slices, lists of files, verification reports, damage. What is not there is
 * missing and stays so; nothing is computed again and no weight is opened. */
#ifndef QUERN_REPORT_FINDINGS_H
#define QUERN_REPORT_FINDINGS_H

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/quant/baseline.h"
#include "lib/quant/slice.h"
#include "lib/quant/statistics.h"

/* A number that no artifact has. */
#define MISSING (-1e308)

static inline bool is_missing(double value)
{
	return value <= MISSING;
}

/* One scheme on one evaluation set; every number may be MISSING. */
struct found_damage {
	double perplexity;
	struct estimate loss_change, kl, agreement, last_mse, last_kl, kl_all;
	double kl_p99, kl_max;
	int samples;
	double *sample_kl; /* [samples] sums over a sample's tokens, or NULL */
	double *sample_loss; /* the same of the change of the loss */
};

/* An evaluation set as a baseline's damage file has it. */
struct found_set {
	const char *name;
	const char *data; /* NULL: there is no such file */
	bool stand_in;
	double base_perplexity, samples, tokens;
	double *sample_tokens; /* [samples] */
	int sample_count;
};

struct found_baseline {
	const char *name, *format, *profile; /* of the plan */
	const char *method, *model, *data, *prompt, *numerics, *scales; /* NULL: missing */
	bool stand_in;
	double calib_samples, score_samples;
	struct baseline ranked; /* without groups when the manifest is missing */
	struct group_list groups; /* the same groups, in module order, with their kinds */
	int block_count;          /* of scores; 0: the state is missing */
	double *block_scores;     /* [group][block] */
	struct found_set *sets;   /* [findings->set_count] */
	const cJSON *quality;     /* of quality.json, or NULL */
};

struct found_scheme {
	const char *name, *family, *sweep; /* the last two NULL where there is none */
	struct found_baseline *baseline;
	struct coverage coverage; /* total 0: the slice is missing */
	double model_bits; /* average bits of the model's linear weights, the widest baseline
	                      being all of them; comparable between families */
	double bytes;      /* of the checkpoint */
	double verified;   /* 1, or MISSING */
	const cJSON *lost; /* FP8 linears each consumer keeps in BF16, or NULL */
	struct found_damage *damage; /* [findings->set_count] */
};

/* What a program did with the checkpoints on this machine. */
struct found_probe {
	const char *program;
	const cJSON *record; /* NULL: nobody asked it */
};

struct findings {
	const char *model;
	struct found_baseline *baselines;
	struct found_scheme *schemes;
	const char **sets; /* names of evaluation sets */
	struct found_probe *probes;
	int baseline_count, scheme_count, set_count, probe_count;
	json_doc *docs; /* kept open: names point into them */
	int doc_count, doc_capacity;
	arena memory;
};

/* `plan` is report.json of the tree; `model` may be NULL where it has one only. Fails for
 * a plan or an artifact that is broken, never for one that is absent. */
bool findings_load(struct findings *f, const char *plan, const char *model, error *err);
void findings_free(struct findings *f);

/* A number of an object of quality.json, or MISSING. */
double quality_number(const cJSON *cut, const char *field);
struct estimate quality_estimate(const cJSON *cut, const char *field);

/* NULL when absent. */
struct found_scheme *find_scheme(const struct findings *f, const char *name);

#endif
