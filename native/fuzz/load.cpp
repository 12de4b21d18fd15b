// libFuzzer's target: any bytes as a model file. What loads is also run, on an image of zeros and ones.
//
//   CXX=clang++ cmake -S native -B out/fuzz -G Ninja -DVITLET_FUZZ=ON -DVITLET_SANITIZE=address && ninja -C out/fuzz
//   out/fuzz/vitlet_fuzz_load -max_len=16384 -rss_limit_mb=1024 -timeout=10 FOLDER native/fuzz/corpus
#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "error.h"
#include "isa.h"
#include "session.h"
#include "tiny.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

// Larger models are as valid, and would only slow the search down: bytes of buffers, and multiplications.
constexpr double kMostBytes = 64e6;
constexpr double kMostProducts = 20e6;

// What a session of one thread and one image will come to, in doubles so that nothing overflows.
bool small(const vitlet::Config& c) {
  const auto real = [](size_t value) { return static_cast<double>(value); };
  const auto padded = [&](size_t value) { return real(vitlet::round_up(value, vitlet::kPanel)); };
  const double tokens = real(c.tokens());
  double widest = std::max({padded(c.width), padded(c.patch_inputs()), padded(c.features()), padded(c.pooled())});
  double products = tokens * real(c.patch_inputs()) * real(c.width) + real(c.features()) * real(c.classes + c.pooled());
  double heads = 0;
  double head = 0;
  double queries = 0;
  for (const vitlet::BlockConfig& b : c.blocks) {
    const double inner = real(b.heads) * padded(b.head_width);
    widest = std::max({widest, 3 * inner, padded(b.mlp_width)});
    heads = std::max(heads, real(b.heads));
    head = std::max(head, padded(b.head_width));
    queries = std::max(queries, inner);
    products += tokens * real(c.width) * (4 * inner + 2 * real(b.mlp_width)) + 2 * tokens * padded(c.tokens()) * inner;
  }
  // Queries and tokens; keys and values of two blocks; a worker's rows.
  const double bytes = 4 * tokens * (queries + padded(c.width)) + 2 * heads * padded(c.tokens()) * (8 * head + 16) +
                       48 * 12 * widest + 12.0 * real(c.image_height) * real(c.image_width) + 4 * real(c.classes);
  return bytes < kMostBytes && products < kMostProducts;
}

size_t header_of(const uint8_t* data, size_t size) {
  if (size < 8) return 0;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | data[i];
  return static_cast<size_t>(std::min<uint64_t>(length, size - 8));
}

size_t keep(const std::vector<uint8_t>& made, uint8_t* data, size_t most) {
  if (made.size() > most) return 0;
  std::memcpy(data, made.data(), made.size());
  return made.size();
}

// Some model that is right: the switches and sizes that single bytes would hardly find together.
std::vector<uint8_t> some_model(std::mt19937& random) {
  const auto one_of = [&](size_t least, size_t most) { return least + random() % (most - least + 1); };
  tiny::Options o;
  o.int8 = random() % 2;
  o.patch = one_of(1, 3);
  o.height = o.patch * one_of(1, 4) + random() % o.patch;
  o.width_in_pixels = o.patch * one_of(1, 4) + random() % o.patch;
  o.width = one_of(1, 9);
  o.classes = one_of(1, 4);
  o.pool = std::vector<std::string>{"token", "mean", "token+mean"}[random() % 3];
  o.distilled = o.pool == "token" && random() % 2;
  o.prefix = (o.distilled ? 2 : o.pool == "mean" ? 0 : 1) + random() % 3;
  o.pre_norm = random() % 2;
  o.final_norm = random() % 2;
  o.pool_norm = random() % 2;
  o.pre_logits = random() % 2 ? 0 : one_of(1, 5);
  o.activation = std::vector<std::string>{"gelu", "gelu_tanh", "quick_gelu"}[random() % 3];
  o.blocks.resize(one_of(1, 4));
  for (tiny::Block& block : o.blocks) block = {one_of(1, 3), one_of(1, 9), one_of(1, 9)};
  o.seed = static_cast<unsigned>(random());
  return tiny::bytes_of(o);
}

// One number of the header's text, replaced by one that may be near an edge of something.
void change_number(std::string& text, std::mt19937& random) {
  const char* const kDigits = "0123456789";
  const size_t at = text.find_first_of(kDigits, text.empty() ? 0 : random() % text.size());
  if (at == std::string::npos) return;
  const size_t end = std::min(text.find_first_not_of(kDigits, at), text.size());
  const char* const kNumbers[] = {"0",
                                  "1",
                                  "2",
                                  "3",
                                  "4",
                                  "8",
                                  "16",
                                  "63",
                                  "64",
                                  "65",
                                  "255",
                                  "512",
                                  "1024",
                                  "8192",
                                  "65536",
                                  "65537",
                                  "131072",
                                  "16777216",
                                  "4294967296",
                                  "281474976710656",
                                  "1e308",
                                  "-1",
                                  "0.5",
                                  "9007199254740993",
                                  "18446744073709551615"};
  text.replace(at, end - at, kNumbers[random() % (sizeof(kNumbers) / sizeof(*kNumbers))]);
}

}  // namespace

// Keeps the header's length that of the header: without it, hardly a file would come past its first check.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned int seed) {
  std::mt19937 random(seed);
  const unsigned way = random() % 100;
  if (way < 5 || size < 9) {
    const size_t made = keep(some_model(random), data, most);
    return made ? made : LLVMFuzzerMutate(data, size, most);
  }
  // The rest of a file may be missing, and its header may say anything of its length.
  if (way < 8) return 1 + random() % size;
  if (way < 15) return LLVMFuzzerMutate(data, size, most);
  const size_t header = header_of(data, size);
  std::string text(reinterpret_cast<const char*>(data) + 8, header);
  std::vector<uint8_t> rest(data + 8 + header, data + size);
  if (way < 40) {
    // What the tensors hold; their number of bytes stays.
    if (!rest.empty()) {
      std::vector<uint8_t> changed = rest;
      changed.resize(LLVMFuzzerMutate(changed.data(), changed.size(), changed.size()));
      std::copy(changed.begin(), changed.end(), rest.begin());
    }
  } else if (way < 65) {
    change_number(text, random);
  } else {
    const size_t room = most > 8 + rest.size() ? most - 8 - rest.size() : text.size();
    std::vector<uint8_t> changed(std::max(room, text.size()));
    std::copy(text.begin(), text.end(), changed.begin());
    const size_t length = LLVMFuzzerMutate(changed.data(), text.size(), changed.size());
    text.assign(reinterpret_cast<const char*>(changed.data()), length);
  }
  const size_t made = keep(tiny::with_header(text, rest), data, most);
  return made ? made : LLVMFuzzerMutate(data, size, most);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto model =
        vitlet::Model::read(data, size, *vitlet::instruction_sets()[size % vitlet::instruction_sets().size()]);
    const vitlet::Config& c = model->config;
    if (!small(c)) return 0;
    std::vector<float> image(3 * c.image_height * c.image_width);
    for (size_t i = 0; i < image.size(); i += 2) image[i] = 1;
    std::vector<float> logits(c.classes);
    vitlet::Session(model, 1).run(image.data(), 1, logits.data());
  } catch (const vitlet::Error&) {
    // What a bad file is answered with.
  }
  return 0;
}
