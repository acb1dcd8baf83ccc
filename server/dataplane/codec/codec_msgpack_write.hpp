// msgpack objects, each in its shortest form. Every function returns the end of what it wrote.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "penstock/kernels/half.hpp"

namespace penstock::dataplane {

inline constexpr std::size_t kMsgpackHeadBytesMax = 5;

namespace msgpack_detail {

// A marker and `value` behind it, big-endian.
template <typename Unsigned>
[[nodiscard]] inline char* write_marked(std::uint8_t marker, Unsigned value, char* out) noexcept {
  *out++ = static_cast<char>(marker);
  for (int shift = static_cast<int>(sizeof(Unsigned)) * 8 - 8; shift >= 0; shift -= 8) {
    *out++ = static_cast<char>(static_cast<std::uint8_t>(value >> shift));
  }
  return out;
}

[[nodiscard]] inline char* write_unsigned(std::uint64_t value, char* out) noexcept {
  if (value < 0x80) {
    *out = static_cast<char>(value);
    return out + 1;
  }
  if (value <= 0xFF) return write_marked(0xcc, static_cast<std::uint8_t>(value), out);
  if (value <= 0xFFFF) return write_marked(0xcd, static_cast<std::uint16_t>(value), out);
  if (value <= 0xFFFFFFFF) return write_marked(0xce, static_cast<std::uint32_t>(value), out);
  return write_marked(0xcf, value, out);
}

[[nodiscard]] inline char* write_negative(std::int64_t value, char* out) noexcept {
  if (value >= -32) {
    *out = static_cast<char>(value);
    return out + 1;
  }
  if (value >= INT8_MIN) return write_marked(0xd0, static_cast<std::uint8_t>(value), out);
  if (value >= INT16_MIN) return write_marked(0xd1, static_cast<std::uint16_t>(value), out);
  if (value >= INT32_MIN) return write_marked(0xd2, static_cast<std::uint32_t>(value), out);
  return write_marked(0xd3, static_cast<std::uint64_t>(value), out);
}

}  // namespace msgpack_detail

template <typename T>
[[nodiscard]] inline char* write_msgpack(T value, char* out) noexcept {
  using namespace msgpack_detail;
  if constexpr (std::is_same_v<T, bool>) {
    *out = static_cast<char>(value ? 0xc3 : 0xc2);
    return out + 1;
  } else if constexpr (std::is_same_v<T, Half>) {
    return write_marked(0xca, std::bit_cast<std::uint32_t>(to_float(value)), out);
  } else if constexpr (std::is_same_v<T, float>) {
    return write_marked(0xca, std::bit_cast<std::uint32_t>(value), out);
  } else if constexpr (std::is_same_v<T, double>) {
    return write_marked(0xcb, std::bit_cast<std::uint64_t>(value), out);
  } else if constexpr (std::is_signed_v<T>) {
    return value < 0 ? write_negative(value, out) : write_unsigned(static_cast<std::uint64_t>(value), out);
  } else {
    return write_unsigned(value, out);
  }
}

[[nodiscard]] inline char* write_msgpack_array(std::uint32_t count, char* out) noexcept {
  if (count < 16) {
    *out = static_cast<char>(0x90U | count);
    return out + 1;
  }
  if (count <= 0xFFFF) return msgpack_detail::write_marked(0xdc, static_cast<std::uint16_t>(count), out);
  return msgpack_detail::write_marked(0xdd, count, out);
}

[[nodiscard]] inline char* write_msgpack_map(std::uint32_t count, char* out) noexcept {
  if (count < 16) {
    *out = static_cast<char>(0x80U | count);
    return out + 1;
  }
  if (count <= 0xFFFF) return msgpack_detail::write_marked(0xde, static_cast<std::uint16_t>(count), out);
  return msgpack_detail::write_marked(0xdf, count, out);
}

// Needs text.size() + kMsgpackHeadBytesMax bytes; text is shorter than 2^32.
[[nodiscard]] inline char* write_msgpack_string(std::string_view text, char* out) noexcept {
  using namespace msgpack_detail;
  if (text.size() < 32) {
    *out++ = static_cast<char>(0xa0U | text.size());
  } else if (text.size() <= 0xFF) {
    out = write_marked(0xd9, static_cast<std::uint8_t>(text.size()), out);
  } else if (text.size() <= 0xFFFF) {
    out = write_marked(0xda, static_cast<std::uint16_t>(text.size()), out);
  } else {
    out = write_marked(0xdb, static_cast<std::uint32_t>(text.size()), out);
  }
  if (!text.empty()) std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

// Needs text.size() + kMsgpackHeadBytesMax bytes; text is shorter than 2^32.
[[nodiscard]] inline char* write_msgpack_binary(std::string_view bytes, char* out) noexcept {
  using namespace msgpack_detail;
  if (bytes.size() <= 0xFF) {
    out = write_marked(0xc4, static_cast<std::uint8_t>(bytes.size()), out);
  } else if (bytes.size() <= 0xFFFF) {
    out = write_marked(0xc5, static_cast<std::uint16_t>(bytes.size()), out);
  } else {
    out = write_marked(0xc6, static_cast<std::uint32_t>(bytes.size()), out);
  }
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

}  // namespace penstock::dataplane
