#include "json.h"

#include <cmath>
#include <locale>
#include <sstream>
#include <unordered_set>

#include "error.h"

namespace vitlet {

namespace {
constexpr int kMostNested = 32;
}

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json whole() {
    Json value = this->value(0);
    space();
    if (at_ != text_.size()) fail("text after the end");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error("malformed JSON at byte " + std::to_string(at_) + ": " + what);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void space() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c != ' ' && c != '\t' && c != '\n' && c != '\r') break;
      ++at_;
    }
  }

  void expect(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("not a value");
    at_ += word.size();
  }

  Json value(int nested) {
    if (nested > kMostNested) fail("nested too deep");
    space();
    Json found;
    switch (peek()) {
      case '{':
        found.kind_ = Json::Kind::kObject;
        object(found, nested);
        return found;
      case '[':
        found.kind_ = Json::Kind::kArray;
        array(found, nested);
        return found;
      case '"':
        found.kind_ = Json::Kind::kString;
        found.string_ = string();
        return found;
      case 't':
        expect("true");
        found.kind_ = Json::Kind::kBool;
        found.boolean_ = true;
        return found;
      case 'f':
        expect("false");
        found.kind_ = Json::Kind::kBool;
        return found;
      case 'n':
        expect("null");
        return found;
      default:
        found.kind_ = Json::Kind::kNumber;
        found.number_ = number();
        return found;
    }
  }

  void object(Json& into, int nested) {
    std::unordered_set<std::string> seen;
    ++at_;
    space();
    if (peek() == '}') {
      ++at_;
      return;
    }
    for (;;) {
      space();
      if (peek() != '"') fail("a key must be a string");
      std::string key = string();
      if (!seen.insert(key).second) fail("a key is there twice");
      space();
      if (peek() != ':') fail("a colon is missing");
      ++at_;
      into.object_.emplace_back(std::move(key), value(nested + 1));
      space();
      const char c = peek();
      ++at_;
      if (c == '}') return;
      if (c != ',') fail("a comma or brace is missing");
    }
  }

  void array(Json& into, int nested) {
    ++at_;
    space();
    if (peek() == ']') {
      ++at_;
      return;
    }
    for (;;) {
      into.array_.push_back(value(nested + 1));
      space();
      const char c = peek();
      ++at_;
      if (c == ']') return;
      if (c != ',') fail("a comma or bracket is missing");
    }
  }

  double number() {
    const size_t start = at_;
    if (peek() == '-') ++at_;
    const size_t digits = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == digits) fail("not a value");
    if (text_[digits] == '0' && at_ - digits > 1) fail("a number with leading zeros");
    if (peek() == '.') {
      const size_t fraction = ++at_;
      while (peek() >= '0' && peek() <= '9') ++at_;
      if (at_ == fraction) fail("digits are missing");
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      const size_t exponent = at_;
      while (peek() >= '0' && peek() <= '9') ++at_;
      if (at_ == exponent) fail("digits are missing");
    }
    return decimal(std::string(text_.substr(start, at_ - start)));
  }

  double decimal(const std::string& digits) const {
    // strtod would read by the process's locale, in which a comma may stand for the point.
    std::istringstream stream(digits);
    stream.imbue(std::locale::classic());
    double found = 0;
    stream >> found;
    if (!stream || !std::isfinite(found)) fail("a number out of range");
    return found;
  }

  unsigned hex4() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      ++at_;
      code <<= 4;
      if (c >= '0' && c <= '9') {
        code |= static_cast<unsigned>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        code |= static_cast<unsigned>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        code |= static_cast<unsigned>(c - 'A' + 10);
      } else {
        fail("four hex digits are missing");
      }
    }
    return code;
  }

  // The rest of a character that starts with `first` (RFC 3629): no overlong form, no surrogate, none above U+10FFFF.
  void multibyte(unsigned char first, std::string& into) {
    const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4) fail("not UTF-8");
    into += static_cast<char>(first);
    for (int i = 0; i < more; ++i) {
      const auto byte = static_cast<unsigned char>(peek());
      const unsigned least = i > 0 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
      const unsigned most = i > 0 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
      if (byte < least || byte > most) fail("not UTF-8");
      into += static_cast<char>(byte);
      ++at_;
    }
  }

  void escaped(std::string& into) {
    const char c = peek();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        into += c;
        return;
      case 'b':
        into += '\b';
        return;
      case 'f':
        into += '\f';
        return;
      case 'n':
        into += '\n';
        return;
      case 'r':
        into += '\r';
        return;
      case 't':
        into += '\t';
        return;
      case 'u':
        break;
      default:
        fail("an unknown escape");
    }
    unsigned code = hex4();
    if (code >= 0xDC00 && code < 0xE000) fail("half a surrogate pair");
    if (code >= 0xD800 && code < 0xDC00) {
      if (text_.substr(at_, 2) != "\\u") fail("half a surrogate pair");
      at_ += 2;
      const unsigned low = hex4();
      if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    utf8(code, into);
  }

  static void utf8(unsigned code, std::string& into) {
    const auto put = [&into](unsigned byte) { into += static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xC0 | code >> 6);
      put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      put(0xE0 | code >> 12);
      put(0x80 | (code >> 6 & 0x3F));
      put(0x80 | (code & 0x3F));
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
      put(0x80 | (code >> 6 & 0x3F));
      put(0x80 | (code & 0x3F));
    }
  }

  std::string string() {
    std::string found;
    ++at_;
    for (;;) {
      if (at_ >= text_.size()) fail("a string without end");
      const char c = text_[at_];
      ++at_;
      if (c == '"') return found;
      if (c == '\\') {
        escaped(found);
      } else if (static_cast<unsigned char>(c) < 0x20) {
        fail("a control character in a string");
      } else if (static_cast<unsigned char>(c) >= 0x80) {
        multibyte(static_cast<unsigned char>(c), found);
      } else {
        found += c;
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).whole(); }

namespace {
void require_kind(bool right, const char* where, const char* kind) {
  require(right, std::string(where) + " must be " + kind);
}
}  // namespace

bool Json::boolean(const char* where) const {
  require_kind(kind_ == Kind::kBool, where, "true or false");
  return boolean_;
}

double Json::number(const char* where) const {
  require_kind(kind_ == Kind::kNumber, where, "a number");
  return number_;
}

size_t Json::whole(const char* where, size_t least, size_t most) const {
  const double found = number(where);
  const bool right =
      found == std::floor(found) && found >= static_cast<double>(least) && found <= static_cast<double>(most);
  require(right,
          std::string(where) + " must be a whole number, " + std::to_string(least) + " to " + std::to_string(most));
  return static_cast<size_t>(found);
}

const std::string& Json::string(const char* where) const {
  require_kind(kind_ == Kind::kString, where, "a string");
  return string_;
}

const std::vector<Json>& Json::array(const char* where) const {
  require_kind(kind_ == Kind::kArray, where, "a list");
  return array_;
}

const std::vector<std::pair<std::string, Json>>& Json::object(const char* where) const {
  require_kind(kind_ == Kind::kObject, where, "an object");
  return object_;
}

const Json& Json::at(const char* key) const {
  require_kind(kind_ == Kind::kObject, key, "the member of an object");
  for (const auto& [name, value] : object_) {
    if (name == key) return value;
  }
  throw Error(std::string(key) + " is missing");
}

}  // namespace vitlet
