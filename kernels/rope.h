/* Rotary position embedding, "rotate half" layout: element i of a head turns
 * with element i + head_dim/2 by the angle of (row, i). The angles come as
 * cosine and sine [rows][head_dim/2]; how they follow from positions (vision:
 * height and width; text: three M-RoPE axes) is lib/model/positions.c's. */
#ifndef QUERN_KERNELS_ROPE_H
#define QUERN_KERNELS_ROPE_H

/* In place on x[rows][heads][head_dim], whose rows are `stride` floats apart. */
void rope_forward(float *x, int stride, const float *cosine, const float *sine,
                  int rows, int heads, int head_dim);

/* The gradient turns back by the same angle. */
void rope_backward(float *dx, int stride, const float *cosine, const float *sine,
                   int rows, int heads, int head_dim);

#endif
