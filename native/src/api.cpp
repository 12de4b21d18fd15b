// The C interface: nothing is thrown past it, and every failure leaves one sentence.
#include <cstring>
#include <new>
#include <string>

#include "error.h"
#include "isa.h"
#include "session.h"
#include "vitlet.h"

struct vitlet_model {
  std::shared_ptr<const vitlet::Model> model;
};

struct vitlet_session {
  vitlet::Session session;
};

namespace {

constexpr int kMostThreads = 1024;

thread_local std::string last_error;

void remember(const char* sentence) noexcept {
  try {
    last_error = sentence;
  } catch (...) {
    last_error = "no memory";  // short enough to need none
  }
}

template <class Work>
auto guarded(Work work) -> decltype(work()) {
  using Result = decltype(work());
  last_error.clear();
  int status = -1;
  try {
    return work();
  } catch (const std::bad_alloc&) {
    remember("there is not enough memory");
    status = -2;
  } catch (const std::exception& error) {
    remember(error.what());
  }
  if constexpr (std::is_pointer_v<Result>) {
    return nullptr;
  } else {
    return status;
  }
}

}  // namespace

extern "C" {

const char* vitlet_last_error(void) { return last_error.c_str(); }

const char* vitlet_version(void) { return VITLET_VERSION; }

const char* vitlet_instruction_sets(void) {
  static const std::string names = [] {
    std::string found;
    for (const vitlet::Kernels* one : vitlet::instruction_sets())
      found += (found.empty() ? "" : " ") + std::string(one->name);
    return found;
  }();
  return names.c_str();
}

vitlet_model* vitlet_load(const char* path) {
  return guarded([&] {
    vitlet::require(path != nullptr, "the path is NULL");
    return new vitlet_model{vitlet::Model::load(path, vitlet::chosen_instruction_set())};
  });
}

void vitlet_free(vitlet_model* model) { delete model; }

size_t vitlet_image_height(const vitlet_model* model) { return model->model->config.image_height; }
size_t vitlet_image_width(const vitlet_model* model) { return model->model->config.image_width; }
size_t vitlet_classes(const vitlet_model* model) { return model->model->config.classes; }

const char* vitlet_metadata(const vitlet_model* model, const char* key) {
  const auto found = key == nullptr ? model->model->metadata.end() : model->model->metadata.find(key);
  return found == model->model->metadata.end() ? nullptr : found->second.c_str();
}

const char* vitlet_label(const vitlet_model* model, size_t class_number) {
  const auto& labels = model->model->config.labels;
  return class_number < labels.size() ? labels[class_number].c_str() : nullptr;
}

const char* vitlet_precision(const vitlet_model* model) {
  return model->model->config.arithmetic == vitlet::Arithmetic::kInt8 ? "int8-dynamic" : "fp32";
}

const char* vitlet_instruction_set(const vitlet_model* model) { return model->model->kernels->name; }

vitlet_session* vitlet_open(const vitlet_model* model, int threads) {
  return guarded([&] {
    vitlet::require(model != nullptr, "the model is NULL");
    vitlet::require(threads >= 1 && threads <= kMostThreads,
                    "threads is " + std::to_string(threads) + "; it must be 1 to " + std::to_string(kMostThreads));
    return new vitlet_session{{model->model, threads}};
  });
}

void vitlet_close(vitlet_session* session) { delete session; }

int vitlet_run(vitlet_session* session, const float* images, size_t batch, float* logits) {
  return guarded([&] {
    vitlet::require(session != nullptr && images != nullptr && logits != nullptr, "an argument is NULL");
    session->session.run(images, batch, logits);
    return 0;
  });
}

int vitlet_run_rgb(vitlet_session* session, const uint8_t* pixels, size_t batch, float* logits) {
  return guarded([&] {
    vitlet::require(session != nullptr && pixels != nullptr && logits != nullptr, "an argument is NULL");
    session->session.run_rgb(pixels, batch, logits);
    return 0;
  });
}

void vitlet_profile(vitlet_session* session, int on) { session->session.profile(on != 0); }

const char* vitlet_phase_name(size_t phase) {
  return phase < vitlet::kPhases ? vitlet::name_of(static_cast<vitlet::Phase>(phase)) : nullptr;
}

double vitlet_phase_ms(const vitlet_session* session, size_t phase) {
  return phase < vitlet::kPhases ? session->session.milliseconds()[phase] : 0.0;
}

}  // extern "C"
