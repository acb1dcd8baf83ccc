// When a batch is taken: a pure function of what a taker sees of all its rings and of the time.
//
// The server and a simulator run the same code; the clock is an argument.
#pragma once

#include <cstdint>
#include <span>

namespace penstock::batcher {

// What a taker sees of one ring.
struct RingView {
  bool queued = false;               // a batch of a dead worker waits to run again
  std::uint32_t rows = 0;            // of the oldest batch not yet taken
  bool sealed = false;               // that batch takes no further row: it is full, or the next one is open already
  bool next_free = false;            // the buffer behind it is free
  std::uint64_t oldest_ns = 0;       // arrival of its first row; 0: not known yet, counts as now
  std::uint64_t queue_delay_ns = 0;  // a partial batch may wait this long for more rows
};

enum class Take : std::uint8_t {
  kQueued,         // run a batch of a dead worker
  kOpen,           // take the oldest batch
  kWaitUntil,      // a partial batch may still grow, until `until_ns`
  kWaitForBuffer,  // a partial batch is held: there is nowhere for the next row to go
  kWaitForRows,
};

struct TakeDecision {
  Take take = Take::kWaitForRows;
  std::uint32_t ring = 0;      // for kQueued and kOpen
  std::uint64_t until_ns = 0;  // for kWaitUntil
};

// Work-conserving: with no delay configured, a free taker never waits while a ring has a batch that may be taken. Among
// rings it prefers queued batches, then the oldest row.
[[nodiscard]] TakeDecision decide(std::span<const RingView> rings, std::uint64_t now_ns) noexcept;

// How long the ring alone would make a taker wait; the building block of the above.
[[nodiscard]] TakeDecision decide(const RingView& ring, std::uint64_t now_ns) noexcept;

}  // namespace penstock::batcher
