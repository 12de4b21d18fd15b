#include "config.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "json.h"

namespace vitlet {

namespace {

// Far above any ViT, and low enough that no product of two of them leaves 64 bits.
constexpr size_t kMostEdge = 8192;
constexpr size_t kMostPatch = 512;
constexpr size_t kMostWidth = 16384;
constexpr size_t kMostHidden = 131072;
constexpr size_t kMostDepth = 512;
constexpr size_t kMostHeads = 1024;
constexpr size_t kMostInner = 65536;
constexpr size_t kMostClasses = 1'000'000;
constexpr size_t kMostPrefix = 1026;
// Attention is quadratic in the tokens; 16,385 is a 2048-pixel image in patches of 16.
constexpr size_t kMostTokens = 65536;
// Tokens times the widths of all heads: a gigabyte for one of queries, keys or values in fp32.
constexpr size_t kMostMemory = size_t{1} << 28;

template <class Value>
Value one_of(const std::string& name, const char* where, std::initializer_list<std::pair<const char*, Value>> known) {
  for (const auto& [text, value] : known) {
    if (name == text) return value;
  }
  throw Error(std::string(where) + " " + name + " is not known");
}

std::array<float, 3> colours(const Json& list, const char* where, bool positive) {
  const auto& values = list.array(where);
  require(values.size() == 3, std::string(where) + " needs three numbers");
  std::array<float, 3> found{};
  for (size_t i = 0; i < 3; ++i) {
    const double value = values[i].number(where);
    require(std::fabs(value) < 1e4 && (!positive || value > 1e-4), std::string(where) + " is out of range");
    found[i] = static_cast<float>(value);
  }
  return found;
}

BlockConfig block(const Json& entry) {
  const BlockConfig found{entry.at("heads").whole("heads", 1, kMostHeads),
                          entry.at("head_width").whole("head_width", 1, kMostHeadWidth),
                          entry.at("mlp_width").whole("mlp_width", 1, kMostHidden)};
  require(found.inner() <= kMostInner, "heads times head_width is more than 65536");
  return found;
}

}  // namespace

size_t Config::most_heads() const {
  size_t most = 0;
  for (const BlockConfig& b : blocks) most = std::max(most, b.heads);
  return most;
}

size_t Config::most_inner() const {
  size_t most = 0;
  for (const BlockConfig& b : blocks) most = std::max(most, b.inner());
  return most;
}

size_t Config::most_padded_inner() const {
  size_t most = 0;
  for (const BlockConfig& b : blocks) most = std::max(most, b.heads * round_up(b.head_width, kDepth));
  return most;
}

size_t Config::widest() const {
  size_t most = std::max({width, patch_inputs(), features(), pooled()});
  for (const BlockConfig& b : blocks) most = std::max({most, 3 * b.inner(), b.mlp_width});
  return round_up(most, kPanel);
}

Config Config::parse(const std::string& text) {
  const Json root = Json::parse(text);
  root.at("format").whole("format (a newer vitlet is needed)", 1, 1);
  Config c{};
  c.arithmetic = one_of<Arithmetic>(root.at("precision").string("precision"), "precision",
                                    {{"int8-dynamic", Arithmetic::kInt8}, {"fp32", Arithmetic::kFloat32}});
  c.image_height = root.at("image_height").whole("image_height", 1, kMostEdge);
  c.image_width = root.at("image_width").whole("image_width", 1, kMostEdge);
  c.patch = root.at("patch").whole("patch", 1, kMostPatch);
  c.width = root.at("width").whole("width", 1, kMostWidth);
  c.classes = root.at("classes").whole("classes", 1, kMostClasses);
  c.prefix_tokens = root.at("prefix_tokens").whole("prefix_tokens", 0, kMostPrefix);
  c.distilled = root.at("distilled").boolean("distilled");
  c.pool = one_of<Pool>(root.at("pool").string("pool"), "pool",
                        {{"token", Pool::kToken}, {"mean", Pool::kMean}, {"token+mean", Pool::kTokenAndMean}});
  c.pre_norm = root.at("pre_norm").boolean("pre_norm");
  c.final_norm = root.at("final_norm").boolean("final_norm");
  c.pool_norm = root.at("pool_norm").boolean("pool_norm");
  c.pre_logits = root.at("pre_logits").whole("pre_logits", 0, kMostHidden);
  c.activation = one_of<Activation>(
      root.at("activation").string("activation"), "activation",
      {{"gelu", Activation::kGelu}, {"gelu_tanh", Activation::kGeluTanh}, {"quick_gelu", Activation::kQuickGelu}});
  c.norm_eps = static_cast<float>(root.at("norm_eps").number("norm_eps"));
  require(c.norm_eps > 0 && c.norm_eps < 1, "norm_eps must be between 0 and 1");
  for (const Json& entry : root.at("blocks").array("blocks")) c.blocks.push_back(block(entry));
  require(!c.blocks.empty() && c.blocks.size() <= kMostDepth, "blocks must be 1 to 512");
  c.mean = colours(root.at("mean"), "mean", false);
  c.deviation = colours(root.at("std"), "std", true);
  for (const Json& label : root.at("labels").array("labels")) {
    c.labels.push_back(label.string("labels"));
    // The C interface would end such a name early.
    require(c.labels.back().find('\0') == std::string::npos, "labels must not have NUL characters");
  }
  require(c.labels.size() == c.classes, "there must be one label per class");
  require(c.patch <= c.image_height && c.patch <= c.image_width, "the image holds no patch");
  require(c.prefix_tokens >= (c.distilled ? 2u : c.pool == Pool::kMean ? 0u : 1u), "prefix_tokens are too few");
  require(!c.distilled || c.pool == Pool::kToken, "two heads need pool token");
  require(c.tokens() <= kMostTokens, "there are more than 65536 tokens");
  require(c.tokens() * round_up(c.most_padded_inner(), kPanel) <= kMostMemory,
          "tokens times the width of all heads are more than 2^28");
  return c;
}

}  // namespace vitlet
