#include "engine/keyed_hash.hpp"

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace penstock::dataplane {
namespace {

constexpr std::size_t kLanes = 4;  // independent multiplications, so that one need not wait for the other
constexpr std::size_t kStepBytes = 16;

std::uint64_t fold(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t word(const std::byte* at) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

KeyedHash::KeyedHash() {
  for (;;) {
    const ssize_t bytes = ::getrandom(secret_.data(), sizeof(secret_), 0);
    if (bytes == static_cast<ssize_t>(sizeof(secret_))) return;
    if (bytes < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "getrandom");
  }
}

std::uint64_t KeyedHash::operator()(std::span<const std::byte> bytes, std::uint64_t seed) const noexcept {
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  std::array<std::uint64_t, kLanes> lanes;
  lanes.fill(seed ^ secret_[kLanes]);
  for (; left >= kLanes * kStepBytes; left -= kLanes * kStepBytes, at += kLanes * kStepBytes) {
    for (std::size_t i = 0; i < kLanes; ++i)
      lanes[i] = fold(word(at + i * kStepBytes) ^ secret_[i], word(at + i * kStepBytes + 8) ^ lanes[i]);
  }
  for (std::size_t i = 0; left >= kStepBytes; ++i, left -= kStepBytes, at += kStepBytes)
    lanes[i] = fold(word(at) ^ secret_[i], word(at + 8) ^ lanes[i]);
  if (left > 0) {
    std::array<std::byte, kStepBytes> tail{};
    std::memcpy(tail.data(), at, left);
    lanes[kLanes - 1] = fold(word(tail.data()) ^ secret_[0], word(tail.data() + 8) ^ lanes[kLanes - 1]);
  }
  // The length tells a tail from one with zeros behind it.
  const std::uint64_t first = fold(lanes[0] ^ secret_[1], lanes[1] ^ bytes.size());
  const std::uint64_t second = fold(lanes[2] ^ secret_[2], lanes[3] ^ secret_[3]);
  return fold(first ^ secret_[kLanes], second ^ secret_[0]);
}

}  // namespace penstock::dataplane
