/* Plots as inline SVG. Colours are the page's classes c0 to c6; what has no number is
 * not drawn, and a plot without any says so. Private to lib/report. */
#ifndef QUERN_REPORT_PLOTS_H
#define QUERN_REPORT_PLOTS_H

#include "lib/base/text.h"
#include "lib/report/confidence.h"
#include "lib/report/findings.h"

/* KL per answer token against bits, all schemes, the Pareto line marked. */
bool plot_damage(const struct findings *f, int set, text *out, error *err);

/* The score of every group in model order, with two standard errors. */
void plot_sensitivity(const struct found_baseline *b, const struct confidence *c,
                      text *out);

/* Share of each final cut that stands after so many blocks. */
void plot_settling(const struct confidence *c, text *out);

/* Score of some groups against the KL of each quantised alone, from quality.json;
 * *correlation is Spearman's, MISSING where nothing was measured. */
bool plot_alone(const struct found_baseline *b, double *correlation, text *out, error *err);

/* Scores of the same groups by two methods. */
bool plot_methods(const struct found_baseline *x, const struct found_baseline *y,
                  double *correlation, text *out, error *err);

/* The mark of a scheme as it stands in plots, inside text: colour and shape are its
 * baseline's; hollow, the scheme belongs to no family. */
void add_mark(const struct findings *f, const struct found_scheme *s, text *out);

#endif
