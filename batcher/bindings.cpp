// penstock.native._batcher: the worker's side of a batch ring.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <map>
#include "penstock/batcher/batch_taker.hpp"
namespace nb = nanobind;
using namespace nb::literals;
namespace penstock::batcher {
namespace {
nb::dlpack::dtype dl(DType t) {
  using C = nb::dlpack::dtype_code;
  C code = C::Float;
  auto v = static_cast<int>(t);
  if (v == 0) code = C::Bool; else if (v <= 4) code = C::UInt; else if (v <= 8) code = C::Int;
  return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(size_of(t) * 8), 1};
}
struct PyTaker;
struct PyBatch { PyTaker* taker; TakenBatch batch; };
struct PyTaker {
  BatchTaker taker; std::map<std::pair<std::uint32_t,std::uint32_t>, nb::object> in, out;
  PyTaker(int fd, std::vector<int> fds, std::uint32_t w) : taker(fd, std::move(fds), w) {}
  nb::object views(const TakenBatch& b, bool input) {
    auto& cache = input ? in : out;
    const auto& layout = input ? taker.schema().inputs : taker.schema().outputs;
    bool large = input && layout.bytes() > 16384;
    auto key = std::make_pair(b.buffer, b.rows);
    if (!large) if (auto it = cache.find(key); it != cache.end()) return it->second;
    nb::list l;
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const auto& t = layout.tensors()[i];
      std::vector<std::size_t> shape{b.rows}; for (auto d : t.shape) shape.push_back(d);
      if (input) l.append(nb::ndarray<nb::numpy, nb::ro>((void*)taker.input(b, i), shape.size(), shape.data(), nb::find(*this), nullptr, dl(t.dtype)).cast(nb::rv_policy::reference));
      else l.append(nb::ndarray<nb::numpy>((void*)taker.output(b, i), shape.size(), shape.data(), nb::find(*this), nullptr, dl(t.dtype)).cast(nb::rv_policy::reference));
    }
    nb::object r = nb::tuple(l);
    if (!large) cache[key] = r;
    return r;
  }
};
nb::list specs(const RowLayout& l) { nb::list r; for (auto& t : l.tensors()) { nb::list s; for (auto d : t.shape) s.append(d); r.append(nb::make_tuple(t.name, std::string(name_of(t.dtype)), nb::tuple(s))); } return r; }
}
NB_MODULE(_batcher, m) {
  nb::class_<PyBatch>(m, "Batch")
    .def_prop_ro("rows", [](PyBatch& b) { return b.batch.rows; }).def_prop_ro("sequence", [](PyBatch& b) { return b.batch.sequence; })
    .def_prop_ro("attempt", [](PyBatch& b) { return b.batch.attempt; }).def_prop_ro("singly", [](PyBatch& b) { return b.batch.singly; })
    .def_prop_ro("inputs", [](PyBatch& b) { return b.taker->views(b.batch, true); }).def_prop_ro("outputs", [](PyBatch& b) { return b.taker->views(b.batch, false); })
    .def("is_completed", [](PyBatch& b, std::uint32_t r) { return b.taker->taker.is_completed(b.batch, r); })
    .def("is_cancelled", [](PyBatch& b, std::uint32_t r) { return b.taker->taker.meta(b.batch, r).cancelled.load() != 0; })
    .def("mark_running", [](PyBatch& b, std::uint32_t r) { b.taker->taker.mark_running(b.batch, r); })
    .def("complete_row", [](PyBatch& b, std::uint32_t r) { b.taker->taker.complete_row(b.batch, r); })
    .def("fail_row", [](PyBatch& b, std::uint32_t r, const std::string& e, const std::string& d) { b.taker->taker.fail_row(b.batch, r, e == "bad_output" ? RowError::kBadOutput : RowError::kModelRaised, d); })
    .def("complete", [](PyBatch& b) { b.taker->taker.complete(b.batch); });
  nb::class_<PyTaker>(m, "Taker").def(nb::init<int, std::vector<int>, std::uint32_t>(), "ring_fd"_a, "loop_event_fds"_a, "worker"_a)
    .def_prop_ro("max_batch_size", [](PyTaker& t) { return t.taker.max_batch_size(); })
    .def_prop_ro("inputs", [](PyTaker& t) { return specs(t.taker.schema().inputs); }).def_prop_ro("outputs", [](PyTaker& t) { return specs(t.taker.schema().outputs); })
    .def("take", [](PyTaker& t, int ms) -> nb::object { std::optional<TakenBatch> b; { nb::gil_scoped_release g; b = t.taker.take(ms); } if (!b) return nb::none(); return nb::cast(PyBatch{&t, *b}); }, "timeout_ms"_a = -1);
}
}
