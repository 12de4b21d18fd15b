#include "json.h"

#include <doctest/doctest.h>

#include <clocale>

#include "error.h"

using vitlet::Error;
using vitlet::Json;

TEST_SUITE("json") {
  TEST_CASE("every kind of value") {
    const Json root = Json::parse(
        " {\"a\" : [1, -2.5e2, 0, -0.0, 1E3, 1e-400], \"b\":{}, \"c\":[] ,\"d\":true,"
        "\"e\":false,\n\t\"f\":null,\r\"\":\"\"} ");
    const auto& numbers = root.at("a").array("a");
    REQUIRE(numbers.size() == 6);
    CHECK(numbers[0].whole("a", 1, 1) == 1);
    CHECK(numbers[1].number("a") == -250);
    CHECK(numbers[2].number("a") == 0);
    CHECK(numbers[4].whole("a", 0, 5000) == 1000);
    CHECK(numbers[5].number("a") == 0);
    CHECK(root.at("b").object("b").empty());
    CHECK(root.at("c").array("c").empty());
    CHECK(root.at("d").boolean("d"));
    CHECK_FALSE(root.at("e").boolean("e"));
    CHECK(root.at("f").kind() == Json::Kind::kNull);
    CHECK(root.at("").string("").empty());
  }

  TEST_CASE("strings: escapes and UTF-8") {
    const auto text = [](const char* json) { return Json::parse(json).string("text"); };
    CHECK(text(R"("\"\\\/\b\f\n\r\t")") == "\"\\/\b\f\n\r\t");
    CHECK(text(R"("\u0041\u00e9\u20AC\ud83d\uDE00")") == "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    CHECK(text("\"\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEE\x80\x80 \xEF\xBF\xBF \xF0\x90\x80\x80 "
               "\xF4\x8F\xBF\xBF\"") ==
          "\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEE\x80\x80 \xEF\xBF\xBF "
          "\xF0\x90\x80\x80 \xF4\x8F\xBF\xBF");
    CHECK(Json::parse("\"\\u0000\"").string("text") == std::string(1, '\0'));
  }

  TEST_CASE("what is no JSON is an Error") {
    const std::string bad[] = {
        "",
        " ",
        "x",
        "tru",
        "truex",
        "nul",
        "{",
        "[",
        "\"",
        "}",
        "]",
        ",",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "1 2",
        "[1]]",
        "{}{}",
        "'a'",
        "01",
        "-01",
        "+1",
        "-",
        ".5",
        "1.",
        "1.e3",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u123g\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud800\\n\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\u\"",
        "\"\\udc00\"",
        "\"\\",
        "\"\\\"",
        "\"a\nb\"",
        std::string("\"a\0b\"", 5),
        std::string("1\0", 2),
        "[1,\xEF\xBB\xBF 2]",
        "\xEF\xBB\xBF{}",
        "/* */ 1",
        "\"\\u",
        "\"\\ud800\\",
    };
    for (const std::string& text : bad) {
      CAPTURE(std::string(text));
      CHECK_THROWS_AS(Json::parse(text), Error);
    }
  }

  TEST_CASE("what is no UTF-8 is an Error") {
    const char* const bad[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xC2",
        "\xC2\x41",
        "\xC2\xC2\x80",
        "\xE0\x80\x80",
        "\xE0\x9F\xBF",
        "\xED\xA0\x80",
        "\xED\xBF\xBF",
        "\xE2\x82",
        "\xE2\x82\x41",
        "\xF0\x80\x80\x80",
        "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xF0\x9F\x98",
        "\xFE",
        "\xFF",
    };
    for (const char* const text : bad) {
      CAPTURE(std::string(text));
      CHECK_THROWS_AS(Json::parse("\"" + std::string(text) + "\""), Error);
      CHECK_THROWS_AS(Json::parse("{\"" + std::string(text) + "\":1}"), Error);
      CHECK_THROWS_AS(Json::parse("\"" + std::string(text)), Error);
    }
  }

  TEST_CASE("a repeated key is an Error, at any depth") {
    CHECK_THROWS_AS(Json::parse("{\"a\":1,\"a\":1}"), Error);
    CHECK_THROWS_AS(Json::parse("{\"a\":1,\"\\u0061\":2}"), Error);
    CHECK_THROWS_AS(Json::parse("[{\"b\":{\"a\":1,\"b\":2,\"a\":3}}]"), Error);
    CHECK_NOTHROW(Json::parse("[{\"a\":{\"a\":1}},{\"a\":1}]"));
  }

  TEST_CASE("nesting ends at 32, however deep the text") {
    const auto nested = [](size_t depth, const char* open, const char* close) {
      std::string text;
      for (size_t i = 0; i < depth; ++i) text += open;
      text += "1";
      for (size_t i = 0; i < depth; ++i) text += close;
      return text;
    };
    CHECK_NOTHROW(Json::parse(nested(32, "[", "]")));
    CHECK_NOTHROW(Json::parse(nested(32, "{\"a\":", "}")));
    CHECK_THROWS_AS(Json::parse(nested(33, "[", "]")), Error);
    CHECK_THROWS_AS(Json::parse(nested(33, "{\"a\":", "}")), Error);
    CHECK_THROWS_AS(Json::parse(nested(1'000'000, "[", "]")), Error);
    CHECK_THROWS_AS(Json::parse(std::string(1'000'000, '[')), Error);
  }

  TEST_CASE("accessors say what they wanted") {
    const Json root = Json::parse("{\"n\":1.5,\"s\":\"x\",\"big\":1e300,\"minus\":-1}");
    CHECK_THROWS_WITH_AS(root.at("missing"), "missing is missing", Error);
    CHECK_THROWS_WITH_AS(root.at("s").number("s"), "s must be a number", Error);
    CHECK_THROWS_WITH_AS(root.at("n").whole("n", 0, 9), "n must be a whole number, 0 to 9", Error);
    CHECK_THROWS_AS(root.at("big").whole("big", 0, SIZE_MAX), Error);
    CHECK_THROWS_AS(root.at("minus").whole("minus", 0, 9), Error);
    CHECK_THROWS_AS(root.at("n").string("n"), Error);
    CHECK_THROWS_AS(root.at("n").boolean("n"), Error);
    CHECK_THROWS_AS(root.at("n").array("n"), Error);
    CHECK_THROWS_AS(root.at("n").object("n"), Error);
    CHECK_THROWS_AS(root.at("n").at("x"), Error);
  }

  TEST_CASE("numbers are read the same in every locale") {
    const std::string before = std::setlocale(LC_ALL, nullptr);
    for (const char* const name : {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8", "C"}) {
      if (std::setlocale(LC_ALL, name) == nullptr) continue;
      CHECK(Json::parse("[0.5]").array("a")[0].number("a") == 0.5);
    }
    std::setlocale(LC_ALL, before.c_str());
  }
}
