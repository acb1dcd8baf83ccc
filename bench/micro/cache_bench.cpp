// What the result cache costs, in nanoseconds of processor time: cache_bench [input bytes] [cache MiB].
//
// Inputs that never come again are put in ten times as long as it takes to fill the cache; each tenth is a line, so a
// cost that grows shows.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "engine/result_cache.hpp"

namespace {

using penstock::dataplane::CacheAccount;
using penstock::dataplane::CacheAnswer;
using penstock::dataplane::CachedRow;
using penstock::dataplane::CacheKey;
using penstock::dataplane::CacheWaiter;
using penstock::dataplane::Flight;
using penstock::dataplane::FlightPool;
using penstock::dataplane::ResultCache;

// Of processor time: others on the machine would count otherwise.
double now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

double ns_each(double since, std::uint64_t times) { return (now_ns() - since) / static_cast<double>(times); }

}  // namespace

int main(int argc, char** argv) {
  const std::size_t bytes = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 128;
  const std::uint64_t cache_bytes = (argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 64) << 20;
  constexpr std::size_t kOutputBytes = 64;
  constexpr std::uint64_t kForever = ~std::uint64_t{0};
  ResultCache cache(cache_bytes, 1);
  const auto account = std::make_shared<CacheAccount>(cache, kForever);
  FlightPool flights;
  std::vector<CacheWaiter> waiters;
  std::vector<std::byte> input(std::max<std::size_t>(bytes, sizeof(std::uint64_t)));
  const std::span<const std::byte> part(input);
  const auto key_of = [&](std::uint64_t number) {
    std::memcpy(input.data(), &number, sizeof number);
    CacheKey key{.account = &account, .parts = {&part, 1}, .bytes = part.size()};
    key.hash = cache.hash_of(key);
    return key;
  };
  std::shared_ptr<const CachedRow> found;
  const auto miss = [&](std::uint64_t number) {
    const CacheKey key = key_of(number);
    if (cache.look(key, {}, {}, 1, found) != CacheAnswer::kMiss) std::abort();
    Flight& flight = flights.acquire();
    flight.row = std::make_shared<CachedRow>(key, kOutputBytes);
    cache.begin(flight);
    std::memset(flight.row->outputs(), 0, kOutputBytes);
    cache.finish(flight, true, 1, waiters);
    flights.release(flight);
  };
  std::uint64_t number = 0;
  while (account->evictions == 0) miss(number++);
  const std::uint64_t fill = number;
  std::printf("%zu bytes a row, %llu rows fit\n", input.size(), static_cast<unsigned long long>(fill));
  for (int tenth = 0; tenth < 10; ++tenth) {
    const double since = now_ns();
    for (std::uint64_t i = 0; i < fill; ++i) miss(number++);
    std::printf("miss  %7.0f ns\n", ns_each(since, fill));
  }
  constexpr std::uint64_t kTimes = 1'000'000;
  const std::uint64_t last = number - 1;
  double since = now_ns();
  for (std::uint64_t i = 0; i < kTimes; ++i) {
    if (cache.look(key_of(last), {}, {}, 1, found) != CacheAnswer::kHit) std::abort();
  }
  std::printf("hit   %7.0f ns\n", ns_each(since, kTimes));
  std::uint64_t sum = 0;
  since = now_ns();
  for (std::uint64_t i = 0; i < kTimes; ++i) sum += key_of(i).hash;
  std::printf("hash  %7.0f ns (%llx)\n", ns_each(since, kTimes), static_cast<unsigned long long>(sum));
}
