/* sanity: what schemes answer, beside what the model as it is answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/options.h"
#include "lib/data/samples.h"
#include "lib/quant/answer.h"

enum { ROWS = 2, MOST_QUESTIONS = 2 * ROWS, NEW_TOKENS = 40, WORDS = 4 };

struct arguments {
	const char *model, *captions, *eval_list, *image_root;
	int64_t first, max_pixels;
};

/* Questions, and what the base answered. */
struct inquiry {
	struct question questions[MOST_QUESTIONS];
	struct token_list base[MOST_QUESTIONS];
	int count, answers, same; /* of all schemes together */
	arena memory;
};

/* The first words of a caption, to be gone on with. */
static bool add_beginnings(struct inquiry *q, const struct arguments *a, error *err)
{
	struct sample_list rows;
	if (!captions_load(&rows, a->captions, (size_t)a->first, ROWS, err))
		return false;
	bool ok = true;
	for (size_t i = 0; ok && i < rows.count; i++) {
		const char *caption = rows.rows[i].caption, *end = caption;
		for (int word = 0; word < WORDS && *end; word++)
			end += strspn(end, " ") + strcspn(end + strspn(end, " "), " ");
		const char *prompt = arena_text(&q->memory, caption, (size_t)(end - caption), err);
		ok = prompt != NULL;
		q->questions[q->count++] = (struct question){ .prompt = prompt,
			.max_new = NEW_TOKENS };
	}
	sample_list_free(&rows);
	return ok;
}

static bool add_images(struct inquiry *q, const struct arguments *a, error *err)
{
	struct sample_list rows;
	if (!eval_list_load(&rows, a->eval_list, 0, ROWS, err))
		return false;
	bool ok = true;
	for (size_t i = 0; ok && i < rows.count; i++) {
		const char *image = arena_printf(&q->memory, err, "%s/%s", a->image_root,
		                                 rows.rows[i].image);
		ok = image != NULL;
		q->questions[q->count++] = (struct question){ .image = image,
			.prompt = "Describe this image.", .max_new = NEW_TOKENS,
			.max_pixels = a->max_pixels };
	}
	sample_list_free(&rows);
	return ok;
}

static size_t same_tokens(const struct token_list *a, const struct token_list *b)
{
	size_t same = 0;
	while (same < a->count && same < b->count && a->ids[same] == b->ids[same])
		same++;
	return same;
}

static void print_answer(struct inquiry *q, int i, const char *name,
                         const struct token_list *ids, const text *answer)
{
	const struct question *asked = &q->questions[i];
	printf("%-46.46s ", name);
	if (ids == &q->base[i]) {
		printf("%-16s %s%s\n", asked->image ? "image" : "text",
		       asked->image ? asked->image : asked->prompt, asked->image ? "" : " ...");
		printf("%-46s %-16s", "", "");
	} else {
		size_t same = same_tokens(ids, &q->base[i]);
		bool whole = same == ids->count && same == q->base[i].count;
		char shown[32];
		snprintf(shown, sizeof shown, "%zu of %zu same", same, q->base[i].count);
		printf("%-16s", whole ? "the same" : shown);
		q->answers++;
		q->same += whole;
	}
	printf(" %s\n", answer->data ? answer->data : "");
}

/* Asks one checkpoint everything; the base's answers are kept. */
static bool ask(struct inquiry *q, const char *folder, bool base, error *err)
{
	struct speaker s;
	const char *slash = strrchr(folder, '/');
	if (!speaker_open(&s, folder, err))
		return false;
	bool ok = true;
	for (int i = 0; ok && i < q->count; i++) {
		struct token_list ids = { 0 };
		text answer = { 0 };
		ok = speaker_answer(&s, &q->questions[i], base ? &q->base[i] : &ids, &answer, err);
		if (ok)
			print_answer(q, i, slash ? slash + 1 : folder, base ? &q->base[i] : &ids,
			             &answer);
		token_list_free(&ids);
		text_free(&answer);
	}
	speaker_close(&s);
	return ok;
}

static bool run(const struct arguments *a, const struct option_list *folders, error *err)
{
	struct inquiry q = { 0 };
	if (folders->count == 0)
		return fail(err, EXIT_USAGE, "expected at least one checkpoint");
	bool ok = (!a->captions || add_beginnings(&q, a, err)) &&
	          (!a->eval_list || add_images(&q, a, err));
	if (ok && q.count == 0)
		ok = fail(err, EXIT_USAGE, "expected --captions, --eval-list or both, with a row");
	ok = ok && ask(&q, a->model, true, err);
	for (int i = 0; ok && i < folders->count; i++)
		ok = ask(&q, folders->values[i], false, err);
	if (ok)
		printf("%d of %d answers are the model's own\n", q.same, q.answers);
	for (int i = 0; i < q.count; i++)
		token_list_free(&q.base[i]);
	arena_free(&q.memory);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	const struct option options[] = {
		{ "model", OPTION_TEXT, &a.model, "DIR", "the base checkpoint", true },
		{ "captions", OPTION_TEXT, &a.captions, "FILE",
		  "captions whose first words are to be gone on with", false },
		{ "first", OPTION_INTEGER, &a.first, "N", "captions to leave out", false },
		{ "eval-list", OPTION_TEXT, &a.eval_list, "FILE", "list with images to describe",
		  false },
		{ "image-root", OPTION_TEXT, &a.image_root, "DIR",
		  "folder that image paths start from", false },
		{ "max-pixels", OPTION_INTEGER, &a.max_pixels, "N",
		  "shrink images to at most N pixels (default 0: the model's own limit)", false },
		{ 0 },
	};
	const struct command command = {
		.tool = "sanity",
		.purpose = "Prints what checkpoints answer beside what the base model answers, and "
		           "how many tokens are the same before they part.",
		.operands = "CHECKPOINT...",
		.options = options
	};
	error err;
	struct option_list folders = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &folders, &err);
	bool ok = parsed == PARSE_OK && a.eval_list && !a.image_root
	                  ? fail(&err, EXIT_USAGE, "--eval-list needs --image-root")
	                  : parsed == PARSE_HELP || (parsed == PARSE_OK && run(&a, &folders, &err));
	options_free(&folders);
	return ok ? EXIT_OK : error_report("sanity", &err);
}
