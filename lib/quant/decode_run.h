/* Decoding the images of a source ahead of use. */
#ifndef QUERN_QUANT_DECODE_RUN_H
#define QUERN_QUANT_DECODE_RUN_H

#include "lib/base/error.h"
#include "lib/quant/source.h"

/* Every image of the rows, decoded and resized as the model's processor and max_pixels
 * want it, into the store of `tree`: one result an image and size, so that whoever uses the
 * same image, in whichever set, finds it there. Writes the list of them (pixels.h) to
 * `out`. Of the settings those of rows and images count. Runs on all cores, in a gigabyte
 * of memory unless a single image takes more. */
bool run_decode(const struct source_settings *settings, const char *tree, const char *out,
                error *err);

#endif
