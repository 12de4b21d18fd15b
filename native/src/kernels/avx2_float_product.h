// Products of float32 by AVX2 and FMA, for the sets of instructions that have no wider registers.
#pragma once

#include "simd_avx2.h"

#include "kernels.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

// 6 rows by 16 columns are 12 accumulators of the 16 registers.
constexpr int kTileRows = 6;
constexpr int kWidth = 8;

// All loops over rows are unrolled: with one that is not, GCC keeps the sums in memory. It also does so where it is free
// to copy a sum: this adds in place.
inline void add_in_place(__m256& sum, __m256 a, __m256 b) { asm("vfmadd231ps %1, %2, %0" : "+x"(sum) : "x"(a), "x"(b)); }

template <int R>
__attribute__((noinline)) void float_products(const float* a, size_t stride, const float* packed, size_t step, int inputs, float* out) {
  __m256 sums[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  for (int input = 0; input < inputs; ++input) {
    const __m256 left = _mm256_load_ps(packed + input * step);
    const __m256 right = _mm256_load_ps(packed + input * step + kWidth);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 activation = _mm256_broadcast_ss(a + r * stride + input);
      add_in_place(sums[r][0], activation, left);
      add_in_place(sums[r][1], activation, right);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    _mm256_store_ps(out + r * kPanel, sums[r][0]);
    _mm256_store_ps(out + r * kPanel + kWidth, sums[r][1]);
  }
}

template <int R, int V>
void float_product(const float* a, size_t stride, const float* packed, int inputs,
                                             float* out) {
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    float_products<R>(a, stride, packed + v * kVector, V * kVector, inputs, out + v * kVector);
  }
}

}  // namespace
