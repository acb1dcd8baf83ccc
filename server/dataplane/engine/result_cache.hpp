// Answers of rows that have run, kept for equal inputs of the same model version, and rows that run now, so that equal
// ones need not run beside them.
//
// Shared by all I/O loops: parts of it, each behind a lock of its own, which is held for a few comparisons and at most
// kEvictedMax evictions. Memory is bounded; what leaves is chosen by S3-FIFO (Yang et al., "FIFO queues are all you
// need for cache eviction", SOSP 2023), so that inputs that come once do not push out those that come again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/keyed_hash.hpp"
#include "penstock/batcher/scheduler.hpp"

namespace penstock::dataplane {

class JobInbox;
class ResultCache;
class SecondLevel;

inline constexpr std::uint32_t kNoRow = ~std::uint32_t{0};

// What one ring has in the cache. Its rows hold it, so its address stands for no other ring as long as there are any.
struct CacheAccount {
  CacheAccount(ResultCache& of, std::uint64_t ttl) : cache(of), ttl_ns(ttl) {}

  ResultCache& cache;
  const std::uint64_t ttl_ns;
  SecondLevel* second = nullptr;               // null: answers are this server's own
  std::array<std::uint8_t, 32> fingerprint{};  // of the version there: of all that its answers depend on
  // Relaxed: counts for people.
  std::atomic<std::uint64_t> rows{0};
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> evictions{0};  // for want of room
};

// What an answer depends on. The parts of two keys of one account and length are as long as each other.
struct CacheKey {
  const std::shared_ptr<CacheAccount>* account = nullptr;
  std::span<const std::span<const std::byte>> parts;
  std::size_t bytes = 0;  // of all parts
  std::uint32_t length = 0;
  bool reproducible = false;  // these have answers of their own: others need not be equal bit for bit
  std::uint64_t hash = 0;
};

// Inputs and, once it has run, outputs. Those of a row in the cache never change.
class CachedRow {
 public:
  // Copies the inputs; the outputs are to be written.
  CachedRow(const CacheKey& key, std::size_t output_bytes);

  [[nodiscard]] std::byte* outputs() noexcept { return bytes_.get() + output_offset_; }
  [[nodiscard]] const std::byte* inputs() const noexcept { return bytes_.get(); }
  [[nodiscard]] std::uint32_t length() const noexcept { return length_; }
  [[nodiscard]] bool is_reproducible() const noexcept { return reproducible_; }
  [[nodiscard]] std::size_t input_bytes() const noexcept { return input_bytes_; }
  [[nodiscard]] std::size_t output_bytes() const noexcept { return total_bytes_ - output_offset_; }
  [[nodiscard]] const CacheAccount& account() const noexcept { return *account_; }
  [[nodiscard]] const std::byte* outputs() const noexcept { return bytes_.get() + output_offset_; }
  [[nodiscard]] std::uint64_t age_ns(std::uint64_t now_ns) const noexcept {
    return now_ns > stored_ns_ ? now_ns - stored_ns_ : 0;  // another loop's clock may be a pass ahead
  }

 private:
  friend class ResultCache;
  friend struct CacheQueue;

  [[nodiscard]] bool has_key(const CacheKey& key) const noexcept;
  [[nodiscard]] bool has_key_of(const CachedRow& other) const noexcept;
  [[nodiscard]] bool is_old(std::uint64_t now_ns) const noexcept { return age_ns(now_ns) >= account_->ttl_ns; }
  [[nodiscard]] std::uint64_t cost() const noexcept;

  const std::shared_ptr<CacheAccount> account_;
  const std::uint64_t hash_;
  const std::uint32_t length_;
  const bool reproducible_;
  bool in_main_ = false;
  std::uint8_t hits_ = 0;  // since it was queued, at most kHitsMax
  std::uint32_t output_offset_ = 0;
  std::uint32_t input_bytes_ = 0;
  std::uint32_t total_bytes_ = 0;
  std::uint64_t stored_ns_ = 0;
  std::unique_ptr<std::byte[]> bytes_;
  std::shared_ptr<CachedRow> next_;  // of the same hash bucket
  CachedRow* older_ = nullptr;
  CachedRow* newer_ = nullptr;
};

// A request that waits for the row of another one.
struct CacheWaiter {
  JobInbox* inbox = nullptr;
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
  std::uint32_t row = kNoRow;  // of a request of many rows
};

struct Urgency {
  batcher::RowClass row_class = batcher::RowClass::kNormal;
  std::uint64_t deadline_ns = 0;  // 0: none

