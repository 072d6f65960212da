/* The worker behind decode; see decode_run.h.
 *
 * Images are shared out among threads. What one of them holds while it is decoded is known
 * beforehand from the sides in its file, and a thread waits until there is room for it. */
#include "lib/quant/decode_run.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/edge.h"
#include "lib/artifact/publish.h"
#include "lib/artifact/tool.h"
#include "lib/base/parallel.h"
#include "lib/base/progress.h"

enum { MAX_THREADS = 256 };

static const int64_t MOST_BYTES = (int64_t)3 << 28; /* of all images in decoding */

struct decoder {
	const struct source_settings *settings;
	const char *tree, *target;
	struct digest sources; /* of the tool */
	struct memo *memo;
	struct pixel_list list;
	bool skip_bad;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t freed;
	int64_t in_use; /* bytes */
	int64_t done;
	struct progress progress;
};

/* ---- one image ---- */

/* At most: 12 bytes a pixel of the file (a progressive JPEG's coefficients, its planes and
 * the pixels), then the pixels resized one way and both ways. */
static int64_t count_bytes(const struct image_file *file, int width, int height)
{
	int64_t across = (int64_t)width * file->height, down = (int64_t)file->width * height;
	return (int64_t)file->width * file->height * 12 +
	       3 * ((across > down ? across : down) + (int64_t)width * height);
}

/* An image larger than all room is decoded alone. */
static void take_room(struct decoder *d, int64_t bytes)
{
	pthread_mutex_lock(&d->lock);
	while (d->in_use && d->in_use + bytes > MOST_BYTES)
		pthread_cond_wait(&d->freed, &d->lock);
	d->in_use += bytes;
	pthread_mutex_unlock(&d->lock);
}

