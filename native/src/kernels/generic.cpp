// Plain C++, for every processor.
#include "kernels.h"
#include "simd_scalar.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

constexpr int kGroup = 4;
constexpr bool kSignedActivations = false;
constexpr bool kFinishesInRegisters = false;
constexpr int kTileRows = 4;

template <int R, int V>
void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start, int32_t* out) {
  constexpr int kColumns = V * kVector;
  for (int r = 0; r < R; ++r) {
    int32_t sums[kColumns];
    for (int c = 0; c < kColumns; ++c) sums[c] = start[c];
    for (int group = 0; group < groups; ++group) {
      const uint8_t* const four = a + r * stride + group * kGroup;
      const int8_t* const weights = packed + group * kColumns * kGroup;
      for (int c = 0; c < kColumns; ++c) {
        for (int k = 0; k < kGroup; ++k) sums[c] += four[k] * weights[c * kGroup + k];
      }
    }
    for (int c = 0; c < kColumns; ++c) out[r * kPanel + c] = sums[c];
  }
}

template <int R, int V>
void float_product(const float* a, size_t stride, const float* packed, int inputs, float* out) {
  constexpr int kColumns = V * kVector;
  for (int r = 0; r < R; ++r) {
    float sums[kColumns] = {};
    for (int input = 0; input < inputs; ++input) {
      const float activation = a[r * stride + input];
      for (int c = 0; c < kColumns; ++c) sums[c] += activation * packed[input * kColumns + c];
    }
    for (int c = 0; c < kColumns; ++c) out[r * kPanel + c] = sums[c];
  }
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kGeneric;
const Kernels kGeneric = kernels_named("generic");
}  // namespace vitlet
