/* Progress lines; see progress.h. */
#include "lib/base/progress.h"

#include <time.h>
#include <unistd.h>

static const double TERMINAL_PAUSE = 0.1, LOG_PAUSE = 5.0; /* seconds */

double monotonic_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void progress_begin(struct progress *p, FILE *stream, const char *what, const char *unit,
                    int64_t total)
{
	double now = monotonic_seconds();
	*p = (struct progress){ .stream = stream, .what = what, .unit = unit, .total = total,
		.started = now, .shown = now, .terminal = isatty(fileno(stream)) };
}

static void print_duration(FILE *stream, double seconds)
{
	long s = (long)(seconds + 0.5);
	if (s >= 3600)
		fprintf(stream, "%ld h %02ld min", s / 3600, s / 60 % 60);
	else if (s >= 60)
		fprintf(stream, "%ld min %02ld s", s / 60, s % 60);
	else
		fprintf(stream, "%ld s", s);
}

void progress_set(struct progress *p, int64_t done)
{
	double now = monotonic_seconds();
	p->done = done;
	if (now - p->shown < (p->terminal ? TERMINAL_PAUSE : LOG_PAUSE) || done == 0)
		return;
	p->shown = now;
	double rate = (double)done / (now - p->started);
	fprintf(p->stream, "%s%s: %lld/%lld %s, %.1f/s, ", p->terminal ? "\r\033[K" : "",
	        p->what, (long long)done, (long long)p->total, p->unit, rate);
	print_duration(p->stream, (double)(p->total - done) / rate);
	fprintf(p->stream, " left%s", p->terminal ? "" : "\n");
	fflush(p->stream);
}

void progress_end(struct progress *p)
{
	double took = monotonic_seconds() - p->started;
	if (p->terminal)
		fprintf(p->stream, "\r\033[K");
	if (took >= LOG_PAUSE || p->terminal) {
		fprintf(p->stream, "%s: %lld %s in ", p->what, (long long)p->done, p->unit);
		print_duration(p->stream, took);
		fputc('\n', p->stream);
	}
	fflush(p->stream);
}
