#include "engine/result_cache.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "penstock/kernels/row_layout.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kPartBytesMin = 1 << 20;
constexpr std::uint32_t kPartsPerLoop = 4;      // so that two loops seldom meet at a lock
constexpr std::uint64_t kBytesPerBucket = 512;  // of what a part may use
constexpr std::size_t kFlightBuckets = 1024;    // of a part
constexpr std::uint64_t kSmallShare = 10;       // the queue of newcomers has a tenth, as in the paper
constexpr std::uint64_t kRowShareMax = 8;       // no row takes more than an eighth of its part
constexpr std::uint8_t kHitsMax = 3;
constexpr std::uint64_t kAllocationBytes = 64;  // what two allocations cost beside their bytes
constexpr std::size_t kPurgedBuckets = 64;      // while a lock is held
constexpr std::size_t kOutputAlignment = 16;

std::uint32_t ghost_of(std::uint64_t hash) noexcept { return static_cast<std::uint32_t>(hash >> 16) | 1; }

}  // namespace

// --- a row ------------------------------------------------------------------------------------------------------

CachedRow::CachedRow(const CacheKey& key, std::size_t output_bytes)
    : account_(*key.account),
      hash_(key.hash),
      length_(key.length),
      reproducible_(key.reproducible),
      output_offset_(static_cast<std::uint32_t>(align_up(key.bytes, kOutputAlignment))),
      input_bytes_(static_cast<std::uint32_t>(key.bytes)),
      total_bytes_(static_cast<std::uint32_t>(output_offset_ + output_bytes)),
      bytes_(std::make_unique_for_overwrite<std::byte[]>(total_bytes_)) {
  std::byte* at = bytes_.get();
  for (const std::span<const std::byte> part : key.parts) {
    if (!part.empty()) std::memcpy(at, part.data(), part.size());
    at += part.size();
  }
}

bool CachedRow::has_key(const CacheKey& key) const noexcept {
  if (hash_ != key.hash || account_ != *key.account || length_ != key.length || reproducible_ != key.reproducible ||
      input_bytes_ != key.bytes) {
    return false;
  }
  const std::byte* at = bytes_.get();
  for (const std::span<const std::byte> part : key.parts) {
    if (!part.empty() && std::memcmp(at, part.data(), part.size()) != 0) return false;
    at += part.size();
  }
  return true;
}

bool CachedRow::has_key_of(const CachedRow& other) const noexcept {
  return hash_ == other.hash_ && account_ == other.account_ && length_ == other.length_ &&
         reproducible_ == other.reproducible_ && input_bytes_ == other.input_bytes_ &&
         std::memcmp(bytes_.get(), other.bytes_.get(), input_bytes_) == 0;
}

std::uint64_t CachedRow::cost() const noexcept { return sizeof(CachedRow) + kAllocationBytes + total_bytes_; }

// --- rows in order, rows under way ------------------------------------------------------------------------------

void CacheQueue::push(CachedRow& row) noexcept {
  row.older_ = newest;
  row.newer_ = nullptr;
  (newest == nullptr ? oldest : newest->newer_) = &row;
  newest = &row;
  bytes += row.cost();
}

void CacheQueue::remove(CachedRow& row) noexcept {
  (row.older_ == nullptr ? oldest : row.older_->newer_) = row.newer_;
  (row.newer_ == nullptr ? newest : row.newer_->older_) = row.older_;
  bytes -= row.cost();
}

Flight& FlightPool::acquire() {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(all_.size()));
    all_.push_back(std::make_unique<Flight>());
    all_.back()->index = free_.back();
  }
  Flight& flight = *all_[free_.back()];
  free_.pop_back();
  flight.is_wanted = true;
  return flight;
}

void FlightPool::release(Flight& flight) noexcept {
  flight.row.reset();
  flight.waiters.clear();
  free_.push_back(flight.index);
}

// --- the cache --------------------------------------------------------------------------------------------------

