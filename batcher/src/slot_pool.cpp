#include "slot_pool.hpp"

#include <bit>
#include <cstddef>

namespace penstock::batcher {

SlotPool::SlotPool(std::uint32_t slots) : free_((slots + 63) / 64, ~std::uint64_t{0}) {
  if (slots % 64 != 0) free_.back() = (std::uint64_t{1} << (slots % 64)) - 1;
}

std::optional<std::uint32_t> SlotPool::acquire(std::uint32_t most) noexcept {
  const std::scoped_lock lock(mutex_);
  if (taken_ >= most) return std::nullopt;
  for (std::size_t tried = 0; tried < free_.size(); ++tried) {
    std::uint64_t& word = free_[next_word_];
    if (word != 0) {
      const int position = std::countr_zero(word);
      word &= word - 1;
      ++taken_;
      return static_cast<std::uint32_t>(next_word_ * 64 + static_cast<std::size_t>(position));
    }
    next_word_ = (next_word_ + 1) % free_.size();
  }
  return std::nullopt;
}

void SlotPool::release(std::uint32_t slot) noexcept {
  const std::scoped_lock lock(mutex_);
  if (slot / 64 >= free_.size()) return;
  free_[slot / 64] |= std::uint64_t{1} << (slot % 64);
  --taken_;
}

}  // namespace penstock::batcher
