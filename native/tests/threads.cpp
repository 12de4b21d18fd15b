#include "threads.h"

#include <doctest/doctest.h>

#include <atomic>
#include <string>

#include "error.h"
#include "faults.h"

using vitlet::Barrier;
using vitlet::Error;
using vitlet::Threads;

TEST_SUITE("threads") {
  TEST_CASE("each number runs once, on every run") {
    for (const int count : {1, 2, 3, 7, 16}) {
      Threads threads(count);
      REQUIRE(threads.count() == count);
      std::vector<int> runs(static_cast<size_t>(count));
      for (int i = 0; i < 50; ++i) threads.run([&](int number) { ++runs[static_cast<size_t>(number)]; });
      for (const int one : runs) CHECK(one == 50);
    }
  }

  TEST_CASE("nobody passes a barrier before all have come, awake or asleep") {
    for (const int count : {2, 3, 5}) {
      Threads threads(count);
      std::atomic<int> arrived{0};
      std::atomic<int> early{0};
      threads.run([&](int number) {
        for (int round = 1; round <= 200; ++round) {
          // Now and then one comes so late that the others have gone to sleep.
          if (round % 50 == number) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          ++arrived;
          threads.barrier().wait();
          if (arrived < round * count) ++early;
          threads.barrier().wait();
        }
      });
      CHECK(early == 0);
      CHECK(arrived == 200 * count);
    }
  }

  TEST_CASE("excused threads count as arrived") {
    Barrier barrier(5);
    std::atomic<int> passed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        barrier.wait();
        ++passed;
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    CHECK(passed == 0);
    barrier.excuse(2);
    for (std::thread& thread : threads) thread.join();
    CHECK(passed == 3);
  }

  TEST_CASE("idle threads end") {
    for (int i = 0; i < 30; ++i) Threads{4};
    Threads threads(4);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // all asleep at the gate
  }

  TEST_CASE("fewer threads than wanted are an Error, and those that started end") {
    for (const int had : {0, 1, 2, 6}) {
      const faults::Threads few(had);
      const std::string message = "only " + std::to_string(had + 1) + " of 8 threads could be had: ";
      try {
        Threads threads(8);
        FAIL("there were threads");
      } catch (const Error& error) {
        CHECK(std::string(error.what()).substr(0, message.size()) == message);
      }
    }
    std::atomic<int> runs{0};
    Threads(8).run([&](int) { ++runs; });
    CHECK(runs == 8);
  }
}
