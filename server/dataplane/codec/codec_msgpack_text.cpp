#include "codec/codec_msgpack_text.hpp"

#include <array>
#include <bit>
#include <limits>
#include <type_traits>

#include "codec/codec_utf8.hpp"

namespace penstock::dataplane {

bool MsgpackText::refuse_at(const char* where, const char* expected) noexcept {
  problem.set(ProblemCode::kMalformedBody, "msgpack byte %zu: expected %s", static_cast<std::size_t>(where - begin),
              expected);
  return false;
}

template <typename Unsigned>
bool MsgpackText::take_unsigned(MsgpackToken& token) noexcept {
  Unsigned value = 0;
  if (!take(value)) return false;
  token.kind = MsgpackKind::kUnsigned;
  token.number = value;
  return true;
}

template <typename Unsigned>
bool MsgpackText::take_signed(MsgpackToken& token) noexcept {
  Unsigned value = 0;
  if (!take(value)) return false;
  constexpr unsigned kShift = 64 - 8 * sizeof(Unsigned);
  const std::int64_t number = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) << kShift) >> kShift;
  token.kind = number < 0 ? MsgpackKind::kNegative : MsgpackKind::kUnsigned;
  token.negative = number;
  token.number = static_cast<std::uint64_t>(number);
  return true;
}

bool MsgpackText::take_span(MsgpackToken& token, MsgpackKind kind, std::uint64_t bytes) noexcept {
  if (bytes > static_cast<std::uint64_t>(end - at)) return false;
  token.kind = kind;
  token.bytes = {at, static_cast<std::size_t>(bytes)};
  at += bytes;
  return true;
}

bool MsgpackText::take_count(MsgpackToken& token, MsgpackKind kind, std::uint64_t count) const noexcept {
  const std::uint64_t objects = kind == MsgpackKind::kMap ? 2 * count : count;
  if (objects > static_cast<std::uint64_t>(end - at)) return false;
  token.kind = kind;
  token.number = count;
  return true;
}

template <typename Unsigned>
bool MsgpackText::take_bytes(MsgpackToken& token, MsgpackKind kind) noexcept {
  Unsigned bytes = 0;
  return take(bytes) && take_span(token, kind, bytes);
}

template <typename Unsigned>
bool MsgpackText::take_head(MsgpackToken& token, MsgpackKind kind) noexcept {
  Unsigned count = 0;
  return take(count) && take_count(token, kind, count);
}

// The markers from 0xc0 to 0xdf; their table is the specification's.
bool MsgpackText::take_marked(std::uint8_t marker, MsgpackToken& token) noexcept {
  switch (marker) {
    case 0xc0:
      token.kind = MsgpackKind::kNil;
      return true;
    case 0xc2:
    case 0xc3:
      token.kind = MsgpackKind::kBool;
      token.number = marker & 1U;
      return true;
    case 0xc4:
      return take_bytes<std::uint8_t>(token, MsgpackKind::kBinary);
    case 0xc5:
      return take_bytes<std::uint16_t>(token, MsgpackKind::kBinary);
    case 0xc6:
      return take_bytes<std::uint32_t>(token, MsgpackKind::kBinary);
    case 0xca: {
      std::uint32_t bits = 0;
      token.kind = MsgpackKind::kFloat32;
      if (!take(bits)) return false;
      token.real = static_cast<double>(std::bit_cast<float>(bits));
      return true;
    }
    case 0xcb: {
      std::uint64_t bits = 0;
      token.kind = MsgpackKind::kFloat64;
      if (!take(bits)) return false;
      token.real = std::bit_cast<double>(bits);
      return true;
    }
    case 0xcc:
      return take_unsigned<std::uint8_t>(token);
    case 0xcd:
      return take_unsigned<std::uint16_t>(token);
    case 0xce:
      return take_unsigned<std::uint32_t>(token);
    case 0xcf:
      return take_unsigned<std::uint64_t>(token);
    case 0xd0:
      return take_signed<std::uint8_t>(token);
    case 0xd1:
      return take_signed<std::uint16_t>(token);
    case 0xd2:
      return take_signed<std::uint32_t>(token);
    case 0xd3:
      return take_signed<std::uint64_t>(token);
    case 0xd9:
      return take_bytes<std::uint8_t>(token, MsgpackKind::kString);
    case 0xda:
      return take_bytes<std::uint16_t>(token, MsgpackKind::kString);
    case 0xdb:
      return take_bytes<std::uint32_t>(token, MsgpackKind::kString);
    case 0xdc:
      return take_head<std::uint16_t>(token, MsgpackKind::kArray);
    case 0xdd:
      return take_head<std::uint32_t>(token, MsgpackKind::kArray);
    case 0xde:
      return take_head<std::uint16_t>(token, MsgpackKind::kMap);
    case 0xdf:
      return take_head<std::uint32_t>(token, MsgpackKind::kMap);
    default:  // extensions, of fixed and of declared length; their payload is never looked at
      token.kind = MsgpackKind::kExtension;
      return marker != 0xc1;
  }
}

