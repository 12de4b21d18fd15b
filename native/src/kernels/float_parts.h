// What of a ViT is computed in float32, in the words of one instruction set (a `simd_*.h` included before this).
//
// Everything stands in an unnamed namespace: each instruction set compiles its own copy with its own flags, and the
// linker must not mix them. For the same reason no function of the C++ library is called here.
#pragma once

#include <cstring>

#include "kernels.h"

namespace {

using vitlet::Activation;

// ---- Elementary functions ---------------------------------------------------------------------------------------

// 2^x for x <= 0, within 7.5e-5 of its value: what a probability of 8 bits needs. A minimax fit on -1/2..1/2.
template <int N>
inline void power_of_two_of_int8(Floats (&x)[N]) {
  Floats whole[N], p[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) x[n] = most(x[n], every(-126.0f));
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) whole[n] = round_to_whole(x[n]);
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) x[n] = sub(x[n], whole[n]);
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) p[n] = fma(every(5.51713231e-2f), x[n], every(2.42611331e-1f));
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) p[n] = fma(p[n], x[n], every(6.93261089e-1f));
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) p[n] = fma(p[n], x[n], every(9.99928047e-1f));
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) x[n] = times_power_of_two(p[n], whole[n]);
}

// 2^x for x <= 0; 0 below 2^-126. x = n + f with f in [-1/2, 1/2], and the Taylor polynomial of 2^f of degree 6,
// whose relative error is below 2e-7.
inline Floats power_of_two(Floats x) {
  x = most(x, every(-126.0f));
  const Floats n = round_to_whole(x);
  const Floats f = sub(x, n);
  Floats p = every(1.5403530393e-4f);
  p = fma(p, f, every(1.3333558146e-3f));
  p = fma(p, f, every(9.6181291076e-3f));
  p = fma(p, f, every(5.5504108665e-2f));
  p = fma(p, f, every(2.4022650696e-1f));
  p = fma(p, f, every(6.9314718056e-1f));
  p = fma(p, f, every(1.0f));
  return times_power_of_two(p, n);
}

// x * (1/2 + c P(c^2)), where c is x limited to -4..4: the standard normal's distribution function (or tanh's version
// of it) by a polynomial that is 0 and 1 from 4 on, within 5e-7. Of N vectors side by side: each step of one waits for
// the step before it, and a processor looks ahead only so far.
template <int N>
inline void gate(Floats (&x)[N], const float (&polynomial)[7]) {
  Floats c[N], square[N], p[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) c[n] = most(least(x[n], every(4.0f)), every(-4.0f));
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) square[n] = mul(c[n], c[n]);
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) p[n] = every(polynomial[6]);
#pragma GCC unroll 6
  for (int i = 5; i >= 0; --i) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) p[n] = fma(p[n], square[n], every(polynomial[i]));
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) x[n] = mul(x[n], fma(c[n], p[n], every(0.5f)));
}

#include "gate_polynomials.inc"

// x / (1 + 2^-z), by 2^-|z| so that nothing overflows.
inline Floats logistic_gate(Floats x, Floats z) {
  const Floats small = power_of_two(least(z, sub(every(0.0f), z)));   // 2^-|z|
  const Floats share = divide(every(1.0f), add(every(1.0f), small));  // of the larger side
  return mul(x, choose_positive(z, share, mul(small, share)));
}

constexpr float kLog2E = 1.44269504089f;

inline Floats quick_gelu(Floats x) { return logistic_gate(x, mul(x, every(1.702f * kLog2E))); }

// (1 + tanh(u)) / 2 = 1 / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
inline Floats gelu_tanh(Floats x) {
  const Floats cubic = fma(mul(x, x), every(0.044715f), every(1.0f));
  return logistic_gate(x, mul(mul(x, cubic), every(2.0f * 0.797884560803f * kLog2E)));
}

