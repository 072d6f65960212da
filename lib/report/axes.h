/* The frame of a plot: from numbers to places. Private to lib/report. */
#ifndef QUERN_REPORT_AXES_H
#define QUERN_REPORT_AXES_H

#include "lib/base/text.h"

enum { PLOT_WIDTH = 720, PLOT_HEIGHT = 380 };

/* One axis: the range in the data, or its logarithms to base 10. */
struct axis {
	double low, high;
	int log;
};

struct axes {
	struct axis x, y;
};

/* An axis that nothing was put on yet. */
struct axis axis_empty(int log);
void axis_add(struct axis *a, double value); /* on a log axis values <= 0 do not count */
void axis_finish(struct axis *a);            /* some room on both sides; whole decades */
int axis_is_empty(const struct axis *a);

double place_x(const struct axes *a, double value);
double place_y(const struct axes *a, double value);

/* Opens the SVG: title for readers of the page aloud, grid, ticks, names of axes. */
void open_plot(text *out, const struct axes *a, const char *title, const char *x_name,
               const char *y_name);
void close_plot(text *out);

#endif
