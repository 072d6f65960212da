/* Opening a checkpoint to run it: a base checkpoint as it is, an exported one as a
 * server would, with inputs rounded at its quantised linears, and its keys and values
 * through FP8 where it has scales for them. */
#ifndef QUERN_QUANT_SERVED_MODEL_H
#define QUERN_QUANT_SERVED_MODEL_H

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/model/qwen.h"
#include "lib/quant/quantised.h"

struct served_model {
	struct model_config config;
	struct checkpoint checkpoint;
	struct tensor *decoded; /* by linear: quantised weights as float32 */
	struct model model;
	struct quantised_model quantised; /* no codes anywhere for a base checkpoint */
	const struct tensor **replaced; /* by linear: the codes it stands in for */
	int quantised_linears;
	arena memory;
};

bool served_model_open(struct served_model *s, const char *folder, error *err);
void served_model_close(struct served_model *s);

#endif
