// Rows into the ring: claim, copy, publish. Nothing in between that could wait.
#include <algorithm>
#include <cstring>

#include "engine/predict_options.hpp"
#include "engine/predict_path.hpp"
#include "engine/row_padding.hpp"

namespace penstock::dataplane {

// `row` is the packed row, unless it lies in arena slot `slot`. `problem` is empty; a large thing, and the caller has
// one.
void PredictPath::submit_row(Connection& connection, Pending& pending, ModelEntry& entry, const std::byte* row,
                             std::uint32_t slot, Problem& problem) {
  const std::size_t reply_bytes = kHeadBytesMax + entry.encoder.bytes_max(pending.encoding, pending.length);
  bool accepted = choose_output(entry, pending.output_name(), pending, problem);
  Flight* flight = nullptr;
  if (entry.cache != nullptr && accepted) [[unlikely]] {
    if (share_row(connection, pending, entry, slot == kNoSlot ? row : entry.ring.slot(slot), flight)) {
      if (slot != kNoSlot) entry.ring.release_slot(slot);
      return;
    }
  }
  accepted = accepted && (pending.row_deadline_ns != 0 || admit(entry, pending, 1, problem)) &&
             reserve_reply(pending, reply_bytes, problem);
  batcher::Claim claim;
  const std::uint32_t lane = entry.lane_of(pending.row_class, pending.length);
  if (accepted) {
    // A row in the arena lies there already. Before it is claimed: it may take a while.
    if (slot != kNoSlot && pending.length != 0)
      pad_slot(entry.ring.schema().inputs, entry.ring.lane_schema(lane).inputs, pending.length, entry.ring.slot(slot));
    claim = entry.ring.claim(lane);
    accepted = claim.status == batcher::ClaimStatus::kClaimed;
    if (!accepted) refuse_claim(entry, pending, claim.status, problem);
  }
  if (!accepted) {
    if (slot != kNoSlot) entry.ring.release_slot(slot);
    if (flight != nullptr) flights_.release(*flight);
    pending.reply.reset();
    session_.refuse(connection, pending, problem);
    return;
  }
  if (slot != kNoSlot) {
    entry.ring.set_span(claim, 0, slot);
  } else if (pending.length != 0) {
    copy_padded_row(entry.ring, claim, lane, pending.length, row);
  } else {
    const RowLayout& layout = entry.ring.schema().inputs;
    for (std::size_t i = 0; i < layout.size(); ++i) {
      std::memcpy(entry.ring.input(claim, 0, i), row + layout.offset(i), layout.tensor_bytes(i));
    }
  }
  write_row(connection, pending, entry, claim, 0, slot);
  entry.ring.publish(claim, loop_.index);
  pending.claim = claim;
  count_rows(entry, pending, 1);
  if (flight != nullptr) [[unlikely]]
    begin_flight(entry, claim, *flight);
  if (loop_.table->mirror(entry.id) != nullptr) [[unlikely]]
    mirror_row(connection, pending, entry, claim, 0, slot == kNoSlot ? row : nullptr);
  enter_request(connection, pending, entry, reply_bytes);
}

// Memory for a large reply is found now, not when the answer is there and holds a buffer of the ring.
bool PredictPath::reserve_reply(Pending& pending, std::size_t reply_bytes, Problem& problem) {
  if (reply_bytes <= kConnectionBytes) return true;
  pending.reply = loop_.engine.pool.try_acquire(reply_bytes);
  if (pending.reply) return true;
  problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the reply of %zu bytes", reply_bytes);
  return false;
}

// Row k of the claim: what the worker is told of it, and whose it is.
void PredictPath::write_row(const Connection& connection, const Pending& pending, ModelEntry& entry,
                            const batcher::Claim& claim, std::uint32_t k, std::uint32_t slot) const noexcept {
  const Rejoin* const rejoin = pending.rejoin;
  const std::uint32_t row = rejoin == nullptr ? 0 : rejoin->cursor + k;
  batcher::RowMeta& meta = entry.ring.meta(claim, k);
  meta.arrival_ns = pending.arrival_ns;
  meta.deadline_ns = pending.row_deadline_ns;
  meta.trace_id = pending.trace_id;
  meta.row_index = row;
  meta.row_count = rejoin == nullptr ? 1 : rejoin->rows;
  meta.principal = 0;
  meta.priority = static_cast<std::uint8_t>(pending.row_class);
  meta.rank = 0;
  meta.shape[0] = rejoin == nullptr ? pending.length : rejoin->length_of(row);
  meta.cancelled.store(0, std::memory_order_relaxed);  // ordered by publish()
  write_id(pending.request_id(), meta.request_id);
  Ticket& ticket = entry.ticket(claim.buffer, claim.row + k);
  ticket.sequence = claim.sequence;
  ticket.arrival_ns = pending.arrival_ns;
  ticket.connection = connection.index;
  ticket.generation = connection.generation;
  ticket.request = pending.id;
  ticket.slot = slot;
  ticket.row = row;
  ticket.part = rejoin == nullptr ? kNoPart : static_cast<std::uint32_t>(rejoin->parts.size());
  ticket.pair = kNoPair;
  ticket.flight = kNoFlight;
  ticket.owner.store(loop_.index, std::memory_order_relaxed);
}

void PredictPath::count_rows(ModelEntry& entry, const Pending& pending, std::uint32_t rows) noexcept {
  RingUse& use = rings_[entry.id];
  if (use.in_flight == 0) active_.push_back(entry.id);
  use.in_flight += rows;
  use.bell = true;
  rows_in_flight_ += rows;
  entry.stats[loop_.index].rows_out.add(rows);
  entry.stats[loop_.index].rows_by_class[static_cast<std::size_t>(pending.row_class)].add(rows);
}

void PredictPath::enter_request(Connection& connection, Pending& pending, ModelEntry& entry,
                                std::size_t reply_bytes) noexcept {
  pending.state = Pending::State::kRow;
  pending.entry = &entry;
  pending.owed_bytes = static_cast<std::uint32_t>(std::min<std::size_t>(reply_bytes, kOwedBytesMax));
  connection.owed_bytes += pending.owed_bytes;
}

}  // namespace penstock::dataplane
