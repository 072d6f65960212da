/* generate: greedy text from a base or an exported checkpoint, so that a person can
 * look at what a scheme does. FP8 linears run as a server runs them. */
#include <stdio.h>

#include "lib/base/options.h"
#include "lib/quant/answer.h"

static bool generate(const struct question *q, const char *folder, error *err)
{
	struct speaker s;
	struct token_list ids = { 0 };
	text answer = { 0 };
	if (!speaker_open(&s, folder, err))
		return false;
	bool ok = speaker_answer(&s, q, &ids, &answer, err);
	if (ok)
		printf("%s\n", answer.data ? answer.data : "");
	text_free(&answer);
	token_list_free(&ids);
	speaker_close(&s);
	return ok;
}

int main(int argc, char **argv)
{
	struct question a = { .prompt = NULL };
	int64_t max_new = 64;
	const struct option options[] = {
		{ "image", OPTION_TEXT, &a.image, "FILE", "JPEG or PNG to ask about", false },
		{ "prompt", OPTION_TEXT, &a.prompt, "TEXT",
		  "question about the image (default \"Describe this image.\"), or the beginning "
		  "of a text to go on with", false },
		{ "max-new", OPTION_INTEGER, &max_new, "N", "tokens at most (default 64)", false },
		{ "max-pixels", OPTION_INTEGER, &a.max_pixels, "N",
		  "shrink the image to at most N pixels (default 0: the model's own limit)",
		  false },
		{ 0 },
	};
	const struct command command = {
		.tool = "generate",
		.purpose = "Prints what a checkpoint answers, greedily; FP8 layers run as served.",
		.operands = "CHECKPOINT",
		.options = options
	};
	error err;
	struct option_list folders = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &folders, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK;
	if (ok && folders.count != 1)
		ok = fail(&err, EXIT_USAGE, "expected one checkpoint folder, found %d",
		          folders.count);
	if (ok && !a.prompt && !a.image)
		ok = fail(&err, EXIT_USAGE, "expected --prompt, --image or both");
	if (!a.prompt)
		a.prompt = "Describe this image.";
	a.max_new = max_new > INT32_MAX ? INT32_MAX : (int)max_new;
	ok = ok && generate(&a, folders.values[0], &err);
	options_free(&folders);
	return ok ? EXIT_OK : error_report("generate", &err);
}
