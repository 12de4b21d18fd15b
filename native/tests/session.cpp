#include "session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <thread>

#include "error.h"
#include "isa.h"
#include "tiny.h"

using vitlet::Kernels;
using vitlet::Session;

namespace {

std::vector<float> run(Session& session, const std::vector<float>& images, size_t batch) {
  std::vector<float> logits(batch * session.model().config.classes);
  session.run(images.data(), batch, logits.data());
  return logits;
}

std::vector<float> run_rgb(Session& session, const std::vector<uint8_t>& pixels, size_t batch) {
  std::vector<float> logits(batch * session.model().config.classes);
  session.run_rgb(pixels.data(), batch, logits.data());
  return logits;
}

void each(const std::function<void(const Kernels&, const std::string&, const tiny::Options&)>& use) {
  int turn = 0;
  for (const Kernels* const kernels : vitlet::instruction_sets()) {
    for (const auto& one : tiny::every_switch()) {
      const std::string& name = one.first;
      tiny::Options options = one.second;
      // Where some are left out, each instruction set leaves out others: there are 21 switches.
      if (turn++ % tiny::test_step() != 0) continue;
      for (const bool int8 : {false, true}) {
        options.int8 = int8;
        CAPTURE(std::string(kernels->name));
        CAPTURE(name);
        CAPTURE(int8);
        use(*kernels, name, options);
      }
    }
  }
}

// The error of `found`, relative to the deviation of what was wanted.
double relative_error(const std::vector<float>& found, const std::vector<double>& wanted) {
  double error = 0, total = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += (found[i] - wanted[i]) * (found[i] - wanted[i]);
    total += wanted[i] * wanted[i];
  }
  return std::sqrt(error / total);
}

}  // namespace

