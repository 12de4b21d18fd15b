// Products of floats for all instruction sets of AArch64: 16 columns at a time, in four registers for each row.
#pragma once

#include <arm_neon.h>

#include <cstddef>

#include "kernels.h"

namespace {

// 6 rows by 4 registers are 24 accumulators of the 32 registers.
template <int R>
__attribute__((noinline)) void add_float_products(const float* a, size_t stride, const float* packed, size_t step,
                                                  int inputs, float* out) {
  float32x4_t sums[R][4];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sums[r][i] = vdupq_n_f32(0.0f);
  }
  for (int input = 0; input < inputs; ++input) {
    float32x4_t weights[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) weights[i] = vld1q_f32(packed + input * step + i * 4);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const float activation = a[r * stride + input];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[r][i] = vfmaq_n_f32(sums[r][i], weights[i], activation);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) vst1q_f32(out + r * vitlet::kPanel + i * 4, sums[r][i]);
  }
}

template <int R, int V>
void float_product(const float* a, size_t stride, const float* packed, int inputs, float* out) {
  for (int v = 0; v < V; ++v) add_float_products<R>(a, stride, packed + v * 16, V * 16, inputs, out + v * 16);
}

}  // namespace