bool MsgpackText::next(MsgpackToken& token) noexcept {
  const char* const start = at;
  if (at == end) return refuse_at(at, "an object, and the body ends");
  const auto marker = static_cast<std::uint8_t>(*at++);
  bool complete = true;
  if (marker < 0x80) {
    token.kind = MsgpackKind::kUnsigned;
    token.number = marker;
  } else if (marker < 0x90) {
    complete = take_count(token, MsgpackKind::kMap, marker & 0x0FU);
  } else if (marker < 0xa0) {
    complete = take_count(token, MsgpackKind::kArray, marker & 0x0FU);
  } else if (marker < 0xc0) {
    complete = take_span(token, MsgpackKind::kString, marker & 0x1FU);
  } else if (marker >= 0xe0) {
    token.kind = MsgpackKind::kNegative;
    token.negative = static_cast<std::int64_t>(marker) - 256;
  } else {
    complete = take_marked(marker, token);
  }
  if (complete) return true;
  if (marker == 0xc1) return refuse_at(start, "an object; 0xc1 begins none");
  return refuse_at(start, "an object of the declared length, and the body ends");
}

bool MsgpackText::skip_value() noexcept {
  std::array<std::uint64_t, kNestingMax> pending;  // objects that each open array or map still needs
  std::size_t depth = 0;
  for (;;) {
    const char* const start = at;
    MsgpackToken token;
    if (!next(token)) return false;
    if (token.kind == MsgpackKind::kExtension) return refuse_at(start, "no extension type");
    const bool is_map = token.kind == MsgpackKind::kMap;
    const std::uint64_t children = is_map ? 2 * token.number : token.kind == MsgpackKind::kArray ? token.number : 0;
    if (children != 0) {
      if (depth == kNestingMax) return refuse_at(start, "no deeper nesting than 64");
      pending[depth++] = children;
      continue;
    }
    while (depth != 0 && --pending[depth - 1] == 0) --depth;
    if (depth == 0) return true;
  }
}

bool MsgpackText::read_name(std::string_view& out) noexcept {
  const char* const start = at;
  MsgpackToken token;
  if (!next(token)) return false;
  if (token.kind != MsgpackKind::kString) return refuse_at(start, "a string as the key of a map");
  if (!is_utf8(token.bytes)) return refuse_at(start, "UTF-8 in a string");
  out = token.bytes;
  return true;
}

const char* describe(const MsgpackToken& token) noexcept {
  switch (token.kind) {
    case MsgpackKind::kNil:
      return "nil";
    case MsgpackKind::kBool:
      return token.number != 0 ? "true" : "false";
    case MsgpackKind::kUnsigned:
    case MsgpackKind::kNegative:
      return "an integer";
    case MsgpackKind::kFloat32:
    case MsgpackKind::kFloat64:
      return "a float";
    case MsgpackKind::kString:
      return "a string";
    case MsgpackKind::kBinary:
      return "a bin";
    case MsgpackKind::kArray:
      return "an array";
    case MsgpackKind::kMap:
      return "a map";
    case MsgpackKind::kExtension:
      return "an extension type";
  }
  return "";
}

}  // namespace penstock::dataplane
