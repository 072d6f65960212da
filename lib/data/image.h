/* Images as Qwen2.5-VL's processor sees them: decode, resize to a multiple of
 * 28 pixels, normalise, cut into patches. The resize is Pillow's bicubic to the
 * bit (Resample.c), given the same decoded pixels. */
#ifndef QUERN_DATA_IMAGE_H
#define QUERN_DATA_IMAGE_H

#include <stdint.h>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/checkpoint/config.h"

/* What is decoded or made at most: beyond it a file is refused, not swallowed. */
enum { IMAGE_MAX_SIDE = 16384, IMAGE_MAX_PIXELS = 1 << 27 };

/* rgb[height][width][3], owned by the image. */
struct image {
	int width, height;
	uint8_t *rgb;
};

/* preprocessor_config.json */
struct image_processor {
	int64_t min_pixels, max_pixels;
	float mean[3], std[3];
	int patch, merge, temporal_patch; /* 0: the file does not say */
};

/* Reads model_folder/preprocessor_config.json: min_pixels and max_pixels, or the
 * newer "size" {"shortest_edge", "longest_edge"}. A file that asks for another
 * processing than the one here (no resize, another filter, ...) is refused. */
bool image_processor_load(struct image_processor *p, const char *model_folder,
                          error *err);

/* A file that holds an image, JPEG or PNG: structure and size are checked, nothing is
 * decoded yet. */
struct image_file {
	const char *path; /* the caller's */
	mapped_file content;
	int width, height;
};

bool image_file_open(struct image_file *file, const char *path, error *err);
void image_file_close(struct image_file *file);

/* Alpha is dropped and grey repeated, as PIL's convert("RGB") does; of 16 bits a sample
 * the upper 8 count; EXIF rotation is not applied. */
bool image_decode(const struct image_file *file, struct image *out, error *err);

/* All of it at once. */
bool image_load(struct image *image, const char *path, error *err);
void image_free(struct image *image);

/* smart_resize of the reference: the size the image gets before patching. The
 * error of a size it cannot serve (sides of a ratio above 200, ...) does not
 * know the file; callers add its name. */
bool smart_resize(int height, int width, int factor, int64_t min_pixels,
                  int64_t max_pixels, int *out_height, int *out_width, error *err);

/* What decides the size that a model gives an image, beside the image. */
struct pixel_bounds {
	int unit; /* sides are multiples of it */
	int64_t min_pixels, max_pixels;
};

/* The processor's bounds, the upper one lowered to `pixel_limit` if that is > 0 and
 * smaller. */
struct pixel_bounds pixel_bounds(const struct image_processor *p,
                                 const struct vision_config *v, int64_t pixel_limit);

/* The size that an image gets within the bounds: smart_resize, its error with the file. */
bool image_fit(const struct image_file *file, const struct pixel_bounds *bounds,
               int *height, int *width, error *err);

/* PIL.Image.resize((width, height), BICUBIC) on uint8 RGB, as Pillow 13 does it
 * (see resize.c about earlier versions). */
bool image_resize(const struct image *from, int width, int height,
                  struct image *out, error *err);

/* One image, ready for the vision tower. patches[grid_h*grid_w][patch_values],
 * four rows in a row being one merged token (row order: merged row, merged
 * column, row in 2x2, column in 2x2; within a row: channel, frame, y, x). */
struct patches {
	int grid_h, grid_w; /* in patches of config->patch pixels */
	float *values;      /* owned */
};

/* Normalises and cuts; the image's size must be a multiple of patch * merge, and
 * p must agree with v (preprocessor_config.json with config.json). */
bool image_to_patches(const struct image *image, const struct image_processor *p,
                      const struct vision_config *v, struct patches *out, error *err);

/* image_decode + image_resize, to a size from image_fit. */
bool image_make_pixels(const struct image_file *file, int width, int height,
                       struct image *out, error *err);

/* From the file to the patches: image_fit within pixel_bounds(p, v, pixel_limit),
 * image_make_pixels, image_to_patches. */
bool load_patches(const char *path, const struct image_processor *p,
                  const struct vision_config *v, int64_t pixel_limit,
                  struct patches *out, error *err);
void patches_free(struct patches *p);

#endif
