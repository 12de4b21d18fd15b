// Every instruction set against loops in int32 and double precision, at sizes that fit no vector.
//
// Bounds on rounding: kEps is what one float operation is off by, relative to its result; a sum of n products in any
// order is off by at most n * kEps * (the sum of their magnitudes).
#include "kernels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "isa.h"
#include "tiny.h"

using vitlet::Activation;
using vitlet::kDepth;
using vitlet::Kernels;
using vitlet::kPanel;
using vitlet::round_up;
using vitlet::Write;

namespace {

constexpr double kEps = 1.0 / (1 << 24);
constexpr float kUntouched = -12345.0f;

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int whole(int low, int high) { return low + static_cast<int>(engine_() % static_cast<unsigned>(high - low + 1)); }
  float real(double low, double high) { return static_cast<float>(low + (high - low) * (engine_() / 4294967296.0)); }

 private:
  std::mt19937 engine_;
};

// Aligned to a cache line and not a byte longer than wanted, so that a sanitizer sees what is read behind it.
template <class Value>
class Memory {
 public:
  explicit Memory(size_t count) : count_(count) {
    void* found = nullptr;
    REQUIRE(posix_memalign(&found, 64, std::max<size_t>(count * sizeof(Value), 1)) == 0);
    data_.reset(static_cast<Value*>(found));
    std::fill(begin(), end(), Value{});
  }
  Value* data() { return data_.get(); }
  Value* begin() { return data(); }
  Value* end() { return data() + count_; }
  size_t size() const { return count_; }
  Value& operator[](size_t at) { return data_.get()[at]; }

 private:
  struct Free {
    void operator()(Value* memory) const { std::free(memory); }
  };
  size_t count_;
  std::unique_ptr<Value, Free> data_;
};

void each_set(const std::function<void(const Kernels&)>& use) {
  for (const Kernels* const kernels : vitlet::instruction_sets()) {
    CAPTURE(std::string(kernels->name));
    use(*kernels);
  }
}

// Many checks count as one: doctest is slow at millions.
struct Worst {
  double over = 0;  // the largest error, in units of its bound
  void add(double found, double wanted, double bound) {
    const double error = std::fabs(found - wanted);
    over = std::max(over, std::isnan(error) ? INFINITY : error == 0 ? 0 : error / bound);
  }
};

// ---- Linears ----

// What bytes and weights are: anything, or what would overflow int16 in a sum of two products.
enum class Kind { kRandom, kLargest, kSmallest, kAlternating, kCount };

int8_t weight_of(Kind kind, int at, Random& random) {
  switch (kind) {
    case Kind::kLargest:
      return 127;
    case Kind::kSmallest:
      return -127;
    case Kind::kAlternating:
      return at / 4 % 2 ? 127 : -128;
    default:
      return static_cast<int8_t>(random.whole(-128, 127));
  }
}

struct Layer {
  Layer(const Kernels& kernels, int inputs, int outputs, Kind kind, Random& random)
      : inputs(inputs),
        outputs(outputs),
        weights(static_cast<size_t>(inputs) * static_cast<size_t>(outputs)),
        packed(kernels.packed_bytes(inputs, outputs)),
        start(round_up(static_cast<size_t>(outputs), kPanel)),
        scale(start.size()),
        sum(start.size()),
        bias(start.size()) {
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = weight_of(kind, static_cast<int>(i), random);
    kernels.pack(weights.data(), inputs, outputs, packed.data(), start.data());
  }
  vitlet::Linear view() {
    return {inputs, outputs, packed.data(), nullptr, start.data(), scale.data(), sum.data(), bias.data()};
  }
  int32_t product(const uint8_t* row, int output) const {
    int32_t found = 0;
    for (int i = 0; i < inputs; ++i)
      found += row[i] * weights[static_cast<size_t>(output) * static_cast<size_t>(inputs) + static_cast<size_t>(i)];
    return found;
  }

  int inputs;
  int outputs;
  std::vector<int8_t> weights;
  Memory<int8_t> packed;
  Memory<int32_t> start;
  Memory<float> scale;
  Memory<float> sum;
  Memory<float> bias;
};

struct Bytes {
  // Behind each row stands what must not matter.
  Bytes(int rows, int count, Kind kind, Random& random)
      : stride(round_up(static_cast<size_t>(count), kDepth)),
        bytes(static_cast<size_t>(rows) * stride),
        scale(static_cast<size_t>(rows), 1.0f),
        low(static_cast<size_t>(rows), 0.0f) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(kind == Kind::kRandom ? random.whole(0, 255) : 255);
  }
  vitlet::ByteRows view() { return {bytes.data(), stride, scale.data(), low.data()}; }
  const uint8_t* row(int at) { return bytes.data() + static_cast<size_t>(at) * stride; }

  size_t stride;
  Memory<uint8_t> bytes;
  std::vector<float> scale;
  std::vector<float> low;
};

// Rows with untouchable values between them, and nothing behind the last.
struct Out {
  Out(int rows, int columns, float first)
      : columns(columns),
        stride(static_cast<size_t>(columns) + 3),
        values((static_cast<size_t>(rows) - 1) * stride + static_cast<size_t>(columns)) {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = i % stride < static_cast<size_t>(columns) ? first : kUntouched;
  }
  float at(int row, int column) { return values[static_cast<size_t>(row) * stride + static_cast<size_t>(column)]; }
  bool tidy() {
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % stride >= static_cast<size_t>(columns) && values[i] != kUntouched) return false;
    }
    return true;
  }

  int columns;
  size_t stride;
  Memory<float> values;
};

