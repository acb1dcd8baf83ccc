// Looking for a moment before sleeping, as long as it pays.
//
// Waking a sleeper on another core costs 5 to 30 us, more than a small model runs. With one request under way at a time
// that is most of its latency. With many, sleepers are rare and a core that looks is a core taken from others: so
// whoever calls this does so only while little is under way.
#pragma once

#include <cstdint>
#include <ctime>

namespace penstock::batcher {

class Spinner {
 public:
  // Calls look() for up to kLookNs; true as soon as it returns true. Looks in vain use up a credit that a find
  // restores; without credit only one call in kRetry looks, since the traffic may have changed.
  template <class Look>
  [[nodiscard]] bool find(Look&& look) noexcept {
    if (credit_ == 0 && ++skipped_ % kRetry != 0) return false;
    const std::uint64_t until_ns = now_ns() + kLookNs;
    do {
      for (int i = 0; i < kPauses; ++i) pause();
      if (look()) {
        credit_ = kCreditMax;
        return true;
      }
    } while (now_ns() < until_ns);
    if (credit_ > 0) --credit_;
    return false;
  }

 private:
  static constexpr std::uint64_t kLookNs = 50'000;  // about what two wake-ups across cores cost
  static constexpr int kPauses = 8;
  static constexpr std::uint32_t kCreditMax = 8;
  static constexpr std::uint32_t kRetry = 64;

  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  static std::uint64_t now_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
  }

  std::uint32_t credit_ = 0;
  std::uint32_t skipped_ = 0;
};

}  // namespace penstock::batcher
