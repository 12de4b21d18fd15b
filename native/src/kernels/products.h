// Linears and attention from the products of an instruction set.
//
// Before this, an instruction set has defined, for R rows and V vectors of 16 columns, with all accumulators in
// registers:
//   template <int R, int V> void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups,
//                                        const int32_t* start, int32_t* out);
//   template <int R, int V> void float_product(const float* a, size_t stride, const float* packed, int inputs, float*
//   out);
// which write out[row * kPanel + column].
//
// One with registers to spare (kFinishesInRegisters) also has a product that calls use(row, sums) for each row, the
// sums as V vectors of floats, instead of sending them through memory:
//   template <int R, int V, class Use> void product_then(const uint8_t* a, size_t stride, const int8_t* packed,
//                                                        int groups, const int32_t* start, const Use& use);
#pragma once

#include "float_parts.h"
#include "packing.h"
#include "remember.h"
#include "ticks.h"

namespace {

using vitlet::ByteRows;
using vitlet::FloatHead;
using vitlet::Head;
using vitlet::Linear;
using vitlet::Queries;
using vitlet::Write;

constexpr int kVectors = kPanel / kVector;

// ---- Choosing the product of R rows and V vectors at run time ---------------------------------------------------

template <int R, int V = 1>
inline void product_of_vectors(int vectors, const uint8_t* a, size_t stride, const int8_t* packed, int groups,
                               const int32_t* start, int32_t* out) {
  if constexpr (V < kVectors) {
    if (vectors > V) return product_of_vectors<R, V + 1>(vectors, a, stride, packed, groups, start, out);
  }
  product<R, V>(a, stride, packed, groups, start, out);
}

template <int R = 1>
inline void product_of(int rows, int vectors, const uint8_t* a, size_t stride, const int8_t* packed, int groups,
                       const int32_t* start, int32_t* out) {
  if constexpr (R < kTileRows) {
    if (rows > R) return product_of<R + 1>(rows, vectors, a, stride, packed, groups, start, out);
  }
  product_of_vectors<R>(vectors, a, stride, packed, groups, start, out);
}

template <int R, int V, class Use>
void product_then(const uint8_t* a, size_t stride, const int8_t* packed, int groups, const int32_t* start,
                  const Use& use);

// Of a panel that is full.
template <class Use, int R = 1>
inline void product_then_of(int rows, const uint8_t* a, size_t stride, const int8_t* packed, int groups,
                            const int32_t* start, const Use& use) {
  if constexpr (R < kTileRows) {
    if (rows > R) return product_then_of<Use, R + 1>(rows, a, stride, packed, groups, start, use);
  }
  product_then<R, kVectors>(a, stride, packed, groups, start, use);
}

template <int R, int V = 1>
inline void float_product_of_vectors(int vectors, const float* a, size_t stride, const float* packed, int inputs,
                                     float* out) {
  if constexpr (V < kVectors) {
    if (vectors > V) return float_product_of_vectors<R, V + 1>(vectors, a, stride, packed, inputs, out);
  }
  float_product<R, V>(a, stride, packed, inputs, out);
}

template <int R = 1>
inline void float_product_of(int rows, int vectors, const float* a, size_t stride, const float* packed, int inputs,
                             float* out) {
  if constexpr (R < kTileRows) {
    if (rows > R) return float_product_of<R + 1>(rows, vectors, a, stride, packed, inputs, out);
  }
  float_product_of_vectors<R>(vectors, a, stride, packed, inputs, out);
}

// ---- Linears ----------------------------------------------------------------------------------------------------

// Splits rows into tiles of at most kTileRows, as equal as can be: 33 rows are six tiles of 6, 6, 6, 5, 5, 5.
template <class Use>
inline void each_tile(int rows, Use use) {
  const int tiles = (rows + kTileRows - 1) / kTileRows;
  for (int tile = 0, row = 0; tile < tiles; ++tile) {
    const int count = rows / tiles + (tile < rows % tiles ? 1 : 0);
    use(row, count);
    row += count;
  }
}

inline void write_first(float* to, Floats y, int count, Write write) {
  alignas(64) float part[kLanes];
  store(part, y);
  for (int i = 0; i < count; ++i) to[i] = write == Write::kAdd ? to[i] + part[i] : part[i];
}

// N vectors of a row; of the last one only as many columns as there are.
template <Activation kind, Accuracy accuracy, Write write, int N>
inline void put(float* to, Floats (&y)[N], int columns_left) {
  activate<kind, accuracy>(y);
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    float* const at = to + n * kLanes;
    if (columns_left < (n + 1) * kLanes) {
      write_first(at, y[n], columns_left - n * kLanes, write);
    } else {
      store(at, write == Write::kAdd ? add(load(at), y[n]) : y[n]);
    }
  }
}

