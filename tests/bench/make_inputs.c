/* make_inputs: a checkpoint of a real model's shape with random weights, and samples to
 * measure with: every image is 640x480 and fills a sequence of 448 tokens, every caption
 * 512.
 *
 *   make_inputs SHAPE ROWS FOLDER
 *
 * Makes FOLDER/qwen2_5_vl_SHAPE, images/, calib.db, captions.txt, eval.jsonl (ROWS rows
 * each) and samples.json, which says what the samples are. Run from the repository's
 * root: the tokenizer and the words are the demo's. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/data/prompt.h"
#include "tests/support/png_file.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"

enum {
	WIDTH = 640, HEIGHT = 480, IMAGES = 128,
	IMAGE_TOKENS = 448, TEXT_TOKENS = 512, /* of a whole sample */
	MAX_ROWS = 100000
};

struct inputs {
	const char *folder;
	int rows;
	struct random_model model;
	struct tokenizer *tokenizer;
	const char **words; /* each one token after a space */
	size_t word_count;
	char *word_text;
	int image_words;    /* of a caption that fills IMAGE_TOKENS */
	struct sample_size {
		int tokens, graded, grid_h, grid_w;
	} image, text;
};

/* ---- the model ---- */

static void set_vision(struct vision_config *v)
{
	v->depth = 32;
	v->hidden = 1280;
	v->heads = 16;
	v->intermediate = 3420;
	for (int i = 0; i < v->depth; i++)
		v->full_attention[i] = i % 8 == 7;
}

static bool choose_shape(struct random_model *m, const char *shape, error *err)
{
	struct text_config *t = &m->config.text;
	*m = random_model_tiny();
	if (strcmp(shape, "tiny") == 0)
		return true;
	set_vision(&m->config.vision);
	if (strcmp(shape, "3b") == 0) {
		*t = (struct text_config){ .layers = 36, .hidden = 2048, .intermediate = 11008,
			.heads = 16, .kv_heads = 2, .vocab = 151936, .rms_eps = t->rms_eps,
			.rope_theta = t->rope_theta, .tied_head = true };
		m->shards = 2;
		return true;
	}
	*t = (struct text_config){ .layers = 28, .hidden = 3584, .intermediate = 18944,
		.heads = 28, .kv_heads = 4, .vocab = 152064, .rms_eps = t->rms_eps,
		.rope_theta = t->rope_theta };
	m->shards = 5;
	return strcmp(shape, "7b") == 0 ||
	       fail(err, EXIT_USAGE, "expected a shape of tiny, 3b, 7b, found \"%s\"", shape);
}

static bool write_model(struct inputs *in, const char *shape, error *err)
{
	char name[64], path[PATH_BYTES];
	snprintf(name, sizeof name, "qwen2_5_vl_%.16s", shape);
	return join_path(path, sizeof path, in->folder, name, err) &&
	       make_folders(path, err) && random_model_write(&in->model, path, err) &&
	       (in->tokenizer = tokenizer_load(path, err)) != NULL;
}

/* ---- words ---- */

static bool count_tokens(const struct inputs *in, const char *caption, int *out, error *err)
{
	struct token_list list = { 0 };
	bool ok = tokenizer_encode(in->tokenizer, caption, strlen(caption), false, &list, err);
	*out = (int)list.count;
	token_list_free(&list);
	return ok;
}

static bool is_one_token(const struct inputs *in, const char *word)
{
	char spaced[64];
	int tokens = 0;
	error ignored;
	return (size_t)snprintf(spaced, sizeof spaced, " %s", word) < sizeof spaced &&
	       count_tokens(in, spaced, &tokens, &ignored) && tokens == 1;
}

/* The demo captions' words, as often as they occur there. */
static bool find_words(struct inputs *in, error *err)
{
	size_t size;
	char *rest = NULL;
	if (!read_file("demo/demo_captions.txt", 1 << 20, &in->word_text, &size, err))
		return false;
	in->words = calloc(size / 2 + 1, sizeof *in->words);
	if (!in->words)
		return fail_memory(err, "words", size * sizeof *in->words);
	for (char *word = strtok_r(in->word_text, " .,\n", &rest); word;
	     word = strtok_r(NULL, " .,\n", &rest))
		if (is_one_token(in, word))
			in->words[in->word_count++] = word;
	return in->word_count > 0 || fail(err, EXIT_INTERNAL, "no word is one token");
}

