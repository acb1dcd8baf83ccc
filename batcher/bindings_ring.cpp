// The producer's side of a ring for Python tests: what the data plane does in C++, one call each.
#include "bindings_ring.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bindings_schema.hpp"
#include "penstock/batcher/batch_ring.hpp"

using namespace nanobind::literals;

namespace penstock::batcher {
namespace {

constexpr std::array<std::string_view, 5> kErrors{"none", "model_raised", "worker_died", "culprit", "bad_output"};

class Ring {
 public:
  explicit Ring(const RingConfig& config)
      : ring_(config), slots_(std::size_t{ring_.buffers()} * ring_.max_batch_size()), loops_(config.loops) {}

  [[nodiscard]] BatchRing& native() noexcept { return ring_; }

  [[nodiscard]] std::optional<Claim> claim(std::uint32_t count) {
    const Claim claim = ring_.claim(count);
    if (claim.status == ClaimStatus::kCorrupt) throw std::runtime_error("the ring is corrupt");
    if (claim.status == ClaimStatus::kFull) return std::nullopt;
    return claim;
  }

  // `rows`: packed as RowLayout says.
  void publish(const Claim& claim, const std::vector<nb::bytes>& rows, std::uint32_t loop) {
    if (rows.size() != claim.count) throw std::invalid_argument("a claim is published with all its rows");
    for (std::uint32_t k = 0; k < claim.count; ++k) write(claim, k, rows[k]);
    ring_.publish(claim, checked(loop));
  }

  [[nodiscard]] std::optional<DoneBatch> poll_done(std::uint32_t loop) { return ring_.poll_done(checked(loop)); }

  // None, or the row's error and its detail.
  [[nodiscard]] std::optional<std::tuple<std::string, nb::bytes>> error(const DoneBatch& batch, std::uint32_t row) {
    const Completion& completion = ring_.completion(batch, row);
    // Acquire is in poll_done().
    if (completion.kind.load(std::memory_order_relaxed) == CompletionKind::kFinal) return std::nullopt;
    const auto error = static_cast<std::size_t>(completion.error);
    return std::tuple(std::string(error < kErrors.size() ? kErrors[error] : "unknown"),
                      nb::bytes(completion.detail.data(), std::min<std::size_t>(completion.detail_bytes, 125)));
  }

  [[nodiscard]] std::vector<nb::bytes> outputs(const DoneBatch& batch, std::uint32_t row) {
    std::vector<nb::bytes> tensors;
    const RowLayout& layout = ring_.schema().outputs;
    for (std::size_t i = 0; i < layout.size(); ++i)
      tensors.emplace_back(ring_.output(batch, row, i), layout.tensors()[i].bytes());
    return tensors;
  }

  void handled(const DoneBatch& batch, const std::vector<std::uint32_t>& rows) {
    for (const std::uint32_t row : rows) {
      std::optional<std::uint32_t>& slot = slots_.at(std::size_t{batch.buffer} * ring_.max_batch_size() + row);
      if (slot) ring_.release_slot(*slot);
      slot.reset();
    }
    ring_.handled(batch, static_cast<std::uint32_t>(rows.size()));
  }

  [[nodiscard]] bool prepare_wait(std::uint32_t loop) { return ring_.prepare_wait(checked(loop)); }
  void finish_wait(std::uint32_t loop) { ring_.finish_wait(checked(loop)); }

  [[nodiscard]] nb::dict recover(std::uint32_t worker) {
    const Recovery recovery = ring_.recover(worker);
    nb::dict result;
    result["batches_requeued"] = recovery.batches_requeued;
    result["batches_failed"] = recovery.batches_failed;
    result["rows_failed"] = recovery.rows_failed;
    result["corrupt"] = recovery.corrupt;
    return result;
  }

  void close(std::string_view error) {
    for (std::size_t i = 0; i < kErrors.size(); ++i) {
      if (kErrors[i] == error) return ring_.close(static_cast<RowError>(i));
    }
    throw std::invalid_argument("unknown error");
  }

  [[nodiscard]] nb::dict counters() const {
    const RingCounters counters = ring_.counters();
    nb::dict result;
    result["rows_claimed"] = counters.rows_claimed;
    result["claims_refused"] = counters.claims_refused;
    result["bell_rings"] = counters.bell_rings;
    result["batches_taken"] = counters.batches_taken;
    result["partial_takes_held"] = counters.partial_takes_held;
    result["lost_wakeups"] = counters.lost_wakeups;
    result["rows_queued"] = counters.rows_queued;
    return result;
  }

