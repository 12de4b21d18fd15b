// What the threads of a session share: the tokens of all images, and what attention reads of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "memory.h"
#include "model.h"

namespace vitlet {

// Keys and values of one block, for all images and heads.
class KeyValues {
 public:
  KeyValues() = default;
  KeyValues(const Model& model, size_t batch);

  size_t place(size_t image, size_t head) const { return image * heads_ + head; }

  int8_t* keys(size_t place) { return key_bytes_.data() + place * key_size_; }
  int32_t* key_start(size_t place) { return key_start_.data() + place * padded_tokens_; }
  float* key_scale(size_t place) { return scales_.data() + 2 * place * padded_tokens_; }
  int8_t* values(size_t place) { return value_bytes_.data() + place * value_size_; }
  float* value_scale(size_t place) { return key_scale(place) + padded_tokens_; }

  // In fp32.
  float* float_keys(size_t place) { return key_floats_.data() + place * key_size_; }
  float* float_values(size_t place) { return value_floats_.data() + place * value_size_; }

 private:
  size_t heads_ = 0;
  size_t padded_tokens_ = 0;
  size_t key_size_ = 0;
  size_t value_size_ = 0;
  Buffer<int8_t> key_bytes_;
  Buffer<int8_t> value_bytes_;
  Buffer<int32_t> key_start_;
  Buffer<float> scales_;
  Buffer<float> key_floats_;
  Buffer<float> value_floats_;
};

struct Workspace {
  Workspace() = default;
  Workspace(const Model& model, size_t batch);

  size_t batch = 0;             // images that it has room for
  size_t rows = 0;              // batch times the tokens of an image
  size_t query_stride = 0;      // of a row of queries
  Buffer<float> tokens;         // the residual stream [batch * tokens][width]
  Buffer<uint8_t> queries;      // [row][head * padded head width]
  Buffer<float> query_scale;    // [head][row]
  Buffer<float> float_queries;  // in fp32: [row][head * head width]
  // Of two blocks, so that a fast thread may write the next block's while a slow one reads.
  std::array<KeyValues, 2> key_values;
};

}  // namespace vitlet
