// penstock.native._batcher: a worker's side of the batch ring. The producer's side, for tests, is in bindings_ring.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings_ring.hpp"
#include "bindings_schema.hpp"
#include "bindings_simulator.hpp"
#include "bindings_text.hpp"
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

// One array per tensor, over all rows of a piece of memory. A batch is a slice of it.
using WholeArrays = std::vector<nb::object>;

// A tensor of strings has no place in NumPy's memory: its array is made for the batch, and its strings are stored when
// the row is done.
struct TextOutput {
  std::size_t index = 0;
  nb::object array;
};

// A taker and the arrays over its memory, made once. The arrays own the taker (through a capsule), never this object:
// no cycle.
class Attached {
 public:
  Attached(const std::vector<int>& ring_fds, std::vector<int> loop_event_fds, std::uint32_t worker,
           const TakerOptions& options)
      : taker_(std::make_shared<BatchTaker>(ring_fds, std::move(loop_event_fds), worker, options)),
        rings_(taker_->rings()) {}

  [[nodiscard]] BatchTaker& taker() noexcept { return *taker_; }

  // Which inputs of a ring are read as str; the other strings are bytes.
  void read_as_str(std::uint32_t ring, const std::vector<std::uint32_t>& inputs) {
    std::vector<bool>& as_str = rings_[ring].as_str;
    as_str.assign(taker_->schema(ring).inputs.size(), false);
    for (const std::uint32_t input : inputs) {
      if (input >= as_str.size()) throw nb::index_error("no such input");
      as_str[input] = true;
    }
  }

