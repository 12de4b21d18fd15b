// AArch64 with the dot product extension: `sdot` adds four products of two int8 to each of four int32. It takes signed
// activations, so bytes are moved by 128 as they are read.
#include "simd_neon.h"

#include "kernels.h"

namespace {

using vitlet::kPanel;

constexpr int kGroup = 4;
constexpr int kVector = 4;
constexpr bool kSignedActivations = true;
// 4 rows by 4 vectors are 16 accumulators, beside 4 vectors of weights and 4 of activations.
constexpr int kTileRows = 4;
constexpr int kVectorsAtOnce = 4;
constexpr int kGroupsAtOnce = 4;

template <int R, int V>
struct Sums {
  int32x4_t at[R][V];
};

template <int Lane, int R, int V>
inline void add_group(Sums<R, V>& sums, const int8x16_t (&activations)[R], const int8_t* weights) {
  for (int v = 0; v < V; ++v) {
    const int8x16_t column = vld1q_s8(weights + v * 16);
    for (int r = 0; r < R; ++r) sums.at[r][v] = vdotq_laneq_s32(sums.at[r][v], column, activations[r], Lane);
  }
}

template <int R, int V, int Step>
inline void add_products(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start,
                         int32_t* out) {
  Sums<R, V> sums;
  for (int v = 0; v < V; ++v) {
    const int32x4_t first = vld1q_s32(start + v * kVector);
    for (int r = 0; r < R; ++r) sums.at[r][v] = first;
  }
  constexpr int kStep = Step * kVector * kGroup;
  // Bytes past the last group meet no weights here: the tail below takes only the groups that there are.
  for (int group = 0; group < groups; group += kGroupsAtOnce) {
    int8x16_t activations[R];
    for (int r = 0; r < R; ++r) {
      const uint8x16_t bytes = vld1q_u8(a + r * stride + group * kGroup);
      activations[r] = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)));
    }
    const int8_t* const weights = packed + static_cast<size_t>(group) * kStep;
    const int left = groups - group;
    add_group<0>(sums, activations, weights);
    if (left > 1) add_group<1>(sums, activations, weights + kStep);
    if (left > 2) add_group<2>(sums, activations, weights + 2 * kStep);
    if (left > 3) add_group<3>(sums, activations, weights + 3 * kStep);
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) vst1q_s32(out + r * kPanel + v * kVector, sums.at[r][v]);
  }
}

template <int R, int V>
void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start, int32_t* out) {
  int v = 0;
  for (; v + kVectorsAtOnce <= V; v += kVectorsAtOnce) {
    add_products<R, kVectorsAtOnce, V>(a, stride, packed + v * 16, groups, start + v * kVector, out + v * kVector);
  }
  constexpr int kLeft = V % kVectorsAtOnce;
  if constexpr (kLeft > 0) {
    add_products<R, kLeft, V>(a, stride, packed + v * 16, groups, start + v * kVector, out + v * kVector);
  }
}

template <int R, int V, int Step>
inline void add_float_products(const float* a, size_t stride, const float* packed, int inputs, float* out) {
  float32x4_t sums[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = vdupq_n_f32(0.0f);
  }
  for (int input = 0; input < inputs; ++input) {
    for (int v = 0; v < V; ++v) {
      const float32x4_t weights = vld1q_f32(packed + (static_cast<size_t>(input) * Step + v) * kVector);
      for (int r = 0; r < R; ++r) sums[r][v] = vfmaq_n_f32(sums[r][v], weights, a[r * stride + input]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) vst1q_f32(out + r * kPanel + v * kVector, sums[r][v]);
  }
}

template <int R, int V>
void float_product(const float* a, size_t stride, const float* packed, int inputs, float* out) {
  int v = 0;
  for (; v + kVectorsAtOnce <= V; v += kVectorsAtOnce) {
    add_float_products<R, kVectorsAtOnce, V>(a, stride, packed + v * kVector, inputs, out + v * kVector);
  }
  constexpr int kLeft = V % kVectorsAtOnce;
  if constexpr (kLeft > 0) add_float_products<R, kLeft, V>(a, stride, packed + v * kVector, inputs, out + v * kVector);
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kNeonDot;
const Kernels kNeonDot = kernels_named("neon-dot");
}  // namespace vitlet
