// Protobuf's wire format, read field by field (https://protobuf.dev/programming-guides/encoding). Nothing here
// allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace penstock::dataplane {

enum class ProtoWire : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct ProtoField {
  std::uint32_t number = 0;
  ProtoWire wire = ProtoWire::kVarint;
  std::uint64_t value = 0;  // of the numeric kinds
  std::string_view bytes;   // kBytes: in the message

  [[nodiscard]] bool is_bytes(std::uint32_t wanted) const noexcept {
    return number == wanted && wire == ProtoWire::kBytes;
  }
  [[nodiscard]] bool is_varint(std::uint32_t wanted) const noexcept {
    return number == wanted && wire == ProtoWire::kVarint;
  }
};

// Goes over the fields of a message. Nothing outside the message is read, whatever it says of its lengths. Groups,
// which proto3 does not have, are malformed.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) noexcept
      : at_(message.data()), end_(message.data() + message.size()) {}

  // False: the message has ended, or it is malformed.
  [[nodiscard]] bool next(ProtoField& field) noexcept {
    std::uint64_t tag = 0;
    if (at_ == end_ || !read_varint(tag)) return false;
    field.number = static_cast<std::uint32_t>(tag >> 3);
    field.wire = static_cast<ProtoWire>(tag & 7);
    if (field.number == 0 || tag >> 32 != 0) return fail();
    switch (field.wire) {
      case ProtoWire::kVarint:
        return read_varint(field.value);
      case ProtoWire::kFixed64:
        return read_fixed(8, field.value);
      case ProtoWire::kFixed32:
        return read_fixed(4, field.value);
      case ProtoWire::kBytes:
        break;
      default:
        return fail();
    }
    std::uint64_t bytes = 0;
    if (!read_varint(bytes)) return false;
    if (bytes > left()) return fail();
    field.bytes = {at_, static_cast<std::size_t>(bytes)};
    at_ += bytes;
    return true;
  }

  // One value of a packed list.
  [[nodiscard]] bool read_varint(std::uint64_t& value) noexcept {
    value = 0;
    for (unsigned shift = 0; at_ != end_ && shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(*at_++);
      if (shift == 63 && byte > 1) return fail();
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) return true;
    }
    return fail();
  }

  [[nodiscard]] bool at_end() const noexcept { return at_ == end_; }
  [[nodiscard]] bool is_malformed() const noexcept { return malformed_; }

 private:
  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

  [[nodiscard]] bool fail() noexcept {
    malformed_ = true;
    at_ = end_;
    return false;
  }

  [[nodiscard]] bool read_fixed(std::size_t bytes, std::uint64_t& value) noexcept {
    if (left() < bytes) return fail();
    value = 0;
    std::memcpy(&value, at_, bytes);  // little-endian, as we are
    at_ += bytes;
    return true;
  }

  const char* at_;
  const char* end_;
  bool malformed_ = false;
};

}  // namespace penstock::dataplane
