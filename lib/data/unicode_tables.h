/* The generated tables behind unicode.c, all sorted for binary search. They are
 * of the two Unicode versions the reference tokenizer uses; how to make them
 * again: lib/data/make_unicode_tables.py. */
#ifndef QUERN_DATA_UNICODE_TABLES_H
#define QUERN_DATA_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct code_range {
	uint32_t first, last;
};

/* One step of canonical decomposition; second is 0 for a singleton. */
struct decomposition {
	uint32_t code, first, second;
};

struct class_range {
	uint32_t first, last;
	uint8_t combining_class;
};

/* unicode_classes.c: general categories L and N. */
extern const struct code_range letter_ranges[], number_ranges[];
extern const size_t letter_ranges_count, number_ranges_count;

/* unicode_decomposing.c, sorted by code. Hangul syllables are left out. */
extern const struct decomposition decompositions[];
extern const size_t decompositions_count;

/* unicode_composing.c: indices of the decompositions that NFC puts together
 * again, sorted by (first, second); and the combining classes but 0. */
extern const uint16_t compositions[];
extern const struct class_range combining_classes[];
extern const size_t compositions_count, combining_classes_count;

#endif
