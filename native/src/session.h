// Running a model: buffers and threads of its own, so that sessions of one model run side by side.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "memory.h"
#include "model.h"
#include "threads.h"

namespace vitlet {

// Where the time went. The last three are inside others and not counted there: kSoftmax in kAttention, kActivation
// (with the way back from int32) in kUp, kEpilogue (the way back from int32, and the residual) in the other linears.
enum class Phase {
  kEmbed,
  kNorm,
  kQkv,
  kAttention,
  kProjection,
  kUp,
  kDown,
  kQuantize,
  kHead,
  kWait,
  kSoftmax,
  kActivation,
  kEpilogue
};
constexpr int kPhases = 13;
const char* name_of(Phase);

class Session {
 public:
  Session(std::shared_ptr<const Model> model, int threads);
  ~Session();

  // Normalized images [batch][3][height][width] -> logits [batch][classes]. One call at a time runs; others wait.
  void run(const float* images, size_t batch, float* logits);
  // Pixels of RGB images [batch][height][width][3].
  void run_rgb(const uint8_t* pixels, size_t batch, float* logits);

  const Model& model() const { return *model_; }
  // Milliseconds of each phase, added up over runs and threads since `profile(true)`.
  void profile(bool on);
  std::array<double, kPhases> milliseconds() const;

 private:
  struct Worker;
  struct Source;

  void answer(const Source& images, size_t batch, float* logits);
  void reserve(size_t batch);
  void work(const Source& images, size_t batch, float* logits, int thread);

  const std::shared_ptr<const Model> model_;
  mutable std::mutex running_;
  Threads threads_;
  size_t batch_ = 0;         // what the buffers are large enough for
  size_t rows_ = 0;          // batch_ times the tokens of an image
  size_t query_stride_ = 0;  // of a row of queries
  Buffer<float> tokens_;     // the residual stream [batch * tokens][width]
  // Queries [row][head * padded head width] in bytes, and [head][row] their scale; in fp32, queries themselves
  // in query_scale_.
  Buffer<uint8_t> queries_;
  Buffer<float> query_scale_;
  // Keys and values of two blocks, so that a fast thread may write the next block's while a slow one reads.
  struct Memory;
  std::array<std::shared_ptr<Memory>, 2> memory_;
  std::vector<std::unique_ptr<Worker>> workers_;
  bool profiled_ = false;
  std::chrono::steady_clock::time_point profiled_since_;
  uint64_t ticks_since_ = 0;
};

}  // namespace vitlet
