/* quality: measures whether a baseline's ranking is worth anything. */
#include "lib/quant/quality.h"

#include "tools/arguments.h"

static bool measure(struct evaluation *job, struct material *m,
                    const struct option_list *operands, const struct damage_facts *facts,
                    text *printed, error *err)
{
	struct variant_choice choices[QUALITY_CHOICES];
	struct damage damage[QUALITY_CHOICES];
	struct quality quality;
	(void)operands;
	job->choices = choices;
	return quality_choices(m, choices, &job->choice_count, err) &&
	       evaluate_choices(job, damage, &m->memory, err) &&
	       judge_quality(m, damage, &quality, err) &&
	       print_quality(&quality, facts, printed, err);
}

int main(int argc, char **argv)
{
	const struct evaluation_tool tool = {
		.name = "quality",
		.purpose = "Measures the least sensitive 25, 50 and 75 % of a baseline's groups "
		           "against random choices of the same size and the reversed ranking, and "
		           "some groups alone. Only measures; check_quality says whether it is "
		           "enough.",
		.measure = measure
	};
	return run_evaluation(&tool, argc, argv);
}