/* "A", which is one token, and words. The multiplier is Knuth's (TAOCP 3.3.4). */
static bool make_caption(const struct inputs *in, text *out, int row, int words, error *err)
{
	uint64_t state = (uint64_t)row * 2654435761u + 1;
	text_puts(out, "A");
	for (int i = 1; i < words; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		text_printf(out, " %s", in->words[(state >> 33) % in->word_count]);
	}
	return text_ok(out, err);
}

/* ---- what the samples are ---- */

static bool build(struct inputs *in, struct sample *s, const char *caption, bool image,
                  error *err)
{
	const struct vision_config *v = &in->model.config.vision;
	int factor = v->patch * v->merge, height, width;
	struct patches p = { 0 };
	if (image) {
		if (!smart_resize(HEIGHT, WIDTH, factor, 3136, 12845056, &height, &width, err))
			return false;
		p = (struct patches){ height / v->patch, width / v->patch, calloc(1, 4) };
		if (!p.values)
			return fail_memory(err, "an image", 4);
	}
	return sample_build(s, in->tokenizer, &in->model.config,
	                    image ? PROMPT_ANSWER : PROMPT_TEXT, caption, image ? &p : NULL,
	                    0, err);
}

static bool check_size(struct inputs *in, bool image, int words, int expected,
                       struct sample_size *size, error *err)
{
	text caption = { 0 };
	struct sample s;
	bool ok = make_caption(in, &caption, 0, words, err) &&
	          build(in, &s, caption.data, image, err);
	text_free(&caption);
	if (!ok)
		return false;
	*size = (struct sample_size){ s.tokens, 0, s.patches.grid_h, s.patches.grid_w };
	for (int i = 0; i < s.tokens; i++)
		size->graded += s.graded[i];
	sample_free(&s);
	return size->tokens == expected ||
	       fail(err, EXIT_INTERNAL, "expected a sample of %d tokens, made one of %d",
	            expected, size->tokens);
}

static bool measure_samples(struct inputs *in, error *err)
{
	struct sample around;
	if (!build(in, &around, "", true, err))
		return false;
	in->image_words = IMAGE_TOKENS - around.tokens;
	sample_free(&around);
	return check_size(in, true, in->image_words, IMAGE_TOKENS, &in->image, err) &&
	       check_size(in, false, TEXT_TOKENS, TEXT_TOKENS, &in->text, err);
}

/* ---- files ---- */

/* Waves of colours of its own, so that no two patches are alike. */
static void paint(uint8_t *rgb, int number)
{
	for (int y = 0; y < HEIGHT; y++)
		for (int x = 0; x < WIDTH; x++, rgb += 3) {
			rgb[0] = (uint8_t)(x * (number + 1) + y);
			rgb[1] = (uint8_t)(x * x / 64 + y * (number % 7 + 1));
			rgb[2] = (uint8_t)((x ^ y) + number * 8);
		}
}

static bool write_images(const struct inputs *in, error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES], name[32];
	uint8_t *rgb = malloc(WIDTH * HEIGHT * 3);
	bool ok = rgb || fail_memory(err, "an image", WIDTH * HEIGHT * 3);
	ok = ok && join_path(folder, sizeof folder, in->folder, "images", err) &&
	     make_folders(folder, err);
	for (int i = 0; ok && i < IMAGES && i < in->rows; i++) {
		const struct png_content png = { WIDTH, HEIGHT, 8, 2, NULL, 0, rgb, WIDTH * 3 };
		snprintf(name, sizeof name, "%03d.png", i);
		paint(rgb, i);
		ok = join_path(path, sizeof path, folder, name, err) && png_write(path, &png, err);
	}
	free(rgb);
	return ok;
}

static bool write_text_file(const struct inputs *in, const char *name, const text *content,
                            error *err)
{
	return text_ok(content, err) &&
	       temp_folder_write(in->folder, name, content->data, content->length, err);
}

static bool write_captions(const struct inputs *in, error *err)
{
	text all = { 0 };
	bool ok = true;
	for (int row = 0; ok && row < in->rows; row++) {
		ok = make_caption(in, &all, row, TEXT_TOKENS, err);
		text_puts(&all, "\n");
	}
	ok = ok && write_text_file(in, "captions.txt", &all, err);
	text_free(&all);
	return ok;
}

