#include "session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "error.h"
#include "kernels/ticks.h"

namespace vitlet {

namespace {

using Clock = std::chrono::steady_clock;

// Activations of so many bytes between the two linears of an MLP stay in a core's own cache.
constexpr size_t kChunkBytes = 192 * 1024;
constexpr size_t kMostChunkRows = 48;
constexpr size_t kLeastChunkRows = 30;
constexpr size_t kMostBatch = 65536;

// The share of `count` that thread number `thread` of `threads` takes.
size_t share(size_t count, int thread, int threads) {
  return count * static_cast<size_t>(thread) / static_cast<size_t>(threads);
}

size_t most_inner(const Config& c) {
  size_t most = 0;
  for (const BlockConfig& b : c.blocks) most = std::max(most, b.heads * round_up(b.head_width, kDepth));
  return most;
}

size_t most_heads(const Config& c) {
  size_t most = 0;
  for (const BlockConfig& b : c.blocks) most = std::max(most, b.heads);
  return most;
}

// The widest row that a linear of the model reads or writes.
size_t widest(const Config& c) {
  size_t most = std::max({c.width, c.patch_inputs(), c.features(), c.pooled()});
  for (const BlockConfig& b : c.blocks) most = std::max({most, 3 * b.heads * b.head_width, b.mlp_width});
  return round_up(most, kPanel);
}

size_t chunk_rows(const Config& c) {
  return std::clamp(kChunkBytes / (widest(c) * sizeof(float)), kLeastChunkRows, kMostChunkRows);
}

}  // namespace

const char* name_of(Phase phase) {
  constexpr const char* kNames[kPhases] = {"embed",    "norm", "qkv",  "attention", "projection", "up",      "down",
                                           "quantize", "head", "wait", "softmax",   "activation", "epilogue"};
  return kNames[static_cast<int>(phase)];
}

// Images of either kind: one of the two is there.
struct Session::Source {
  const float* normalized;
  const uint8_t* pixels;
};

// Keys and values of one block, for all images and heads.
struct Session::Memory {
  Memory(const Model& model, size_t batch) {
    const Config& c = model.config;
    const Kernels& k = *model.kernels;
    const int tokens = static_cast<int>(c.tokens());
    heads = most_heads(c);
    padded_tokens = round_up(c.tokens(), kPanel);
    size_t keys = 0;
    size_t values = 0;
    const bool bytes = c.arithmetic == Arithmetic::kInt8;
    for (const BlockConfig& b : c.blocks) {
      const int width = static_cast<int>(b.head_width);
      keys = std::max(keys, bytes ? k.packed_bytes(width, tokens) : k.packed_floats(width, tokens));
      values = std::max(values, bytes ? k.packed_bytes(tokens, width) : k.packed_floats(tokens, width));
    }
    key_size = round_up(keys, 64);
    value_size = round_up(values, 64);
    const size_t count = batch * heads;
    if (bytes) {
      key_bytes = Buffer<int8_t>(count * key_size);
      value_bytes = Buffer<int8_t>(count * value_size);
      key_start = Buffer<int32_t>(count * padded_tokens);
      by_token = Buffer<float>(2 * count * padded_tokens);
    } else {
      key_floats = Buffer<float>(count * key_size);
      value_floats = Buffer<float>(count * value_size);
    }
  }

  size_t place(size_t image, size_t head) const { return image * heads + head; }
  float* key_scale(size_t place) { return by_token.data() + 2 * place * padded_tokens; }
  float* value_scale(size_t place) { return key_scale(place) + padded_tokens; }

