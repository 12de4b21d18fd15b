#include "tiny.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>

namespace tiny {

namespace {

using Rows = std::vector<std::vector<double>>;

// The same numbers with every standard library, which the standard's distributions do not promise.
class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  double between(double low, double high) { return low + (high - low) * (engine_() / 4294967296.0); }

 private:
  std::mt19937 engine_;
};

class Writer {
 public:
  Writer(const Options& options, File& into) : into_(into), int8_(options.int8), random_(options.seed) {}

  void floats(const std::string& name, const std::vector<size_t>& shape, double low, double high) {
    size_t count = 1;
    for (const size_t edge : shape) count *= edge;
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(random_.between(low, high));
    into_.tensors.emplace_back(name, tiny::floats(shape, values));
  }

  // Outputs as large as the inputs, times `factor`.
  void linear(const std::string& name, size_t inputs, size_t outputs, double factor = 1) {
    const double most = factor * std::sqrt(3.0 / static_cast<double>(inputs));
    if (int8_) {
      Entry weight{"I8", {outputs, inputs}, std::vector<uint8_t>(outputs * inputs)};
      for (uint8_t& byte : weight.bytes)
        byte = static_cast<uint8_t>(static_cast<int>(std::lround(random_.between(-127, 127))));
      into_.tensors.emplace_back(name + ".weight", weight);
      floats(name + ".scale", {outputs}, 0.8 * most / 127, 1.2 * most / 127);
    } else {
      floats(name + ".weight", {outputs, inputs}, -most, most);
    }
    floats(name + ".bias", {outputs}, -0.2, 0.2);
  }

  void norm(const std::string& name, size_t width) {
    floats(name + ".weight", {width}, 0.7, 1.3);
    floats(name + ".bias", {width}, -0.2, 0.2);
  }

 private:
  File& into_;
  const bool int8_;
  Random random_;
};

std::string quoted(const std::string& text) {
  std::string found = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') found += '\\';
    found += c;
  }
  return found + '"';
}

std::string list(const std::vector<size_t>& values) {
  std::string found = "[";
  for (const size_t value : values) found += (found.size() > 1 ? "," : "") + std::to_string(value);
  return found + "]";
}

// Weight and bias of a linear as the real numbers that they stand for.
struct Linear {
  Linear(const File& file, const std::string& name) : bias(values_of(file.at(name + ".bias"))) {
    const Entry& weight = file.at(name + ".weight");
    inputs = weight.shape[1];
    for (const float value : values_of(weight)) weights.push_back(value);
    if (weight.dtype == "I8") {
      const std::vector<float> scale = values_of(file.at(name + ".scale"));
      for (size_t i = 0; i < weights.size(); ++i) weights[i] *= scale[i / inputs];
    }
  }

  std::vector<double> operator()(const std::vector<double>& x) const {
    std::vector<double> y(bias.begin(), bias.end());
    for (size_t o = 0; o < y.size(); ++o) {
      for (size_t i = 0; i < inputs; ++i) y[o] += weights[o * inputs + i] * x[i];
    }
    return y;
  }

  size_t inputs;
  std::vector<double> weights;
  std::vector<float> bias;
};

std::vector<double> normal(const std::vector<double>& x, double eps) {
  double mean = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  double variance = 0;
  for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  std::vector<double> y;
  for (const double v : x) y.push_back((v - mean) / std::sqrt(variance + eps));
  return y;
}

std::vector<double> normal(const File& file, const std::string& name, const std::vector<double>& x, double eps) {
  const std::vector<float> weight = values_of(file.at(name + ".weight"));
  const std::vector<float> bias = values_of(file.at(name + ".bias"));
  std::vector<double> y = normal(x, eps);
  for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] * weight[i] + bias[i];
  return y;
}

double activated(const std::string& kind, double x) {
  if (kind == "gelu") return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  if (kind == "gelu_tanh")
    return x * 0.5 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  return x / (1 + std::exp(-1.702 * x));
}

void add(std::vector<double>& to, const std::vector<double>& x) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += x[i];
}

Rows attention(const Rows& qkv, const Block& block) {
  const size_t inner = block.heads * block.head_width;
  Rows out(qkv.size(), std::vector<double>(inner));
  for (size_t head = 0; head < block.heads; ++head) {
    const size_t at = head * block.head_width;
    for (size_t row = 0; row < qkv.size(); ++row) {
      // Queries carry log2(e) / sqrt(width): the softmax is to the base 2.
      std::vector<double> share;
      double total = 0;
      for (const std::vector<double>& other : qkv) {
        double score = 0;
        for (size_t i = 0; i < block.head_width; ++i) score += qkv[row][at + i] * other[inner + at + i];
        share.push_back(std::exp2(score));
        total += share.back();
      }
      for (size_t j = 0; j < qkv.size(); ++j) {
        for (size_t i = 0; i < block.head_width; ++i) {
          out[row][at + i] += share[j] / total * qkv[j][2 * inner + at + i];
        }
      }
    }
  }
  return out;
}

