// AArch64 with int8 matrix multiplication: `usmmla` adds the products of 2 rows of 8 bytes and 2 columns of 8 int8 to a
// 2 by 2 block of int32.
#include "simd_neon.h"

#include "kernels.h"
#include "neon_float_product.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

constexpr int kGroup = 8;
constexpr bool kSignedActivations = false;
constexpr bool kFinishesInRegisters = false;
// 3 pairs of rows by 8 blocks are 24 accumulators; with 3 registers of activations they leave five for weights.
constexpr int kTileRows = 6;
// All loops over rows and columns are unrolled: with one that is not, GCC keeps the sums in memory.

// Of an odd number of rows the last one is its own partner; that half of its blocks is not stored.
template <int R>
constexpr int second_of(int pair) {
  return 2 * pair + 1 < R ? 2 * pair + 1 : 2 * pair;
}

// 16 columns of a panel in which one group of inputs takes `step` bytes.
template <int R>
__attribute__((noinline)) void add_products(const uint8_t* a, size_t stride, const int8_t* packed, size_t step,
                                            int groups, const int32_t* start, int32_t* out) {
  constexpr int kPairs = (R + 1) / 2;
  int32x4_t sums[kPairs][8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const int32x2_t first = vld1_s32(start + i * 2);
#pragma GCC unroll 3
    for (int pair = 0; pair < kPairs; ++pair) sums[pair][i] = vcombine_s32(first, first);
  }
  for (int group = 0; group < groups; ++group) {
    uint8x16_t activations[kPairs];
#pragma GCC unroll 3
    for (int pair = 0; pair < kPairs; ++pair) {
      activations[pair] = vcombine_u8(vld1_u8(a + 2 * pair * stride), vld1_u8(a + second_of<R>(pair) * stride));
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const int8x16_t weights = vld1q_s8(packed + i * 16);
#pragma GCC unroll 3
      for (int pair = 0; pair < kPairs; ++pair) {
        sums[pair][i] = vusmmlaq_s32(sums[pair][i], activations[pair], weights);
      }
    }
    a += kGroup;
    packed += step;
  }
#pragma GCC unroll 3
  for (int pair = 0; pair < kPairs; ++pair) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int64x2_t left = vreinterpretq_s64_s32(sums[pair][2 * i]);
      const int64x2_t right = vreinterpretq_s64_s32(sums[pair][2 * i + 1]);
      int32_t* const to = out + 2 * pair * kPanel + i * 4;
      vst1q_s32(to, vreinterpretq_s32_s64(vzip1q_s64(left, right)));
      if (2 * pair + 1 < R) vst1q_s32(to + kPanel, vreinterpretq_s32_s64(vzip2q_s64(left, right)));
    }
  }
}

template <int R, int V>
void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start, int32_t* out) {
  constexpr int kBytes = kVector * kGroup;
  for (int v = 0; v < V; ++v) {
    add_products<R>(a, stride, packed + v * kBytes, V * kBytes, groups, start + v * kVector, out + v * kVector);
  }
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kNeonI8mm;
const Kernels kNeonI8mm = kernels_named("neon-i8mm");
}  // namespace vitlet
