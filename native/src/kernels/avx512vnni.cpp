// AVX-512 with VNNI: `vpdpbusd` adds four products of a byte and an int8 to each of sixteen int32.
#include "kernels.h"
#include "simd_avx512.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

constexpr int kGroup = 4;
constexpr bool kSignedActivations = false;
// 6 rows by 4 vectors are 24 accumulators; with 4 vectors of weights and a row's bytes they fill the 32 registers.
constexpr int kTileRows = 6;
constexpr bool kFinishesInRegisters = true;

// All loops over rows and vectors are unrolled, and sums are added to in place, which takes assembler: else GCC keeps
// them in memory, at half the speed.
template <int R, int V>
__attribute__((always_inline)) inline void add_products(const uint8_t* a, size_t stride, const int8_t* packed,
                                                        int groups, const int32_t* start, __m512i (&sums)[R][V]) {
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const __m512i first = _mm512_loadu_si512(start + v * kVector);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) sums[r][v] = first;
  }
  // Panels lie one behind the other: the next one is on its way to the second-level cache while this one is used.
  const int8_t* const next = packed + static_cast<size_t>(groups) * V * 64;
  for (int group = 0; group < groups; ++group) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm_prefetch(next + (group * V + v) * 64, _MM_HINT_T1);
    __m512i weights[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) weights[v] = _mm512_load_si512(packed + (group * V + v) * 64);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + r * stride + group * kGroup, 4);
      const __m512i activations = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(sums[r][v]) : "v"(activations), "v"(weights[v]));
    }
  }
}

template <int R, int V>
__attribute__((noinline)) void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups,
                                       const int32_t* start, int32_t* out) {
  __m512i sums[R][V];
  add_products<R, V>(a, stride, packed, groups, start, sums);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_store_si512(out + r * kPanel + v * kVector, sums[r][v]);
  }
}

template <int R, int V, class Use>
__attribute__((noinline)) void product_then(const uint8_t* a, size_t stride, const int8_t* packed, int groups,
                                            const int32_t* start, const Use& use) {
  __m512i sums[R][V];
  add_products<R, V>(a, stride, packed, groups, start, sums);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    Floats row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = _mm512_cvtepi32_ps(sums[r][v]);
    use(r, row);
  }
}

template <int R, int V>
__attribute__((noinline)) void float_product(const float* a, size_t stride, const float* packed, int inputs,
                                             float* out) {
  __m512 sums[R][V];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  for (int input = 0; input < inputs; ++input) {
    __m512 weights[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) weights[v] = _mm512_load_ps(packed + (input * V + v) * 16);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m512 activation = _mm512_set1_ps(a[r * stride + input]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = _mm512_fmadd_ps(activation, weights[v], sums[r][v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_store_ps(out + r * kPanel + v * 16, sums[r][v]);
  }
}

}  // namespace

#include "products.h"

namespace vitlet {
extern const Kernels kAvx512Vnni;
const Kernels kAvx512Vnni = kernels_named("avx512vnni");
}  // namespace vitlet
