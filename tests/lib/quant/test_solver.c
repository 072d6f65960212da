/* The solver against brute force, against the reference's searches, and on catalogs of
 * the real models' shapes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/json.h"
#include "lib/quant/groups.h"
#include "lib/quant/solver.h"
#include "tests/support/shared_config.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

enum { MOST_GROUPS = 512, MOST_CANDIDATES = 5 };

struct instance {
	struct candidate candidates[MOST_GROUPS][MOST_CANDIDATES];
	struct candidate_list lists[MOST_GROUPS];
	int count;
};

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static double uniform(uint64_t *state)
{
	return (double)next_random(state) / 2147483648.0;
}

static void add_group(struct instance *x, int candidates)
{
	x->lists[x->count] = (struct candidate_list){ x->candidates[x->count], candidates };
	x->count++;
}

/* Least score within the budget by trying everything; INFINITY if nothing fits. */
static double brute_force(const struct instance *x, int group, double budget)
{
	if (budget < 0)
		return INFINITY;
	if (group == x->count)
		return 0;
	double best = INFINITY;
	for (int c = 0; c < x->lists[group].count; c++) {
		const struct candidate *k = &x->lists[group].candidates[c];
		best = fmin(best, k->score + brute_force(x, group + 1, budget - k->cost));
	}
	return best;
}

/* Asserts that the choice is what the solution says. */
static void check_choice(const struct instance *x, const int *choice, double budget,
                         const struct solution *s)
{
	double score = 0, cost = 0;
	for (int g = 0; g < x->count; g++) {
		assert_in_range(choice[g], 0, x->lists[g].count - 1);
		score += x->lists[g].candidates[choice[g]].score;
		cost += x->lists[g].candidates[choice[g]].cost;
	}
	assert_true(score == s->score && cost == s->cost && cost <= budget);
	assert_true(s->bound <= s->score);
}

static void solve(const struct instance *x, double budget, int *choice, struct solution *s)
{
	error err;
	if (!solve_budget(x->lists, x->count, budget, choice, s, &err))
		fail_msg("%s", err.text);
	if (s->feasible)
		check_choice(x, choice, budget, s);
}

/* Costs of few sizes and scores with ties, negative slopes and dominated candidates. */
static void make_random(struct instance *x, int groups, uint64_t *state)
{
	static const double sizes[] = { 1, 2, 3, 5, 8, 13 };
	*x = (struct instance){ 0 };
	for (int g = 0; g < groups; g++) {
		double size = sizes[next_random(state) % 6];
		int candidates = 1 + (int)(next_random(state) % MOST_CANDIDATES);
		bool whole = next_random(state) % 2;
		for (int c = 0; c < candidates; c++) {
			double score = whole ? (double)(next_random(state) % 6) : uniform(state);
			x->candidates[g][c] = (struct candidate){
				score, size * (double)(next_random(state) % 5) };
		}
		add_group(x, candidates);
	}
}

static void test_brute_force(void **unused)
{
	uint64_t state = 7;
	struct instance *x = malloc(sizeof *x);
	int choice[MOST_GROUPS], infeasible = 0;
	(void)unused;
	assert_non_null(x);
	for (int i = 0; i < 3000; i++) {
		struct solution s;
		make_random(x, 1 + (int)(next_random(&state) % 7), &state);
		double budget = (double)(next_random(&state) % 60);
		double expected = brute_force(x, 0, budget);
		solve(x, budget, choice, &s);
		assert_int_equal(s.feasible, expected < INFINITY);
		infeasible += !s.feasible;
		if (!s.feasible) {
			assert_true(s.least_cost > budget);
			continue;
		}
		assert_true(s.optimal);
		if (fabs(s.score - expected) > 1e-11 * (1 + expected))
			fail_msg("instance %d: expected %.17g, found %.17g", i, expected, s.score);
	}
	assert_in_range(infeasible, 1, 2999);
	free(x);
}

static void test_edges(void **unused)
{
	struct instance x = { 0 };
	struct solution s;
	int choice[MOST_GROUPS];
	(void)unused;
	x.candidates[0][0] = (struct candidate){ 5, 8 };
	x.candidates[0][1] = (struct candidate){ 0, 16 };
	add_group(&x, 2);
	solve(&x, 16, choice, &s);
	assert_true(s.feasible && choice[0] == 1 && s.score == 0);
	solve(&x, 8, choice, &s);
	assert_true(s.feasible && choice[0] == 0 && s.score == 5);
	solve(&x, 7.999, choice, &s);
	assert_true(!s.feasible && s.least_cost == 8);
	x.count = 0;
	solve(&x, 0, choice, &s);
	assert_true(s.feasible && s.score == 0 && s.cost == 0);
}

