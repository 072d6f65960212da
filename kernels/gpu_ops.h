/* The device twins of the kernels: 16-bit weights and activations, float32 residual stream
 * and arithmetic. Same operations as the .h of the same name; pointers are the device's,
 * every call is queued on `stream` (a cudaStream_t) and returns at once. Rows of several
 * samples lie packed one after the other, without padding. Rows of 16-bit numbers start
 * at multiples of 16 bytes. */
#ifndef QUERN_KERNELS_GPU_OPS_H
#define QUERN_KERNELS_GPU_OPS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *gpu_stream;

/* A 16-bit float: BF16, or FP16, whose range is small but whose rounding is eight times
 * finer, as the call's `number` says. */
typedef uint16_t bits16;
enum gpu_number { GPU_BF16, GPU_FP16 };

/* What else a kernel writes of each row of its result while it has it: the largest
 * magnitude, amax[row], and the FP8 codes, codes[row][padded] = e4m3(value * multiplier)
 * with zeros behind the row. NULL: not wanted. */
struct row_extras {
	float *amax;
	uint8_t *codes;
	int padded;
	float multiplier;
};

/* ---- rmsnorm.h; width: a multiple of 8 ---- */

/* out[rows][width] = x * rsqrt(mean(x^2) + eps) * weight; out may be NULL. */
void gpu_rmsnorm_forward(bits16 *out, const struct row_extras *extras, const float *x,
                         const bits16 *weight, int rows, int width, float eps,
                         enum gpu_number number, gpu_stream stream);

/* dx[rows][width] += the gradient of x, for dout[rows][width]. With copy not NULL,
 * copy becomes dx in 16 bits too, which the next product reads. */
void gpu_rmsnorm_backward(float *dx, bits16 *copy, const bits16 *dout, const float *x,
                          const bits16 *weight, int rows, int width, float eps,
                          enum gpu_number number, gpu_stream stream);

/* ---- rope.h: heads of a multiple of 16 numbers lie side by side in rows ---- */

/* Backward, in place, in rows `stride` apart. */
void gpu_rope_backward(bits16 *x, int stride, const float *cosine, const float *sine,
                       int rows, int heads, int head_dim, enum gpu_number number,
                       gpu_stream stream);

/* Forward into another place; the columns behind the heads, up to width, are copied. */
void gpu_rope_forward(bits16 *out, const bits16 *x, int width, const float *cosine,
                      const float *sine, int rows, int heads, int head_dim,
                      enum gpu_number number, gpu_stream stream);

/* ---- swiglu.h: gate_up[rows][2 * width], gate first; rows of the other matrix are
 * `padded` apart, with zeros behind width ---- */

/* out may be NULL. */
void gpu_swiglu_forward(bits16 *out, int padded, const struct row_extras *extras,
                        const bits16 *gate_up, int rows, int width,
                        enum gpu_number number, gpu_stream stream);
void gpu_swiglu_backward(bits16 *dgate_up, const bits16 *dout, int padded,
                         const bits16 *gate_up, int rows, int width,
                         enum gpu_number number, gpu_stream stream);

/* ---- gelu.h; n: a multiple of 8 ---- */

void gpu_gelu_forward(bits16 *out, const bits16 *x, int64_t n, enum gpu_number number,
                      gpu_stream stream);
void gpu_gelu_backward(bits16 *dx, const bits16 *dout, const bits16 *x, int64_t n,
                       enum gpu_number number, gpu_stream stream);

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
void gpu_attention_forward(bits16 *out, float *lse, const bits16 *q, const bits16 *k,
                           const bits16 *v, const struct attention_tile *tiles,
                           int tile_count, const struct attention_shape *shape,
                           enum gpu_number number, gpu_stream stream);

/* delta[rows][heads] is scratch, and so is parts[2][rows][heads * head_dim], which is
 * needed where query heads share a key and value head. */
void gpu_attention_backward(bits16 *dq, bits16 *dk, bits16 *dv, float *delta, float *parts,
                            const bits16 *dout, const bits16 *out, const float *lse,
                            const bits16 *q, const bits16 *k, const bits16 *v,
                            const struct attention_tile *tiles, int tile_count, int rows,
                            const struct attention_shape *shape, enum gpu_number number,
                            gpu_stream stream);

/* ---- rows.h; width: a multiple of 8 ---- */

/* x[rows][width] (float32) = embedding[ids[i]], or features[source[i]] where
 * source[i] >= 0. */
void gpu_embed(float *x, const bits16 *embedding, const int32_t *ids, const float *features,
               const int32_t *source, int rows, int width, enum gpu_number number,
               gpu_stream stream);

/* dfeatures[source[i]] = dx[i] in 16 bits where source[i] >= 0. */
void gpu_gather_features(bits16 *dfeatures, const float *dx, const int32_t *source, int rows,
                         int width, enum gpu_number number, gpu_stream stream);

