// Whether a recorded history of a ring is linearizable: some order of its operations, each at a moment between its
// begin and its end, is one that a ring could show to a single thread.
//
// Every operation says where it stood (lane, block, row, attempt), so the order that the specification demands is
// known:
//   - rows of a lane are claimed in the order of their places, and blocks taken in the order of their numbers
//   - a block is taken after its last row was claimed; a row that would still have fitted in goes to the next block
//   only
//     after it was taken; its rows are in the taker's hands after they were published
//   - it is taken again only after its worker was found dead, and never after it was completed
//   - its rows are answered after it was completed, and its buffer is used again after the last of them
// Real time adds: what ended before another began comes first. The history is linearizable exactly when the two orders
// together have no cycle, for then any topological order is the one that is looked for. This takes O(n log n).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace penstock::test {

enum class OpKind : std::uint8_t { kClaim, kRefuse, kPublish, kTake, kComplete, kRecover, kAnswer };

struct Op {
  OpKind kind = OpKind::kClaim;
  std::uint64_t begin_ns = 0;
  std::uint64_t end_ns = 0;
  std::uint32_t lane = 0;
  std::uint64_t block = 0;
  std::uint32_t row = 0;      // kClaim, kPublish: the first one; kAnswer
  std::uint32_t count = 1;    // kClaim, kRefuse, kPublish: rows; kTake: rows of the block
  std::uint32_t attempt = 0;  // kTake, kComplete, kRecover
  bool shed = false;          // kAnswer: the row was dropped before it ran
};

struct LaneShape {
  std::uint32_t block_rows = 1;
  std::uint32_t buffers = 2;
};

class HistoryCheck {
 public:
  HistoryCheck(std::vector<Op> history, std::vector<LaneShape> lanes)
      : ops_(std::move(history)), lanes_(std::move(lanes)) {}

  // Empty: linearizable. Otherwise what is wrong.
  [[nodiscard]] std::string run() {
    for (std::uint32_t i = 0; i < ops_.size(); ++i) file(i);
    nodes_ = static_cast<std::uint32_t>(ops_.size());
    for (auto& [key, block] : blocks_) order_block(key, block);
    for (auto& [key, block] : blocks_) order_neighbours(key, block);
    if (wrong_.empty()) order_by_time();
    if (wrong_.empty()) find_cycle();
    return wrong_;
  }

 private:
  using BlockKey = std::pair<std::uint32_t, std::uint64_t>;  // lane, number
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  struct Attempt {
    std::uint32_t take = kNone;  // what others see: the block's word says so
    std::uint32_t hold = kNone;  // its rows are there: the call returns
    std::uint32_t complete = kNone;
    std::uint32_t recover = kNone;
  };

  struct Block {
    std::vector<std::uint32_t> claims;
    std::vector<std::uint32_t> publishes;
    std::map<std::uint32_t, Attempt> attempts;
    std::map<std::uint32_t, std::uint32_t> answers;  // by row
    std::uint32_t rows = 0;
  };

  void fail(const char* what, const BlockKey& key) {
    if (!wrong_.empty()) return;
    wrong_ = std::string(what) + ": lane " + std::to_string(key.first) + ", block " + std::to_string(key.second);
  }

  void put(std::uint32_t& place, std::uint32_t op, const char* twice) {
    if (place != kNone) fail(twice, {ops_[op].lane, ops_[op].block});
    place = op;
  }

  void file(std::uint32_t i) {
    const Op& op = ops_[i];
    if (op.count > 1 && (op.kind == OpKind::kClaim || op.kind == OpKind::kRefuse)) wide_claims_.push_back(i);
    if (op.kind == OpKind::kRefuse) return;
    Block& block = blocks_[{op.lane, op.block}];
    if (op.kind == OpKind::kClaim) block.claims.push_back(i);
    if (op.kind == OpKind::kPublish) block.publishes.push_back(i);
    if (op.kind == OpKind::kTake) put(block.attempts.try_emplace(op.attempt).first->second.take, i, "taken twice");
    if (op.kind == OpKind::kComplete)
      put(block.attempts.try_emplace(op.attempt).first->second.complete, i, "completed twice");
    if (op.kind == OpKind::kRecover)
      put(block.attempts.try_emplace(op.attempt).first->second.recover, i, "recovered twice");
    if (op.kind == OpKind::kAnswer && !block.answers.emplace(op.row, i).second)
      fail("a row answered twice", {op.lane, op.block});
  }

