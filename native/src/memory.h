// Aligned memory that is zero at first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace vitlet {

// Sizes are checked for 64 bits, and files are read as they lie.
static_assert(sizeof(size_t) == 8, "vitlet needs 64 bits");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vitlet needs a little-endian processor");

// `count` values aligned to a cache line (and to the widest vector), all zero.
template <class Value>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : count_(count) {
    if (count == 0) return;
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, sizeof(Value), &bytes) || bytes > SIZE_MAX - kLine) throw std::bad_alloc();
    bytes = (bytes + kLine - 1) / kLine * kLine;
    data_ = static_cast<Value*>(std::aligned_alloc(kLine, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_), 0, bytes);
  }
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }

  Value* data() { return data_; }
  const Value* data() const { return data_; }
  size_t size() const { return count_; }
  Value& operator[](size_t at) { return data_[at]; }
  const Value& operator[](size_t at) const { return data_[at]; }

 private:
  static constexpr size_t kLine = 64;

  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }

  Value* data_ = nullptr;
  size_t count_ = 0;
};

// Memory for what is large and lives long, in the processor's large pages (2 MB) where the system has them: weights are
// read from end to end, and looking up a small page for every 4 kB of them took 2 to 4 % of DeiT-B's time. What is not
// taken costs address space, and memory only to the end of the last page.
class LargePages {
 public:
  LargePages() = default;
  // Less than is worth it, or not to be had, is no error: nothing can be taken then.
  explicit LargePages(size_t bytes);
  ~LargePages();
  LargePages(LargePages&& other) noexcept { swap(other); }
  LargePages& operator=(LargePages&& other) noexcept {
    swap(other);
    return *this;
  }

  // Zeros, aligned to a cache line; nullptr if there is not so much left.
  void* take(size_t bytes);

 private:
  void swap(LargePages& other) {
    std::swap(mapped_, other.mapped_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(next_, other.next_);
    std::swap(left_, other.left_);
  }

  void* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  char* next_ = nullptr;
  size_t left_ = 0;
};

}  // namespace vitlet
