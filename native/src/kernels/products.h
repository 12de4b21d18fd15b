// Linears and attention from the products of an instruction set.
//
// Before this, an instruction set has defined, for R rows and V vectors of 16 columns, with all accumulators in
// registers:
//   template <int R, int V> void product(const uint8_t* a, size_t stride, const int8_t* packed, int groups,
//                                        const int32_t* start, int32_t* out);
//   template <int R, int V> void float_product(const float* a, size_t stride, const float* packed, int inputs, float*
//   out);
// which write out[row * kPanel + column], and kTileRows, the largest R.
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

template <Activation kind, Accuracy accuracy, Write write>
inline void put(float* to, Floats y, int columns_left) {
  y = activated<kind, accuracy>(y);
  if (columns_left < kLanes) {
    write_first(to, y, columns_left, write);
  } else {
    store(to, write == Write::kAdd ? add(load(to), y) : y);
  }
}

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
      product_of(count, columns / kVector, a.bytes + row * a.stride, a.stride, packed, groups, layer.start + first,
                 tile);
      const Stopwatch watch(rest_ticks);
      float* const to = out + row * out_stride + first;
      for (int c = 0; c < columns; c += kLanes) {
        const Floats scale = load(layer.scale + first + c);
        const Floats total = load(layer.sum + first + c);
        const Floats bias = load(layer.bias + first + c);
        for (int r = 0; r < count; ++r) {
          const Floats product = mul(from_int32(tile + r * kPanel + c), every(a.scale[row + r]));
          const Floats rest = fma(every(a.low[row + r]), total, bias);
          put<kind, Accuracy::kOfInt8, write>(to + r * out_stride + c, fma(product, scale, rest),
                                              layer.outputs - first - c);
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
          put<kind, Accuracy::kFull, write>(to + c, add(load(tile + r * kPanel + c), load(layer.bias + first + c)),
                                            layer.outputs - first - c);
        }
      }
    });
  }
}

template <Activation kind>
inline void linear_with(const Linear& layer, const ByteRows& a, int rows, Write write, float* out, size_t out_stride,
                        uint64_t* rest_ticks) {
  if (write == Write::kAdd) {
    linear_as<kind, Write::kAdd>(layer, a, rows, out, out_stride, rest_ticks);
  } else {
    linear_as<kind, Write::kStore>(layer, a, rows, out, out_stride, rest_ticks);
  }
}

void linear(const Linear& layer, const ByteRows& a, int rows, Write write, Activation kind, float* out,
            size_t out_stride, uint64_t* rest_ticks) {
  switch (kind) {
    case Activation::kNone:
      return linear_with<Activation::kNone>(layer, a, rows, write, out, out_stride, rest_ticks);
    case Activation::kGelu:
      return linear_with<Activation::kGelu>(layer, a, rows, write, out, out_stride, rest_ticks);
    case Activation::kGeluTanh:
      return linear_with<Activation::kGeluTanh>(layer, a, rows, write, out, out_stride, rest_ticks);
    case Activation::kQuickGelu:
      return linear_with<Activation::kQuickGelu>(layer, a, rows, write, out, out_stride, rest_ticks);
  }
}

template <Activation kind>
inline void float_linear_with(const Linear& layer, const float* a, size_t stride, int rows, Write write, float* out,
                              size_t out_stride, uint64_t* rest_ticks) {
  if (write == Write::kAdd) {
    float_linear_as<kind, Write::kAdd>(layer, a, stride, rows, out, out_stride, rest_ticks);
  } else {
    float_linear_as<kind, Write::kStore>(layer, a, stride, rows, out, out_stride, rest_ticks);
  }
}

void float_linear(const Linear& layer, const float* a, size_t stride, int rows, Write write, Activation kind,
                  float* out, size_t out_stride, uint64_t* rest_ticks) {
  switch (kind) {
    case Activation::kNone:
      return float_linear_with<Activation::kNone>(layer, a, stride, rows, write, out, out_stride, rest_ticks);
    case Activation::kGelu:
      return float_linear_with<Activation::kGelu>(layer, a, stride, rows, write, out, out_stride, rest_ticks);
    case Activation::kGeluTanh:
      return float_linear_with<Activation::kGeluTanh>(layer, a, stride, rows, write, out, out_stride, rest_ticks);
    case Activation::kQuickGelu:
      return float_linear_with<Activation::kQuickGelu>(layer, a, stride, rows, write, out, out_stride, rest_ticks);
  }
}

// ---- Attention --------------------------------------------------------------------------------------------------

