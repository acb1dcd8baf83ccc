// Histories of real threads on real rings, checked against the specification of a ring; and wrong ones, made by hand,
// that the check must refuse. PENSTOCK_HISTORIES=1000 asks for the long form.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "ring_fixture.hpp"
#include "ring_history.hpp"

namespace {

using namespace penstock::test;

// ---- made by hand -----------------------------------------------------------------------------------------------

// A lane of two buffers of two rows, through which three blocks pass one after the other.
class Script {
 public:
  Script() {
    for (const std::uint64_t block : {0u, 1u, 2u}) {
      add({.kind = OpKind::kClaim, .block = block, .row = 0});
      add({.kind = OpKind::kPublish, .block = block, .row = 0});
      add({.kind = OpKind::kClaim, .block = block, .row = 1});
      add({.kind = OpKind::kPublish, .block = block, .row = 1});
      add({.kind = OpKind::kTake, .block = block, .count = 2});
      add({.kind = OpKind::kComplete, .block = block});
      add({.kind = OpKind::kAnswer, .block = block, .row = 0});
      add({.kind = OpKind::kAnswer, .block = block, .row = 1});
    }
  }

  Op& at(std::uint64_t block, OpKind kind, std::uint32_t row = 0) {
    return *std::ranges::find_if(ops,
                                 [&](const Op& op) { return op.block == block && op.kind == kind && op.row == row; });
  }
  void add(Op op) {
    op.begin_ns = 10 * ops.size() + 10;
    op.end_ns = op.begin_ns + 5;
    ops.push_back(op);
  }
  void drop(std::uint64_t block, OpKind kind, std::uint32_t row = 0) {
    const Op& op = at(block, kind, row);
    ops.erase(ops.begin() + (&op - ops.data()));
  }
  // Everything at once, except that `first` begins after `second` has ended: no rule but one can be broken.
  void reverse(const Op& first, const Op& second) {
    for (Op& op : ops) {
      op.begin_ns = &op == &first ? 600 : &op == &second ? 100 : 1;
      op.end_ns = &op == &first ? 700 : &op == &second ? 200 : 1000;
    }
  }
  // The block's worker dies once.
  void add_death(std::uint64_t block) {
    at(block, OpKind::kComplete).attempt = 1;
    add({.kind = OpKind::kRecover, .block = block});
    add({.kind = OpKind::kTake, .block = block, .count = 2, .attempt = 1});
  }
  [[nodiscard]] std::string check() const { return HistoryCheck(ops, {{2, 2}}).run(); }

