/* What a checkpoint answers, greedily: a base one as it is, an exported one as a server
 * would run it. */
#ifndef QUERN_QUANT_ANSWER_H
#define QUERN_QUANT_ANSWER_H

#include "lib/base/text.h"
#include "lib/quant/served_model.h"

struct question {
	const char *image;  /* JPEG or PNG to ask about, or NULL */
	const char *prompt; /* a question about it, or the beginning of a text to go on with */
	int max_new;        /* tokens */
	int64_t max_pixels; /* 0: the model's own limit */
};

/* A checkpoint with what asking it takes. */
struct speaker {
	struct served_model served;
	struct tokenizer *tokenizer;
	const char *folder;
};

/* Runs matrix products on all cores from here on. */
bool speaker_open(struct speaker *s, const char *folder, error *err);
void speaker_close(struct speaker *s);

/* Ids of the answer, and the answer as text; both are added to. */
bool speaker_answer(struct speaker *s, const struct question *q, struct token_list *ids,
                    text *out, error *err);

#endif
