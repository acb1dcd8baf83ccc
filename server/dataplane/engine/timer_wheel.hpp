// Deadlines of connections: a hashed wheel with constant-time insertion and lazy correction.
//
// A timer is armed at or before the true deadline. When it fires early its owner arms it again, so moving a deadline
// forward, which every request does, costs nothing.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace penstock::dataplane {

struct Timer {
  Timer* next = nullptr;
  Timer* previous = nullptr;
  std::uint64_t when_ns = 0;  // 0: not armed
  void* owner = nullptr;
};

class TimerWheel {
 public:
  static constexpr std::uint64_t kTickNs = 8'000'000;

  explicit TimerWheel(std::uint64_t now_ns) noexcept : tick_(now_ns / kTickNs) {
    for (Timer& slot : slots_) slot.next = slot.previous = &slot;
  }

  // Makes the timer fire at `when_ns` or earlier; a timer that fires earlier already stays.
  void arm(Timer& timer, std::uint64_t when_ns) noexcept {
    if (timer.when_ns != 0) {
      if (timer.when_ns <= when_ns) return;
      disarm(timer);
    }
    timer.when_ns = when_ns;
    std::uint64_t tick = when_ns / kTickNs + 1;  // never early
    if (tick <= tick_) tick = tick_ + 1;
    const std::size_t index = tick % kSlots;
    Timer& slot = slots_[index];
    timer.next = &slot;
    timer.previous = slot.previous;
    slot.previous->next = &timer;
    slot.previous = &timer;
    occupied_[index / 64] |= std::uint64_t{1} << (index % 64);
  }

  void disarm(Timer& timer) noexcept {
    if (timer.when_ns == 0) return;
    timer.previous->next = timer.next;
    timer.next->previous = timer.previous;
    timer.next = timer.previous = nullptr;
    timer.when_ns = 0;
  }

  // Calls fire(Timer&) for every timer that is due. The callback may arm and disarm any timer.
  template <class Fire>
  void advance(std::uint64_t now_ns, Fire&& fire) {
    const std::uint64_t target = now_ns / kTickNs;
    if (target > tick_ + kSlots) tick_ = target - kSlots;  // a long sleep: each slot once is enough
    while (tick_ < target) {
      ++tick_;
      visit(tick_ % kSlots, now_ns, fire);
    }
  }

  // Milliseconds until a slot that holds a timer comes up; -1 when none does.
  [[nodiscard]] int wait_ms(std::uint64_t now_ns) const noexcept {
    for (std::size_t distance = 1; distance <= kSlots;) {
      const std::size_t index = (tick_ + distance) % kSlots;
      const std::uint64_t rest = occupied_[index / 64] >> (index % 64);
      if (rest == 0) {
        distance += 64 - index % 64;
        continue;
      }
      distance += static_cast<std::size_t>(std::countr_zero(rest));
      const std::uint64_t when_ns = (tick_ + distance) * kTickNs;
      return when_ns <= now_ns ? 0 : static_cast<int>((when_ns - now_ns) / 1'000'000 + 1);
    }
    return -1;
  }

 private:
  static constexpr std::size_t kSlots = 1024;

  template <class Fire>
  void visit(std::size_t index, std::uint64_t now_ns, Fire&& fire) {
    Timer& slot = slots_[index];
    occupied_[index / 64] &= ~(std::uint64_t{1} << (index % 64));
    if (slot.next == &slot) return;
    Timer due;  // detached first: a callback may arm timers into this very slot
    due.next = slot.next;
    due.previous = slot.previous;
    due.next->previous = due.previous->next = &due;
    slot.next = slot.previous = &slot;
    while (due.next != &due) {
      Timer& timer = *due.next;
      const std::uint64_t when_ns = timer.when_ns;
      disarm(timer);
      if (when_ns <= now_ns) {
        fire(timer);
      } else {
        arm(timer, when_ns);
      }
    }
  }

  std::array<Timer, kSlots> slots_{};
  std::array<std::uint64_t, kSlots / 64> occupied_{};
  std::uint64_t tick_;
};

}  // namespace penstock::dataplane
