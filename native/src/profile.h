// Where the time of a run went.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/ticks.h"

namespace vitlet {

// The last three are inside others and not counted there: kSoftmax in kAttention, kActivation (with the way back from
// int32) in kUp, kEpilogue (the way back from int32, and the residual) in the other linears.
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
constexpr size_t kPhases = 13;

inline const char* name_of(Phase phase) {
  constexpr const char* kNames[kPhases] = {"embed",    "norm", "qkv",  "attention", "projection", "up",      "down",
                                           "quantize", "head", "wait", "softmax",   "activation", "epilogue"};
  return kNames[static_cast<size_t>(phase)];
}

// One thread's time by phase, in ticks.
class PhaseClock {
 public:
  void start(bool on) {
    on_ = on;
    phase_ = Phase::kWait;
    since_ = ticks();
  }

  void enter(Phase next) {
    if (!on_) return;
    const uint64_t now = ticks();
    of(phase_) += now - since_;
    phase_ = next;
    since_ = now;
  }

  // Where a kernel adds the time of what is no product; nullptr where nobody asks.
  uint64_t* rest() {
    rest_ = 0;
    return on_ ? &rest_ : nullptr;
  }
  // That time was `inside` and not in the phase that it fell in.
  void count_rest(Phase inside) {
    of(inside) += rest_;
    of(phase_) -= rest_;  // modulo 2^64: the phase's own time is added when it ends
  }

  void clear() { spent_ = {}; }
  const std::array<uint64_t, kPhases>& spent() const { return spent_; }

 private:
  uint64_t& of(Phase phase) { return spent_[static_cast<size_t>(phase)]; }

  bool on_ = false;
  Phase phase_ = Phase::kWait;
  uint64_t since_ = 0;
  uint64_t rest_ = 0;
  std::array<uint64_t, kPhases> spent_{};
};

}  // namespace vitlet
