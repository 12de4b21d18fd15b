// The C interface, as a program sees it.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "faults.h"
#include "tiny.h"
#include "vitlet.h"

namespace {

// A model file that is there as long as this is.
class Saved {
 public:
  explicit Saved(const std::vector<uint8_t>& bytes) {
    const int file = mkstemp(path_);
    REQUIRE(file >= 0);
    REQUIRE(write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    close(file);
  }
  ~Saved() { unlink(path_); }
  const char* path() const { return path_; }

 private:
  char path_[32] = "/tmp/vitlet-XXXXXX";
};

class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    const char* const before = std::getenv(name);
    had_ = before != nullptr;
    if (had_) before_ = before;
    setenv(name, value, 1);
  }
  ~Variable() { had_ ? setenv(name_, before_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* const name_;
  bool had_;
  std::string before_;
};

bool complains() { return std::strlen(vitlet_last_error()) > 0; }

}  // namespace

TEST_SUITE("api") {
  TEST_CASE("what it says of itself") {
    CHECK(std::string(vitlet_version()).find('.') != std::string::npos);
    const std::string sets = vitlet_instruction_sets();
    CHECK(sets.substr(sets.rfind(' ') + 1) == "generic");
  }

  TEST_CASE("from a file to logits") {
    tiny::Options options;
    options.int8 = false;
    const tiny::File parts = tiny::file_of(options);
    vitlet_model* model;
    {
      const Saved file(parts.bytes());
      model = vitlet_load(file.path());
    }  // the file is gone
    REQUIRE(model != nullptr);
    CHECK(std::string(vitlet_last_error()).empty());
    CHECK(vitlet_image_height(model) == options.height);
    CHECK(vitlet_image_width(model) == options.width_in_pixels);
    CHECK(vitlet_classes(model) == options.classes);
    CHECK(std::string(vitlet_label(model, 4)) == "4");
    CHECK(vitlet_label(model, 5) == nullptr);
    CHECK(vitlet_label(model, SIZE_MAX) == nullptr);
    const std::string sets = vitlet_instruction_sets();
    if (std::getenv("VITLET_ISA") == nullptr) CHECK(vitlet_instruction_set(model) == sets.substr(0, sets.find(' ')));
    vitlet_session* const session = vitlet_open(model, 3);
    REQUIRE(session != nullptr);
    vitlet_free(model);  // the session keeps what it needs
    const std::vector<uint8_t> pixels = tiny::pixels_for(options, 2);
    const std::vector<float> images = tiny::normalized(options, pixels, 2);
    const std::vector<double> wanted = tiny::reference(options, parts, images, 2);
    std::vector<float> logits(2 * options.classes), by_rgb(2 * options.classes);
    REQUIRE(vitlet_run(session, images.data(), 2, logits.data()) == 0);
    REQUIRE(vitlet_run_rgb(session, pixels.data(), 2, by_rgb.data()) == 0);
    for (size_t i = 0; i < wanted.size(); ++i) {
      CHECK(logits[i] == doctest::Approx(wanted[i]).epsilon(1e-4));
      CHECK(by_rgb[i] == doctest::Approx(wanted[i]).epsilon(1e-4));
    }
    vitlet_close(session);
  }

  TEST_CASE("what cannot be loaded") {
    CHECK(vitlet_load(nullptr) == nullptr);
    CHECK(complains());
    CHECK(vitlet_load("/nowhere/model.safetensors") == nullptr);
    CHECK(std::string(vitlet_last_error()) == "cannot open /nowhere/model.safetensors: No such file or directory");
    CHECK(vitlet_load("/") == nullptr);
    CHECK(complains());
    CHECK(vitlet_load("") == nullptr);
    CHECK(complains());
    std::vector<uint8_t> bytes = tiny::bytes_of({});
    bytes.pop_back();
    const Saved cut(bytes);
    CHECK(vitlet_load(cut.path()) == nullptr);
    CHECK(complains());
    const Saved whole(tiny::bytes_of({}));
    vitlet_model* const model = vitlet_load(whole.path());
    REQUIRE(model != nullptr);
    CHECK_FALSE(complains());  // the last call went well
    vitlet_free(model);
  }

  TEST_CASE("arguments") {
    vitlet_free(nullptr);
    vitlet_close(nullptr);
    CHECK(vitlet_open(nullptr, 1) == nullptr);
    CHECK(complains());
    const Saved file(tiny::bytes_of({}));
    vitlet_model* const model = vitlet_load(file.path());
    REQUIRE(model != nullptr);
    for (const int threads : {0, -1, 1025, INT32_MIN, INT32_MAX}) {
      CHECK(vitlet_open(model, threads) == nullptr);
      CHECK(std::string(vitlet_last_error()) == "threads is " + std::to_string(threads) + "; it must be 1 to 1024");
    }
    vitlet_session* const session = vitlet_open(model, 2);
    REQUIRE(session != nullptr);
    const std::vector<float> images = tiny::images_for({}, 1);
    const std::vector<uint8_t> pixels = tiny::pixels_for({}, 1);
    std::vector<float> logits(5, -7.0f);
    CHECK(vitlet_run(nullptr, images.data(), 1, logits.data()) == -1);
    CHECK(complains());
    CHECK(vitlet_run(session, nullptr, 1, logits.data()) == -1);
    CHECK(vitlet_run(session, images.data(), 1, nullptr) == -1);
    CHECK(vitlet_run_rgb(nullptr, pixels.data(), 1, logits.data()) == -1);
    CHECK(vitlet_run_rgb(session, nullptr, 1, logits.data()) == -1);
    CHECK(vitlet_run_rgb(session, pixels.data(), 1, nullptr) == -1);
    CHECK(vitlet_run(session, images.data(), 0, logits.data()) == 0);
    CHECK(vitlet_run_rgb(session, pixels.data(), 0, logits.data()) == 0);
    CHECK_FALSE(complains());
    CHECK(vitlet_run(session, images.data(), 65537, logits.data()) == -1);
    CHECK(complains());
    CHECK(vitlet_run(session, images.data(), SIZE_MAX, logits.data()) == -1);
    CHECK(logits == std::vector<float>(5, -7.0f));
    CHECK(vitlet_run(session, images.data(), 1, logits.data()) == 0);
    CHECK(logits[0] != -7.0f);
    vitlet_close(session);
    vitlet_free(model);
  }

  TEST_CASE("phases") {
    const Saved file(tiny::bytes_of({}));
    vitlet_model* const model = vitlet_load(file.path());
    vitlet_session* const session = vitlet_open(model, 2);
    REQUIRE(session != nullptr);
    size_t phases = 0;
    while (vitlet_phase_name(phases) != nullptr) ++phases;
    CHECK(phases == 13);
    CHECK(vitlet_phase_name(SIZE_MAX) == nullptr);
    CHECK(vitlet_phase_ms(session, phases) == 0);
    const std::vector<float> images = tiny::images_for({}, 4);
    std::vector<float> logits(20);
    const auto total = [&] {
      double sum = 0;
      for (size_t phase = 0; phase < phases; ++phase) sum += vitlet_phase_ms(session, phase);
      return sum;
    };
    vitlet_run(session, images.data(), 4, logits.data());
    CHECK(total() == 0);
    vitlet_profile(session, 1);
    vitlet_run(session, images.data(), 4, logits.data());
    CHECK(total() > 0);
    CHECK(total() < 10'000);
    vitlet_profile(session, 0);
    CHECK(total() == 0);
    // Reading them while another thread runs the session.
    vitlet_profile(session, 1);
    std::thread other([&] {
      for (int i = 0; i < 20; ++i) vitlet_run(session, images.data(), 4, logits.data());
    });
    for (int i = 0; i < 20; ++i) CHECK(total() >= 0);
    other.join();
    vitlet_close(session);
    vitlet_free(model);
  }

  TEST_CASE("VITLET_ISA names the instruction set, or is an error") {
    const Saved file(tiny::bytes_of({}));
    std::string sets = vitlet_instruction_sets();
    while (!sets.empty()) {
      const std::string name = sets.substr(0, sets.find(' '));
      sets.erase(0, name.size() + 1);
      const Variable variable("VITLET_ISA", name.c_str());
      vitlet_model* const model = vitlet_load(file.path());
      REQUIRE(model != nullptr);
      CHECK(vitlet_instruction_set(model) == name);
      vitlet_free(model);
    }
    {
      const Variable variable("VITLET_ISA", "sse9");
      CHECK(vitlet_load(file.path()) == nullptr);
      CHECK(std::string(vitlet_last_error()).find("VITLET_ISA is sse9; this processor has: ") == 0);
    }
    const Variable variable("VITLET_ISA", "");
    vitlet_model* const model = vitlet_load(file.path());
    CHECK(model != nullptr);
    vitlet_free(model);
  }

  TEST_CASE("each thread has its own last error") {
    CHECK(vitlet_load(nullptr) == nullptr);
    const std::string here = vitlet_last_error();
    std::string there = "?", there_later;
    std::thread([&] {
      there = vitlet_last_error();
      vitlet_open(nullptr, 1);
      there_later = vitlet_last_error();
    }).join();
    CHECK(there.empty());
    CHECK(there_later == "the model is NULL");
    CHECK(vitlet_last_error() == here);
  }

  TEST_CASE("a system without more threads") {
    const Saved file(tiny::bytes_of({}));
    vitlet_model* const model = vitlet_load(file.path());
    REQUIRE(model != nullptr);
    {
      const faults::Threads few(2);
      CHECK(vitlet_open(model, 4) == nullptr);
      CHECK(std::string(vitlet_last_error()).find("only 3 of 4 threads could be had") == 0);
    }
    vitlet_session* const session = vitlet_open(model, 4);
    CHECK(session != nullptr);
    vitlet_close(session);
    vitlet_free(model);
  }

  TEST_CASE("memory may end anywhere") {
    // Each of the first pieces, then fewer: there are some thousand.
    const auto step = [](int pieces) { return 1 + pieces / 24; };
    for (const bool int8 : {true, false}) {
      tiny::Options options;
      options.int8 = int8;
      options.distilled = true;
      options.prefix = 2;
      const Saved file(tiny::bytes_of(options));
      const std::vector<float> images = tiny::images_for(options, 3);
      std::vector<float> logits(15), wanted(15);
      vitlet_model* model = nullptr;
      int pieces = 0;
      for (; model == nullptr; pieces += step(pieces)) {
        REQUIRE(pieces < 100'000);
        {
          const faults::Memory little(pieces);
          model = vitlet_load(file.path());
        }
        if (model == nullptr) REQUIRE(complains());
      }
      CHECK(pieces > 50);
      vitlet_session* session = nullptr;
      for (pieces = 0; session == nullptr; pieces += step(pieces)) {
        REQUIRE(pieces < 10'000);
        {
          const faults::Memory little(pieces);
          session = vitlet_open(model, 3);
        }
        if (session == nullptr) REQUIRE(complains());
      }
      CHECK(pieces > 10);
      int status = -1;
      for (pieces = 0; status != 0; pieces += step(pieces)) {
        REQUIRE(pieces < 10'000);
        {
          const faults::Memory little(pieces);
          status = vitlet_run(session, images.data(), 3, logits.data());
        }
        if (status != 0) REQUIRE(complains());
      }
      CHECK(pieces > 5);
      REQUIRE(vitlet_run(session, images.data(), 3, wanted.data()) == 0);
      CHECK(logits == wanted);
      vitlet_close(session);
      vitlet_free(model);
    }
  }
}
