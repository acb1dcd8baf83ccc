// The cache alone: what it finds, what it forgets, and that it stays within its bounds. Time is what the test says.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/result_cache.hpp"

namespace {

using penstock::batcher::RowClass;
using penstock::dataplane::CacheAccount;
using penstock::dataplane::CacheAnswer;
using penstock::dataplane::CachedRow;
using penstock::dataplane::CacheKey;
using penstock::dataplane::CacheWaiter;
using penstock::dataplane::Flight;
using penstock::dataplane::FlightPool;
using penstock::dataplane::KeyedHash;
using penstock::dataplane::ResultCache;
using penstock::dataplane::Urgency;

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kBytes = 1 << 20;
constexpr std::uint64_t kNow = 100 * kSecondNs;

// A key of one part, and the hash that the test wants or the cache's own.
class Input {
 public:
  Input(ResultCache& cache, const std::shared_ptr<CacheAccount>& account, std::string bytes)
      : bytes_(std::move(bytes)), part_(std::as_bytes(std::span(bytes_))) {
    key.account = &account;
    key.parts = {&part_, 1};
    key.bytes = part_.size();
    key.hash = cache.hash_of(key);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  CacheKey key;

 private:
  const std::string bytes_;
  const std::span<const std::byte> part_;
};

struct Cache {
  explicit Cache(std::uint64_t bytes = kBytes, std::uint64_t ttl_ns = kSecondNs, std::uint32_t loops = 1)
      : cache(bytes, loops), account(std::make_shared<CacheAccount>(cache, ttl_ns)) {}

  Flight& begin(const Input& input, const Urgency& urgency = {}, std::size_t output_bytes = 8) {
    Flight& flight = flights.acquire();
    flight.row = std::make_shared<CachedRow>(input.key, output_bytes);
    flight.urgency = urgency;
    cache.begin(flight);
    return flight;
  }
  std::vector<CacheWaiter> finish(Flight& flight, std::uint64_t value, bool keep = true, std::uint64_t now_ns = kNow) {
    std::memcpy(flight.row->outputs(), &value, sizeof value);
    std::vector<CacheWaiter> waiters;
    cache.finish(flight, keep, now_ns, waiters);
    flights.release(flight);
    return waiters;
  }
  CacheAnswer look(const Input& input, std::uint64_t now_ns = kNow, const Urgency& urgency = {},
                   std::uint32_t request = 0) {
    return cache.look(input.key, urgency, {nullptr, 0, 0, request}, now_ns, found);
  }
  void put(const Input& input, std::uint64_t value, std::size_t output_bytes = 8) {
    finish(begin(input, {}, output_bytes), value);
  }
  // The value that is known, or 0.
  std::uint64_t get(const Input& input, std::uint64_t now_ns = kNow) {
    if (look(input, now_ns) != CacheAnswer::kHit) return 0;
    std::uint64_t value = 0;
    std::memcpy(&value, found->outputs(), sizeof value);
    return value;
  }

