/* The device twins of the kernels: BF16 activations, float32 residual stream and
 * arithmetic. Same operations as the .h of the same name; pointers are the device's,
 * every call is queued on `stream` (a cudaStream_t) and returns at once. Rows of
 * several samples lie packed one after the other, without padding. */
#ifndef QUERN_KERNELS_GPU_OPS_H
#define QUERN_KERNELS_GPU_OPS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *gpu_stream;
typedef uint16_t bf16_bits; /* a BF16 number; __nv_bfloat16 on the device */

/* ---- rmsnorm.h ---- */

/* out[rows][width] = x * rsqrt(mean(x^2) + eps) * weight */
void gpu_rmsnorm_forward(bf16_bits *out, const float *x, const bf16_bits *weight, int rows,
                         int width, float eps, gpu_stream stream);

/* dx[rows][width] += the gradient of x, for dout[rows][width]. With copy not NULL,
 * copy becomes BF16(dx) too, which the next product reads. */
void gpu_rmsnorm_backward(float *dx, bf16_bits *copy, const float *dout, const float *x,
                          const bf16_bits *weight, int rows, int width, float eps,
                          gpu_stream stream);

/* ---- rope.h: heads lie side by side in rows `stride` apart; in place ---- */

void gpu_rope(bf16_bits *x, int stride, const float *cosine, const float *sine, int rows,
              int heads, int head_dim, int backward, gpu_stream stream);

/* As gpu_rope forward, into another place; the columns behind the heads, up to width,
 * are copied. */
void gpu_rope_copy(bf16_bits *out, const bf16_bits *x, int width, const float *cosine,
                   const float *sine, int rows, int heads, int head_dim,
                   gpu_stream stream);

/* ---- swiglu.h: gate_up[rows][2 * width], gate first; rows of the other matrix are
 * `padded` apart, with zeros behind width ---- */

void gpu_swiglu_forward(bf16_bits *out, int padded, const bf16_bits *gate_up, int rows,
                        int width, gpu_stream stream);
void gpu_swiglu_backward(bf16_bits *dgate_up, const bf16_bits *dout, int padded,
                         const bf16_bits *gate_up, int rows, int width,
                         gpu_stream stream);

/* ---- gelu.h ---- */

void gpu_gelu_forward(bf16_bits *out, const bf16_bits *x, int64_t n, gpu_stream stream);
void gpu_gelu_backward(bf16_bits *dx, const bf16_bits *dout, const bf16_bits *x, int64_t n,
                       gpu_stream stream);

/* ---- attention.h ---- */

/* A tile of work: rows [row, min(row + 64, end)) of the segment [begin, end). */
struct attention_tile {
	int32_t row, begin, end, unused;
};

struct attention_shape {
	int heads, kv_heads, head_dim; /* head_dim: a multiple of 16 up to 128 */
	int stride;                    /* of rows of q, k, v and their gradients */
	int causal;
	float scale;
};

/* out[rows][heads * head_dim]; lse[rows][heads] is the logarithm of each row's sum of
 * exponentials, kept for the backward pass. */
void gpu_attention_forward(bf16_bits *out, float *lse, const bf16_bits *q,
                           const bf16_bits *k, const bf16_bits *v,
                           const struct attention_tile *tiles, int tile_count,
                           const struct attention_shape *shape, gpu_stream stream);

/* delta[rows][heads] is scratch. */
void gpu_attention_backward(bf16_bits *dq, bf16_bits *dk, bf16_bits *dv, float *delta,
                            const bf16_bits *dout, const bf16_bits *out, const float *lse,
                            const bf16_bits *q, const bf16_bits *k, const bf16_bits *v,
                            const struct attention_tile *tiles, int tile_count, int rows,
                            const struct attention_shape *shape, gpu_stream stream);

/* ---- rows.h ---- */

/* x[rows][width] (float32) = embedding[ids[i]], or features[source[i]] where
 * source[i] >= 0. */
void gpu_embed(float *x, const bf16_bits *embedding, const int32_t *ids,
               const float *features, const int32_t *source, int rows, int width,
               gpu_stream stream);

/* dfeatures[source[i]] = BF16(dx[i]) where source[i] >= 0. */
void gpu_gather_features(bf16_bits *dfeatures, const float *dx, const int32_t *source,
                         int rows, int width, gpu_stream stream);

/* out[count][width] = x[index[i]]; dx[index[i]] = dout[i], other rows 0. */
void gpu_pick_rows(float *out, const float *x, const int32_t *index, int count, int width,
                   gpu_stream stream);
void gpu_put_rows(float *dx, const float *dout, const int32_t *index, int count, int rows,
                  int width, gpu_stream stream);

/* out[n] = BF16(x[n]) */
void gpu_to_bf16(bf16_bits *out, const float *x, int64_t n, gpu_stream stream);

/* ---- cross_entropy.h ---- */

/* losses[row] of logits[rows][vocab] (float32); dlogits = scale[row] * (softmax -
 * one-hot), in BF16. */
void gpu_cross_entropy(float *losses, bf16_bits *dlogits, const float *logits,
                       const int32_t *targets, const float *scale, int rows, int vocab,
                       gpu_stream stream);

/* ---- amax.h ---- */

/* per_row[row] = max |x[row][width]|; then out[sample * out_stride] = the largest of the
 * rows [starts[sample], starts[sample + 1]). NaN gives NaN. */
void gpu_amax(float *out, int out_stride, float *per_row, const bf16_bits *x, int stride,
              int rows, int width, const int32_t *starts, int samples, gpu_stream stream);

/* *out = max |x[n]| of a weight; scratch holds 1024 floats. */
void gpu_weight_amax(float *out, float *scratch, const bf16_bits *x, int64_t n,
                     gpu_stream stream);

/* ---- fp8.h ---- */

/* codes[rows][padded] = e4m3(x[rows][width] * multiplier), zeros behind width; rows of x
 * are `stride` apart. */
void gpu_fp8_encode(uint8_t *codes, int padded, const bf16_bits *x, int stride, int rows,
                    int width, float multiplier, gpu_stream stream);

/* The same with a division, the arithmetic of shipped weights. */
void gpu_fp8_encode_divided(uint8_t *codes, int padded, const bf16_bits *x, int stride,
                            int rows, int width, float scale, gpu_stream stream);

/* out[n] = value(codes[n]), exact in BF16. */
void gpu_fp8_to_bf16(bf16_bits *out, const uint8_t *codes, int64_t n, gpu_stream stream);

/* ---- score.h ---- */

/* A difference in BF16, or in float32 as the sum of two. */
struct difference {
	const bf16_bits *narrow;
	const float *wide, *plus; /* used when narrow is NULL; plus may be NULL */
	int stride, plus_stride;
};

/* score[sample * score_stride] += sum over the sample's rows and columns
 * [first, first + width) of (gradient * difference)^2, each row in float64 in a fixed
 * order. Rows of gradient are gradient_stride apart. per_row is scratch of `rows`
 * doubles. */
void gpu_score(double *score, int score_stride, double *per_row, const bf16_bits *gradient,
               int gradient_stride, const struct difference *difference, int first,
               int width, int rows, const int32_t *starts, int samples,
               gpu_stream stream);

#ifdef __cplusplus
}
#endif

#endif