// By erfc(z) = t (a1 + a2 t + ... + a5 t^4) e^(-z^2) + 1.5e-7, t = 1 / (1 + 0.3275911 z): Abramowitz and
// Stegun, 7.1.26.
inline Floats gelu(Floats x) {
  const Floats magnitude = most(x, sub(every(0.0f), x));
  const Floats t = divide(every(1.0f), fma(magnitude, every(0.3275911f * 0.707106781187f), every(1.0f)));
  Floats p = every(1.061405429f);
  p = fma(p, t, every(-1.453152027f));
  p = fma(p, t, every(1.421413741f));
  p = fma(p, t, every(-0.284496736f));
  p = fma(p, t, every(0.254829592f));
  const Floats tail = mul(mul(mul(p, t), every(0.5f)), power_of_two(mul(mul(x, x), every(-0.5f * kLog2E))));
  return mul(x, choose_positive(x, sub(every(1.0f), tail), tail));
}

// Beside int8 products an error of 2e-4 is nothing, and polynomials need no division.
enum class Accuracy { kFull, kOfInt8 };

template <Activation kind, Accuracy accuracy, int N>
inline void activate(Floats (&x)[N]) {
  constexpr bool fast = accuracy == Accuracy::kOfInt8;
  if constexpr (kind == Activation::kGelu && fast) {
    gate(x, kNormal);
  } else if constexpr (kind == Activation::kGeluTanh && fast) {
    gate(x, kNormalByTanh);
  } else if constexpr (kind != Activation::kNone) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      if constexpr (kind == Activation::kGelu) x[n] = gelu(x[n]);
      if constexpr (kind == Activation::kGeluTanh) x[n] = gelu_tanh(x[n]);
      if constexpr (kind == Activation::kQuickGelu) x[n] = quick_gelu(x[n]);
    }
  }
}

// ---- Rows -------------------------------------------------------------------------------------------------------

// Whole vectors, then what is left of a row with `fill` behind it.
inline Floats load_first(const float* from, int count, float fill) {
  alignas(64) float part[kLanes];
  for (int i = 0; i < kLanes; ++i) part[i] = i < count ? from[i] : fill;
  return load(part);
}

template <class Use>
inline void each(const float* x, int count, float fill, Use use) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) use(load(x + i), i, kLanes);
  if (i < count) use(load_first(x + i, count - i, fill), i, count - i);
}

inline void store_bytes(uint8_t* to, Floats x, int count) {
  if (count == kLanes) {
    store_uint8(to, x);
    return;
  }
  uint8_t part[64];
  store_uint8(part, x);
  std::memcpy(to, part, static_cast<size_t>(count));
}

// The range of a row and the scale of 255 steps over it; a row of one value gets scale 1 and bytes 0.
struct Range {
  float scale;
  float low;
  float per_step;
};

inline Range range_of(float low, float high) {
  const float scale = (high - low) / 255.0f;
  const bool usable = scale > 1e-30f && scale < 1e30f;
  return usable ? Range{scale, low, 1.0f / scale} : Range{1.0f, low, 0.0f};
}

// x * factor + offset, limited to 0..255.
template <int N = kAtOnce>
inline void to_bytes(const float* x, int count, float factor, float offset, uint8_t* bytes) {
  const Floats a = every(factor);
  const Floats b = every(offset);
  int done = 0;
  if constexpr (N == 4) {
    for (; done + N * kLanes <= count; done += N * kLanes) {
      Floats y[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) y[n] = fma(load(x + done + n * kLanes), a, b);
      store_limited(bytes + done, y);
    }
  }
  each(x + done, count - done, 0.0f, [&](Floats v, int at, int n) {
    store_bytes(bytes + done + at, least(most(fma(v, a, b), every(0.0f)), every(255.0f)), n);
  });
}

inline void quantize(const float* x, int count, float least_low, float least_high, uint8_t* bytes, float* scale,
                     float* low) {
  Floats lowest = every(least_low);
  Floats highest = every(least_high);
  each(x, count, x[0], [&](Floats v, int, int) {
    lowest = least(lowest, v);
    highest = most(highest, v);
  });
  const Range range = range_of(least_of(lowest), most_of(highest));
  to_bytes(x, count, range.per_step, -range.low * range.per_step, bytes);
  *scale = range.scale;
  *low = range.low;
}

struct Moments {
  float mean;
  float per_deviation;
};

