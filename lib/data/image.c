/* What Qwen2.5-VL's image processor (transformers, Qwen2VLImageProcessor) does
 * to decoded pixels: the size they get, the normalisation, the order of the
 * patches. Decoding is decode.c's, the resize itself resize.c's. */
#include "lib/data/image.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"

enum { MAX_PROCESSOR_BYTES = 1 << 20, MAX_SIDE_RATIO = 200 };

static const int64_t most_pixels = INT64_C(1) << 40; /* of a bound in the file */

/* field: three numbers, one a channel, from `low` up. */
static bool read_channels(const json_doc *doc, const char *field, double low,
                          float out[3], error *err)
{
	const cJSON *list = json_array(doc, doc->root, field, err);
	if (!list)
		return false;
	if (cJSON_GetArraySize(list) != 3)
		return json_fail(doc, list, err, "expected 3 numbers, found %d",
		                 cJSON_GetArraySize(list));
	int i = 0;
	for (const cJSON *item = list->child; item; item = item->next) {
		if (!cJSON_IsNumber(item) || !(item->valuedouble >= low) ||
		    item->valuedouble > 1e6)
			return json_fail(doc, item, err, "expected a number from %g to 1e6",
			                 low);
		out[i++] = (float)item->valuedouble;
	}
	return true;
}

/* min_pixels and max_pixels, each from the field of that name or from the newer
 * "size"; the former wins, as in transformers. */
static bool read_bounds(const json_doc *doc, struct image_processor *p, error *err)
{
	const cJSON *size = cJSON_GetObjectItemCaseSensitive(doc->root, "size");
	if (size && !cJSON_IsNull(size)) {
		size = json_object(doc, doc->root, "size", err);
		if (!size ||
		    !json_integer_or(doc, size, "shortest_edge", 1, IMAGE_MAX_PIXELS,
		                     &p->min_pixels, err) ||
		    !json_integer_or(doc, size, "longest_edge", 1, most_pixels,
		                     &p->max_pixels, err))
			return false;
	}
	if (!json_integer_or(doc, doc->root, "min_pixels", 1, IMAGE_MAX_PIXELS,
	                     &p->min_pixels, err) ||
	    !json_integer_or(doc, doc->root, "max_pixels", 1, most_pixels,
	                     &p->max_pixels, err))
		return false;
	if (!p->min_pixels || !p->max_pixels)
		return json_fail(doc, doc->root, err,
		                 "expected min_pixels and max_pixels, or size with "
		                 "shortest_edge and longest_edge");
	if (p->min_pixels > p->max_pixels)
		return json_fail(doc, doc->root, err,
		                 "expected min_pixels <= max_pixels, found %lld and %lld",
		                 (long long)p->min_pixels, (long long)p->max_pixels);
	return true;
}

static bool read_shape(const json_doc *doc, struct image_processor *p, error *err)
{
	int64_t patch = 0, merge = 0, temporal_patch = 0;
	if (!json_integer_or(doc, doc->root, "patch_size", 1, IMAGE_MAX_SIDE, &patch,
	                     err) ||
	    !json_integer_or(doc, doc->root, "merge_size", 1, IMAGE_MAX_SIDE, &merge,
	                     err) ||
	    !json_integer_or(doc, doc->root, "temporal_patch_size", 1, IMAGE_MAX_SIDE,
	                     &temporal_patch, err))
		return false;
	p->patch = (int)patch;
	p->merge = (int)merge;
	p->temporal_patch = (int)temporal_patch;
	return true;
}

/* The steps that this file takes unconditionally. */
static bool check_steps(const json_doc *doc, error *err)
{
	static const char *const steps[] = { "do_resize", "do_rescale", "do_normalize",
		                             "do_convert_rgb" };
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		bool on = true;
		if (!json_boolean_or(doc, doc->root, steps[i], &on, err))
			return false;
		if (!on)
			return json_fail(doc,
			                 cJSON_GetObjectItemCaseSensitive(doc->root,
			                                                  steps[i]),
			                 err, "expected true, found false");
	}
	const int64_t pil_bicubic = 3;
	int64_t filter = pil_bicubic;
	double factor = 1.0 / 255, allowed = 1e-9;
	return json_integer_or(doc, doc->root, "resample", pil_bicubic, pil_bicubic,
	                       &filter, err) &&
	       json_number_or(doc, doc->root, "rescale_factor", factor - allowed,
	                      factor + allowed, &factor, err);
}