static void give_room(struct decoder *d, int64_t bytes)
{
	pthread_mutex_lock(&d->lock);
	d->in_use -= bytes;
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

static bool store_image(struct decoder *d, const struct image_file *file,
                        const struct pixels *p, struct edge *e, error *err)
{
	struct output output = { .name = "pixels.ppm" };
	struct image image;
	int64_t bytes = count_bytes(file, p->width, p->height);
	take_room(d, bytes);
	bool ok = image_make_pixels(file, p->width, p->height, &image, err);
	if (ok) {
		ok = pixels_store(&e->store, &image, &output, err);
		image_free(&image);
	}
	give_room(d, bytes);
	return ok && memo_check(d->memo, file->path, &p->source, err) &&
	       edge_publish(e, &output, 1, err);
}

static bool run_edge(struct decoder *d, const struct image_file *file, struct pixels *p,
                     const struct key *key, error *err)
{
	struct edge e;
	if (!edge_begin(&e, d->tree, "decode", d->target, key, err))
		return false;
	bool hit = e.hit;
	e.store.hasty = true; /* pixels_take checks every byte and makes lost ones again */
	bool ok = hit || store_image(d, file, p, &e, err);
	const struct output *stored = ok ? result_output(&e.result, "pixels.ppm") : NULL;
	if (ok && !stored)
		ok = fail(err, EXIT_ENVIRONMENT, "%s: result %s has no pixels.ppm", e.store.folder,
		          e.digest.hex);
	if (ok)
		p->object = stored->digest;
	ok = ok && edge_log(&e, hit ? 0 : stored->bytes, err);
	edge_end(&e);
	return ok;
}

/* The size is in the key rather than the bounds it comes from: sets and models whose
 * bounds give an image the same size share its pixels. */
static bool decode_file(struct decoder *d, const char *path, struct pixels *p, error *err)
{
	struct image_file file;
	struct key key = { 0 };
	if (!memo_digest(d->memo, path, &p->source, err) || !image_file_open(&file, path, err))
		return false;
	bool ok = image_fit(&file, &d->list.bounds, &p->height, &p->width, err);
	if (ok) {
		key_begin(&key, "decode", &d->sources);
		key_addf(&key, "size", "%dx%d", p->width, p->height);
		key_input(&key, "image", &p->source);
		ok = run_edge(d, &file, p, &key, err);
	}
	key_free(&key);
	image_file_close(&file);
	return ok;
}

static bool decode_one(void *self, int thread, int index, error *err)
{
	struct decoder *d = self;
	struct pixels *p = &d->list.images[index];
	char path[PATH_BYTES];
	(void)thread;
	if (!join_path(path, sizeof path, d->settings->image_root, p->image, err) ||
	    !decode_file(d, path, p, err)) {
		p->unreadable = d->skip_bad && err->code == EXIT_BAD_INPUT;
		if (!p->unreadable)
			return false;
	}
	pthread_mutex_lock(&d->lock);
	progress_set(&d->progress, ++d->done);
	pthread_mutex_unlock(&d->lock);
	return true;
}

/* ---- all of them ---- */

static int compare_paths(const void *a, const void *b)
{
	return strcmp(((const struct pixels *)a)->image, ((const struct pixels *)b)->image);
}

/* The images of the rows, sorted, each once. */
static bool list_images(struct pixel_list *list, const struct sample_list *rows, error *err)
{
	list->images = arena_alloc(&list->memory, rows->count + 1, sizeof *list->images, err);
	if (!list->images)
		return false;
	for (size_t i = 0; i < rows->count; i++)
		if (rows->rows[i].image)
			list->images[list->count++].image = rows->rows[i].image;
	qsort(list->images, (size_t)list->count, sizeof *list->images, compare_paths);
	int kept = 0;
	for (int i = 0; i < list->count; i++)
		if (kept == 0 || compare_paths(&list->images[kept - 1], &list->images[i]) != 0)
			list->images[kept++] = list->images[i];
	list->count = kept;
	return true;
}

static bool decode_rows(struct decoder *d, const struct sample_list *rows, error *err)
{
	text printed = { 0 };
	if (!list_images(&d->list, rows, err))
		return false;
	int count = d->list.count;
	progress_begin(&d->progress, stderr, "decode", "images", count);
	memo_hold(d->memo);
	bool ok = parallel_run(count_cores(MAX_THREADS), count, d, decode_one, err);
	progress_end(&d->progress);
	ok = ok && pixel_list_print(&d->list, &printed, err) &&
	     write_file_if_changed(d->target, printed.data, printed.length, NULL, err);
	text_free(&printed);
	return ok;
}

static bool read_bounds(const struct source_settings *g, struct pixel_bounds *out,
                        error *err)
{
	struct model_config config;
	struct image_processor processor;
	if (!model_config_load(&config, g->model, err) ||
	    !image_processor_load(&processor, g->model, err))
		return false;
	*out = pixel_bounds(&processor, &config.vision, g->max_pixels);
	return true;
}

bool run_decode(const struct source_settings *settings, const char *tree, const char *out,
                error *err)
{
	struct decoder d = { .settings = settings, .tree = tree, .target = out,
		.lock = PTHREAD_MUTEX_INITIALIZER, .freed = PTHREAD_COND_INITIALIZER };
	struct sample_list rows;
	char memo_path[PATH_BYTES];
	if (!source_check_rows(settings, err) ||
	    !read_bounds(settings, &d.list.bounds, err) || !tool_sources(&d.sources, err) ||
	    !join_path(memo_path, sizeof memo_path, tree, "state/memo.db", err) ||
	    !source_load_rows(settings, &rows, err))
		return false;
	d.skip_bad = strcmp(settings->on_bad_sample, "skip") == 0;
	bool ok = (d.memo = memo_open(memo_path, err)) && decode_rows(&d, &rows, err);
	if (d.memo)
		memo_close(d.memo);
	pixel_list_free(&d.list);
	sample_list_free(&rows);
	pthread_cond_destroy(&d.freed);
	pthread_mutex_destroy(&d.lock);
	return ok;
}
