// What the ring tests share: a small model, an I/O loop that checks every answer, and a worker that computes it.
//
// The model takes (id, filler) and answers mix(id) and the filler's sum; an answer that is lost, repeated or another
// row's cannot pass.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "check.hpp"
#include "penstock/batcher/batch_ring.hpp"
#include "penstock/batcher/batch_taker.hpp"

namespace penstock::test {

using namespace penstock::batcher;

inline std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

inline std::uint64_t mix(std::uint64_t id) { return (id ^ 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9; }

inline bool is_bad(std::uint64_t id) { return mix(id) % 7 == 0; }

inline ModelSchema small_schema(std::uint32_t filler = 24) {
  return {RowLayout({{"id", DType::kUint64, {}}, {"filler", DType::kUint8, {filler}}}),
          RowLayout({{"mixed", DType::kUint64, {}}, {"sum", DType::kUint32, {1}}})};
}

inline constexpr auto kNormalLane = static_cast<std::uint32_t>(RowClass::kNormal);

// queue_bytes that give the normal lane `buffers` buffers of `rows` rows: half of it is the normal lane's, unless rows
// lie in the arena, which all lanes share.
inline std::uint64_t bytes_for(const ModelSchema& schema, std::uint32_t buffers, std::uint32_t rows) {
  const std::uint64_t bytes =
      (sizeof(RowMeta) + sizeof(Completion) + schema.inputs.bytes() + schema.outputs.bytes()) * buffers * rows;
  return schema.inputs.bytes() > 16 * 1024 ? bytes : 2 * bytes;
}

// A ring whose batches are single blocks: `buffers` of `rows` rows in the normal lane.
inline RingConfig small_config(std::uint32_t buffers, std::uint32_t rows, std::uint32_t loops = 1,
                               std::uint32_t filler = 24) {
  RingConfig config;
  config.schema = small_schema(filler);
  config.max_batch_size = rows;
  config.block_rows = rows;
  config.queue_bytes = bytes_for(config.schema, buffers, rows);
  config.loops = loops;
  return config;
}

struct Tally {
  std::uint64_t submitted = 0;
  std::uint64_t right = 0;  // the right outputs, or the error that the row deserves
  std::uint64_t worker_died = 0;
  std::uint64_t culprits = 0;
  std::uint64_t shed = 0;
  std::uint64_t refused = 0;

  [[nodiscard]] std::uint64_t answered() const { return right + worker_died + culprits + shed; }
};

// One I/O loop of the main process, as far as one ring is concerned. One thread.
class Loop {
 public:
  Loop(BatchRing& ring, std::uint32_t index, std::uint32_t seed) : Loop(ring, index, seed, -1) {}
  // The same loop for another ring of the group.
  Loop(BatchRing& ring, const Loop& same, std::uint32_t seed) : Loop(ring, same.index_, seed, dup(same.event_)) {}
  ~Loop() { close(event_); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] int event() const { return event_; }
  [[nodiscard]] const Tally& tally() const { return tally_; }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] std::uint32_t random(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

  // From now on workers may answer what they like: answers are counted, not checked.
  void expect_lies() { lies_ = true; }

  // The rows that wait were answered by somebody else.
  void forget() { waiting_.clear(); }

  // Rows go to this lane from now on.
  void use_lane(std::uint32_t lane) { lane_ = lane; }
  // Their deadlines lie this far ahead; 0: none.
  void set_deadline(std::uint64_t after_ns) { deadline_after_ns_ = after_ns; }

  // Claims, copies and publishes `count` rows. False: the ring is full.
  bool submit(std::uint32_t count) {
    if (ring_.uses_arena()) return submit_large();
    const Claim claim = ring_.claim(lane_, count);
    if (claim.status != ClaimStatus::kClaimed) return refuse(claim);
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint64_t id = next_id();
      std::memcpy(ring_.input(claim, k, 0), &id, sizeof id);
      std::memset(ring_.input(claim, k, 1), filler_of(id), filler_bytes());
      own(claim, k, id);
    }
    ring_.publish(claim, index_);
    return true;
  }

  // Checks and hands back every answer that is there. The number of rows.
  std::size_t collect() {
    std::size_t rows = 0;
    while (const std::optional<DoneBlock> block = ring_.poll_done(index_)) {
      CHECK(block->rows <= ring_.max_batch_size() && block->buffer < ring_.buffers());
      std::uint32_t mine = 0;
      for (std::uint32_t row = 0; row < block->rows; ++row) mine += answer(*block, row) ? 1 : 0;
      if (mine > 0) ring_.handled(*block, mine);
      rows += mine;
    }
    return rows;
  }

  // Marks one of the rows that were submitted last and are not answered yet, if there is one.
  void cancel_one() {
    for (std::uint32_t i = 0, first = random(kRecent); i < kRecent; ++i) {
      const Ticketed& last = recent_[(first + i) % kRecent];
      Ticket& ticket = tickets_[ring_.row_index(last.claim.buffer, last.claim.row + last.k)];
      if (last.claim.status != ClaimStatus::kClaimed || ticket.sequence != last.claim.sequence) continue;
      ticket.may_be_shed = true;
      ring_.cancel(last.claim, last.k);
      return;
    }
  }

  void sleep() {
    Loop* self = this;
    sleep(std::span(&self, 1));
  }

  // Blocks until a worker has news, as an I/O loop does. A time-out that finds work is a lost wake-up.
  static void sleep(std::span<Loop* const> rings) {
    const bool quiet = std::ranges::all_of(rings, [](Loop* loop) { return loop->ring_.prepare_wait(loop->index_); });
    pollfd event{rings.front()->event_, POLLIN, 0};
    const int ready = poll(&event, 1, quiet ? 5000 : 0);
    for (Loop* loop : rings) {
      loop->ring_.finish_wait(loop->index_);
      CHECK(!quiet || ready != 0 || !loop->ring_.has_done(loop->index_));
    }
    rings.front()->drain_event();
  }

  void drain_event() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t bytes = read(event_, &count, sizeof count);  // nothing there is fine
  }

