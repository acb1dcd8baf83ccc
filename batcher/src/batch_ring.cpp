// The producer's side: claim rows, publish them, ring the bell.
#include "penstock/batcher/batch_ring.hpp"

#include <stdexcept>
#include <utility>

#include "ring_state.hpp"
#include "waiting_workers.hpp"

namespace penstock::batcher {
namespace {

RingPlan plan_of(const RingConfig& config) {
  check_schema(config.schema);
  if (config.loops == 0 || config.loops > kLoopsMax) throw std::invalid_argument("a ring has 1 to 64 loops");
  return plan_ring(config.schema, size_ring(config), config.loops);
}

}  // namespace

BatchRing::State::State(const RingConfig& config, const RingPlan& plan)
    : map(SharedRegion::create(plan.region_bytes), plan),
      queue_delay_ns(config.max_queue_delay_us * std::uint64_t{1000}),
      rerun(config.rerun_on_worker_death),
      buffers(std::make_unique<BufferRecord[]>(plan.buffers)),
      loops(std::make_unique<LoopRecord[]>(plan.loops)),
      slots(plan.slots),
      tail(config.first_batch) {
  write_header(map.header(), plan, queue_delay_ns);
  for (std::uint32_t loop = 0; loop < plan.loops; ++loop) loops[loop].reported.resize(plan.buffers);
  for (std::uint32_t i = 0; i < plan.buffers; ++i) {
    const std::uint64_t sequence = config.first_batch + i;
    const std::uint32_t buffer = buffer_of(sequence);
    buffers[buffer].sequence.store(sequence, std::memory_order_relaxed);  // nobody else knows the ring yet
    map.control(buffer).word.store(pack({.sequence = sequence}), std::memory_order_relaxed);
  }
  map.header().head.store(config.first_batch, std::memory_order_relaxed);
}

BatchRing::BatchRing(const RingConfig& config) : state_(std::make_unique<State>(config, plan_of(config))) {}
BatchRing::~BatchRing() = default;

int BatchRing::fd() const noexcept { return state_->map.fd(); }
std::uint32_t BatchRing::max_batch_size() const noexcept { return state_->map.plan().rows_max; }
std::uint32_t BatchRing::buffers() const noexcept { return state_->map.plan().buffers; }
const ModelSchema& BatchRing::schema() const noexcept { return state_->map.plan().schema; }

Claim BatchRing::claim(std::uint32_t count) noexcept {
  State& state = *state_;
  const std::uint32_t rows_max = state.map.plan().rows_max;
  Claim claim{.count = count};
  // Acquire: pairs with the store in close(). A claim that still sees false is found by its loop, which looks at the
  // hints of a closed ring after it has published.
  if (state.closed.load(std::memory_order_acquire) || count == 0 || count > rows_max) {
    if (state.corrupt.load(std::memory_order_relaxed)) claim.status = ClaimStatus::kCorrupt;
    return claim;
  }
  std::uint64_t tail = state.tail.load(std::memory_order_acquire);  // pairs with the CAS in advance_tail()
  for (;;) {
    const std::uint32_t buffer = state.buffer_of(tail);
    std::atomic<std::uint64_t>& shared = state.map.control(buffer).word;
    std::uint64_t bits = shared.load(std::memory_order_acquire);  // pairs with the exchange in recycle()
    const BatchWord word = unpack(bits);
    if (word.state == BatchState::kOpen && word.is_of(tail) && word.rows + count <= rows_max) {
      // The rows are the word's low bits. Sequentially consistent: this makes work visible; ring_bell() reads the
      // announcements afterwards (the other half is BatchTaker::State::wait()).
      if (!shared.compare_exchange_weak(bits, bits + count, std::memory_order_seq_cst, std::memory_order_relaxed))
        continue;
      claim = {ClaimStatus::kClaimed, buffer, word.rows, count, tail};
      // Our row keeps the buffer from being recycled, so its private record cannot change under us: it must agree.
      if (state.buffers[buffer].sequence.load(std::memory_order_relaxed) == tail) return claim;
      state.give_up();
    } else if (state.advance_tail(tail)) {
      continue;
    }
    claim.status = state.corrupt.load(std::memory_order_relaxed) ? ClaimStatus::kCorrupt : ClaimStatus::kFull;
    state.claims_refused.fetch_add(1, std::memory_order_relaxed);  // a statistic
    return claim;
  }
}

bool BatchRing::State::advance_tail(std::uint64_t& from) noexcept {
  const RingPlan& plan = map.plan();
  const BatchWord open = word(buffer_of(from));
  const BatchWord next = word(buffer_of(from + 1));
  const bool open_possible = is_possible(open, plan.rows_max) && (open.is_of(from) || open.is_of(from + plan.buffers));
  if (open_possible && next.is_of(from + 1)) {
    std::uint64_t expected = from;
    // Release: hands on what the two words said; pairs with the load in claim(). Who loses finds `tail` moved already.
    const bool moved =
        tail.compare_exchange_strong(expected, from + 1, std::memory_order_acq_rel, std::memory_order_acquire);
    from = moved ? from + 1 : expected;
    return true;
  }
  const std::uint64_t now = tail.load(std::memory_order_acquire);  // pairs with the CAS above, in another loop
  if (now != from) {
    from = now;
    return true;
  }
  // One lap behind is a buffer whose answers are not out yet: the ring is full. Anything else nobody may have written.
  if (!open_possible || !next.is_of(from + 1 - plan.buffers)) give_up();
  return false;
}

std::byte* BatchRing::input(const Claim& claim, std::uint32_t k, std::size_t index) const noexcept {
  const RingMap& map = state_->map;
  return map.input(claim.buffer, index) + (claim.row + k) * map.plan().schema.inputs.tensors()[index].bytes();
}

RowMeta& BatchRing::meta(const Claim& claim, std::uint32_t k) const noexcept {
  return state_->map.meta(claim.buffer, claim.row + k);
}

void BatchRing::publish(const Claim& claim, std::uint32_t loop) noexcept {
  State& state = *state_;
  BufferControl& control = state.map.control(claim.buffer);
  if (state.map.plan().loops > 1) {
    const std::uint64_t bit = std::uint64_t{1} << loop;
    // Relaxed: ordered by `committed` below, which the worker reads before it reads the mask.
    if ((control.loops.load(std::memory_order_relaxed) & bit) == 0)
      control.loops.fetch_or(bit, std::memory_order_relaxed);
  }
  if (claim.row == 0 && state.queue_delay_ns != 0) {
    // Relaxed: a taker that reads it too early takes "now" instead.
    control.first_arrival_ns.store(meta(claim, 0).arrival_ns, std::memory_order_relaxed);
  }
  // Before `committed`, so that a completed batch finds all its rows counted. Relaxed: ordered by it, too.
  state.buffers[claim.buffer].published.fetch_add(claim.count, std::memory_order_relaxed);
  // Release: the row's bytes; pairs with the acquire load in BatchTaker::State::await_rows().
  control.committed.fetch_add(claim.count, std::memory_order_release);
  LoopRecord& record = state.loops[loop];
  record.rows_published.store(record.rows_published.load(std::memory_order_relaxed) + claim.count,
                              std::memory_order_relaxed);  // a statistic with one writer
  const bool full = claim.row + claim.count == state.map.plan().rows_max;
  const std::uint32_t flags = full ? kBellRows | kBellFull : kBellRows;
  // Sequentially consistent: a loop that finds the flags set leaves the ringing to whoever clears them after this line.
  if ((state.bell.load(std::memory_order_seq_cst) & flags) != flags)
    state.bell.fetch_or(flags, std::memory_order_seq_cst);
}

bool BatchRing::ring_bell() noexcept {
  State& state = *state_;
  if (state.bell.load(std::memory_order_relaxed) == 0) return false;  // what this loop published it sees itself
  const std::uint32_t flags = state.bell.exchange(0, std::memory_order_seq_cst);  // pairs with publish()
  if (flags == 0) return false;
  RingHeader& header = state.map.header();
  bool rang = wake_one(header, header.waiting_for_rows);
  // Workers that wait for a buffer are woken for a full batch, and for a partial one that has a free buffer behind it
  // by now.
  if (!rang && header.waiting_for_buffer.load(std::memory_order_seq_cst) != 0) {  // pairs as in pick_waiting()
    const std::uint64_t next = state.tail.load(std::memory_order_acquire) + 1;
    if ((flags & kBellFull) != 0 || state.word(state.buffer_of(next)).is_of(next))
      rang = wake_one(header, header.waiting_for_buffer);
  }
  if (rang) state.bell_rings.fetch_add(1, std::memory_order_relaxed);  // a statistic
  return rang;
}

void BatchRing::cancel(const Claim& claim, std::uint32_t k) noexcept {
  // Relaxed: a hint. Our unanswered row keeps the buffer, so the flag is still this row's.
  meta(claim, k).cancelled.store(1, std::memory_order_relaxed);
}

bool BatchRing::uses_arena() const noexcept { return state_->map.plan().arena; }
std::optional<std::uint32_t> BatchRing::acquire_slot() noexcept { return state_->slots.acquire(); }
void BatchRing::release_slot(std::uint32_t slot) noexcept { state_->slots.release(slot); }
std::byte* BatchRing::slot(std::uint32_t slot) const noexcept { return state_->map.slot(slot); }

void BatchRing::set_span(const Claim& claim, std::uint32_t k, std::uint32_t slot) const noexcept {
  RowMeta& row = meta(claim, k);
  row.span_offset = state_->map.slot_offset(slot);
  row.span_bytes = state_->map.plan().slot_stride;
}

RingCounters BatchRing::counters() const noexcept {
  constexpr auto kRelaxed = std::memory_order_relaxed;  // statistics: each is monotonic, together they are no snapshot
  const State& state = *state_;
  const RingPlan& plan = state.map.plan();
  RingCounters counters;
  for (std::uint32_t loop = 0; loop < plan.loops; ++loop)
    counters.rows_claimed += state.loops[loop].rows_published.load(kRelaxed);
  counters.claims_refused = state.claims_refused.load(kRelaxed);
  counters.bell_rings = state.bell_rings.load(kRelaxed);
  for (const WorkerLines& worker : state.map.header().workers) {
    counters.batches_taken += worker.batches_taken.load(kRelaxed);
    counters.partial_takes_held += worker.partial_takes_held.load(kRelaxed);
    counters.lost_wakeups += worker.lost_wakeups.load(kRelaxed);
  }
  for (std::uint32_t buffer = 0; buffer < plan.buffers; ++buffer) {
    const BatchWord word = state.word(buffer);
    if (word.state == BatchState::kOpen || word.state == BatchState::kQueued) counters.rows_queued += word.rows;
  }
  return counters;
}

}  // namespace penstock::batcher