Rows embedded(const Options& o, const File& file, const float* image) {
  const std::vector<float> prefix = values_of(file.at("prefix"));
  const std::vector<float> position = values_of(file.at("position"));
  const Linear embed(file, "embed");
  Rows tokens;
  for (size_t t = 0; t < o.prefix; ++t) {
    tokens.emplace_back(prefix.begin() + static_cast<long>(t * o.width),
                        prefix.begin() + static_cast<long>((t + 1) * o.width));
  }
  for (size_t row = 0; row < o.height / o.patch; ++row) {
    for (size_t column = 0; column < o.width_in_pixels / o.patch; ++column) {
      std::vector<double> pixels;
      for (size_t channel = 0; channel < 3; ++channel) {
        for (size_t y = row * o.patch; y < (row + 1) * o.patch; ++y) {
          for (size_t x = column * o.patch; x < (column + 1) * o.patch; ++x) {
            const double value = image[(channel * o.height + y) * o.width_in_pixels + x];
            pixels.push_back(255 * (value * o.deviation[channel] + o.mean[channel]));
          }
        }
      }
      std::vector<double> token = embed(pixels);
      const size_t patch = tokens.size() - o.prefix;
      for (size_t i = 0; i < o.width; ++i) token[i] += position[patch * o.width + i];
      tokens.push_back(token);
    }
  }
  return tokens;
}

}  // namespace

Entry floats(const std::vector<size_t>& shape, const std::vector<float>& values) {
  Entry entry{"F32", shape, std::vector<uint8_t>(values.size() * sizeof(float))};
  if (!values.empty()) std::memcpy(entry.bytes.data(), values.data(), entry.bytes.size());
  return entry;
}

std::vector<float> values_of(const Entry& entry) {
  if (entry.dtype == "I8") {
    std::vector<float> values;
    for (const uint8_t byte : entry.bytes) values.push_back(static_cast<int8_t>(byte));
    return values;
  }
  std::vector<float> values(entry.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), entry.bytes.data(), entry.bytes.size());
  return values;
}

Entry& File::at(const std::string& name) {
  for (auto& [known, entry] : tensors) {
    if (known == name) return entry;
  }
  throw std::out_of_range(name);
}

const Entry& File::at(const std::string& name) const { return const_cast<File*>(this)->at(name); }

void File::remove(const std::string& name) {
  const auto named = [&](const auto& one) { return one.first == name; };
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(), named), tensors.end());
}

std::string File::header() const {
  std::string text = "{\"__metadata__\":{\"vitlet\":" + quoted(config) + "}";
  size_t at = 0;
  for (const auto& [name, entry] : tensors) {
    text += "," + quoted(name) + ":{\"dtype\":\"" + entry.dtype + "\",\"shape\":" + list(entry.shape) +
            ",\"data_offsets\":" + list({at, at + entry.bytes.size()}) + "}";
    at += entry.bytes.size();
  }
  return text + "}";
}

std::vector<uint8_t> File::bytes() const {
  std::vector<uint8_t> data;
  for (const auto& [name, entry] : tensors) data.insert(data.end(), entry.bytes.begin(), entry.bytes.end());
  return with_header(header(), data);
}

std::vector<uint8_t> with_header(const std::string& text, const std::vector<uint8_t>& data) {
  std::vector<uint8_t> found;
  for (int i = 0; i < 8; ++i) found.push_back(static_cast<uint8_t>(static_cast<uint64_t>(text.size()) >> (8 * i)));
  found.insert(found.end(), text.begin(), text.end());
  found.insert(found.end(), data.begin(), data.end());
  return found;
}

std::string config_of(const Options& o) {
  const auto yes = [](bool value) { return value ? "true" : "false"; };
  const auto three = [](const std::array<double, 3>& values) {
    return "[" + std::to_string(values[0]) + "," + std::to_string(values[1]) + "," + std::to_string(values[2]) + "]";
  };
  std::string blocks;
  for (const Block& block : o.blocks) {
    blocks += std::string(blocks.empty() ? "" : ",") + "{\"heads\":" + std::to_string(block.heads) +
              ",\"head_width\":" + std::to_string(block.head_width) +
              ",\"mlp_width\":" + std::to_string(block.mlp_width) + "}";
  }
  std::string labels;
  for (size_t i = 0; i < o.classes; ++i) labels += (i ? ",\"" : "\"") + std::to_string(i) + "\"";
  return std::string("{\"format\":1,\"precision\":\"") + (o.int8 ? "int8-dynamic" : "fp32") +
         "\",\"image_height\":" + std::to_string(o.height) + ",\"image_width\":" + std::to_string(o.width_in_pixels) +
         ",\"patch\":" + std::to_string(o.patch) + ",\"width\":" + std::to_string(o.width) +
         ",\"classes\":" + std::to_string(o.classes) + ",\"prefix_tokens\":" + std::to_string(o.prefix) +
         ",\"distilled\":" + yes(o.distilled) + ",\"pool\":\"" + o.pool + "\",\"pre_norm\":" + yes(o.pre_norm) +
         ",\"final_norm\":" + yes(o.final_norm) + ",\"pool_norm\":" + yes(o.pool_norm) +
         ",\"pre_logits\":" + std::to_string(o.pre_logits) + ",\"activation\":\"" + o.activation +
         "\",\"norm_eps\":" + std::to_string(o.eps) + ",\"blocks\":[" + blocks + "],\"mean\":" + three(o.mean) +
         ",\"std\":" + three(o.deviation) + ",\"labels\":[" + labels + "]}";
}

