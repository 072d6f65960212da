/* table: what the stages of the bench cost, for people and for machines.
 *
 *   table [--json FILE] [--peak TFLOPS] RESULTS INPUTS MODEL
 *
 * RESULTS is what stage.c wrote, INPUTS the folder that make_inputs.c made, MODEL the
 * checkpoint in it. A stage without a result was not run, and the table says why; where a
 * column does not apply there is a dash (JSON: null). Exits with 2 when a stage failed for
 * another reason than that this machine or device cannot do it (exit code 3). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/options.h"
#include "tests/support/flops.h"

enum { MAX_RESULTS = 1 << 24 };
static const double NONE = -1; /* a cell that does not apply */

/* What there is to measure, in the order that it is shown. */
static const struct kind {
	const char *name;
	enum flops_work work;
	bool image;
} KINDS[] = {
	{ "scan_inputs", FLOPS_NONE, false },
	{ "decode_image", FLOPS_NONE, true },
	{ "calibrate_image", FLOPS_CALIBRATE, true },
	{ "calibrate_text", FLOPS_CALIBRATE, false },
	{ "gradient_image", FLOPS_GRADIENT, true },
	{ "gradient_text", FLOPS_GRADIENT, false },
	{ "kl_image", FLOPS_KL, true },
	{ "quantize", FLOPS_NONE, false },
	{ "catalog_cold", FLOPS_NONE, false },
	{ "catalog_warm", FLOPS_NONE, false },
	{ "export", FLOPS_NONE, false },
	{ "evaluate_image", FLOPS_NONE, true },
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

enum column {
	SAMPLES, MS, TFLOPS, SHARE, DEVICE_GB, HOST_GB, START, LOAD, QUANTISE, MEASURE, TOTAL,
	COLUMNS
};

static const struct {
	const char *name, *heading;
	int decimals;
} FIELDS[COLUMNS] = {
	{ "samples", "samples", 0 },
	{ "ms_per_sample", "ms/sample", 2 },
	{ "tflops", "TFLOP/s", 2 },
	{ "percent_of_peak", "% of peak", 1 },
	{ "device_gb", "device GB", 2 },
	{ "host_gb", "host GB", 2 },
	{ "start_seconds", "start s", 2 },
	{ "load_seconds", "load s", 2 },
	{ "quantise_seconds", "quantise s", 2 },
	{ "measure_seconds", "samples s", 2 },
	{ "seconds", "total s", 2 },
};

struct row {
	bool run;
	double cells[COLUMNS];
	char reason[300]; /* why it was not */
};

struct bench {
	struct row rows[KIND_COUNT];
	struct model_config config;
	struct sample_shape image, text;
	char shape[32], device[160]; /* device: "" while no stage has told */
	double peak; /* of the device, TFLOP/s; NONE: not known */
	bool failed;
};

/* ---- the device ---- */

/* Dense BF16 products with float32 accumulation, TFLOP/s, as the makers' data sheets have
 * them. The first name that a device's name contains is its. */
static const struct {
	const char *name;
	double tflops;
} PEAKS[] = {
	{ "H200", 989 }, { "H100 PCIe", 756 }, { "H100", 989 }, { "B200", 2250 },
	{ "A100", 312 }, { "RTX 5090", 209.5 }, { "RTX 4090", 165.2 }, { "RTX 3090", 71 },
};

static void know_device(struct bench *b, const char *device, int64_t asked)
{
	snprintf(b->device, sizeof b->device, "%s", device);
	b->peak = asked ? (double)asked : NONE;
	for (size_t i = 0; b->peak < 0 && i < sizeof PEAKS / sizeof *PEAKS; i++)
		if (strstr(device, PEAKS[i].name))
			b->peak = PEAKS[i].tflops;
}

/* ---- reading ---- */

static bool read_sample(const json_doc *doc, const char *name, struct sample_shape *out,
                        error *err)
{
	int64_t values[4];
	static const char *const fields[4] = { "tokens", "graded", "grid_h", "grid_w" };
	const cJSON *object = json_object(doc, doc->root, name, err);
	for (int i = 0; i < 4; i++)
		if (!object || !json_integer(doc, object, fields[i], 0, 1 << 20, &values[i], err))
			return false;
	*out = (struct sample_shape){ (int)values[0], (int)values[1], (int)values[2],
		                      (int)values[3] };
	return true;
}

static bool read_inputs(struct bench *b, const char *folder, const char *model, error *err)
{
	char path[PATH_BYTES];
	const char *shape;
	json_doc doc;
	if (!model_config_load(&b->config, model, err) ||
	    !join_path(path, sizeof path, folder, "samples.json", err) ||
	    !json_load(&doc, path, 1 << 16, err))
		return false;
	bool ok = json_text(&doc, doc.root, "shape", &shape, err) &&
	          read_sample(&doc, "image", &b->image, err) &&
	          read_sample(&doc, "text", &b->text, err);
	if (ok)
		snprintf(b->shape, sizeof b->shape, "%s", shape);
	json_free(&doc);
	return ok;
}

/* A time of the line of timings. */
static bool read_time(const json_doc *doc, const cJSON *t, const char *field, double *out,
                      error *err)
{
	return json_number(doc, t, field, 0, 1e9, out, err);
}

static bool read_timings(struct bench *b, const struct kind *k, struct row *row,
                         const json_doc *doc, const cJSON *t, int64_t peak, error *err)
{
	double *cells = row->cells, first, rest, device_bytes;
	int64_t samples;
	const char *device;
	if (!json_text(doc, t, "device", &device, err) ||
	    !read_time(doc, t, "load", &cells[LOAD], err) ||
	    !read_time(doc, t, "quantise", &cells[QUANTISE], err) ||
	    !read_time(doc, t, "first", &first, err) ||
	    !read_time(doc, t, "rest", &rest, err) ||
	    !json_integer(doc, t, "rest_samples", 0, 1 << 30, &samples, err) ||
	    !json_number(doc, t, "device_bytes", 0, 1e15, &device_bytes, err))
		return false;
	know_device(b, device, peak);
	cells[MEASURE] = first + rest;
	cells[START] = cells[TOTAL] - cells[LOAD] - cells[QUANTISE] - cells[MEASURE];
	if (device_bytes > 0)
		cells[DEVICE_GB] = device_bytes / 1e9;
	if (samples == 0 || !(rest > 0))
		return true;
	cells[SAMPLES] = (double)samples;
	cells[MS] = 1e3 * rest / (double)samples;
	if (k->work == FLOPS_NONE)
		return true;
	cells[TFLOPS] = work_flops(&b->config, k->work, k->image ? &b->image : &b->text) *
	                (double)samples / rest / 1e12;
	if (b->peak > 0)
		cells[SHARE] = 100 * cells[TFLOPS] / b->peak;
	return true;
}

static bool read_result(struct bench *b, const json_doc *doc, int64_t peak, error *err)
{
	const char *name, *reason = "";
	int64_t code;
	double seconds, bytes;
	int k = 0;
	if (!json_text(doc, doc->root, "stage", &name, err) ||
	    !json_text_or(doc, doc->root, "reason", &reason, err) ||
	    !json_integer(doc, doc->root, "code", 0, 1 << 16, &code, err) ||
	    !read_time(doc, doc->root, "seconds", &seconds, err) ||
	    !json_number(doc, doc->root, "host_bytes", 0, 1e15, &bytes, err))
		return false;
	while (k < KIND_COUNT && strcmp(KINDS[k].name, name) != 0)
		k++;
	if (k == KIND_COUNT)
		return json_fail(doc, doc->root, err, "no stage \"%s\"", name);
	struct row *row = &b->rows[k];
	snprintf(row->reason, sizeof row->reason, "%s", reason);
	b->failed = b->failed || (code != 0 && code != EXIT_ENVIRONMENT);
	if (code != 0)
		return true;
	row->run = true;
	row->cells[TOTAL] = seconds;
	row->cells[HOST_GB] = bytes / 1e9;
	const cJSON *t = cJSON_GetObjectItemCaseSensitive(doc->root, "timings");
	return !t || read_timings(b, &KINDS[k], row, doc, t, peak, err);
}

static bool read_results(struct bench *b, const char *path, int64_t peak, error *err)
{
	char *data, *rest = NULL;
	size_t size;
	if (!read_file(path, MAX_RESULTS, &data, &size, err))
		return false;
	bool ok = true;
	for (char *line = strtok_r(data, "\n", &rest); ok && line;
	     line = strtok_r(NULL, "\n", &rest)) {
		json_doc doc;
		ok = json_parse(&doc, path, line, strlen(line), err);
		if (!ok)
			break;
		ok = read_result(b, &doc, peak, err);
		json_free(&doc);
	}
	free(data);
	return ok;
}

/* ---- printing ---- */

static void print_cell(double value, int column)
{
	int width = (int)strlen(FIELDS[column].heading);
	if (value < 0)
		printf("  %*s", width < 7 ? 7 : width, "-");
	else
		printf("  %*.*f", width < 7 ? 7 : width, FIELDS[column].decimals, value);
}

static void print_table(const struct bench *b)
{
	printf("%s shape%s%s", b->shape, *b->device ? " on " : "", b->device);
	if (b->peak > 0)
		printf(", peak %g TFLOP/s", b->peak);
	printf("; image samples of %d tokens, text samples of %d\n%-16s", b->image.tokens,
	       b->text.tokens, "");
	for (int c = 0; c < COLUMNS; c++)
		printf("  %7s", FIELDS[c].heading);
	printf("\n");
	for (int k = 0; k < KIND_COUNT; k++) {
		printf("%-16s", KINDS[k].name);
		if (b->rows[k].run)
			for (int c = 0; c < COLUMNS; c++)
				print_cell(b->rows[k].cells[c], c);
		else
			printf("  not run: %s", b->rows[k].reason);
		printf("\n");
	}
}

static void add_number(text *out, double value)
{
	if (value < 0)
		text_puts(out, "null");
	else
		text_printf(out, "%.6g", value);
}

static bool print_json(const struct bench *b, text *out, error *err)
{
	text_printf(out, "{\n  \"shape\": \"%s\",\n  \"device\": ", b->shape);
	bool ok = true;
	if (*b->device)
		ok = json_quote(out, b->device, strlen(b->device));
	else
		text_puts(out, "null");
	text_puts(out, ",\n  \"peak_tflops\": ");
	add_number(out, b->peak);
	text_puts(out, ",\n  \"stages\": {");
	for (int k = 0; ok && k < KIND_COUNT; k++) {
		const struct row *row = &b->rows[k];
		text_printf(out, "%s\n    \"%s\": {\"run\": %s, \"reason\": ", k ? "," : "",
		            KINDS[k].name, row->run ? "true" : "false");
		if (row->run)
			text_puts(out, "null");
		else
			ok = json_quote(out, row->reason, strlen(row->reason));
		for (int c = 0; c < COLUMNS; c++) {
			text_printf(out, ", \"%s\": ", FIELDS[c].name);
			add_number(out, row->cells[c]);
		}
		text_puts(out, "}");
	}
	text_puts(out, "\n  }\n}\n");
	return ok ? text_ok(out, err) : fail(err, EXIT_INTERNAL, "expected names in UTF-8");
}

static bool write_json(const struct bench *b, const char *path, error *err)
{
	text out = { 0 };
	bool ok = print_json(b, &out, err);
	FILE *f = ok ? fopen(path, "wb") : NULL;
	if (ok && (!f || fwrite(out.data, 1, out.length, f) != out.length))
		ok = fail(err, EXIT_ENVIRONMENT, "%s: cannot write", path);
	if (f && fclose(f) != 0 && ok)
		ok = fail(err, EXIT_ENVIRONMENT, "%s: cannot write", path);
	text_free(&out);
	return ok;
}

static void begin(struct bench *b)
{
	*b = (struct bench){ .peak = NONE };
	for (int k = 0; k < KIND_COUNT; k++) {
		snprintf(b->rows[k].reason, sizeof b->rows[k].reason, "not asked for");
		for (int c = 0; c < COLUMNS; c++)
			b->rows[k].cells[c] = NONE;
	}
}

int main(int argc, char **argv)
{
	const char *json = NULL;
	int64_t peak = 0;
	struct option_list operands = { 0 };
	const struct option options[] = {
		{ "json", OPTION_TEXT, &json, "FILE", "the same for machines", false },
		{ "peak", OPTION_INTEGER, &peak, "TFLOPS",
		  "of the device, where it is not one that is known", false },
		{ 0 },
	};
	const struct command command = { .tool = "table", .options = options,
		.purpose = "Prints what the stages of the bench cost.",
		.operands = "RESULTS INPUTS MODEL" };
	static struct bench b;
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, &operands, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK;
	if (ok && operands.count != 3)
		ok = fail(&err, EXIT_USAGE, "expected RESULTS INPUTS MODEL");
	begin(&b);
	ok = ok && read_inputs(&b, operands.values[1], operands.values[2], &err) &&
	     read_results(&b, operands.values[0], peak, &err);
	if (ok)
		print_table(&b);
	ok = ok && (!json || write_json(&b, json, &err));
	options_free(&operands);
	if (!ok)
		return error_report("table", &err);
	return b.failed ? EXIT_BAD_INPUT : EXIT_OK;
}
