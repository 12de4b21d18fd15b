// One thread's part of a run: its scratch memory, and what it does to a chunk of rows (tokens) of one image.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory.h"
#include "model.h"
#include "profile.h"
#include "workspace.h"

namespace vitlet {

// Images of either kind: one of the two is there.
struct Source {
  const float* normalized;  // [batch][3][height][width]
  const uint8_t* pixels;    // [batch][height][width][3]
};

class Worker {
 public:
  Worker(const Model& model, Workspace& shared);

  // How many rows stay in a core's own cache on their way through a block.
  size_t most_rows() const { return most_rows_; }

  // Pixels to tokens.
  void embed(const Source& images, size_t image, size_t first, size_t rows);
  // Queries, keys and values of block `number`; the last two where all threads find them. Queries that nobody asks for,
  // those of most tokens of the last block, are left out where the columns allow it.
  void remember(size_t number, size_t image, size_t first, size_t rows);
  // Attention and MLP of block `number`, when the keys and values of all tokens are there.
  void transform(size_t number, size_t image, size_t first, size_t rows);
  // Tokens to logits.
  void answer(size_t image, float* logits);

  PhaseClock clock;
  // Whether a pixel was no finite number, in this thread's part of the images.
  bool not_finite = false;

 private:
  void prepare(const float* x, size_t x_stride, size_t count, size_t rows, bool normalized, Phase where);
  void apply(const Linear& layer, size_t rows, Write write, Activation activation, float* out, size_t out_stride,
             Phase where);
  void gather(const Source& images, size_t image, size_t patch, float* to);
  void gather_floats(const float* from, size_t count, float factor, float offset, float* to);
  void normalize(const Norm& norm, float* row, size_t count);
  void remember_head(size_t number, size_t image, size_t first, size_t rows, size_t head);
  void attend(size_t number, size_t image, size_t first, size_t rows, size_t head);
  void classify(float* row, const PackedLinear& head, float* logits);
  // `row` is not in wide_.
  void apply_to_one(const float* row, size_t count, const Linear& layer, float* out);

  float* row_of(size_t image, size_t token) {
    return shared_.tokens.data() + (image * tokens_ + token) * config_.width;
  }
  uint8_t* queries_of(size_t row, size_t head, const BlockConfig& b) {
    return shared_.queries.data() + row * shared_.query_stride + head * round_up(b.head_width, kDepth);
  }
  float* float_queries_of(size_t row, size_t head, const BlockConfig& b) {
    return shared_.float_queries.data() + row * shared_.query_stride + head * b.head_width;
  }

  const Model& model_;
  const Config& config_;
  const Kernels& kernels_;
  Workspace& shared_;
  const bool int8_;
  const size_t tokens_;
  const size_t most_rows_;
  const size_t stride_;        // of rows in wide_, bytes_ and inputs_
  const size_t mixed_stride_;  // of rows in mixed_
  Buffer<float> wide_;         // what a linear gives; scratch beside that
  Buffer<float> mixed_;        // what attention gives
  Buffer<uint8_t> bytes_;      // what a linear takes, with scale_ and low_ for each row
  Buffer<float> scale_;
  Buffer<float> low_;
  Buffer<float> inputs_;  // the same in fp32
  Buffer<uint8_t> scratch_;
  Buffer<float> pooled_;    // features that are no token's own row
  Buffer<float> features_;  // what the head reads, where a linear comes before it
  Buffer<float> two_rows_;  // what a linear makes of a row and of what rounding left of it
  Buffer<float> second_;    // the distillation head's logits
};

}  // namespace vitlet