// Scores of the tokens, padded to whole vectors, and probabilities as bytes, padded to whole groups.
inline size_t score_columns(int tokens) { return vitlet::round_up(static_cast<size_t>(tokens), kPanel); }
inline size_t byte_columns(int tokens) { return vitlet::round_up(static_cast<size_t>(tokens), 64); }

size_t attention_scratch(int tokens) {
  return kTileRows * (score_columns(tokens) * sizeof(float) + byte_columns(tokens));
}

// The score of a token that is not there: whatever it is multiplied with, nothing is left of its probability.
constexpr float kNever = -3e38f;

// Base-2 softmax of one row of scores times `scale`. Each probability is multiplied with its value's scale, so that
// int8 values of different scales can be added up, and the products become bytes: the value of a byte is what is
// returned.
inline float softmax_row(float* scores, float scale, int tokens, const float* value_scale, uint8_t* bytes) {
  Floats highest = load(scores);
  for (int j = kLanes; j < tokens; j += kLanes) highest = most(highest, load(scores + j));
  const Floats factor_of_scores = every(scale);
  const Floats below = every(-most_of(highest) * scale);
  Floats total = every(0.0f);
  Floats largest = every(0.0f);
  for (int j = 0; j < tokens; j += kLanes) {
    const Floats p = power_of_two_of_int8(fma(load(scores + j), factor_of_scores, below));
    total = add(total, p);
    const Floats weighted = mul(p, load(value_scale + j));
    largest = most(largest, weighted);
    store(scores + j, weighted);
  }
  const float peak = most_of(largest);
  const bool usable = peak > 1e-30f && peak < 1e30f;
  const Floats factor = every(usable ? 255.0f / peak : 0.0f);
  for (int j = 0; j < tokens; j += kLanes) store_uint8(bytes + j, mul(load(scores + j), factor));
  return usable ? peak / (255.0f * sum(total)) : 0.0f;
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
  const size_t score_stride = score_columns(head.tokens);
  const size_t byte_stride = byte_columns(head.tokens);
  float* const scores = reinterpret_cast<float*>(scratch);
  uint8_t* const bytes = scratch + kTileRows * score_stride * sizeof(float);
  alignas(64) int32_t tile[kTileRows * kPanel];
  alignas(64) int32_t value_start[kMostHeadWidth] = {};
  if (kSignedActivations) start_of_values(head, bytes, value_start);
  each_tile(rows, [&](int row, int count) {
    const uint8_t* const query = queries.bytes + row * queries.stride;
    for (int panel = 0; panel < panels_of(head.tokens); ++panel) {
      const int columns = panel_columns(head.tokens, panel);
      const int first = panel * kPanel;
      product_of(count, columns / kVector, query, queries.stride, head.keys + panel_at(head.width, panel),
                 groups_of(head.width), head.key_start + first, tile);
      const Stopwatch watch(rest_ticks);
      for (int r = 0; r < count; ++r) {
        for (int c = 0; c < columns; c += kLanes) {
          const Floats product = from_int32(tile + r * kPanel + c);
          store(scores + r * score_stride + first + c, mul(product, load(head.key_scale + first + c)));
        }
      }
    }
    float factor[kTileRows];
    {
      const Stopwatch watch(rest_ticks);
      for (int r = 0; r < count; ++r) {
        float* const row_scores = scores + r * score_stride;
        for (int j = head.tokens; j % kLanes; ++j) row_scores[j] = kNever;
        factor[r] =
            softmax_row(row_scores, queries.scale[row + r], head.tokens, head.value_scale, bytes + r * byte_stride);
      }
    }
    for (int panel = 0; panel < panels_of(head.width); ++panel) {
      const int columns = panel_columns(head.width, panel);
      const int first = panel * kPanel;
      product_of(count, columns / kVector, bytes, byte_stride, head.values + panel_at(head.tokens, panel),
                 groups_of(head.tokens), value_start + first, tile);
      for (int r = 0; r < count; ++r) {
        float* const to = out + (row + r) * out_stride + first;
        for (int c = 0; c < columns; c += kLanes) {
          const Floats y = mul(from_int32(tile + r * kPanel + c), every(factor[r]));
          put<Activation::kNone, Accuracy::kOfInt8, Write::kStore>(to + c, y, head.width - first - c);
        }
      }
    }
  });
}

// The same in float32 throughout, with scores to the base 2 as well.
void float_attention(const FloatHead& head, const float* queries, size_t stride, int rows, float* out,
                     size_t out_stride, uint8_t* scratch, uint64_t* rest_ticks) {
  const size_t score_stride = score_columns(head.tokens);
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
          put<Activation::kNone, Accuracy::kFull, Write::kStore>(
              to + c, mul(load(tile + r * kPanel + c), every(factor[r])), head.width - first - c);
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
