// libFuzzer's target: any bytes as a model file. What loads is also run, on an image of zeros.
//
//   clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Isrc/kernels fuzz/load.cpp ...
#include <vector>

#include "error.h"
#include "isa.h"
#include "session.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Larger models are as valid, and would only slow the search down.
  constexpr size_t kMostValues = 1 << 20;
  try {
    const auto model = vitlet::Model::read(data, size, *vitlet::instruction_sets().back());
    const vitlet::Config& c = model->config;
    if (c.tokens() * c.width > kMostValues || c.image_height * c.image_width > kMostValues) return 0;
    const std::vector<float> image(3 * c.image_height * c.image_width);
    std::vector<float> logits(c.classes);
    vitlet::Session(model, 1).run(image.data(), 1, logits.data());
  } catch (const vitlet::Error&) {
    // What a bad file is answered with.
  }
  return 0;
}