// All inputs and outputs from 1 to 200 with rows from 1 to 13, and some beyond where AVX2 begins a new block.
void each_size(const std::function<void(int rows, int inputs, int outputs, Random&)>& use) {
  Random random(5);
  for (int i = 1; i <= 200; i += tiny::test_step()) {
    use(1 + i % 13, i, random.whole(1, 200), random);
    use(1 + i * 5 % 13, random.whole(1, 200), i, random);
  }
  for (const int inputs : {255, 256, 257, 258, 511, 513, 769, 1030})
    use(random.whole(1, 13), inputs, random.whole(1, 70), random);
}

void check_exact_linear(const Kernels& kernels, int rows, int inputs, int outputs, Kind kind, Random& random) {
  Layer layer(kernels, inputs, outputs, kind, random);
  std::fill(layer.scale.begin(), layer.scale.begin() + outputs, 1.0f);
  std::fill(layer.sum.begin(), layer.sum.begin() + outputs, 3.0f);  // meets a low of 0
  Bytes a(rows, inputs, kind, random);
  for (const Write write : {Write::kStore, Write::kAdd}) {
    Out out(rows, outputs, 1.0f);
    kernels.linear(layer.view(), a.view(), rows, write, Activation::kNone, out.values.data(), out.stride, nullptr);
    bool same = out.tidy();
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < outputs; ++c) {
        const float wanted = static_cast<float>(layer.product(a.row(r), c)) + (write == Write::kAdd ? 1.0f : 0.0f);
        same = same && out.at(r, c) == wanted;
      }
    }
    CHECK_MESSAGE(same, rows << " rows, " << inputs << " -> " << outputs << ", kind " << static_cast<int>(kind));
  }
}

// ---- Attention ----

// What a row of floats becomes: whole numbers around zero, of which the largest is 127.
struct Whole {
  Whole(const float* x, int count) {
    float most = 0;
    for (int i = 0; i < count; ++i) most = std::max(most, std::fabs(x[i]));
    scale = most > 0 ? most / 127.0f : 1.0f;
    const float factor = most > 0 ? 127.0f / most : 0.0f;
    for (int i = 0; i < count; ++i) values.push_back(static_cast<int>(std::nearbyint(x[i] * factor)));
  }
  float scale;
  std::vector<int> values;
};

// The keys and values of one head, put there some tokens at a time.
struct Heads {
  Heads(const Kernels& k, int tokens, int width, const std::vector<float>& key, const std::vector<float>& value,
        bool dirty, Random& random)
      : tokens(tokens),
        width(width),
        padded(round_up(static_cast<size_t>(tokens), kPanel)),
        keys(k.packed_bytes(width, tokens)),
        values(k.packed_bytes(tokens, width)),
        key_start(padded),
        key_scale(padded),
        value_scale(padded) {
    if (dirty) {
      // A session's memory for keys and values keeps what blocks of other widths left in it.
      for (int8_t& byte : keys) byte = static_cast<int8_t>(random.whole(-128, 127));
      for (int8_t& byte : values) byte = static_cast<int8_t>(random.whole(-128, 127));
    }
    const size_t stride = key.size() / static_cast<size_t>(tokens);
    for (int first = 0; first < tokens;) {
      const int count = std::min(random.whole(1, 40), tokens - first);
      const size_t at = static_cast<size_t>(first) * stride;
      k.put_keys(key.data() + at, stride, count, width, tokens, first, keys.data(), key_start.data(), key_scale.data());
      k.put_values(value.data() + at, stride, count, width, tokens, first, values.data(), value_scale.data());
      first += count;
    }
  }
  vitlet::Head view() {
    return {tokens, width, keys.data(), key_start.data(), key_scale.data(), values.data(), value_scale.data()};
  }

  int tokens;
  int width;
  size_t padded;
  Memory<int8_t> keys;
  Memory<int8_t> values;
  Memory<int32_t> key_start;
  Memory<float> key_scale;
  Memory<float> value_scale;
};

struct Asked {
  Asked(const Kernels& k, const std::vector<float>& rows, int count, int width)
      : stride(round_up(static_cast<size_t>(width), kDepth)),
        bytes(static_cast<size_t>(count) * stride),
        scale(static_cast<size_t>(count)) {
    std::fill(bytes.begin(), bytes.end(), uint8_t{0xAB});
    k.put_queries(rows.data(), rows.size() / static_cast<size_t>(count), count, width, bytes.data(), stride,
                  scale.data());
  }
  vitlet::Queries view() { return {bytes.data(), stride, scale.data()}; }

  size_t stride;
  Memory<uint8_t> bytes;
  Memory<float> scale;
};

std::vector<float> some_row(int count, Random& random, double low = -3, double high = 5) {
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = random.real(low, high);
  return x;
}

// One row of softmax(scores) @ values in double precision, and how far from it a kernel may be.
struct Mixed {
  std::vector<double> out;
  std::vector<double> bound;
};

