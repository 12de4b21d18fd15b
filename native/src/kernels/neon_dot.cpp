// AArch64 with the dot product extension: `sdot` adds four products of two int8 to each of four int32. It takes signed
// activations, so bytes are moved by 128 as they are read.
#include "simd_neon.h"

#include "kernels.h"
#include "neon_float_product.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

constexpr int kGroup = 4;
constexpr bool kSignedActivations = true;
constexpr bool kFinishesInRegisters = false;
// 4 rows by 4 registers are 16 accumulators; more rows leave too few of the 32 registers for reading weights ahead.
constexpr int kTileRows = 4;
constexpr int kGroupsAtOnce = 4;
// All loops over rows and columns are unrolled: with one that is not, GCC keeps the sums in memory.

template <int R>
inline void read_rows(const uint8_t* a, size_t stride, int8x16_t (&activations)[R]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    activations[r] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(a + r * stride), vdupq_n_u8(0x80)));
  }
}

template <int Lane, int R>
inline void add_group(int32x4_t (&sums)[R][4], const int8x16_t (&activations)[R], const int8_t* packed) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int8x16_t weights = vld1q_s8(packed + i * 16);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[r][i] = vdotq_laneq_s32(sums[r][i], weights, activations[r], Lane);
  }
}

// 16 columns of a panel in which one group of inputs takes `step` bytes.
template <int R>
__attribute__((noinline)) void add_products(const uint8_t* a, size_t stride, const int8_t* packed, size_t step,
                                            int groups, const int32_t* start, int32_t* out) {
  int32x4_t sums[R][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int32x4_t first = vld1q_s32(start + i * 4);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[r][i] = first;
  }
  int8x16_t activations[R];
  int left = groups;
  for (; left >= kGroupsAtOnce; left -= kGroupsAtOnce) {
    read_rows(a, stride, activations);
    add_group<0>(sums, activations, packed);
    add_group<1>(sums, activations, packed + step);
    add_group<2>(sums, activations, packed + 2 * step);
    add_group<3>(sums, activations, packed + 3 * step);
    a += kGroupsAtOnce * kGroup;
    packed += kGroupsAtOnce * step;
  }
  if (left > 0) {
    read_rows(a, stride, activations);
    add_group<0>(sums, activations, packed);
    if (left > 1) add_group<1>(sums, activations, packed + step);
    if (left > 2) add_group<2>(sums, activations, packed + 2 * step);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) vst1q_s32(out + r * kPanel + i * 4, sums[r][i]);
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
extern const Kernels kNeonDot;
const Kernels kNeonDot = kernels_named("neon-dot");
}  // namespace vitlet
