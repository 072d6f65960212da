/* Pillow's bicubic resize, to the bit.
 *
 * The reference's image processor resizes with PIL, so the scores it gives are
 * scores of these exact pixels. This follows Pillow's src/libImaging/Resample.c:
 * one pass along each axis whose size changes, the first one rounded to uint8;
 * weights computed in double, then used as integers scaled by 2^22. Which axis
 * comes first is Pillow 13's choice; earlier versions always begin with the
 * horizontal one, and where the choices differ so do pixels, by about a level. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/data/image.h"

/* The weights' bits must not depend on whether the machine has fused
 * multiply-add; gcc -std=c11 does not fuse, clang does unless told. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* 32 - 8 bits of pixel - 2 bits that overshooting weights may need: a sum of
 * products fits int32. */
enum { PRECISION_BITS = 32 - 8 - 2, HALF = 1 << (PRECISION_BITS - 1) };

/* What output position i is made of: weights[i*taps ... +count[i]) on the input
 * positions from first[i]. */
struct axis_filter {
	int taps; /* the most any position has */
	int *first, *count;
	int32_t *weights;
};

/* Bicubic convolution (Keys) with a = -0.5, non-zero for |x| < 2. */
static double bicubic(double x)
{
	const double a = -0.5;
	if (x < 0.0)
		x = -x;
	if (x < 1.0)
		return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
	if (x < 2.0)
		return (((x - 5) * x + 8) * x - 4) * a;
	return 0.0;
}