/* The rows of a DB or of an evaluation list; the latter's captions are others. */
typedef bool take_row(void *to, int row, int image, const char *caption, error *err);

static bool make_rows(const struct inputs *in, int first, void *to, take_row *take,
                      error *err)
{
	bool ok = true;
	for (int row = 0; ok && row < in->rows; row++) {
		text caption = { 0 };
		ok = make_caption(in, &caption, first + row, in->image_words, err) &&
		     take(to, row, row % IMAGES, caption.data, err);
		text_free(&caption);
	}
	return ok;
}

static bool take_eval_row(void *to, int row, int image, const char *caption, error *err)
{
	text *all = to;
	(void)row;
	text_printf(all, "{\"image_relpath\": \"images/%03d.png\", \"caption\": \"%s\"}\n", image,
	            caption);
	return text_ok(all, err);
}

static bool write_eval_list(const struct inputs *in, error *err)
{
	text all = { 0 };
	bool ok = make_rows(in, MAX_ROWS, &all, take_eval_row, err) &&
	          write_text_file(in, "eval.jsonl", &all, err);
	text_free(&all);
	return ok;
}

static bool run_sql(sqlite3 *db, const char *sql, error *err)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ||
	       fail(err, EXIT_ENVIRONMENT, "calib.db: %s", sqlite3_errmsg(db));
}

static bool take_db_row(void *to, int row, int image, const char *caption, error *err)
{
	text sql = { 0 };
	text_printf(&sql, "INSERT INTO vlm_calib_samples VALUES(%d, 'train', 'images/%03d.png', "
	            "%d, %d, '%s')", row + 1, image, image, row, caption);
	bool ok = text_ok(&sql, err) && run_sql(to, sql.data, err);
	text_free(&sql);
	return ok;
}

static bool write_db(const struct inputs *in, error *err)
{
	char path[PATH_BYTES];
	sqlite3 *db = NULL;
	if (!join_path(path, sizeof path, in->folder, "calib.db", err))
		return false;
	bool ok = sqlite3_open(path, &db) == SQLITE_OK ||
	          fail(err, EXIT_ENVIRONMENT, "%s: %s", path, sqlite3_errmsg(db));
	ok = ok && run_sql(db, "BEGIN; CREATE TABLE vlm_calib_samples(id INTEGER PRIMARY KEY, "
	                   "split TEXT, image_relpath TEXT, image_id INTEGER, "
	                   "caption_id INTEGER, caption TEXT)", err) &&
	     make_rows(in, 0, db, take_db_row, err) && run_sql(db, "COMMIT", err);
	sqlite3_close(db);
	return ok;
}

static void print_size(text *out, const char *name, const struct sample_size *s)
{
	text_printf(out, ", \"%s\": {\"tokens\": %d, \"graded\": %d, \"grid_h\": %d, "
	            "\"grid_w\": %d}", name, s->tokens, s->graded, s->grid_h, s->grid_w);
}

static bool write_sizes(const struct inputs *in, const char *shape, error *err)
{
	text out = { 0 };
	text_printf(&out, "{\"shape\": \"%s\"", shape);
	print_size(&out, "image", &in->image);
	print_size(&out, "text", &in->text);
	text_puts(&out, "}\n");
	bool ok = write_text_file(in, "samples.json", &out, err);
	text_free(&out);
	return ok;
}

static bool make_inputs(struct inputs *in, const char *shape, error *err)
{
	if (in->rows < 1 || in->rows > MAX_ROWS)
		return fail(err, EXIT_USAGE, "expected 1 to %d rows", MAX_ROWS);
	return choose_shape(&in->model, shape, err) && write_model(in, shape, err) &&
	       find_words(in, err) && measure_samples(in, err) && write_images(in, err) &&
	       write_captions(in, err) && write_eval_list(in, err) && write_db(in, err) &&
	       write_sizes(in, shape, err);
}

int main(int argc, char **argv)
{
	error err;
	if (argc != 4) {
		fprintf(stderr, "usage: make_inputs SHAPE ROWS FOLDER\n");
		return EXIT_USAGE;
	}
	struct inputs in = { .folder = argv[3], .rows = atoi(argv[2]) };
	bool ok = make_inputs(&in, argv[1], &err);
	tokenizer_free(in.tokenizer);
	free(in.words);
	free(in.word_text);
	return ok ? EXIT_OK : error_report("make_inputs", &err);
}