ResultCache::ResultCache(std::uint64_t bytes, std::uint32_t loops) {
  const std::uint64_t wanted = loops == 1 ? 1 : std::bit_ceil(std::uint64_t{loops} * kPartsPerLoop);
  const std::uint64_t parts = std::min(wanted, std::bit_floor(std::max<std::uint64_t>(1, bytes / kPartBytesMin)));
  part_mask_ = parts - 1;
  parts_ = std::vector<Part>(parts);
  const std::uint64_t buckets = std::bit_floor(std::max<std::uint64_t>(1, bytes / parts / kBytesPerBucket));
  const std::uint64_t table_bytes = buckets * (sizeof(std::shared_ptr<CachedRow>) + sizeof(std::uint32_t)) +
                                    kFlightBuckets * sizeof(Flight*) + sizeof(Part);
  part_bytes_ = bytes / parts > table_bytes ? bytes / parts - table_bytes : 0;
  for (Part& part : parts_) {
    part.buckets.resize(buckets);
    part.ghosts.resize(buckets);
    part.flights.resize(kFlightBuckets);
  }
}

std::uint64_t ResultCache::hash_of(const CacheKey& key) const noexcept {
  std::uint64_t hash =
      reinterpret_cast<std::uintptr_t>(key.account->get()) + key.length * 2 + (key.reproducible ? 1 : 0);
  for (const std::span<const std::byte> part : key.parts) hash = hash_(part, hash);
  return hash;
}

CacheAnswer ResultCache::look(const CacheKey& key, const Urgency& urgency, const CacheWaiter& waiter,
                              std::uint64_t now_ns, std::shared_ptr<const CachedRow>& found) {
  std::shared_ptr<CachedRow> dead;  // destroyed when the lock is not held
  Part& part = part_of(key.hash);
  const std::lock_guard lock(part.mutex);
  std::shared_ptr<CachedRow>& link = find_row(part, key);
  if (link != nullptr && !link->is_old(now_ns)) {
    if (link->hits_ < kHitsMax) ++link->hits_;
    found = link;
    return CacheAnswer::kHit;
  }
  if (link != nullptr) dead = take(part, link);
  for (Flight* flight = part.flights[key.hash % kFlightBuckets]; flight != nullptr; flight = flight->next) {
    if (!flight->row->has_key(key)) continue;
    if (!flight->urgency.serves(urgency)) break;
    flight->waiters.push_back(waiter);
    return CacheAnswer::kJoined;
  }
  return CacheAnswer::kMiss;
}

bool ResultCache::knows(const CacheKey& key, std::uint64_t now_ns) {
  Part& part = part_of(key.hash);
  const std::lock_guard lock(part.mutex);
  const std::shared_ptr<CachedRow>& row = find_row(part, key);
  return row != nullptr && !row->is_old(now_ns);
}

// The end of the bucket's list when there is none.
std::shared_ptr<CachedRow>& ResultCache::find_row(Part& part, const CacheKey& key) noexcept {
  std::shared_ptr<CachedRow>* link = &part.buckets[key.hash & (part.buckets.size() - 1)];
  while (*link != nullptr && !(*link)->has_key(key)) link = &(*link)->next_;
  return *link;
}

Flight** ResultCache::find_flight(Part& part, const CachedRow& row) noexcept {
  Flight** link = &part.flights[row.hash_ % kFlightBuckets];
  while (*link != nullptr && !(*link)->row->has_key_of(row)) link = &(*link)->next;
  return link;
}

void ResultCache::unlist(Part& part, Flight& flight) noexcept {
  if (!flight.is_listed) return;
  Flight** const link = find_flight(part, *flight.row);
  *link = flight.next;
  flight.next = nullptr;
  flight.is_listed = false;
}

void ResultCache::begin(Flight& flight) {
  Part& part = part_of(flight.row->hash_);
  const std::lock_guard lock(part.mutex);
  Flight** const link = find_flight(part, *flight.row);
  if (*link != nullptr) unlist(part, **link);
  Flight*& first = part.flights[flight.row->hash_ % kFlightBuckets];
  flight.next = first;
  first = &flight;
  flight.is_listed = true;
}

void ResultCache::finish(Flight& flight, bool keep, std::uint64_t now_ns, std::vector<CacheWaiter>& waiters) {
  std::shared_ptr<CachedRow> dead;
  Part& part = part_of(flight.row->hash_);
  const std::lock_guard lock(part.mutex);
  unlist(part, flight);
  waiters.swap(flight.waiters);
  flight.row->stored_ns_ = now_ns;
  if (keep && flight.is_wanted) store(part, flight.row, now_ns, dead);
}

bool ResultCache::leave(Flight& flight, bool listed) {
  Part& part = part_of(flight.row->hash_);
  const std::lock_guard lock(part.mutex);
  if (flight.waiters.empty()) flight.is_wanted = false;
  if (!listed || !flight.is_wanted) unlist(part, flight);
  return !flight.is_wanted;
}

