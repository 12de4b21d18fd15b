#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.h"

namespace vitlet {

namespace {
// 65536 products of a byte and an int8 stay within int32.
constexpr size_t kMostInputs = 65536;
}  // namespace

class ModelReader {
 public:
  // `file` is what the data is mapped from, if it is.
  ModelReader(const uint8_t* data, size_t size, const MappedFile* file, const Kernels& kernels)
      : size_(size), file_(file), found_(Safetensors::read(data, size)), kernels_(kernels) {}

  std::shared_ptr<const Model> read() {
    const auto config = found_.metadata.find("vitlet");
    require(config != found_.metadata.end(), "the file is no vitlet model: its metadata has no \"vitlet\"");
    auto model = std::make_shared<Model>();
    model->metadata = found_.metadata;
    model->config = Config::parse(config->second);
    model->kernels = &kernels_;
    const Config& c = model->config;
    int8_ = c.arithmetic == Arithmetic::kInt8;
    // Packed, a usual model is hardly larger than its file; of an unusual one the last linears have memory of their
    // own.
    large_pages_ = LargePages(size_ + size_ / 16);
    model->embed = linear("embed", c.patch_inputs(), c.width);
    model->prefix = floats("prefix", {c.prefix_tokens, c.width});
    model->position = floats("position", {c.patches(), c.width});
    if (c.pre_norm) model->pre_norm = norm("pre_norm", c.width);
    for (size_t i = 0; i < c.blocks.size(); ++i) model->blocks.push_back(block("blocks." + std::to_string(i), c, i));
    if (c.final_norm) model->final_norm = norm("final_norm", c.width);
    if (c.pool_norm) model->pool_norm = norm("pool_norm", c.pooled());
    if (c.pre_logits) model->pre_logits = linear("pre_logits", c.pooled(), c.pre_logits);
    model->head = linear("head", c.features(), c.classes);
    if (c.distilled) model->distillation_head = linear("distillation_head", c.features(), c.classes);
    model->weights = std::move(large_pages_);
    require(used_ == found_.tensors.size(), "the file has tensors that its configuration does not know");
    return model;
  }

 private:
  const Tensor& tensor(const std::string& name, Dtype dtype, const std::vector<size_t>& shape) {
    const auto at = found_.tensors.find(name);
    require(at != found_.tensors.end(), "tensor " + name + " is missing");
    require(at->second.dtype == dtype, "tensor " + name + " has the wrong dtype");
    require(at->second.shape == shape, "tensor " + name + " does not have the shape that the configuration asks for");
    ++used_;
    return at->second;
  }

  Buffer<float> floats(const std::string& name, const std::vector<size_t>& shape) {
    const Tensor& from = tensor(name, Dtype::kFloat32, shape);
    Buffer<float> found(from.bytes / sizeof(float));
    if (from.bytes) std::memcpy(found.data(), from.data, from.bytes);
    const bool finite =
        std::all_of(found.data(), found.data() + found.size(), [](float x) { return std::isfinite(x); });
    require(finite, "tensor " + name + " is not finite");
    return found;
  }

  Norm norm(const std::string& name, size_t width) {
    return {floats(name + ".weight", {width}), floats(name + ".bias", {width})};
  }

  Block block(const std::string& name, const Config& c, size_t number) {
    const BlockConfig& b = c.blocks[number];
    return {linear(name + ".qkv", c.width, 3 * b.inner()), linear(name + ".projection", b.inner(), c.width),
            linear(name + ".up", c.width, b.mlp_width), linear(name + ".down", b.mlp_width, c.width)};
  }

  PackedLinear linear(const std::string& name, size_t inputs, size_t outputs) {
    PackedLinear made;
    const size_t padded = round_up(outputs, kPanel);
    made.view_.inputs = static_cast<int>(inputs);
    made.view_.outputs = static_cast<int>(outputs);
    made.columns_ = Buffer<float>(3 * padded);
    float* const scale = made.columns_.data();
    float* const sum = scale + padded;
    float* const bias = sum + padded;
    copy(floats(name + ".bias", {outputs}), bias);
    if (int8_) {
      require(inputs <= kMostInputs, name + " has more than 65536 inputs: int32 could overflow");
      copy(floats(name + ".scale", {outputs}), scale);
      const Tensor& from = tensor(name + ".weight", Dtype::kInt8, {outputs, inputs});
      const auto* const weights = reinterpret_cast<const int8_t*>(from.data);
      int8_t* const packed = room(made.bytes_, kernels_.packed_bytes(made.view_.inputs, made.view_.outputs));
      made.view_.bytes = packed;
      made.start_ = Buffer<int32_t>(padded);
      kernels_.pack(weights, made.view_.inputs, made.view_.outputs, packed, made.start_.data());
      for (size_t column = 0; column < outputs; ++column) {
        int32_t total = 0;
        for (size_t input = 0; input < inputs; ++input) total += weights[column * inputs + input];
        sum[column] = scale[column] * static_cast<float>(total);
      }
      forget(from);
    } else {
      const Buffer<float> weights = floats(name + ".weight", {outputs, inputs});
      float* const packed = room(made.floats_, kernels_.packed_floats(made.view_.inputs, made.view_.outputs));
      made.view_.floats = packed;
      kernels_.pack_floats(weights.data(), made.view_.inputs, made.view_.outputs, packed);
      forget(found_.tensors.at(name + ".weight"));
    }
    made.view_.start = made.start_.data();
    made.view_.scale = scale;
    made.view_.sum = sum;
    made.view_.bias = bias;
    return made;
  }

  // `count` values in the large pages, or in `own` when those are full.
  template <class Value>
  Value* room(Buffer<Value>& own, size_t count) {
    if (void* const found = large_pages_.take(count * sizeof(Value))) return static_cast<Value*>(found);
    own = Buffer<Value>(count);
    return own.data();
  }

  // What was packed is not read again; without this it would count as memory twice.
  void forget(const Tensor& tensor) const {
    if (file_ != nullptr) file_->forget(tensor.data, tensor.bytes);
  }

  static void copy(const Buffer<float>& from, float* to) {
    if (from.size()) std::memcpy(to, from.data(), from.size() * sizeof(float));
  }

  const size_t size_;
  const MappedFile* const file_;
  const Safetensors found_;
  const Kernels& kernels_;
  LargePages large_pages_;
  bool int8_ = true;
  size_t used_ = 0;
};

std::shared_ptr<const Model> Model::load(const std::string& path, const Kernels& kernels) {
  const MappedFile file(path);
  return ModelReader(file.data(), file.size(), &file, kernels).read();
}

std::shared_ptr<const Model> Model::read(const uint8_t* data, size_t size, const Kernels& kernels) {
  return ModelReader(data, size, nullptr, kernels).read();
}

}  // namespace vitlet
