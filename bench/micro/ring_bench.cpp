// What the ring costs: claim + copy of 128 bytes + publish, and a batch's whole life, uncontended on one thread; then a
// producer and a worker on two threads.
//
// The budget of a row: 30 ns to claim, copy, fill in the metadata and publish (a bare ticket ring took 21 ns without
// metadata on a 2-vCPU Zen 5), and 20 ns as its share of taking and completing a batch of 64.
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "penstock/batcher/batch_ring.hpp"
#include "penstock/batcher/batch_taker.hpp"
#include "report.hpp"

namespace {

using namespace penstock;
using namespace penstock::batcher;
using bench::Clock;
using bench::Limit;
using bench::ns_since;
using bench::Report;

constexpr const char* kDesign = "budget of the ring";

RingConfig config_of(std::uint32_t loops) {
  RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {32}}}), RowLayout({{"y", DType::kFloat32, {3}}})};
  config.loops = loops;
  return config;
}

constexpr auto kLane = static_cast<std::uint32_t>(RowClass::kNormal);

struct Row {
  alignas(64) std::byte bytes[128];
};

bool submit(BatchRing& ring, const Row& row, std::uint64_t now_ns) {
  const Claim claim = ring.claim(kLane);
  if (claim.status != ClaimStatus::kClaimed) return false;
  std::memcpy(ring.input(claim, 0, 0), row.bytes, sizeof row.bytes);
  RowMeta& meta = ring.meta(claim, 0);
  meta.arrival_ns = now_ns;
  meta.deadline_ns = 0;
  ring.publish(claim, 0);
  return true;
}

void drain(BatchRing& ring, BatchTaker& taker) {
  while (std::optional<TakenBatch> batch = taker.take(0)) taker.complete(std::move(*batch));
  while (const std::optional<DoneBlock> block = ring.poll_done(0)) ring.handled(*block, block->rows);
}

void claim_copy_publish(Report& report, std::uint32_t loops) {
  BatchRing ring(config_of(loops));
  BatchTaker taker(ring.fd(), std::vector<int>(loops, 0), 0);
  const Row row{};
  const std::uint32_t rows = 4096;  // what the lane holds
  const std::string what = "claim + copy 128 B + publish, " + std::to_string(loops) + " loops";
  report.sample(what, {.value = 30, .source = kDesign}, [&] {
    const Clock::time_point start = Clock::now();
    for (std::uint32_t i = 0; i < rows; ++i) submit(ring, row, i);
    const double spent_ns = ns_since(start);
    drain(ring, taker);
    return spent_ns / rows;
  });
}

void whole_life(Report& report, std::uint32_t batch_rows) {
  BatchRing ring(config_of(1));
  BatchTaker taker(ring.fd(), {0}, 0);
  const Row row{};
  const Limit limit = batch_rows == 64 ? Limit{.value = 50, .source = kDesign} : Limit{};
  report.sample("claim ... handled, a row of a batch of " + std::to_string(batch_rows), limit, [&] {
    constexpr int kBatches = 500;
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kBatches; ++i) {
      for (std::uint32_t k = 0; k < batch_rows; ++k) submit(ring, row, k);
      drain(ring, taker);
    }
    return ns_since(start) / kBatches / batch_rows;
  });
}

void two_threads(Report& report) {
  BatchRing ring(config_of(1));
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    BatchTaker taker(ring.fd(), {0}, 0);
    while (!stop.load(std::memory_order_relaxed)) {
      if (std::optional<TakenBatch> batch = taker.take(50)) taker.complete(std::move(*batch));
    }
  });
  const Row row{};
  report.sample("producer and worker on two threads, a row", {}, [&] {
    constexpr int kRows = 100'000;
    const Clock::time_point start = Clock::now();
    for (int sent = 0, answered = 0; answered < kRows;) {
      for (int i = 0; i < 32 && sent < kRows && submit(ring, row, 1); ++i) ++sent;
      ring.ring_bell();
      while (const std::optional<DoneBlock> block = ring.poll_done(0)) {
        answered += static_cast<int>(block->rows);
        ring.handled(*block, block->rows);
      }
    }
    return ns_since(start) / kRows;
  });
  stop.store(true, std::memory_order_relaxed);
  worker.join();
}

}  // namespace

int main(int argc, char** argv) {
  Report report("ring", argc, argv);
  claim_copy_publish(report, 1);
  claim_copy_publish(report, 2);
  for (const std::uint32_t rows : {1U, 16U, 64U}) whole_life(report, rows);
  two_threads(report);
  return 0;
}
