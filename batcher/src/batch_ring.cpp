// The producer's side: claim rows, publish them, ring the bell.
#include "penstock/batcher/batch_ring.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>
#include <utility>

#include "ring_state.hpp"
#include "waiting_workers.hpp"

namespace penstock::batcher {
namespace {

// The earliest of several deadlines, of which 0 is none.
void lower_deadline(std::atomic<std::uint64_t>& earliest, std::uint64_t deadline_ns) noexcept {
  if (deadline_ns == 0) return;
  std::uint64_t known = earliest.load(std::memory_order_relaxed);
  while ((known == 0 || deadline_ns < known) &&
         !earliest.compare_exchange_weak(known, deadline_ns, std::memory_order_relaxed, std::memory_order_relaxed)) {
  }
}

RingPlan plan_of(const RingConfig& config) {
  check_config(config);
  const RingSize size = size_ring(config);
  // A smaller batch is as good as another, but not where its size was asked for.
  const bool fixed = !config.batch_sizes.empty() || config.reproducible_batch_size > size.batch_rows_max;
  if (fixed && size.batch_rows_max < config.max_batch_size)
    throw std::invalid_argument("queue_bytes holds batches of " + std::to_string(size.batch_rows_max) +
                                " rows at most, too few for batch_sizes or reproducible_batch_size: raise queue_bytes");
  return plan_ring(config.schema, size, config.loops);
}

constexpr std::uint64_t kStartNs = 1'000'000'000;     // what a worker needs to start, roughly
constexpr std::uint64_t kBusyMaxNs = 60'000'000'000;  // a worker that says it is busy for longer is not believed

}  // namespace

BatchRing::State::State(const RingConfig& config, const RingPlan& plan, std::shared_ptr<State> first_of_group)
    : map(SharedRegion::create(plan.region_bytes), plan),
      home(std::move(first_of_group)),
      settings(settings_of(config)),
      lane_settings(batcher::lane_settings(plan, settings, 0)),
      rerun(config.rerun_on_worker_death),
      lanes(std::make_unique<LaneRecord[]>(plan.lanes.size())),
      buffers(std::make_unique<BufferRecord[]>(plan.buffers)),
      loops(std::make_unique<LoopRecord[]>(plan.loops)),
      costs(std::make_unique<SharedCost[]>(kBucketsMax)),
      slots(plan.size.slots) {
  write_header(map.header(), plan, settings);
  for (std::uint32_t loop = 0; loop < plan.loops; ++loop) loops[loop].reported.resize(plan.buffers);
  // Relaxed, all: nobody else knows the ring yet.
  for (std::uint32_t lane = 0; lane < plan.lanes.size(); ++lane) {
    for (std::uint32_t i = 0; i < plan.lanes[lane].size.buffers; ++i) {
      const std::uint64_t sequence = config.first_block + i;
      const std::uint32_t buffer = buffer_of(lane, sequence);
      buffers[buffer].sequence.store(sequence, std::memory_order_relaxed);
      map.control(buffer).word.store(pack({.sequence = sequence}), std::memory_order_relaxed);
    }
    lanes[lane].tail.store(config.first_block, std::memory_order_relaxed);
    map.header().lanes[lane].head.store(config.first_block, std::memory_order_relaxed);
  }
}

std::shared_ptr<BatchRing::State> BatchRing::first_of(const BatchRing* group) noexcept {
  if (group == nullptr) return nullptr;
  return group->state_->home ? group->state_->home : group->state_;
}

BatchRing::BatchRing(const RingConfig& config)
    : state_(std::make_shared<State>(config, plan_of(config), first_of(config.group))) {}
BatchRing::~BatchRing() = default;

int BatchRing::fd() const noexcept { return state_->map.fd(); }
std::uint32_t BatchRing::max_batch_size() const noexcept { return state_->map.plan().size.batch_rows_max; }
std::uint32_t BatchRing::buffers() const noexcept { return state_->map.plan().buffers; }
const ModelSchema& BatchRing::schema() const noexcept { return state_->map.plan().schema; }

std::uint32_t BatchRing::lanes() const noexcept { return static_cast<std::uint32_t>(state_->map.plan().lanes.size()); }
std::uint32_t BatchRing::lane_of(RowClass row_class, std::uint32_t bucket) const noexcept {
  return bucket * kRowClasses + static_cast<std::uint32_t>(row_class);
}
const LaneSettings& BatchRing::settings(std::uint32_t lane) const noexcept { return state_->lane_settings[lane]; }
const ModelSchema& BatchRing::lane_schema(std::uint32_t lane) const noexcept {
  return state_->map.plan().lanes[lane].schema;
}
const std::vector<std::uint32_t>& BatchRing::lengths() const noexcept { return state_->map.plan().size.lengths; }
std::uint32_t BatchRing::lane_of_buffer(std::uint32_t buffer) const noexcept {
  return state_->map.plan().lane_of[buffer];
}
std::uint32_t BatchRing::rows() const noexcept { return state_->map.plan().rows; }
std::uint32_t BatchRing::row_index(std::uint32_t buffer, std::uint32_t row) const noexcept {
  return state_->map.row_index(buffer, row);
}

Claim BatchRing::claim(std::uint32_t lane, std::uint32_t count) noexcept {
  State& state = *state_;
  const std::uint32_t rows_max = state.map.plan().lanes[lane].size.block_rows;
  std::atomic<std::uint64_t>& open = state.lanes[lane].tail;
  Claim claim{.count = count};
  // Acquire: pairs with the store in close(). A claim that still sees false is found by its loop, which looks at the
  // hints of a closed ring after it has published.
  if (state.closed.load(std::memory_order_acquire) || count == 0 || count > rows_max) {
    if (state.corrupt.load(std::memory_order_relaxed)) claim.status = ClaimStatus::kCorrupt;
    return claim;
  }
  std::uint64_t tail = open.load(std::memory_order_acquire);  // pairs with the CAS in advance_tail()
  for (;;) {
    const std::uint32_t buffer = state.buffer_of(lane, tail);
    std::atomic<std::uint64_t>& shared = state.map.control(buffer).word;
    std::uint64_t bits = shared.load(std::memory_order_acquire);  // pairs with the exchange in recycle()
    const BlockWord word = unpack(bits);
    if (word.state == BlockState::kOpen && word.is_of(tail) && word.rows + count <= rows_max) {
      // The rows are the word's low bits. Sequentially consistent: this makes work visible; ring_bell() reads the
      // announcements afterwards (the other half is BatchTaker::State::wait()).
      if (!shared.compare_exchange_weak(bits, bits + count, std::memory_order_seq_cst, std::memory_order_relaxed))
        continue;
      claim = {ClaimStatus::kClaimed, buffer, word.rows, count, tail};
      // Our row keeps the buffer from being recycled, so its private record cannot change under us: it must agree.
      if (state.buffers[buffer].sequence.load(std::memory_order_relaxed) == tail) return claim;
      state.give_up();
    } else if (state.advance_tail(lane, tail)) {
      continue;
    }
    claim.status = state.corrupt.load(std::memory_order_relaxed) ? ClaimStatus::kCorrupt : ClaimStatus::kFull;
    state.claims_refused.fetch_add(1, std::memory_order_relaxed);  // a statistic
    return claim;
  }
}

bool BatchRing::State::advance_tail(std::uint32_t lane, std::uint64_t& from) noexcept {
  const LaneSize& size = map.plan().lanes[lane].size;
  std::atomic<std::uint64_t>& tail = lanes[lane].tail;
  const BlockWord open = word(lane, from);
  const BlockWord next = word(lane, from + 1);
  const bool open_possible =
      is_possible(open, size.block_rows) && (open.is_of(from) || open.is_of(from + size.buffers));
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
  // One lap behind is a buffer whose answers are not out yet: the lane is full. Anything else nobody may have written.
  if (!open_possible || !next.is_of(from + 1 - size.buffers)) give_up();
  return false;
}

std::byte* BatchRing::input(const Claim& claim, std::uint32_t k, std::size_t index) const noexcept {
  const RingMap& map = state_->map;
  return map.input(map.lane_of(claim.buffer), map.row_index(claim.buffer, claim.row + k), index);
}

RowMeta& BatchRing::meta(const Claim& claim, std::uint32_t k) const noexcept {
  return state_->map.meta(state_->map.row_index(claim.buffer, claim.row + k));
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
  // Relaxed, both: a taker that reads them too early takes "now" and "no deadline" instead.
  if (claim.row == 0) control.first_arrival_ns.store(meta(claim, 0).arrival_ns, std::memory_order_relaxed);
  for (std::uint32_t k = 0; k < claim.count; ++k) lower_deadline(control.deadline_ns, meta(claim, k).deadline_ns);
  // Before `committed`, so that a completed block finds all its rows counted. Relaxed: ordered by it, too.
  state.buffers[claim.buffer].published.fetch_add(claim.count, std::memory_order_relaxed);
  // Release: the row's bytes; pairs with the acquire load in BatchTaker::State::await_rows().
  control.committed.fetch_add(claim.count, std::memory_order_release);
  LoopRecord& record = state.loops[loop];
  record.rows_published.store(record.rows_published.load(std::memory_order_relaxed) + claim.count,
                              std::memory_order_relaxed);  // a statistic with one writer
  const std::uint32_t lane = state.map.plan().lane_of[claim.buffer];
  const bool full = claim.row + claim.count == state.map.plan().lanes[lane].size.block_rows;
  const std::uint64_t lane_bit = std::uint64_t{1} << lane;
  // Sequentially consistent: a loop that finds a flag set leaves the ringing to whoever clears it after this line.
  if (full && !state.bell_full.load(std::memory_order_seq_cst)) state.bell_full.store(true, std::memory_order_seq_cst);
  if ((state.bell_lanes.load(std::memory_order_seq_cst) & lane_bit) == 0)
    state.bell_lanes.fetch_or(lane_bit, std::memory_order_seq_cst);
}

bool BatchRing::ring_bell() noexcept {
  State& state = *state_;
  if (state.bell_lanes.load(std::memory_order_relaxed) == 0) return false;  // what this loop published it sees itself
  const std::uint64_t lanes = state.bell_lanes.exchange(0, std::memory_order_seq_cst);  // pairs with publish()
  if (lanes == 0) return false;
  const bool full = state.bell_full.exchange(false, std::memory_order_seq_cst);  // set before the lane's bit was
  RingHeader& header = state.sleepers();
  bool rang = wake_one(header, header.waiting_for_rows);
  // Workers that wait for a buffer are woken for a full block, and for a partial one that has a free buffer behind it
  // by now.
  if (!rang && header.waiting_for_buffer.load(std::memory_order_seq_cst) != 0) {  // pairs as in pick_waiting()
    if (full || state.any_takeable(lanes)) rang = wake_one(header, header.waiting_for_buffer);
  }
  if (rang) state.bell_rings.fetch_add(1, std::memory_order_relaxed);  // a statistic
  return rang;
}

bool BatchRing::State::any_takeable(std::uint64_t published) const noexcept {
  for (; published != 0; published &= published - 1) {
    const auto lane = static_cast<std::uint32_t>(std::countr_zero(published));
    const std::uint64_t next = lanes[lane].tail.load(std::memory_order_acquire) + 1;  // pairs with advance_tail()
    if (word(lane, next).is_of(next)) return true;
  }
  return false;
}

// Rows that were claimed and not yet taken. `head` is the workers' word: what it says is kept between the lane's
// bounds.
std::uint64_t BatchRing::State::rows_pending(std::uint32_t lane) const noexcept {
  const LaneSize& size = map.plan().lanes[lane].size;
  const std::uint64_t tail = lanes[lane].tail.load(std::memory_order_relaxed);  // an estimate, as all of this
  const std::uint64_t head = map.header().lanes[lane].head.load(std::memory_order_relaxed);
  if (head > tail || tail - head > size.buffers) return 0;
  const BlockWord open = unpack(map.control(buffer_of(lane, tail)).word.load(std::memory_order_relaxed));
  const bool is_open = open.state == BlockState::kOpen && open.is_of(tail) && open.rows <= size.block_rows;
  return (tail - head) * size.block_rows + (is_open ? open.rows : 0);
}

QueueLoad BatchRing::load(std::uint32_t lane, std::uint64_t now_ns) const noexcept {
  const State& state = *state_;
  const RingHeader& header = state.sleepers();
  const std::vector<LanePlan>& lanes = state.map.plan().lanes;
  const RowClass row_class = lanes[lane].row_class;
  QueueLoad load;
  load.workers = 0;
  for (std::uint32_t i = 0; i < lanes.size(); ++i) {
    if (lanes[i].bucket != lanes[lane].bucket) continue;
    const RowClass other = lanes[i].row_class;
    // Rows of the batch class go last; reproducible ones take turns with normal ones.
    if (i == lane || other <= row_class || other == RowClass::kReproducible) load.rows_ahead += state.rows_pending(i);
  }
  std::uint64_t free_at_ns = ~std::uint64_t{0};
  for (std::uint64_t left = header.attached.load(std::memory_order_relaxed); left != 0; left &= left - 1) {
    const std::uint64_t until_ns =
        header.workers[static_cast<std::size_t>(std::countr_zero(left))].busy_until_ns.load(std::memory_order_relaxed);
    free_at_ns = std::min(free_at_ns, std::min(until_ns, now_ns + kBusyMaxNs));
    ++load.workers;
  }
  if (load.workers == 0) {  // they are starting
    load.workers = 1;
    free_at_ns = now_ns + kStartNs;
  }
  load.free_at_ns = free_at_ns;
  return load;
}

CostModel BatchRing::cost(std::uint32_t bucket) const noexcept { return state_->costs[bucket].load(); }

void BatchRing::set_cost(std::uint32_t bucket, const CostModel& cost) noexcept {
  state_->costs[bucket].store(cost);
  state_->map.header().costs[bucket].store(cost);
}

void BatchRing::cancel(const Claim& claim, std::uint32_t k) noexcept {
  // Relaxed, both: hints. Our unanswered row keeps the buffer, so the flag is still this row's.
  meta(claim, k).cancelled.store(1, std::memory_order_relaxed);
  state_->map.control(claim.buffer).cancelled.fetch_add(1, std::memory_order_relaxed);
}

bool BatchRing::uses_arena() const noexcept { return state_->map.plan().arena; }
std::optional<std::uint32_t> BatchRing::acquire_slot(RowClass row_class) noexcept {
  const std::uint32_t slots = state_->map.plan().size.slots;
  switch (row_class) {
    case RowClass::kInteractive:
      return state_->slots.acquire();
    case RowClass::kBatch:
      return state_->slots.acquire(std::max(slots / 2, 1u));
    default:
      return state_->slots.acquire(std::max(slots - slots / 6, 1u));
  }
}
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
    const BlockWord word = state.word(buffer);
    if (word.state == BlockState::kOpen || word.state == BlockState::kQueued) counters.rows_queued += word.rows;
  }
  return counters;
}

}  // namespace penstock::batcher
