#include "worker.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace vitlet {

namespace {

// Activations of so many bytes between the two linears of an MLP stay in a core's own cache; fewer rows than the least
// would have the weights read too often.
constexpr size_t kChunkBytes = 192 * 1024;
constexpr size_t kMostChunkRows = 48;
constexpr size_t kLeastChunkRows = 33;  // a sixth of 197 tokens, a third of one thread's of two

size_t chunk_rows(const Config& c) {
  return std::clamp(kChunkBytes / (c.widest() * sizeof(float)), kLeastChunkRows, kMostChunkRows);
}

// The columns of `layer` from `first` on, a multiple of kPanel.
Linear columns_from(Linear layer, size_t first, const Kernels& kernels) {
  if (first == 0) return layer;
  const int skipped = static_cast<int>(first);
  if (layer.bytes != nullptr) {
    layer.bytes += kernels.packed_bytes(layer.inputs, skipped);
    layer.start += first;
    layer.scale += first;
    layer.sum += first;
  } else {
    layer.floats += kernels.packed_floats(layer.inputs, skipped);
  }
  layer.bias += first;
  layer.outputs -= skipped;
  return layer;
}

}  // namespace

Worker::Worker(const Model& model, Workspace& shared)
    : model_(model),
      config_(model.config),
      kernels_(*model.kernels),
      shared_(shared),
      int8_(config_.arithmetic == Arithmetic::kInt8),
      tokens_(config_.tokens()),
      most_rows_(chunk_rows(config_)),
      stride_(config_.widest()),
      mixed_stride_(round_up(config_.most_inner(), kPanel)),
      wide_(most_rows_ * stride_),
      mixed_(most_rows_ * mixed_stride_),
      bytes_(int8_ ? most_rows_ * stride_ : 0),
      scale_(most_rows_),
      low_(most_rows_),
      inputs_(int8_ ? 0 : most_rows_ * stride_),
      scratch_(round_up(kernels_.attention_scratch(static_cast<int>(tokens_)), 64)),
      pooled_(config_.pool == Pool::kToken ? 0 : round_up(config_.pooled(), kPanel)),
      features_(config_.pre_logits),
      two_rows_(int8_ ? 2 * std::max(config_.classes, config_.pre_logits) : 0),
      second_(config_.distilled ? config_.classes : 0) {}

// ---- Linears: rows of floats through the arithmetic of the model --------------------------------------------------

// `rows` of `x` as input of a linear: as they are, or normalized first.
void Worker::prepare(const float* x, size_t x_stride, size_t count, size_t rows, bool normalized, Phase where) {
  clock.enter(where);
  const int n = static_cast<int>(count);
  for (size_t r = 0; r < rows; ++r) {
    const float* const row = x + r * x_stride;
    if (!int8_) {
      float* const to = inputs_.data() + r * stride_;
      if (normalized) {
        kernels_.normalize(row, n, config_.norm_eps, to);
      } else {
        std::memcpy(to, row, count * sizeof(float));
      }
    } else if (normalized) {
      kernels_.normalize_quantize(row, n, config_.norm_eps, bytes_.data() + r * stride_, &scale_[r], &low_[r]);
    } else {
      kernels_.quantize(row, n, row[0], row[0], bytes_.data() + r * stride_, &scale_[r], &low_[r]);
    }
  }
}

void Worker::apply(const Linear& layer, size_t rows, Write write, Activation activation, float* out, size_t out_stride,
                   Phase where) {
  clock.enter(where);
  uint64_t* const rest = clock.rest();
  const int count = static_cast<int>(rows);
  if (int8_) {
    const ByteRows a{bytes_.data(), stride_, scale_.data(), low_.data()};
    kernels_.linear(layer, a, count, write, activation, out, out_stride, rest);
  } else {
    kernels_.float_linear(layer, inputs_.data(), stride_, count, write, activation, out, out_stride, rest);
  }
  clock.count_rest(where == Phase::kUp ? Phase::kActivation : Phase::kEpilogue);
}

// ---- Embedding ----------------------------------------------------------------------------------------------------

// Normalized values back on the scale 0..255.
void Worker::gather_floats(const float* from, size_t count, float factor, float offset, float* to) {
  // In int8, whole pixels come back whole: 1.5 * 2^13 leaves no bits below 2^-10.
  const float snap = int8_ ? 12288.0f : 0.0f;
  constexpr uint32_t kExponent = 0x7f800000;  // all ones in what is infinite or no number
  uint32_t strange = 0;
  for (size_t x = 0; x < count; ++x) {
    uint32_t bits;
    std::memcpy(&bits, from + x, sizeof(bits));
    strange |= (bits & kExponent) == kExponent ? 1u : 0u;
    to[x] = (from[x] * factor + offset + snap) - snap;
  }
  not_finite |= strange != 0;
}

