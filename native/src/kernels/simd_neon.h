// Sixteen floats at a time, in four registers: Arm's Advanced SIMD on AArch64.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace {

constexpr int kLanes = 16;
// Vectors whose steps are interleaved: one has four registers already.
constexpr int kAtOnce = 1;
struct Floats {
  float32x4_t at[4];
};

// Register by register.
template <class Make>
inline Floats by_register(Make make) {
  return {{make(0), make(1), make(2), make(3)}};
}

inline Floats load(const float* from) {
  return by_register([&](int i) { return vld1q_f32(from + 4 * i); });
}
inline void store(float* to, Floats x) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, x.at[i]);
}
inline Floats every(float x) {
  return by_register([&](int) { return vdupq_n_f32(x); });
}
inline Floats add(Floats a, Floats b) {
  return by_register([&](int i) { return vaddq_f32(a.at[i], b.at[i]); });
}
inline Floats sub(Floats a, Floats b) {
  return by_register([&](int i) { return vsubq_f32(a.at[i], b.at[i]); });
}
inline Floats mul(Floats a, Floats b) {
  return by_register([&](int i) { return vmulq_f32(a.at[i], b.at[i]); });
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return by_register([&](int i) { return vfmaq_f32(c.at[i], a.at[i], b.at[i]); });
}
inline Floats least(Floats a, Floats b) {
  return by_register([&](int i) { return vminq_f32(a.at[i], b.at[i]); });
}
inline Floats most(Floats a, Floats b) {
  return by_register([&](int i) { return vmaxq_f32(a.at[i], b.at[i]); });
}
inline Floats divide(Floats a, Floats b) {
  return by_register([&](int i) { return vdivq_f32(a.at[i], b.at[i]); });
}

// Halves onto each other, in an order that is the same for all instruction sets.
inline float sum(Floats x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.at[0], x.at[2]), vaddq_f32(x.at[1], x.at[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float least_of(Floats x) {
  return vminvq_f32(vminq_f32(vminq_f32(x.at[0], x.at[1]), vminq_f32(x.at[2], x.at[3])));
}
inline float most_of(Floats x) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.at[0], x.at[1]), vmaxq_f32(x.at[2], x.at[3])));
}

inline Floats from_int32(const int32_t* from) {
  return by_register([&](int i) { return vcvtq_f32_s32(vld1q_s32(from + 4 * i)); });
}
// The low byte of each whole number, so that -127..127 become the bytes of an int8, too.
inline void store_uint8(uint8_t* to, Floats x) {
  const int16x8_t low = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.at[0])), vmovn_s32(vcvtnq_s32_f32(x.at[1])));
  const int16x8_t high = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(x.at[2])), vmovn_s32(vcvtnq_s32_f32(x.at[3])));
  vst1q_u8(to, vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high))));
}
// x * 2^n for floats n that hold whole numbers of -126..0.
inline Floats times_power_of_two(Floats x, Floats n) {
  return by_register([&](int i) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n.at[i]), vdupq_n_s32(127));
    return vmulq_f32(x.at[i], vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
  });
}
inline Floats round_to_whole(Floats x) {
  return by_register([&](int i) { return vrndnq_f32(x.at[i]); });
}
// Lane by lane: a where z > 0, else b.
inline Floats choose_positive(Floats z, Floats a, Floats b) {
  return by_register([&](int i) { return vbslq_f32(vcgtzq_f32(z.at[i]), a.at[i], b.at[i]); });
}
inline float square_root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }

}  // namespace
