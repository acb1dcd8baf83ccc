// Protobuf's wire format, written field by field (https://protobuf.dev/programming-guides/encoding).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "codec/proto_reader.hpp"

namespace penstock::dataplane {

inline constexpr std::size_t kVarintBytesMax = 10;

[[nodiscard]] constexpr std::size_t varint_bytes(std::uint64_t value) noexcept {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}

// One past the last byte written.
inline char* write_varint(std::uint64_t value, char* out) noexcept {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<char>(value | 0x80);
  *out++ = static_cast<char>(value);
  return out;
}

inline char* write_proto_tag(std::uint32_t field, ProtoWire wire, char* out) noexcept {
  return write_varint(std::uint64_t{field} << 3 | static_cast<std::uint64_t>(wire), out);
}

// A message that grows; memory that it took it keeps. What is empty is written, too: whether to say so is the caller's
// decision.
class ProtoWriter {
 public:
  void clear() noexcept { out_.clear(); }
  [[nodiscard]] std::string_view view() const noexcept { return out_; }

  void add_varint(std::uint32_t field, std::uint64_t value) {
    char head[2 * kVarintBytesMax];
    append(head, write_varint(value, write_proto_tag(field, ProtoWire::kVarint, head)));
  }
  void add_fixed32(std::uint32_t field, std::uint32_t value) {
    char head[kVarintBytesMax + sizeof value];
    char* const at = write_proto_tag(field, ProtoWire::kFixed32, head);
    std::memcpy(at, &value, sizeof value);  // little-endian, as we are
    append(head, at + sizeof value);
  }
  void add_fixed64(std::uint32_t field, std::uint64_t value) {
    char head[kVarintBytesMax + sizeof value];
    char* const at = write_proto_tag(field, ProtoWire::kFixed64, head);
    std::memcpy(at, &value, sizeof value);
    append(head, at + sizeof value);
  }
  void add_bytes(std::uint32_t field, std::string_view bytes) {
    open_bytes(field, bytes.size());
    out_.append(bytes);
  }
  // The head of so many bytes that are added next.
  void open_bytes(std::uint32_t field, std::size_t bytes) {
    char head[2 * kVarintBytesMax];
    append(head, write_varint(bytes, write_proto_tag(field, ProtoWire::kBytes, head)));
  }

 private:
  void append(const char* begin, const char* end) { out_.append(begin, static_cast<std::size_t>(end - begin)); }

  std::string out_;
};

}  // namespace penstock::dataplane
