/* Root mean square normalisation, as Qwen2RMSNorm has it:
 *   y = weight * (x * 1/sqrt(mean(x^2) + eps)), all in float32. */
#ifndef QUERN_KERNELS_RMSNORM_H
#define QUERN_KERNELS_RMSNORM_H

/* x[rows][width], weight[width] -> y[rows][width] */
void rmsnorm_forward(float *y, const float *x, const float *weight, int rows,
                     int width, float eps);

/* Adds dLoss/dx to dx[rows][width], given dy = dLoss/dy and the x of the forward:
 * next to every norm runs a residual connection, whose gradient is in dx
 * already. With r = 1/sqrt(mean(x^2) + eps) and g = weight * dy:
 *   dx += r * (g - x * r^2 * mean(g * x)) */
void rmsnorm_backward(float *dx, const float *dy, const float *x, const float *weight,
                      int rows, int width, float eps);

#endif
