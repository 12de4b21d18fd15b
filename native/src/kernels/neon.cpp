// AArch64 as every processor of it is: int8 products widen to int16 (`smull`), and neighbours of them are added to int32
// (`sadalp`). The multiplication takes signed activations, so bytes are moved by 128 as they are read.
#include "simd_neon.h"

#include "kernels.h"
#include "neon_float_product.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

constexpr int kGroup = 16;
constexpr bool kSignedActivations = true;
constexpr bool kFinishesInRegisters = false;
// 4 rows by 4 columns are 16 accumulators, each with four parts of one sum.
constexpr int kTileRows = 4;
constexpr int kColumnsAtOnce = 4;
// All loops over rows and columns are unrolled: with one that is not, GCC keeps the sums in memory.

// A second product is not added in int16 (`smlal`): twice -128 * -128 does not fit.
inline int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b) {
  return vpadalq_s16(vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b))), vmull_high_s8(a, b));
}

// 4 columns of a panel in which one group of inputs takes `step` bytes.
template <int R>
__attribute__((noinline)) void four_columns(const uint8_t* a, size_t stride, const int8_t* packed, size_t step,
                                            int groups, const int32_t* start, int32_t* out) {
  int32x4_t sums[R][4];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sums[r][c] = vdupq_n_s32(0);
  }
  for (int group = 0; group < groups; ++group) {
    int8x16_t weights[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) weights[c] = vld1q_s8(packed + c * kGroup);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int8x16_t activations = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(a + r * stride), vdupq_n_u8(0x80)));
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sums[r][c] = add_products(sums[r][c], activations, weights[c]);
    }
    a += kGroup;
    packed += step;
  }
  const int32x4_t first = vld1q_s32(start);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const int32x4_t left = vpaddq_s32(sums[r][0], sums[r][1]);
    const int32x4_t right = vpaddq_s32(sums[r][2], sums[r][3]);
    vst1q_s32(out + r * kPanel, vaddq_s32(first, vpaddq_s32(left, right)));
  }
}

template <int R, int V>
void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start, int32_t* out) {
  constexpr int kStep = V * kVector * kGroup;
  for (int c = 0; c < V * kVector; c += kColumnsAtOnce) {
    four_columns<R>(a, stride, packed + c * kGroup, kStep, groups, start + c, out + c);
  }
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kNeon;
const Kernels kNeon = kernels_named("neon");
}  // namespace vitlet
