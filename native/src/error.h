// The library's one exception. It never leaves the library: the C interface turns it into a text.
#pragma once

#include <stdexcept>
#include <string>

namespace vitlet {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool condition, const std::string& message) {
  if (!condition) throw Error(message);
}

}  // namespace vitlet
