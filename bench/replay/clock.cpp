#include "clock.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

namespace {

std::uint64_t virtual_ns = 1'000'000'000'000;

}  // namespace

// Each look at the clock is a microsecond after the one before. One thread.
extern "C" [[gnu::visibility("default")]] int clock_gettime(clockid_t, timespec* now) noexcept {
  virtual_ns += 1'000;
  now->tv_sec = static_cast<std::time_t>(virtual_ns / 1'000'000'000);
  now->tv_nsec = static_cast<long>(virtual_ns % 1'000'000'000);
  return 0;
}

namespace penstock::replay {

std::uint64_t kernel_ns() noexcept {
  timespec now{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace penstock::replay