// From the sums of N vectors of one row to what the layer gives, for as many columns as are left.
template <Activation kind, Write write, int N>
inline void finish(const Linear& layer, Floats (&sums)[N], float scale, float low, int column, int columns_left,
                   float* to) {
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    const int at = column + n * kLanes;
    const Floats rest = fma(every(low), load(layer.sum + at), load(layer.bias + at));
    sums[n] = fma(mul(sums[n], every(scale)), load(layer.scale + at), rest);
  }
  put<kind, Accuracy::kOfInt8, write>(to, sums, columns_left);
}

template <Activation kind, Write write, int N>
inline void finish(const Linear& layer, const int32_t* sums, float scale, float low, int column, float* to) {
  Floats row[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) row[n] = from_int32(sums + n * kLanes);
  finish<kind, write>(layer, row, scale, low, column, layer.outputs - column, to);
}

// What `product_then` calls: values, where a lambda would hold references to them and load twice.
template <Activation kind, Write write>
struct FinishRow {
  const Linear& layer;
  const float* scale;
  const float* low;
  int column;
  float* to;
  size_t stride;

  __attribute__((always_inline)) void operator()(int r, Floats (&sums)[kVectors]) const {
    finish<kind, write>(layer, sums, scale[r], low[r], column, kPanel, to + r * stride);
  }
};

template <Activation kind, Write write>
inline void linear_as(const Linear& layer, const ByteRows& a, int rows, float* out, size_t out_stride,
                      uint64_t* rest_ticks) {
  const int groups = groups_of(layer.inputs);
  alignas(64) int32_t tile[kTileRows * kPanel];
  for (int panel = 0; panel < panels_of(layer.outputs); ++panel) {
    const int columns = panel_columns(layer.outputs, panel);
    const int first = panel * kPanel;
    const int8_t* const packed = layer.bytes + panel_at(layer.inputs, panel);
    each_tile(rows, [&](int row, int count) {
      const uint8_t* const bytes = a.bytes + row * a.stride;
      const float* const scale = a.scale + row;
      const float* const low = a.low + row;
      float* const to = out + row * out_stride + first;
      // The rare quick GELU, a division and all, is not worth six more copies of the product.
      if constexpr (kFinishesInRegisters && kind != Activation::kQuickGelu) {
        // Nobody can tell the time of the product from that of the rest: who asks gets the other way.
        if (layer.outputs - first >= kPanel && rest_ticks == nullptr) {
          const FinishRow<kind, write> finish_row{layer, scale, low, first, to, out_stride};
          product_then_of(count, bytes, a.stride, packed, groups, layer.start + first, finish_row);
          return;
        }
      }
      product_of(count, columns / kVector, bytes, a.stride, packed, groups, layer.start + first, tile);
      const Stopwatch watch(rest_ticks);
      for (int r = 0; r < count; ++r) {
        const int32_t* const sums = tile + r * kPanel;
        int c = 0;
        for (; c + kAtOnce * kLanes <= columns; c += kAtOnce * kLanes) {
          finish<kind, write, kAtOnce>(layer, sums + c, scale[r], low[r], first + c, to + r * out_stride + c);
        }
        for (; c < columns; c += kLanes) {
          finish<kind, write, 1>(layer, sums + c, scale[r], low[r], first + c, to + r * out_stride + c);
        }
      }
    });
  }
}

