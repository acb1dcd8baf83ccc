// What Engine.stats() counts, as dictionaries.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/engine.hpp"

namespace nb = nanobind;

namespace penstock::dataplane {

nb::dict stats(const Engine& engine);  // for bindings.cpp

namespace {

constexpr double kNsPerSecond = 1e9;
constexpr double kThousandths = 1000;

template <class Stats, class Owner, std::size_t N, const std::array<std::uint64_t, N>& Bounds>
nb::dict sum_histograms(const Stats& each, const Histogram<N, Bounds> Owner::* member, double unit) {
  nb::list bounds;
  for (const std::uint64_t bound : Bounds) bounds.append(static_cast<double>(bound) / unit);
  nb::list counts;
  for (std::size_t i = 0; i <= N; ++i) {
    std::uint64_t count = 0;
    for (const Owner& stats : each) count += (stats.*member).count(i);
    counts.append(count);
  }
  double sum = 0;
  for (const Owner& stats : each) sum += static_cast<double>((stats.*member).sum()) / unit;
  nb::dict histogram;
  histogram["bounds"] = bounds;
  histogram["counts"] = counts;
  histogram["sum"] = sum;
  return histogram;
}

std::uint64_t sum_of(const ModelEntry& entry, const Counter RingStats::* member) {
  std::uint64_t sum = 0;
  for (const RingStats& stats : entry.stats) sum += (stats.*member).get();
  return sum;
}

// Counts that have a name for each value of an enumeration.
template <class Name, std::size_t N>
nb::dict sum_by_name(const ModelEntry& entry, const std::array<Counter, N> RingStats::* member) {
  nb::dict sums;
  for (std::size_t i = 0; i < N; ++i) {
    std::uint64_t sum = 0;
    for (const RingStats& stats : entry.stats) sum += (stats.*member)[i].get();
    const std::string_view name = name_of(static_cast<Name>(i));
    sums[nb::str(name.data(), name.size())] = sum;
  }
  return sums;
}

nb::list sum_by_size(const ModelEntry& entry) {
  nb::list sizes;
  for (std::size_t rows = 1; rows < entry.stats.front().by_size.size(); ++rows) {
    std::uint64_t batches = 0;
    std::uint64_t batch_ns = 0;
    std::uint64_t run_ns = 0;
    for (const RingStats& stats : entry.stats) {
      batches += stats.by_size[rows].batches.get();
      batch_ns += stats.by_size[rows].batch_ns.get();
      run_ns += stats.by_size[rows].run_ns.get();
    }
    if (batches != 0) sizes.append(nb::make_tuple(rows, batches, batch_ns, run_ns));
  }
  return sizes;
}

nb::dict ring_stats(const ModelEntry& entry) {
  const batcher::RingCounters counters = entry.ring.counters();
  nb::dict ring;
  ring["ring"] = entry.id;
  ring["model"] = entry.model;
  ring["version"] = entry.version;
  ring["rows_claimed"] = counters.rows_claimed;
  ring["claims_refused"] = counters.claims_refused;
  ring["bell_rings"] = counters.bell_rings;
  ring["batches_taken"] = counters.batches_taken;
  ring["partial_takes_held"] = counters.partial_takes_held;
  ring["lost_wakeups"] = counters.lost_wakeups;
  ring["rows_queued"] = counters.rows_queued;
  ring["rows_ok"] = sum_of(entry, &RingStats::rows_ok);
  ring["rows_failed"] = sum_of(entry, &RingStats::rows_failed);
  ring["rows_shed"] = sum_of(entry, &RingStats::rows_shed);
  ring["rows_refused_deadline"] = sum_of(entry, &RingStats::rows_refused_deadline);
  ring["rows_cancelled"] = sum_of(entry, &RingStats::rows_cancelled);
  ring["padded_rows"] = sum_of(entry, &RingStats::padded_rows);
  ring["cache_hits"] = sum_of(entry, &RingStats::cache_hits);
  ring["cache_hit_ns"] = sum_of(entry, &RingStats::cache_hit_ns);
  ring["cache_misses"] = sum_of(entry, &RingStats::cache_misses);
  ring["cache_miss_ns"] = sum_of(entry, &RingStats::cache_miss_ns);
  ring["cache_coalesced"] = sum_of(entry, &RingStats::cache_coalesced);
  const CacheAccount* const cache = entry.cache.get();
  ring["cache_evictions"] = cache == nullptr ? 0 : cache->evictions.load(std::memory_order_relaxed);
  ring["cache_rows"] = cache == nullptr ? 0 : cache->rows.load(std::memory_order_relaxed);
  ring["cache_bytes"] = cache == nullptr ? 0 : cache->bytes.load(std::memory_order_relaxed);
  ring["deadline_exceeded"] = sum_of(entry, &RingStats::deadline_exceeded);
  ring["rows_by_class"] = sum_by_name<batcher::RowClass>(entry, &RingStats::rows_by_class);
  ring["batches_by_reason"] = sum_by_name<batcher::SealReason>(entry, &RingStats::batches_by_reason);
  ring["batches_done"] = sum_of(entry, &RingStats::batches_done);
  ring["batches_by_size"] = sum_by_size(entry);
  nb::dict histograms;
  histograms["queue_seconds"] = sum_histograms(entry.stats, &RingStats::queue, kNsPerSecond);
  histograms["batch_seconds"] = sum_histograms(entry.stats, &RingStats::batch, kNsPerSecond);
  histograms["run_seconds"] = sum_histograms(entry.stats, &RingStats::run, kNsPerSecond);
  histograms["total_seconds"] = sum_histograms(entry.stats, &RingStats::total, kNsPerSecond);
  histograms["batch_size"] = sum_histograms(entry.stats, &RingStats::batch_size, 1);
  histograms["prediction_error"] = sum_histograms(entry.stats, &RingStats::prediction_error, kThousandths);
  ring["histograms"] = histograms;
  return ring;
}

nb::dict loop_stats(const Engine& engine,
                    const std::vector<std::pair<const char*, const Counter LoopStats::*>>& members) {
  nb::dict stats;
  for (const auto& [name, member] : members) {
    std::uint64_t sum = 0;
    for (const auto& loop : engine.loops()) sum += (loop->stats().*member).get();
    stats[name] = sum;
  }
  return stats;
}

nb::dict response_stats(const Engine& engine) {
  nb::dict responses;
  for (std::size_t status = 0; status < std::tuple_size_v<decltype(LoopStats::responses)>; ++status) {
    std::uint64_t sum = 0;
    for (const auto& loop : engine.loops()) sum += loop->stats().responses[status].get();
    if (sum > 0) responses[std::to_string(status).c_str()] = sum;
  }
  return responses;
}

nb::object second_level(const EngineState& state) {
  if (state.second_level == nullptr) return nb::none();
  const SecondLevel::Counts counts = state.second_level->counts();
  nb::dict result;
  result["hits"] = counts.hits;
  result["misses"] = counts.misses;
  result["timeouts"] = counts.timeouts;
  result["failures"] = counts.failures;
  result["invalid"] = counts.invalid;
  result["skipped"] = counts.skipped;
  result["writes"] = counts.writes;
  result["writes_lost"] = counts.writes_lost;
  result["up"] = counts.is_up;
  return result;
}

}  // namespace

nb::dict stats(const Engine& engine) {
  const EngineState& state = engine.state();
  nb::dict result;
  result["ready"] = state.ready.load(std::memory_order_relaxed);
  result["draining"] = state.draining.load(std::memory_order_relaxed);
  result["connections"] = loop_stats(engine, {{"open", &LoopStats::connections_open},
                                              {"accepted", &LoopStats::connections_accepted},
                                              {"refused", &LoopStats::connections_refused},
                                              {"timed_out", &LoopStats::connections_timed_out}});
  result["responses"] = response_stats(engine);
  nb::dict pool = loop_stats(engine, {{"waits", &LoopStats::memory_waits}});
  pool["bytes_used"] = state.pool.bytes_used();
  pool["bytes_max"] = state.pool.bytes_max();
  pool["refused"] = state.pool.refused();
  result["body_pool"] = pool;
  nb::dict loop = loop_stats(
      engine,
      {{"passes", &LoopStats::passes}, {"wakeups", &LoopStats::wakeups}, {"lost_wakeups", &LoopStats::lost_wakeups}});
  std::uint64_t longest_ns = 0;
  for (const auto& each : engine.loops()) longest_ns = std::max(longest_ns, each->stats().longest_pass_ns.get());
  loop["longest_pass_us"] = longest_ns / 1000;
  result["loop"] = loop;
  auto loops =
      std::views::transform(engine.loops(), [](const auto& each) -> const LoopStats& { return each->stats(); });
  result["refusal_seconds"] = sum_histograms(loops, &LoopStats::refusal, kNsPerSecond);
  result["control"] = loop_stats(engine, {{"forwarded", &LoopStats::control_forwarded},
                                          {"failed", &LoopStats::control_failed},
                                          {"active", &LoopStats::control_active}});
  nb::dict tap;
  for (const auto& [name, member] : {std::pair{"written", &Tap::written}, std::pair{"dropped", &Tap::dropped},
                                     std::pair{"suppressed", &Tap::suppressed}}) {
    std::uint64_t sum = 0;
    for (const auto& each : engine.loops()) sum += (each->tap().*member).get();
    tap[name] = sum;
  }
  result["tap"] = tap;
  result["second_level"] = second_level(state);
  nb::list rings;
  for (const auto& entry : engine.entries()) rings.append(ring_stats(*entry));
  result["rings"] = rings;
  return result;
}

}  // namespace penstock::dataplane
