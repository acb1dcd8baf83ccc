// Raw shared futexes: std::atomic::wait does not wake another process.
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock::batcher {

enum class FutexResult : std::uint8_t { kWoken, kChanged, kTimedOut, kInterrupted };

// Sleeps while `word` is `expected`, at most `timeout_ns`.
FutexResult futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t timeout_ns) noexcept;
// Wakes one sleeper. True: there was one.
bool futex_wake(std::atomic<std::uint32_t>& word) noexcept;

// CLOCK_MONOTONIC.
[[nodiscard]] std::uint64_t monotonic_ns() noexcept;

}  // namespace penstock::batcher