template <Activation kind, Write write>
inline void float_linear_as(const Linear& layer, const float* a, size_t stride, int rows, float* out, size_t out_stride,
                            uint64_t* rest_ticks) {
  alignas(64) float tile[kTileRows * kPanel];
  for (int panel = 0; panel < panels_of(layer.outputs); ++panel) {
    const int columns = panel_columns(layer.outputs, panel);
    const int first = panel * kPanel;
    const float* const packed = layer.floats + static_cast<size_t>(first) * layer.inputs;
    each_tile(rows, [&](int row, int count) {
      float_product_of(count, columns / kVector, a + row * stride, stride, packed, layer.inputs, tile);
      const Stopwatch watch(rest_ticks);
      for (int r = 0; r < count; ++r) {
        float* const to = out + (row + r) * out_stride + first;
        for (int c = 0; c < columns; c += kLanes) {
          Floats y[1] = {add(load(tile + r * kPanel + c), load(layer.bias + first + c))};
          put<kind, Accuracy::kFull, write>(to + c, y, layer.outputs - first - c);
        }
      }
    });
  }
}

void linear(const Linear& layer, const ByteRows& a, int rows, Write write, Activation kind, float* out,
            size_t out_stride, uint64_t* rest_ticks) {
  switch (kind) {
    case Activation::kNone:
      return write == Write::kAdd
                 ? linear_as<Activation::kNone, Write::kAdd>(layer, a, rows, out, out_stride, rest_ticks)
                 : linear_as<Activation::kNone, Write::kStore>(layer, a, rows, out, out_stride, rest_ticks);
    case Activation::kGelu:
      return linear_as<Activation::kGelu, Write::kStore>(layer, a, rows, out, out_stride, rest_ticks);
    case Activation::kGeluTanh:
      return linear_as<Activation::kGeluTanh, Write::kStore>(layer, a, rows, out, out_stride, rest_ticks);
    case Activation::kQuickGelu:
      return linear_as<Activation::kQuickGelu, Write::kStore>(layer, a, rows, out, out_stride, rest_ticks);
  }
}

void float_linear(const Linear& layer, const float* a, size_t stride, int rows, Write write, Activation kind,
                  float* out, size_t out_stride, uint64_t* rest_ticks) {
  switch (kind) {
    case Activation::kNone:
      return write == Write::kAdd
                 ? float_linear_as<Activation::kNone, Write::kAdd>(layer, a, stride, rows, out, out_stride, rest_ticks)
                 : float_linear_as<Activation::kNone, Write::kStore>(layer, a, stride, rows, out, out_stride,
                                                                     rest_ticks);
    case Activation::kGelu:
      return float_linear_as<Activation::kGelu, Write::kStore>(layer, a, stride, rows, out, out_stride, rest_ticks);
    case Activation::kGeluTanh:
      return float_linear_as<Activation::kGeluTanh, Write::kStore>(layer, a, stride, rows, out, out_stride, rest_ticks);
    case Activation::kQuickGelu:
      return float_linear_as<Activation::kQuickGelu, Write::kStore>(layer, a, stride, rows, out, out_stride,
                                                                    rest_ticks);
  }
}

// ---- Attention --------------------------------------------------------------------------------------------------

// Scores of the tokens and probabilities as bytes lie in rows of so many: whole panels of scores, and whole groups of
// bytes, whose number always divides a panel.
inline size_t padded_tokens(int tokens) { return vitlet::round_up(static_cast<size_t>(tokens), kPanel); }

size_t attention_scratch(int tokens) {
  return kTileRows * (padded_tokens(tokens) * sizeof(float) + padded_tokens(tokens));
}

// The score of a token that is not there: whatever it is multiplied with, nothing is left of its probability.
constexpr float kNever = -3e38f;

// One row of scores times `scale`, less its highest, becomes powers of two, which are multiplied with the values'
// scales, so that int8 values of different scales can be added up.
struct Weights {
  Floats total;    // of the powers, lane by lane
  Floats largest;  // of the products
};