 private:
  struct Ticket {
    std::uint64_t sequence = ~std::uint64_t{0};
    std::uint64_t id = 0;
    std::uint32_t slot = 0;
    bool may_be_shed = false;
  };
  static constexpr std::uint32_t kRecent = 8;
  struct Ticketed {
    Claim claim;
    std::uint32_t k = 0;
  };

  Loop(BatchRing& ring, std::uint32_t index, std::uint32_t seed, int event)
      : ring_(ring),
        index_(index),
        random_(seed),
        tickets_(ring.rows()),
        event_(event < 0 ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : event) {
    CHECK(event_ >= 0);
  }

  [[nodiscard]] std::size_t filler_bytes() const { return ring_.schema().inputs.tensors()[1].bytes(); }
  [[nodiscard]] static int filler_of(std::uint64_t id) { return static_cast<int>(mix(id) % 251); }
  std::uint64_t next_id() { return static_cast<std::uint64_t>(index_) << 48 | ++last_id_; }

  bool refuse(const Claim& claim) {
    CHECK(claim.status == ClaimStatus::kFull);
    ++tally_.refused;
    return false;
  }

  bool submit_large() {
    const std::optional<std::uint32_t> slot = ring_.acquire_slot();
    if (!slot) {
      ++tally_.refused;
      return false;
    }
    const std::uint64_t id = last_id_ + 1 + (static_cast<std::uint64_t>(index_) << 48);
    std::memcpy(ring_.slot(*slot) + ring_.schema().inputs.offset(0), &id, sizeof id);
    std::memset(ring_.slot(*slot) + ring_.schema().inputs.offset(1), filler_of(id), filler_bytes());
    const Claim claim = ring_.claim(lane_, 1);
    if (claim.status != ClaimStatus::kClaimed) {
      ring_.release_slot(*slot);
      return refuse(claim);
    }
    ring_.set_span(claim, 0, *slot);
    own(claim, 0, next_id()).slot = *slot;
    ring_.publish(claim, index_);
    return true;
  }

  Ticket& own(const Claim& claim, std::uint32_t k, std::uint64_t id) {
    RowMeta& meta = ring_.meta(claim, k);
    meta.arrival_ns = now_ns();
    meta.deadline_ns = deadline_after_ns_ == 0 ? 0 : meta.arrival_ns + deadline_after_ns_;
    meta.cancelled.store(0, std::memory_order_relaxed);  // ordered by publish()
    Ticket& ticket = tickets_[ring_.row_index(claim.buffer, claim.row + k)];
    ticket = {claim.sequence, id, 0, deadline_after_ns_ != 0};
    recent_[id % kRecent] = {claim, k};
    CHECK(waiting_.insert(id).second);
    ++tally_.submitted;
    return ticket;
  }

