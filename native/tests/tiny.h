// Model files of a few kilobytes, made in memory, and what a plain ViT in double precision answers to them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "model.h"

namespace tiny {

struct Block {
  size_t heads = 2;
  size_t head_width = 6;
  size_t mlp_width = 20;
};

// Every switch that a configuration has. No size is a multiple of a vector's.
struct Options {
  bool int8 = true;
  size_t height = 12;
  size_t width_in_pixels = 8;
  size_t patch = 4;
  size_t width = 12;
  size_t classes = 5;
  size_t prefix = 1;
  bool distilled = false;
  std::string pool = "token";
  bool pre_norm = false;
  bool final_norm = true;
  bool pool_norm = false;
  size_t pre_logits = 0;
  std::string activation = "gelu";
  double eps = 1e-6;
  std::vector<Block> blocks = {{}, {}};
  std::array<double, 3> mean = {0.485, 0.456, 0.406};
  std::array<double, 3> deviation = {0.229, 0.224, 0.225};
  unsigned seed = 1;

  size_t patches() const { return (height / patch) * (width_in_pixels / patch); }
  size_t tokens() const { return prefix + patches(); }
  size_t pooled() const { return pool == "token+mean" ? 2 * width : width; }
  size_t features() const { return pre_logits ? pre_logits : pooled(); }
};

// One of each: pools, norms, heads, activations, sizes.
std::map<std::string, Options> every_switch();

// Of how many sizes and switches one is tested: VITLET_TEST_STEP, more than one where a sanitizer or an emulator makes
// programs slow.
int test_step();

struct Entry {
  std::string dtype;
  std::vector<size_t> shape;
  std::vector<uint8_t> bytes;
};

Entry floats(const std::vector<size_t>& shape, const std::vector<float>& values);
std::vector<float> values_of(const Entry& entry);

// A file in parts, so that a test can spoil one of them.
struct File {
  std::string config;
  std::vector<std::pair<std::string, Entry>> tensors;

  Entry& at(const std::string& name);
  const Entry& at(const std::string& name) const;
  void remove(const std::string& name);
  // The header's text, and the whole file.
  std::string header() const;
  std::vector<uint8_t> bytes() const;
};

// `text` behind its length, then `data`.
std::vector<uint8_t> with_header(const std::string& text, const std::vector<uint8_t>& data);

std::string config_of(const Options& options);
File file_of(const Options& options);
std::vector<uint8_t> bytes_of(const Options& options);
std::shared_ptr<const vitlet::Model> model_of(const Options& options, const vitlet::Kernels& kernels);

// Normalized images [batch][3][height][width], and RGB pixels [batch][height][width][3].
std::vector<float> images_for(const Options& options, size_t batch, unsigned seed = 7);
std::vector<uint8_t> pixels_for(const Options& options, size_t batch, unsigned seed = 7);
// Those pixels as normalized images.
std::vector<float> normalized(const Options& options, const std::vector<uint8_t>& pixels, size_t batch);

// Logits [batch][classes], by loops in double precision that share nothing with the library.
std::vector<double> reference(const Options& options, const File& file, const std::vector<float>& images, size_t batch);

}  // namespace tiny
