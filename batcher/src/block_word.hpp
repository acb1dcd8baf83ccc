// The 64-bit word of a block: every transition is one CAS on it, so it is whole whatever process dies.
#pragma once

#include <cstdint>

namespace penstock::batcher {

// The numeric values are part of the shared-memory layout.
enum class BlockState : std::uint8_t { kOpen = 0, kTaken = 1, kQueued = 2, kDone = 3 };

inline constexpr int kRowBits = 13;
inline constexpr int kStateBits = 3;
inline constexpr int kOwnerBits = 6;
inline constexpr int kEpochBits = 6;
inline constexpr int kSequenceBits = 36;
static_assert(kRowBits + kStateBits + kOwnerBits + kEpochBits + kSequenceBits == 64);

inline constexpr std::uint32_t kRowsMax = 4096;  // of a block, and of a batch
static_assert(kRowsMax < (1u << kRowBits));
inline constexpr std::uint32_t kWorkersMax = 1u << kOwnerBits;
inline constexpr std::uint32_t kQuarantineFrom = 2;  // deaths after which a block is run row by row, in quarantine
inline constexpr std::uint32_t kEpochMax = (1u << kEpochBits) - 1;
inline constexpr std::uint64_t kSequenceMask = (std::uint64_t{1} << kSequenceBits) - 1;

struct BlockWord {
  std::uint64_t sequence = 0;  // low kSequenceBits of the block's number
  std::uint32_t epoch = 0;     // workers that died with the block
  std::uint32_t owner = 0;     // the worker that took it; meaningful in kTaken alone
  BlockState state = BlockState::kOpen;
  std::uint32_t rows = 0;

  friend bool operator==(const BlockWord&, const BlockWord&) = default;

  // `number` may be a whole block number: the word keeps its low bits.
  [[nodiscard]] bool is_of(std::uint64_t number) const noexcept { return sequence == (number & kSequenceMask); }
};

[[nodiscard]] constexpr std::uint64_t pack(const BlockWord& word) noexcept {
  std::uint64_t bits = word.sequence & kSequenceMask;
  bits = bits << kEpochBits | (word.epoch & kEpochMax);
  bits = bits << kOwnerBits | (word.owner & (kWorkersMax - 1));
  bits = bits << kStateBits | static_cast<std::uint64_t>(word.state);
  return bits << kRowBits | word.rows;
}

[[nodiscard]] constexpr BlockWord unpack(std::uint64_t bits) noexcept {
  BlockWord word;
  word.rows = static_cast<std::uint32_t>(bits & ((1u << kRowBits) - 1));
  bits >>= kRowBits;
  word.state = static_cast<BlockState>(bits & ((1u << kStateBits) - 1));
  bits >>= kStateBits;
  word.owner = static_cast<std::uint32_t>(bits & (kWorkersMax - 1));
  bits >>= kOwnerBits;
  word.epoch = static_cast<std::uint32_t>(bits & kEpochMax);
  word.sequence = bits >> kEpochBits;
  return word;
}

// Whether a word can have been written by the protocol at all, in a lane of `rows_max` rows a block.
[[nodiscard]] constexpr bool is_possible(const BlockWord& word, std::uint32_t rows_max) noexcept {
  if (word.state > BlockState::kDone || word.rows > rows_max) return false;
  return word.state == BlockState::kOpen || word.rows > 0;
}

}  // namespace penstock::batcher