bool image_processor_load(struct image_processor *p, const char *model_folder,
                          error *err)
{
	char path[PATH_BYTES];
	json_doc doc;
	*p = (struct image_processor){ 0 };
	if (!join_path(path, sizeof path, model_folder, "preprocessor_config.json", err) ||
	    !json_load(&doc, path, MAX_PROCESSOR_BYTES, err))
		return false;
	bool ok = read_bounds(&doc, p, err) && read_shape(&doc, p, err) &&
	          check_steps(&doc, err) &&
	          read_channels(&doc, "image_mean", -1e6, p->mean, err) &&
	          read_channels(&doc, "image_std", FLT_MIN, p->std, err);
	json_free(&doc);
	return ok;
}

/* Doubles throughout and in the reference's order of operations; rint is
 * Python's round (half to even). */
bool smart_resize(int height, int width, int factor, int64_t min_pixels,
                  int64_t max_pixels, int *out_height, int *out_width, error *err)
{
	if (height < 1 || width < 1 || factor < 1 || min_pixels < 1 || max_pixels < 1)
		return fail(err, EXIT_INTERNAL,
		            "smart_resize(%d, %d, %d, %lld, %lld): not positive", height,
		            width, factor, (long long)min_pixels, (long long)max_pixels);
	int longer = height > width ? height : width;
	int shorter = height > width ? width : height;
	if (longer > (int64_t)shorter * MAX_SIDE_RATIO)
		return fail(err, EXIT_BAD_INPUT,
		            "expected an image whose sides differ at most by a factor of "
		            "%d, found %d x %d",
		            MAX_SIDE_RATIO, width, height);
	double unit = factor, pixels = (double)height * width;
	double h = rint(height / unit) * unit, w = rint(width / unit) * unit;
	if (h * w > (double)max_pixels) {
		double shrink = sqrt(pixels / (double)max_pixels);
		h = fmax(unit, floor(height / shrink / unit) * unit);
		w = fmax(unit, floor(width / shrink / unit) * unit);
	} else if (h * w < (double)min_pixels) {
		double grow = sqrt((double)min_pixels / pixels);
		h = ceil(height * grow / unit) * unit;
		w = ceil(width * grow / unit) * unit;
	}
	if (h * w > IMAGE_MAX_PIXELS)
		return fail(err, EXIT_BAD_INPUT,
		            "expected an image that is resized to at most %d pixels, "
		            "found %d x %d, which would become %.0f x %.0f",
		            IMAGE_MAX_PIXELS, width, height, w, h);
	*out_height = (int)h;
	*out_width = (int)w;
	return true;
}

/* Every pixel value's normalised value, levels[channel][value].
 *
 * The order of operations is the slow (PIL) image processor's and gives its
 * float32 pixel_values to the bit (SHA-256 of tests/golden/demo/images): the
 * product with 1/255 in double, rounded to float32, then minus mean and divided
 * by std in float32. The fast processor's fused (x - 255*mean) / (255*std) does
 * not. */
static void fill_levels(const struct image_processor *p, float levels[3][256])
{
	for (int c = 0; c < 3; c++)
		for (int value = 0; value < 256; value++) {
			float scaled = (float)(value * (1.0 / 255));
			levels[c][value] = (scaled - p->mean[c]) / p->std[c];
		}
}

static bool check_shapes(const struct image *image, const struct image_processor *p,
                         const struct vision_config *v, error *err)
{
	if (v->channels != 3)
		return fail(err, EXIT_BAD_INPUT,
		            "config.json: expected a vision tower of 3 channels (RGB), "
		            "found %d",
		            v->channels);
	if ((p->patch && p->patch != v->patch) || (p->merge && p->merge != v->merge) ||
	    (p->temporal_patch && p->temporal_patch != v->temporal_patch))
		return fail(err, EXIT_BAD_INPUT,
		            "preprocessor_config.json: patch_size, merge_size, "
		            "temporal_patch_size: expected %d, %d, %d as in config.json, "
		            "found %d, %d, %d",
		            v->patch, v->merge, v->temporal_patch, p->patch, p->merge,
		            p->temporal_patch);
	int unit = v->patch * v->merge;
	if (image->width % unit || image->height % unit)
		return fail(err, EXIT_INTERNAL,
		            "image_to_patches: expected sides that are multiples of %d, "
		            "found %d x %d",
		            unit, image->width, image->height);
	return true;
}

