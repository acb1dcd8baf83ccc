// What the ring costs: claim + copy of 128 bytes + publish, and a batch's whole life, uncontended on one thread; then a
// producer and a worker on two threads. Median and best of several runs, in nanoseconds.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "penstock/batcher/batch_ring.hpp"
#include "penstock/batcher/batch_taker.hpp"

namespace {

using namespace penstock;
using namespace penstock::batcher;
using Clock = std::chrono::steady_clock;

constexpr int kRuns = 15;

double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

RingConfig config_of(std::uint32_t loops) {
  RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {32}}}), RowLayout({{"y", DType::kFloat32, {3}}})};
  config.loops = loops;
  return config;
}

struct Row {
  alignas(64) std::byte bytes[128];
};

bool submit(BatchRing& ring, const Row& row, std::uint64_t now_ns) {
  const Claim claim = ring.claim(1);
  if (claim.status != ClaimStatus::kClaimed) return false;
  std::memcpy(ring.input(claim, 0, 0), row.bytes, sizeof row.bytes);
  RowMeta& meta = ring.meta(claim, 0);
  meta.arrival_ns = now_ns;
  meta.deadline_ns = 0;
  ring.publish(claim, 0);
  return true;
}

void drain(BatchRing& ring, BatchTaker& taker) {
  while (const std::optional<TakenBatch> batch = taker.take(0)) taker.complete(*batch);
  while (const std::optional<DoneBatch> batch = ring.poll_done(0)) ring.handled(*batch, batch->rows);
}

void report(const char* what, std::vector<double>& samples) {
  std::ranges::sort(samples);
  std::printf("%-58s median %7.1f  best %7.1f ns\n", what, samples[samples.size() / 2], samples.front());
}

void claim_copy_publish(std::uint32_t loops) {
  BatchRing ring(config_of(loops));
  BatchTaker taker(ring.fd(), std::vector<int>(loops, 0), 0);
  const Row row{};
  std::vector<double> samples;
  const std::uint32_t rows = ring.buffers() * ring.max_batch_size();
  for (int run = 0; run < kRuns * 20; ++run) {
    const Clock::time_point start = Clock::now();
    for (std::uint32_t i = 0; i < rows; ++i) submit(ring, row, i);
    samples.push_back(ns_since(start) / rows);
    drain(ring, taker);
  }
  report(loops == 1 ? "claim + copy 128 B + publish, a row" : "the same with two loops configured, a row", samples);
}

void whole_life(std::uint32_t batch_rows) {
  BatchRing ring(config_of(1));
  BatchTaker taker(ring.fd(), {0}, 0);
  const Row row{};
  std::vector<double> samples;
  constexpr int kBatches = 5'000;
  for (int run = 0; run < kRuns; ++run) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kBatches; ++i) {
      for (std::uint32_t k = 0; k < batch_rows; ++k) submit(ring, row, k);
      drain(ring, taker);
    }
    samples.push_back(ns_since(start) / kBatches);
  }
  char what[80];
  std::snprintf(what, sizeof what, "a batch of %u: claim ... handled, a batch", batch_rows);
  report(what, samples);
}

void two_threads() {
  BatchRing ring(config_of(1));
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    BatchTaker taker(ring.fd(), {0}, 0);
    while (!stop.load(std::memory_order_relaxed)) {
      if (const std::optional<TakenBatch> batch = taker.take(50)) taker.complete(*batch);
    }
  });
  const Row row{};
  std::vector<double> samples;
  constexpr int kRows = 200'000;
  for (int run = 0; run < kRuns; ++run) {
    const Clock::time_point start = Clock::now();
    for (int sent = 0, answered = 0; answered < kRows;) {
      for (int i = 0; i < 32 && sent < kRows && submit(ring, row, 1); ++i) ++sent;
      ring.ring_bell();
      while (const std::optional<DoneBatch> batch = ring.poll_done(0)) {
        answered += static_cast<int>(batch->rows);
        ring.handled(*batch, batch->rows);
      }
    }
    samples.push_back(ns_since(start) / kRows);
  }
  stop.store(true, std::memory_order_relaxed);
  worker.join();
  report("producer and worker on two threads, a row", samples);
  std::printf("batches %llu, bells %llu\n", static_cast<unsigned long long>(ring.counters().batches_taken),
              static_cast<unsigned long long>(ring.counters().bell_rings));
}

}  // namespace

int main() {
  claim_copy_publish(1);
  claim_copy_publish(2);
  whole_life(1);
  whole_life(16);
  whole_life(64);
  two_threads();
  return 0;
}
