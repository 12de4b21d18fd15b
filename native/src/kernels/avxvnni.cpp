// AVX-VNNI: `vpdpbusd` on 256 bits, for processors without AVX-512 (Intel's client processors since 2021, AMD's from
// Zen 5).
//
// AVX-512 VL has the same instruction in another encoding. VITLET_EVEX chooses that one: it makes these kernels run,
// and be tested, where the first encoding is not to be had.
#include "avx2_float_product.h"

namespace {

constexpr int kGroup = 4;
constexpr bool kSignedActivations = false;
constexpr bool kFinishesInRegisters = false;

inline __m256i dot(__m256i sums, __m256i bytes, __m256i weights) {
#if defined(VITLET_EVEX)
  return _mm256_dpbusd_epi32(sums, bytes, weights);
#else
  return _mm256_dpbusd_avx_epi32(sums, bytes, weights);
#endif
}

// 16 columns; `step` bytes lie between groups.
template <int R>
__attribute__((noinline)) void add_products(const uint8_t* a, size_t stride, const int8_t* packed, size_t step,
                                            int groups, const int32_t* start, int32_t* out) {
  __m256i sums[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    sums[r][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
    sums[r][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + kWidth));
  }
  for (int group = 0; group < groups; ++group) {
    const auto* const from = reinterpret_cast<const __m256i*>(packed + group * step);
    const __m256i left = _mm256_load_si256(from);
    const __m256i right = _mm256_load_si256(from + 1);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + r * stride + group * kGroup, sizeof(four));
      const __m256i activations = _mm256_set1_epi32(four);
      sums[r][0] = dot(sums[r][0], activations, left);
      sums[r][1] = dot(sums[r][1], activations, right);
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
  constexpr size_t kStep = V * kVector * kGroup;
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    add_products<R>(a, stride, packed + v * kVector * kGroup, kStep, groups, start + v * kVector, out + v * kVector);
  }
}

}  // namespace

#include "products.h"

namespace vitlet {
#if defined(VITLET_EVEX)
extern const Kernels kAvxVnniEvex;
const Kernels kAvxVnniEvex = kernels_named("avxvnni-evex");
#else
extern const Kernels kAvxVnni;
const Kernels kAvxVnni = kernels_named("avxvnni");
#endif
}  // namespace vitlet
