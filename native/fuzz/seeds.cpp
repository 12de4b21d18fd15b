// Writes the first files of the fuzzing corpus: the smallest model of every switch, in both precisions.
//
//   vitlet_fuzz_seeds native/fuzz/corpus
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tiny.h"

namespace {

bool write(const std::string& path, const std::vector<uint8_t>& bytes, size_t size) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!out) std::perror(path.c_str());
  return out.good();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("give a folder\n", stderr);
    return 1;
  }
  for (auto [name, options] : tiny::every_switch()) {
    // Sizes small enough that most of a file is its header.
    options.height = 2 * options.patch > 4 ? 3 : 2;
    options.width_in_pixels = 2;
    options.patch = 1;
    options.width = 2;
    options.classes = 1;
    options.pre_logits = options.pre_logits ? 2 : 0;
    options.blocks.resize(options.blocks.size() > 2 ? 2 : 1);
    for (tiny::Block& block : options.blocks) {
      block.heads = block.heads > 1 ? 2 : 1;
      block.head_width = 1 + block.head_width % 2;
      block.mlp_width = 1 + block.mlp_width % 3;
    }
    for (const bool int8 : {true, false}) {
      options.int8 = int8;
      std::string file = name + (int8 ? "-int8" : "-fp32");
      for (char& c : file) c = c == ' ' || c == ',' ? '_' : c;
      const auto bytes = tiny::bytes_of(options);
      if (!write(std::string(argv[1]) + "/" + file, bytes, bytes.size())) return 1;
      // One that ends inside its header, and one inside its tensors.
      if (name == "plain") {
        if (!write(std::string(argv[1]) + "/" + file + "-cut", bytes, int8 ? 500 : bytes.size() - 5)) return 1;
      }
    }
  }
  return 0;
}