// The pixels of a patch, channel by channel as a convolution's weights have them, on the scale 0..255.
void Worker::gather(const Source& images, size_t image, size_t patch, float* to) {
  const size_t height = config_.image_height;
  const size_t width = config_.image_width;
  const size_t p = config_.patch;
  const size_t top = patch / config_.columns() * p;
  const size_t left = patch % config_.columns() * p;
  for (size_t channel = 0; channel < 3; ++channel) {
    const float factor = 255.0f * config_.deviation[channel];
    const float offset = 255.0f * config_.mean[channel];
    for (size_t y = 0; y < p; ++y) {
      if (images.pixels != nullptr) {
        const uint8_t* const from = images.pixels + ((image * height + top + y) * width + left) * 3 + channel;
        for (size_t x = 0; x < p; ++x) to[x] = from[3 * x];
      } else {
        const float* const from = images.normalized + ((image * 3 + channel) * height + top + y) * width + left;
        gather_floats(from, p, factor, offset, to);
      }
      to += p;
    }
  }
}

void Worker::embed(const Source& images, size_t image, size_t first, size_t rows) {
  clock.enter(Phase::kEmbed);
  const size_t width = config_.width;
  const size_t prefix = first < config_.prefix_tokens ? std::min(rows, config_.prefix_tokens - first) : 0;
  if (prefix > 0) {
    std::memcpy(row_of(image, first), model_.prefix.data() + first * width, prefix * width * sizeof(float));
  }
  const size_t patches = rows - prefix;
  if (patches > 0) {
    const size_t patch = first + prefix - config_.prefix_tokens;
    float* const out = row_of(image, first + prefix);
    const int count = static_cast<int>(config_.patch_inputs());
    for (size_t r = 0; r < patches; ++r) {
      float* const row = int8_ ? wide_.data() : inputs_.data() + r * stride_;
      gather(images, image, patch + r, row);
      if (int8_) {
        // Pixels of 8 bits are their own bytes: the range is never narrower than theirs.
        kernels_.quantize(row, count, 0.0f, 255.0f, bytes_.data() + r * stride_, &scale_[r], &low_[r]);
      }
    }
    std::memcpy(out, model_.position.data() + patch * width, patches * width * sizeof(float));
    apply(model_.embed.view(), patches, Write::kAdd, Activation::kNone, out, width, Phase::kEmbed);
  }
  if (model_.pre_norm) {
    for (size_t r = 0; r < rows; ++r) normalize(*model_.pre_norm, row_of(image, first + r), width);
  }
}

void Worker::normalize(const Norm& norm, float* row, size_t count) {
  kernels_.normalize(row, static_cast<int>(count), config_.norm_eps, row);
  for (size_t i = 0; i < count; ++i) row[i] = row[i] * norm.weight[i] + norm.bias[i];
}

// ---- A block ------------------------------------------------------------------------------------------------------

void Worker::remember(size_t number, size_t image, size_t first, size_t rows) {
  const BlockConfig& b = config_.blocks[number];
  prepare(row_of(image, first), config_.width, config_.width, rows, true, Phase::kNorm);
  const bool asked = number + 1 < config_.blocks.size() || first < config_.tokens_read();
  const size_t skipped = asked || b.inner() % kPanel != 0 ? 0 : b.inner();
  apply(columns_from(model_.blocks[number].qkv.view(), skipped, kernels_), rows, Write::kStore, Activation::kNone,
        wide_.data() + skipped, stride_, Phase::kQkv);
  clock.enter(Phase::kQuantize);
  for (size_t head = 0; head < b.heads; ++head) remember_head(number, image, first, rows, head);
}

void Worker::remember_head(size_t number, size_t image, size_t first, size_t rows, size_t head) {
  const BlockConfig& b = config_.blocks[number];
  KeyValues& memory = shared_.key_values[number % 2];
  const size_t place = memory.place(image, head);
  const int width = static_cast<int>(b.head_width);
  const int all = static_cast<int>(tokens_);
  const int from = static_cast<int>(first);
  const int count = static_cast<int>(rows);
  const size_t row = image * tokens_ + first;
  const float* const query = wide_.data() + head * b.head_width;
  const float* const key = query + b.inner();
  const float* const value = key + b.inner();
  if (int8_) {
    kernels_.put_queries(query, stride_, count, width, queries_of(row, head, b), shared_.query_stride,
                         &shared_.query_scale[head * shared_.rows + row]);
    kernels_.put_keys(key, stride_, count, width, all, from, memory.keys(place), memory.key_start(place),
                      memory.key_scale(place));
    kernels_.put_values(value, stride_, count, width, all, from, memory.values(place), memory.value_scale(place));
    return;
  }
  for (int r = 0; r < count; ++r) {
    const size_t at = static_cast<size_t>(r) * stride_;
    std::memcpy(float_queries_of(row + static_cast<size_t>(r), head, b), query + at, b.head_width * sizeof(float));
    kernels_.put_float_column(key + at, width, all, from + r, memory.float_keys(place));
    kernels_.put_float_row(value + at, all, width, from + r, memory.float_values(place));
  }
}

