// A 64-bit hash of bytes under a secret: who does not know it cannot make inputs collide.
//
// 16 bytes a multiplication, whose 128-bit product is folded: the construction of wyhash (Wang Yi,
// github.com/wangyi-fudan/wyhash, public domain). Its constants are known, and with them inputs that collide; all of
// these are drawn at start. It is no proof of equality: whoever finds a hash compares the bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock::dataplane {

class KeyedHash {
 public:
  // A secret of the kernel's random numbers. std::system_error when there are none.
  KeyedHash();

  // Bytes that continue what `seed` stands for: another hash, or any number.
  [[nodiscard]] std::uint64_t operator()(std::span<const std::byte> bytes, std::uint64_t seed) const noexcept;

 private:
  std::array<std::uint64_t, 5> secret_{};
};

}  // namespace penstock::dataplane
