#include "penstock/kernels/hash_text.hpp"

#include <bit>
#include <cstddef>

namespace penstock {
namespace {

constexpr std::uint32_t kFirst = 0xCC9E2D51;
constexpr std::uint32_t kSecond = 0x1B873593;

[[nodiscard]] constexpr std::uint32_t scrambled(std::uint32_t word) noexcept {
  return std::rotl(word * kFirst, 15) * kSecond;
}

// Little-endian, whatever the processor is.
[[nodiscard]] std::uint32_t word_at(std::string_view text, std::size_t at, std::size_t bytes) noexcept {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < bytes; ++i) word |= std::uint32_t{static_cast<unsigned char>(text[at + i])} << (8 * i);
  return word;
}

}  // namespace

std::uint32_t hash_text(std::string_view text) noexcept {
  std::uint32_t hash = 0;
  const std::size_t whole = text.size() / 4 * 4;
  for (std::size_t at = 0; at < whole; at += 4) {
    hash = std::rotl(hash ^ scrambled(word_at(text, at, 4)), 13) * 5 + 0xE6546B64;
  }
  hash ^= scrambled(word_at(text, whole, text.size() - whole));
  hash ^= static_cast<std::uint32_t>(text.size());
  hash = (hash ^ hash >> 16) * 0x85EBCA6B;
  hash = (hash ^ hash >> 13) * 0xC2B2AE35;
  return hash ^ hash >> 16;
}

}  // namespace penstock
