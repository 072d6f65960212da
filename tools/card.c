/* card: completes the model card of a published checkpoint with what was measured since. */
#include <stdlib.h>

#include "lib/artifact/card.h"
#include "lib/artifact/publish.h"
#include "lib/artifact/step.h"
#include "lib/base/options.h"
#include "lib/quant/model_card.h"

enum { MAX_DAMAGE_BYTES = 256 << 20 };

struct arguments {
	const char *scheme, *tree, *out;
	struct option_list damage, folders;
};

/* Into the folder first: a build that is killed between the two does both again. */
static bool write_card(const struct arguments *a, struct step *step, error *err)
{
	json_doc *damage = calloc((size_t)a->damage.count + 1, sizeof *damage);
	char path[PATH_BYTES];
	text card = { 0 };
	int count = 0;
	bool ok = damage || fail_memory(err, "the damage", 0);
	if (ok && a->folders.count != 1)
		ok = fail(err, EXIT_USAGE, "expected one checkpoint folder, found %d",
		          a->folders.count);
	for (; ok && count < a->damage.count; count += ok)
		ok = json_load(&damage[count], a->damage.values[count], MAX_DAMAGE_BYTES, err);
	ok = ok && join_path(path, sizeof path, a->folders.values[0], CARD_FILE, err) &&
	     complete_card(path, a->scheme, damage, count, &card, err) &&
	     step_write(step, path, &card, err) && step_write(step, a->out, &card, err);
	while (count > 0)
		json_free(&damage[--count]);
	free(damage);
	text_free(&card);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	const struct option options[] = {
		{ "scheme", OPTION_TEXT, &a.scheme, "NAME", "name of the scheme", true },
		{ "damage", OPTION_LIST, &a.damage, "FILE", "what evaluate wrote of a set; several",
		  false },
		{ "tree", OPTION_TEXT, &a.tree, "DIR", "build tree", true },
		{ "out", OPTION_TEXT, &a.out, "FILE", "where the card goes beside the folder", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "card",
		.purpose = "Writes the model card of a published checkpoint anew, with what was "
		           "measured since it was published.",
		.operands = "CHECKPOINT",
		.options = options
	};
	error err;
	struct step step = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &a.folders, &err);
	bool ok = parsed == PARSE_HELP ||
	          (parsed == PARSE_OK && step_begin(&step, a.tree, "card", a.out, &err) &&
	           step_inputs(&step, "damage", a.damage.values, a.damage.count, &err) &&
	           write_card(&a, &step, &err) && step_end(&step, &err));
	step_drop(&step);
	options_free(&a.damage);
	options_free(&a.folders);
	return ok ? EXIT_OK : error_report("card", &err);
}