  bool answer(const DoneBlock& block, std::uint32_t row) {
    Ticket& ticket = tickets_[ring_.row_index(block.buffer, row)];
    if (ticket.sequence != block.sequence) return false;
    ticket.sequence = ~std::uint64_t{0};
    CHECK(waiting_.erase(ticket.id) == 1);
    if (ring_.uses_arena()) ring_.release_slot(ticket.slot);
    if (lies_) return true;
    const Completion& completion = ring_.completion(block, row);
    const CompletionKind kind = completion.kind.load(std::memory_order_relaxed);
    if (kind == CompletionKind::kError) {
      CHECK(completion.error != RowError::kShed || ticket.may_be_shed);
      count_error(completion, ticket.id);
      return true;
    }
    CHECK(kind == CompletionKind::kFinal);
    std::uint64_t mixed = 0;
    std::uint32_t sum = 0;
    std::memcpy(&mixed, ring_.output(block, row, 0), sizeof mixed);
    std::memcpy(&sum, ring_.output(block, row, 1), sizeof sum);
    CHECK(mixed == mix(ticket.id));
    CHECK(sum == static_cast<std::uint32_t>(filler_of(ticket.id)) * filler_bytes());
    ++tally_.right;
    return true;
  }

  void count_error(const Completion& completion, std::uint64_t id) {
    if (completion.error == RowError::kWorkerDied) {
      ++tally_.worker_died;
    } else if (completion.error == RowError::kCulprit) {
      ++tally_.culprits;
    } else if (completion.error == RowError::kShed) {
      ++tally_.shed;
    } else {
      CHECK(completion.error == RowError::kModelRaised && is_bad(id));
      CHECK(std::string_view(completion.detail.data(), completion.detail_bytes) == "bad id");
      ++tally_.right;
    }
  }

  BatchRing& ring_;
  const std::uint32_t index_;
  std::mt19937 random_;
  std::vector<Ticket> tickets_;
  std::array<Ticketed, kRecent> recent_{};
  std::unordered_set<std::uint64_t> waiting_;
  std::uint64_t last_id_ = 0;
  std::uint32_t lane_ = kNormalLane;
  std::uint64_t deadline_after_ns_ = 0;
  const int event_;
  bool lies_ = false;
  Tally tally_;
};

inline std::uint64_t id_of(BatchTaker& taker, const TakenBatch& batch, std::uint32_t row) {
  std::uint64_t id = 0;
  std::memcpy(&id, taker.input(batch, 0) + row * sizeof id, sizeof id);
  return id;
}

// Computes the answer of row `row` of a batch, or its error.
inline void run_row(BatchTaker& taker, const TakenBatch& batch, std::uint32_t row) {
  const std::size_t bytes = taker.schema(batch.ring).inputs.tensors()[1].bytes();
  const std::uint64_t id = id_of(taker, batch, row);
  if (is_bad(id)) {
    taker.fail_row(batch, row, RowError::kModelRaised, "bad id");
    return;
  }
  const std::byte* filler = taker.input(batch, 1) + row * bytes;
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes; ++i) sum += std::to_integer<std::uint32_t>(filler[i]);
  const std::uint64_t mixed = mix(id);
  std::memcpy(taker.output(batch, 0) + row * sizeof mixed, &mixed, sizeof mixed);
  std::memcpy(taker.output(batch, 1) + row * sizeof sum, &sum, sizeof sum);
}

// Runs a batch as a worker does: whole, or row by row when it has killed before.
inline void run_batch(BatchTaker& taker, const TakenBatch& batch) {
  CHECK(batch.rows >= 1 && batch.rows <= taker.max_batch_size() && batch.run_rows >= batch.rows);
  for (std::uint32_t row = 0; row < batch.rows; ++row) {
    if (!batch.singly) {
      run_row(taker, batch, row);
    } else if (!taker.is_completed(batch, row)) {
      taker.mark_running(batch, row);
      run_row(taker, batch, row);
      if (!taker.is_completed(batch, row)) taker.complete_row(batch, row);
    }
  }
  taker.complete(batch);
}

}  // namespace penstock::test