  ResultCache cache;
  std::shared_ptr<CacheAccount> account;
  FlightPool flights;
  std::shared_ptr<const CachedRow> found;
};

void what_was_put_in_is_found() {
  Cache cache;
  const Input one(cache.cache, cache.account, "one");
  const Input two(cache.cache, cache.account, "two");
  CHECK(cache.look(one) == CacheAnswer::kMiss);
  cache.put(one, 1);
  CHECK(cache.get(one) == 1);
  CHECK(cache.look(two) == CacheAnswer::kMiss);
  cache.put(one, 11);  // another run of it
  CHECK(cache.get(one) == 11 && cache.account->rows == 1);
}

void equal_hashes_are_no_equal_inputs() {
  Cache cache;
  for (int i = 1; i <= 100; ++i) {
    Input input(cache.cache, cache.account, "input " + std::to_string(i));
    input.key.hash = 7;
    CHECK(cache.look(input) == CacheAnswer::kMiss);
    cache.put(input, static_cast<std::uint64_t>(i));
  }
  for (int i = 1; i <= 100; ++i) {
    Input input(cache.cache, cache.account, "input " + std::to_string(i));
    input.key.hash = 7;
    CHECK(cache.get(input) == static_cast<std::uint64_t>(i));
  }
  // Rows under way, too: nobody joins another input.
  Input input(cache.cache, cache.account, "under way");
  Input other(cache.cache, cache.account, "undex way");
  input.key.hash = other.key.hash = 7;
  Flight& flight = cache.begin(input);
  CHECK(cache.look(other) == CacheAnswer::kMiss);
  CHECK(cache.look(input) == CacheAnswer::kJoined);
  CHECK(cache.finish(flight, 1).size() == 1);
}

void a_key_is_more_than_its_bytes() {
  Cache cache;
  const auto other = std::make_shared<CacheAccount>(cache.cache, kSecondNs);
  Input input(cache.cache, cache.account, "x");
  cache.put(input, 1);
  const Input of_other(cache.cache, other, "x");
  CHECK(cache.look(of_other) == CacheAnswer::kMiss);
  for (const auto change : {+[](CacheKey& key) { key.length = 3; }, +[](CacheKey& key) { key.reproducible = true; }}) {
    Input changed(cache.cache, cache.account, "x");
    change(changed.key);
    changed.key.hash = input.key.hash;
    CHECK(cache.look(changed) == CacheAnswer::kMiss);
  }
  CHECK(cache.get(input) == 1);
}

void a_row_is_old_after_its_time() {
  Cache cache;
  const Input input(cache.cache, cache.account, "x");
  cache.put(input, 1);
  CHECK(cache.get(input, kNow + kSecondNs - 1) == 1);
  CHECK(cache.found->age_ns(kNow + kSecondNs - 1) == kSecondNs - 1);
  CHECK(cache.get(input, kNow - 5) == 1 && cache.found->age_ns(kNow - 5) == 0);  // a loop that is behind
  CHECK(cache.look(input, kNow + kSecondNs) == CacheAnswer::kMiss);
  CHECK(cache.account->rows == 0 && cache.account->bytes == 0 && cache.account->evictions == 0);
}

void an_error_is_not_kept() {
  Cache cache;
  const Input input(cache.cache, cache.account, "x");
  Flight& flight = cache.begin(input);
  CHECK(cache.look(input) == CacheAnswer::kJoined);
  CHECK(cache.finish(flight, 1, false).size() == 1);
  CHECK(cache.look(input) == CacheAnswer::kMiss && cache.account->rows == 0);
}

void whoever_joins_is_told_once() {
  Cache cache;
  const Input input(cache.cache, cache.account, "x");
  Flight& flight = cache.begin(input);
  for (std::uint32_t request = 1; request <= 5; ++request)
    CHECK(cache.look(input, kNow, {}, request) == CacheAnswer::kJoined);
  const std::vector<CacheWaiter> waiters = cache.finish(flight, 4);
  CHECK(waiters.size() == 5);
  for (std::uint32_t i = 0; i < waiters.size(); ++i) CHECK(waiters[i].request == i + 1);
  CHECK(cache.get(input) == 4);
}

void only_a_row_as_urgent_is_joined() {
  Cache cache;
  const Input input(cache.cache, cache.account, "x");
  const Urgency normal{RowClass::kNormal, kNow + 1000};
  Flight& slow = cache.begin(input, normal);
  CHECK(cache.look(input, kNow, {RowClass::kBatch, 0}) == CacheAnswer::kJoined);
  CHECK(cache.look(input, kNow, {RowClass::kNormal, kNow + 1000}) == CacheAnswer::kJoined);
  CHECK(cache.look(input, kNow, {RowClass::kInteractive, 0}) == CacheAnswer::kMiss);
  CHECK(cache.look(input, kNow, {RowClass::kNormal, kNow + 999}) == CacheAnswer::kMiss);
  // The more urgent row is the one to be joined from now on, and the other one still answers who waits for it.
  Flight& fast = cache.begin(input, {RowClass::kInteractive, kNow + 999});
  CHECK(cache.look(input, kNow, {RowClass::kNormal, kNow + 999}) == CacheAnswer::kJoined);
  CHECK(cache.finish(slow, 1).size() == 2);
  CHECK(cache.finish(fast, 2).size() == 1);
  CHECK(cache.get(input) == 2);
}

void a_row_that_nobody_waits_for_is_no_answer() {
  Cache cache;
  const Input input(cache.cache, cache.account, "x");
  Flight& alone = cache.begin(input);
  CHECK(cache.cache.leave(alone, true));
  CHECK(cache.look(input) == CacheAnswer::kMiss);  // it was cancelled: it may never run
  CHECK(cache.finish(alone, 1).empty());
  CHECK(cache.look(input) == CacheAnswer::kMiss);

  Flight& joined = cache.begin(input);
  CHECK(cache.look(input) == CacheAnswer::kJoined);
  CHECK(!cache.cache.leave(joined, true));
  CHECK(cache.look(input) == CacheAnswer::kJoined);
  CHECK(cache.finish(joined, 3).size() == 2);
  CHECK(cache.get(input) == 3);
}

void a_row_that_is_late_is_joined_no_more() {
  Cache cache;
  const Input input(cache.cache, cache.account, "x");
  Flight& late = cache.begin(input);
  CHECK(cache.look(input) == CacheAnswer::kJoined);
  CHECK(!cache.cache.leave(late, false));
  CHECK(cache.look(input) == CacheAnswer::kMiss);
  CHECK(cache.finish(late, 3).size() == 1);
}

void memory_is_bounded() {
  Cache cache;
  std::uint64_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    cache.put(Input(cache.cache, cache.account, "input " + std::to_string(i)), 1,
              8 + static_cast<std::size_t>(i % 700));
    most = std::max<std::uint64_t>(most, cache.account->bytes);
  }
  CHECK(most <= kBytes && most > kBytes * 8 / 10);
  CHECK(cache.account->evictions + cache.account->rows <= 20'000);
  CHECK(cache.account->evictions > 10'000);
  // What is larger than an eighth of it would push out too much.
  const Input large(cache.cache, cache.account, std::string(kBytes / 8, 'x'));
  cache.put(large, 1);
  CHECK(cache.look(large) == CacheAnswer::kMiss);
}

// What is asked for now and then stays, however many inputs come that never come again.
void unique_inputs_do_not_push_out_popular_ones() {
  constexpr int kPopular = 100;
  Cache cache;
  const auto popular = [&](int i) { return "popular " + std::to_string(i); };
  for (int i = 0; i < kPopular; ++i) cache.put(Input(cache.cache, cache.account, popular(i)), 1);
  int misses = 0;
  for (int i = 0; i < 100'000; ++i) {
    if (i % 10 == 0) {
      const Input input(cache.cache, cache.account, popular(i / 10 % kPopular));
      if (cache.get(input) == 0) {
        ++misses;
        cache.put(input, 1);
      }
    }
    cache.put(Input(cache.cache, cache.account, "unique " + std::to_string(i)), 1, 64);
  }
  CHECK(misses <= kPopular);
}

void a_ring_that_is_gone_leaves_nothing() {
  Cache cache;
  const auto other = std::make_shared<CacheAccount>(cache.cache, kSecondNs);
  const Input kept(cache.cache, other, "kept");
  cache.put(kept, 9);
  for (int i = 0; i < 500; ++i) cache.put(Input(cache.cache, cache.account, std::to_string(i)), 1);
  CHECK(cache.account->rows == 500);
  cache.cache.purge(*cache.account);
  CHECK(cache.account->rows == 0 && cache.account->bytes == 0);
  for (int i = 0; i < 500; ++i)
    CHECK(cache.look(Input(cache.cache, cache.account, std::to_string(i))) == CacheAnswer::kMiss);
  CHECK(cache.get(kept) == 9 && other->rows == 1);
}

// Rows hold their account, so another ring cannot come to have the same one.
void an_account_is_not_used_again_while_it_has_rows() {
  Cache cache;
  const std::string bytes = "x";
  std::weak_ptr<CacheAccount> first = cache.account;
  cache.put(Input(cache.cache, cache.account, bytes), 1);
  for (int i = 0; i < 100; ++i) {
    cache.account = std::make_shared<CacheAccount>(cache.cache, kSecondNs);
    CHECK(cache.look(Input(cache.cache, cache.account, bytes)) == CacheAnswer::kMiss);
  }
  CHECK(!first.expired());
}

void the_hash_tells_inputs_apart() {
  const KeyedHash hash;
  const KeyedHash other;
  std::vector<std::uint64_t> seen;
  std::string bytes(200, '\0');
  const auto note = [&](std::size_t size) {
    seen.push_back(hash(std::as_bytes(std::span(bytes.data(), size)), 0));
    CHECK(seen.back() != other(std::as_bytes(std::span(bytes.data(), size)), 0));
  };
  for (std::size_t size = 0; size <= bytes.size(); ++size) note(size);  // zeros, of which only the length differs
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] = static_cast<char>(1 << bit % 8);
    note(bytes.size());
    bytes[bit / 8] = 0;
  }
  std::ranges::sort(seen);
  CHECK(std::ranges::adjacent_find(seen) == seen.end());
}

// Forbidden: an answer that belongs to another input, a waiter that is told twice or never, a data race.
void threads_share_it() {
  constexpr std::uint32_t kThreads = 4;
  constexpr std::uint64_t kInputs = 200;
  Cache cache(kBytes, kSecondNs, kThreads);
  std::atomic<std::uint64_t> joined{0};
  std::atomic<std::uint64_t> told{0};
  std::vector<std::thread> threads;
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      FlightPool flights;
      std::vector<CacheWaiter> waiters;
      std::vector<std::pair<Flight*, std::uint64_t>> under_way;
      for (std::uint64_t i = 0; i < 20'000; ++i) {
        const std::uint64_t value = 1 + (i * 7919 + thread * 13) % kInputs;
        const Input input(cache.cache, cache.account, std::to_string(value));
        std::shared_ptr<const CachedRow> found;
        const CacheAnswer answer = cache.cache.look(input.key, {}, {}, kNow + i * 100'000, found);
        if (answer == CacheAnswer::kHit) {
          std::uint64_t known = 0;
          std::memcpy(&known, found->outputs(), sizeof known);
          CHECK(known == value);
        } else if (answer == CacheAnswer::kJoined) {
          joined.fetch_add(1, std::memory_order_relaxed);
        } else {
          Flight& flight = flights.acquire();
          flight.row = std::make_shared<CachedRow>(input.key, sizeof value);
          cache.cache.begin(flight);
          under_way.emplace_back(&flight, value);
        }
        while (under_way.size() > 8 || (i + 1 == 20'000 && !under_way.empty())) {
          const auto [flight, its_value] = under_way.back();
          under_way.pop_back();
          if (i % 5 == 0) (void)cache.cache.leave(*flight, i % 2 == 0);
          std::memcpy(flight->row->outputs(), &its_value, sizeof its_value);
          cache.cache.finish(*flight, i % 7 != 0, kNow + i * 100'000, waiters);
          told.fetch_add(waiters.size(), std::memory_order_relaxed);
          waiters.clear();
          flights.release(*flight);
        }
        if (i % 5000 == 4999) cache.cache.purge(*cache.account);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(joined == told);
}

}  // namespace

int main() {
  what_was_put_in_is_found();
  equal_hashes_are_no_equal_inputs();
  a_key_is_more_than_its_bytes();
  a_row_is_old_after_its_time();
  an_error_is_not_kept();
  whoever_joins_is_told_once();
  only_a_row_as_urgent_is_joined();
  a_row_that_nobody_waits_for_is_no_answer();
  a_row_that_is_late_is_joined_no_more();
  memory_is_bounded();
  unique_inputs_do_not_push_out_popular_ones();
  a_ring_that_is_gone_leaves_nothing();
  an_account_is_not_used_again_while_it_has_rows();
  the_hash_tells_inputs_apart();
  threads_share_it();
}
