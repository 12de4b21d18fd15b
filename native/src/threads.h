// A small pool that runs one function on all its threads at once, and the barrier between its phases.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace vitlet {

// Threads wait for each other: for a short while busily, then asleep. Reusable.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads), missing_(threads) {}

  void wait();
  // Counts `threads` as arrived, of those that have not, without waiting: for threads that will never come.
  void excuse(int threads);

 private:
  void turn();

  const int threads_;
  std::atomic<int> missing_;
  std::atomic<unsigned> round_{0};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable turned_;
};

// `threads` threads, the caller's included. Not to be used by two callers at once.
class Threads {
 public:
  // Throws Error: the system does not give so many.
  explicit Threads(int threads);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return static_cast<int>(workers_.size()) + 1; }
  Barrier& barrier() { return barrier_; }
  // Calls work(0) ... work(count - 1), each on a thread of its own; `work` must not throw.
  void run(const std::function<void(int)>& work);

 private:
  void serve(int number);

  Barrier barrier_;  // between the phases of `work`
  Barrier gate_;     // before and after it
  const std::function<void(int)>* work_ = nullptr;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace vitlet
