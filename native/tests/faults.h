// Resources that run out when a test says so: threads and memory.
#pragma once

namespace faults {

// While it lives, so many threads of this process can still be started.
class Threads {
 public:
  explicit Threads(int left);
  ~Threads();
};

// While it lives, so many pieces of memory can still be had, by `new` and `aligned_alloc` of any thread.
class Memory {
 public:
  explicit Memory(int left);
  ~Memory();
};

}  // namespace faults
