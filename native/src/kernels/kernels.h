// What an instruction set has to offer: the arithmetic of a ViT, a few rows (tokens) at a time.
//
// Each instruction set fills one table. In int8 all tables compute the same numbers, bit by bit: products of int8 are
// exact, and what is float is added up in the same order, sixteen sums side by side, with the same fused roundings.
// In fp32 the plain C++ table rounds products and sums one by one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vitlet {

// Columns that stand side by side in a panel of packed weights. The arrays by column (scale, bias, ...) are padded to
// a multiple of it, with zeros.
constexpr int kPanel = 64;
// Columns are computed in vectors of this many; a panel that is not full ends with a whole one.
constexpr int kVector = 16;
// Rows of bytes are readable up to a multiple of this; what stands there meets weights that are zero.
constexpr int kDepth = 16;
// The widest head: what an instruction set may keep on its stack of a row.
constexpr int kMostHeadWidth = 1024;

constexpr size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

enum class Activation { kNone, kGelu, kGeluTanh, kQuickGelu };
enum class Write { kStore, kAdd };

// Activations in uint8, `rows` of them: the real value is low[row] + scale[row] * byte.
struct ByteRows {
  const uint8_t* bytes;
  size_t stride;
  const float* scale;
  const float* low;
};

// A linear layer, packed for one instruction set; one of `bytes` and `floats` is there.
struct Linear {
  int inputs;
  int outputs;
  const int8_t* bytes;
  const float* floats;
  const int32_t* start;  // by column: what the int32 accumulators start from
  const float* scale;    // by column: real weight = scale * byte
  const float* sum;      // by column: the sum of the real weights, which `low` is multiplied with
  const float* bias;     // by column
};

// Queries of one head in uint8: the real value is scale[row] * (byte - 128).
struct Queries {
  const uint8_t* bytes;
  size_t stride;
  const float* scale;
};

// Keys and values of one head of one image, packed like the weights of two linears: keys with `tokens` outputs and
// `width` inputs, values the other way round. The arrays by token are padded like those by column.
struct Head {
  int tokens;
  int width;
  const int8_t* keys;
  const int32_t* key_start;
  const float* key_scale;
  const int8_t* values;
  const float* value_scale;
};

struct FloatHead {
  int tokens;
  int width;
  const float* keys;
  const float* values;
};

struct Kernels {
  const char* name;

  // out (op)= activation(a @ weights + bias), for `rows` rows; with an activation always out =. Here and below, what is
  // no product adds its time to `rest_ticks`, if there is one.
  void (*linear)(const Linear&, const ByteRows& a, int rows, Write, Activation, float* out, size_t out_stride,
                 uint64_t* rest_ticks);
  void (*float_linear)(const Linear&, const float* a, size_t stride, int rows, Write, Activation, float* out,
                       size_t out_stride, uint64_t* rest_ticks);

  // out = softmax(queries @ keys) @ values, where softmax is to the base 2; queries carry log2(e) / sqrt(width).
  // `scratch` is for this call alone: `attention_scratch(tokens)` bytes, aligned to 64.
  void (*attention)(const Head&, const Queries&, int rows, float* out, size_t out_stride, uint8_t* scratch,
                    uint64_t* rest_ticks);
  void (*float_attention)(const FloatHead&, const float* queries, size_t stride, int rows, float* out,
                          size_t out_stride, uint8_t* scratch, uint64_t* rest_ticks);
  size_t (*attention_scratch)(int tokens);

  // Packed weights: their bytes, and writing them from [outputs][inputs].
  size_t (*packed_bytes)(int inputs, int outputs);
  void (*pack)(const int8_t* weights, int inputs, int outputs, int8_t* packed, int32_t* start);
  size_t (*packed_floats)(int inputs, int outputs);
  void (*pack_floats)(const float* weights, int inputs, int outputs, float* packed);
  // `rows` rows of one head, `stride` floats apart: queries as bytes, and keys and values of the tokens from `first` on
  // as weights of two linears, with what `Head` needs of them.
  void (*put_queries)(const float* rows, size_t stride, int count, int width, uint8_t* bytes, size_t byte_stride,
                      float* scale);
  void (*put_keys)(const float* rows, size_t stride, int count, int width, int tokens, int first, int8_t* packed,
                   int32_t* start, float* scale);
  void (*put_values)(const float* rows, size_t stride, int count, int width, int tokens, int first, int8_t* packed,
                     float* scale);
  // One key (a column) or one value (a row) in floats.
  void (*put_float_column)(const float* column, int inputs, int outputs, int at, float* packed);
  void (*put_float_row)(const float* row, int inputs, int outputs, int at, float* packed);

  // One row of floats to bytes over its own range, or over `low`..`high` where that is wider.
  void (*quantize)(const float* x, int count, float low, float high, uint8_t* bytes, float* scale, float* low_found);
  // The same of (x - mean) / sqrt(variance + eps).
  void (*normalize_quantize)(const float* x, int count, float eps, uint8_t* bytes, float* scale, float* low);
  void (*normalize)(const float* x, int count, float eps, float* out);
};

}  // namespace vitlet
