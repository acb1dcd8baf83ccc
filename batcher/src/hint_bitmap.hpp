// A set of buffers "worth a look", shared between processes. A hint may be stale or repeated, and is never lost by a
// living process; whoever finds one looks at the batch word, which decides.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace penstock::batcher {

inline constexpr std::uint32_t kBuffersMax = 4096;

// 64 leaves of 64 bits under one summary word. Two steps to set: leaf, then summary; the steps are separate functions
// so that the kill tests can die between them.
class alignas(64) HintBitmap {
 public:
  void set(std::uint32_t index) noexcept {
    set_leaf(index);
    set_summary(index);
  }

  // Release: what was written about the buffer is visible to whoever pops the hint (acquire in pop()).
  void set_leaf(std::uint32_t index) noexcept {
    leaves_[index / 64].fetch_or(std::uint64_t{1} << (index % 64), std::memory_order_release);
  }

  // Sequentially consistent: the caller reads the announcement of a sleeper next, and the sleeper reads any() after it
  // announced.
  void set_summary(std::uint32_t index) noexcept {
    summary_.fetch_or(std::uint64_t{1} << (index / 64), std::memory_order_seq_cst);
  }

  // Sequentially consistent: pairs with set_summary(), see there.
  [[nodiscard]] bool any() const noexcept { return summary_.load(std::memory_order_seq_cst) != 0; }

  // Removes one hint. `dying_point()` is called between the two steps of dropping an empty leaf from the summary.
  template <typename Hook>
  [[nodiscard]] std::optional<std::uint32_t> pop(Hook dying_point) noexcept {
    // Acquire: pairs with set_summary(), so that the leaf below is at least as new.
    while (const std::uint64_t summary = summary_.load(std::memory_order_acquire)) {
      const auto leaf = static_cast<std::uint32_t>(std::countr_zero(summary));
      if (const std::optional<std::uint32_t> index = pop_leaf(leaf)) return index;
      const std::uint64_t bit = std::uint64_t{1} << leaf;
      summary_.fetch_and(~bit, std::memory_order_acq_rel);  // acquire: sees the leaves of all set_summary() it undoes
      dying_point();
      // Somebody set the leaf before we cleared its summary: his bit is gone, so put it back.
      if (leaves_[leaf].load(std::memory_order_acquire) != 0) summary_.fetch_or(bit, std::memory_order_acq_rel);
    }
    return std::nullopt;
  }

  [[nodiscard]] std::optional<std::uint32_t> pop() noexcept {
    return pop([] {});
  }

 private:
  std::optional<std::uint32_t> pop_leaf(std::uint32_t leaf) noexcept {
    std::uint64_t bits = leaves_[leaf].load(std::memory_order_relaxed);  // only a guess: fetch_and below decides
    while (bits != 0) {
      const int position = std::countr_zero(bits);
      const std::uint64_t bit = std::uint64_t{1} << position;
      // Acquire: pairs with set_leaf().
      const std::uint64_t before = leaves_[leaf].fetch_and(~bit, std::memory_order_acq_rel);
      if ((before & bit) != 0) return leaf * 64 + static_cast<std::uint32_t>(position);
      bits = before & ~bit;
    }
    return std::nullopt;
  }

  std::atomic<std::uint64_t> summary_{0};
  std::array<std::atomic<std::uint64_t>, 7> same_line_unused_{};
  std::array<std::atomic<std::uint64_t>, kBuffersMax / 64> leaves_{};
};
static_assert(sizeof(HintBitmap) == 64 + kBuffersMax / 8);

}  // namespace penstock::batcher
