// Safetensors files: a JSON header, then raw tensors (https://github.com/huggingface/safetensors, "Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace vitlet {

// A file mapped into memory, read-only.
class MappedFile {
 public:
  // Throws Error: it cannot be opened or mapped, or it is empty.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  // Tells the system that these bytes will not be read again: they stop counting as this process's memory.
  void forget(const uint8_t* from, size_t bytes) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

enum class Dtype { kFloat32, kInt8 };

// A tensor in the file. `data` may have any alignment: copy from it, never dereference it as float.
struct Tensor {
  Dtype dtype;
  std::vector<size_t> shape;
  const uint8_t* data;
  size_t bytes;
};

struct Safetensors {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;

  // Checks everything that the specification demands: header in bounds, offsets in order without holes or overlaps,
  // and each shape times its dtype the size of its bytes.
  // Throws Error: anything is not so, or a dtype is neither F32 nor I8.
  static Safetensors read(const uint8_t* data, size_t size);
};

}  // namespace vitlet
