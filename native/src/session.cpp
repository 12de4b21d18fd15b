#include "session.h"

#include <algorithm>

#include "error.h"

namespace vitlet {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostBatch = 65536;

// Where the share of thread number `thread` of `threads` begins.
size_t share(size_t count, int thread, int threads) {
  return count * static_cast<size_t>(thread) / static_cast<size_t>(threads);
}

// Calls use(image, first token, rows) for chunks of at most `most_rows` of the rows begin..end, as far as they are
// among the first `read` tokens of their image.
template <class Use>
void each_chunk(size_t begin, size_t end, size_t tokens, size_t read, size_t most_rows, Use use) {
  for (size_t at = begin; at < end;) {
    const size_t image = at / tokens;
    const size_t image_end = std::min(end, (image + 1) * tokens);
    const size_t last = std::min(image_end, image * tokens + read);
    const size_t rows = last > at ? last - at : 0;
    const size_t chunks = (rows + most_rows - 1) / most_rows;
    for (size_t chunk = 0; chunk < chunks; ++chunk) {
      const size_t from = at + rows * chunk / chunks;
      const size_t to = at + rows * (chunk + 1) / chunks;
      use(image, from - image * tokens, to - from);
    }
    at = image_end;
  }
}

}  // namespace

Session::Session(std::shared_ptr<const Model> model, int threads) : model_(std::move(model)), threads_(threads) {
  for (int i = 0; i < threads; ++i) workers_.push_back(std::make_unique<Worker>(*model_, shared_));
}

void Session::answer(const Source& images, size_t batch, float* logits) {
  if (batch == 0) return;
  require(batch <= kMostBatch, "the batch is larger than 65536 images");
  const std::lock_guard<std::mutex> alone(running_);
  if (batch > shared_.batch) {
    shared_ = {};  // the old one's memory is free before the new one takes its own
    shared_ = Workspace(*model_, batch);
  }
  threads_.run([&](int thread) { work(images, batch, logits, thread); });
  bool finite = true;
  for (const auto& worker : workers_) finite = finite && !worker->not_finite;
  require(finite, "an image holds values that are infinite or no numbers");
}

void Session::work(const Source& images, size_t batch, float* logits, int thread) {
  Worker& worker = *workers_[static_cast<size_t>(thread)];
  const Config& c = model_->config;
  const size_t tokens = c.tokens();
  const int threads = threads_.count();
  const size_t begin = share(batch * tokens, thread, threads);
  const size_t end = share(batch * tokens, thread + 1, threads);
  worker.not_finite = false;
  worker.clock.start(profiled_);
  each_chunk(begin, end, tokens, tokens, worker.most_rows(), [&](size_t image, size_t first, size_t rows) {
    worker.embed(images, image, first, rows);
    worker.remember(0, image, first, rows);
  });
  for (size_t number = 0; number < c.blocks.size(); ++number) {
    const bool last = number + 1 == c.blocks.size();
    worker.clock.enter(Phase::kWait);
    threads_.barrier().wait();
    // Of the last block only what the head reads: of the other tokens only keys and values matter there.
    const size_t needed = last ? c.tokens_read() : tokens;
    each_chunk(begin, end, tokens, needed, worker.most_rows(), [&](size_t image, size_t first, size_t rows) {
      worker.transform(number, image, first, rows);
      if (!last) worker.remember(number + 1, image, first, rows);
    });
  }
  worker.clock.enter(Phase::kWait);
  threads_.barrier().wait();
  for (size_t image = share(batch, thread, threads); image < share(batch, thread + 1, threads); ++image) {
    worker.answer(image, logits + image * c.classes);
  }
  worker.clock.enter(Phase::kWait);
}

void Session::profile(bool on) {
  const std::lock_guard<std::mutex> alone(running_);
  profiled_ = on;
  profiled_since_ = Clock::now();
  ticks_since_ = ticks();
  for (auto& worker : workers_) worker->clock.clear();
}

std::array<double, kPhases> Session::milliseconds() const {
  const std::lock_guard<std::mutex> alone(running_);
  const double passed_ms = std::chrono::duration<double, std::milli>(Clock::now() - profiled_since_).count();
  const double passed = static_cast<double>(ticks() - ticks_since_);
  const double ms = passed > 0 ? passed_ms / passed : 0.0;
  std::array<double, kPhases> total{};
  for (const auto& worker : workers_) {
    for (size_t i = 0; i < kPhases; ++i) total[i] += ms * static_cast<double>(worker->clock.spent()[i]);
  }
  return total;
}

}  // namespace vitlet
