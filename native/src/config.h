// What the model is: read from the file's metadata, every number checked before anything is sized by it.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace vitlet {

enum class Pool { kToken, kMean, kTokenAndMean };
enum class Arithmetic { kInt8, kFloat32 };

struct BlockConfig {
  size_t heads;
  size_t head_width;
  size_t mlp_width;

  size_t inner() const { return heads * head_width; }
};

struct Config {
  Arithmetic arithmetic;
  size_t image_height;
  size_t image_width;
  size_t patch;
  size_t width;
  size_t classes;
  size_t prefix_tokens;
  bool distilled;  // two heads, which read the first and the second prefix token; their mean is the answer
  Pool pool;
  bool pre_norm;
  bool final_norm;
  bool pool_norm;
  size_t pre_logits;  // 0: none
  Activation activation;
  float norm_eps;
  std::vector<BlockConfig> blocks;
  std::array<float, 3> mean;  // of pixels on the scale 0..1, by RGB channel
  std::array<float, 3> deviation;
  std::vector<std::string> labels;

  // Throws Error: `text` is no configuration, or a number is out of range.
  static Config parse(const std::string& text);

  size_t rows() const { return image_height / patch; }
  size_t columns() const { return image_width / patch; }
  size_t patches() const { return rows() * columns(); }
  size_t tokens() const { return prefix_tokens + patches(); }
  // How many tokens, from the first on, the head reads.
  size_t tokens_read() const { return pool == Pool::kToken ? (distilled ? 2 : 1) : tokens(); }
  size_t patch_inputs() const { return 3 * patch * patch; }
  // The most of any block; `padded` is each head's width rounded up to kDepth.
  size_t most_heads() const;
  size_t most_inner() const;
  size_t most_padded_inner() const;
  // The widest row that a linear of the model reads or writes, rounded up to kPanel.
  size_t widest() const;
  size_t pooled() const { return pool == Pool::kTokenAndMean ? 2 * width : width; }
  size_t features() const { return pre_logits ? pre_logits : pooled(); }
};

}  // namespace vitlet