  // Rows of which a string cannot be read go into `damaged`.
  [[nodiscard]] nb::object inputs(const TakenBatch& batch, std::vector<std::uint32_t>& damaged) {
    const RowLayout& layout = taker_->lane_schema(batch.ring, batch.lane).inputs;
    nb::list arrays;
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const std::byte* first = taker_->input(batch, i);
      if (layout.tensors()[i].dtype == DType::kBytes) {
        const std::vector<bool>& as_str = rings_[batch.ring].as_str;
        arrays.append(read_texts(first, batch.run_rows, layout.tensors()[i], i < as_str.size() && as_str[i], damaged));
        continue;
      }
      // Rows in the arena lie somewhere else each time.
      arrays.append(taker_->uses_arena(batch.ring)
                        ? view<ReadOnlyArray>(first, batch.run_rows, layout.tensors()[i], owner())
                        : slice<ReadOnlyArray>(rings_[batch.ring].inputs, batch, i, first, layout.tensors()[i]));
    }
    return nb::tuple(arrays);
  }

  // Of the rows of the arrays; nothing where no tensor varies.
  [[nodiscard]] nb::object lengths(const TakenBatch& batch) {
    const std::vector<TensorSpec>& tensors = taker_->lane_schema(batch.ring, batch.lane).inputs.tensors();
    const auto varying = std::ranges::find_if(tensors, &TensorSpec::varies);
    if (varying == tensors.end()) return nb::none();
    auto values = std::make_unique<std::int32_t[]>(batch.run_rows);
    for (std::uint32_t row = 0; row < batch.run_rows; ++row) {
      const std::uint32_t length = taker_->meta(batch, row < batch.rows ? row : 0).shape[0];
      values[row] = static_cast<std::int32_t>(std::clamp(length, 1u, varying->shape.front()));
    }
    const std::size_t rows = batch.run_rows;
    const nb::capsule owner(values.get(), [](void* pointer) noexcept { delete[] static_cast<std::int32_t*>(pointer); });
    return nb::cast(nb::ndarray<nb::numpy, std::int32_t, nb::ndim<1>>(values.release(), 1, &rows, owner));
  }

  // Arrays of strings go into `texts`, or are there already.
  [[nodiscard]] nb::object outputs(const TakenBatch& batch, std::vector<TextOutput>& texts) {
    const RowLayout& layout = taker_->lane_schema(batch.ring, batch.lane).outputs;
    nb::list arrays;
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const TensorSpec& tensor = layout.tensors()[i];
      if (tensor.dtype == DType::kBytes) {
        arrays.append(text_array(batch, i, tensor, texts));
      } else {
        arrays.append(slice<WritableArray>(rings_[batch.ring].outputs, batch, i, taker_->output(batch, i), tensor));
      }
    }
    return nb::tuple(arrays);
  }

  // What is wrong with the strings of a row; empty when they are in place now.
  [[nodiscard]] std::string store(const TakenBatch& batch, const TextOutput& texts, std::uint32_t row) {
    const TensorSpec& tensor = taker_->lane_schema(batch.ring, batch.lane).outputs.tensors()[texts.index];
    const TextRows rows(texts.array, batch.run_rows, tensor);
    return rows.store(row, taker_->output(batch, texts.index) + row * tensor.bytes());
  }

  // The same for all rows of a batch that have no word yet; what the array is is looked at once.
  void store_all(const TakenBatch& batch, const TextOutput& texts) {
    const TensorSpec& tensor = taker_->lane_schema(batch.ring, batch.lane).outputs.tensors()[texts.index];
    const TextRows rows(texts.array, batch.run_rows, tensor);
    std::byte* const storage = taker_->output(batch, texts.index);
    for (std::uint32_t row = 0; row < batch.rows; ++row) {
      if (taker_->is_completed(batch, row)) continue;
      const std::string wrong = rows.store(row, storage + row * tensor.bytes());
      if (!wrong.empty()) taker_->fail_row(batch, row, RowError::kBadOutput, wrong);
    }
  }

 private:
  struct RingArrays {
    std::vector<WholeArrays> inputs;  // per lane; behind them one for copied rows of each lane
    std::vector<WholeArrays> outputs;
    std::vector<bool> as_str;  // by input; empty: none is
  };

  [[nodiscard]] static nb::object text_array(const TakenBatch& batch, std::size_t index, const TensorSpec& tensor,
                                             std::vector<TextOutput>& texts) {
    const auto made = std::ranges::find(texts, index, &TextOutput::index);
    if (made != texts.end()) return made->array;
    return texts.emplace_back(TextOutput{index, room_for_texts(batch.run_rows, tensor)}).array;
  }

  [[nodiscard]] nb::capsule owner() const {
    return nb::capsule(new std::shared_ptr<BatchTaker>(taker_),
                       [](void* pointer) noexcept { delete static_cast<std::shared_ptr<BatchTaker>*>(pointer); });
  }

  // Rows of the batch as a part of the array over the whole lane, or over the taker's own memory.
  template <typename Array, typename Pointer>
  [[nodiscard]] nb::object slice(std::vector<WholeArrays>& arrays, const TakenBatch& batch, std::size_t index,
                                 Pointer first, const TensorSpec& tensor) {
    const std::size_t place = 2 * std::size_t{batch.lane} + (batch.in_place ? 0 : 1);
    if (arrays.size() <= place) arrays.resize(place + 1);
    WholeArrays& whole = arrays[place];
    if (whole.size() <= index) whole.resize(index + 1);
    const std::uint32_t offset =
        batch.in_place ? batch.row.front().index - taker_->lane_first_row(batch.ring, batch.lane) : 0;
    if (!whole[index].is_valid()) {
      const std::uint32_t rows =
          batch.in_place ? taker_->lane_rows(batch.ring, batch.lane) : taker_->copied_rows_max(batch.ring);
      whole[index] = view<Array>(first - offset * tensor.bytes(), rows, tensor, owner());
    }
    const auto begin = static_cast<Py_ssize_t>(offset);
    return nb::steal(PySequence_GetSlice(whole[index].ptr(), begin, begin + static_cast<Py_ssize_t>(batch.run_rows)));
  }

  std::shared_ptr<BatchTaker> taker_;
  std::vector<RingArrays> rings_;
};

using Arrays = nb::typed<nb::tuple, nb::ndarray<nb::numpy>, nb::ellipsis>;

class Batch {
 public:
  Batch(std::shared_ptr<Attached> attached, TakenBatch taken)
      : attached_(std::move(attached)), taken_(std::move(taken)) {}

  [[nodiscard]] std::uint32_t ring() const { return taken_.ring; }
  [[nodiscard]] std::uint32_t rows() const { return taken_.rows; }
  [[nodiscard]] std::uint32_t run_rows() const { return taken_.run_rows; }
  [[nodiscard]] std::uint32_t fixed_rows() const { return taken_.fixed_rows; }
  [[nodiscard]] std::vector<std::uint64_t> blocks() const {
    std::vector<std::uint64_t> numbers;
    for (const TakenBlock& block : taken_.blocks) numbers.push_back(block.sequence);
    return numbers;
  }
  [[nodiscard]] std::uint32_t attempt() const { return taken_.attempt; }
  [[nodiscard]] bool singly() const { return taken_.singly; }
  [[nodiscard]] Arrays inputs() { return nb::borrow<Arrays>(attached_->inputs(held(), damaged_)); }
  [[nodiscard]] nb::object lengths() { return attached_->lengths(held()); }
  [[nodiscard]] Arrays outputs() { return nb::borrow<Arrays>(attached_->outputs(held(), texts_)); }

