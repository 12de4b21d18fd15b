#include "model.h"

#include <doctest/doctest.h>

#include <cmath>

#include "error.h"
#include "isa.h"
#include "tiny.h"

using vitlet::Error;
using vitlet::Model;

namespace {

std::shared_ptr<const Model> read(const std::vector<uint8_t>& bytes) {
  return Model::read(bytes.data(), bytes.size(), *vitlet::instruction_sets().front());
}

tiny::Options smallest() {
  tiny::Options options;
  options.height = options.width_in_pixels = options.patch = 1;
  options.width = 1;
  options.classes = 1;
  options.blocks = {{1, 1, 1}};
  return options;
}

// A model of every switch at once, for what only some models have.
tiny::Options richest() {
  tiny::Options options;
  options.pre_norm = options.final_norm = options.pool_norm = options.distilled = true;
  options.prefix = 2;
  options.pre_logits = 3;
  return options;
}

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("every switch loads, in both precisions") {
    for (const auto& one : tiny::every_switch()) {
      const std::string& name = one.first;
      tiny::Options options = one.second;
      for (const bool int8 : {true, false}) {
        options.int8 = int8;
        CAPTURE(name);
        CHECK(read(tiny::bytes_of(options))->config.tokens() == options.tokens());
      }
    }
  }

  TEST_CASE("a file cut at any byte is an Error") {
    for (const bool int8 : {true, false}) {
      tiny::Options options = smallest();
      options.int8 = int8;
      const std::vector<uint8_t> whole = tiny::bytes_of(options);
      REQUIRE_NOTHROW(read(whole));
      for (size_t size = 0; size < whole.size(); ++size) {
        // A vector of its own, so that a sanitizer sees the first byte read behind it.
        const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<long>(size));
        CAPTURE(size);
        CHECK_THROWS_AS(read(cut), Error);
      }
    }
  }

  TEST_CASE("any single byte may be anything") {
    const std::vector<uint8_t> whole = tiny::bytes_of(smallest());
    size_t refused = 0;
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const int flip : {0x01, 0x80, 0xFF}) {
        std::vector<uint8_t> spoilt = whole;
        spoilt[at] = static_cast<uint8_t>(spoilt[at] ^ flip);
        try {
          read(spoilt);
        } catch (const Error&) {
          ++refused;
        }
      }
    }
    CHECK(refused > whole.size());
  }

  TEST_CASE("each tensor is needed, in its dtype and shape") {
    for (const bool int8 : {true, false}) {
      tiny::Options options = richest();
      options.int8 = int8;
      const tiny::File whole = tiny::file_of(options);
      REQUIRE_NOTHROW(read(whole.bytes()));
      for (const auto& one : whole.tensors) {
        const std::string& name = one.first;
        const tiny::Entry& entry = one.second;
        CAPTURE(name);
        tiny::File file = whole;
        file.remove(name);
        CHECK_THROWS_WITH_AS(read(file.bytes()), ("tensor " + name + " is missing").c_str(), Error);
        file = whole;
        file.at(name).shape.push_back(1);
        CHECK_THROWS_AS(read(file.bytes()), Error);
        file = whole;
        file.at(name).shape.front() += 1;
        file.at(name).bytes.resize(entry.bytes.size() / entry.shape.front() * (entry.shape.front() + 1));
        CHECK_THROWS_AS(read(file.bytes()), Error);
        file = whole;
        if (entry.shape.size() == 2 && entry.shape[0] != entry.shape[1]) {
          std::swap(file.at(name).shape[0], file.at(name).shape[1]);
          CHECK_THROWS_AS(read(file.bytes()), Error);
        }
        file = whole;
        const bool bytes = entry.dtype == "I8";
        file.at(name).dtype = bytes ? "F32" : "I8";
        file.at(name).bytes.resize(bytes ? entry.bytes.size() * 4 : entry.bytes.size() / 4);
        CHECK_THROWS_WITH_AS(read(file.bytes()), ("tensor " + name + " has the wrong dtype").c_str(), Error);
      }
    }
  }

  TEST_CASE("a tensor too many is an Error") {
    tiny::File file = tiny::file_of({});
    file.tensors.emplace_back("blocks.2.up.bias", tiny::floats({1}, {0}));
    CHECK_THROWS_AS(read(file.bytes()), Error);
    file = tiny::file_of({});
    file.tensors.emplace_back("distillation_head.bias", tiny::floats({5}, {0, 0, 0, 0, 0}));
    CHECK_THROWS_AS(read(file.bytes()), Error);
  }

  TEST_CASE("floats must be finite") {
    for (const bool int8 : {true, false}) {
      tiny::Options options = richest();
      options.int8 = int8;
      const tiny::File whole = tiny::file_of(options);
      for (const auto& one : whole.tensors) {
        const std::string& name = one.first;
        const tiny::Entry& entry = one.second;
        if (entry.dtype != "F32") continue;
        for (const float value : {NAN, INFINITY, -INFINITY}) {
          tiny::File file = whole;
          std::vector<float> values = tiny::values_of(entry);
          values.back() = value;
          file.at(name) = tiny::floats(entry.shape, values);
          CAPTURE(name);
          CHECK_THROWS_WITH_AS(read(file.bytes()), ("tensor " + name + " is not finite").c_str(), Error);
        }
      }
    }
  }

  TEST_CASE("a file of something else says so") {
    CHECK_THROWS_WITH_AS(read(tiny::with_header("{}", {})),
                         "the file is no vitlet model: its metadata has no \"vitlet\"", Error);
    CHECK_THROWS_AS(read(tiny::with_header("{\"__metadata__\":{\"vitlet\":\"\"}}", {})), Error);
    CHECK_THROWS_AS(read(tiny::with_header("{\"__metadata__\":{\"vitlet\":\"[]\"}}", {})), Error);
  }

  TEST_CASE("sizes are refused before anything is made by them") {
    // The largest numbers that a configuration may have; the tensors stay as they are.
    const std::pair<const char*, const char*> changes[] = {
        {"\"width\":12", "\"width\":16384"},           {"\"heads\":2", "\"heads\":1024"},
        {"\"head_width\":6", "\"head_width\":1024"},   {"\"mlp_width\":20", "\"mlp_width\":131072"},
        {"\"pre_logits\":0", "\"pre_logits\":131072"}, {"\"prefix_tokens\":1", "\"prefix_tokens\":1026"},
    };
    for (const auto& change : changes) {
      const std::string old = change.first, other = change.second;
      tiny::File file = tiny::file_of({});
      file.config.replace(file.config.find(old), old.size(), other);
      CAPTURE(other);
      CHECK_THROWS_AS(read(file.bytes()), Error);
    }
  }

  TEST_CASE("int8 ends where int32 could overflow") {
    tiny::Options options = smallest();
    options.blocks = {{1, 1, 65536}};
    CHECK_NOTHROW(read(tiny::bytes_of(options)));
    options.blocks = {{1, 1, 65537}};
    CHECK_THROWS_AS(read(tiny::bytes_of(options)), Error);
    options.int8 = false;
    CHECK_NOTHROW(read(tiny::bytes_of(options)));
  }

  TEST_CASE("the data may have any alignment") {
    const std::vector<uint8_t> bytes = tiny::bytes_of({});
    for (size_t shift = 0; shift < 8; ++shift) {
      std::vector<uint8_t> moved(shift);
      moved.insert(moved.end(), bytes.begin(), bytes.end());
      CHECK_NOTHROW(Model::read(moved.data() + shift, bytes.size(), *vitlet::instruction_sets().front()));
    }
  }
}
