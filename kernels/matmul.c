/* Matrix products by OpenBLAS. */
#include "kernels/matmul.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
/* OpenBLAS before 0.3.22 does not know newer AMD processors and gives them its
 * AVX2 kernels even where they have AVX-512, at half the speed. Its selection can
 * be run again with another answer, as long as nothing was computed yet; weak
 * names, because only builds with several kernels inside have it. An
 * OPENBLAS_CORETYPE of the user's own is left alone. */
void gotoblas_dynamic_quit(void) __attribute__((weak));
void gotoblas_dynamic_init(void) __attribute__((weak));

static void choose_kernels(void)
{
	if (!gotoblas_dynamic_quit || !gotoblas_dynamic_init || getenv("OPENBLAS_CORETYPE"))
		return;
	const char *chosen = openblas_get_corename();
	bool narrow = strcmp(chosen, "Haswell") == 0 || strcmp(chosen, "Zen") == 0;
	bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
	if (!narrow || !wide || setenv("OPENBLAS_CORETYPE", "SKYLAKEX", 0) != 0)
		return;
	gotoblas_dynamic_quit();
	gotoblas_dynamic_init();
}
#else
static void choose_kernels(void)
{
}
#endif

void matmul_threads(int count)
{
	choose_kernels();
	openblas_set_num_threads(count);
}

static void repeat_row(float *y, int y_stride, const float *row, int rows, int width)
{
	for (int i = 0; i < rows; i++)
		memcpy(y + (size_t)i * (size_t)y_stride, row, (size_t)width * sizeof(float));
}

void matmul_forward(float *y, int y_stride, const float *x, const float *weight,
                    const float *bias, int rows, int out, int in)
{
	float keep = bias ? 1.0f : 0.0f;
	if (bias)
		repeat_row(y, y_stride, bias, rows, out);
	if (rows == 1)
		cblas_sgemv(CblasRowMajor, CblasNoTrans, out, in, 1.0f, weight, in, x, 1, keep,
		            y, 1);
	else
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, out, in, 1.0f, x, in,
		            weight, in, keep, y, y_stride);
}

void matmul_backward(float *dx, const float *dy, int dy_stride, const float *weight,
                     int rows, int out, int in, bool accumulate)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, in, out, 1.0f, dy,
	            dy_stride, weight, in, accumulate ? 1.0f : 0.0f, dx, in);
}