TEST_SUITE("session") {
  TEST_CASE("every switch answers as a plain ViT in double precision") {
    each([](const Kernels& kernels, const std::string&, const tiny::Options& options) {
      const tiny::File file = tiny::file_of(options);
      const std::vector<float> images = tiny::images_for(options, 3);
      const std::vector<double> wanted = tiny::reference(options, file, images, 3);
      Session session(tiny::model_of(options, kernels), 2);
      const double error = relative_error(run(session, images, 3), wanted);
      // In int8 every activation is rounded to 255 steps of its row: 0.1 % to 1 % of its deviation each.
      CHECK(error < (options.int8 ? 0.05 : 1e-5));
    });
  }

  TEST_CASE("weights of several megabytes, for which there are large pages, answer as a plain ViT") {
    tiny::Options wide;
    wide.width = 200;
    wide.blocks = {{2, 6, 12000}};
    // Rows and columns of one are padded: packed they take five times the file, which the large pages have no room for.
    tiny::Options narrow;
    narrow.width = 4096;
    narrow.blocks.assign(130, {1, 1, 1});
    for (tiny::Options options : {wide, narrow}) {
      for (const bool int8 : {false, true}) {
        options.int8 = int8;
        CAPTURE(options.width);
        CAPTURE(int8);
        REQUIRE(tiny::bytes_of(options).size() > (4 << 20));
        const tiny::File file = tiny::file_of(options);
        const std::vector<float> images = tiny::images_for(options, 1);
        const std::vector<double> wanted = tiny::reference(options, file, images, 1);
        Session session(tiny::model_of(options, *vitlet::instruction_sets().front()), 2);
        CHECK(relative_error(run(session, images, 1), wanted) < (int8 ? 0.05 : 1e-4));
      }
    }
  }

  TEST_CASE("logits do not depend on threads, batch or session, bit by bit") {
    each([](const Kernels& kernels, const std::string&, const tiny::Options& options) {
      const auto model = tiny::model_of(options, kernels);
      const std::vector<float> images = tiny::images_for(options, 5);
      Session alone(model, 1);
      const std::vector<float> wanted = run(alone, images, 5);
      for (const int threads : {2, 3, 7}) {
        Session session(model, threads);
        CHECK(run(session, images, 5) == wanted);
        CHECK(run(session, images, 5) == wanted);
      }
      const size_t size = images.size() / 5;
      for (size_t image = 0; image < 5; ++image) {
        const std::vector<float> one(images.begin() + static_cast<long>(image * size),
                                     images.begin() + static_cast<long>((image + 1) * size));
        const std::vector<float> logits = run(alone, one, 1);
        CHECK(std::equal(logits.begin(), logits.end(), wanted.begin() + static_cast<long>(image * options.classes)));
      }
    });
  }

  TEST_CASE("int8 logits are the same bits from every instruction set") {
    int turn = 0;
    for (const auto& one : tiny::every_switch()) {
      const std::string& name = one.first;
      const tiny::Options& options = one.second;
      if (turn++ % std::min(tiny::test_step(), 4) != 0) continue;
      CAPTURE(name);
      const std::vector<float> images = tiny::images_for(options, 2);
      Session plain(tiny::model_of(options, *vitlet::instruction_sets().back()), 1);
      const std::vector<float> wanted = run(plain, images, 2);
      for (const Kernels* const kernels : vitlet::instruction_sets()) {
        CAPTURE(std::string(kernels->name));
        Session session(tiny::model_of(options, *kernels), 2);
        CHECK(run(session, images, 2) == wanted);
      }
    }
  }

  TEST_CASE("RGB pixels answer as the normalized images that they are") {
    each([](const Kernels& kernels, const std::string&, const tiny::Options& options) {
      const std::vector<uint8_t> pixels = tiny::pixels_for(options, 2);
      const std::vector<float> images = tiny::normalized(options, pixels, 2);
      Session session(tiny::model_of(options, kernels), 2);
      const std::vector<float> by_rgb = run_rgb(session, pixels, 2);
      const std::vector<float> logits = run(session, images, 2);
      // In int8 what was a whole pixel becomes one again (Session::gather), and the bits are the same; in fp32 a
      // normalized image is a rounding away from it.
      if (options.int8) CHECK(by_rgb == logits);
      CHECK(relative_error(by_rgb, std::vector<double>(logits.begin(), logits.end())) < 1e-5);
      const std::vector<double> wanted = tiny::reference(options, tiny::file_of(options), images, 2);
      CHECK(relative_error(by_rgb, wanted) < (options.int8 ? 0.05 : 1e-5));
    });
  }

  TEST_CASE("two sessions of one model at once, and one session from several threads") {
    for (const bool int8 : {true, false}) {
      tiny::Options options;
      options.int8 = int8;
      const auto model = tiny::model_of(options, *vitlet::instruction_sets().front());
      const std::vector<float> images = tiny::images_for(options, 6);
      Session shared(model, 3);
      const std::vector<float> wanted = run(shared, images, 6);
      std::atomic<int> wrong{0};
      std::vector<std::thread> callers;
      for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([&, caller] {
          Session own(model, 2);
          for (int i = 0; i < 20; ++i) {
            // Batches of different sizes: buffers grow while others wait.
            const size_t batch = 1 + static_cast<size_t>((i + caller) % 6);
            for (Session* const session : {&own, &shared}) {
              const std::vector<float> logits = run(*session, images, batch);
              if (!std::equal(logits.begin(), logits.end(), wanted.begin())) ++wrong;
            }
          }
        });
      }
      for (std::thread& caller : callers) caller.join();
      CHECK(wrong == 0);
    }
  }

  TEST_CASE("a session keeps its model") {
    tiny::Options options;
    auto model = tiny::model_of(options, *vitlet::instruction_sets().front());
    const std::vector<float> images = tiny::images_for(options, 1);
    auto session = std::make_unique<Session>(model, 2);
    const std::vector<float> wanted = run(*session, images, 1);
    auto other = std::make_unique<Session>(model, 1);
    model.reset();
    session.reset();
    CHECK(run(*other, images, 1) == wanted);
  }

  TEST_CASE("threads beyond the tokens have nothing to do") {
    tiny::Options options;
    options.height = options.width_in_pixels = options.patch;
    const auto model = tiny::model_of(options, *vitlet::instruction_sets().front());
    const std::vector<float> images = tiny::images_for(options, 1);
    Session alone(model, 1);
    Session many(model, 16);
    CHECK(run(many, images, 1) == run(alone, images, 1));
  }

  TEST_CASE("batches may shrink and grow") {
    for (const bool int8 : {true, false}) {
      tiny::Options options;
      options.int8 = int8;
      Session session(tiny::model_of(options, *vitlet::instruction_sets().front()), 2);
      const std::vector<float> images = tiny::images_for(options, 40);
      const std::vector<float> wanted = run(session, images, 40);
      for (const size_t batch : {size_t{1}, size_t{7}, size_t{40}, size_t{2}}) {
        const std::vector<float> logits = run(session, images, batch);
        CHECK(std::equal(logits.begin(), logits.end(), wanted.begin()));
      }
    }
  }

  TEST_CASE("images of anything do not crash, and leave nothing behind") {
    constexpr float kLargest = std::numeric_limits<float>::max();
    int turn = 0;
    for (const Kernels* const kernels : vitlet::instruction_sets()) {
      for (const auto& one : tiny::every_switch()) {
        const std::string& name = one.first;
        tiny::Options options = one.second;
        if (name == "many tokens" || turn++ % tiny::test_step() != 0) continue;  // the first is only slow
        for (const bool int8 : {true, false}) {
          options.int8 = int8;
          CAPTURE(std::string(kernels->name));
          CAPTURE(name);
          Session session(tiny::model_of(options, *kernels), 2);
          const std::vector<float> images = tiny::images_for(options, 2);
          const std::vector<float> wanted = run(session, images, 2);
          for (const float odd : {NAN, INFINITY, -INFINITY, kLargest, -kLargest, 1e20f}) {
            std::vector<float> spoilt = images;
            spoilt[spoilt.size() / 3] = odd;
            try {
              run(session, spoilt, 2);  // the value may be in no patch, where the image is no multiple of them
            } catch (const vitlet::Error&) {
              CHECK_FALSE(std::isfinite(odd));
            }
            std::fill(spoilt.begin(), spoilt.begin() + static_cast<long>(spoilt.size() / 2), odd);
            if (!std::isfinite(odd)) {
              CHECK_THROWS_WITH_AS(run(session, spoilt, 2), "an image holds values that are infinite or no numbers",
                                   vitlet::Error);
              continue;
            }
            const std::vector<float> logits = run(session, spoilt, 2);
            // The other image of the batch is not touched by it.
            CHECK(std::equal(logits.begin() + static_cast<long>(options.classes), logits.end(),
                             wanted.begin() + static_cast<long>(options.classes)));
          }
          CHECK(run(session, images, 2) == wanted);
        }
      }
    }
  }

  TEST_CASE("weights as large as floats go do not crash") {
    for (const Kernels* const kernels : vitlet::instruction_sets()) {
      for (const bool int8 : {true, false}) {
        tiny::Options options;
        options.int8 = int8;
        tiny::File file = tiny::file_of(options);
        for (auto& [name, entry] : file.tensors) {
          if (entry.dtype != "F32") continue;
          std::vector<float> values = tiny::values_of(entry);
          for (size_t i = 0; i < values.size(); ++i) values[i] = i % 2 ? 3e38f : -3e38f;
          entry = tiny::floats(entry.shape, values);
        }
        const std::vector<uint8_t> bytes = file.bytes();
        Session session(vitlet::Model::read(bytes.data(), bytes.size(), *kernels), 1);
        run(session, tiny::images_for(options, 1), 1);
      }
    }
  }

  TEST_CASE("an empty batch does nothing, one too large is an Error") {
    tiny::Options options;
    Session session(tiny::model_of(options, *vitlet::instruction_sets().front()), 2);
    session.run(nullptr, 0, nullptr);
    session.run_rgb(nullptr, 0, nullptr);
    const std::vector<float> images = tiny::images_for(options, 1);
    std::vector<float> logits(5);
    CHECK_THROWS_AS(session.run(images.data(), 65537, logits.data()), vitlet::Error);
    CHECK_NOTHROW(session.run(images.data(), 1, logits.data()));
  }
}