  void before(std::uint32_t first, std::uint32_t second) { edges_.emplace_back(first, second); }
  std::uint32_t node() { return nodes_++; }

  // Claims, then attempts one after the other, then answers.
  void order_block(const BlockKey& key, Block& block) {
    std::ranges::sort(block.claims, {}, [this](std::uint32_t i) { return ops_[i].row; });
    for (const std::uint32_t claim : block.claims) {
      if (ops_[claim].row != block.rows) fail("rows claimed twice or not at all", key);
      block.rows += ops_[claim].count;
    }
    for (std::size_t i = 1; i < block.claims.size(); ++i) before(block.claims[i - 1], block.claims[i]);
    if (block.answers.size() != block.rows || (block.rows > 0 && block.answers.rbegin()->first >= block.rows))
      fail("rows that were not claimed or not answered", key);
    if (block.claims.empty()) return fail("a block without rows", key);
    add_dropped_attempt(key, block);
    std::uint32_t last = block.claims.back();
    std::uint32_t number = 0;
    for (auto& [attempt, what] : block.attempts) {
      if (attempt != number++ || what.take == kNone) return fail("an attempt that nobody took", key);
      if ((what.complete == kNone) == (what.recover == kNone)) return fail("an attempt with two ends or none", key);
      const bool is_last = number == block.attempts.size();
      if (is_last != (what.complete != kNone)) return fail("taken after it was completed, or never completed", key);
      if (what.take < ops_.size() && ops_[what.take].count != block.rows) fail("taken with other rows", key);
      before(last, what.take);
      what.hold = node();
      if (what.take < ops_.size()) held_.emplace_back(what.hold, what.take);
      before(what.take, what.hold);
      if (number == 1) {
        for (const std::uint32_t publish : block.publishes) before(publish, what.hold);
      }
      last = is_last ? what.complete : what.recover;
      before(what.hold, last);
    }
    for (const auto& [row, answer] : block.answers) before(last, answer);
  }

  // A block of which no row was left to run is completed within take(), and its taker is not told.
  void add_dropped_attempt(const BlockKey& key, Block& block) {
    const auto number = static_cast<std::uint32_t>(block.attempts.size());
    const bool open_end = block.attempts.empty() || block.attempts.rbegin()->second.complete == kNone;
    if (!open_end) return;
    if (!block.attempts.empty() && block.attempts.rbegin()->second.recover == kNone) return;
    for (const auto& [row, answer] : block.answers) {
      if (!ops_[answer].shed) return fail("answered, and nobody had it", key);
    }
    block.attempts[number].take = node();
    block.attempts[number].complete = node();
  }

  // What the block before in the lane, and the one before in the buffer, have to do with it.
  void order_neighbours(const BlockKey& key, const Block& block) {
    const LaneShape& shape = lanes_[key.first];
    if (block.claims.empty()) return;
    const std::uint32_t first = block.claims.front();
    if (const auto it = blocks_.find({key.first, key.second - 1}); it != blocks_.end() && is_complete(it->second)) {
      const Block& previous = it->second;
      before(previous.claims.back(), first);
      if (is_complete(block)) before(previous.attempts.at(0).take, block.attempts.at(0).take);
      if (previous.rows + ops_[first].count <= shape.block_rows && !is_passed(previous, ops_[first]))
        before(previous.attempts.at(0).take, first);
    }
    if (const auto it = blocks_.find({key.first, key.second - shape.buffers}); it != blocks_.end()) {
      for (const auto& [row, answer] : it->second.answers) before(answer, first);
    }
  }

  // Whether a claim that did not fit into the block may have moved the lane on, just before `first` came.
  [[nodiscard]] bool is_passed(const Block& block, const Op& first) const {
    return std::ranges::any_of(wide_claims_, [&](std::uint32_t i) {
      const Op& wide = ops_[i];
      return wide.lane == first.lane && block.rows + wide.count > lanes_[wide.lane].block_rows &&
             wide.begin_ns <= first.end_ns && first.begin_ns <= wide.end_ns;
    });
  }

