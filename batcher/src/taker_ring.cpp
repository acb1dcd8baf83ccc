#include "taker_ring.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "penstock/kernels/gather.hpp"

namespace penstock::batcher {
namespace {

RingMap attach(int ring_fd) {
  SharedRegion region = SharedRegion::attach(ring_fd);
  RingPlan plan = read_header(region.data(), region.bytes());
  return {std::move(region), std::move(plan)};
}

}  // namespace

void CopiedRows::Free::operator()(std::byte* memory) const noexcept {
  ::operator delete(memory, std::align_val_t{kTensorAlignment});
}

TakerRing::TakerRing(int fd, std::uint32_t model)
    : map(attach(fd)),
      settings(map.header().settings),
      lanes(lane_settings(map.plan(), settings, model)),
      costs(map.plan().lanes.size() / kRowClasses),
      cost_versions_(costs.size()),
      inputs_(map.plan().schema.inputs.size()),
      outputs_(map.plan().schema.outputs.size()) {}

std::optional<OpenBlock> TakerRing::oldest(std::uint32_t lane) noexcept {
  const LanePlan& plan = map.plan().lanes[lane];
  const std::uint32_t buffers = plan.size.buffers;
  const auto buffer_of = [&](std::uint64_t sequence) {
    return plan.first_buffer + static_cast<std::uint32_t>(sequence % buffers);
  };
  std::atomic<std::uint64_t>& shared = header().lanes[lane].head;
  std::uint64_t head = shared.load(std::memory_order_acquire);  // pairs with the CAS below, in any taker
  for (;;) {
    const std::uint64_t bits = map.control(buffer_of(head)).word.load(std::memory_order_seq_cst);
    const BlockWord word = unpack(bits);
    if (word.is_of(head) && word.state == BlockState::kOpen) {
      if (word.rows == 0) return std::nullopt;
      OpenBlock block{head, buffer_of(head), bits, word.rows, word.rows == plan.size.block_rows};
      if (!block.takeable) {
        const BlockWord next = unpack(map.control(buffer_of(head + 1)).word.load(std::memory_order_seq_cst));
        block.takeable = next.is_of(head + 1);
      }
      return block;
    }
    if (word.is_of(head) || word.is_of(head + buffers)) {
      // Taken by a worker that did not move `head`, alive or dead: move it for him.
      if (shared.compare_exchange_strong(head, head + 1, std::memory_order_acq_rel, std::memory_order_acquire)) ++head;
      continue;
    }
    // The buffer of block `head` still holds the block of the lap before: there is nothing to take.
    const std::uint64_t now = shared.load(std::memory_order_acquire);
    if (now == head) return std::nullopt;
    head = now;
  }
}

bool TakerRing::look(std::uint32_t lane, LaneView& view) noexcept {
  const LanePlan& plan = map.plan().lanes[lane];
  view.rows = 0;
  view.ripe = false;
  view.oldest_ns = 0;
  view.deadline_ns = kNoDeadline;
  const std::optional<OpenBlock> first = oldest(lane);
  if (!first) return false;
  view.rows_seen = first->sequence * plan.size.block_rows + first->rows;
  if (!first->takeable) return true;
  view.oldest_ns = map.control(first->buffer).first_arrival_ns.load(std::memory_order_relaxed);  // 0 or right
  // The blocks behind it, as far as a batch may reach.
  std::uint32_t rows = first->rows;
  for (std::uint64_t sequence = first->sequence;;) {
    const std::uint32_t buffer = plan.first_buffer + static_cast<std::uint32_t>(sequence % plan.size.buffers);
    const std::uint64_t deadline_ns = map.control(buffer).deadline_ns.load(std::memory_order_relaxed);  // as above
    if (deadline_ns != 0) view.deadline_ns = std::min(view.deadline_ns, deadline_ns);
    view.rows += rows;
    if (view.rows >= plan.size.batch_rows_max) break;
    ++sequence;
    const std::uint32_t next = plan.first_buffer + static_cast<std::uint32_t>(sequence % plan.size.buffers);
    const BlockWord word = unpack(map.control(next).word.load(std::memory_order_seq_cst));
    if (!word.is_of(sequence) || word.state != BlockState::kOpen || word.rows == 0) break;
    rows = word.rows;
  }
  view.ripe = view.rows >= plan.size.batch_rows_max;
  view.rows = std::min(view.rows, plan.size.batch_rows_max);
  return false;
}

void TakerRing::refresh_costs() noexcept {
  for (std::size_t bucket = 0; bucket < costs.size(); ++bucket) {
    const SharedCost& shared = header().costs[bucket];
    const std::uint32_t version = shared.version();
    if (version == cost_versions_[bucket]) continue;
    cost_versions_[bucket] = version;
    costs[bucket] = shared.load();
  }
}

std::uint32_t TakerRing::slot_of(const BatchRow& row) const noexcept {
  const std::uint64_t slot = (map.meta(row.index).span_offset - plan().arena_offset) / plan().slot_stride;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(slot, plan().size.slots - 1));
}

