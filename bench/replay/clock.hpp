// A clock of the program's own, so that a replay does the same each time: histograms and timers branch on the time.
//
// clock.cpp defines clock_gettime() for the whole program, libraries included.
#pragma once

#include <cstdint>

namespace penstock::replay {

// Nanoseconds of the kernel's monotonic clock, by a system call: what the replay's own timing uses.
[[nodiscard]] std::uint64_t kernel_ns() noexcept;

}  // namespace penstock::replay