  static bool is_complete(const Block& block) { return !block.claims.empty() && block.attempts.contains(0); }

  // Moments are nodes of a chain: an operation comes after the moment that it began at, and before the first one after
  // it ended.
  void order_by_time() {
    std::vector<std::uint64_t> moments;
    for (const Op& op : ops_) {
      if (op.begin_ns > op.end_ns) fail("ends before it begins", {op.lane, op.block});
      moments.push_back(op.begin_ns);
      moments.push_back(op.end_ns);
    }
    std::ranges::sort(moments);
    moments.erase(std::ranges::unique(moments).begin(), moments.end());
    const std::uint32_t first = nodes_;
    nodes_ += static_cast<std::uint32_t>(moments.size());
    for (std::uint32_t i = first; i + 1 < nodes_; ++i) before(i, i + 1);
    const auto bound = [&](std::uint32_t of, const Op& op) {
      const auto begin = std::ranges::lower_bound(moments, op.begin_ns) - moments.begin();
      const auto after = std::ranges::upper_bound(moments, op.end_ns) - moments.begin();
      before(first + static_cast<std::uint32_t>(begin), of);
      if (after < static_cast<std::ptrdiff_t>(moments.size())) before(of, first + static_cast<std::uint32_t>(after));
    };
    for (std::uint32_t i = 0; i < ops_.size(); ++i) bound(i, ops_[i]);
    for (const auto& [hold, take] : held_) bound(hold, ops_[take]);
  }

  void find_cycle() {
    std::vector<std::uint32_t> start(nodes_ + 1);
    std::vector<std::uint32_t> waits_for(nodes_);
    std::ranges::sort(edges_);
    for (const auto& [from, to] : edges_) {
      ++start[from + 1];
      ++waits_for[to];
    }
    for (std::uint32_t i = 0; i < nodes_; ++i) start[i + 1] += start[i];
    std::vector<std::uint32_t> ready;
    for (std::uint32_t i = 0; i < nodes_; ++i) {
      if (waits_for[i] == 0) ready.push_back(i);
    }
    for (std::size_t done = 0; done < ready.size(); ++done) {
      for (std::uint32_t i = start[ready[done]]; i < start[ready[done] + 1]; ++i) {
        if (--waits_for[edges_[i].second] == 0) ready.push_back(edges_[i].second);
      }
    }
    if (ready.size() < nodes_) describe_cycle(waits_for);
  }

  // What waits for something has a predecessor that waits, too: whoever goes back far enough is on the cycle.
  void describe_cycle(const std::vector<std::uint32_t>& waits_for) {
    std::vector<std::uint32_t> predecessor(nodes_, kNone);
    std::uint32_t on_cycle = 0;
    for (const auto& [from, to] : edges_) {
      if (waits_for[from] > 0 && waits_for[to] > 0) predecessor[on_cycle = to] = from;
    }
    for (std::uint32_t i = 0; i < nodes_; ++i) on_cycle = predecessor[on_cycle];
    wrong_ = "no order is possible:";
    std::uint32_t at = on_cycle;
    do {
      if (at < ops_.size()) wrong_ += describe(ops_[at]);
      at = predecessor[at];
    } while (at != on_cycle);
  }

  static std::string describe(const Op& op) {
    constexpr std::array<const char*, 7> kNames{"claim", "refuse", "publish", "take", "complete", "recover", "answer"};
    return std::string("\n  ") + kNames[static_cast<std::size_t>(op.kind)] + " lane " + std::to_string(op.lane) +
           " block " + std::to_string(op.block) + " row " + std::to_string(op.row) + " count " +
           std::to_string(op.count) + " attempt " + std::to_string(op.attempt) + " from " +
           std::to_string(op.begin_ns) + " to " + std::to_string(op.end_ns);
  }

  std::vector<Op> ops_;
  std::vector<LaneShape> lanes_;
  std::map<BlockKey, Block> blocks_;
  std::vector<std::uint32_t> wide_claims_;  // of several rows, refused ones among them
  std::uint32_t nodes_ = 0;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> held_;  // node, and the operation whose time it has
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges_;
  std::string wrong_;
};

}  // namespace penstock::test
