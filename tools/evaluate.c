/* evaluate: the damage of every scheme of a baseline on one evaluation set. */
#include <string.h>

#include "lib/quant/slice.h"
#include "tools/arguments.h"

static bool read_slices(struct variant_choice *choices, struct material *m,
                        const struct option_list *paths, error *err)
{
	for (int i = 0; i < paths->count; i++) {
		struct coverage coverage;
		if (!coverage_read(&coverage, &m->ranked, paths->values[i], err))
			return false;
		choices[i].name = arena_printf(&m->memory, err, "%s", coverage.scheme);
		choices[i].formats = material_choice(m, coverage.keeps, coverage.choice, err);
		choices[i].fp8_cache = coverage.kv_cache.name != NULL;
		coverage_free(&coverage);
		if (!choices[i].name || !choices[i].formats ||
		    (choices[i].fp8_cache && !material_has_cache(m, err)))
			return false;
		for (int other = 0; other < i; other++)
			if (strcmp(choices[other].name, choices[i].name) == 0)
				return fail(err, EXIT_USAGE, "%s: expected each scheme once, found \"%s\" "
				            "twice", paths->values[i], choices[i].name);
	}
	return true;
}

static bool measure(struct evaluation *job, struct material *m,
                    const struct option_list *slices, const struct damage_facts *facts,
                    text *printed, error *err)
{
	size_t count = (size_t)slices->count;
	if (count == 0)
		return fail(err, EXIT_USAGE, "expected at least one slice");
	struct variant_choice *choices = arena_alloc(&m->memory, count, sizeof *choices, err);
	struct damage *damage = arena_alloc(&m->memory, count, sizeof *damage, err);
	if (!choices || !damage)
		return false;
	job->choices = choices;
	job->choice_count = slices->count;
	return read_slices(choices, m, slices, err) &&
	       evaluate_choices(job, damage, &m->memory, err) &&
	       print_damage(job, damage, facts, printed, err);
}

int main(int argc, char **argv)
{
	const struct evaluation_tool tool = {
		.name = "evaluate",
		.purpose = "Measures the damage of schemes against the unquantised model: "
		           "perplexity, KL, agreement and logits, weights and inputs quantised as "
		           "a server would.",
		.operands = "SLICE...",
		.measure = measure
	};
	return run_evaluation(&tool, argc, argv);
}