// `off`: the error of each score. `scale`: of each value. With `bytes`, probabilities are rounded to 255 steps.
Mixed mixed(const std::vector<double>& scores, const std::vector<double>& off, int width, bool bytes,
            const std::function<double(size_t, int)>& value, const std::function<double(size_t)>& scale) {
  const size_t tokens = scores.size();
  const double top = *std::max_element(scores.begin(), scores.end());
  const double most_off = *std::max_element(off.begin(), off.end());
  double total = 0;
  double peak = 0;
  double relative = 0;
  for (size_t j = 0; j < tokens; ++j) {
    const double p = std::exp2(scores[j] - top);
    total += p;
    peak = std::max(peak, p * scale(j));
    // An error of the exponent, and of its difference from the top (up to where 2^x is nothing at all), and what the
    // polynomial is off by (float_parts.h).
    relative = std::max(
        relative, std::log(2.0) * (2 * most_off + kEps * std::min(top - scores[j], 126.0)) + (bytes ? 7.6e-5 : 3e-7));
  }
  const double sums = 3 * relative + 2 * static_cast<double>(tokens + 8) * kEps;
  Mixed found{std::vector<double>(static_cast<size_t>(width)), std::vector<double>(static_cast<size_t>(width))};
  for (int i = 0; i < width; ++i) {
    double sum = 0, magnitude = 0, all = 0;
    for (size_t j = 0; j < tokens; ++j) {
      const double p = std::exp2(scores[j] - top) * scale(j);
      sum += p * value(j, i);
      magnitude += p * std::fabs(value(j, i));
      all += std::fabs(value(j, i));
    }
    found.out[static_cast<size_t>(i)] = sum / total;
    found.bound[static_cast<size_t>(i)] =
        magnitude / total * sums + (bytes ? 0.501 * all * peak / (255 * total) : 0) + 1e-30;
  }
  return found;
}

void each_head(const std::function<void(int rows, int tokens, int width, Random&)>& use) {
  Random random(6);
  for (int tokens = 1; tokens <= 260; tokens += tiny::test_step() * (tokens < 70 ? 1 : 7))
    use(1 + tokens % 13, tokens, random.whole(1, 100), random);
  for (int width = 1; width <= 100; width += tiny::test_step())
    use(random.whole(1, 13), random.whole(1, 40), width, random);
  use(13, 260, 100, random);
  use(5, 197, 64, random);
  use(2, 9, 1024, random);
}

