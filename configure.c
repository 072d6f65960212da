/* configure: schemes.json + model headers -> build.ninja.
 *
 * Everything that can go wrong before a heavy edge runs goes wrong here: the
 * catalog is checked field by field, models and data are opened, shapes are held
 * against what the exporter can write. The result is a plain Ninja file. The graph
 * reruns this program with the arguments it was given whenever the catalog moves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/publish.h"
#include "lib/base/file.h"
#include "lib/base/options.h"
#include "lib/graph/emit.h"

struct arguments {
	struct catalog_overrides overrides;
	const char *out, *catalog, *launch;
	int64_t workers;
	bool cpu, cuda;
};

/* A relative path is relative to the folder that configure and ninja run in. */
static void describe(struct arguments *a, struct option options[])
{
	const struct option table[] = {
		{ "model", OPTION_TEXT, &a->overrides.model, "DIR",
		  "checkpoint folder in place of the catalog's model", false },
		{ "captions", OPTION_TEXT, &a->overrides.captions, "FILE",
		  "captions file (one a line) for the text calibration", false },
		{ "calib-db", OPTION_TEXT, &a->overrides.calib_db, "FILE",
		  "SQLite calibration DB for the image + caption calibration", false },
		{ "eval-list", OPTION_TEXT, &a->overrides.eval_list, "FILE",
		  "evaluation list (JSON lines) in place of the catalog's", false },
		{ "image-root", OPTION_TEXT, &a->overrides.image_root, "DIR",
		  "folder that image paths of DB and evaluation list start from", false },
		{ "set", OPTION_LIST, &a->overrides.sets, "PATH=VALUE",
		  "change a catalog field, e.g. calibrations.coco2017_vlm.score_samples=64",
		  false },
		{ "catalog", OPTION_TEXT, &a->catalog, "FILE", "catalog (default schemes.json)",
		  false },
		{ "out", OPTION_TEXT, &a->out, "DIR", "folder of everything built (default out)",
		  false },
		{ "workers", OPTION_INTEGER, &a->workers, "N",
		  "calibrate and score in N processes (default 1)", false },
		{ "launch", OPTION_TEXT, &a->launch, "CMD",
		  "prefix of heavy commands, e.g. 'srun --gres=gpu:1'", false },
		{ "cpu", OPTION_FLAG, &a->cpu, NULL, "compute on the CPU",
		  false },
		{ "cuda", OPTION_FLAG, &a->cuda, NULL, "compute on an NVIDIA GPU (default: where one answers)",
		  false },
		{ 0 },
	};
	memcpy(options, table, sizeof table);
}

enum { OPTION_SLOTS = 13 };

/* The toolkit's folder, or "". */
static const char *find_cuda(void)
{
	const char *home = getenv("CUDA_HOME");
	char nvcc[PATH_BYTES];
	if (!home || !*home)
		home = "/usr/local/cuda";
	int length = snprintf(nvcc, sizeof nvcc, "%s/bin/nvcc", home);
	return length > 0 && (size_t)length < sizeof nvcc && file_exists(nvcc) ? home : "";
}

static bool check_arguments(const struct arguments *a, error *err)
{
	if (a->cuda && a->cpu)
		return fail(err, EXIT_USAGE, "--cpu and --cuda exclude each other");
	if (a->cuda && !*find_cuda())
		return fail(err, EXIT_ENVIRONMENT, "--cuda: expected the CUDA toolkit at $CUDA_HOME "
		            "or /usr/local/cuda, found no bin/nvcc there");
	if (a->workers < 1 || a->workers > 4096)
		return fail(err, EXIT_USAGE, "--workers: expected 1 to 4096, found %lld",
		            (long long)a->workers);
	if (!*a->out || a->out[strspn(a->out, "abcdefghijklmnopqrstuvwxyz"
	                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")])
		return fail(err, EXIT_USAGE, "--out: expected a path of letters, digits and "
		            "\"_-./\", found \"%s\"", a->out);
	return true;
}

/* The command line, quoted for the shell and for ninja, as the graph repeats it. */
static bool quote_command(text *out, const char *program, int argc, char **argv, error *err)
{
	text_puts(out, program);
	for (int i = 1; i < argc; i++) {
		text_puts(out, " '");
		for (const char *p = argv[i]; *p; p++) {
			if (*p == '\n')
				return fail(err, EXIT_USAGE, "argument %d holds a newline", i);
			text_puts(out, *p == '\'' ? "'\\''" : *p == '$' ? "$$" : (char[]){ *p, 0 });
		}
		text_puts(out, "'");
	}
	return text_ok(out, err);
}

/* build.ninja comes last: it depends on the others. dry-run.ninja is the same graph under
 * another name: ninja looks at it without first remaking its manifest, which `ninja -n` by
 * itself takes for the end of the matter. */
static bool write_tree(const struct emitted *e, const char *out, error *err)
{
	static char include[] = "include build.ninja\n";
	const text dry_run = { .data = include, .length = sizeof include - 1 };
	const struct {
		const char *name;
		const text *content;
	} parts[] = {
		{ "scan.list", &e->scan_list }, { "help.txt", &e->help },
		{ "artifacts.list", &e->artifacts }, { "dry-run.ninja", &dry_run },
		{ "report.json", &e->report }, { "build.ninja", &e->ninja },
	};
	enum { PARTS = sizeof parts / sizeof parts[0] };
	char paths[PARTS][PATH_BYTES];
	struct new_file files[PARTS];
	bool ok = make_folders(out, err);
	for (int i = 0; ok && i < PARTS; i++) {
		ok = join_path(paths[i], PATH_BYTES, i < PARTS - 1 ? out : ".", parts[i].name, err);
		files[i] = (struct new_file){ paths[i],
			parts[i].content->data ? parts[i].content->data : "",
			parts[i].content->length };
	}
	return ok && write_files_if_changed(files, PARTS, err);
}

static bool configure(const struct arguments *a, const char *command, error *err)
{
	struct catalog catalog = { 0 };
	struct plan plan = { 0 };
	struct emitted emitted = { 0 };
	const char *compiler = getenv("CC");
	const struct tree_settings settings = {
		.out = a->out, .template = "build.ninja.in", .configure = command,
		.catalog = a->catalog, .compiler = compiler && *compiler ? compiler : "cc",
		.launch = a->launch, .workers = a->workers, .cuda = find_cuda(),
		.device = a->cpu ? "--cpu" : a->cuda ? "--cuda" : ""
	};
	bool ok = catalog_load(&catalog, a->catalog, &a->overrides, err) &&
	          plan_build(&plan, &catalog, err) &&
	          emit_graph(&emitted, &plan, &settings, err) &&
	          write_tree(&emitted, a->out, err);
	if (ok)
		plan_print(&plan, emitted.edges);
	emitted_free(&emitted);
	plan_free(&plan);
	catalog_free(&catalog);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { .out = "out", .catalog = "schemes.json", .launch = "",
		.workers = 1 };
	struct option options[OPTION_SLOTS];
	const struct command command = {
		.tool = "configure",
		.purpose = "Reads the catalog and the headers of its models, prints the plan and "
		           "writes build.ninja for `ninja SCHEME`.",
		.options = options
	};
	error err;
	text repeated = { 0 };
	char program[PATH_BYTES];
	describe(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK && check_arguments(&a, &err) &&
	          join_path(program, sizeof program, a.out, "bin/configure", &err) &&
	          quote_command(&repeated, program, argc, argv, &err) &&
	          configure(&a, repeated.data, &err);
	text_free(&repeated);
	options_free(&a.overrides.sets);
	return ok ? EXIT_OK : error_report("configure", &err);
}