  size_t heads = 0;
  size_t padded_tokens = 0;
  size_t key_size = 0;
  size_t value_size = 0;
  Buffer<int8_t> key_bytes;
  Buffer<int8_t> value_bytes;
  Buffer<int32_t> key_start;
  Buffer<float> by_token;
  Buffer<float> key_floats;
  Buffer<float> value_floats;
};

// One thread's part of a run: its scratch memory, and what it does to a chunk of rows.
struct Session::Worker {
  explicit Worker(Session& session)
      : session(session),
        model(session.model()),
        config(model.config),
        kernels(*model.kernels),
        int8(config.arithmetic == Arithmetic::kInt8),
        tokens(config.tokens()),
        most_rows(vitlet::chunk_rows(config)),
        stride(widest(config)),
        wide(most_rows * stride),
        narrow(most_rows * std::max(round_up(config.width, kPanel), most_inner(config))),
        bytes(int8 ? most_rows * stride : 0),
        scale(most_rows),
        low(most_rows),
        scratch(round_up(kernels.attention_scratch(static_cast<int>(tokens)), 64)),
        inputs(int8 ? 0 : most_rows * stride),
        features(config.pool == Pool::kToken ? 0 : round_up(config.pooled(), kPanel)),
        second(config.distilled ? config.classes : 0) {}

  // ---- Time ----

  void enter(Phase next) {
    if (!session.profiled_) return;
    const uint64_t now = ticks();
    spent_in(phase) += now - since;
    phase = next;
    since = now;
  }

  // Where a kernel adds the time of what is no product, which counts as `inside` and not as the phase that it is in.
  uint64_t* clock_of(Phase inside) {
    if (!session.profiled_) return nullptr;
    rest = 0;
    rest_of = inside;
    return &rest;
  }
  void count_rest() {
    if (!session.profiled_) return;
    spent_in(rest_of) += rest;
    spent_in(phase) -= rest;  // modulo 2^64: the phase's own time is added when it ends
  }
  uint64_t& spent_in(Phase where) { return spent[static_cast<size_t>(where)]; }

  // ---- Linears: rows of floats through the arithmetic of the model ----

  // `rows` of `x` as input of a linear: as they are, or normalized first.
  void prepare(const float* x, size_t x_stride, size_t count, size_t rows, bool normalized, Phase where) {
    enter(where);
    const int n = static_cast<int>(count);
    for (size_t r = 0; r < rows; ++r) {
      const float* const row = x + r * x_stride;
      if (!int8) {
        float* const to = inputs.data() + r * stride;
        if (normalized) {
          kernels.normalize(row, n, config.norm_eps, to);
        } else {
          std::memcpy(to, row, count * sizeof(float));
        }
      } else if (normalized) {
        kernels.normalize_quantize(row, n, config.norm_eps, bytes.data() + r * stride, &scale[r], &low[r]);
      } else {
        kernels.quantize(row, n, row[0], row[0], bytes.data() + r * stride, &scale[r], &low[r]);
      }
    }
  }

  // The columns of a layer from `first` on, a multiple of kPanel.
  Linear columns_from(Linear layer, size_t first) const {
    if (first == 0) return layer;
    const int skipped = static_cast<int>(first);
    if (int8) {
      layer.bytes += kernels.packed_bytes(layer.inputs, skipped);
    } else {
      layer.floats += kernels.packed_floats(layer.inputs, skipped);
    }
    layer.start += first;
    layer.scale += first;
    layer.sum += first;
    layer.bias += first;
    layer.outputs -= skipped;
    return layer;
  }

  void apply(const PackedLinear& layer, size_t rows, Write write, Activation activation, float* out, size_t out_stride,
             Phase where) {
    apply(layer.view(), rows, write, activation, out, out_stride, where);
  }

  void apply(const Linear& layer, size_t rows, Write write, Activation activation, float* out, size_t out_stride,
             Phase where) {
    enter(where);
    uint64_t* const clock = clock_of(where == Phase::kUp ? Phase::kActivation : Phase::kEpilogue);
    if (int8) {
      const ByteRows a{bytes.data(), stride, scale.data(), low.data()};
      kernels.linear(layer, a, static_cast<int>(rows), write, activation, out, out_stride, clock);
    } else {
      kernels.float_linear(layer, inputs.data(), stride, static_cast<int>(rows), write, activation, out, out_stride,
                           clock);
    }
    count_rest();
  }

  float* row_of(size_t image, size_t token) { return session.tokens_.data() + (image * tokens + token) * config.width; }

  // ---- Embedding ----

