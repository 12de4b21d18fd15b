#include "config.h"

#include <doctest/doctest.h>

#include "error.h"
#include "tiny.h"

using vitlet::Config;
using vitlet::Error;

namespace {

// The plain configuration with one piece of its text replaced.
std::string with(const std::string& old, const std::string& other) {
  std::string text = tiny::config_of({});
  const size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), other);
}

}  // namespace

TEST_SUITE("config") {
  TEST_CASE("every switch is read") {
    tiny::Options options;
    options.pool = "token+mean";
    options.prefix = 3;
    options.pre_logits = 9;
    options.activation = "quick_gelu";
    const Config c = Config::parse(tiny::config_of(options));
    CHECK(c.arithmetic == vitlet::Arithmetic::kInt8);
    CHECK(c.rows() == 3);
    CHECK(c.columns() == 2);
    CHECK(c.tokens() == 9);
    CHECK(c.pooled() == 24);
    CHECK(c.features() == 9);
    CHECK(c.patch_inputs() == 48);
    CHECK(c.activation == vitlet::Activation::kQuickGelu);
    CHECK(c.blocks.size() == 2);
    CHECK(c.labels.at(4) == "4");
    CHECK(c.deviation[2] == 0.225f);
    for (const auto& one : tiny::every_switch()) {
      CAPTURE(one.first);
      CHECK(Config::parse(tiny::config_of(one.second)).tokens() == one.second.tokens());
    }
  }

  TEST_CASE("members that are not known are left alone, those that are needed are not") {
    CHECK_NOTHROW(Config::parse(with("{\"format\":1", "{\"later\":[{}],\"format\":1")));
    for (const char* const name :
         {"format",     "precision",     "image_height", "image_width", "patch",    "width",
          "classes",    "prefix_tokens", "distilled",    "pool",        "pre_norm", "final_norm",
          "pool_norm",  "pre_logits",    "activation",   "norm_eps",    "blocks",   "heads",
          "head_width", "mlp_width",     "mean",         "std",         "labels"}) {
      CAPTURE(std::string(name));
      CHECK_THROWS_AS(Config::parse(with("\"" + std::string(name) + "\":", "\"other\":")), Error);
    }
  }

  TEST_CASE("every number has its range") {
    const std::pair<const char*, std::vector<const char*>> bad[] = {
        {"\"format\":1", {"0", "2", "1.5", "\"1\"", "null"}},
        {"\"precision\":\"int8-dynamic\"", {"\"int4\"", "8", "\"\""}},
        {"\"image_height\":12", {"0", "-12", "8193", "12.5", "1e300", "3", "true"}},
        {"\"image_width\":8", {"0", "8193", "3", "1e20", "null"}},
        {"\"patch\":4", {"0", "13", "9", "513", "0.5"}},
        {"\"width\":12", {"0", "16385", "-1"}},
        {"\"classes\":5", {"0", "4", "6", "1000001"}},
        {"\"prefix_tokens\":1", {"0", "-1", "1027", "1e9"}},
        {"\"distilled\":false", {"true", "0", "null"}},
        {"\"pool\":\"token\"", {"\"max\"", "\"Token\"", "0"}},
        {"\"pre_norm\":false", {"0", "\"false\""}},
        {"\"pre_logits\":0", {"-1", "131073", "false"}},
        {"\"activation\":\"gelu\"", {"\"relu\"", "\"\"", "null"}},
        {"\"norm_eps\":0.000001", {"0", "-1", "1", "1e-60", "1e999", "\"1\""}},
        {"\"heads\":2", {"0", "1025", "0.5"}},
        {"\"head_width\":6", {"0", "1025"}},
        {"\"mlp_width\":20", {"0", "131073"}},
        {"\"mean\":[0.485000,0.456000,0.406000]", {"[]", "[1,2]", "[1,2,3,4]", "[1,2,\"3\"]", "[1,2,1e4]", "1"}},
        {"\"std\":[0.229000,0.224000,0.225000]", {"[0,1,1]", "[-1,1,1]", "[1,1,1e-5]", "[1e5,1,1]", "{}"}},
        {"\"labels\":[\"0\"", {"[0", "[null", "[[]"}},
    };
    for (const auto& one : bad) {
      const std::string old = one.first;
      const std::string name = old.substr(0, old.find(':') + 1);
      for (const char* const value : one.second) {
        CAPTURE(old);
        CAPTURE(std::string(value));
        CHECK_THROWS_AS(Config::parse(with(old, name + value)), Error);
      }
    }
  }

  TEST_CASE("there is at least one block and at most 512") {
    tiny::Options options;
    options.blocks = {};
    CHECK_THROWS_AS(Config::parse(tiny::config_of(options)), Error);
    options.blocks.resize(512);
    CHECK(Config::parse(tiny::config_of(options)).blocks.size() == 512);
    options.blocks.resize(513);
    CHECK_THROWS_AS(Config::parse(tiny::config_of(options)), Error);
  }

  TEST_CASE("sizes that are fine alone are checked together") {
    tiny::Options options;
    options.height = options.width_in_pixels = 8192;
    options.patch = 32;
    CHECK_THROWS_WITH_AS(Config::parse(tiny::config_of(options)), "there are more than 65536 tokens", Error);
    options.patch = 33;
    CHECK(Config::parse(tiny::config_of(options)).tokens() == 248 * 248 + 1);
  }

  TEST_CASE("a label ends nowhere but at its end") {
    CHECK_THROWS_AS(Config::parse(with("[\"0\"", "[\"a\\u0000b\"")), Error);
    CHECK(Config::parse(with("[\"0\"", "[\"caf\\u00e9\"")).labels[0] == "caf\xC3\xA9");
  }
}
