#include "engine/trace_state.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kSimpleKeyMax = 256;
constexpr std::size_t kTenantMax = 241;
constexpr std::size_t kSystemMax = 14;
constexpr std::size_t kValueMax = 256;

bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

bool is_key_rest(std::string_view text) noexcept {
  return std::ranges::all_of(
      text, [](char c) { return is_lower(c) || is_digit(c) || c == '_' || c == '-' || c == '*' || c == '/'; });
}

// One word, or a tenant and a system with @ between them.
bool is_key(std::string_view key) noexcept {
  if (key.empty()) return false;
  const std::size_t at = key.find('@');
  if (at == std::string_view::npos) return key.size() <= kSimpleKeyMax && is_lower(key[0]) && is_key_rest(key);
  const std::string_view tenant = key.substr(0, at);
  const std::string_view system = key.substr(at + 1);
  return !tenant.empty() && tenant.size() <= kTenantMax && is_key_rest(tenant) &&
         (is_lower(tenant[0]) || is_digit(tenant[0])) && !system.empty() && system.size() <= kSystemMax &&
         is_lower(system[0]) && is_key_rest(system);
}

bool is_value(std::string_view value) noexcept {
  return !value.empty() && value.size() <= kValueMax && value.back() != ' ' &&
         std::ranges::all_of(value, [](char c) { return c >= 0x20 && c <= 0x7e && c != ',' && c != '='; });
}

}  // namespace

void read_trace_state(std::string_view text, std::string& out) {
  out.clear();
  std::array<std::string_view, kTraceStateMembersMax> keys;
  std::size_t members = 0;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view member = trim_blanks(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (member.empty()) continue;
    const std::size_t equals = std::min(member.find('='), member.size());
    const std::string_view key = member.substr(0, equals);
    const std::span<const std::string_view> before(keys.data(), members);
    if (members == keys.size() || !is_key(key) || !is_value(member.substr(std::min(equals + 1, member.size()))) ||
        std::ranges::find(before, key) != before.end()) {
      out.clear();
      return;
    }
    keys[members++] = key;
    if (!out.empty()) out.push_back(',');
    out.append(member);
  }
}

}  // namespace penstock::dataplane
