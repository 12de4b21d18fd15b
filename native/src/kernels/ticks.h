// A clock that costs a few nanoseconds to read. Its unit is the processor's own; where there is none it stands still.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace {

inline uint64_t ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t found;
  asm volatile("mrs %0, cntvct_el0" : "=r"(found));
  return found;
#else
  return 0;
#endif
}

// Adds the time until it goes out of scope to `*spent`, if there is one.
class Stopwatch {
 public:
  explicit Stopwatch(uint64_t* spent) : spent_(spent), begin_(spent ? ticks() : 0) {}
  ~Stopwatch() {
    if (spent_) *spent_ += ticks() - begin_;
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  uint64_t* const spent_;
  const uint64_t begin_;
};

}  // namespace
