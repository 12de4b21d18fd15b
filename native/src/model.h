// A model in memory: its configuration and its weights, packed for one instruction set. Never changes once made.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config.h"
#include "kernels/kernels.h"
#include "memory.h"
#include "safetensors.h"

namespace vitlet {

// A linear layer and the memory that it lies in.
class PackedLinear {
 public:
  const Linear& view() const { return view_; }

 private:
  friend class ModelReader;
  Linear view_{};
  Buffer<int8_t> bytes_;  // or in the model's large pages
  Buffer<float> floats_;
  Buffer<int32_t> start_;
  Buffer<float> columns_;  // scale, sum and bias, one after the other
};

// LayerNorm with its own factor and offset (where no linear could take them).
struct Norm {
  Buffer<float> weight;
  Buffer<float> bias;
};

struct Block {
  PackedLinear qkv;
  PackedLinear projection;
  PackedLinear up;
  PackedLinear down;
};

struct Model {
  std::map<std::string, std::string> metadata;  // of the file
  Config config;
  const Kernels* kernels;
  LargePages weights;      // of the linears, one behind the other
  PackedLinear embed;      // from pixels on the scale 0..255
  Buffer<float> prefix;    // [prefix tokens][width]
  Buffer<float> position;  // [patches][width]
  std::optional<Norm> pre_norm;
  std::vector<Block> blocks;
  std::optional<Norm> final_norm;
  std::optional<Norm> pool_norm;
  std::optional<PackedLinear> pre_logits;
  PackedLinear head;
  std::optional<PackedLinear> distillation_head;

  // Throws Error: the file is damaged, is no vitlet model, or its tensors do not fit its configuration.
  static std::shared_ptr<const Model> load(const std::string& path, const Kernels& kernels);
  // The same from memory, which is not needed afterwards.
  static std::shared_ptr<const Model> read(const uint8_t* data, size_t size, const Kernels& kernels);
};

}  // namespace vitlet