inline Moments moments(const float* x, int count, float total, float eps) {
  const float mean = total / static_cast<float>(count);
  const Floats centre = every(mean);
  Floats squares = every(0.0f);
  Floats others = every(0.0f);  // every second vector's: one sum would wait for itself
  int i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const Floats d = sub(load(x + i), centre);
    const Floats e = sub(load(x + i + kLanes), centre);
    squares = fma(d, d, squares);
    others = fma(e, e, others);
  }
  each(x + i, count - i, mean, [&](Floats v, int, int) {
    const Floats d = sub(v, centre);
    squares = fma(d, d, squares);
  });
  return {mean, 1.0f / square_root(sum(add(squares, others)) / static_cast<float>(count) + eps)};
}

inline void normalize_quantize(const float* x, int count, float eps, uint8_t* bytes, float* scale, float* low) {
  Floats total = every(0.0f);
  Floats lowest = every(x[0]);
  Floats highest = lowest;
  const int whole = count / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) {
    const Floats v = load(x + i);
    total = add(total, v);
    lowest = least(lowest, v);
    highest = most(highest, v);
  }
  if (whole < count) {
    total = add(total, load_first(x + whole, count - whole, 0.0f));
    const Floats v = load_first(x + whole, count - whole, x[0]);
    lowest = least(lowest, v);
    highest = most(highest, v);
  }
  const Moments m = moments(x, count, sum(total), eps);
  // (v - mean) / deviation grows with v: its range is that of the row, moved.
  const Range range =
      range_of((least_of(lowest) - m.mean) * m.per_deviation, (most_of(highest) - m.mean) * m.per_deviation);
  const float factor = m.per_deviation * range.per_step;
  to_bytes(x, count, factor, -m.mean * factor - range.low * range.per_step, bytes);
  *scale = range.scale;
  *low = range.low;
}

inline void normalize(const float* x, int count, float eps, float* out) {
  Floats total = every(0.0f);
  each(x, count, 0.0f, [&](Floats v, int, int) { total = add(total, v); });
  const Moments m = moments(x, count, sum(total), eps);
  const Floats factor = every(m.per_deviation);
  const Floats offset = every(-m.mean * m.per_deviation);
  each(x, count, 0.0f, [&](Floats v, int at, int n) {
    const Floats y = fma(v, factor, offset);
    if (n == kLanes) {
      store(out + at, y);
    } else {
      alignas(64) float part[kLanes];
      store(part, y);
      std::memcpy(out + at, part, static_cast<size_t>(n) * sizeof(float));
    }
  });
}

// The scale of -127..127 over a row's largest magnitude; a row of zeros gets scale 1 and bytes of zero.
struct SignedRange {
  float scale;
  float per_step;
};

inline SignedRange signed_range_of(const float* x, int count) {
  Floats highest = every(0.0f);
  each(x, count, 0.0f, [&](Floats v, int, int) { highest = most(highest, most(v, sub(every(0.0f), v))); });
  const float found = most_of(highest);
  const bool usable = found > 1e-30f && found < 1e30f;
  return usable ? SignedRange{found / 127.0f, 127.0f / found} : SignedRange{1.0f, 0.0f};
}

// To -127..127 around zero, as bytes: the real value is scale * (byte - 128).
inline void quantize_around_128(const float* x, int count, uint8_t* bytes, float* scale) {
  const SignedRange range = signed_range_of(x, count);
  const Floats factor = every(range.per_step);
  each(x, count, 0.0f, [&](Floats v, int at, int n) { store_bytes(bytes + at, fma(v, factor, every(128.0f)), n); });
  *scale = range.scale;
}

// To -127..127 around zero; `sum_of_bytes` is the sum of the int8 values.
inline void quantize_signed(const float* x, int count, int8_t* bytes, float* scale, int32_t* sum_of_bytes) {
  const SignedRange range = signed_range_of(x, count);
  const Floats factor = every(range.per_step);
  Floats total = every(0.0f);
  each(x, count, 0.0f, [&](Floats v, int at, int n) {
    const Floats rounded = round_to_whole(mul(v, factor));
    total = add(total, rounded);
    store_bytes(reinterpret_cast<uint8_t*>(bytes) + at, rounded, n);
  });
  *scale = range.scale;
  // What is no number leaves no sum.
  const float all = sum(total);
  *sum_of_bytes = all > -1e9f && all < 1e9f ? static_cast<int32_t>(all) : 0;
}

}  // namespace
