/* One C source, the machine's vector width, the same bits.
 *
 * Element-wise kernels are plain loops that the compiler turns into vector code;
 * VECTOR_CLONES before a function makes it compile the function once per
 * instruction set and pick at load time. What keeps the results equal on all of
 * them: every element goes through the same IEEE operations (a multiply and an
 * add are never fused into one rounding), and a reduction runs over a fixed
 * number of lanes in a fixed order (lanes.h) instead of one of the compiler's
 * choosing.
 *
 * Include this first, before the helper functions that a kernel inlines. */
#ifndef QUERN_KERNELS_PORTABLE_H
#define QUERN_KERNELS_PORTABLE_H

#include <stddef.h>
#include <stdint.h> /* also defines __GLIBC__ where it applies */

/* gcc vectorises loops of unknown length at -O3 only. Traps and errno are what
 * would keep it from computing both sides of a selection; no value depends on
 * them. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("O3", "fp-contract=off", "no-trapping-math", "no-math-errno")
#endif

/* Needs indirect functions (ELF, glibc). clang before 18 gives the clones a name
 * that other files cannot link to. */
#if !defined(__x86_64__) || !defined(__ELF__) || !defined(__GLIBC__)
#define VECTOR_CLONES
#elif defined(__clang__) && __clang_major__ < 18
#define VECTOR_CLONES
#elif defined(__clang__) || __GNUC__ >= 12
#define VECTOR_CLONES \
	__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

#endif