  // The pixels of a patch, channel by channel as a convolution's weights have them, on the scale 0..255.
  void gather(const Source& images, size_t image, size_t patch, float* to) const {
    const size_t height = config.image_height;
    const size_t width = config.image_width;
    const size_t p = config.patch;
    const size_t top = patch / config.columns() * p;
    const size_t left = patch % config.columns() * p;
    // Whole pixels come back whole from normalized ones: 1.5 * 2^13 leaves no bits below 2^-10.
    const float snap = int8 ? 12288.0f : 0.0f;
    for (size_t channel = 0; channel < 3; ++channel) {
      const float factor = 255.0f * config.deviation[channel];
      const float offset = 255.0f * config.mean[channel];
      for (size_t y = 0; y < p; ++y) {
        if (images.pixels != nullptr) {
          const uint8_t* const from = images.pixels + ((image * height + top + y) * width + left) * 3 + channel;
          for (size_t x = 0; x < p; ++x) to[x] = from[3 * x];
        } else {
          const float* const from = images.normalized + ((image * 3 + channel) * height + top + y) * width + left;
          for (size_t x = 0; x < p; ++x) to[x] = (from[x] * factor + offset + snap) - snap;
        }
        to += p;
      }
    }
  }

  void embed(const Source& images, size_t image, size_t first, size_t rows) {
    enter(Phase::kEmbed);
    const size_t prefix = first < config.prefix_tokens ? std::min(rows, config.prefix_tokens - first) : 0;
    if (prefix > 0) {
      std::memcpy(row_of(image, first), model.prefix.data() + first * config.width,
                  prefix * config.width * sizeof(float));
    }
    const size_t patches = rows - prefix;
    if (patches > 0) {
      const size_t patch = first + prefix - config.prefix_tokens;
      float* const out = row_of(image, first + prefix);
      const size_t count = config.patch_inputs();
      for (size_t r = 0; r < patches; ++r) {
        float* const row = int8 ? wide.data() : inputs.data() + r * stride;
        gather(images, image, patch + r, row);
        if (int8) {
          // Pixels of 8 bits are their own bytes: the range is never narrower than theirs.
          kernels.quantize(row, static_cast<int>(count), 0.0f, 255.0f, bytes.data() + r * stride, &scale[r], &low[r]);
        }
      }
      std::memcpy(out, model.position.data() + patch * config.width, patches * config.width * sizeof(float));
      apply(model.embed, patches, Write::kAdd, Activation::kNone, out, config.width, Phase::kEmbed);
    }
    if (model.pre_norm) {
      for (size_t r = 0; r < rows; ++r) normalize(*model.pre_norm, row_of(image, first + r), config.width);
    }
  }

  void normalize(const Norm& norm, float* row, size_t count) {
    kernels.normalize(row, static_cast<int>(count), config.norm_eps, row);
    for (size_t i = 0; i < count; ++i) row[i] = row[i] * norm.weight[i] + norm.bias[i];
  }

  // ---- A block ----

  // Queries, keys and values of these rows; the last two into the memory of the block. Queries that nobody asks for,
  // those of most tokens of the last block, are left out where the columns allow it.
  void remember(size_t number, size_t image, size_t first, size_t rows) {
    const BlockConfig& b = config.blocks[number];
    Memory& memory = *session.memory_[number % 2];
    prepare(row_of(image, first), config.width, config.width, rows, true, Phase::kNorm);
    const size_t inner = b.heads * b.head_width;
    const PackedLinear& qkv = model.blocks[number].qkv;
    const bool asked = number + 1 < config.blocks.size() || first < config.tokens_read();
    const size_t skipped = asked || inner % kPanel != 0 ? 0 : inner;
    apply(columns_from(qkv.view(), skipped), rows, Write::kStore, Activation::kNone, wide.data() + skipped, stride,
          Phase::kQkv);
    enter(Phase::kQuantize);
    for (size_t head = 0; head < b.heads; ++head) {
      const float* const query = wide.data() + head * b.head_width;
      if (int8) {
        remember_bytes(memory, b, image, first, rows, head, query, query + inner, query + 2 * inner);
      } else {
        remember_floats(memory, b, image, first, rows, head, query, query + inner, query + 2 * inner);
      }
    }
  }

