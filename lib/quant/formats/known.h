/* The formats of this folder, for formats.c. */
#ifndef QUERN_QUANT_FORMATS_KNOWN_H
#define QUERN_QUANT_FORMATS_KNOWN_H

#include "lib/quant/formats/format.h"

extern const struct format FORMAT_FP8_TENSOR;
extern const struct format FORMAT_FP8_CHANNEL;
extern const struct format FORMAT_INT8_CHANNEL;
extern const struct format FORMAT_INT4_GROUP;
extern const struct format FORMAT_INT4_AWQ;
extern const struct format FORMAT_NVFP4;

#endif