/* One row: [channel][frame][y][x] of the patch whose upper left pixel is
 * `corner`; a still image is all frames alike. */
static float *fill_patch(const uint8_t *corner, size_t image_row_bytes,
                         float levels[3][256], const struct vision_config *v,
                         float *out)
{
	size_t side = (size_t)v->patch, area = side * side;
	for (int c = 0; c < 3; c++) {
		const float *frame = out;
		for (size_t y = 0; y < side; y++) {
			const uint8_t *pixel = corner + y * image_row_bytes + c;
			for (size_t x = 0; x < side; x++)
				*out++ = levels[c][pixel[3 * x]];
		}
		for (int f = 1; f < v->temporal_patch; f++, out += area)
			memcpy(out, frame, area * sizeof *out);
	}
	return out;
}

/* The merge x merge patches of one merged token. */
static float *fill_token(const uint8_t *corner, size_t image_row_bytes,
                         float levels[3][256], const struct vision_config *v,
                         float *out)
{
	size_t side = (size_t)v->patch, merge = (size_t)v->merge;
	for (size_t row = 0; row < merge; row++)
		for (size_t column = 0; column < merge; column++)
			out = fill_patch(corner + row * side * image_row_bytes +
			                         column * side * 3,
			                 image_row_bytes, levels, v, out);
	return out;
}

bool image_to_patches(const struct image *image, const struct image_processor *p,
                      const struct vision_config *v, struct patches *out, error *err)
{
	*out = (struct patches){ 0 };
	if (!check_shapes(image, p, v, err))
		return false;
	size_t width = (size_t)image->width, height = (size_t)image->height;
	size_t bytes = width * height * 3;
	if (__builtin_mul_overflow(bytes, (size_t)v->temporal_patch * sizeof(float),
	                           &bytes) ||
	    !(out->values = malloc(bytes)))
		return fail_memory(err, "the patches of an image", bytes);
	out->grid_h = image->height / v->patch;
	out->grid_w = image->width / v->patch;
	float levels[3][256];
	fill_levels(p, levels);
	float *next = out->values;
	size_t unit = (size_t)(v->patch * v->merge);
	for (size_t y = 0; y < height; y += unit)
		for (size_t x = 0; x < width; x += unit)
			next = fill_token(image->rgb + (y * width + x) * 3, width * 3,
			                  levels, v, next);
	return true;
}

struct pixel_bounds pixel_bounds(const struct image_processor *p,
                                 const struct vision_config *v, int64_t pixel_limit)
{
	bool lower = pixel_limit > 0 && pixel_limit < p->max_pixels;
	return (struct pixel_bounds){ .unit = v->patch * v->merge,
		.min_pixels = p->min_pixels,
		.max_pixels = lower ? pixel_limit : p->max_pixels };
}

/* Resizing knows nothing of files. */
static bool fail_naming(const char *path, error *err)
{
	error nameless = *err;
	return fail(err, nameless.code, "%s: %s", path, nameless.text);
}

bool image_fit(const struct image_file *file, const struct pixel_bounds *bounds,
               int *height, int *width, error *err)
{
	return smart_resize(file->height, file->width, bounds->unit, bounds->min_pixels,
	                    bounds->max_pixels, height, width, err) ||
	       fail_naming(file->path, err);
}

bool image_make_pixels(const struct image_file *file, int width, int height,
                       struct image *out, error *err)
{
	struct image decoded;
	*out = (struct image){ 0 };
	if (!image_decode(file, &decoded, err))
		return false;
	bool ok = image_resize(&decoded, width, height, out, err);
	image_free(&decoded);
	return ok || fail_naming(file->path, err);
}

bool load_patches(const char *path, const struct image_processor *p,
                  const struct vision_config *v, int64_t pixel_limit,
                  struct patches *out, error *err)
{
	const struct pixel_bounds bounds = pixel_bounds(p, v, pixel_limit);
	struct image_file file;
	struct image pixels;
	int height = 0, width = 0;
	*out = (struct patches){ 0 };
	if (!image_file_open(&file, path, err))
		return false;
	bool ok = image_fit(&file, &bounds, &height, &width, err) &&
	          image_make_pixels(&file, width, height, &pixels, err);
	image_file_close(&file);
	if (!ok)
		return false;
	ok = image_to_patches(&pixels, p, v, out, err);
	image_free(&pixels);
	return ok;
}

void patches_free(struct patches *p)
{
	free(p->values);
	*p = (struct patches){ 0 };
}