void ResultCache::store(Part& part, std::shared_ptr<CachedRow> row, std::uint64_t now_ns,
                        std::shared_ptr<CachedRow>& dead) {
  const std::uint64_t cost = row->cost();
  if (cost > part_bytes_ / kRowShareMax) return;
  const std::size_t bucket = row->hash_ & (part.buckets.size() - 1);
  std::shared_ptr<CachedRow>* link = &part.buckets[bucket];
  while (*link != nullptr && !(*link)->has_key_of(*row)) link = &(*link)->next_;
  if (*link != nullptr) {
    std::shared_ptr<CachedRow> old = take(part, *link);
    old->next_ = std::move(dead);
    dead = std::move(old);
  }
  if (!make_room(part, cost, now_ns, dead)) return;
  row->hits_ = 0;
  row->in_main_ = part.ghosts[bucket] == ghost_of(row->hash_);
  (row->in_main_ ? part.main : part.small).push(*row);
  row->account_->rows.fetch_add(1, std::memory_order_relaxed);
  row->account_->bytes.fetch_add(cost, std::memory_order_relaxed);
  row->next_ = std::move(part.buckets[bucket]);
  part.buckets[bucket] = std::move(row);
}

// Out of its bucket and its queue.
std::shared_ptr<CachedRow> ResultCache::take(Part& part, std::shared_ptr<CachedRow>& link) noexcept {
  std::shared_ptr<CachedRow> row = std::move(link);
  link = std::move(row->next_);
  (row->in_main_ ? part.main : part.small).remove(*row);
  row->account_->rows.fetch_sub(1, std::memory_order_relaxed);
  row->account_->bytes.fetch_sub(row->cost(), std::memory_order_relaxed);
  return row;
}

// False: it would take more steps than one request may cost; the next one goes on.
bool ResultCache::make_room(Part& part, std::uint64_t bytes, std::uint64_t now_ns, std::shared_ptr<CachedRow>& dead) {
  for (std::uint32_t steps = 0; part.small.bytes + part.main.bytes + bytes > part_bytes_; ++steps) {
    if (steps == kEvictedMax) return false;
    evict_one(part, now_ns, dead);
  }
  return true;
}

// One step of S3-FIFO: the oldest row leaves, or goes to the end of the main queue since it was asked for again.
void ResultCache::evict_one(Part& part, std::uint64_t now_ns, std::shared_ptr<CachedRow>& dead) noexcept {
  const bool of_small = part.main.oldest == nullptr || part.small.bytes > part_bytes_ / kSmallShare;
  CacheQueue& queue = of_small ? part.small : part.main;
  CachedRow& row = *queue.oldest;
  if (row.hits_ > 0 && !row.is_old(now_ns)) {
    queue.remove(row);
    row.hits_ = of_small ? std::uint8_t{0} : static_cast<std::uint8_t>(row.hits_ - 1);
    row.in_main_ = true;
    part.main.push(row);
    return;
  }
  const std::size_t bucket = row.hash_ & (part.buckets.size() - 1);
  if (of_small) part.ghosts[bucket] = ghost_of(row.hash_);
  row.account_->evictions.fetch_add(1, std::memory_order_relaxed);
  std::shared_ptr<CachedRow>* link = &part.buckets[bucket];
  while (link->get() != &row) link = &(*link)->next_;
  std::shared_ptr<CachedRow> gone = take(part, *link);
  gone->next_ = std::move(dead);
  dead = std::move(gone);
}

void ResultCache::purge(const CacheAccount& account) {
  for (Part& part : parts_) {
    for (std::size_t first = 0; first < part.buckets.size(); first += kPurgedBuckets) {
      std::shared_ptr<CachedRow> dead;
      const std::lock_guard lock(part.mutex);
      for (std::size_t i = first; i < std::min(first + kPurgedBuckets, part.buckets.size()); ++i) {
        for (std::shared_ptr<CachedRow>* link = &part.buckets[i]; *link != nullptr;) {
          if ((*link)->account_.get() != &account) {
            link = &(*link)->next_;
            continue;
          }
          std::shared_ptr<CachedRow> gone = take(part, *link);
          gone->next_ = std::move(dead);
          dead = std::move(gone);
        }
      }
    }
  }
}

}  // namespace penstock::dataplane
