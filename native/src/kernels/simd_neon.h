// Four floats at a time: Arm's Advanced SIMD on AArch64.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace {

constexpr int kLanes = 4;
using Floats = float32x4_t;

inline Floats load(const float* from) { return vld1q_f32(from); }
inline void store(float* to, Floats x) { vst1q_f32(to, x); }
inline Floats every(float x) { return vdupq_n_f32(x); }
inline Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
inline Floats sub(Floats a, Floats b) { return vsubq_f32(a, b); }
inline Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
inline Floats least(Floats a, Floats b) { return vminq_f32(a, b); }
inline Floats most(Floats a, Floats b) { return vmaxq_f32(a, b); }
inline Floats divide(Floats a, Floats b) { return vdivq_f32(a, b); }
inline float sum(Floats x) { return vaddvq_f32(x); }
inline float least_of(Floats x) { return vminvq_f32(x); }
inline float most_of(Floats x) { return vmaxvq_f32(x); }

inline Floats from_int32(const int32_t* from) { return vcvtq_f32_s32(vld1q_s32(from)); }
// The low byte of each whole number, so that -127..127 become the bytes of an int8, too.
inline void store_uint8(uint8_t* to, Floats x) {
  const int16x4_t halves = vmovn_s32(vcvtnq_s32_f32(x));
  const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
  __builtin_memcpy(to, &four, sizeof(four));
}
inline Floats whole_power_of_two(Floats n) {
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}
inline Floats round_to_whole(Floats x) { return vrndnq_f32(x); }
inline Floats choose_positive(Floats z, Floats a, Floats b) { return vbslq_f32(vcgtzq_f32(z), a, b); }
inline float square_root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }

}  // namespace
