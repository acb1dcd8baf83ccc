// Time as the generator measures it: nanoseconds of the monotonic clock, which Python's time.monotonic_ns() reads too.
#pragma once

#include <cstdint>
#include <ctime>

namespace penstock::loadgen {

[[nodiscard]] inline std::int64_t now_ns() noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace penstock::loadgen