std::vector<float> attended(const Kernels& k, int rows, int tokens, int width, bool dirty, unsigned seed) {
  Random random(seed);
  const size_t stride = static_cast<size_t>(width) + 3;
  const std::vector<float> key = some_row(tokens * static_cast<int>(stride), random, -1, 1);
  std::vector<float> value = some_row(tokens * static_cast<int>(stride), random);
  for (size_t i = 0; i < value.size(); ++i) value[i] *= i / stride % 3 ? 1.0f : 0.01f;  // scales that differ
  std::vector<float> query = some_row(rows * static_cast<int>(stride), random, -6, 6);
  for (float& v : query) v /= std::sqrt(static_cast<float>(width));
  Heads head(k, tokens, width, key, value, dirty, random);
  Asked queries(k, query, rows, width);
  Memory<uint8_t> scratch(k.attention_scratch(tokens));
  std::fill(scratch.begin(), scratch.end(), uint8_t{0xAB});
  Out out(rows, width, 0.0f);
  k.attention(head.view(), queries.view(), rows, out.values.data(), out.stride, scratch.data(), nullptr);
  CHECK(out.tidy());
  Worst worst;
  std::vector<Whole> whole_keys, whole_values;
  for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
    whole_keys.emplace_back(key.data() + t * stride, width);
    whole_values.emplace_back(value.data() + t * stride, width);
  }
  std::vector<float> found;
  for (int r = 0; r < rows; ++r) {
    std::vector<double> scores, off;
    for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
      int32_t product = 0;
      for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
        product += (queries.bytes[static_cast<size_t>(r) * queries.stride + i] - 128) * whole_keys[t].values[i];
      }
      scores.push_back(static_cast<double>(product) * queries.scale[static_cast<size_t>(r)] * whole_keys[t].scale);
      off.push_back(2 * kEps * std::fabs(scores.back()));
    }
    const Mixed wanted = mixed(
        scores, off, width, true,
        [&](size_t j, int i) { return static_cast<double>(whole_values[j].values[static_cast<size_t>(i)]); },
        [&](size_t j) { return static_cast<double>(whole_values[j].scale); });
    for (int i = 0; i < width; ++i) {
      worst.add(out.at(r, i), wanted.out[static_cast<size_t>(i)], wanted.bound[static_cast<size_t>(i)]);
      found.push_back(out.at(r, i));
    }
  }
  CHECK_MESSAGE(worst.over <= 1, rows << " rows, " << tokens << " tokens, width " << width << ": " << worst.over);
  return found;
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("linear: int32 products are exact") {
    each_set([](const Kernels& kernels) {
      each_size([&](int rows, int inputs, int outputs, Random& random) {
        check_exact_linear(kernels, rows, inputs, outputs, Kind::kRandom, random);
      });
      Random random(8);
      for (int kind = 1; kind < static_cast<int>(Kind::kCount); ++kind) {
        for (const int inputs : {1, 2, 3, 4, 5, 15, 16, 17, 64, 199, 768, 3072}) {
          check_exact_linear(kernels, random.whole(1, 13), inputs, random.whole(1, 90), static_cast<Kind>(kind),
                             random);
        }
      }
      // As large as int32 lets a sum be.
      check_exact_linear(kernels, 2, 65536, 3, Kind::kLargest, random);
      check_exact_linear(kernels, 1, 65536, 2, Kind::kSmallest, random);
    });
  }

  TEST_CASE("linear: scales, offsets, bias") {
    each_set([](const Kernels& kernels) {
      each_size([&](int rows, int inputs, int outputs, Random& random) {
        Layer layer(kernels, inputs, outputs, Kind::kRandom, random);
        for (int c = 0; c < outputs; ++c) {
          const auto column = static_cast<size_t>(c);
          layer.scale[column] = random.real(0.001, 0.01);
          layer.sum[column] = random.real(-5, 5);
          layer.bias[column] = random.real(-2, 2);
        }
        Bytes a(rows, inputs, Kind::kRandom, random);
        for (float& scale : a.scale) scale = random.real(0.001, 0.1);
        for (float& low : a.low) low = random.real(-5, 1);
        Out out(rows, outputs, 0.0f);
        kernels.linear(layer.view(), a.view(), rows, Write::kStore, Activation::kNone, out.values.data(), out.stride,
                       nullptr);
        Worst worst;
        for (int r = 0; r < rows; ++r) {
          for (int c = 0; c < outputs; ++c) {
            const auto row = static_cast<size_t>(r), column = static_cast<size_t>(c);
            const double product = static_cast<double>(layer.product(a.row(r), c)) * a.scale[row] * layer.scale[column];
            const double shift = static_cast<double>(a.low[row]) * layer.sum[column];
            // Four roundings, none of more than all parts together.
            const double bound = 4 * kEps * (std::fabs(product) + std::fabs(shift) + std::fabs(layer.bias[column]));
            worst.add(out.at(r, c), product + shift + layer.bias[column], bound);
          }
        }
        CHECK(out.tidy());
        CHECK_MESSAGE(worst.over <= 1, rows << " rows, " << inputs << " -> " << outputs << ": " << worst.over);
      });
    });
  }

  TEST_CASE("float linear") {
    each_set([](const Kernels& kernels) {
      each_size([&](int rows, int inputs, int outputs, Random& random) {
        const std::vector<float> weights = some_row(inputs * outputs, random, -1, 1);
        Memory<float> packed(kernels.packed_floats(inputs, outputs));
        Memory<float> bias(round_up(static_cast<size_t>(outputs), kPanel));
        for (int c = 0; c < outputs; ++c) bias[static_cast<size_t>(c)] = random.real(-1, 1);
        kernels.pack_floats(weights.data(), inputs, outputs, packed.data());
        const vitlet::Linear layer{inputs, outputs, nullptr, packed.data(), nullptr, nullptr, nullptr, bias.data()};
        const size_t stride = static_cast<size_t>(inputs) + 2;
        Memory<float> a((static_cast<size_t>(rows) - 1) * stride + static_cast<size_t>(inputs));
        for (float& v : a) v = random.real(-2, 2);
        for (const Write write : {Write::kStore, Write::kAdd}) {
          Out out(rows, outputs, 0.75f);
          kernels.float_linear(layer, a.data(), stride, rows, write, Activation::kNone, out.values.data(), out.stride,
                               nullptr);
          Worst worst;
          for (int r = 0; r < rows; ++r) {
            for (int c = 0; c < outputs; ++c) {
              const double before = write == Write::kAdd ? 0.75 : 0.0;
              double wanted = bias[static_cast<size_t>(c)] + before;
              double magnitude = std::fabs(bias[static_cast<size_t>(c)]) + before;
              for (int i = 0; i < inputs; ++i) {
                const double part =
                    static_cast<double>(a[static_cast<size_t>(r) * stride + static_cast<size_t>(i)]) *
                    weights[static_cast<size_t>(c) * static_cast<size_t>(inputs) + static_cast<size_t>(i)];
                wanted += part;
                magnitude += std::fabs(part);
              }
              // Products that are rounded before they are added count as two.
              worst.add(out.at(r, c), wanted, (inputs + 4) * kEps * magnitude);
            }
          }
          CHECK(out.tidy());
          CHECK_MESSAGE(worst.over <= 1, rows << " rows, " << inputs << " -> " << outputs << ": " << worst.over);
        }
      });
    });
  }

  TEST_CASE("weights packed whole, by columns and by rows are the same") {
    each_set([](const Kernels& k) {
      each_size([&](int, int inputs, int outputs, Random& random) {
        const size_t rows = static_cast<size_t>(inputs), columns = static_cast<size_t>(outputs);
        const std::vector<float> weights = some_row(inputs * outputs, random);
        std::vector<float> turned(weights.size());
        for (size_t i = 0; i < weights.size(); ++i) turned[i % rows * columns + i / rows] = weights[i];
        Memory<float> whole(k.packed_floats(inputs, outputs)), by_column(whole.size()), by_row(whole.size());
        std::fill(whole.begin(), whole.end(), 1.0f);
        k.pack_floats(weights.data(), inputs, outputs, whole.data());
        for (size_t c = 0; c < columns; ++c) {
          k.put_float_column(weights.data() + c * rows, inputs, outputs, static_cast<int>(c), by_column.data());
        }
        for (size_t i = 0; i < rows; ++i) {
          k.put_float_row(turned.data() + i * columns, inputs, outputs, static_cast<int>(i), by_row.data());
        }
        CHECK(std::equal(whole.begin(), whole.end(), by_column.begin()));
        CHECK(std::equal(whole.begin(), whole.end(), by_row.begin()));
      });
    });
  }

  TEST_CASE("attention, whatever stands beside keys and values; the same bits from every instruction set") {
    each_head([](int rows, int tokens, int width, Random& random) {
      const auto seed = static_cast<unsigned>(random.whole(0, 1 << 30));
      const std::vector<float> wanted = attended(*vitlet::instruction_sets().back(), rows, tokens, width, false, seed);
      each_set([&](const Kernels& k) {
        CHECK(attended(k, rows, tokens, width, false, seed) == wanted);
        CHECK(attended(k, rows, tokens, width, true, seed) == wanted);
      });
    });
  }

  TEST_CASE("attention: all products as large as they can be") {
    each_set([](const Kernels& k) {
      Random random(9);
      for (const float sign : {1.0f, -1.0f}) {
        for (const int tokens : {1, 3, 197, 4000}) {
          constexpr int kWidth = 100, kRows = 7;
          const std::vector<float> all(static_cast<size_t>(tokens * kWidth), sign);
          Heads head(k, tokens, kWidth, all, all, false, random);
          Asked queries(k, std::vector<float>(kRows * kWidth, 1e-3f), kRows, kWidth);
          Memory<uint8_t> scratch(k.attention_scratch(tokens));
          Out out(kRows, kWidth, 0.0f);
          k.attention(head.view(), queries.view(), kRows, out.values.data(), out.stride, scratch.data(), nullptr);
          Worst worst;
          for (int r = 0; r < kRows; ++r) {
            // Equal probabilities are bytes of 255: nothing is lost but by roundings, those of the sum of them first.
            for (int i = 0; i < kWidth; ++i) worst.add(out.at(r, i), sign, (tokens / 16.0 + 16) * kEps);
          }
          CHECK_MESSAGE(worst.over <= 1, tokens << " tokens: " << worst.over);
        }
      }
    });
  }

  TEST_CASE("attention: one token far above the others, and values of very different scales") {
    each_set([](const Kernels& k) {
      Random random(10);
      constexpr int kTokens = 50, kWidth = 20, kRows = 4;
      std::vector<float> key(kTokens * kWidth, 0.0f), value(kTokens * kWidth);
      for (size_t i = 0; i < value.size(); ++i) {
        const bool chosen = i / kWidth == 31;
        if (chosen) key[i] = 20;
        value[i] = random.real(-1, 1) * (chosen ? 1e-10f : 1e10f);
      }
      Heads head(k, kTokens, kWidth, key, value, false, random);
      Asked queries(k, std::vector<float>(kRows * kWidth, 1.0f), kRows, kWidth);
      Memory<uint8_t> scratch(k.attention_scratch(kTokens));
      Out out(kRows, kWidth, 0.0f);
      k.attention(head.view(), queries.view(), kRows, out.values.data(), out.stride, scratch.data(), nullptr);
      const Whole wanted(value.data() + 31 * kWidth, kWidth);
      for (int i = 0; i < kWidth; ++i) {
        CHECK(std::fabs(out.at(3, i) - static_cast<double>(wanted.scale) * wanted.values[static_cast<size_t>(i)]) <
              1e-15);
      }
    });
  }

  TEST_CASE("queries, keys and values: the nearest whole numbers, where a linear's weights would lie") {
    each_set([](const Kernels& k) {
      each_head([&](int rows, int tokens, int width, Random& random) {
        const std::vector<float> key = some_row(tokens * width, random), value = some_row(tokens * width, random);
        const std::vector<float> query = some_row(rows * width, random);
        Heads head(k, tokens, width, key, value, false, random);
        Asked queries(k, query, rows, width);
        std::vector<int8_t> whole_keys, whole_values(value.size());
        bool same = true;
        bool signed_products = true;
        for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
          const size_t at = t * static_cast<size_t>(width);
          const Whole one(key.data() + at, width), other(value.data() + at, width);
          int32_t sum = 0;
          for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
            whole_keys.push_back(static_cast<int8_t>(one.values[i]));
            whole_values[i * static_cast<size_t>(tokens) + t] = static_cast<int8_t>(other.values[i]);
            sum += one.values[i];
          }
          same = same && head.key_scale[t] == one.scale && head.value_scale[t] == other.scale;
          signed_products = signed_products && head.key_start[t] == 0;
          same = same && (head.key_start[t] == 0 || head.key_start[t] == -128 * sum);
        }
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
          const Whole one(query.data() + r * static_cast<size_t>(width), width);
          same = same && queries.scale[r] == one.scale;
          for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
            // 128 is added before rounding: halves may go the other way.
            same = same && std::abs(queries.bytes[r * queries.stride + i] - 128 - one.values[i]) <= 1;
            same = same && std::fabs((queries.bytes[r * queries.stride + i] - 128) * static_cast<double>(one.scale) -
                                     query[r * static_cast<size_t>(width) + i]) <= 0.5001 * one.scale;
          }
        }
        Memory<int8_t> keys(head.keys.size()), values(head.values.size());
        Memory<int32_t> start(std::max(head.padded, round_up(static_cast<size_t>(width), kPanel)));
        k.pack(whole_keys.data(), width, tokens, keys.data(), start.data());
        k.pack(whole_values.data(), tokens, width, values.data(), start.data());
        same = same && std::equal(keys.begin(), keys.end(), head.keys.begin());
        same = same && std::equal(values.begin(), values.end(), head.values.begin());
        CHECK_MESSAGE(same, rows << " rows, " << tokens << " tokens, width " << width);
        // Where products take byte - 128 the linears' `start` shows it.
        const std::vector<int8_t> ones(1, 1);
        Memory<int8_t> packed(k.packed_bytes(1, 1));
        k.pack(ones.data(), 1, 1, packed.data(), start.data());
        if (start[0] == 0 && tokens > 8) CHECK_FALSE(signed_products);
        if (start[0] != 0) CHECK(signed_products);
      });
      const std::vector<float> zeros(21, 0.0f);
      Asked queries(k, zeros, 1, 21);
      CHECK(queries.scale[0] == 1);
      CHECK(queries.bytes[20] == 128);
    });
  }

  TEST_CASE("float attention") {
    each_set([](const Kernels& k) {
      each_head([&](int rows, int tokens, int width, Random& random) {
        const std::vector<float> key = some_row(tokens * width, random, -1, 1),
                                 value = some_row(tokens * width, random);
        Memory<float> keys(k.packed_floats(width, tokens)), values(k.packed_floats(tokens, width));
        for (float& v : keys) v = NAN;  // what stands between columns must not matter
        for (float& v : values) v = NAN;
        for (int t = 0; t < tokens; ++t) {
          const size_t at = static_cast<size_t>(t) * static_cast<size_t>(width);
          k.put_float_column(key.data() + at, width, tokens, t, keys.data());
          k.put_float_row(value.data() + at, tokens, width, t, values.data());
        }
        const size_t stride = static_cast<size_t>(width) + 5;
        Memory<float> queries((static_cast<size_t>(rows) - 1) * stride + static_cast<size_t>(width));
        for (float& v : queries) v = random.real(-4, 4) / std::sqrt(static_cast<float>(width));
        Memory<uint8_t> scratch(k.attention_scratch(tokens));
        std::fill(scratch.begin(), scratch.end(), uint8_t{0xFF});
        Out out(rows, width, 0.0f);
        k.float_attention({tokens, width, keys.data(), values.data()}, queries.data(), stride, rows, out.values.data(),
                          out.stride, scratch.data(), nullptr);
        Worst worst;
        for (int r = 0; r < rows; ++r) {
          std::vector<double> scores, off;
          for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
            double score = 0, magnitude = 0;
            for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
              const double part = static_cast<double>(queries[static_cast<size_t>(r) * stride + i]) *
                                  key[t * static_cast<size_t>(width) + i];
              score += part;
              magnitude += std::fabs(part);
            }
            scores.push_back(score);
            off.push_back((width + 1) * kEps * magnitude);
          }
          const Mixed wanted = mixed(
              scores, off, width, false,
              [&](size_t j, int i) {
                return static_cast<double>(value[j * static_cast<size_t>(width) + static_cast<size_t>(i)]);
              },
              [](size_t) { return 1.0; });
          for (int i = 0; i < width; ++i)
            worst.add(out.at(r, i), wanted.out[static_cast<size_t>(i)], wanted.bound[static_cast<size_t>(i)]);
        }
        CHECK(out.tidy());
        CHECK_MESSAGE(worst.over <= 1, rows << " rows, " << tokens << " tokens, width " << width << ": " << worst.over);
      });
    });
  }

  TEST_CASE("quantize: over the row's range or a wider one, no byte further than half a step") {
    each_set([](const Kernels& k) {
      Random random(11);
      for (int count = 1; count <= 200; ++count) {
        const std::vector<float> x = some_row(count, random);
        for (const bool wider : {false, true}) {
          const float least = wider ? -7.0f : x[0], most = wider ? 9.0f : x[0];
          const float low = wider ? least : *std::min_element(x.begin(), x.end());
          const float high = wider ? most : *std::max_element(x.begin(), x.end());
          std::vector<uint8_t> bytes(static_cast<size_t>(count));
          float scale = 0, found = 0;
          k.quantize(x.data(), count, least, most, bytes.data(), &scale, &found);
          CHECK(found == low);
          CHECK(scale == (high > low ? (high - low) / 255.0f : 1.0f));
          Worst worst;
          // Half a step, and what x * (1 / scale) - low / scale is rounded by: some hundred steps times kEps.
          for (size_t i = 0; i < x.size(); ++i)
            worst.add(low + static_cast<double>(scale) * bytes[i], x[i], scale * 0.5002);
          CHECK_MESSAGE(worst.over <= 1, count << " values: " << worst.over);
        }
      }
    });
  }

  TEST_CASE("quantize: pixels are their own bytes, ends are 0 and 255, one value is its own") {
    each_set([](const Kernels& k) {
      std::vector<float> x(256);
      for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 256);
      std::vector<uint8_t> bytes(256);
      float scale = 0, low = 1;
      k.quantize(x.data(), 256, 0, 255, bytes.data(), &scale, &low);
      CHECK(scale == 1);
      CHECK(low == 0);
      for (size_t i = 0; i < x.size(); ++i) CHECK(bytes[i] == x[i]);
      for (const float value : {0.0f, -3.5f, 1e30f, 1e-38f, 3e38f}) {
        for (const int count : {1, 5, 16, 33}) {
          std::fill(x.begin(), x.end(), value);
          k.quantize(x.data(), count, value, value, bytes.data(), &scale, &low);
          CHECK(low == value);
          for (int i = 0; i < count; ++i) CHECK(low + scale * bytes[static_cast<size_t>(i)] == value);
        }
      }
      // A narrow range far from zero: as near as floats are there.
      x = {1000.0f, 1000.25f, 1001.0f, 1000.75f, 1000.5f};
      k.quantize(x.data(), 5, x[0], x[0], bytes.data(), &scale, &low);
      for (size_t i = 0; i < 5; ++i) CHECK(std::fabs(low + scale * bytes[i] - x[i]) <= scale * 0.5 + 1001 * 4 * kEps);
    });
  }

  TEST_CASE("normalize and normalize_quantize") {
    each_set([](const Kernels& k) {
      Random random(12);
      for (int count = 1; count <= 200; ++count) {
        const double middle = count % 3 * 2.0;
        const std::vector<float> x = some_row(count, random, middle - 1, middle + 1);
        const float eps = count % 2 ? 1e-6f : 1e-5f;
        double mean = 0, variance = 0, magnitude = 0;
        for (const float v : x) mean += v / static_cast<double>(count);
        for (const float v : x) variance += (v - mean) * (v - mean) / count;
        for (const float v : x) magnitude += std::fabs(v) / count;
        const double factor = 1 / std::sqrt(variance + static_cast<double>(eps));
        std::vector<double> wanted, bound;
        for (const float v : x) {
          wanted.push_back((v - mean) * factor);
          // The mean of n values is off by n roundings of their magnitude, the variance by n of its own and by the
          // square of the mean's; what is left is two roundings of v * factor and mean * factor.
          bound.push_back(kEps * ((count + 8) * (magnitude * factor + std::fabs(wanted.back())) +
                                  4 * (std::fabs(v) + std::fabs(mean)) * factor));
        }
        std::vector<float> y(x.size());
        k.normalize(x.data(), count, eps, y.data());
        Worst worst;
        for (size_t i = 0; i < x.size(); ++i) worst.add(y[i], wanted[i], bound[i]);
        CHECK_MESSAGE(worst.over <= 1, count << " values: " << worst.over);
        std::vector<float> in_place = x;
        k.normalize(in_place.data(), count, eps, in_place.data());
        CHECK(in_place == y);
        std::vector<uint8_t> bytes(x.size());
        float scale = 0, low = 0;
        k.normalize_quantize(x.data(), count, eps, bytes.data(), &scale, &low);
        if (count == 1) continue;  // one value is its own mean: what is left is rounding
        worst = {};
        for (size_t i = 0; i < x.size(); ++i)
          worst.add(low + static_cast<double>(scale) * bytes[i], wanted[i], scale * 0.5002 + 2 * bound[i]);
        CHECK_MESSAGE(worst.over <= 1, count << " values: " << worst.over);
        CHECK(*std::min_element(bytes.begin(), bytes.end()) == 0);
        CHECK(*std::max_element(bytes.begin(), bytes.end()) == 255);
      }
      const std::vector<float> same(37, 4.0f);
      std::vector<uint8_t> bytes(37, 9);
      float scale = 0, low = 9;
      k.normalize_quantize(same.data(), 37, 1e-6f, bytes.data(), &scale, &low);
      for (const uint8_t byte : bytes) CHECK(low + scale * byte == doctest::Approx(0).epsilon(1e-3));
    });
  }

  TEST_CASE("activations, from both linears") {
    // GELU beside int8 is a polynomial that is within `off` of it (gate_polynomials.inc), in fp32 an erfc that is
    // within 1.5e-7 times |x| / 2 (float_parts.h), for which four roundings stand. The rest are roundings: of a gate of
    // 0..1 that is multiplied with x, and of quick GELU's exponent, which is 2.46 |x| and no error beyond 126.
    struct Known {
      Activation kind;
      double off;
      std::function<double(double)> function;
    };
    const Known kinds[] = {
        {Activation::kNone, 0, [](double x) { return x; }},
        {Activation::kGelu, 2.0e-4, [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }},
        {Activation::kGeluTanh, 2.3e-4,
         [](double x) {
           return x * 0.5 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
         }},
        {Activation::kQuickGelu, 0, [](double x) { return x / (1 + std::exp(-1.702 * x)); }},
    };
    std::vector<float> x;
    for (int i = -10 * 512; i <= 10 * 512; ++i) x.push_back(static_cast<float>(i) / 512);
    for (const float v : {0.0f, 1e-30f, 1e-10f, 5.1f, 100.0f, 1e4f, 1e30f}) {
      x.push_back(v);
      x.push_back(-v);
    }
    const int count = static_cast<int>(x.size());
    each_set([&](const Kernels& k) {
      const std::vector<int8_t> zeros(x.size());
      const std::vector<float> no_weight(x.size());
      Memory<int8_t> packed(k.packed_bytes(1, count));
      Memory<float> packed_floats(k.packed_floats(1, count));
      const size_t padded = round_up(x.size(), kPanel);
      Memory<int32_t> start(padded);
      Memory<float> none(padded), bias(padded);
      std::copy(x.begin(), x.end(), bias.begin());
      k.pack(zeros.data(), 1, count, packed.data(), start.data());
      k.pack_floats(no_weight.data(), 1, count, packed_floats.data());
      const vitlet::Linear layer{1,           count,       packed.data(), packed_floats.data(), start.data(),
                                 none.data(), none.data(), bias.data()};
      Random random(14);
      Bytes a(1, 1, Kind::kRandom, random);
      const float one = 1;
      for (const Known& known : kinds) {
        const Activation kind = known.kind;
        for (const bool bytes : {true, false}) {
          std::vector<float> y(x.size());
          if (bytes) {
            k.linear(layer, a.view(), 1, Write::kStore, kind, y.data(), x.size(), nullptr);
          } else {
            k.float_linear(layer, &one, 1, 1, Write::kStore, kind, y.data(), x.size(), nullptr);
          }
          Worst worst;
          for (size_t i = 0; i < x.size(); ++i) {
            const double wanted = known.function(x[i]);
            const double exponent = 2 * std::min(2.46 * std::fabs(x[i]), 126.0);
            const bool quick = kind == Activation::kQuickGelu;
            const double rounding = quick ? (exponent + 8) * kEps * std::fabs(wanted) : 8 * kEps * std::fabs(x[i]);
            // 2^x is never below 2^-126, which an x of 1e30 shows.
            worst.add(y[i], wanted, (bytes ? known.off : 0) + rounding + std::ldexp(std::fabs(x[i]), -125) + 1e-35);
          }
          CHECK_MESSAGE(worst.over <= 1, "activation " << static_cast<int>(kind) << ": " << worst.over);
        }
      }
    });
  }

  TEST_CASE("rows: the same bits from every instruction set") {
    Random random(15);
    const Kernels& plain = *vitlet::instruction_sets().back();
    for (int count = 1; count <= 300; ++count) {
      const std::vector<float> x = some_row(count, random);
      const auto answers = [&](const Kernels& k) {
        std::vector<uint8_t> bytes(2 * x.size());
        std::vector<float> floats(x.size() + 4);
        float* const rest = floats.data() + x.size();
        k.quantize(x.data(), count, x[0], x[0], bytes.data(), rest, rest + 1);
        k.normalize_quantize(x.data(), count, 1e-6f, bytes.data() + x.size(), rest + 2, rest + 3);
        k.normalize(x.data(), count, 1e-6f, floats.data());
        return std::make_pair(bytes, floats);
      };
      const auto wanted = answers(plain);
      each_set([&](const Kernels& k) { CHECK(answers(k) == wanted); });
    }
  }

  TEST_CASE("int8 linears: the same bits from every instruction set, timed or not") {
    const Kernels& plain = *vitlet::instruction_sets().back();
    each_size([&](int rows, int inputs, int outputs, Random& random) {
      const auto seed = static_cast<unsigned>(random.whole(0, 1 << 30));
      const auto kind = static_cast<Activation>(inputs % 4);
      const auto answer = [&](const Kernels& k, uint64_t* ticks) {
        Random own(seed);
        Layer layer(k, inputs, outputs, Kind::kRandom, own);
        for (size_t c = 0; c < static_cast<size_t>(outputs); ++c) {
          layer.scale[c] = own.real(0.0005, 0.001);
          layer.sum[c] = own.real(-3, 3);
          layer.bias[c] = own.real(-2, 2);
        }
        Bytes a(rows, inputs, Kind::kRandom, own);
        for (float& scale : a.scale) scale = own.real(0.01, 0.02);
        for (float& low : a.low) low = own.real(-2, 0);
        Out out(rows, outputs, 0.5f);
        const Write write = kind == Activation::kNone ? Write::kAdd : Write::kStore;
        k.linear(layer.view(), a.view(), rows, write, kind, out.values.data(), out.stride, ticks);
        return std::vector<float>(out.values.begin(), out.values.end());
      };
      const std::vector<float> wanted = answer(plain, nullptr);
      each_set([&](const Kernels& k) {
        CHECK(answer(k, nullptr) == wanted);
        uint64_t ticks = 0;
        CHECK(answer(k, &ticks) == wanted);
      });
    });
  }

  TEST_CASE("what is no number goes through without a crash") {
    each_set([](const Kernels& k) {
      Random random(16);
      for (const float odd : {NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f}) {
        for (const int count : {1, 2, 5, 16, 17, 40}) {
          for (int at = 0; at <= count; ++at) {
            std::vector<float> x = some_row(count, random);
            if (at < count) {
              x[static_cast<size_t>(at)] = odd;
            } else {
              std::fill(x.begin(), x.end(), odd);
            }
            std::vector<uint8_t> bytes(x.size());
            std::vector<float> y(x.size());
            float scale = 0, low = 0;
            k.quantize(x.data(), count, x[0], x[0], bytes.data(), &scale, &low);
            k.normalize_quantize(x.data(), count, 1e-6f, bytes.data(), &scale, &low);
            k.normalize(x.data(), count, 1e-6f, y.data());
          }
        }
        constexpr int kTokens = 21, kWidth = 9, kRows = 5;
        for (const int where : {0, 1, 2, 3, 4}) {
          std::vector<float> key = some_row(kTokens * kWidth, random), value = some_row(kTokens * kWidth, random);
          std::vector<float> query = some_row(kRows * kWidth, random);
          // A number, a row, or some of all.
          std::vector<float>& spoilt = where == 0 ? query : where == 1 ? key : value;
          for (size_t i = 0; i < spoilt.size(); ++i) {
            if (where < 3 ? i == 13 : where == 3 ? i / kWidth == 2 : i % 7 == 3)
              spoilt[i] = key[where > 3 ? i : 0] = odd;
          }
          Heads head(k, kTokens, kWidth, key, value, false, random);
          for (const int32_t start : head.key_start) CHECK(std::abs(static_cast<int64_t>(start)) <= 128 * 127 * kWidth);
          Asked queries(k, query, kRows, kWidth);
          Memory<uint8_t> scratch(k.attention_scratch(kTokens));
          Out out(kRows, kWidth, 0.0f);
          k.attention(head.view(), queries.view(), kRows, out.values.data(), out.stride, scratch.data(), nullptr);
          CHECK(out.tidy());
          Memory<float> keys(k.packed_floats(kWidth, kTokens)), values(k.packed_floats(kTokens, kWidth));
          for (int t = 0; t < kTokens; ++t) {
            k.put_float_column(key.data() + t * kWidth, kWidth, kTokens, t, keys.data());
            k.put_float_row(value.data() + t * kWidth, kTokens, kWidth, t, values.data());
          }
          k.float_attention({kTokens, kWidth, keys.data(), values.data()}, query.data(), kWidth, kRows,
                            out.values.data(), out.stride, scratch.data(), nullptr);
          CHECK(out.tidy());
        }
        // And through the activations.
        const std::vector<int8_t> zeros(9);
        const std::vector<float> no_weight(9);
        Memory<int8_t> packed(k.packed_bytes(1, 9));
        Memory<float> floats(k.packed_floats(1, 9));
        Memory<int32_t> start(kPanel);
        Memory<float> none(kPanel), bias(kPanel);
        std::fill(bias.begin(), bias.begin() + 9, odd);
        k.pack(zeros.data(), 1, 9, packed.data(), start.data());
        k.pack_floats(no_weight.data(), 1, 9, floats.data());
        const vitlet::Linear layer{1,           9,           packed.data(), floats.data(), start.data(),
                                   none.data(), none.data(), bias.data()};
        Bytes a(1, 1, Kind::kRandom, random);
        const float one = 1;
        Out out(1, 9, 0.0f);
        for (const Activation kind : {Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu}) {
          k.linear(layer, a.view(), 1, Write::kStore, kind, out.values.data(), 9, nullptr);
          k.float_linear(layer, &one, 1, 1, Write::kStore, kind, out.values.data(), 9, nullptr);
        }
      }
    });
  }
}