  std::vector<Op> ops;
};

void right_histories_pass() {
  CHECK(Script().check().empty());
  // All at once: whatever is demanded, some order has it.
  Script together;
  for (Op& op : together.ops) {
    op.begin_ns = 1;
    op.end_ns = 1000;
  }
  CHECK(together.check().empty());
  // A block is taken before its last row is published, and in hand afterwards.
  Script late;
  late.at(0, OpKind::kTake).begin_ns = late.at(0, OpKind::kPublish, 1).begin_ns - 1;
  CHECK(late.check().empty());
  // Its worker dies, and it is taken again.
  Script again;
  again.add_death(0);
  for (Op& op : again.ops) {  // what depends on the second attempt may end late
    if (op.block == 2 || op.kind == OpKind::kComplete || op.kind == OpKind::kAnswer) op.end_ns = 1000;
  }
  CHECK(again.check().empty());
  // One row goes to the next block before the last is taken: a claim of two has just moved on, and comes second.
  Script passed;
  for (const OpKind kind : {OpKind::kClaim, OpKind::kPublish, OpKind::kAnswer}) passed.drop(0, kind, 1);
  passed.at(0, OpKind::kTake).count = 1;
  passed.reverse(passed.at(0, OpKind::kTake), passed.at(1, OpKind::kClaim, 0));
  CHECK(!passed.check().empty());
  passed.ops.push_back({.kind = OpKind::kRefuse, .begin_ns = 50, .end_ns = 150, .count = 2});
  CHECK(passed.check().empty());
  // Nobody saw it, for all its rows were shed.
  Script shed;
  shed.drop(1, OpKind::kTake);
  shed.drop(1, OpKind::kComplete);
  shed.at(1, OpKind::kAnswer, 0).shed = shed.at(1, OpKind::kAnswer, 1).shed = true;
  CHECK(shed.check().empty());
}

void wrong_histories_are_refused() {
  using enum OpKind;
  const std::vector<std::pair<const char*, std::function<void(Script&)>>> wrongs{
      {"a row is claimed before an earlier one", [](Script& s) { s.reverse(s.at(0, kClaim, 0), s.at(0, kClaim, 1)); }},
      {"blocks are filled in the wrong order", [](Script& s) { s.reverse(s.at(0, kClaim, 1), s.at(1, kClaim, 0)); }},
      {"two claims get one row", [](Script& s) { s.at(0, kClaim, 1).row = 0; }},
      {"a row is left out", [](Script& s) { s.at(0, kClaim, 1).row = 2; }},
      {"blocks are taken in the wrong order", [](Script& s) { s.reverse(s.at(0, kTake), s.at(1, kTake)); }},
      {"a row is in hand before it is published", [](Script& s) { s.reverse(s.at(0, kPublish, 1), s.at(0, kTake)); }},
      {"a row joins a block that is taken", [](Script& s) { s.reverse(s.at(0, kClaim, 1), s.at(0, kTake)); }},
      {"a block is taken with a row too few", [](Script& s) { s.at(0, kTake).count = 1; }},
      {"two takers have a block", [](Script& s) { s.ops.push_back(s.at(0, kTake)); }},
      {"a block is taken again though its worker lives",
       [](Script& s) {
         s.ops.push_back(s.at(0, kTake));
         s.ops.back().attempt = 1;
       }},
      {"a block is taken again before its worker was found dead",
       [](Script& s) {
         s.add_death(0);
         s.reverse(s.at(0, kRecover), s.ops.back());
       }},
      {"a worker is found dead before it took the block",
       [](Script& s) {
         s.add_death(0);
         s.reverse(s.at(0, kTake), s.at(0, kRecover));
       }},
      {"a block is taken after it was completed",
       [](Script& s) {
         s.add({.kind = kRecover});
         s.add({.kind = kTake, .count = 2, .attempt = 1});
       }},
      {"a block is completed before it was taken", [](Script& s) { s.reverse(s.at(0, kTake), s.at(0, kComplete)); }},
      {"a block is completed twice", [](Script& s) { s.ops.push_back(s.at(0, kComplete)); }},
      {"a block is never completed", [](Script& s) { s.drop(0, kComplete); }},
      {"a row is answered before its block is completed",
       [](Script& s) { s.reverse(s.at(0, kComplete), s.at(0, kAnswer, 1)); }},
      {"a row is answered twice", [](Script& s) { s.ops.push_back(s.at(0, kAnswer, 1)); }},
      {"a row is never answered", [](Script& s) { s.drop(2, kAnswer, 1); }},
      {"an answer comes of nothing",
       [](Script& s) {
         s.drop(1, kTake);
         s.drop(1, kComplete);
       }},
      {"a buffer is used again before its rows are answered",
       [](Script& s) { s.reverse(s.at(0, kAnswer, 1), s.at(2, kClaim, 0)); }},
      {"a row is given a new block while it would fit into the last",
       [](Script& s) {
         s.drop(0, kClaim, 1);
         s.drop(0, kPublish, 1);
         s.drop(0, kAnswer, 1);
         s.at(0, kTake).count = 1;
         s.reverse(s.at(0, kTake), s.at(1, kClaim, 0));
       }},
  };
  for (const auto& [what, harm] : wrongs) {
    Script script;
    harm(script);
    const std::string said = script.check();
    if (said.empty()) std::fprintf(stderr, "accepted: %s\n", what);
    CHECK(!said.empty());
  }
}

// ---- recorded ---------------------------------------------------------------------------------------------------

constexpr std::uint64_t kRowsPerLoop = 1'500;

// What one thread did. Moments come from a clock and from nothing that would order the threads.
class Recorder {
 public:
  template <typename Act>
  auto timed(Act act) {
    begin_ns_ = now_ns();
    auto result = act();
    end_ns_ = now_ns();
    return result;
  }
  // An operation with the time of the last timed().
  void note(Op op) {
    op.begin_ns = begin_ns_;
    op.end_ns = end_ns_;
    ops.push_back(op);
  }

  std::vector<Op> ops;

