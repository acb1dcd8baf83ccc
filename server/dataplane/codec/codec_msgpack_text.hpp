// A cursor over msgpack objects (https://github.com/msgpack/msgpack/blob/master/spec.md).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "codec/codec_request.hpp"

namespace penstock::dataplane {

[[nodiscard]] inline std::uint16_t swap_bytes(std::uint16_t value) noexcept { return __builtin_bswap16(value); }
[[nodiscard]] inline std::uint32_t swap_bytes(std::uint32_t value) noexcept { return __builtin_bswap32(value); }
[[nodiscard]] inline std::uint64_t swap_bytes(std::uint64_t value) noexcept { return __builtin_bswap64(value); }
[[nodiscard]] inline std::uint8_t swap_bytes(std::uint8_t value) noexcept { return value; }

enum class MsgpackKind : std::uint8_t {
  kNil,
  kBool,
  kUnsigned,
  kNegative,
  kFloat32,
  kFloat64,
  kString,
  kBinary,
  kArray,
  kMap,
  kExtension,
};

// One object, or the head of an array or a map.
struct MsgpackToken {
  MsgpackKind kind = MsgpackKind::kNil;
  std::uint64_t number = 0;  // kBool, kUnsigned: the value; kArray, kMap: elements or pairs
  std::int64_t negative = 0;
  double real = 0;
  std::string_view bytes;  // kString, kBinary
};

// Functions that return bool set `problem` when they return false.
struct MsgpackText {
  const char* begin;
  const char* at;
  const char* end;
  Problem& problem;

  MsgpackText(std::string_view text, Problem& problem_of_text) noexcept
      : begin(text.data()), at(text.data()), end(text.data() + text.size()), problem(problem_of_text) {}

  // The next token. Every declared length has been compared with what is left of the body: an array of n elements has
  // at least n bytes behind its head.
  [[nodiscard]] bool next(MsgpackToken& token) noexcept;

  // Moves behind the next object, whatever it holds.
  [[nodiscard]] bool skip_value() noexcept;

  // A map's key. False: not a string, or not UTF-8.
  [[nodiscard]] bool read_name(std::string_view& out) noexcept;

  [[gnu::cold]] bool refuse_at(const char* where, const char* expected) noexcept;

 private:
  template <typename T>
  [[nodiscard]] bool take(T& value) noexcept {
    if (static_cast<std::size_t>(end - at) < sizeof(T)) return false;
    std::memcpy(&value, at, sizeof(T));
    value = swap_bytes(value);
    at += sizeof(T);
    return true;
  }
  template <typename Unsigned>
  [[nodiscard]] bool take_unsigned(MsgpackToken& token) noexcept;
  template <typename Unsigned>
  [[nodiscard]] bool take_signed(MsgpackToken& token) noexcept;
  template <typename Unsigned>
  [[nodiscard]] bool take_bytes(MsgpackToken& token, MsgpackKind kind) noexcept;
  template <typename Unsigned>
  [[nodiscard]] bool take_head(MsgpackToken& token, MsgpackKind kind) noexcept;
  [[nodiscard]] bool take_span(MsgpackToken& token, MsgpackKind kind, std::uint64_t bytes) noexcept;
  [[nodiscard]] bool take_count(MsgpackToken& token, MsgpackKind kind, std::uint64_t count) const noexcept;
  [[nodiscard]] bool take_marked(std::uint8_t marker, MsgpackToken& token) noexcept;
};

// "an array", "a string", ... for messages.
[[nodiscard]] const char* describe(const MsgpackToken& token) noexcept;

}  // namespace penstock::dataplane
