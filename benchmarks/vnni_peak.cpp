// The most int8 operations a second that THREADS threads of this processor can do with vpdpbusd on 512 bits, all in
// registers: prints GOP/s (a multiplication and an addition are two).
//
//   c++ -O2 -mavx512f -mavx512bw -mavx512vnni -pthread vnni_peak.cpp -o peak && ./peak THREADS
#include <immintrin.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr long kTurns = 3'000'000;
constexpr int kSums = 16;  // enough that no product waits for the one before it

void work(int* sink) {
  // Every loop over the sums is unrolled, or GCC would keep them in memory.
  __m512i sums[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_setzero_si512();
  const __m512i bytes = _mm512_set1_epi8(3);
  const __m512i weights = _mm512_set1_epi8(-5);
  for (long turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      sums[i] = _mm512_dpbusd_epi32(sums[i], bytes, weights);
      asm volatile("" : "+v"(sums[i]));
    }
  }
  __m512i total = sums[0];
#pragma GCC unroll 16
  for (int i = 1; i < kSums; ++i) total = _mm512_add_epi32(total, sums[i]);
  *sink = _mm512_reduce_add_epi32(total);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  std::vector<int> sinks(static_cast<size_t>(threads));
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work, &sinks[static_cast<size_t>(i)]);
  work(&sinks[0]);
  for (std::thread& other : others) other.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%.1f\n", 2.0 * 64 * kSums * kTurns * threads / seconds / 1e9);
}
