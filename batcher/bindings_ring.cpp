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
#include "futex.hpp"
#include "penstock/batcher/batch_ring.hpp"

using namespace nanobind::literals;

namespace penstock::batcher {
namespace {

constexpr std::array<std::string_view, 7> kErrors{"none",       "model_raised", "worker_died",  "culprit",
                                                  "bad_output", "shed",         "invalid_input"};
constexpr std::array<std::string_view, kRowClasses> kClasses{"interactive", "normal", "batch", "reproducible"};

RowClass class_from_name(std::string_view name) {
  for (std::uint32_t i = 0; i < kClasses.size(); ++i) {
    if (kClasses[i] == name) return static_cast<RowClass>(i);
  }
  throw std::invalid_argument("a row is interactive, normal, batch or reproducible");
}

class Ring {
 public:
  explicit Ring(const RingConfig& config) : ring_(config), slots_(ring_.rows()), loops_(config.loops) {}

  [[nodiscard]] BatchRing& native() noexcept { return ring_; }
  [[nodiscard]] const BatchRing& native() const noexcept { return ring_; }

  [[nodiscard]] std::optional<Claim> claim(std::uint32_t count, std::string_view row_class) {
    const Claim claim = ring_.claim(ring_.lane_of(class_from_name(row_class)), count);
    if (claim.status == ClaimStatus::kCorrupt) throw std::runtime_error("the ring is corrupt");
    if (claim.status == ClaimStatus::kFull) return std::nullopt;
    return claim;
  }

  // `rows`: packed as RowLayout says.
  void publish(const Claim& claim, const std::vector<nb::bytes>& rows, std::uint32_t loop, std::uint64_t deadline_ns) {
    if (rows.size() != claim.count) throw std::invalid_argument("a claim is published with all its rows");
    for (std::uint32_t k = 0; k < claim.count; ++k) {
      RowMeta& meta = ring_.meta(claim, k);
      meta.arrival_ns = monotonic_ns();
      meta.deadline_ns = deadline_ns;
      meta.cancelled.store(0, std::memory_order_relaxed);  // ordered by publish()
      write(claim, k, rows[k]);
    }
    ring_.publish(claim, checked(loop));
  }

  [[nodiscard]] std::optional<DoneBlock> poll_done(std::uint32_t loop) { return ring_.poll_done(checked(loop)); }

  // None, or the row's error and its detail.
  [[nodiscard]] std::optional<std::tuple<std::string, nb::bytes>> error(const DoneBlock& block, std::uint32_t row) {
    const Completion& completion = ring_.completion(block, row);
    // Acquire is in poll_done().
    if (completion.kind.load(std::memory_order_relaxed) == CompletionKind::kFinal) return std::nullopt;
    const auto error = static_cast<std::size_t>(completion.error);
    return std::tuple(std::string(error < kErrors.size() ? kErrors[error] : "unknown"),
                      nb::bytes(completion.detail.data(), std::min<std::size_t>(completion.detail_bytes, 125)));
  }

  [[nodiscard]] std::vector<nb::bytes> outputs(const DoneBlock& block, std::uint32_t row) {
    std::vector<nb::bytes> tensors;
    const RowLayout& layout = ring_.schema().outputs;
    for (std::size_t i = 0; i < layout.size(); ++i)
      tensors.emplace_back(ring_.output(block, row, i), layout.tensors()[i].bytes());
    return tensors;
  }

  void handled(const DoneBlock& block, const std::vector<std::uint32_t>& rows) {
    for (const std::uint32_t row : rows) {
      std::optional<std::uint32_t>& slot = slots_.at(ring_.row_index(block.buffer, row));
      if (slot) ring_.release_slot(*slot);
      slot.reset();
    }
    ring_.handled(block, static_cast<std::uint32_t>(rows.size()));
  }

  [[nodiscard]] bool prepare_wait(std::uint32_t loop) { return ring_.prepare_wait(checked(loop)); }
  void finish_wait(std::uint32_t loop) { ring_.finish_wait(checked(loop)); }

  [[nodiscard]] nb::dict recover(std::uint32_t worker) {
    const Recovery recovery = ring_.recover(worker);
    nb::dict result;
    result["blocks_requeued"] = recovery.blocks_requeued;
    result["blocks_quarantined"] = recovery.blocks_quarantined;
    result["blocks_failed"] = recovery.blocks_failed;
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
    slots_[ring_.row_index(claim.buffer, claim.row + k)] = slot;
  }

