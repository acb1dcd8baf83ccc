// The worker's side: find a batch and take it.
#include "penstock/batcher/batch_taker.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "futex.hpp"
#include "kill_point.hpp"
#include "taker_state.hpp"

namespace penstock::batcher {
namespace {

constexpr std::uint64_t kForever = ~std::uint64_t{0};
constexpr std::uint32_t kSpinRowsMax = 2;  // larger batches come of traffic that keeps the cores busy

}  // namespace

Descriptor::Descriptor(int fd) : fd_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "cannot duplicate the eventfd of an I/O loop");
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

BatchTaker::State::State(std::span<const int> ring_fds, const std::vector<int>& loop_event_fds, std::uint32_t worker_id,
                         const TakerOptions& taker_options)
    : worker(worker_id),
      bit(std::uint64_t{1} << (worker_id % kWorkersMax)),
      options(taker_options),
      scheduler(taker_options.policy) {
  if (worker_id >= kWorkersMax) throw std::runtime_error("a ring has workers 0 to 63");
  if (ring_fds.empty()) throw std::runtime_error("a taker has at least one ring");
  for (std::uint32_t ring = 0; ring < ring_fds.size(); ++ring) {
    rings.push_back(std::make_unique<TakerRing>(ring_fds[ring], ring));
    const RingPlan& plan = rings.back()->plan();
    if (loop_event_fds.size() < plan.loops) throw std::runtime_error("the ring has more I/O loops than eventfds came");
    for (std::uint32_t lane = 0; lane < plan.lanes.size(); ++lane) {
      places.push_back({ring, lane});
      views.push_back({.settings = &rings.back()->lanes[lane], .cost = &rings.back()->costs[plan.lanes[lane].bucket]});
    }
  }
  loop_events.reserve(loop_event_fds.size());
  for (const int fd : loop_event_fds) loop_events.emplace_back(fd);
  spare.reserve(4);
  deadlines.reserve(kRowsMax);
  dropped.reserve(kRowsMax);
}

BatchTaker::BatchTaker(std::span<const int> ring_fds, std::vector<int> loop_event_fds, std::uint32_t worker,
                       const TakerOptions& options)
    : state_(std::make_unique<State>(ring_fds, loop_event_fds, worker, options)) {}
BatchTaker::~BatchTaker() = default;

std::uint32_t BatchTaker::rings() const noexcept { return static_cast<std::uint32_t>(state_->rings.size()); }
std::uint32_t BatchTaker::max_batch_size(std::uint32_t ring) const noexcept {
  return state_->rings[ring]->plan().size.batch_rows_max;
}
std::span<const std::uint32_t> BatchTaker::batch_sizes(std::uint32_t ring) const noexcept {
  const RingSettings& settings = state_->rings[ring]->settings;
  return {settings.batch_size.data(), settings.batch_sizes};
}
const ModelSchema& BatchTaker::schema(std::uint32_t ring) const noexcept { return state_->rings[ring]->plan().schema; }
const ModelSchema& BatchTaker::lane_schema(std::uint32_t ring, std::uint32_t lane) const noexcept {
  return state_->rings[ring]->plan().lanes[lane].schema;
}
std::uint32_t BatchTaker::lane_rows(std::uint32_t ring, std::uint32_t lane) const noexcept {
  return state_->rings[ring]->plan().lanes[lane].rows();
}
std::uint32_t BatchTaker::lane_first_row(std::uint32_t ring, std::uint32_t lane) const noexcept {
  return state_->rings[ring]->plan().lanes[lane].first_row;
}
bool BatchTaker::uses_arena(std::uint32_t ring) const noexcept { return state_->rings[ring]->plan().arena; }
std::span<std::byte> BatchTaker::region(std::uint32_t ring) const noexcept { return state_->rings[ring]->map.region(); }

std::uint32_t BatchTaker::copied_rows_max(std::uint32_t ring) const noexcept {
  return state_->rings[ring]->copied_rows_max();
}

