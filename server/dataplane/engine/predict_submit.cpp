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
  bool accepted = choose_output(entry, pending.output_name(), pending, problem) &&
                  (pending.row_deadline_ns != 0 || admit(entry, pending, 1, problem)) &&
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
      std::memcpy(entry.ring.input(claim, 0, i), row + layout.offset(i), layout.tensors()[i].bytes());
    }
  }
  write_row(connection, pending, entry, claim, 0, slot);
  entry.ring.publish(claim, loop_.index);
  pending.claim = claim;
  count_rows(entry, pending, 1);
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
  const std::uint32_t row = rejoin == nullptr ? 0 : rejoin->submitted + k;
  batcher::RowMeta& meta = entry.ring.meta(claim, k);
  meta.arrival_ns = pending.arrival_ns;
  meta.deadline_ns = pending.row_deadline_ns;
  meta.trace_id = pending.trace_id;
  meta.row_index = row;
  meta.row_count = rejoin == nullptr ? 1 : rejoin->rows;
  meta.principal = 0;
  meta.priority = static_cast<std::uint8_t>(pending.row_class);
  meta.rank = 0;
  meta.shape[0] = pending.length;
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
  ticket.part = rejoin == nullptr ? 0 : static_cast<std::uint32_t>(rejoin->parts.size());
  ticket.pair = kNoPair;
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

// --- many rows
// --------------------------------------------------------------------------------------------------------

