// Stands in front of pthread_create, aligned_alloc and operator new of this program.
#include "faults.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int> threads_left{INT_MAX};
std::atomic<int> memory_left{INT_MAX};

bool take(std::atomic<int>& left) {
  int now = left.load();
  while (now != INT_MAX && now > 0 && !left.compare_exchange_weak(now, now - 1)) continue;
  return now > 0;
}

}  // namespace

namespace faults {

Threads::Threads(int left) { threads_left = left; }
Threads::~Threads() { threads_left = INT_MAX; }
Memory::Memory(int left) { memory_left = left; }
Memory::~Memory() { memory_left = INT_MAX; }

}  // namespace faults

// The standard library has to find it: what this program is compiled with hides the rest.
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread,
                                                                     const pthread_attr_t* attributes,
                                                                     void* (*start)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return take(threads_left) ? real(thread, attributes, start, argument) : EAGAIN;
}

extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  void* found = nullptr;
  return take(memory_left) && posix_memalign(&found, alignment, bytes) == 0 ? found : nullptr;
}

void* operator new(size_t bytes) {
  void* const found = take(memory_left) ? std::malloc(bytes ? bytes : 1) : nullptr;
  if (found == nullptr) throw std::bad_alloc();
  return found;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