  BatchRing ring_;
  std::vector<std::optional<std::uint32_t>> slots_;  // per row: the arena slot it uses
  const std::uint32_t loops_;
};

}  // namespace

void bind_ring(nb::module_& module) {
  nb::class_<Claim>(module, "Claim", "Rows [row, row + count) of block `sequence`, to be published.")
      .def_ro("sequence", &Claim::sequence)
      .def_ro("buffer", &Claim::buffer)
      .def_ro("row", &Claim::row)
      .def_ro("count", &Claim::count);
  nb::class_<DoneBlock>(module, "DoneBlock", "A block that a worker has completed.")
      .def_ro("sequence", &DoneBlock::sequence)
      .def_ro("buffer", &DoneBlock::buffer)
      .def_ro("rows", &DoneBlock::rows)
      .def_ro("unmeasured", &DoneBlock::unmeasured);
  nb::class_<Ring>(module, "Ring", "The producer's side of a ring, for tests: the data plane uses it in C++.")
      .def(
          "__init__",
          [](Ring* self, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
             std::uint32_t max_batch_size, std::uint64_t queue_bytes, std::uint32_t max_queue_delay_us,
             std::uint32_t loops, bool rerun_on_worker_death, std::uint64_t first_block, std::uint32_t block_rows,
             const std::vector<std::uint32_t>& batch_sizes, std::uint32_t reproducible_batch_size, const Ring* group) {
            RingConfig config;
            config.schema = {layout_of(inputs), layout_of(outputs)};
            config.max_batch_size = max_batch_size;
            config.queue_bytes = queue_bytes;
            config.max_queue_delay_us = max_queue_delay_us;
            config.loops = loops;
            config.rerun_on_worker_death = rerun_on_worker_death;
            config.first_block = first_block;
            config.block_rows = block_rows;
            config.batch_sizes = batch_sizes;
            config.reproducible_batch_size = reproducible_batch_size;
            config.group = group == nullptr ? nullptr : &group->native();
            new (self) Ring(config);
          },
          "inputs"_a, "outputs"_a, nb::kw_only(), "max_batch_size"_a = 64, "queue_bytes"_a = std::uint64_t{64} << 20,
          "max_queue_delay_us"_a = 0, "loops"_a = 1, "rerun_on_worker_death"_a = false, "first_block"_a = 0,
          "block_rows"_a = 0, "batch_sizes"_a = std::vector<std::uint32_t>{}, "reproducible_batch_size"_a = 1,
          "group"_a.none() = nb::none())
      .def_prop_ro("fd", [](Ring& self) { return self.native().fd(); })
      .def_prop_ro("max_batch_size", [](Ring& self) { return self.native().max_batch_size(); })
      .def_prop_ro("buffers", [](Ring& self) { return self.native().buffers(); })
      .def_prop_ro(
          "row_bytes", [](Ring& self) { return self.native().schema().inputs.bytes(); },
          "Bytes of a packed input row: each tensor padded to 64.")
      .def("claim", &Ring::claim, "count"_a = 1, "row_class"_a = "normal",
           "Neighbouring rows of the open block of a lane; None when it is full.")
      .def("publish", &Ring::publish, "claim"_a, "rows"_a, "loop"_a = 0, "deadline_ns"_a = 0,
           "Copy packed rows and publish them.")
      .def(
          "cancel", [](Ring& self, const Claim& claim, std::uint32_t k) { self.native().cancel(claim, k); }, "claim"_a,
          "k"_a = 0)
      .def("ring_bell", [](Ring& self) { return self.native().ring_bell(); })
      .def("poll_done", &Ring::poll_done, "loop"_a = 0)
      .def("error", &Ring::error, "block"_a, "row"_a, "None, or the row's error and its detail.")
      .def("outputs", &Ring::outputs, "block"_a, "row"_a, "The bytes of each output of the row.")
      .def("handled", &Ring::handled, "block"_a, "rows"_a, "These rows have been answered.")
      .def("prepare_wait", &Ring::prepare_wait, "loop"_a = 0)
      .def("finish_wait", &Ring::finish_wait, "loop"_a = 0)
      .def("quarantined", [](const Ring& self) { return self.native().quarantined(); })
      .def("recover", &Ring::recover, "worker"_a)
      .def("close", &Ring::close, "error"_a = "worker_died")
      .def("counters", &Ring::counters);
}

}  // namespace penstock::batcher
