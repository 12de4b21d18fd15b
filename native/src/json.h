// JSON (RFC 8259) as a safetensors header needs it: read whole, checked, never trusted.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vitlet {

// A JSON value. The accessors throw `Error` naming `where` when the value is of another kind.
class Json {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  // Throws Error: `text` is no JSON document in UTF-8, is nested deeper than 32, or repeats a key.
  static Json parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool boolean(const char* where) const;
  double number(const char* where) const;
  // A whole number in [least, most].
  size_t whole(const char* where, size_t least, size_t most) const;
  const std::string& string(const char* where) const;
  const std::vector<Json>& array(const char* where) const;
  const std::vector<std::pair<std::string, Json>>& object(const char* where) const;
  // A member of an object; throws if it is not there.
  const Json& at(const char* key) const;

 private:
  friend class JsonReader;
  Kind kind_ = Kind::kNull;
  bool boolean_ = false;
  double number_ = 0;
  std::string string_;
  std::vector<Json> array_;
  std::vector<std::pair<std::string, Json>> object_;
};

}  // namespace vitlet
