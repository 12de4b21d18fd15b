#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace vitlet {

namespace {
[[maybe_unused]] constexpr size_t kPage = size_t{2} << 20;
constexpr size_t kLine = 64;
}  // namespace

LargePages::LargePages(size_t bytes) {
#if defined(__linux__)
  if (bytes < 2 * kPage || bytes > SIZE_MAX / 2) return;
  // One page more, to begin where one begins.
  const size_t mapped_bytes = (bytes + kPage - 1) / kPage * kPage + kPage;
  void* const mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return;
  mapped_ = mapped;
  mapped_bytes_ = mapped_bytes;
  const size_t skipped = (kPage - reinterpret_cast<uintptr_t>(mapped) % kPage) % kPage;
  next_ = static_cast<char*>(mapped) + skipped;
  left_ = mapped_bytes - skipped;
#if defined(MADV_HUGEPAGE)
  madvise(next_, left_ / kPage * kPage, MADV_HUGEPAGE);  // refused, the pages are small ones
#endif
#else
  (void)bytes;
#endif
}

LargePages::~LargePages() {
#if defined(__linux__)
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
#endif
}

void* LargePages::take(size_t bytes) {
  if (bytes > left_ || left_ - bytes < kLine) return nullptr;
  void* const taken = next_;
  const size_t lines = (bytes + kLine - 1) / kLine * kLine;
  next_ += lines;
  left_ -= lines;
  return taken;
}

}  // namespace vitlet