inline Weights weigh(float* scores, float scale, float highest, int tokens, const float* value_scale) {
  const Floats factor = every(scale);
  const Floats below = every(-highest * scale);
  Weights found{every(0.0f), every(0.0f)};
  const auto weigh_several = [&](int at, auto& p) {
    constexpr int kCount = sizeof(p) / sizeof(p[0]);
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) p[n] = fma(load(scores + at + n * kLanes), factor, below);
    power_of_two_of_int8(p);
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) {
      found.total = add(found.total, p[n]);
      const Floats weighted = mul(p[n], load(value_scale + at + n * kLanes));
      found.largest = most(found.largest, weighted);
      store(scores + at + n * kLanes, weighted);
    }
  };
  Floats several[kAtOnce], one[1];
  int at = 0;
  for (; at + kAtOnce * kLanes <= tokens; at += kAtOnce * kLanes) weigh_several(at, several);
  for (; at < tokens; at += kLanes) weigh_several(at, one);
  return found;
}

// Base-2 softmax of `count` rows of scores times `scale[row]`, as bytes: `values[row]` is what one of them is worth.
// Step by step for all rows: what is found of one row waits long, and the next row is no part of it.
inline void softmax_rows(float* scores, size_t stride, int count, const Floats* top, const float* scale, int tokens,
                         const float* value_scale, uint8_t* bytes, float* values) {
  float highest[kTileRows];
  for (int r = 0; r < count; ++r) highest[r] = most_of(top[r]);
  Weights weights[kTileRows];
  for (int r = 0; r < count; ++r) weights[r] = weigh(scores + r * stride, scale[r], highest[r], tokens, value_scale);
  float factor[kTileRows];
  for (int r = 0; r < count; ++r) {
    const float peak = most_of(weights[r].largest);
    const bool usable = peak > 1e-30f && peak < 1e30f;
    factor[r] = usable ? 255.0f / peak : 0.0f;
    values[r] = usable ? peak / (255.0f * sum(weights[r].total)) : 0.0f;
  }
  for (int r = 0; r < count; ++r) {
    const Floats steps = every(factor[r]);
    for (int j = 0; j < tokens; j += kLanes) {
      store_uint8(bytes + r * stride + j, mul(load(scores + r * stride + j), steps));
    }
  }
}

// What the accumulators of probabilities @ values start from, by channel: 128 times the sum of the values where the
// products take byte - 128, found by sending a row of ones through them.
inline void start_of_values(const Head& head, uint8_t* bytes, int32_t* start) {
  const int groups = groups_of(head.tokens);
  alignas(64) const int32_t zero[kPanel] = {};
  std::memset(bytes, kSignedActivations ? 129 : 0, static_cast<size_t>(groups) * kGroup);
  for (int panel = 0; panel < panels_of(head.width); ++panel) {
    const int columns = panel_columns(head.width, panel);
    alignas(64) int32_t tile[kTileRows * kPanel];
    product_of(1, columns / kVector, bytes, 0, head.values + panel_at(head.tokens, panel), groups, zero, tile);
    for (int c = 0; c < columns; ++c) start[panel * kPanel + c] = 128 * tile[c];
  }
}

void attention(const Head& head, const Queries& queries, int rows, float* out, size_t out_stride, uint8_t* scratch,
               uint64_t* rest_ticks) {
  const size_t stride = padded_tokens(head.tokens);
  float* const scores = reinterpret_cast<float*>(scratch);
  uint8_t* const bytes = scratch + kTileRows * stride * sizeof(float);
  alignas(64) int32_t tile[kTileRows * kPanel];
  alignas(64) int32_t value_start[kMostHeadWidth] = {};
  if (kSignedActivations) start_of_values(head, bytes, value_start);
  // What the last vector of scores, which may have lanes too many, is limited to.
  const int last = (head.tokens - 1) / kLanes * kLanes;
  alignas(64) float limit[kLanes];
  for (int i = 0; i < kLanes; ++i) limit[i] = last + i < head.tokens ? -kNever : kNever;
  each_tile(rows, [&](int row, int count) {
    Floats top[kTileRows];
    for (int r = 0; r < count; ++r) top[r] = every(kNever);
    const uint8_t* const query = queries.bytes + row * queries.stride;
    for (int panel = 0; panel < panels_of(head.tokens); ++panel) {
      const int columns = panel_columns(head.tokens, panel);
      const int first = panel * kPanel;
      product_of(count, columns / kVector, query, queries.stride, head.keys + panel_at(head.width, panel),
                 groups_of(head.width), head.key_start + first, tile);
      const Stopwatch watch(rest_ticks);
      for (int r = 0; r < count; ++r) {
        for (int c = 0; c < columns; c += kLanes) {
          Floats score = mul(from_int32(tile + r * kPanel + c), load(head.key_scale + first + c));
          if (first + c == last) score = least(score, load(limit));
          top[r] = most(top[r], score);
          store(scores + r * stride + first + c, score);
        }
      }
    }
    float factor[kTileRows];
    {
      const Stopwatch watch(rest_ticks);
      softmax_rows(scores, stride, count, top, queries.scale + row, head.tokens, head.value_scale, bytes, factor);
    }
    for (int panel = 0; panel < panels_of(head.width); ++panel) {
      const int columns = panel_columns(head.width, panel);
      const int first = panel * kPanel;
      product_of(count, columns / kVector, bytes, stride, head.values + panel_at(head.tokens, panel),
                 groups_of(head.tokens), value_start + first, tile);
      for (int r = 0; r < count; ++r) {
        float* const to = out + (row + r) * out_stride + first;
        for (int c = 0; c < columns; c += kLanes) {
          Floats y[1] = {mul(from_int32(tile + r * kPanel + c), every(factor[r]))};
          put<Activation::kNone, Accuracy::kOfInt8, Write::kStore>(to + c, y, head.width - first - c);
        }
      }
    }
  });
}

