/* From a caption and an image to what the model is given and graded on. */
#ifndef QUERN_DATA_PROMPT_H
#define QUERN_DATA_PROMPT_H

#include <stdint.h>

#include "lib/base/error.h"
#include "lib/checkpoint/config.h"
#include "lib/data/image.h"
#include "lib/data/tokenizer.h"

/* PROMPT_ANSWER: system turn, user turn "<image>Describe this image.",
 *   assistant turn with the caption and <|im_end|>; graded on the caption and
 *   that <|im_end|>.
 * PROMPT_USER_TURN: system turn, user turn "<image>caption", then the opening
 *   of the assistant turn; graded on every token but the first that is no image
 *   placeholder.
 * PROMPT_TEXT: the bare caption, graded on every token but the first; takes no
 *   image. The two forms above become this one where there is no image.
 * PROMPT_ASK: as PROMPT_ANSWER up to the opening of the assistant turn, with
 *   `caption` as the question; graded on nothing. For generation. */
enum prompt_form { PROMPT_ANSWER, PROMPT_USER_TURN, PROMPT_TEXT, PROMPT_ASK };

bool prompt_form_from_name(const char *name, enum prompt_form *out); /* "answer" */
const char *prompt_form_name(enum prompt_form form);

/* One sample. ids[tokens]; graded[i] is 1 when token i is a target, that is
 * when the loss looks at the prediction made at i-1 for it. The image's
 * placeholders are grid_h*grid_w/(merge*merge) consecutive image tokens. */
struct sample {
	int tokens;
	int32_t *ids;
	uint8_t *graded;
	struct patches patches; /* values NULL without an image */
	bool cut;               /* the caption was longer than max_tokens allows */
};

/* Builds a sample. Takes over *patches (may be NULL: no image) on success and
 * on failure. When the sample would exceed max_tokens (0: no limit), the caption
 * is cut to fit, never the template or the image; if even an empty caption does
 * not fit, that is an error, and so is plain text of less than two tokens, which
 * leaves nothing to grade. */
bool sample_build(struct sample *out, const struct tokenizer *t,
                  const struct model_config *config, enum prompt_form form,
                  const char *caption, struct patches *patches, int max_tokens,
                  error *err);
void sample_free(struct sample *s);

#endif
