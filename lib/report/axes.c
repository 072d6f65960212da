/* See axes.h. */
#include "lib/report/axes.h"

#include <math.h>

#include "lib/report/format.h"

static const double LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 46;

struct axis axis_empty(int log)
{
	return (struct axis){ INFINITY, -INFINITY, log };
}

static double transform(const struct axis *a, double value)
{
	return a->log ? log10(value) : value;
}

void axis_add(struct axis *a, double value)
{
	if (a->log && !(value > 0))
		return;
	double at = transform(a, value);
	a->low = at < a->low ? at : a->low;
	a->high = at > a->high ? at : a->high;
}

int axis_is_empty(const struct axis *a)
{
	return !(a->low <= a->high);
}

void axis_finish(struct axis *a)
{
	if (axis_is_empty(a)) {
		a->low = 0;
		a->high = 1;
	} else if (a->log) {
		a->low = floor(a->low - 0.05);
		a->high = ceil(a->high + 0.05);
	} else {
		double room = a->high > a->low ? (a->high - a->low) * 0.04 : 1;
		a->low -= room;
		a->high += room;
	}
}

double place_x(const struct axes *a, double value)
{
	double share = (transform(&a->x, value) - a->x.low) / (a->x.high - a->x.low);
	return LEFT + share * (PLOT_WIDTH - LEFT - RIGHT);
}

double place_y(const struct axes *a, double value)
{
	double share = (transform(&a->y, value) - a->y.low) / (a->y.high - a->y.low);
	return PLOT_HEIGHT - BOTTOM - share * (PLOT_HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, about six to the range. */
static double tick_step(const struct axis *a)
{
	double rough = (a->high - a->low) / 6;
	if (a->log)
		return rough > 1 ? ceil(rough) : 1;
	double power = pow(10, floor(log10(rough)));
	double head = rough / power;
	return power * (head > 5 ? 10 : head > 2 ? 5 : head > 1 ? 2 : 1);
}

static void draw_tick(text *out, const struct axes *a, int vertical, double tick)
{
	const struct axis *axis = vertical ? &a->y : &a->x;
	double value = axis->log ? pow(10, tick) : tick;
	double at = vertical ? place_y(a, value) : place_x(a, value);
	if (vertical)
		text_printf(out, "<path class=grid d=\"M%g %.1fH%g\"/>"
		            "<text class=tick x=\"%g\" y=\"%.1f\" text-anchor=end>", LEFT, at,
		            PLOT_WIDTH - RIGHT, LEFT - 7, at + 4);
	else
		text_printf(out, "<path class=grid d=\"M%.1f %gV%g\"/>"
		            "<text class=tick x=\"%.1f\" y=\"%g\" text-anchor=middle>", at, TOP,
		            PLOT_HEIGHT - BOTTOM, at, PLOT_HEIGHT - BOTTOM + 17);
	if (axis->log)
		text_printf(out, "1e%g</text>", tick);
	else
		text_printf(out, "%g</text>", fabs(tick) < 1e-12 ? 0 : tick);
}

static void draw_ticks(text *out, const struct axes *a, int vertical)
{
	const struct axis *axis = vertical ? &a->y : &a->x;
	double step = tick_step(axis), first = ceil(axis->low / step - 1e-9);
	for (int i = 0; (first + i) * step <= axis->high + 1e-9 * step; i++)
		draw_tick(out, a, vertical, (first + i) * step);
}

void open_plot(text *out, const struct axes *a, const char *title, const char *x_name,
               const char *y_name)
{
	text_printf(out, "<div class=scroll><svg role=img viewBox=\"0 0 %d %d\"><title>",
	            PLOT_WIDTH, PLOT_HEIGHT);
	add_escaped(out, title);
	text_puts(out, "</title>");
	if (a->x.high > a->x.low)
		draw_ticks(out, a, 0);
	draw_ticks(out, a, 1);
	text_printf(out, "<text class=axis x=\"%g\" y=\"%d\" text-anchor=middle>",
	            (LEFT + PLOT_WIDTH - RIGHT) / 2, PLOT_HEIGHT - 8);
	add_escaped(out, x_name);
	text_printf(out, "</text><text class=axis text-anchor=middle "
	            "transform=\"translate(13 %g) rotate(-90)\">",
	            (TOP + PLOT_HEIGHT - BOTTOM) / 2);
	add_escaped(out, y_name);
	text_puts(out, "</text>\n");
}

void close_plot(text *out)
{
	text_puts(out, "</svg></div>\n");
}