/* out[count][width] = x[index[i]]; dx[index[i]] = dout[i], other rows 0. */
void gpu_pick_rows(float *out, const float *x, const int32_t *index, int count, int width,
                   gpu_stream stream);
void gpu_put_rows(float *dx, const float *dout, const int32_t *index, int count, int rows,
                  int width, gpu_stream stream);

/* out[n] = x[n] in 16 bits; n: a multiple of 8 */
void gpu_narrow(bits16 *out, const float *x, int64_t n, enum gpu_number number,
                gpu_stream stream);

/* x[n] from BF16 to FP16, in place. */
void gpu_bf16_to_fp16(bits16 *x, int64_t n, gpu_stream stream);

/* ---- cross_entropy.h, divergence.h ---- */

/* losses[row] of logits[rows][vocab] (float32); dlogits = scale[row] * (softmax -
 * one-hot). */
void gpu_cross_entropy(float *losses, bits16 *dlogits, const float *logits,
                       const int32_t *targets, const float *scale, int rows, int vocab,
                       enum gpu_number number, gpu_stream stream);

/* What a row of logits says by itself. log-probability: x - largest - log_sum. */
struct row_summary {
	float largest, log_sum;
	int32_t place; /* of the first that is largest */
	float loss;    /* cross entropy with its target; 0 for a target below 0 */
};

void gpu_summarise_rows(struct row_summary *out, const float *logits, const int32_t *targets,
                        int rows, int vocab, gpu_stream stream);

/* What struct divergence of divergence.h holds, and the other row's loss. */
struct row_divergence {
	double kl;     /* of the other row's softmax from the base's */
	float squared; /* mean squared difference of logits */
	float loss;
	int32_t agrees; /* the largest logit stands at the same place */
	int32_t unused;
};

/* out[rows] of base[rows][vocab], whose summary is given, and other[rows][vocab]. */
void gpu_divergence_of_rows(struct row_divergence *out, const struct row_summary *summary,
                            const float *base, const float *other, const int32_t *targets,
                            int rows, int vocab, gpu_stream stream);

/* ---- amax.h ---- */

/* per_row[row] = max |x[row][0..width)|; NaN gives NaN. stride, width: multiples of 8 */
void gpu_amax_rows(float *per_row, const bits16 *x, int stride, int width, int rows,
                   enum gpu_number number, gpu_stream stream);

/* out[sample * out_stride] = the largest per_row of the rows [starts[sample],
 * starts[sample + 1]). */
void gpu_amax_samples(float *out, int out_stride, const float *per_row,
                      const int32_t *starts, int samples, gpu_stream stream);

/* *out = max |x[n]| of a weight; scratch holds 1024 floats. */
void gpu_weight_amax(float *out, float *scratch, const bits16 *x, int64_t n,
                     enum gpu_number number, gpu_stream stream);

/* ---- fp8.h ---- */

/* codes[rows][padded] = e4m3(x[rows][stride] * multiplier), zeros behind stride; stride:
 * a multiple of 8, and so is padded. */
void gpu_fp8_encode(uint8_t *codes, int padded, const bits16 *x, int stride, int rows,
                    float multiplier, enum gpu_number number, gpu_stream stream);

/* The same with a division, the arithmetic of shipped weights. */
void gpu_fp8_encode_divided(uint8_t *codes, int padded, const bits16 *x, int stride,
                            int rows, float scale, enum gpu_number number,
                            gpu_stream stream);

/* out[n] = value(codes[n]), exact in either number. n: a multiple of 16 */
void gpu_fp8_decode(bits16 *out, const uint8_t *codes, int64_t n, enum gpu_number number,
                    gpu_stream stream);

/* x[rows][width] = value(e4m3(x / scale)) * scale, in place. stride, width: multiples of 8 */
void gpu_fp8_round(bits16 *x, int stride, int width, int rows, float scale,
                   enum gpu_number number, gpu_stream stream);

/* ---- score.h ---- */

/* A difference in 16 bits from numbers that had been rounded to 16 bits, or in float32 as
 * the sum of two. */
struct difference {
	const bits16 *narrow, *rounded;
	const float *wide, *plus; /* used when narrow is NULL; plus may be NULL */
	int stride, plus_stride;
};

/* Columns [first, first + width), whose score is added to the given column of scores. */
struct score_part {
	int first, width, column;
};
enum { MOST_SCORE_PARTS = 3 };

/* score[sample * score_stride + column] += sum over the sample's rows and the part's
 * columns of (gradient * difference)^2, in float64 in a fixed order; less what the rounding
 * is expected to add to it, but at least 0. Rows of gradient are gradient_stride apart.
 * per_row is scratch of part_count * rows doubles. */
void gpu_score(double *score, int score_stride, double *per_row, const bits16 *gradient,
               int gradient_stride, const struct difference *difference,
               const struct score_part *parts, int part_count, int rows,
               const int32_t *starts, int samples, enum gpu_number number,
               gpu_stream stream);

#ifdef __cplusplus
}
#endif

#endif