/* ---- the reference's answers ---- */

/* Candidates of the groups that had more than NONE. */
static double load_stats(struct instance *x, const cJSON *stats, const char **names)
{
	double whole = 0;
	*x = (struct instance){ 0 };
	for (const cJSON *entry = stats->child; entry; entry = entry->next) {
		const cJSON *scores = cJSON_GetObjectItem(entry, "scores");
		const cJSON *costs = cJSON_GetObjectItem(entry, "costs");
		int count = cJSON_GetArraySize(scores);
		if (count < 2)
			continue;
		for (int c = 0; c < count; c++)
			x->candidates[x->count][c] = (struct candidate){
				cJSON_GetArrayItem(scores, c)->valuedouble,
				cJSON_GetArrayItem(costs, c)->valuedouble };
		whole += x->candidates[x->count][count - 1].cost;
		names[x->count] = entry->string;
		add_group(x, count);
	}
	return whole;
}

/* The reference's score and cost: of its recipe, or of its list of quantised modules
 * (which all took the cheapest format). */
static void read_answer(const struct instance *x, const char *const *names,
                        const cJSON *stats, const cJSON *best, double *score, double *cost)
{
	const cJSON *recipe = cJSON_GetObjectItem(best, "recipe");
	const cJSON *modules = cJSON_GetObjectItem(best, "quantized_modules");
	*score = *cost = 0;
	for (int g = 0; g < x->count; g++) {
		int c = x->lists[g].count - 1;
		if (recipe) {
			const char *format = cJSON_GetObjectItem(recipe, names[g])->valuestring;
			const cJSON *formats = cJSON_GetObjectItem(
				cJSON_GetObjectItem(stats, names[g]), "formats");
			for (int f = 0; f < x->lists[g].count; f++)
				if (strcmp(cJSON_GetArrayItem(formats, f)->valuestring, format) == 0)
					c = f;
		} else {
			size_t length = strlen(names[g]) - strlen(".quant_recipe");
			for (const cJSON *m = modules->child; m; m = m->next)
				if (strlen(m->valuestring) == length &&
				    strncmp(m->valuestring, names[g], length) == 0)
					c = 0;
		}
		*score += x->candidates[g][c].score;
		*cost += x->candidates[g][c].cost;
	}
}

static int compare_golden(const char *folder, const char *name)
{
	struct instance *x = malloc(sizeof *x);
	const char *names[MOST_GROUPS];
	char path[PATH_BYTES];
	json_doc doc;
	error err;
	int choice[MOST_GROUPS], compared = 0;
	assert_non_null(x);
	if (!join_path(path, sizeof path, folder, name, &err) ||
	    !json_load(&doc, path, 64 << 20, &err))
		fail_msg("%s", err.text);
	const cJSON *stats = cJSON_GetObjectItem(doc.root, "candidate_stats");
	double whole = load_stats(x, stats, names);
	for (const cJSON *best = cJSON_GetObjectItem(doc.root, "best")->child; best;
	     best = best->next) {
		struct solution s;
		double score, cost, bits = atof(best->string);
		bool three = x->lists[0].count > 2;
		read_answer(x, names, stats, best, &score, &cost);
		/* With three formats a list of modules does not say which each took. */
		if (three && !cJSON_GetObjectItem(best, "recipe"))
			continue;
		solve(x, whole * bits / 16, choice, &s);
		assert_true(s.feasible && s.optimal);
		print_message("%s at %g bits: %.6g at %.3f bits, the reference %.6g at %.3f\n",
		              name, bits, s.score, 16 * s.cost / whole, score, 16 * cost / whole);
		assert_true(cost <= whole * bits / 16);
		assert_true(s.score <= score * (1 + 1e-12));
		compared++;
	}
	json_free(&doc);
	free(x);
	return compared;
}

