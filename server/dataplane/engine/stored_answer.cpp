// How answers lie in the second level. Anybody may have written there: nothing is believed that is not checked.
#include <algorithm>
#include <cstring>

#include "engine/second_level.hpp"
#include "http/sha256.hpp"

namespace penstock::dataplane {
namespace {

// Of the layout of names and values. Another one is another name.
constexpr std::string_view kPrefix = "penstock:1:";
constexpr std::string_view kMagic = "PSK1";
constexpr std::size_t kHeadBytes = 16;  // magic, bytes of the outputs, milliseconds since 1970
constexpr std::size_t kFingerprintBytesNamed = 8;

std::string_view text_of(const std::byte* bytes, std::size_t count) noexcept {
  return {reinterpret_cast<const char*>(bytes), count};
}

template <class Number>
void append(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void append_hex(std::string& out, std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const std::uint8_t byte : bytes) {
    out += kHex[byte >> 4];
    out += kHex[byte & 0xFU];
  }
}

// Over the name as well: a value that lies under another name is none.
Sha256 checksum_of(std::string_view name, std::string_view head, std::string_view outputs) {
  std::string all;
  all.reserve(name.size() + head.size() + outputs.size());
  all.append(name).append(head).append(outputs);
  return sha256(all);
}

}  // namespace

std::string stored_name(const CachedRow& row) {
  const CacheAccount& account = row.account();
  std::string key(reinterpret_cast<const char*>(account.fingerprint.data()), account.fingerprint.size());
  append(key, row.length());
  append(key, static_cast<std::uint8_t>(row.is_reproducible()));
  key.append(text_of(row.inputs(), row.input_bytes()));
  std::string name(kPrefix);
  append_hex(name, std::span(account.fingerprint).first(kFingerprintBytesNamed));
  name += ':';
  append_hex(name, sha256(key));
  return name;
}

std::size_t stored_bytes(const CachedRow& row) noexcept { return kHeadBytes + sizeof(Sha256) + row.output_bytes(); }

std::string stored_value(std::string_view name, const CachedRow& row, std::uint64_t unix_ms) {
  const std::string_view outputs = text_of(row.outputs(), row.output_bytes());
  std::string value(kMagic);
  append(value, static_cast<std::uint32_t>(outputs.size()));
  append(value, unix_ms);
  const Sha256 checksum = checksum_of(name, value, outputs);
  value.append(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  value.append(outputs);
  return value;
}

bool read_stored(std::string_view name, std::string_view value, CachedRow& row, std::uint64_t& unix_ms) {
  if (value.size() != stored_bytes(row) || !value.starts_with(kMagic)) return false;
  std::uint32_t bytes = 0;
  std::memcpy(&bytes, value.data() + kMagic.size(), sizeof bytes);
  std::memcpy(&unix_ms, value.data() + kMagic.size() + sizeof bytes, sizeof unix_ms);
  const std::string_view outputs = value.substr(kHeadBytes + sizeof(Sha256));
  const Sha256 checksum = checksum_of(name, value.substr(0, kHeadBytes), outputs);
  if (bytes != outputs.size() || std::memcmp(checksum.data(), value.data() + kHeadBytes, checksum.size()) != 0)
    return false;
  if (!outputs.empty()) std::memcpy(row.outputs(), outputs.data(), outputs.size());
  return true;
}

}  // namespace penstock::dataplane