  using Offsets = nb::ndarray<std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  void input_addresses(std::size_t index, const Offsets& to, std::uint64_t base) {
    if (index >= taker().lane_schema(held().ring, taken_.lane).inputs.size()) throw nb::index_error("no such input");
    taker().input_offsets(taken_, index, {to.data(), to.size()});
    for (std::size_t i = 0; i < to.size(); ++i) to.data()[i] += base;
  }
  void mark_started(std::uint64_t now_ns) { taker().mark_started(held(), now_ns); }
  void mark_unmeasured() { taker().mark_unmeasured(held()); }

  [[nodiscard]] bool is_completed(std::uint32_t row) { return taker().is_completed(held(), checked(row)); }
  [[nodiscard]] bool is_cancelled(std::uint32_t row) {
    // Relaxed: a hint.
    return taker().meta(held(), checked(row)).cancelled.load(std::memory_order_relaxed) != 0;
  }
  void mark_running(std::uint32_t row) { taker().mark_running(held(), checked(row)); }
  void complete_row(std::uint32_t row) {
    if (has_texts()) [[unlikely]] {
      store_texts(checked(row));
      if (taker().is_completed(held(), row)) return;
    }
    taker().complete_row(held(), checked(row));
  }
  void fail_row(std::uint32_t row, std::string_view error, std::string_view detail) {
    taker().fail_row(held(), checked(row), error_from_name(error), detail);
  }
  void complete() {
    (void)held();
    if (has_texts()) [[unlikely]] {
      for (const std::uint32_t row : damaged_) {
        if (row < taken_.rows) store_texts(row);  // which it has none of: it fails
      }
      for (const TextOutput& texts : texts_) attached_->store_all(taken_, texts);
    }
    taker().complete(std::move(taken_));
    completed_ = true;
  }

 private:
  [[nodiscard]] static RowError error_from_name(std::string_view name) {
    if (name == "model_raised") return RowError::kModelRaised;
    if (name == "bad_output") return RowError::kBadOutput;
    if (name == "invalid_input") return RowError::kInvalidInput;
    throw std::invalid_argument("a row fails by 'model_raised', 'bad_output' or 'invalid_input'");
  }

  [[nodiscard]] BatchTaker& taker() { return attached_->taker(); }

  [[nodiscard]] bool has_texts() const noexcept { return !texts_.empty() || !damaged_.empty(); }

  // Puts the strings of a row where its outputs are, unless the row has its word. A row that they do not fit fails.
  void store_texts(std::uint32_t row) {
    if (taker().is_completed(taken_, row)) return;
    if (std::ranges::find(damaged_, row) != damaged_.end())
      return taker().fail_row(taken_, row, RowError::kModelRaised, "its strings are damaged in shared memory");
    for (const TextOutput& texts : texts_) {
      const std::string wrong = attached_->store(taken_, texts, row);
      if (!wrong.empty()) return taker().fail_row(taken_, row, RowError::kBadOutput, wrong);
    }
  }

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
  TakenBatch taken_;
  std::vector<TextOutput> texts_;
  std::vector<std::uint32_t> damaged_;
  bool completed_ = false;
};

class Taker {
 public:
  Taker(const std::vector<int>& rings, std::vector<int> loop_event_fds, std::uint32_t worker, std::string_view policy,
        bool quarantine)
      : attached_(std::make_shared<Attached>(rings, std::move(loop_event_fds), worker,
                                             TakerOptions{policy_from_name(policy), quarantine})) {}

  [[nodiscard]] std::uint32_t max_batch_size(std::uint32_t ring) const { return taker().max_batch_size(checked(ring)); }
  [[nodiscard]] std::vector<std::uint32_t> batch_sizes(std::uint32_t ring) const {
    const std::span<const std::uint32_t> sizes = taker().batch_sizes(checked(ring));
    return {sizes.begin(), sizes.end()};
  }
  [[nodiscard]] std::vector<Tensor> inputs(std::uint32_t ring) const {
    return describe(taker().schema(checked(ring)).inputs);
  }
  [[nodiscard]] std::vector<Tensor> outputs(std::uint32_t ring) const {
    return describe(taker().schema(checked(ring)).outputs);
  }

  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> region(std::uint32_t ring) const {
    const std::span<std::byte> bytes = taker().region(checked(ring));
    return {reinterpret_cast<std::uintptr_t>(bytes.data()), bytes.size()};
  }

  void read_as_str(std::uint32_t ring, const std::vector<std::uint32_t>& inputs) {
    attached_->read_as_str(checked(ring), inputs);
  }

