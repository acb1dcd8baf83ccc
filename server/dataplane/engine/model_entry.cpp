#include "engine/model_entry.hpp"

#include <algorithm>
#include <utility>

#include "engine/rejoin.hpp"

namespace penstock::dataplane {
namespace {

// Of a request of many rows: one client's body is not most of the memory for all bodies.
constexpr std::uint64_t kRowsBytesMax = 16ull << 20;

// What a field of a record may take beside its number: its name, and what categories and hashed strings are made of.
constexpr std::uint64_t kFieldBytesMax = 512;

std::uint64_t largest_body(const RowLayout& inputs, const RecordPlan* record) {
  // The longest honest JSON number is about 25 bytes; white space beyond that is on the client.
  std::uint64_t elements = 0;
  std::uint64_t text_bytes = 0;  // of strings in which every byte is escaped
  for (const TensorSpec& tensor : inputs.tensors()) {
    elements += tensor.elements();
    text_bytes += std::uint64_t{6} * tensor.heap_bytes;
  }
  if (record != nullptr) text_bytes += kFieldBytesMax * record->elements().size();
  const std::uint64_t one_row = elements * 32 + text_bytes + 64 * 1024;
  const std::uint64_t many_rows = std::min(kRowsBytesMax, inputs.tensors().front().bytes() * kRequestRowsMax);
  return inputs.size() == 1 ? std::max(one_row, many_rows) : one_row;
}

}  // namespace

ModelEntry::ModelEntry(std::uint32_t ring_id, std::string model_name, std::string version_name,
                       const batcher::RingConfig& config, std::string group_name, std::shared_ptr<CacheAccount> account,
                       std::shared_ptr<const RecordPlan> record_plan)
    : id(ring_id),
      model(std::move(model_name)),
      version(std::move(version_name)),
      group(std::move(group_name)),
      slo_ns(config.slo_ns),
      ring(config),
      encoder(model, version, ring.schema()),
      infer_encoder(model, version, ring.schema()),
      body_bytes_max(largest_body(ring.schema().inputs, record_plan.get())),
      costs(ring),
      cache(std::move(account)),
      record(std::move(record_plan)),
      stats(config.loops),
      tickets_(std::make_unique<Ticket[]>(ring.rows())),
      lane_rows_(ring.lanes()) {
  for (RingStats& loop : stats) loop.by_size = std::vector<SizeStats>(ring.max_batch_size() + 1);
  for (std::uint32_t buffer = 0; buffer < ring.buffers(); ++buffer) {
    const std::uint32_t lane = ring.lane_of_buffer(buffer);
    lane_rows_[lane] += ring.settings(lane).block_rows;
  }
}

void ModelEntry::note_arrivals(std::uint64_t now_ns) noexcept {
  for (std::size_t of = 0; of < arrivals_.size(); ++of) {
    std::uint64_t rows = 0;
    for (const RingStats& loop : stats) rows += loop.rows_by_class[of].get() + loop.rows_refused_by_class[of].get();
    arrivals_[of].note(rows, now_ns);
  }
}

double ModelEntry::arrivals_per_second(batcher::RowClass row_class) const noexcept {
  double rate = 0;
  for (std::size_t of = 0; of < arrivals_.size(); ++of) {
    const auto other = static_cast<batcher::RowClass>(of);
    if (other <= row_class || other == batcher::RowClass::kReproducible) rate += arrivals_[of].per_second();
  }
  return rate;
}

std::uint32_t ModelEntry::bucket_of(std::uint32_t length) const noexcept {
  const std::vector<std::uint32_t>& lengths = ring.lengths();
  return static_cast<std::uint32_t>(std::ranges::lower_bound(lengths, length) - lengths.begin());
}

}  // namespace penstock::dataplane
