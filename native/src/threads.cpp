#include "threads.h"

#include <chrono>
#include <cstdio>
#include <string>
#include <system_error>

#include "error.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace vitlet {

namespace {

// How long to wait busily: longer than two threads of equal work are apart, shorter than anybody would miss.
constexpr auto kBusy = std::chrono::microseconds(200);
constexpr int kLooksPerClock = 64;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// What debuggers, profilers and `top -H` show. At most 15 characters on Linux; a name is worth no error.
void name_this_thread(int number) {
  char name[16];
  std::snprintf(name, sizeof(name), "vitlet-%d", number);
#if defined(__linux__)
  pthread_setname_np(pthread_self(), name);
#elif defined(__APPLE__)
  pthread_setname_np(name);
#endif
}

}  // namespace

void Barrier::wait() {
  if (threads_ == 1) return;
  const unsigned round = round_.load(std::memory_order_acquire);
  if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) return turn();
  const auto turned = [&] { return round_.load(std::memory_order_seq_cst) != round; };
  const auto end = std::chrono::steady_clock::now() + kBusy;
  do {
    for (int look = 0; look < kLooksPerClock; ++look) {
      if (turned()) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  std::unique_lock<std::mutex> lock(mutex_);
  sleeping_.fetch_add(1, std::memory_order_seq_cst);
  turned_.wait(lock, turned);
  sleeping_.fetch_sub(1, std::memory_order_seq_cst);
}

void Barrier::excuse(int threads) {
  if (missing_.fetch_sub(threads, std::memory_order_acq_rel) == threads) turn();
}

void Barrier::turn() {
  missing_.store(threads_, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    // Holding the lock once makes sure that a thread about to sleep has either seen the new round or sleeps.
    { const std::lock_guard<std::mutex> lock(mutex_); }
    turned_.notify_all();
  }
}

Threads::Threads(int threads) : barrier_(threads), gate_(threads) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int number = 1; number < threads; ++number) {
      workers_.emplace_back([this, number] { serve(number); });
    }
  } catch (...) {
    // Those that did start wait at the gate for all `threads`, this one included.
    const int started = count() - 1;
    stop_ = true;
    gate_.excuse(threads - started);
    for (std::thread& worker : workers_) worker.join();
    try {
      throw;
    } catch (const std::system_error& error) {
      throw Error("only " + std::to_string(started + 1) + " of " + std::to_string(threads) +
                  " threads could be had: " + error.code().message());
    }
  }
}

Threads::~Threads() {
  stop_ = true;
  gate_.wait();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::run(const std::function<void(int)>& work) {
  work_ = &work;
  gate_.wait();
  work(0);
  gate_.wait();
}

void Threads::serve(int number) {
  name_this_thread(number);
  for (;;) {
    gate_.wait();
    if (stop_) return;
    (*work_)(number);
    gate_.wait();
  }
}

}  // namespace vitlet