 private:
  [[nodiscard]] std::uint32_t checked(std::uint32_t loop) const {
    if (loop >= loops_) throw nb::index_error("no such loop");
    return loop;
  }

  void write(const Claim& claim, std::uint32_t k, const nb::bytes& row) {
    const RowLayout& layout = ring_.schema().inputs;
    if (row.size() != layout.bytes())
      throw std::invalid_argument("a packed row has " + std::to_string(layout.bytes()) + " bytes");
    if (!ring_.uses_arena()) {
      for (std::size_t i = 0; i < layout.size(); ++i)
        std::memcpy(ring_.input(claim, k, i), row.c_str() + layout.offset(i), layout.tensors()[i].bytes());
      return;
    }
    const std::optional<std::uint32_t> slot = ring_.acquire_slot();
    if (!slot) throw std::runtime_error("no slot for a claimed row");
    std::memcpy(ring_.slot(*slot), row.c_str(), row.size());
    ring_.set_span(claim, k, *slot);
    slots_[std::size_t{claim.buffer} * ring_.max_batch_size() + claim.row + k] = slot;
  }

  BatchRing ring_;
  std::vector<std::optional<std::uint32_t>> slots_;  // per row: the arena slot it uses
  const std::uint32_t loops_;
};

}  // namespace

void bind_ring(nb::module_& module) {
  nb::class_<Claim>(module, "Claim", "Rows [row, row + count) of batch `sequence`, to be published.")
      .def_ro("sequence", &Claim::sequence)
      .def_ro("buffer", &Claim::buffer)
      .def_ro("row", &Claim::row)
      .def_ro("count", &Claim::count);
  nb::class_<DoneBatch>(module, "DoneBatch", "A batch that a worker has completed.")
      .def_ro("sequence", &DoneBatch::sequence)
      .def_ro("buffer", &DoneBatch::buffer)
      .def_ro("rows", &DoneBatch::rows);
  nb::class_<Ring>(module, "Ring", "The producer's side of a ring, for tests: the data plane uses it in C++.")
      .def(
          "__init__",
          [](Ring* self, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
             std::uint32_t max_batch_size, std::uint64_t queue_bytes, std::uint32_t max_queue_delay_us,
             std::uint32_t loops, bool rerun_on_worker_death, std::uint64_t first_batch) {
            new (self) Ring(RingConfig{{layout_of(inputs), layout_of(outputs)},
                                       max_batch_size,
                                       queue_bytes,
                                       max_queue_delay_us,
                                       loops,
                                       rerun_on_worker_death,
                                       first_batch});
          },
          "inputs"_a, "outputs"_a, nb::kw_only(), "max_batch_size"_a = 64, "queue_bytes"_a = std::uint64_t{64} << 20,
          "max_queue_delay_us"_a = 0, "loops"_a = 1, "rerun_on_worker_death"_a = false, "first_batch"_a = 0)
      .def_prop_ro("fd", [](Ring& self) { return self.native().fd(); })
      .def_prop_ro("max_batch_size", [](Ring& self) { return self.native().max_batch_size(); })
      .def_prop_ro("buffers", [](Ring& self) { return self.native().buffers(); })
      .def_prop_ro(
          "row_bytes", [](Ring& self) { return self.native().schema().inputs.bytes(); },
          "Bytes of a packed input row: each tensor padded to 64.")
      .def("claim", &Ring::claim, "count"_a = 1, "Neighbouring rows of the open batch; None when the ring is full.")
      .def("publish", &Ring::publish, "claim"_a, "rows"_a, "loop"_a = 0, "Copy packed rows and publish them.")
      .def(
          "cancel", [](Ring& self, const Claim& claim, std::uint32_t k) { self.native().cancel(claim, k); }, "claim"_a,
          "k"_a = 0)
      .def("ring_bell", [](Ring& self) { return self.native().ring_bell(); })
      .def("poll_done", &Ring::poll_done, "loop"_a = 0)
      .def("error", &Ring::error, "batch"_a, "row"_a, "None, or the row's error and its detail.")
      .def("outputs", &Ring::outputs, "batch"_a, "row"_a, "The bytes of each output of the row.")
      .def("handled", &Ring::handled, "batch"_a, "rows"_a, "These rows have been answered.")
      .def("prepare_wait", &Ring::prepare_wait, "loop"_a = 0)
      .def("finish_wait", &Ring::finish_wait, "loop"_a = 0)
      .def("recover", &Ring::recover, "worker"_a)
      .def("close", &Ring::close, "error"_a = "worker_died")
      .def("counters", &Ring::counters);
}

}  // namespace penstock::batcher