  // The rows of one head, `stride` apart.
  void remember_bytes(Memory& memory, const BlockConfig& b, size_t image, size_t first, size_t rows, size_t head,
                      const float* query, const float* key, const float* value) {
    const int width = static_cast<int>(b.head_width);
    const int all = static_cast<int>(tokens);
    const int from = static_cast<int>(first);
    const int count = static_cast<int>(rows);
    const size_t place = memory.place(image, head);
    const size_t row = image * tokens + first;
    kernels.put_queries(query, stride, count, width,
                        session.queries_.data() + row * session.query_stride_ + head * round_up(b.head_width, kDepth),
                        session.query_stride_, &session.query_scale_[head * session.rows_ + row]);
    kernels.put_keys(key, stride, count, width, all, from, memory.key_bytes.data() + place * memory.key_size,
                     memory.key_start.data() + place * memory.padded_tokens, memory.key_scale(place));
    kernels.put_values(value, stride, count, width, all, from, memory.value_bytes.data() + place * memory.value_size,
                       memory.value_scale(place));
  }

  void remember_floats(Memory& memory, const BlockConfig& b, size_t image, size_t first, size_t rows, size_t head,
                       const float* query, const float* key, const float* value) {
    const int width = static_cast<int>(b.head_width);
    const int all = static_cast<int>(tokens);
    const size_t place = memory.place(image, head);
    for (size_t r = 0; r < rows; ++r) {
      const int at = static_cast<int>(first + r);
      std::memcpy(
          session.query_scale_.data() + (image * tokens + first + r) * session.query_stride_ + head * b.head_width,
          query + r * stride, b.head_width * sizeof(float));
      kernels.put_float_column(key + r * stride, width, all, at, memory.key_floats.data() + place * memory.key_size);
      kernels.put_float_row(value + r * stride, all, width, at, memory.value_floats.data() + place * memory.value_size);
    }
  }

  // Attention and MLP of these rows.
  void transform(size_t number, size_t image, size_t first, size_t rows) {
    const Block& block = model.blocks[number];
    const BlockConfig& b = config.blocks[number];
    float* const x = row_of(image, first);
    const size_t inner = b.heads * b.head_width;
    const size_t inner_stride = round_up(inner, kPanel);
    enter(Phase::kAttention);
    for (size_t head = 0; head < b.heads; ++head) attend(number, image, first, rows, head, inner_stride);
    prepare(narrow.data(), inner_stride, inner, rows, false, Phase::kQuantize);
    apply(block.projection, rows, Write::kAdd, Activation::kNone, x, config.width, Phase::kProjection);
    prepare(x, config.width, config.width, rows, true, Phase::kNorm);
    apply(block.up, rows, Write::kStore, config.activation, wide.data(), stride, Phase::kUp);
    prepare(wide.data(), stride, b.mlp_width, rows, false, Phase::kQuantize);
    apply(block.down, rows, Write::kAdd, Activation::kNone, x, config.width, Phase::kDown);
  }

  void attend(size_t number, size_t image, size_t first, size_t rows, size_t head, size_t out_stride) {
    const BlockConfig& b = config.blocks[number];
    Memory& memory = *session.memory_[number % 2];
    const size_t place = memory.place(image, head);
    const size_t row = image * tokens + first;
    const int count = static_cast<int>(tokens);
    const int width = static_cast<int>(b.head_width);
    float* const out = narrow.data() + head * b.head_width;
    if (!int8) {
      const FloatHead found{count, width, memory.key_floats.data() + place * memory.key_size,
                            memory.value_floats.data() + place * memory.value_size};
      kernels.float_attention(found, session.query_scale_.data() + row * session.query_stride_ + head * b.head_width,
                              session.query_stride_, static_cast<int>(rows), out, out_stride, scratch.data(),
                              clock_of(Phase::kSoftmax));
      count_rest();
      return;
    }
    const Head found{count,
                     width,
                     memory.key_bytes.data() + place * memory.key_size,
                     memory.key_start.data() + place * memory.padded_tokens,
                     memory.key_scale(place),
                     memory.value_bytes.data() + place * memory.value_size,
                     memory.value_scale(place)};
    const Queries queries{session.queries_.data() + row * session.query_stride_ + head * round_up(b.head_width, kDepth),
                          session.query_stride_, session.query_scale_.data() + head * session.rows_ + row};
    kernels.attention(found, queries, static_cast<int>(rows), out, out_stride, scratch.data(),
                      clock_of(Phase::kSoftmax));
    count_rest();
  }