  // Whether a row with this urgency is done no later than one with the other would be.
  [[nodiscard]] bool serves(const Urgency& other) const noexcept {
    return row_class <= other.row_class &&
           (other.deadline_ns == 0 || (deadline_ns != 0 && deadline_ns <= other.deadline_ns));
  }
};

// A row under way whose answer others may share. Belongs to the loop that claimed the row; what is below `urgency`, to
// the cache from begin() on.
struct Flight {
  std::uint32_t index = 0;  // of the loop's FlightPool
  std::shared_ptr<CachedRow> row;
  Urgency urgency;
  bool is_listed = false;  // can be found
  bool is_wanted = true;   // false: it was cancelled, and what comes of it is no answer
  Flight* next = nullptr;  // of the same hash bucket
  std::vector<CacheWaiter> waiters;
};

// Of one loop. Allocates only when more rows are under way than ever before.
class FlightPool {
 public:
  [[nodiscard]] Flight& acquire();
  void release(Flight& flight) noexcept;
  [[nodiscard]] Flight& at(std::uint32_t index) noexcept { return *all_[index]; }

 private:
  std::vector<std::unique_ptr<Flight>> all_;
  std::vector<std::uint32_t> free_;
};

// Rows in the order in which they came. Owns none.
struct CacheQueue {
  CachedRow* oldest = nullptr;
  CachedRow* newest = nullptr;
  std::uint64_t bytes = 0;

  void push(CachedRow& row) noexcept;
  void remove(CachedRow& row) noexcept;
};

enum class CacheAnswer : std::uint8_t { kMiss, kHit, kJoined };

// Any thread may call any of it.
class ResultCache {
 public:
  static constexpr std::uint32_t kEvictedMax = 64;  // for one row that comes in

  // `bytes` are all that it uses, tables included.
  ResultCache(std::uint64_t bytes, std::uint32_t loops);
  ResultCache(const ResultCache&) = delete;
  ResultCache& operator=(const ResultCache&) = delete;

  [[nodiscard]] std::uint64_t hash_of(const CacheKey& key) const noexcept;

  // kHit: `found` is the answer. kJoined: `waiter` is told when the row that runs is done.
  [[nodiscard]] CacheAnswer look(const CacheKey& key, const Urgency& urgency, const CacheWaiter& waiter,
                                 std::uint64_t now_ns, std::shared_ptr<const CachedRow>& found);
  // Whether look() would find an answer.
  [[nodiscard]] bool knows(const CacheKey& key, std::uint64_t now_ns);
  // Equal rows may join from now on. One that ran already and was not as urgent is joined no more.
  void begin(Flight& flight);
  // The row is done: nobody joins any more, and those who did are in `waiters`. `keep`: its outputs are an answer.
  void finish(Flight& flight, bool keep, std::uint64_t now_ns, std::vector<CacheWaiter>& waiters);
  // The request of the row is gone; true: nobody wants the row. `listed`: others may join it all the same.
  [[nodiscard]] bool leave(Flight& flight, bool listed);
  // Forgets all rows of an account that gets no more of them.
  void purge(const CacheAccount& account);

 private:
  struct alignas(64) Part {
    std::mutex mutex;
    std::vector<std::shared_ptr<CachedRow>> buckets;
    std::vector<Flight*> flights;
    std::vector<std::uint32_t> ghosts;  // hashes of rows that came and left without another request
    CacheQueue small;                   // what came once
    CacheQueue main;                    // what came again
  };

  [[nodiscard]] Part& part_of(std::uint64_t hash) noexcept { return parts_[hash >> 48 & part_mask_]; }
  [[nodiscard]] static std::shared_ptr<CachedRow>& find_row(Part& part, const CacheKey& key) noexcept;
  [[nodiscard]] static Flight** find_flight(Part& part, const CachedRow& row) noexcept;
  static void unlist(Part& part, Flight& flight) noexcept;
  [[nodiscard]] static std::shared_ptr<CachedRow> take(Part& part, std::shared_ptr<CachedRow>& link) noexcept;
  void store(Part& part, std::shared_ptr<CachedRow> row, std::uint64_t now_ns, std::shared_ptr<CachedRow>& dead);
  [[nodiscard]] bool make_room(Part& part, std::uint64_t bytes, std::uint64_t now_ns, std::shared_ptr<CachedRow>& dead);
  void evict_one(Part& part, std::uint64_t now_ns, std::shared_ptr<CachedRow>& dead) noexcept;

  KeyedHash hash_;
  std::uint64_t part_mask_ = 0;
  std::uint64_t part_bytes_ = 0;  // of rows
  std::vector<Part> parts_;
};

}  // namespace penstock::dataplane
