#include "safetensors.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "error.h"
#include "tiny.h"

using vitlet::Error;
using vitlet::MappedFile;
using vitlet::Safetensors;

namespace {

Safetensors read(const std::vector<uint8_t>& bytes) { return Safetensors::read(bytes.data(), bytes.size()); }

Safetensors read(const std::string& header, size_t bytes = 0) {
  return read(tiny::with_header(header, std::vector<uint8_t>(bytes)));
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"x\":" + entry(dtype, shape, offsets) + "}";
}

}  // namespace

TEST_SUITE("safetensors") {
  TEST_CASE("what the specification allows") {
    CHECK(read("{}").tensors.empty());
    CHECK(read("{}   ").tensors.empty());  // padding
    CHECK(read("{\"__metadata__\":{}}").metadata.empty());
    CHECK(read("{\"__metadata__\":{\"a\":\"b\"}}").metadata.at("a") == "b");
    const auto scalar = read(one("F32", "[]", "[0,4]"), 4);
    CHECK(scalar.tensors.at("x").shape.empty());
    CHECK(scalar.tensors.at("x").bytes == 4);
    CHECK(read(one("I8", "[2,3]", "[0,6]"), 6).tensors.at("x").shape == std::vector<size_t>{2, 3});
    CHECK(read(one("F32", "[0,5]", "[0,0]")).tensors.at("x").bytes == 0);
    // In any order, and with empty ones at one place.
    const auto two = read("{\"b\":" + entry("I8", "[2]", "[3,5]") + ",\"e\":" + entry("I8", "[0]", "[3,3]") +
                              ",\"a\":" + entry("I8", "[3]", "[0,3]") + "}",
                          5);
    CHECK(two.tensors.at("b").data - two.tensors.at("a").data == 3);
  }

  TEST_CASE("lengths of the header that cannot be") {
    for (size_t size = 0; size <= 8; ++size) CHECK_THROWS_AS(read(std::vector<uint8_t>(size)), Error);
    CHECK_THROWS_AS(read(std::vector<uint8_t>(9)), Error);
    for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 24, (uint64_t{1} << 24) + 1, uint64_t{1} << 32,
                                  uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
      std::vector<uint8_t> bytes = tiny::with_header("{}", {});
      for (int i = 0; i < 8; ++i) bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(length >> (8 * i));
      CAPTURE(length);
      CHECK_THROWS_AS(read(bytes), Error);
    }
  }

  TEST_CASE("tensors that do not fit their bytes") {
    CHECK_THROWS_AS(read(one("F32", "[2]", "[0,4]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[0,8]"), 8), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[0,4]"), 3), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[4,0]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[-4,0]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[0]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[0,4,8]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[0,4.5]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[1]", "[0,18446744073709551616]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[-1]", "[0,4]"), 4), Error);
    CHECK_THROWS_AS(read(one("F32", "[281474976710656,281474976710656]", "[0,4]"), 4), Error);
    // 2^48 * 2^14 * 4 is 0 in 64 bits.
    CHECK_THROWS_AS(read(one("F32", "[281474976710656,16384]", "[0,0]")), Error);
    CHECK_THROWS_AS(read(one("I8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1), Error);
  }

  TEST_CASE("dtypes, and entries that are none") {
    for (const char* const dtype : {"F64", "F16", "BF16", "U8", "I32", "BOOL", "f32", ""}) {
      CHECK_THROWS_AS(read(one(dtype, "[1]", "[0,4]"), 4), Error);
    }
    for (const char* const header :
         {"[]", "1", "null", "\"\"", "{\"x\":1}", "{\"x\":{}}", "{\"x\":[]}", "{\"__metadata__\":1}",
          "{\"__metadata__\":{\"a\":1}}", "{\"__metadata__\":{\"a\":null}}",
          "{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", "{\"x\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}",
          "{\"x\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}",
          "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":4}}"}) {
      CAPTURE(std::string(header));
      CHECK_THROWS_AS(read(header, 4), Error);
    }
  }

  TEST_CASE("holes, overlaps and bytes behind the last tensor") {
    const auto two = [](const char* first, const char* second, size_t bytes) {
      return read("{\"a\":" + entry("I8", "[3]", first) + ",\"b\":" + entry("I8", "[2]", second) + "}", bytes);
    };
    CHECK_NOTHROW(two("[0,3]", "[3,5]", 5));
    CHECK_NOTHROW(two("[2,5]", "[0,2]", 5));
    CHECK_THROWS_AS(two("[0,3]", "[2,4]", 4), Error);
    CHECK_THROWS_AS(two("[0,3]", "[0,2]", 3), Error);
    CHECK_THROWS_AS(two("[0,3]", "[4,6]", 6), Error);
    CHECK_THROWS_AS(two("[1,4]", "[4,6]", 6), Error);
    CHECK_THROWS_AS(two("[0,3]", "[3,5]", 6), Error);
    CHECK_THROWS_AS(read("{}", 1), Error);
    CHECK_THROWS_AS(read("{\"a\":" + entry("I8", "[3]", "[0,3]") + ",\"e\":" + entry("I8", "[0]", "[1,1]") + "}", 3),
                    Error);
    CHECK_THROWS_AS(read("{\"a\":" + entry("I8", "[0]", "[0,0]") + ",\"a\":" + entry("I8", "[0]", "[0,0]") + "}"),
                    Error);
  }

  TEST_CASE("files that cannot be mapped") {
    char folder[] = "/tmp/vitlet-XXXXXX";
    REQUIRE(mkdtemp(folder) != nullptr);
    const std::string in = std::string(folder) + "/";
    CHECK_THROWS_WITH_AS(MappedFile(in + "none"), ("cannot open " + in + "none: No such file or directory").c_str(),
                         Error);
    CHECK_THROWS_AS(MappedFile{in}, Error);
    CHECK_THROWS_AS(MappedFile(""), Error);
    std::ofstream(in + "empty").close();
    CHECK_THROWS_WITH_AS(MappedFile(in + "empty"), (in + "empty is empty").c_str(), Error);
    // Nobody writes to the pipe: opening it must not wait for somebody.
    REQUIRE(mkfifo((in + "pipe").c_str(), 0600) == 0);
    CHECK_THROWS_WITH_AS(MappedFile(in + "pipe"), (in + "pipe is no regular file").c_str(), Error);
    std::ofstream(in + "file") << "content";
    const MappedFile file(in + "file");
    CHECK(std::string(reinterpret_cast<const char*>(file.data()), file.size()) == "content");
    file.forget(file.data() + 1, 3);
    CHECK(file.data()[2] == 'n');
    for (const char* const name : {"empty", "pipe", "file"}) unlink((in + name).c_str());
    rmdir(folder);
  }
}
