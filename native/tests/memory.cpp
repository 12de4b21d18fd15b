#include "memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

using vitlet::Buffer;
using vitlet::LargePages;

namespace {
constexpr size_t kMegabyte = size_t{1} << 20;

bool is_aligned(const void* at, size_t to) { return reinterpret_cast<uintptr_t>(at) % to == 0; }
}  // namespace

TEST_SUITE("memory") {
  TEST_CASE("buffers are aligned zeros, and refuse what no machine has") {
    for (const size_t count : {1, 63, 64, 65, 100000}) {
      const Buffer<float> buffer(count);
      CHECK(is_aligned(buffer.data(), 64));
      CHECK(std::all_of(buffer.data(), buffer.data() + count, [](float x) { return x == 0.0f; }));
    }
    CHECK_THROWS_AS(Buffer<float>(SIZE_MAX / 2), std::bad_alloc);
  }

  TEST_CASE("large pages: zeros one behind the other, until they are full") {
    LargePages pages(5 * kMegabyte);
    auto* const first = static_cast<uint8_t*>(pages.take(100));
#if defined(__linux__)
    REQUIRE(first != nullptr);
    CHECK(is_aligned(first, 2 * kMegabyte));
    auto* const second = static_cast<uint8_t*>(pages.take(4 * kMegabyte));
    CHECK(second == first + 128);
    CHECK(std::all_of(second, second + 4 * kMegabyte, [](uint8_t x) { return x == 0; }));
    std::fill(second, second + 4 * kMegabyte, uint8_t{1});
    CHECK(std::all_of(first, first + 128, [](uint8_t x) { return x == 0; }));
    CHECK(pages.take(100 * kMegabyte) == nullptr);
    CHECK(pages.take(SIZE_MAX) == nullptr);
    size_t taken = 0;
    while (pages.take(kMegabyte / 4) != nullptr) ++taken;
    CHECK(taken >= 3);
    CHECK(taken < 100);
#else
    CHECK(first == nullptr);
#endif
  }

  TEST_CASE("large pages: little memory, and too much, is none") {
    for (const size_t bytes : {size_t{0}, size_t{1}, kMegabyte, SIZE_MAX / 4, SIZE_MAX}) {
      LargePages pages(bytes);
      CHECK(pages.take(1) == nullptr);
    }
  }

  TEST_CASE("large pages move with what they hold") {
    LargePages pages(8 * kMegabyte);
    auto* const taken = static_cast<uint8_t*>(pages.take(1000));
    (void)taken;
    LargePages other;
    other = std::move(pages);
    CHECK(pages.take(1) == nullptr);
#if defined(__linux__)
    REQUIRE(taken != nullptr);
    taken[999] = 7;
    CHECK(static_cast<uint8_t*>(other.take(1)) == taken + 1024);
#endif
  }
}