 private:
  std::uint64_t begin_ns_ = 0;
  std::uint64_t end_ns_ = 0;
};

// A ring under two loops, takers that die now and then, and a quarantine.
class Run {
 public:
  Run(const RingConfig& config, std::uint32_t takers, std::uint32_t seed)
      : ring_(config), seed_(seed), takers_(takers), loops_left_(config.loops) {
    for (std::uint32_t lane = 0; lane < ring_.lanes(); ++lane) shapes_.push_back({ring_.settings(lane).block_rows, 0});
    for (std::uint32_t buffer = 0; buffer < ring_.buffers(); ++buffer) ++shapes_[ring_.lane_of_buffer(buffer)].buffers;
    for (std::uint32_t loop = 0; loop < config.loops; ++loop) events_.push_back(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  }
  ~Run() {
    for (const int event : events_) close(event);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // The number of operations.
  std::size_t record_and_check() {
    std::vector<Recorder> recorders(events_.size() + takers_ + 1);
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i < recorders.size(); ++i) {
      threads.emplace_back([this, i, &recorder = recorders[i]] {
        const auto loops = static_cast<std::uint32_t>(events_.size());
        i < loops ? produce(i, recorder) : work(i - loops, recorder);
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<Op> history;
    for (const Recorder& recorder : recorders) history.insert(history.end(), recorder.ops.begin(), recorder.ops.end());
    CHECK(ring_.counters().lost_wakeups == 0 && ring_.counters().rows_queued == 0);
    const std::size_t operations = history.size();
    const std::string wrong = HistoryCheck(std::move(history), shapes_).run();
    if (!wrong.empty()) std::fprintf(stderr, "%s\n", wrong.c_str());
    CHECK(wrong.empty());
    return operations;
  }

 private:
  struct Ticket {
    std::uint64_t block = ~std::uint64_t{0};
    std::uint64_t id = 0;
  };

  void produce(std::uint32_t loop, Recorder& recorder) {
    std::mt19937 random(seed_ + loop);
    std::vector<Ticket> tickets(ring_.rows());
    std::uint64_t claimed = 0;
    std::uint64_t answered = 0;
    while (claimed < kRowsPerLoop || answered < claimed) {
      for (auto burst = static_cast<std::uint32_t>(random() % 24); burst > 0 && claimed < kRowsPerLoop; --burst) {
        const std::uint32_t rows = submit(loop, recorder, random, tickets, claimed);
        claimed += rows;
        if (rows == 0) break;
      }
      ring_.ring_bell();
      const std::uint64_t before = answered;
      answered += collect(loop, recorder, tickets);
      if (answered == before && answered < claimed) sleep(loop);
    }
    if (loops_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) stop_.store(true, std::memory_order_release);
  }

  std::uint32_t submit(std::uint32_t loop, Recorder& recorder, std::mt19937& random, std::vector<Ticket>& tickets,
                       std::uint64_t claimed) {
    const auto lane = static_cast<std::uint32_t>(random() % ring_.lanes());
    const auto together = static_cast<std::uint32_t>(random() % shapes_[lane].block_rows);
    const std::uint32_t count = random() % 4 == 0 ? 1 + together : 1;
    const Claim claim = recorder.timed([&] { return ring_.claim(lane, count); });
    if (claim.status != ClaimStatus::kClaimed) {
      recorder.note({.kind = OpKind::kRefuse, .lane = lane, .count = count});
      return 0;
    }
    recorder.note(
        {.kind = OpKind::kClaim, .lane = lane, .block = claim.sequence, .row = claim.row, .count = claim.count});
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint64_t id = static_cast<std::uint64_t>(loop) << 48 | (claimed + k);
      std::memcpy(ring_.input(claim, k, 0), &id, sizeof id);
      std::memset(ring_.input(claim, k, 1), 1, ring_.schema().inputs.tensors()[1].bytes());
      RowMeta& meta = ring_.meta(claim, k);
      meta.arrival_ns = now_ns();
      meta.deadline_ns = random() % 8 == 0 ? 1 : 0;
      meta.cancelled.store(0, std::memory_order_relaxed);  // ordered by publish()
      tickets[ring_.row_index(claim.buffer, claim.row + k)] = {claim.sequence, id};
    }
    recorder.timed([&] {
      ring_.publish(claim, loop);
      return 0;
    });
    recorder.note(
        {.kind = OpKind::kPublish, .lane = lane, .block = claim.sequence, .row = claim.row, .count = claim.count});
    if (random() % 16 == 0) ring_.cancel(claim, 0);
    return count;
  }

  // A row is answered when its loop is told of it.
  std::uint64_t collect(std::uint32_t loop, Recorder& recorder, std::vector<Ticket>& tickets) {
    std::uint64_t rows = 0;
    while (const std::optional<DoneBlock> block = recorder.timed([&] { return ring_.poll_done(loop); })) {
      std::uint32_t mine = 0;
      for (std::uint32_t row = 0; row < block->rows; ++row) {
        Ticket& ticket = tickets[ring_.row_index(block->buffer, row)];
        if (ticket.block != block->sequence) continue;
        ticket.block = ~std::uint64_t{0};
        ++mine;
        const Completion& completion = ring_.completion(*block, row);
        const bool final = completion.kind.load(std::memory_order_relaxed) == CompletionKind::kFinal;
        std::uint64_t mixed = 0;
        std::memcpy(&mixed, ring_.output(*block, row, 0), sizeof mixed);
        CHECK(!final || mixed == mix(ticket.id));
        CHECK(final || completion.error == RowError::kShed || completion.error == RowError::kModelRaised);
        recorder.note({.kind = OpKind::kAnswer,
                       .lane = ring_.lane_of_buffer(block->buffer),
                       .block = block->sequence,
                       .row = row,
                       .shed = !final && completion.error == RowError::kShed});
      }
      if (mine > 0) ring_.handled(*block, mine);
      rows += mine;
    }
    return rows;
  }

  void sleep(std::uint32_t loop) {
    if (!ring_.prepare_wait(loop)) return;
    pollfd event{events_[loop], POLLIN, 0};
    const int ready = poll(&event, 1, 5000);
    ring_.finish_wait(loop);
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t bytes = read(events_[loop], &count, sizeof count);
    CHECK(ready != 0 || !ring_.has_done(loop));
  }

  void work(std::uint32_t worker, Recorder& recorder) {
    std::mt19937 random(seed_ + 100 + worker);
    BatchTaker taker(ring_.fd(), events_, worker, {.quarantine = worker == takers_});
    while (!stop_.load(std::memory_order_acquire)) {
      const std::optional<TakenBatch> batch = recorder.timed([&] { return taker.take(20); });
      if (!batch) continue;
      note_blocks(recorder, OpKind::kTake, *batch);
      if (random() % 32 == 0) {
        recorder.timed([&] { return ring_.recover(worker); });
        note_blocks(recorder, OpKind::kRecover, *batch);
      } else {
        recorder.timed([&] {
          run_batch(taker, *batch);
          return 0;
        });
        note_blocks(recorder, OpKind::kComplete, *batch);
      }
    }
  }

  void note_blocks(Recorder& recorder, OpKind kind, const TakenBatch& batch) {
    for (const TakenBlock& block : batch.blocks)
      recorder.note({.kind = kind,
                     .lane = ring_.lane_of_buffer(block.buffer),
                     .block = block.sequence,
                     .count = block.rows,
                     .attempt = block.attempt});
  }

  BatchRing ring_;
  const std::uint32_t seed_;
  const std::uint32_t takers_;
  std::vector<LaneShape> shapes_;
  std::vector<int> events_;
  std::atomic<std::uint32_t> loops_left_;
  std::atomic<bool> stop_{false};
};

void recorded_histories_pass(std::uint32_t rounds) {
  std::size_t operations = 0;
  for (std::uint32_t round = 0; round < rounds; ++round) {
    RingConfig config = small_config(2, round % 3 == 0 ? 4 : 8, 2);
    config.block_rows = 1 + round % 3;
    config.rerun_on_worker_death = true;
    config.first_block = (std::uint64_t{1} << 36) - 100;
    config.reproducible_batch_size = 2;
    if (round % 2 == 1) config.batch_sizes = {4, 8};
    operations += Run(config, 2 + round % 2, 1000 * round).record_and_check();
  }
  std::printf("%u histories of %zu operations are linearizable\n", rounds, operations);
}

}  // namespace

int main() {
  right_histories_pass();
  wrong_histories_are_refused();
  std::uint32_t rounds = 40;
  if (const char* wanted = std::getenv("PENSTOCK_HISTORIES"))
    rounds = static_cast<std::uint32_t>(std::strtoul(wanted, nullptr, 10));
  recorded_histories_pass(rounds);
  return 0;
}