  [[nodiscard]] std::optional<Batch> take(int timeout_ms) {
    std::uint64_t deadline_ns = ~std::uint64_t{0};
    if (timeout_ms > 0) deadline_ns = monotonic_ns() + static_cast<std::uint64_t>(timeout_ms) * 1'000'000;
    for (;;) {
      if (std::optional<TakenBatch> batch = wait_slice(timeout_ms)) return Batch(attached_, std::move(*batch));
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (timeout_ms < 0) continue;
      const std::uint64_t now_ns = monotonic_ns();
      if (timeout_ms == 0 || now_ns >= deadline_ns) return std::nullopt;
      timeout_ms = static_cast<int>((deadline_ns - now_ns + 999'999) / 1'000'000);
    }
  }

 private:
  [[nodiscard]] static SchedulingPolicy policy_from_name(std::string_view name) {
    if (name == "deadline") return SchedulingPolicy::kDeadline;
    if (name == "round-robin") return SchedulingPolicy::kRoundRobin;
    throw std::invalid_argument("a policy is 'deadline' or 'round-robin'");
  }

  [[nodiscard]] BatchTaker& taker() const { return attached_->taker(); }

  [[nodiscard]] std::uint32_t checked(std::uint32_t ring) const {
    if (ring >= taker().rings()) throw nb::index_error("no such ring");
    return ring;
  }

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
      .def_prop_ro("ring", &Batch::ring, "Index into the taker's rings: whose model runs it.")
      .def_prop_ro("rows", &Batch::rows, "Rows that want an answer.")
      .def_prop_ro("run_rows", &Batch::run_rows, "Rows of the arrays: padded to an allowed size.")
      .def_prop_ro("fixed_rows", &Batch::fixed_rows, "Rows of every run of reproducible rows; 0: any.")
      .def_prop_ro("blocks", &Batch::blocks, "Numbers of the blocks it is made of.")
      .def_prop_ro("attempt", &Batch::attempt, "Workers that have died with the batch.")
      .def_prop_ro("singly", &Batch::singly, "Run row by row, mark_running() before each: it has killed two workers.")
      .def_prop_ro("inputs", &Batch::inputs,
                   "One array per input, shape (run_rows, *row shape); of objects for strings.")
      .def_prop_ro("lengths", &Batch::lengths,
                   "Each row's own length, int32 of shape (run_rows,); None where no tensor varies in length.")
      .def_prop_ro("outputs", &Batch::outputs, "One writable array per output, shape (run_rows, *row shape).")
      .def("input_addresses", &Batch::input_addresses, "index"_a, "to"_a, "base"_a,
           "Where an input of each row lies, for whom the ring's region is at `base`; the rest repeats the first.")
      .def("mark_started", &Batch::mark_started, "now_ns"_a, "When it began to run, if not when it was taken.")
      .def("mark_unmeasured", &Batch::mark_unmeasured, "What it takes says nothing of what the model costs.")
      .def("is_completed", &Batch::is_completed, "row"_a,
           "Whether an earlier attempt has given the row its final word.")
      .def("is_cancelled", &Batch::is_cancelled, "row"_a, "Whether the client is gone. A hint.")
      .def("mark_running", &Batch::mark_running, "row"_a)
      .def("complete_row", &Batch::complete_row, "row"_a, "The row's outputs are in place.")
      .def("fail_row", &Batch::fail_row, "row"_a, "error"_a, "detail"_a,
           "error: 'model_raised', 'bad_output' or 'invalid_input'.")
      .def("complete", &Batch::complete, "Publish the batch; rows without a word of their own are final.");
  nb::class_<Taker>(module, "Taker",
                    "Takes the batches of the rings of a group. One per thread; `worker` is unique in them, 0 to 63.")
      .def(nb::init<const std::vector<int>&, std::vector<int>, std::uint32_t, std::string_view, bool>(), "rings"_a,
           "loop_event_fds"_a, "worker"_a, nb::kw_only(), "policy"_a = "deadline", "quarantine"_a = false,
           "Both kinds of descriptor stay the caller's; the first ring is the group's. RuntimeError for a region of "
           "another version or size.")
      .def("max_batch_size", &Taker::max_batch_size, "ring"_a = 0)
      .def("batch_sizes", &Taker::batch_sizes, "ring"_a = 0)
      .def("inputs", &Taker::inputs, "ring"_a = 0)
      .def("outputs", &Taker::outputs, "ring"_a = 0)
      .def("region", &Taker::region, "ring"_a = 0, "Address and bytes of a ring's memory, valid as long as the taker.")
      .def("read_as_str", &Taker::read_as_str, "ring"_a, "inputs"_a,
           "Which inputs of strings are arrays of str; the others are of bytes.")
      .def("take", &Taker::take, "timeout_ms"_a = -1, "Wait for a batch without the GIL; None after timeout_ms.");
  bind_ring(module);
  bind_simulator(module);
}
