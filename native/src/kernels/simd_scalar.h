// Sixteen floats at a time in plain C++: every processor has it, and it is what the others are compared with.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 16;
// Vectors whose steps are interleaved.
constexpr int kAtOnce = 1;

struct Floats {
  float at[kLanes];
};

template <class Make>
inline Floats by_lane(Make make) {
  Floats found;
  for (int i = 0; i < kLanes; ++i) found.at[i] = make(i);
  return found;
}

// Halves onto each other, as the vector instructions do.
template <class Join>
inline float joined(Floats x, Join join) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x.at[i] = join(x.at[i], x.at[i + width]);
  }
  return x.at[0];
}

inline float smaller(float a, float b) { return a < b ? a : b; }
inline float larger(float a, float b) { return a > b ? a : b; }

inline Floats load(const float* from) {
  return by_lane([&](int i) { return from[i]; });
}
inline void store(float* to, Floats x) { std::memcpy(to, x.at, sizeof(x.at)); }
inline Floats every(float x) {
  return by_lane([&](int) { return x; });
}
inline Floats add(Floats a, Floats b) {
  return by_lane([&](int i) { return a.at[i] + b.at[i]; });
}
inline Floats sub(Floats a, Floats b) {
  return by_lane([&](int i) { return a.at[i] - b.at[i]; });
}
inline Floats mul(Floats a, Floats b) {
  return by_lane([&](int i) { return a.at[i] * b.at[i]; });
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return by_lane([&](int i) { return __builtin_fmaf(a.at[i], b.at[i], c.at[i]); });
}
inline Floats least(Floats a, Floats b) {
  return by_lane([&](int i) { return smaller(a.at[i], b.at[i]); });
}
inline Floats most(Floats a, Floats b) {
  return by_lane([&](int i) { return larger(a.at[i], b.at[i]); });
}
inline Floats divide(Floats a, Floats b) {
  return by_lane([&](int i) { return a.at[i] / b.at[i]; });
}
inline float sum(Floats x) {
  return joined(x, [](float a, float b) { return a + b; });
}
inline float least_of(Floats x) { return joined(x, smaller); }
inline float most_of(Floats x) { return joined(x, larger); }
inline Floats from_int32(const int32_t* from) {
  return by_lane([&](int i) { return static_cast<float>(from[i]); });
}
// Adding 1.5 * 2^23 leaves no bits for a fraction: round to nearest, halves to even, for |x| < 2^22.
inline Floats round_to_whole(Floats x) {
  return by_lane([&](int i) {
    const volatile float moved = x.at[i] + 12582912.0f;
    return moved - 12582912.0f;
  });
}
// The low byte of the whole number next to x, so that -127..127 become the bytes of an int8, too. What is no number
// becomes 0.
inline void store_uint8(uint8_t* to, Floats x) {
  const Floats whole = round_to_whole(x);
  for (int i = 0; i < kLanes; ++i) {
    const bool sane = x.at[i] > -1024.0f && x.at[i] < 1024.0f;
    to[i] = static_cast<uint8_t>(sane ? static_cast<int32_t>(whole.at[i]) : 0);
  }
}
// x * 2^n for floats n that hold whole numbers of -126..0.
inline Floats times_power_of_two(Floats x, Floats n) {
  return by_lane([&](int i) {
    // More than that comes of what is no number, or infinite, and may become anything.
    const int32_t whole = n.at[i] < 128.0f ? static_cast<int32_t>(n.at[i]) : 128;
    const uint32_t bits = static_cast<uint32_t>(whole + 127) << 23;
    float factor;
    std::memcpy(&factor, &bits, sizeof(factor));
    return x.at[i] * factor;
  });
}
// Lane by lane: a where z > 0, else b.
inline Floats choose_positive(Floats z, Floats a, Floats b) {
  return by_lane([&](int i) { return z.at[i] > 0.0f ? a.at[i] : b.at[i]; });
}
inline float square_root(float x) { return __builtin_sqrtf(x); }

}  // namespace
