// Running a model: buffers and threads of its own, so that sessions of one model run side by side.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "model.h"
#include "profile.h"
#include "threads.h"
#include "worker.h"
#include "workspace.h"

namespace vitlet {

class Session {
 public:
  // Throws Error: the system does not give so many threads.
  Session(std::shared_ptr<const Model> model, int threads);

  // Normalized images [batch][3][height][width] -> logits [batch][classes]. One call at a time runs; others wait.
  // Throws Error: the batch is too large, or a value is not finite.
  void run(const float* images, size_t batch, float* logits) { answer({images, nullptr}, batch, logits); }
  // Pixels of RGB images [batch][height][width][3].
  void run_rgb(const uint8_t* pixels, size_t batch, float* logits) { answer({nullptr, pixels}, batch, logits); }

  const Model& model() const { return *model_; }
  // Either way, the time of all phases is zero from then on.
  void profile(bool on);
  // Milliseconds of each phase, added up over runs and threads since `profile(true)`.
  std::array<double, kPhases> milliseconds() const;

 private:
  void answer(const Source& images, size_t batch, float* logits);
  void work(const Source& images, size_t batch, float* logits, int thread);

  const std::shared_ptr<const Model> model_;
  mutable std::mutex running_;
  Threads threads_;
  Workspace shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  bool profiled_ = false;
  std::chrono::steady_clock::time_point profiled_since_;
  uint64_t ticks_since_ = 0;
};

}  // namespace vitlet