std::optional<TakenBatch> BatchTaker::take(int timeout_ms) noexcept {
  State& state = *state_;
  state.attach();
  const std::uint64_t deadline_ns =
      timeout_ms < 0 ? kForever : monotonic_ns() + static_cast<std::uint64_t>(timeout_ms) * 1'000'000;
  for (;;) {
    if (state.options.quarantine) {
      if (std::optional<TakenBatch> batch = state.take_quarantined()) return batch;
    } else if (const Decision decision = state.decide_now(); decision.action == Action::kRun) {
      if (std::optional<TakenBatch> batch = state.grab(decision)) return batch;
      continue;
    } else if (timeout_ms != 0 && state.spin(decision)) {
      continue;
    }
    if (timeout_ms == 0 || !state.wait(deadline_ns)) return std::nullopt;
  }
}

// Not when it is made: until it takes for the first time it warms up, and admission must not count on it.
void BatchTaker::State::attach() noexcept {
  if (attached || options.quarantine) return;
  attached = true;
  sleepers().workers[worker].busy_until_ns.store(0, std::memory_order_relaxed);  // for BatchRing::load(), an estimate
  sleepers().attached.fetch_or(bit, std::memory_order_relaxed);
}

bool BatchTaker::State::spin(const Decision& decision) noexcept {
  return rows_last <= kSpinRowsMax && decision.action == Action::kWait && !held &&
         spinner.find([this] { return decide_now().action == Action::kRun; });
}

Decision BatchTaker::State::decide_now() noexcept {
  held = false;
  for (const std::unique_ptr<TakerRing>& ring : rings) ring->refresh_costs();
  for (std::size_t i = 0; i < views.size(); ++i) {
    TakerRing& ring = *rings[places[i].ring];
    held = ring.look(places[i].lane, views[i]) || held;
    // Hints of a dead worker's blocks are the ring's: its first lane of normal rows speaks for them.
    views[i].requeued = places[i].lane == static_cast<std::uint32_t>(RowClass::kNormal) && ring.header().queued.any();
  }
  return scheduler.decide(views, monotonic_ns());
}

std::optional<TakenBatch> BatchTaker::State::grab(const Decision& decision) noexcept {
  const LanePlace place = places[decision.lane];
  TakenBatch batch = fresh_batch(place);
  PENSTOCK_KILL_POINT(kBeforeTake);
  if (decision.requeued) {
    take_queued(batch, place.ring);
  } else {
    take_lane(batch, place, std::min(decision.lane_rows, decision.rows));
    // Rows of the same model and length that go later ride along.
    for (std::size_t i = 0; i < places.size() && batch.rows != 0 && batch.rows < decision.rows; ++i) {
      const LaneSettings& other = *views[i].settings;
      const LaneSettings& lane = *views[decision.lane].settings;
      if (places[i].ring == place.ring && other.bucket == lane.bucket && other.row_class > lane.row_class &&
          other.row_class != RowClass::kReproducible)
        take_lane(batch, places[i], decision.rows - batch.rows);
    }
  }
  if (batch.blocks.empty()) {
    give_back(std::move(batch));
    return std::nullopt;
  }
  rows_last = batch.rows;
  count(rings[place.ring]->header().workers[worker].batches_taken);
  if (!settle(batch, decision)) {
    give_back(std::move(batch));
    return std::nullopt;
  }
  scheduler.charge(views, decision.lane, views[decision.lane].cost->mean_ns(batch.run_rows));
  return batch;
}