/* Half away from zero, as Pillow rounds its weights. */
static int32_t to_fixed(double weight)
{
	double scaled = weight * (1 << PRECISION_BITS);
	return (int32_t)(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

static void filter_free(struct axis_filter *f)
{
	free(f->first);
	free(f->count);
	free(f->weights);
}

/* Weights of one output position; exact[taps] is scratch. The order of the
 * operations is Pillow's precompute_coeffs. */
static void fill_position(struct axis_filter *f, int i, int in_size, double scale,
                          double *exact)
{
	double stretch = scale < 1.0 ? 1.0 : scale, support = 2.0 * stretch;
	double center = (i + 0.5) * scale, step = 1.0 / stretch, sum = 0.0;
	int first = (int)(center - support + 0.5);
	int end = (int)(center + support + 0.5);
	first = first < 0 ? 0 : first;
	end = end > in_size ? in_size : end;
	for (int t = 0; t < end - first; t++) {
		exact[t] = bicubic((t + first - center + 0.5) * step);
		sum += exact[t];
	}
	f->first[i] = first;
	f->count[i] = end - first;
	for (int t = 0; t < end - first; t++)
		f->weights[(size_t)i * (size_t)f->taps + (size_t)t] =
			to_fixed(sum != 0.0 ? exact[t] / sum : exact[t]);
}

static bool make_filter(struct axis_filter *f, int in_size, int out_size, error *err)
{
	double scale = (double)in_size / out_size;
	double support = 2.0 * (scale < 1.0 ? 1.0 : scale);
	size_t positions = (size_t)out_size;
	*f = (struct axis_filter){ .taps = (int)ceil(support) * 2 + 1 };
	size_t taps = (size_t)f->taps;
	double *exact = malloc(taps * sizeof *exact);
	f->first = malloc(positions * sizeof *f->first);
	f->count = malloc(positions * sizeof *f->count);
	f->weights = malloc(positions * taps * sizeof *f->weights);
	bool ok = exact && f->first && f->count && f->weights;
	if (ok)
		for (int i = 0; i < out_size; i++)
			fill_position(f, i, in_size, scale, exact);
	else
		fail_memory(err, "the weights of an image resize",
		            positions * taps * sizeof *f->weights);
	free(exact);
	return ok;
}

static uint8_t to_pixel(int32_t sum)
{
	int32_t value = sum >> PRECISION_BITS;
	return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* from[from_width][3] -> to[to_width][3] */
static void resize_row(const struct axis_filter *f, const uint8_t *from, uint8_t *to,
                       int to_width)
{
	const int32_t *weights = f->weights;
	for (int x = 0; x < to_width; x++, weights += f->taps, to += 3) {
		const uint8_t *pixel = from + 3 * (size_t)f->first[x];
		int32_t r = HALF, g = HALF, b = HALF;
		for (int t = 0; t < f->count[x]; t++, pixel += 3) {
			r += pixel[0] * weights[t];
			g += pixel[1] * weights[t];
			b += pixel[2] * weights[t];
		}
		to[0] = to_pixel(r);
		to[1] = to_pixel(g);
		to[2] = to_pixel(b);
	}
}

static void copy_pixels(const struct image *from, struct image *to)
{
	memcpy(to->rgb, from->rgb, (size_t)to->width * (size_t)to->height * 3);
}

static bool resize_horizontally(const struct image *from, struct image *to, error *err)
{
	if (from->width == to->width) {
		copy_pixels(from, to);
		return true;
	}
	struct axis_filter f;
	bool ok = make_filter(&f, from->width, to->width, err);
	for (int y = 0; ok && y < to->height; y++)
		resize_row(&f, from->rgb + (size_t)y * (size_t)from->width * 3,
		           to->rgb + (size_t)y * (size_t)to->width * 3, to->width);
	filter_free(&f);
	return ok;
}

/* A piece of one output row: sums of `span` (at most BLOCK) bytes over the taps'
 * rows. The fixed trip count of the full block is what lets compilers use vector
 * instructions here. */
enum { BLOCK = 96 };

static void add_taps(const uint8_t *from, size_t row_bytes, const int32_t *weights,
                     int taps, size_t span, int32_t sums[BLOCK])
{
	for (size_t i = 0; i < BLOCK; i++)
		sums[i] = HALF;
	for (int t = 0; t < taps; t++, from += row_bytes) {
		int32_t weight = weights[t];
		if (span == BLOCK)
			for (size_t i = 0; i < BLOCK; i++)
				sums[i] += from[i] * weight;
		else
			for (size_t i = 0; i < span; i++)
				sums[i] += from[i] * weight;
	}
}

static bool resize_vertically(const struct image *from, struct image *to, error *err)
{
	if (from->height == to->height) {
		copy_pixels(from, to);
		return true;
	}
	struct axis_filter f;
	if (!make_filter(&f, from->height, to->height, err)) {
		filter_free(&f);
		return false;
	}
	size_t row_bytes = (size_t)to->width * 3;
	for (int y = 0; y < to->height; y++) {
		const uint8_t *rows = from->rgb + (size_t)f.first[y] * row_bytes;
		const int32_t *weights = f.weights + (size_t)y * (size_t)f.taps;
		uint8_t *out = to->rgb + (size_t)y * row_bytes;
		for (size_t x = 0; x < row_bytes; x += BLOCK) {
			int32_t sums[BLOCK];
			size_t span = row_bytes - x < BLOCK ? row_bytes - x : BLOCK;
			add_taps(rows + x, row_bytes, weights, f.count[y], span, sums);
			for (size_t i = 0; i < span; i++)
				out[x + i] = to_pixel(sums[i]);
		}
	}
	filter_free(&f);
	return true;
}

static bool make_image(struct image *image, int width, int height, error *err)
{
	size_t bytes = (size_t)width * (size_t)height * 3;
	*image = (struct image){ .width = width, .height = height, .rgb = malloc(bytes) };
	return image->rgb || fail_memory(err, "a resized image", bytes);
}

static bool check_size(int width, int height, error *err)
{
	if (width >= 1 && height >= 1 && (int64_t)width * height <= IMAGE_MAX_PIXELS)
		return true;
	return fail(err, EXIT_BAD_INPUT,
	            "expected an image size of 1 to %d pixels in all, found %d x %d",
	            IMAGE_MAX_PIXELS, width, height);
}

bool image_resize(const struct image *from, int width, int height,
                  struct image *out, error *err)
{
	struct image middle;
	*out = (struct image){ 0 };
	if (!check_size(width, height, err))
		return false;
	int rows_less = from->height - height, columns_less = from->width - width;
	bool vertical_first = rows_less > 0 && rows_less > (int64_t)columns_less * 2;
	int middle_width = vertical_first ? from->width : width;
	int middle_height = vertical_first ? height : from->height;
	if (!check_size(middle_width, middle_height, err) ||
	    !make_image(&middle, middle_width, middle_height, err))
		return false;
	bool ok = vertical_first ? resize_vertically(from, &middle, err)
	                         : resize_horizontally(from, &middle, err);
	ok = ok && make_image(out, width, height, err) &&
	     (vertical_first ? resize_horizontally(&middle, out, err)
	                     : resize_vertically(&middle, out, err));
	image_free(&middle);
	if (!ok)
		image_free(out);
	return ok;
}