static void test_demo_budgets(void **unused)
{
	static const char *const names[] = {
		"autoquant.fp8_all_gradient.float32.cpu.json",
		"autoquant.fp8_all_gradient_describe.float32.cpu.json",
		"autoquant.fp8_all_gradient_labels_all.float32.cpu.json",
		"autoquant.fp8_all_kl_div.float32.cpu.json",
		"autoquant.fp8_all_kl_div_describe.float32.cpu.json",
		"autoquant.fp8_lm_gradient.float32.cpu.json",
		"autoquant.fp8_lm_kl_div.float32.cpu.json",
		"autoquant.fp8_pcpt_lm_gradient.float32.cpu.json",
		"autoquant.int8_all_gradient.float32.cpu.json",
	};
	int compared = 0;
	(void)unused;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		compared += compare_golden("tests/golden/demo", names[i]);
	assert_int_equal(compared, 19);
}

static void test_coco_budgets(void **unused)
{
	static const char *const names[] = {
		"autoquant.fp8_all_gradient.float32.cpu.json",
		"autoquant.fp8_all_gradient_describe.float32.cpu.json",
		"autoquant.fp8_lm_gradient.float32.cpu.json",
		"autoquant.fp8_lm_kl_div.float32.cpu.json",
		"autoquant.fp8_all_kl_div.float32.cpu.json",
		"autoquant.fp8_pcpt_lm_gradient.float32.cpu.json",
		"autoquant.int8_all_gradient.float32.cpu.json",
		"autoquant.nvfp4_fp8_lm_gradient.float32.cuda.json",
	};
	char folder[PATH_BYTES];
	int compared = 0;
	(void)unused;
	if (!find_shared(folder, "golden/coco", "test_coco_budgets"))
		skip();
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		compared += compare_golden(folder, names[i]);
	assert_true(compared >= 15);
}

/* ---- real shapes ---- */

/* Every group of a model in four formats and as it is. Scores spread over orders of
 * magnitude and fall with the bits, as measured ones do. */
static void make_catalog(struct instance *x, const struct model_config *config)
{
	static const double bits[] = { 4, 4.5, 8, 8, 16 }, harm[] = { 300, 120, 1, 0.9, 0 };
	struct linear_shape *linears;
	struct group_list groups;
	arena memory = { 0 };
	uint64_t state = 11;
	int count;
	error err;
	*x = (struct instance){ 0 };
	if (!list_linears(config, &memory, &linears, &count, &err) ||
	    !make_groups(linears, count, NULL, 0, &memory, &groups, &err))
		fail_msg("%s", err.text);
	assert_true(groups.count <= MOST_GROUPS);
	for (int g = 0; g < groups.count; g++) {
		double scale = exp(-9 * uniform(&state));
		for (int c = 0; c < 5; c++)
			x->candidates[g][c] = (struct candidate){
				scale * harm[c] * (0.7 + 0.6 * uniform(&state)),
				(double)groups.groups[g].weights * bits[c] / 16 };
		add_group(x, 5);
	}
	arena_free(&memory);
}

static double milliseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static void test_real_catalogs(void **unused)
{
	static const char *const models[] = { "qwen2_5_vl_3b", "qwen2_5_vl_7b" };
	struct instance *x = malloc(sizeof *x);
	int choice[MOST_GROUPS];
	(void)unused;
	assert_non_null(x);
	for (int m = 0; m < 2; m++) {
		struct model_config config;
		double worst = 0, whole = 0;
		if (!find_shared_config(&config, models[m], "test_real_catalogs")) {
			free(x);
			skip();
		}
		make_catalog(x, &config);
		for (int g = 0; g < x->count; g++)
			whole += x->candidates[g][4].cost;
		for (double bits = 4; bits <= 16; bits += 0.25) {
			struct solution s;
			double begun = milliseconds();
			solve(x, whole * bits / 16, choice, &s);
			worst = fmax(worst, milliseconds() - begun);
			assert_true(s.feasible);
			if (!s.optimal)
				print_message("%s at %g bits: gap %.3g\n", models[m], bits,
				              (s.score - s.bound) / s.score);
			assert_true(s.optimal || s.bound < s.score);
		}
		print_message("%s: %d groups, 4 formats, worst of 49 budgets %.1f ms\n",
		              models[m], x->count, worst);
	}
	free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_brute_force),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_demo_budgets),
		cmocka_unit_test(test_coco_budgets),
		cmocka_unit_test(test_real_catalogs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