File file_of(const Options& o) {
  File file{config_of(o), {}};
  Writer writer(o, file);
  // Pixels are 0..255: their patches come out about as large as everything else.
  writer.linear("embed", 3 * o.patch * o.patch, o.width, 0.01);
  writer.floats("prefix", {o.prefix, o.width}, -1, 1);
  writer.floats("position", {o.patches(), o.width}, -1, 1);
  if (o.pre_norm) writer.norm("pre_norm", o.width);
  for (size_t i = 0; i < o.blocks.size(); ++i) {
    const Block& block = o.blocks[i];
    const std::string name = "blocks." + std::to_string(i);
    const size_t inner = block.heads * block.head_width;
    writer.linear(name + ".qkv", o.width, 3 * inner);
    writer.linear(name + ".projection", inner, o.width);
    writer.linear(name + ".up", o.width, block.mlp_width);
    writer.linear(name + ".down", block.mlp_width, o.width);
  }
  if (o.final_norm) writer.norm("final_norm", o.width);
  if (o.pool_norm) writer.norm("pool_norm", o.pooled());
  if (o.pre_logits) writer.linear("pre_logits", o.pooled(), o.pre_logits);
  writer.linear("head", o.features(), o.classes);
  if (o.distilled) writer.linear("distillation_head", o.features(), o.classes);
  return file;
}

std::vector<uint8_t> bytes_of(const Options& options) { return file_of(options).bytes(); }

std::shared_ptr<const vitlet::Model> model_of(const Options& options, const vitlet::Kernels& kernels) {
  const std::vector<uint8_t> bytes = bytes_of(options);
  return vitlet::Model::read(bytes.data(), bytes.size(), kernels);
}

std::map<std::string, Options> every_switch() {
  std::map<std::string, Options> found;
  const auto add = [&](const char* name, auto change) {
    Options options;
    change(options);
    options.seed = 1 + static_cast<unsigned>(found.size());
    found[name] = options;
  };
  add("plain", [](Options&) {});
  add("mean", [](Options& o) { o.pool = "mean"; });
  add("mean without prefix",
      [](Options& o) { o.pool = "mean", o.prefix = 0, o.pool_norm = true, o.final_norm = false; });
  add("token and mean", [](Options& o) { o.pool = "token+mean", o.prefix = 3; });
  add("token and mean, pool norm", [](Options& o) { o.pool = "token+mean", o.pool_norm = true; });
  add("distilled", [](Options& o) { o.distilled = true, o.prefix = 2; });
  add("distilled, pool norm, pre-logits",
      [](Options& o) { o.distilled = true, o.prefix = 2, o.pool_norm = true, o.pre_logits = 9; });
  add("registers", [](Options& o) { o.prefix = 5; });
  add("pre-norm", [](Options& o) { o.pre_norm = true, o.activation = "quick_gelu", o.eps = 1e-5; });
  add("no final norm", [](Options& o) { o.final_norm = false; });
  add("pool norm", [](Options& o) { o.pool_norm = true; });
  add("pre-logits", [](Options& o) { o.pre_logits = 7; });
  add("pre-logits wider than all", [](Options& o) { o.pre_logits = 150, o.classes = 70; });
  add("tanh", [](Options& o) { o.activation = "gelu_tanh"; });
  add("wide image", [](Options& o) { o.height = 7, o.width_in_pixels = 23, o.patch = 3; });
  add("one patch", [](Options& o) { o.height = 5, o.width_in_pixels = 6, o.patch = 5, o.classes = 1; });
  add("one block", [](Options& o) { o.blocks = {{3, 5, 17}}; });
  add("every block its own widths", [](Options& o) {
    // Key and value memory is used by turns: what one block's layout leaves in it must not be seen by another's.
    o.blocks = {{1, 33, 5}, {5, 2, 70}, {2, 6, 1}, {3, 17, 33}, {1, 1, 9}, {2, 7, 20}};
    o.prefix = 2;
  });
  add("many tokens", [](Options& o) {
    o.height = 33, o.width_in_pixels = 30, o.patch = 3, o.blocks = {{2, 20, 30}, {3, 5, 30}, {2, 3, 30}};
  });
  add("queries left out", [](Options& o) {
    // Whole panels of them: the last block computes only those that the head reads.
    o.height = o.width_in_pixels = 33, o.patch = 3, o.blocks = {{4, 16, 30}, {2, 32, 30}};
  });
  add("width 67", [](Options& o) { o.width = 67, o.blocks = {{4, 16, 140}, {1, 65, 70}}, o.pool = "mean"; });
  add("heads wider than the tokens", [](Options& o) {
    // As pruning may leave them, and in chunks of many rows.
    o.height = 33, o.width_in_pixels = 30, o.patch = 3, o.blocks = {{5, 16, 30}, {1, 90, 4}};
  });
  add("one head, wider than the tokens", [](Options& o) { o.blocks = {{1, 100, 30}}; });
  return found;
}