  // ---- Head ----

  void answer(size_t image, float* logits) {
    enter(Phase::kHead);
    const size_t width = config.width;
    const size_t read = config.tokens_read();
    if (model.final_norm) {
      for (size_t token = 0; token < read; ++token) normalize(*model.final_norm, row_of(image, token), width);
    }
    if (config.pool == Pool::kToken) {
      classify(row_of(image, 0), model.head, logits);
      if (config.distilled) {
        float* const other = second.data();
        classify(row_of(image, 1), *model.distillation_head, other);
        for (size_t i = 0; i < config.classes; ++i) logits[i] = (logits[i] + other[i]) / 2;
      }
      return;
    }
    float* const pooled = features.data();
    float* const mean = config.pool == Pool::kTokenAndMean ? pooled + width : pooled;
    if (config.pool == Pool::kTokenAndMean) std::memcpy(pooled, row_of(image, 0), width * sizeof(float));
    std::fill(mean, mean + width, 0.0f);
    for (size_t token = config.prefix_tokens; token < tokens; ++token) {
      const float* const row = row_of(image, token);
      for (size_t i = 0; i < width; ++i) mean[i] += row[i];
    }
    for (size_t i = 0; i < width; ++i) mean[i] /= static_cast<float>(config.patches());
    classify(pooled, model.head, logits);
  }

  void classify(float* row, const PackedLinear& head, float* logits) {
    size_t count = config.pooled();
    if (model.pool_norm) normalize(*model.pool_norm, row, count);
    if (model.pre_logits) {
      prepare(row, 0, count, 1, false, Phase::kHead);
      apply(*model.pre_logits, 1, Write::kStore, Activation::kNone, wide.data(), stride, Phase::kHead);
      count = config.pre_logits;
      for (size_t i = 0; i < count; ++i) wide[i] = std::tanh(wide[i]);
      row = wide.data();
    }
    prepare(row, 0, count, 1, false, Phase::kHead);
    apply(head, 1, Write::kStore, Activation::kNone, logits, config.classes, Phase::kHead);
  }

  // ---- Everything ----

