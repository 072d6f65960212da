/* What quantization configs say of a linear: in which numbers its weights and inputs
 * are, in the words of the two languages that profile.h writes. Which formats there are
 * is lib/quant/formats/'s to say; here they are only spelt and compared. */
#ifndef QUERN_CHECKPOINT_FORM_H
#define QUERN_CHECKPOINT_FORM_H

#include <stdbool.h>

/* How scales come about: stored; found as a token comes; or, of two levels, the upper
 * one stored and the lower one found. */
enum scale_time { SCALE_STATIC, SCALE_DYNAMIC, SCALE_LOCAL };

/* Weights or inputs of a linear. bits 0: as they are in the base model. */
struct number_form {
	int bits;
	const char *type;     /* "float", "int" */
	const char *strategy; /* compressed-tensors': "tensor", "channel", "token", ... */
	enum scale_time time;
	int group_size;       /* columns that share a scale; 0: not by columns */
	const char *scales;   /* what these are rounded to: "torch.float8_e4m3fn"; NULL: nothing */
};

struct linear_form {
	struct number_form weights, inputs;
	const char *format;    /* compressed-tensors': "float-quantized" */
	const char *algorithm; /* ModelOpt's: "FP8" */

	/* What ModelOpt writes beside some algorithms: has_zero_point and pre_quant_scale,
	 * both false; config_groups for a model that is in this form alone. */
	bool awq_fields, own_groups;

	/* The tensors are the same in both languages: one folder can speak both. */
	bool bilingual;
};

/* Both are the same to a reader of compressed-tensors' language, or of ModelOpt's. */
bool forms_equal_compressed(const struct linear_form *a, const struct linear_form *b);
bool forms_equal_modelopt(const struct linear_form *a, const struct linear_form *b);

#endif