void Worker::transform(size_t number, size_t image, size_t first, size_t rows) {
  const Block& block = model_.blocks[number];
  const BlockConfig& b = config_.blocks[number];
  const size_t width = config_.width;
  float* const x = row_of(image, first);
  clock.enter(Phase::kAttention);
  for (size_t head = 0; head < b.heads; ++head) attend(number, image, first, rows, head);
  prepare(mixed_.data(), mixed_stride_, b.inner(), rows, false, Phase::kQuantize);
  apply(block.projection.view(), rows, Write::kAdd, Activation::kNone, x, width, Phase::kProjection);
  prepare(x, width, width, rows, true, Phase::kNorm);
  apply(block.up.view(), rows, Write::kStore, config_.activation, wide_.data(), stride_, Phase::kUp);
  prepare(wide_.data(), stride_, b.mlp_width, rows, false, Phase::kQuantize);
  apply(block.down.view(), rows, Write::kAdd, Activation::kNone, x, width, Phase::kDown);
}

void Worker::attend(size_t number, size_t image, size_t first, size_t rows, size_t head) {
  const BlockConfig& b = config_.blocks[number];
  KeyValues& memory = shared_.key_values[number % 2];
  const size_t place = memory.place(image, head);
  const size_t row = image * tokens_ + first;
  const int all = static_cast<int>(tokens_);
  const int width = static_cast<int>(b.head_width);
  const int count = static_cast<int>(rows);
  float* const out = mixed_.data() + head * b.head_width;
  uint64_t* const rest = clock.rest();
  if (int8_) {
    const Head found{all,
                     width,
                     memory.keys(place),
                     memory.key_start(place),
                     memory.key_scale(place),
                     memory.values(place),
                     memory.value_scale(place)};
    const Queries queries{queries_of(row, head, b), shared_.query_stride,
                          &shared_.query_scale[head * shared_.rows + row]};
    kernels_.attention(found, queries, count, out, mixed_stride_, scratch_.data(), rest);
  } else {
    const FloatHead found{all, width, memory.float_keys(place), memory.float_values(place)};
    kernels_.float_attention(found, float_queries_of(row, head, b), shared_.query_stride, count, out, mixed_stride_,
                             scratch_.data(), rest);
  }
  clock.count_rest(Phase::kSoftmax);
}

// ---- Head ---------------------------------------------------------------------------------------------------------

void Worker::answer(size_t image, float* logits) {
  clock.enter(Phase::kHead);
  const size_t width = config_.width;
  if (model_.final_norm) {
    for (size_t token = 0; token < config_.tokens_read(); ++token) {
      normalize(*model_.final_norm, row_of(image, token), width);
    }
  }
  if (config_.pool == Pool::kToken) {
    classify(row_of(image, 0), model_.head, logits);
    if (config_.distilled) {
      classify(row_of(image, 1), *model_.distillation_head, second_.data());
      for (size_t i = 0; i < config_.classes; ++i) logits[i] = (logits[i] + second_[i]) / 2;
    }
    return;
  }
  float* mean = pooled_.data();
  if (config_.pool == Pool::kTokenAndMean) {
    std::memcpy(mean, row_of(image, 0), width * sizeof(float));
    mean += width;
  }
  std::fill(mean, mean + width, 0.0f);
  for (size_t token = config_.prefix_tokens; token < tokens_; ++token) {
    const float* const row = row_of(image, token);
    for (size_t i = 0; i < width; ++i) mean[i] += row[i];
  }
  for (size_t i = 0; i < width; ++i) mean[i] /= static_cast<float>(config_.patches());
  classify(pooled_.data(), model_.head, logits);
}

void Worker::classify(float* row, const PackedLinear& head, float* logits) {
  size_t count = config_.pooled();
  if (model_.pool_norm) normalize(*model_.pool_norm, row, count);
  if (model_.pre_logits) {
    apply_to_one(row, count, model_.pre_logits->view(), features_.data());
    count = config_.pre_logits;
    row = features_.data();
    for (size_t i = 0; i < count; ++i) row[i] = std::tanh(row[i]);
  }
  apply_to_one(row, count, head.view(), logits);
}

// In int8 one row costs what reading the weights costs. A second one, of what rounding left of the first, is as good as
// free, and gives the inputs 16 bits.
void Worker::apply_to_one(const float* row, size_t count, const Linear& layer, float* out) {
  prepare(row, 0, count, 1, false, Phase::kHead);
  if (!int8_) {
    apply(layer, 1, Write::kStore, Activation::kNone, out, 0, Phase::kHead);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    wide_[i] = row[i] - (low_[0] + scale_[0] * static_cast<float>(bytes_[i]));
  }
  kernels_.quantize(wide_.data(), static_cast<int>(count), wide_[0], wide_[0], bytes_.data() + stride_, &scale_[1],
                    &low_[1]);
  const size_t outputs = static_cast<size_t>(layer.outputs);
  apply(layer, 2, Write::kStore, Activation::kNone, two_rows_.data(), outputs, Phase::kHead);
  for (size_t i = 0; i < outputs; ++i) {
    out[i] = two_rows_[i] + (two_rows_[outputs + i] - layer.bias[i]);
  }
}

}  // namespace vitlet