  Session& session;
  const Model& model;
  const Config& config;
  const Kernels& kernels;
  const bool int8;
  const size_t tokens;
  const size_t most_rows;
  const size_t stride;  // of rows in `wide`, `bytes` and `inputs`
  Buffer<float> wide;
  Buffer<float> narrow;
  Buffer<uint8_t> bytes;
  Buffer<float> scale;
  Buffer<float> low;
  Buffer<uint8_t> scratch;
  Buffer<float> inputs;    // of a linear in fp32; its output goes elsewhere
  Buffer<float> features;  // pooled, where they are not a token's own row
  Buffer<float> second;    // the distillation head's logits
  Phase phase = Phase::kWait;
  uint64_t since = 0;
  uint64_t rest = 0;
  Phase rest_of = Phase::kWait;
  std::array<uint64_t, kPhases> spent{};  // ticks
};

// ---- The session ------------------------------------------------------------------------------------------------

Session::Session(std::shared_ptr<const Model> model, int threads) : model_(std::move(model)), threads_(threads) {
  for (int i = 0; i < threads; ++i) workers_.push_back(std::make_unique<Worker>(*this));
}

Session::~Session() = default;

void Session::run(const float* images, size_t batch, float* logits) { answer({images, nullptr}, batch, logits); }

void Session::run_rgb(const uint8_t* pixels, size_t batch, float* logits) { answer({nullptr, pixels}, batch, logits); }

void Session::answer(const Source& images, size_t batch, float* logits) {
  if (batch == 0) return;
  const std::lock_guard<std::mutex> alone(running_);
  reserve(batch);
  threads_.run([&](int thread) { work(images, batch, logits, thread); });
}

void Session::reserve(size_t batch) {
  if (batch <= batch_) return;
  const Config& c = model_->config;
  require(batch <= kMostBatch, "the batch is larger than 65536 images");
  batch_ = 0;
  rows_ = batch * c.tokens();
  query_stride_ = round_up(most_inner(c), 64);
  tokens_ = Buffer<float>(rows_ * c.width);
  if (c.arithmetic == Arithmetic::kInt8) {
    queries_ = Buffer<uint8_t>(rows_ * query_stride_);
    query_scale_ = Buffer<float>(rows_ * most_heads(c));
  } else {
    query_scale_ = Buffer<float>(rows_ * query_stride_);
  }
  for (auto& memory : memory_) memory = std::make_shared<Memory>(*model_, batch);
  batch_ = batch;
}

void Session::work(const Source& images, size_t batch, float* logits, int thread) {
  Worker& worker = *workers_[static_cast<size_t>(thread)];
  const Config& c = model_->config;
  const size_t tokens = c.tokens();
  const int threads = threads_.count();
  const size_t begin = share(batch * tokens, thread, threads);
  const size_t end = share(batch * tokens, thread + 1, threads);
  // Calls use(image, first token, rows) for chunks of this thread's rows, among the first `read` tokens of each image.
  const auto each_chunk = [&](size_t read, auto use) {
    for (size_t at = begin; at < end;) {
      const size_t image = at / tokens;
      const size_t image_end = std::min(end, (image + 1) * tokens);
      const size_t last = std::min(image_end, image * tokens + read);
      const size_t rows = last > at ? last - at : 0;
      const size_t chunks = (rows + worker.most_rows - 1) / worker.most_rows;
      for (size_t chunk = 0; chunk < chunks; ++chunk) {
        const size_t from = at + rows * chunk / chunks;
        const size_t to = at + rows * (chunk + 1) / chunks;
        use(image, from - image * tokens, to - from);
      }
      at = image_end;
    }
  };
  worker.phase = Phase::kWait;
  worker.since = ticks();
  each_chunk(tokens, [&](size_t image, size_t first, size_t rows) {
    worker.embed(images, image, first, rows);
    worker.remember(0, image, first, rows);
  });
  // What the head reads of the last block: of the other tokens only keys and values matter there.
  const size_t needed = c.tokens_read();
  for (size_t number = 0; number < c.blocks.size(); ++number) {
    const bool last = number + 1 == c.blocks.size();
    worker.enter(Phase::kWait);
    threads_.barrier().wait();
    each_chunk(last ? needed : tokens, [&](size_t image, size_t first, size_t rows) {
      worker.transform(number, image, first, rows);
      if (!last) worker.remember(number + 1, image, first, rows);
    });
  }
  worker.enter(Phase::kWait);
  threads_.barrier().wait();
  const size_t from = share(batch, thread, threads);
  const size_t to = share(batch, thread + 1, threads);
  for (size_t image = from; image < to; ++image) worker.answer(image, logits + image * c.classes);
  worker.enter(Phase::kWait);
}

void Session::profile(bool on) {
  const std::lock_guard<std::mutex> alone(running_);
  profiled_ = on;
  profiled_since_ = Clock::now();
  ticks_since_ = ticks();
  for (auto& worker : workers_) worker->spent = {};
}

std::array<double, kPhases> Session::milliseconds() const {
  const std::lock_guard<std::mutex> alone(running_);
  const double passed_ms = std::chrono::duration<double, std::milli>(Clock::now() - profiled_since_).count();
  const double passed = static_cast<double>(ticks() - ticks_since_);
  const double ms = passed > 0 ? passed_ms / passed : 0.0;
  std::array<double, kPhases> total{};
  for (const auto& worker : workers_) {
    for (size_t i = 0; i < kPhases; ++i) total[i] += ms * static_cast<double>(worker->spent[i]);
  }
  return total;
}

}  // namespace vitlet
