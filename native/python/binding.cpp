// The library for Python: a thin layer over the C interface, which lets other Python threads run meanwhile.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "vitlet.h"

namespace nb = nanobind;

namespace {

using Images = nb::ndarray<const float, nb::shape<-1, 3, -1, -1>, nb::c_contig, nb::device::cpu>;
using Pixels = nb::ndarray<const uint8_t, nb::shape<-1, -1, -1, 3>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<nb::numpy, float, nb::shape<-1, -1>>;

[[noreturn]] void raise() { throw std::runtime_error(vitlet_last_error()); }

struct Close {
  void operator()(vitlet_model* model) const { vitlet_free(model); }
  void operator()(vitlet_session* session) const { vitlet_close(session); }
};

class Model {
 public:
  explicit Model(const std::string& path) {
    const nb::gil_scoped_release others;
    model_.reset(vitlet_load(path.c_str()));
    if (!model_) raise();
  }
  const vitlet_model* get() const { return model_.get(); }
  size_t height() const { return vitlet_image_height(get()); }
  size_t width() const { return vitlet_image_width(get()); }
  size_t classes() const { return vitlet_classes(get()); }
  std::string precision() const { return vitlet_precision(get()); }
  std::string instruction_set() const { return vitlet_instruction_set(get()); }
  std::vector<std::string> labels() const {
    std::vector<std::string> found;
    for (size_t i = 0; i < classes(); ++i) found.emplace_back(vitlet_label(get(), i));
    return found;
  }

 private:
  std::unique_ptr<vitlet_model, Close> model_;
};

class Session {
 public:
  Session(const Model& model, int threads)
      : height_(model.height()), width_(model.width()), classes_(model.classes()) {
    const nb::gil_scoped_release others;
    session_.reset(vitlet_open(model.get(), threads));
    if (!session_) raise();
  }

  Logits run(const Images& images) {
    check(images.shape(2), images.shape(3));
    return answer(images.shape(0), [&](float* logits) {
      return vitlet_run(session_.get(), images.data(), images.shape(0), logits);
    });
  }

  Logits run_rgb(const Pixels& pixels) {
    check(pixels.shape(1), pixels.shape(2));
    return answer(pixels.shape(0), [&](float* logits) {
      return vitlet_run_rgb(session_.get(), pixels.data(), pixels.shape(0), logits);
    });
  }

  void profile(bool on) { vitlet_profile(session_.get(), on); }

  std::map<std::string, double> phases() const {
    std::map<std::string, double> found;
    for (size_t i = 0; vitlet_phase_name(i) != nullptr; ++i) {
      found[vitlet_phase_name(i)] = vitlet_phase_ms(session_.get(), i);
    }
    return found;
  }

 private:
  void check(size_t height, size_t width) const {
    if (height != height_ || width != width_) throw nb::value_error("the images are not of the model's size");
  }

  template <class Run>
  Logits answer(size_t batch, Run run) {
    auto owned = std::make_unique<float[]>(batch * classes_);
    int status;
    {
      const nb::gil_scoped_release others;
      status = run(owned.get());
    }
    if (status == -2) throw std::bad_alloc();
    if (status != 0) throw nb::value_error(vitlet_last_error());
    float* const data = owned.release();
    const nb::capsule owner(data, [](void* held) noexcept { delete[] static_cast<float*>(held); });
    return Logits(data, {batch, classes_}, owner);
  }

  std::unique_ptr<vitlet_session, Close> session_;
  size_t height_;
  size_t width_;
  size_t classes_;
};

}  // namespace

NB_MODULE(_native, module) {
  module.def("version", [] { return std::string(vitlet_version()); });
  module.def("instruction_sets", [] { return std::string(vitlet_instruction_sets()); });
  nb::class_<Model>(module, "Model")
      .def(nb::init<const std::string&>())
      .def_prop_ro("height", &Model::height)
      .def_prop_ro("width", &Model::width)
      .def_prop_ro("classes", &Model::classes)
      .def_prop_ro("precision", &Model::precision)
      .def_prop_ro("labels", &Model::labels)
      .def_prop_ro("instruction_set", &Model::instruction_set);
  nb::class_<Session>(module, "Session")
      .def(nb::init<const Model&, int>(), nb::arg("model"), nb::arg("threads"))
      .def("run", &Session::run, nb::arg("images").noconvert())
      .def("run_rgb", &Session::run_rgb, nb::arg("pixels").noconvert())
      .def("profile", &Session::profile, nb::arg("on"))
      .def("phases", &Session::phases);
}
