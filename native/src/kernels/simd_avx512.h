// Sixteen floats at a time: AVX-512 F, BW and DQ. One of the files that give `float_parts.h` its words.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kLanes = 16;
// Vectors whose steps are interleaved, where one would wait for itself.
constexpr int kAtOnce = 4;
using Floats = __m512;

inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }
inline Floats every(float x) { return _mm512_set1_ps(x); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats least(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats most(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
// Halves onto each other, in an order that is the same for all instruction sets.
inline float sum(Floats x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float least_of(Floats x) { return _mm512_reduce_min_ps(x); }
inline float most_of(Floats x) { return _mm512_reduce_max_ps(x); }

inline Floats from_int32(const int32_t* from) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(from)); }
// The low byte of each whole number (halves to even), so that -127..127 become the bytes of an int8, too.
inline void store_uint8(uint8_t* to, Floats x) {
  __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
  asm("" : "+v"(bytes));  // else GCC narrows on the way to memory, which Zen 4 does slowly
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
}
// The whole numbers next to 64 floats, limited to 0..255.
inline void store_limited(uint8_t* to, const Floats (&x)[4]) {
  const __m512i low = _mm512_packs_epi32(_mm512_cvtps_epi32(x[0]), _mm512_cvtps_epi32(x[1]));
  const __m512i high = _mm512_packs_epi32(_mm512_cvtps_epi32(x[2]), _mm512_cvtps_epi32(x[3]));
  // Packing works within 128 bits, each of which has four bytes of each vector now.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
}
// x * 2^n for floats n that hold whole numbers of -126..0.
inline Floats times_power_of_two(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
inline Floats round_to_whole(Floats x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// Lane by lane: a where z > 0, else b.
inline Floats choose_positive(Floats z, Floats a, Floats b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
inline float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

}  // namespace