const std::byte* TakerRing::source(const BatchRow& row, std::size_t index) const noexcept {
  const LanePlan& lane = map.lane_of(row.buffer);
  if (plan().arena) return map.slot(slot_of(row)) + lane.schema.inputs.offset(index);
  return map.input(lane, row.index, index);
}

// Slots that lie side by side are the batch already, if the tensor fills its slot.
bool TakerRing::neighbouring_slots(const TakenBatch& batch, std::uint64_t tensor_bytes) const noexcept {
  if (batch.run_rows != batch.rows) return false;
  if (batch.rows == 1) return true;
  if (tensor_bytes != plan().slot_stride) return false;
  const std::uint32_t first = slot_of(batch.row.front());
  for (std::uint32_t row = 1; row < batch.rows; ++row) {
    if (slot_of(batch.row[row]) != first + row) return false;
  }
  return true;
}

std::uint32_t TakerRing::copied_rows_max() const noexcept {
  const std::uint32_t allowed = settings.batch_sizes == 0 ? 0 : settings.batch_size[settings.batch_sizes - 1];
  return std::max(plan().size.batch_rows_max, allowed);
}

std::byte* TakerRing::copied(std::vector<CopiedRows>& copies, const RowLayout& layout, std::size_t index) {
  CopiedRows& target = copies[index];
  if (!target.bytes) {
    // For the largest batch at once (pages cost nothing until they are used): a view that a model kept stays mapped.
    const std::uint64_t capacity = copied_rows_max() * layout.tensors()[index].bytes();
    target.bytes.reset(static_cast<std::byte*>(::operator new(capacity, std::align_val_t{kTensorAlignment})));
  }
  return target.bytes.get();
}

const std::byte* TakerRing::input(const TakenBatch& batch, std::size_t index) {
  const LanePlan& lane = plan().lanes[batch.lane];
  if (batch.in_place && !plan().arena) return map.input(lane, batch.row.front().index, index);
  const std::uint64_t bytes = lane.schema.inputs.tensors()[index].bytes();
  if (plan().arena && neighbouring_slots(batch, bytes)) return source(batch.row.front(), index);
  std::byte* target = copied(inputs_, plan().schema.inputs, index);
  sources_.resize(batch.run_rows);
  for (std::uint32_t row = 0; row < batch.run_rows; ++row)
    sources_[row] = source(batch.row[row < batch.rows ? row : 0], index);
  gather(sources_, bytes, target);
  return target;
}

void TakerRing::input_offsets(const TakenBatch& batch, std::size_t index, std::span<std::uint64_t> to) const noexcept {
  for (std::size_t row = 0; row < to.size(); ++row) {
    to[row] = static_cast<std::uint64_t>(source(batch.row[row < batch.rows ? row : 0], index) - map.region().data());
  }
}

std::byte* TakerRing::output(const TakenBatch& batch, std::size_t index) {
  if (batch.in_place) return map.output(plan().lanes[batch.lane], batch.row.front().index, index);
  return copied(outputs_, plan().schema.outputs, index);
}

void TakerRing::scatter(const TakenBatch& batch, std::uint32_t row) noexcept {
  if (batch.in_place) return;
  const LanePlan& lane = map.lane_of(batch.row[row].buffer);
  for (std::size_t index = 0; index < outputs_.size(); ++index) {
    if (!outputs_[index].bytes) continue;  // never asked for
    const std::uint64_t bytes = lane.schema.outputs.tensors()[index].bytes();
    std::memcpy(map.output(lane, batch.row[row].index, index), outputs_[index].bytes.get() + row * bytes, bytes);
  }
}

}  // namespace penstock::batcher