int test_step() {
  const char* const wanted = std::getenv("VITLET_TEST_STEP");
  return wanted == nullptr ? 1 : std::max(1, std::atoi(wanted));
}

std::vector<float> images_for(const Options& o, size_t batch, unsigned seed) {
  return normalized(o, pixels_for(o, batch, seed), batch);
}

std::vector<uint8_t> pixels_for(const Options& o, size_t batch, unsigned seed) {
  Random random(seed);
  std::vector<uint8_t> pixels(batch * o.height * o.width_in_pixels * 3);
  for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(random.between(0, 256));
  return pixels;
}

std::vector<float> normalized(const Options& o, const std::vector<uint8_t>& pixels, size_t batch) {
  const size_t area = o.height * o.width_in_pixels;
  std::vector<float> images(batch * 3 * area);
  for (size_t image = 0; image < batch; ++image) {
    for (size_t channel = 0; channel < 3; ++channel) {
      for (size_t i = 0; i < area; ++i) {
        const double value = pixels[(image * area + i) * 3 + channel] / 255.0;
        images[(image * 3 + channel) * area + i] = static_cast<float>((value - o.mean[channel]) / o.deviation[channel]);
      }
    }
  }
  return images;
}

std::vector<double> reference(const Options& o, const File& file, const std::vector<float>& images, size_t batch) {
  std::vector<double> logits;
  for (size_t image = 0; image < batch; ++image) {
    Rows tokens = embedded(o, file, images.data() + image * 3 * o.height * o.width_in_pixels);
    if (o.pre_norm) {
      for (auto& token : tokens) token = normal(file, "pre_norm", token, o.eps);
    }
    for (size_t i = 0; i < o.blocks.size(); ++i) {
      const std::string name = "blocks." + std::to_string(i);
      const Linear qkv(file, name + ".qkv"), projection(file, name + ".projection");
      const Linear up(file, name + ".up"), down(file, name + ".down");
      Rows wide;
      for (const auto& token : tokens) wide.push_back(qkv(normal(token, o.eps)));
      const Rows mixed = attention(wide, o.blocks[i]);
      for (size_t t = 0; t < tokens.size(); ++t) {
        add(tokens[t], projection(mixed[t]));
        std::vector<double> hidden = up(normal(tokens[t], o.eps));
        for (double& v : hidden) v = activated(o.activation, v);
        add(tokens[t], down(hidden));
      }
    }
    if (o.final_norm) {
      for (auto& token : tokens) token = normal(file, "final_norm", token, o.eps);
    }
    const auto answer = [&](std::vector<double> x, const char* head) {
      if (o.pool_norm) x = normal(file, "pool_norm", x, o.eps);
      if (o.pre_logits) {
        x = Linear(file, "pre_logits")(x);
        for (double& v : x) v = std::tanh(v);
      }
      return Linear(file, head)(x);
    };
    std::vector<double> mean(o.width);
    for (size_t t = o.prefix; t < tokens.size(); ++t) {
      for (size_t i = 0; i < o.width; ++i) mean[i] += tokens[t][i] / static_cast<double>(o.patches());
    }
    std::vector<double> found;
    if (o.distilled) {
      found = answer(tokens[0], "head");
      const std::vector<double> other = answer(tokens[1], "distillation_head");
      for (size_t i = 0; i < found.size(); ++i) found[i] = (found[i] + other[i]) / 2;
    } else if (o.pool == "token") {
      found = answer(tokens[0], "head");
    } else if (o.pool == "mean") {
      found = answer(mean, "head");
    } else {
      std::vector<double> both = tokens[0];
      both.insert(both.end(), mean.begin(), mean.end());
      found = answer(both, "head");
    }
    logits.insert(logits.end(), found.begin(), found.end());
  }
  return logits;
}

}  // namespace tiny
