// AVX2: `vpmaddwd` multiplies sixteen int16 and adds neighbours, which is exact for bytes with int8 (`vpmaddubsw`, twice
// as wide, saturates at int16).
#include "simd_avx2.h"

#include "kernels.h"

namespace {

using vitlet::kPanel;

constexpr int kGroup = 2;
constexpr int kVector = 8;
constexpr bool kSignedActivations = false;
// 6 rows by 2 vectors are 12 accumulators of the 16 registers.
constexpr int kTileRows = 6;
constexpr int kVectorsAtOnce = 2;
// All loops over rows and vectors are unrolled: with one that is not, GCC keeps the sums in memory.
// Inputs that are widened to int16 at a time: 6 rows of them stay in the first-level cache.
constexpr int kBlock = 256;

// Two vectors of columns (or the one that is left), for groups of two inputs; the sums go on from what `out` holds.
template <int R, int V, int Step>
inline void add_products(const int16_t (&wide)[R][kBlock], const int8_t* packed, int groups, int32_t* out) {
  __m256i sums[R][V];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      sums[r][v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(out + r * kPanel + v * kVector));
    }
  }
  for (int group = 0; group < groups; ++group) {
    __m256i weights[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const auto* const from = reinterpret_cast<const __m128i*>(packed + (group * Step + v) * kVector * kGroup);
      weights[v] = _mm256_cvtepi8_epi16(_mm_loadu_si128(from));
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int32_t two;
      __builtin_memcpy(&two, &wide[r][group * kGroup], sizeof(two));
      const __m256i activations = _mm256_set1_epi32(two);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(activations, weights[v]));
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + r * kPanel + v * kVector), sums[r][v]);
    }
  }
}

template <int R, int V>
__attribute__((noinline)) void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups,
                                       const int32_t* start, int32_t* out) {
  alignas(32) int16_t wide[R][kBlock];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < V * kVector; ++c) out[r * kPanel + c] = start[c];
  }
  constexpr int kBlockGroups = kBlock / kGroup;
  for (int first = 0; first < groups; first += kBlockGroups) {
    const int count = groups - first < kBlockGroups ? groups - first : kBlockGroups;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const uint8_t* const from = a + r * stride + first * kGroup;
      for (int i = 0; i < count * kGroup; ++i) wide[r][i] = from[i];
    }
    const int8_t* const weights = packed + static_cast<size_t>(first) * V * kVector * kGroup;
    int v = 0;
    for (; v + kVectorsAtOnce <= V; v += kVectorsAtOnce) {
      add_products<R, kVectorsAtOnce, V>(wide, weights + v * kVector * kGroup, count, out + v * kVector);
    }
    if (v < V) add_products<R, 1, V>(wide, weights + v * kVector * kGroup, count, out + v * kVector);
  }
}

template <int R, int V, int Step>
inline void float_products(const float* a, size_t stride, const float* packed, int inputs, float* out) {
  __m256 sums[R][V];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = _mm256_setzero_ps();
  }
  for (int input = 0; input < inputs; ++input) {
    __m256 weights[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) weights[v] = _mm256_load_ps(packed + (input * Step + v) * kVector);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 activation = _mm256_broadcast_ss(a + r * stride + input);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = _mm256_fmadd_ps(activation, weights[v], sums[r][v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm256_store_ps(out + r * kPanel + v * kVector, sums[r][v]);
  }
}

template <int R, int V>
__attribute__((noinline)) void float_product(const float* a, size_t stride, const float* packed, int inputs,
                                             float* out) {
  int v = 0;
  for (; v + kVectorsAtOnce <= V; v += kVectorsAtOnce) {
    float_products<R, kVectorsAtOnce, V>(a, stride, packed + v * kVector, inputs, out + v * kVector);
  }
  if (v < V) float_products<R, 1, V>(a, stride, packed + v * kVector, inputs, out + v * kVector);
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kAvx2;
const Kernels kAvx2 = kernels_named("avx2");
}  // namespace vitlet