// The same in float32 throughout, with scores to the base 2 as well.
void float_attention(const FloatHead& head, const float* queries, size_t stride, int rows, float* out,
                     size_t out_stride, uint8_t* scratch, uint64_t* rest_ticks) {
  const size_t score_stride = padded_tokens(head.tokens);
  float* const scores = reinterpret_cast<float*>(scratch);
  alignas(64) float tile[kTileRows * kPanel];
  each_tile(rows, [&](int row, int count) {
    for (int panel = 0; panel < panels_of(head.tokens); ++panel) {
      const int columns = panel_columns(head.tokens, panel);
      float_product_of(count, columns / kVector, queries + row * stride, stride,
                       head.keys + float_panel_at(head.width, panel), head.width, tile);
      for (int r = 0; r < count; ++r) {
        std::memcpy(scores + r * score_stride + panel * kPanel, tile + r * kPanel,
                    static_cast<size_t>(columns) * sizeof(float));
      }
    }
    float factor[kTileRows];
    {
      const Stopwatch watch(rest_ticks);
      for (int r = 0; r < count; ++r) {
        float* const row_scores = scores + r * score_stride;
        for (int j = head.tokens; j % kLanes; ++j) row_scores[j] = kNever;
        Floats highest = load(row_scores);
        for (int j = kLanes; j < head.tokens; j += kLanes) highest = most(highest, load(row_scores + j));
        const Floats top = every(most_of(highest));
        Floats total = every(0.0f);
        for (int j = 0; j < head.tokens; j += kLanes) {
          const Floats p = power_of_two(sub(load(row_scores + j), top));
          total = add(total, p);
          store(row_scores + j, p);
        }
        factor[r] = 1.0f / sum(total);
      }
    }
    for (int panel = 0; panel < panels_of(head.width); ++panel) {
      const int columns = panel_columns(head.width, panel);
      const int first = panel * kPanel;
      float_product_of(count, columns / kVector, scores, score_stride, head.values + float_panel_at(head.tokens, panel),
                       head.tokens, tile);
      for (int r = 0; r < count; ++r) {
        float* const to = out + (row + r) * out_stride + first;
        for (int c = 0; c < columns; c += kLanes) {
          Floats y[1] = {mul(load(tile + r * kPanel + c), every(factor[r]))};
          put<Activation::kNone, Accuracy::kFull, Write::kStore>(to + c, y, head.width - first - c);
        }
      }
    }
  });
}

constexpr vitlet::Kernels kernels_named(const char* name) {
  return {name,
          linear,
          float_linear,
          attention,
          float_attention,
          attention_scratch,
          packed_bytes,
          pack,
          packed_floats,
          pack_floats,
          put_queries,
          put_keys,
          put_values,
          put_float_column,
          put_float_row,
          quantize,
          normalize_quantize,
          normalize};
}

}  // namespace