void PredictPath::submit_rows(Connection& connection, Pending& pending, ModelEntry& entry, const Request& request,
                              std::uint32_t rows) {
  Problem problem;
  const std::uint32_t lane = entry.ring.lane_of(pending.row_class);
  const std::uint32_t rows_max = std::min(kRequestRowsMax, entry.lane_rows(lane));
  bool accepted = choose_output(entry, pending.output_name(), pending, problem);
  if (accepted && pending.encoding != Encoding::kRaw) {
    problem.set(ProblemCode::kNotAcceptable,
                "the body has %u rows, which are answered as application/octet-stream only: ask for it with Accept",
                rows);
    accepted = false;
  } else if (accepted && rows > rows_max) {
    problem.set(ProblemCode::kBodyTooLarge, "the body has %u rows; at most %u of one request are taken here", rows,
                rows_max);
    accepted = false;
  }
  const std::size_t output_bytes = entry.ring.schema().outputs.tensors()[pending.output].bytes();
  const std::size_t reply_bytes = kHeadBytesMax + rows * output_bytes;
  if (!accepted || !admit(entry, pending, rows, problem) || !reserve_reply(pending, reply_bytes, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  Rejoin& rejoin = *rejoins_.acquire();
  pending.rejoin = &rejoin;
  rejoin.rows = rows;
  rejoin.body = request.body;
  rejoin.block = std::move(request.block);
  rejoin.row_bytes = request.body.size() / rows;
  rejoin.output_bytes = output_bytes;
  rejoin.out = pending.reply ? pending.reply.data() + kHeadBytesMax : rejoin.small.get();
  enter_request(connection, pending, entry, reply_bytes);
  submit_some(connection, pending);
  // A body without a block lies in the connection's buffer and is smaller than what one call submits.
  if (pending.rejoin == &rejoin && !rejoin.is_submitted()) {
    entry.stats[loop_.index].rows_out.add();  // until it is finished
    unfinished_.push_back({connection.index, connection.generation, pending.id, &entry});
  }
}

void PredictPath::continue_requests() {
  std::erase_if(unfinished_, [this](const Unfinished& who) {
    const bool finished = !submit_more(who);
    if (finished) who.entry->stats[loop_.index].rows_out.sub();
    return finished;
  });
}

// Whether there is still more of it.
bool PredictPath::submit_more(const Unfinished& who) {
  Connection* const connection = loop_.find(who.connection, who.generation);
  if (connection == nullptr) return false;
  Pending& pending = connection->slot(who.request);
  if (pending.id != who.request || pending.rejoin == nullptr) return false;
  submit_some(*connection, pending);
  return pending.rejoin != nullptr && !pending.rejoin->is_submitted();
}

// As many rows as one pass may take. A row for which there is no room ends the request: those before it run in vain.
void PredictPath::submit_some(Connection& connection, Pending& pending) {
  ModelEntry& entry = *pending.entry;
  Rejoin& rejoin = *pending.rejoin;
  const std::uint32_t lane = entry.ring.lane_of(pending.row_class);
  const std::uint32_t part_rows = entry.ring.uses_arena() ? 1 : entry.ring.settings(lane).block_rows;
  Problem problem;
  for (std::size_t bytes = 0; !rejoin.is_submitted() && bytes < kInlineBytesMax;) {
    const std::uint32_t count = std::min(part_rows, rejoin.rows - rejoin.submitted);
    if (!submit_part(connection, pending, lane, count, problem)) {
      entry.stats[loop_.index].rows_cancelled.add(rejoin.submitted - rejoin.answered);
      give_up(pending);
      pending.reply.reset();
      session_.refuse(connection, pending, problem);
      return;
    }
    bytes += count * rejoin.row_bytes;
  }
  if (rejoin.is_submitted()) rejoin.block.reset();
}

bool PredictPath::submit_part(Connection& connection, Pending& pending, std::uint32_t lane, std::uint32_t count,
                              Problem& problem) {
  ModelEntry& entry = *pending.entry;
  Rejoin& rejoin = *pending.rejoin;
  const std::string_view bytes = rejoin.body.substr(rejoin.submitted * rejoin.row_bytes, count * rejoin.row_bytes);
  if (!check_raw_rows(entry.ring.schema(), bytes, rejoin.submitted, problem)) return false;
  std::uint32_t slot = kNoSlot;
  if (entry.ring.uses_arena()) {
    const std::optional<std::uint32_t> free_slot = entry.ring.acquire_slot(pending.row_class);
    if (!free_slot.has_value()) {
      refuse_claim(entry, pending, batcher::ClaimStatus::kFull, problem);
      return false;
    }
    slot = *free_slot;
    std::memcpy(entry.ring.slot(slot), bytes.data(), bytes.size());
  }
  const batcher::Claim claim = entry.ring.claim(lane, count);
  if (claim.status != batcher::ClaimStatus::kClaimed) {
    if (slot != kNoSlot) entry.ring.release_slot(slot);
    refuse_claim(entry, pending, claim.status, problem);
    return false;
  }
  if (slot == kNoSlot) {
    std::memcpy(entry.ring.input(claim, 0, 0), bytes.data(), bytes.size());
  } else {
    entry.ring.set_span(claim, 0, slot);
  }
  for (std::uint32_t k = 0; k < count; ++k) write_row(connection, pending, entry, claim, k, slot);
  entry.ring.publish(claim, loop_.index);
  if (loop_.table->mirror(entry.id) != nullptr) [[unlikely]] {
    for (std::uint32_t k = 0; k < count; ++k) {  // of one tensor, so that the bytes are packed rows
      const auto* const row = reinterpret_cast<const std::byte*>(bytes.data()) + k * rejoin.row_bytes;
      mirror_row(connection, pending, entry, claim, k, slot == kNoSlot ? row : nullptr);
    }
  }
  rejoin.parts.push_back({claim});
  rejoin.submitted += count;
  count_rows(entry, pending, count);
  return true;
}

void PredictPath::give_up(Pending& pending) noexcept {
  // A part that was answered may have left its buffer to other rows.
  for (const Rejoin::Part& part : pending.rejoin->parts) {
    if (part.answered) continue;
    for (std::uint32_t k = 0; k < part.claim.count; ++k) pending.entry->ring.cancel(part.claim, k);
  }
  rejoins_.release(*pending.rejoin);
  pending.rejoin = nullptr;
}

}  // namespace penstock::dataplane
