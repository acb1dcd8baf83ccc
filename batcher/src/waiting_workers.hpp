// The sleeping workers of a ring: who announced himself, and how to wake exactly one.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>

#include "futex.hpp"
#include "ring_layout.hpp"

namespace penstock::batcher {

// Takes one worker off a waiting mask; only who took him off may wake him, so no two wake-ups go to one sleeper.
[[nodiscard]] inline std::optional<std::uint32_t> pick_waiting(std::atomic<std::uint64_t>& mask) noexcept {
  // Sequentially consistent: the caller has made work visible by a seq_cst RMW of another word; the worker sets its bit
  // by one (BatchTaker::State::announce) and reads that word again afterwards. One of the two must see the other.
  std::uint64_t bits = mask.load(std::memory_order_seq_cst);
  while (bits != 0) {
    const int worker = std::countr_zero(bits);
    const std::uint64_t bit = std::uint64_t{1} << worker;
    const std::uint64_t before = mask.fetch_and(~bit, std::memory_order_seq_cst);
    if ((before & bit) != 0) return static_cast<std::uint32_t>(worker);
    bits = before & ~bit;
  }
  return std::nullopt;
}

// Ends the sleep of a picked worker. Release: pairs with the acquire load of `asleep` after the sleep.
inline void end_sleep(RingHeader& header, std::uint32_t worker) noexcept {
  header.workers[worker].asleep.store(0, std::memory_order_release);
}

// Wakes one worker of the mask. True: a system call was made.
inline bool wake_one(RingHeader& header, std::atomic<std::uint64_t>& mask) noexcept {
  const std::optional<std::uint32_t> worker = pick_waiting(mask);
  if (!worker) return false;
  end_sleep(header, *worker);
  futex_wake(header.workers[*worker].asleep);
  return true;
}

}  // namespace penstock::batcher
