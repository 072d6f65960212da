/* From a plan to the text of build.ninja and of the files that go with it. Pure:
 * reads the source folders' listings and the template, writes nothing. */
#ifndef QUERN_GRAPH_EMIT_H
#define QUERN_GRAPH_EMIT_H

#include "lib/base/text.h"
#include "lib/graph/plan.h"

struct tree_settings {
	const char *out;       /* folder of everything built */
	const char *template;  /* build.ninja.in */
	const char *configure; /* the command that reruns configure as it was run */
	const char *catalog;   /* schemes.json */
	const char *compiler;
	const char *launch;    /* prefix of heavy commands, or "" */
	const char *cuda;      /* folder of the CUDA toolkit, or "" for a build without */
	const char *device;    /* "", "--cpu" or "--cuda", for the heavy tools */
	int64_t workers;
};

/* What configure writes. */
struct emitted {
	text ninja;     /* build.ninja */
	text scan_list; /* what the scan edge looks at; see tools/scan.c */
	text help;      /* `ninja help` */
	text artifacts; /* what the catalog makes; see lib/artifact/release.h */
	text report;    /* which artifacts belong to which scheme; see lib/report/findings.h */
	int edges;      /* of the data, compilation not counted */
};

bool emit_graph(struct emitted *e, const struct plan *plan,
                const struct tree_settings *settings, error *err);
void emitted_free(struct emitted *e);

#endif
