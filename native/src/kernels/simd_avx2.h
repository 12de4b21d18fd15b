// Sixteen floats at a time, in two registers: AVX2 and FMA.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kLanes = 16;
// Vectors whose steps are interleaved: a second one would not fit into the registers.
constexpr int kAtOnce = 1;
struct Floats {
  __m256 low;
  __m256 high;
};

inline Floats load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store(float* to, Floats x) {
  _mm256_storeu_ps(to, x.low);
  _mm256_storeu_ps(to + 8, x.high);
}
inline Floats every(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Floats sub(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Floats mul(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Floats least(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline Floats most(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Floats divide(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }

inline float sum(Floats x) {
  const __m256 eight = _mm256_add_ps(x.low, x.high);
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float least_of(Floats x) {
  const __m256 eight = _mm256_min_ps(x.low, x.high);
  __m128 half = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_min_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_min_ss(half, _mm_movehdup_ps(half)));
}
inline float most_of(Floats x) {
  const __m256 eight = _mm256_max_ps(x.low, x.high);
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

inline Floats from_int32(const int32_t* from) {
  const auto* const two = reinterpret_cast<const __m256i*>(from);
  return {_mm256_cvtepi32_ps(_mm256_loadu_si256(two)), _mm256_cvtepi32_ps(_mm256_loadu_si256(two + 1))};
}
// The low byte of each whole number, so that -127..127 become the bytes of an int8, too.
inline void store_uint8(uint8_t* to, Floats x) {
  const __m256i lowest = _mm256_set1_epi32(255);
  const __m256i low = _mm256_and_si256(_mm256_cvtps_epi32(x.low), lowest);
  const __m256i high = _mm256_and_si256(_mm256_cvtps_epi32(x.high), lowest);
  // Packing works within 128 bits: the 64-bit pieces come out as 0, 2, 1, 3.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}
inline __m256 times_power_of_two(__m256 x, __m256 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
// x * 2^n for floats n that hold whole numbers of -126..0.
inline Floats times_power_of_two(Floats x, Floats n) {
  return {times_power_of_two(x.low, n.low), times_power_of_two(x.high, n.high)};
}
inline Floats round_to_whole(Floats x) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.low, kNearest), _mm256_round_ps(x.high, kNearest)};
}
// Lane by lane: a where z > 0, else b.
inline Floats choose_positive(Floats z, Floats a, Floats b) {
  const __m256 zero = _mm256_setzero_ps();
  return {_mm256_blendv_ps(b.low, a.low, _mm256_cmp_ps(z.low, zero, _CMP_GT_OQ)),
          _mm256_blendv_ps(b.high, a.high, _mm256_cmp_ps(z.high, zero, _CMP_GT_OQ))};
}
inline float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

}  // namespace
