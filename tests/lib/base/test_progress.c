/* Progress lines: rarely in a log, rewritten on a terminal, never for work that is
 * over at once. Time is moved by moving what the progress remembers of it. */
#include "lib/base/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A progress whose lines go to memory. */
struct watched {
	struct progress p;
	char *text;
	size_t size;
	FILE *stream;
};

static void start(struct watched *w, int64_t total)
{
	*w = (struct watched){ 0 };
	w->stream = open_memstream(&w->text, &w->size);
	assert_non_null(w->stream);
	progress_begin(&w->p, w->stream, "score", "samples", total);
}

static void finish(struct watched *w)
{
	fclose(w->stream);
	free(w->text);
}

/* As if so many seconds had passed. */
static void let_pass(struct watched *w, double seconds)
{
	w->p.started -= seconds;
	w->p.shown -= seconds;
}

static const char *shown(struct watched *w)
{
	fflush(w->stream);
	return w->text;
}

static void short_work_says_nothing(void **state)
{
	(void)state;
	struct watched w;
	start(&w, 100);
	assert_false(w.p.terminal);
	for (int i = 0; i <= 100; i++)
		progress_set(&w.p, i);
	progress_end(&w.p);
	assert_string_equal(shown(&w), "");
	finish(&w);
}

static void a_log_has_a_line_now_and_then(void **state)
{
	(void)state;
	struct watched w;
	start(&w, 1000);
	let_pass(&w, 10);
	progress_set(&w.p, 0); /* no rate to tell yet */
	assert_string_equal(shown(&w), "");
	progress_set(&w.p, 100);
	assert_string_equal(shown(&w), "score: 100/1000 samples, 10.0/s, 1 min 30 s left\n");
	progress_set(&w.p, 101); /* too soon */
	let_pass(&w, 3);
	progress_set(&w.p, 102);
	assert_int_equal(strlen(shown(&w)),
	                 strlen("score: 100/1000 samples, 10.0/s, 1 min 30 s left\n"));
	let_pass(&w, 7187);
	progress_set(&w.p, 720);
	assert_non_null(strstr(shown(&w),
	                       "\nscore: 720/1000 samples, 0.1/s, 46 min 40 s left\n"));
	progress_set(&w.p, 1000);
	progress_end(&w.p);
	assert_non_null(strstr(shown(&w), "\nscore: 1000 samples in 2 h 00 min\n"));
	finish(&w);
}

static void a_terminal_has_one_line(void **state)
{
	(void)state;
	struct watched w;
	start(&w, 50);
	w.p.terminal = true;
	let_pass(&w, 1);
	progress_set(&w.p, 10);
	assert_string_equal(shown(&w), "\r\033[Kscore: 10/50 samples, 10.0/s, 4 s left");
	progress_end(&w.p);
	assert_non_null(strstr(shown(&w), "left\r\033[Kscore: 10 samples in 1 s\n"));
	finish(&w);
}

static void the_clock_runs_forward(void **state)
{
	(void)state;
	double last = monotonic_seconds();
	for (int i = 0; i < 1000; i++) {
		double now = monotonic_seconds();
		assert_true(now >= last);
		last = now;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_work_says_nothing),
		cmocka_unit_test(a_log_has_a_line_now_and_then),
		cmocka_unit_test(a_terminal_has_one_line),
		cmocka_unit_test(the_clock_runs_forward),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
