// penstock.native._batcher: a worker's side of the batch ring. The producer's side, for tests, is in bindings_ring.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings_ring.hpp"
#include "bindings_schema.hpp"
#include "futex.hpp"
#include "penstock/batcher/batch_taker.hpp"
#include "ring_layout.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::batcher {
namespace {

// Python's signal handlers run at least this often while a worker waits: the kernel may have given the signal to
// another thread.
constexpr int kWaitSliceMs = 2000;

// Arrays over one buffer, made once: a take finds them again.
struct Views {
  nb::object inputs;
  nb::object outputs;
};

// A taker and the arrays it has handed out. The arrays own the taker (through a capsule), never this object: no cycle.
class Attached {
 public:
  Attached(int ring_fd, std::vector<int> loop_event_fds, std::uint32_t worker)
      : taker_(std::make_shared<BatchTaker>(ring_fd, std::move(loop_event_fds), worker)),
        in_place_(taker_->schema().inputs.bytes() <= kInPlaceBytesMax),
        views_(std::size_t{taker_->buffers()} * taker_->max_batch_size()) {}

  [[nodiscard]] BatchTaker& taker() noexcept { return *taker_; }

  [[nodiscard]] nb::object inputs(const TakenBatch& batch) {
    nb::object& views = views_of(batch).inputs;
    // Rows in the arena lie somewhere else each time.
    if (!views.is_valid() || !in_place_) views = make(taker_->schema().inputs, batch, true);
    return views;
  }

  [[nodiscard]] nb::object outputs(const TakenBatch& batch) {
    nb::object& views = views_of(batch).outputs;
    if (!views.is_valid()) views = make(taker_->schema().outputs, batch, false);
    return views;
  }

 private:
  [[nodiscard]] Views& views_of(const TakenBatch& batch) {
    return views_[std::size_t{batch.buffer} * taker_->max_batch_size() + batch.rows - 1];
  }

  [[nodiscard]] nb::object make(const RowLayout& layout, const TakenBatch& batch, bool input) {
    const nb::capsule owner(new std::shared_ptr<BatchTaker>(taker_),
                            [](void* pointer) noexcept { delete static_cast<std::shared_ptr<BatchTaker>*>(pointer); });
    nb::list arrays;
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const TensorSpec& tensor = layout.tensors()[i];
      arrays.append(input ? view<ReadOnlyArray>(taker_->input(batch, i), batch.rows, tensor, owner)
                          : view<WritableArray>(taker_->output(batch, i), batch.rows, tensor, owner));
    }
    return nb::tuple(arrays);
  }

  std::shared_ptr<BatchTaker> taker_;
  const bool in_place_;
  std::vector<Views> views_;
};

using Arrays = nb::typed<nb::tuple, nb::ndarray<nb::numpy>, nb::ellipsis>;

class Batch {
 public:
  Batch(std::shared_ptr<Attached> attached, const TakenBatch& taken) : attached_(std::move(attached)), taken_(taken) {}

  [[nodiscard]] std::uint32_t rows() const { return taken_.rows; }
  [[nodiscard]] std::uint64_t sequence() const { return taken_.sequence; }
  [[nodiscard]] std::uint32_t attempt() const { return taken_.attempt; }
  [[nodiscard]] bool singly() const { return taken_.singly; }
  [[nodiscard]] Arrays inputs() { return nb::borrow<Arrays>(attached_->inputs(held())); }
  [[nodiscard]] Arrays outputs() { return nb::borrow<Arrays>(attached_->outputs(held())); }

  [[nodiscard]] bool is_completed(std::uint32_t row) { return taker().is_completed(held(), checked(row)); }
  [[nodiscard]] bool is_cancelled(std::uint32_t row) {
    // Relaxed: a hint.
    return taker().meta(held(), checked(row)).cancelled.load(std::memory_order_relaxed) != 0;
  }
  void mark_running(std::uint32_t row) { taker().mark_running(held(), checked(row)); }
  void complete_row(std::uint32_t row) { taker().complete_row(held(), checked(row)); }
  void fail_row(std::uint32_t row, std::string_view error, std::string_view detail) {
    taker().fail_row(held(), checked(row), error_from_name(error), detail);
  }
  void complete() {
    taker().complete(held());
    completed_ = true;
  }

 private:
  [[nodiscard]] static RowError error_from_name(std::string_view name) {
    if (name == "model_raised") return RowError::kModelRaised;
    if (name == "bad_output") return RowError::kBadOutput;
    throw std::invalid_argument("a row fails by 'model_raised' or 'bad_output'");
  }

  [[nodiscard]] BatchTaker& taker() { return attached_->taker(); }

