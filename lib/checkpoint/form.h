/* What quantization configs say of a linear: in which numbers its weights and inputs
 * are, in the words of the two languages that profile.h writes. Which formats there are
 * is lib/quant/formats/'s to say; here they are only spelt and compared. */
#ifndef QUERN_CHECKPOINT_FORM_H
#define QUERN_CHECKPOINT_FORM_H

#include <stdbool.h>

/* How scales come about: stored; found as a token comes; or, of two levels, the upper
 * one stored and the lower one found ("local"). */
enum scale_time { SCALE_STATIC, SCALE_DYNAMIC, SCALE_LOCAL };

/* Weights or inputs of a linear. bits 0: as they are in the base model. */
struct number_form {
	int bits;
	const char *type;     /* "float", "int" */
	const char *strategy; /* compressed-tensors': "tensor", "channel", "token", ... */
	enum scale_time time;
	int group_size;       /* columns that share a scale; 0: not by columns */
};

struct linear_form {
	const char *format;    /* compressed-tensors': "float-quantized" */
	const char *algorithm; /* ModelOpt's: "FP8" */
	/* ModelOpt's fields has_zero_point and pre_quant_scale belong to the algorithm;
	 * both are false here. */
	bool awq_fields;
	/* The tensors are the same in both languages, so that one folder speaks both. */
	bool bilingual;
	struct number_form weights, inputs;
};

#endif