// Whole blocks, from the lane's head; a first one always, whatever its size.
void BatchTaker::State::take_lane(TakenBatch& batch, const LanePlace& place, std::uint32_t rows_max) noexcept {
  TakerRing& ring = *rings[place.ring];
  std::atomic<std::uint64_t>& head = ring.header().lanes[place.lane].head;
  const std::uint32_t rows_before = batch.rows;
  for (std::uint64_t expected = 0;; ++expected) {
    const std::optional<OpenBlock> block = ring.oldest(place.lane);
    if (!block || !block->takeable) return;
    const bool first = batch.rows == rows_before;
    const bool leads = batch.rows == 0;
    // When another taker took the block between, it is at work on this queue: leave the rest to it.
    if (!first && block->sequence != expected) return;
    if (!leads && batch.rows - rows_before + block->rows > rows_max) return;
    if (!take_word(batch, block->sequence, block->buffer, block->bits)) return;
    expected = block->sequence;
    std::uint64_t from = block->sequence;
    // Release: pairs with the load in oldest(). Who fails was overtaken by a taker that found `head` behind.
    head.compare_exchange_strong(from, from + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
    PENSTOCK_KILL_POINT(kAfterHead);
    if (batch.rows - rows_before >= rows_max) return;
  }
}

bool BatchTaker::State::take_word(TakenBatch& batch, std::uint64_t sequence, std::uint32_t buffer,
                                  std::uint64_t bits) noexcept {
  BlockWord taken = unpack(bits);
  taken.state = BlockState::kTaken;
  taken.owner = worker;
  // Acquire: pairs with claim() and recycle(), or with the recovery that queued the block.
  if (!rings[batch.ring]->map.control(buffer).word.compare_exchange_strong(bits, pack(taken), std::memory_order_acq_rel,
                                                                           std::memory_order_relaxed))
    return false;
  PENSTOCK_KILL_POINT(kAfterTake);
  batch.blocks.push_back({sequence, buffer, taken.rows, taken.epoch});
  batch.rows += taken.rows;
  batch.attempt = std::max(batch.attempt, taken.epoch);
  return true;
}

// One block alone, so that a second death tells more about it.
void BatchTaker::State::take_queued(TakenBatch& batch, std::uint32_t index) noexcept {
  TakerRing& ring = *rings[index];
  const std::optional<std::uint32_t> buffer = ring.header().queued.pop([] { PENSTOCK_KILL_POINT(kQueuedDropped); });
  if (!buffer || *buffer >= ring.plan().buffers) return;
  PENSTOCK_KILL_POINT(kQueuedPopped);
  const std::uint64_t bits =
      ring.map.control(*buffer).word.load(std::memory_order_acquire);  // pairs with recover_block()
  const BlockWord word = unpack(bits);
  if (word.state != BlockState::kQueued || word.epoch >= kQuarantineFrom) return;
  batch.lane = ring.plan().lane_of[*buffer];
  // The word holds the low bits of the block's number; it is less than one lap behind `head`.
  const std::uint64_t head = ring.header().lanes[batch.lane].head.load(std::memory_order_acquire);
  take_word(batch, head - ((head - word.sequence) & kSequenceMask), *buffer, bits);
}

// Sequentially consistent, as in TakerRing::oldest(): read again after `asleep` was set; pairs with recover_block().
bool BatchTaker::State::any_quarantined() const noexcept {
  return std::ranges::any_of(rings, [](const std::unique_ptr<TakerRing>& ring) {
    for (std::uint32_t buffer = 0; buffer < ring->plan().buffers; ++buffer) {
      const BlockWord word = unpack(ring->map.control(buffer).word.load(std::memory_order_seq_cst));
      if (word.state == BlockState::kQueued && word.epoch >= kQuarantineFrom) return true;
    }
    return false;
  });
}

// The words tell, not hints: whoever could drop a hint could strand the rows.
std::optional<TakenBatch> BatchTaker::State::take_quarantined() noexcept {
  for (std::uint32_t index = 0; index < rings.size(); ++index) {
    TakerRing& ring = *rings[index];
    for (std::uint32_t buffer = 0; buffer < ring.plan().buffers; ++buffer) {
      const std::uint64_t bits = ring.map.control(buffer).word.load(std::memory_order_acquire);  // as above
      const BlockWord word = unpack(bits);
      if (word.state != BlockState::kQueued || word.epoch < kQuarantineFrom) continue;
      TakenBatch batch = fresh_batch({index, ring.plan().lane_of[buffer]});
      batch.singly = true;
      const std::uint64_t head = ring.header().lanes[batch.lane].head.load(std::memory_order_acquire);
      if (!take_word(batch, head - ((head - word.sequence) & kSequenceMask), buffer, bits)) continue;
      if (settle(batch, {.reason = SealReason::kRequeued})) return batch;
    }
  }
  return std::nullopt;
}

}  // namespace penstock::batcher
