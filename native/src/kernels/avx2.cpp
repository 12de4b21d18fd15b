// AVX2: `vpmaddwd` multiplies sixteen int16 and adds neighbours, which is exact for bytes with int8 (`vpmaddubsw`,
// twice as wide, saturates at int16).
#include "avx2_float_product.h"

namespace {

constexpr int kGroup = 2;
constexpr bool kSignedActivations = false;
constexpr bool kFinishesInRegisters = false;
// Inputs that are widened to int16 at a time: 6 rows of them stay in the first-level cache.
constexpr int kBlock = 256;

// In place, as in `avx2_float_product.h`.
inline void add_in_place(__m256i& sum, __m256i x) { asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(x)); }

// 16 columns for groups of two inputs; `step` bytes lie between groups. The sums go on from what `out` holds.
template <int R>
__attribute__((noinline)) void add_products(const int16_t (&wide)[R][kBlock], const int8_t* packed, size_t step,
                                            int groups, int32_t* out) {
  __m256i sums[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    sums[r][0] = _mm256_load_si256(reinterpret_cast<const __m256i*>(out + r * kPanel));
    sums[r][1] = _mm256_load_si256(reinterpret_cast<const __m256i*>(out + r * kPanel + kWidth));
  }
  for (int group = 0; group < groups; ++group) {
    const auto* const from = reinterpret_cast<const __m128i*>(packed + group * step);
    const __m256i left = _mm256_cvtepi8_epi16(_mm_load_si128(from));
    const __m256i right = _mm256_cvtepi8_epi16(_mm_load_si128(from + 1));
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int32_t two;
      __builtin_memcpy(&two, &wide[r][group * kGroup], sizeof(two));
      const __m256i activations = _mm256_set1_epi32(two);
      add_in_place(sums[r][0], _mm256_madd_epi16(activations, left));
      add_in_place(sums[r][1], _mm256_madd_epi16(activations, right));
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + r * kPanel), sums[r][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + r * kPanel + kWidth), sums[r][1]);
  }
}

template <int R, int V>
void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start, int32_t* out) {
  alignas(32) int16_t wide[R][kBlock];
  constexpr size_t kStep = V * kVector * kGroup;
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) __builtin_memcpy(out + r * kPanel, start, V * kVector * sizeof(int32_t));
  constexpr int kBlockGroups = kBlock / kGroup;
  for (int first = 0; first < groups; first += kBlockGroups) {
    const int count = groups - first < kBlockGroups ? groups - first : kBlockGroups;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const uint8_t* const from = a + r * stride + first * kGroup;
      for (int i = 0; i < count * kGroup; ++i) wide[r][i] = from[i];
    }
    const int8_t* const weights = packed + static_cast<size_t>(first) * kStep;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      add_products<R>(wide, weights + v * kVector * kGroup, kStep, count, out + v * kVector);
    }
  }
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kAvx2;
const Kernels kAvx2 = kernels_named("avx2");
}  // namespace vitlet
