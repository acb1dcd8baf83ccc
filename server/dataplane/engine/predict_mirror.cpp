// Rows that go to a shadow, too, and what comes back from both. Nothing here can fail or hold up the live row.
#include <algorithm>
#include <cstring>

#include "engine/predict_path.hpp"
#include "engine/row_padding.hpp"

namespace penstock::dataplane {

// `row` is the packed row of what was published as row k of `claim`; null when it lies in the arena, whose rows are
// too large to be copied on a loop.
void PredictPath::mirror_row(const Connection& connection, const Pending& pending, ModelEntry& entry,
                             const batcher::Claim& claim, std::uint32_t k, const std::byte* row) noexcept {
  const std::shared_ptr<Mirror>& mirror = loop_.table->mirror(entry.id);
  if (!mirror->is_next(loop_.index)) return;
  const Rejoin* const rejoin = pending.rejoin;
  const std::uint32_t length = rejoin == nullptr ? pending.length : rejoin->length_of(rejoin->cursor + k);
  // A place first: between claim and publish there is nothing but copying.
  const std::uint32_t pair = row == nullptr ? kNoPair : mirrored_.begin(mirror, length);
  if (pair == kNoPair) {
    mirror->note_dropped(loop_.index);
    return;
  }
  ModelEntry& shadow = *loop_.table->entries()[mirror->shadow()];
  const std::uint32_t lane = shadow.lane_of(pending.row_class, length);
  const batcher::Claim shadowed = shadow.ring.claim(lane);
  if (shadowed.status != batcher::ClaimStatus::kClaimed) {
    if (shadowed.status == batcher::ClaimStatus::kCorrupt) note_closed(shadow);
    mirrored_.end(pair);
    mirror->note_dropped(loop_.index);
    return;
  }
  if (length != 0) {
    copy_padded_row(shadow.ring, shadowed, lane, length, row);
  } else {
    const RowLayout& layout = shadow.ring.schema().inputs;
    for (std::size_t i = 0; i < layout.size(); ++i)
      std::memcpy(shadow.ring.input(shadowed, 0, i), row + layout.offset(i), layout.tensors()[i].bytes());
  }
  write_row(connection, pending, shadow, shadowed, 0, kNoSlot);
  shadow.ring.meta(shadowed, 0).deadline_ns = 0;  // nobody waits
  Ticket& ticket = shadow.ticket(shadowed.buffer, shadowed.row);
  ticket.connection = kNobody;
  ticket.part = kNoPart;
  ticket.pair = pair;
  shadow.ring.publish(shadowed, loop_.index);
  count_rows(shadow, pending, 1);
  ++rows_shadowed_;
  entry.ticket(claim.buffer, claim.row + k).pair = pair;
  mirror->note_mirrored(loop_.index);
}

// Whether the row was the shadow's: then nobody waits for it.
bool PredictPath::settle_mirrored(ModelEntry& entry, const batcher::DoneBlock& block, std::uint32_t row,
                                  const Ticket& ticket) noexcept {
  using Outcome = MirrorPairs::Outcome;
  const batcher::Completion& completion = entry.ring.completion(block, row);
  Outcome outcome = Outcome::kOk;
  // Acquire is in poll_done(), as for answer_row().
  if (completion.kind.load(std::memory_order_relaxed) != batcher::CompletionKind::kFinal)
    outcome = completion.error == batcher::RowError::kShed ? Outcome::kDropped : Outcome::kFailed;
  const bool is_shadow = ticket.connection == kNobody;
  mirrored_.settle(ticket.pair, is_shadow ? MirrorPairs::Side::kShadow : MirrorPairs::Side::kLive, outcome, entry.ring,
                   block, row);
  if (!is_shadow) return false;
  --rows_shadowed_;
  RingStats& stats = entry.stats[loop_.index];
  switch (outcome) {
    case Outcome::kOk:
      stats.rows_ok.add();
      break;
    case Outcome::kDropped:
      stats.rows_shed.add();
      break;
    default:
      stats.rows_failed.add();
  }
  return true;
}

}  // namespace penstock::dataplane
