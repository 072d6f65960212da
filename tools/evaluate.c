/* evaluate: the damage of every scheme of a baseline on one evaluation set. */
#include "lib/artifact/publish.h"
#include "lib/quant/slice.h"
#include "tools/arguments.h"

/* The choices of all slices, with what was measured of them. */
struct choices {
	struct variant_choice *of;
	struct damage *damage;
	int count;
};

static bool read_slices(struct choices *c, struct material *m,
                        const struct option_list *paths, error *err)
{
	size_t count = (size_t)paths->count;
	c->count = paths->count;
	c->of = arena_alloc(&m->memory, count, sizeof *c->of, err);
	c->damage = c->of ? arena_alloc(&m->memory, count, sizeof *c->damage, err) : NULL;
	for (int i = 0; c->damage && i < c->count; i++) {
		struct coverage coverage;
		if (!coverage_read(&coverage, &m->ranked, paths->values[i], err))
			return false;
		c->of[i].name = arena_printf(&m->memory, err, "%s", coverage.scheme);
		c->of[i].keeps = material_choice(m, coverage.keeps, err);
		c->of[i].fp8_cache = coverage.kv_cache.name != NULL;
		coverage_free(&coverage);
		if (!c->of[i].name || !c->of[i].keeps ||
		    (c->of[i].fp8_cache && !material_has_cache(m, err)))
			return false;
	}
	return c->damage != NULL;
}

static bool evaluate(struct evaluation_arguments *a, const struct option_list *slices,
                     error *err)
{
	struct material m = { 0 };
	struct choices c;
	struct evaluation job;
	text printed = { 0 };
	if (slices->count == 0)
		return fail(err, EXIT_USAGE, "expected at least one slice");
	bool ok = evaluation_begin(a, &m, &job, "evaluate", err) &&
	          read_slices(&c, &m, slices, err);
	if (ok) {
		job.choices = c.of;
		job.choice_count = c.count;
		ok = evaluate_choices(&job, c.damage, &m.memory, err) &&
		     print_damage(&job, c.damage, &a->facts, &printed, err) &&
		     write_file_if_changed(a->data.out, printed.data, printed.length, NULL, err);
	}
	text_free(&printed);
	material_free(&m);
	return ok;
}

int main(int argc, char **argv)
{
	struct evaluation_arguments a = { 0 };
	struct option options[EVALUATION_OPTIONS + 1] = { 0 };
	const struct command command = {
		.tool = "evaluate",
		.purpose = "Measures the damage of schemes against the unquantised model: "
		           "perplexity, KL, agreement and logits, weights and inputs quantised as "
		           "a server would.",
		.operands = "SLICE...",
		.options = options
	};
	error err;
	struct option_list slices = { 0 };
	evaluation_options(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv, &slices, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && evaluate(&a, &slices, &err));
	options_free(&slices);
	options_free(&a.format.include);
	options_free(&a.format.exclude);
	return ok ? EXIT_OK : error_report("evaluate", &err);
}