  // After complete() the buffer belongs to others: a late write would spoil their rows.
  [[nodiscard]] const TakenBatch& held() const {
    if (completed_) throw std::runtime_error("the batch is completed");
    return taken_;
  }

  [[nodiscard]] std::uint32_t checked(std::uint32_t row) const {
    if (row >= taken_.rows) throw nb::index_error("no such row in the batch");
    return row;
  }

  std::shared_ptr<Attached> attached_;
  const TakenBatch taken_;
  bool completed_ = false;
};

class Taker {
 public:
  Taker(int ring_fd, std::vector<int> loop_event_fds, std::uint32_t worker)
      : attached_(std::make_shared<Attached>(ring_fd, std::move(loop_event_fds), worker)) {}

  [[nodiscard]] std::uint32_t max_batch_size() const { return attached_->taker().max_batch_size(); }
  [[nodiscard]] std::vector<Tensor> inputs() const { return describe(attached_->taker().schema().inputs); }
  [[nodiscard]] std::vector<Tensor> outputs() const { return describe(attached_->taker().schema().outputs); }

  [[nodiscard]] std::optional<Batch> take(int timeout_ms) {
    std::uint64_t deadline_ns = ~std::uint64_t{0};
    if (timeout_ms > 0) deadline_ns = monotonic_ns() + static_cast<std::uint64_t>(timeout_ms) * 1'000'000;
    for (;;) {
      if (const std::optional<TakenBatch> batch = wait_slice(timeout_ms)) return Batch(attached_, *batch);
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (timeout_ms < 0) continue;
      const std::uint64_t now_ns = monotonic_ns();
      if (timeout_ms == 0 || now_ns >= deadline_ns) return std::nullopt;
      timeout_ms = static_cast<int>((deadline_ns - now_ns + 999'999) / 1'000'000);
    }
  }

 private:
  [[nodiscard]] std::optional<TakenBatch> wait_slice(int timeout_ms) {
    // What is there already is taken without giving the GIL away: two switches would cost more than the take.
    if (std::optional<TakenBatch> batch = attached_->taker().take(0)) return batch;
    if (timeout_ms == 0) return std::nullopt;
    const nb::gil_scoped_release released;
    return attached_->taker().take(timeout_ms < 0 ? kWaitSliceMs : std::min(timeout_ms, kWaitSliceMs));
  }

  std::shared_ptr<Attached> attached_;
};

}  // namespace
}  // namespace penstock::batcher

NB_MODULE(_batcher, module) {
  using namespace penstock::batcher;
  nb::class_<Batch>(module, "Batch",
                    "Rows taken together. Inputs are read-only views; both are valid until complete().")
      .def_prop_ro("rows", &Batch::rows)
      .def_prop_ro("sequence", &Batch::sequence)
      .def_prop_ro("attempt", &Batch::attempt, "Workers that have died with the batch.")
      .def_prop_ro("singly", &Batch::singly, "Run row by row, mark_running() before each: it has killed two workers.")
      .def_prop_ro("inputs", &Batch::inputs, "One array per input, shape (rows, *row shape).")
      .def_prop_ro("outputs", &Batch::outputs, "One writable array per output, shape (rows, *row shape).")
      .def("is_completed", &Batch::is_completed, "row"_a,
           "Whether an earlier attempt has given the row its final word.")
      .def("is_cancelled", &Batch::is_cancelled, "row"_a, "Whether the client is gone. A hint.")
      .def("mark_running", &Batch::mark_running, "row"_a)
      .def("complete_row", &Batch::complete_row, "row"_a, "The row's outputs are in place.")
      .def("fail_row", &Batch::fail_row, "row"_a, "error"_a, "detail"_a, "error: 'model_raised' or 'bad_output'.")
      .def("complete", &Batch::complete, "Publish the batch; rows without a word of their own are final.");
  nb::class_<Taker>(module, "Taker",
                    "Takes the batches of one ring. One per thread; `worker` is unique in the ring, 0 to 63.")
      .def(nb::init<int, std::vector<int>, std::uint32_t>(), "ring_fd"_a, "loop_event_fds"_a, "worker"_a,
           "Both kinds of descriptor stay the caller's. RuntimeError for a region of another version or size.")
      .def_prop_ro("max_batch_size", &Taker::max_batch_size)
      .def_prop_ro("inputs", &Taker::inputs)
      .def_prop_ro("outputs", &Taker::outputs)
      .def("take", &Taker::take, "timeout_ms"_a = -1, "Wait for a batch without the GIL; None after timeout_ms.");
  bind_ring(module);
}
