// Free slots of the arena for large rows. Hands them out in ascending order, so that neighbouring rows lie side by side
// and a worker need not gather them.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace penstock::batcher {

// Any thread. A mutex is cheap here: a slot holds more than 16 KiB, which take longer to copy than it is ever held.
class SlotPool {
 public:
  explicit SlotPool(std::uint32_t slots);

  // Nothing when `most` slots are taken already, or all.
  [[nodiscard]] std::optional<std::uint32_t> acquire(std::uint32_t most = ~std::uint32_t{0}) noexcept;
  void release(std::uint32_t slot) noexcept;

 private:
  std::mutex mutex_;
  std::vector<std::uint64_t> free_;  // a bit per slot
  std::size_t next_word_ = 0;        // where the next search starts
  std::uint32_t taken_ = 0;
};

}  // namespace penstock::batcher
