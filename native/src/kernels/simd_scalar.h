// One float at a time, in plain C++: every processor has it, and it is what the others are compared with.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 1;
using Floats = float;

inline Floats load(const float* from) { return *from; }
inline void store(float* to, Floats x) { *to = x; }
inline Floats every(float x) { return x; }
inline Floats add(Floats a, Floats b) { return a + b; }
inline Floats sub(Floats a, Floats b) { return a - b; }
inline Floats mul(Floats a, Floats b) { return a * b; }
inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
inline Floats least(Floats a, Floats b) { return a < b ? a : b; }
inline Floats most(Floats a, Floats b) { return a > b ? a : b; }
inline Floats divide(Floats a, Floats b) { return a / b; }
inline float sum(Floats x) { return x; }
inline float least_of(Floats x) { return x; }
inline float most_of(Floats x) { return x; }
inline Floats from_int32(const int32_t* from) { return static_cast<float>(*from); }
// Adding 1.5 * 2^23 leaves no bits for a fraction: round to nearest, halves to even, for |x| < 2^22.
inline Floats round_to_whole(Floats x) {
  const volatile float moved = x + 12582912.0f;
  return moved - 12582912.0f;
}
// The low byte of the whole number next to x, so that -127..127 become the bytes of an int8, too. What is no number
// becomes 0.
inline void store_uint8(uint8_t* to, Floats x) {
  const bool sane = x > -1024.0f && x < 1024.0f;
  *to = static_cast<uint8_t>(sane ? static_cast<int32_t>(round_to_whole(x)) : 0);
}
inline Floats whole_power_of_two(Floats n) {
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float found;
  std::memcpy(&found, &bits, sizeof(found));
  return found;
}
inline Floats choose_positive(Floats z, Floats a, Floats b) { return z > 0.0f ? a : b; }
inline float square_root(float x) { return std::sqrt(x); }

}  // namespace
