#include "workspace.h"

#include <algorithm>

namespace vitlet {

KeyValues::KeyValues(const Model& model, size_t batch) {
  const Config& c = model.config;
  const Kernels& k = *model.kernels;
  const int tokens = static_cast<int>(c.tokens());
  const bool bytes = c.arithmetic == Arithmetic::kInt8;
  heads_ = c.most_heads();
  padded_tokens_ = round_up(c.tokens(), kPanel);
  size_t keys = 0;
  size_t values = 0;
  for (const BlockConfig& b : c.blocks) {
    const int width = static_cast<int>(b.head_width);
    keys = std::max(keys, bytes ? k.packed_bytes(width, tokens) : k.packed_floats(width, tokens));
    values = std::max(values, bytes ? k.packed_bytes(tokens, width) : k.packed_floats(tokens, width));
  }
  key_size_ = round_up(keys, 64);
  value_size_ = round_up(values, 64);
  const size_t count = batch * heads_;
  if (bytes) {
    key_bytes_ = Buffer<int8_t>(count * key_size_);
    value_bytes_ = Buffer<int8_t>(count * value_size_);
    key_start_ = Buffer<int32_t>(count * padded_tokens_);
    scales_ = Buffer<float>(2 * count * padded_tokens_);
  } else {
    key_floats_ = Buffer<float>(count * key_size_);
    value_floats_ = Buffer<float>(count * value_size_);
  }
}

Workspace::Workspace(const Model& model, size_t batch) : batch(batch) {
  const Config& c = model.config;
  rows = batch * c.tokens();
  query_stride = round_up(c.most_padded_inner(), 64);
  tokens = Buffer<float>(rows * c.width);
  if (c.arithmetic == Arithmetic::kInt8) {
    queries = Buffer<uint8_t>(rows * query_stride);
    query_scale = Buffer<float>(rows * c.most_heads());
  } else {
    float_queries = Buffer<float>(rows * query_stride);
  }
  for (KeyValues& one : key_values) one = KeyValues(model, batch);
}

}  // namespace vitlet
