#include "safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "error.h"
#include "json.h"

namespace vitlet {

namespace {

constexpr size_t kMostHeaderBytes = 16u << 20;
constexpr size_t kMostDimensions = 8;

[[noreturn]] void cannot(const char* do_what, const std::string& path) {
  throw Error("cannot " + std::string(do_what) + " " + path + ": " + std::strerror(errno));
}

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};

uint64_t little_endian_64(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | bytes[i];
  return value;
}

size_t product(size_t a, size_t b, const std::string& name) {
  size_t found = 0;
  require(!__builtin_mul_overflow(a, b, &found), "tensor " + name + " is too large");
  return found;
}

Tensor tensor(const std::string& name, const Json& entry, const uint8_t* data, size_t size) {
  const std::string& dtype = entry.at("dtype").string("dtype");
  require(dtype == "F32" || dtype == "I8", "tensor " + name + " is " + dtype + "; only F32 and I8 are known");
  Tensor found{dtype == "F32" ? Dtype::kFloat32 : Dtype::kInt8, {}, nullptr, 0};
  const auto& shape = entry.at("shape").array("shape");
  require(shape.size() <= kMostDimensions, "tensor " + name + " has too many dimensions");
  size_t bytes = found.dtype == Dtype::kFloat32 ? 4 : 1;
  for (const Json& edge : shape) {
    found.shape.push_back(edge.whole("shape", 0, size_t{1} << 48));
    bytes = product(bytes, found.shape.back(), name);
  }
  const auto& offsets = entry.at("data_offsets").array("data_offsets");
  require(offsets.size() == 2, "tensor " + name + " needs two offsets");
  const size_t begin = offsets[0].whole("data_offsets", 0, size);
  const size_t end = offsets[1].whole("data_offsets", begin, size);
  require(end - begin == bytes, "tensor " + name + " has " + std::to_string(end - begin) + " bytes, its shape needs " +
                                    std::to_string(bytes));
  found.data = data + begin;
  found.bytes = bytes;
  return found;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) cannot("open", path);
  struct stat status {};
  if (fstat(file.value, &status) != 0) cannot("read", path);
  require(S_ISREG(status.st_mode), path + " is no regular file");
  require(status.st_size > 0, path + " is empty");
  size_ = static_cast<size_t>(status.st_size);
  void* const mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (mapped == MAP_FAILED) cannot("map", path);
  data_ = static_cast<const uint8_t*>(mapped);
}

MappedFile::~MappedFile() { munmap(const_cast<uint8_t*>(data_), size_); }

void MappedFile::forget(const uint8_t* from, size_t bytes) const {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (static_cast<size_t>(from - data_) + page - 1) / page * page;
  const size_t end = static_cast<size_t>(from + bytes - data_) / page * page;
  if (begin < end) madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Safetensors Safetensors::read(const uint8_t* data, size_t size) {
  require(size > 8, "the file is too short for a safetensors file");
  const uint64_t header = little_endian_64(data);
  require(header <= kMostHeaderBytes && header <= size - 8, "the file's header has an impossible length");
  const Json root = Json::parse({reinterpret_cast<const char*>(data + 8), static_cast<size_t>(header)});
  const uint8_t* const tensors = data + 8 + header;
  const size_t rest = size - 8 - static_cast<size_t>(header);
  Safetensors found;
  for (const auto& [name, entry] : root.object("the header")) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : entry.object("__metadata__")) found.metadata[key] = value.string("__metadata__");
    } else {
      found.tensors.emplace(name, tensor(name, entry, tensors, rest));
    }
  }
  std::vector<std::pair<const uint8_t*, size_t>> places;
  for (const auto& [name, one] : found.tensors) places.emplace_back(one.data, one.bytes);
  std::sort(places.begin(), places.end());
  const uint8_t* next = tensors;
  for (const auto& [begin, bytes] : places) {
    require(begin == next, "tensors overlap or leave holes between them");
    next = begin + bytes;
  }
  require(next == tensors + rest, "there are bytes behind the last tensor");
  return found;
}

}  // namespace vitlet
