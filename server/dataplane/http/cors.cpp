#include "http/cors.hpp"

#include <algorithm>
#include <stdexcept>

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

// "*" stands for every field but Authorization, which has to be named. A page that asks again within ten minutes needs
// no second preflight; browsers keep no answer longer than two hours.
constexpr std::string_view kPreflight =
    "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
    "Access-Control-Allow-Headers: *, Authorization\r\n"
    "Access-Control-Max-Age: 600\r\n";

CorsGrant grant_to(const std::string& origin, bool varies) {
  CorsGrant grant;
  grant.fields = "Access-Control-Allow-Origin: " + origin + "\r\nAccess-Control-Expose-Headers: *\r\n" +
                 "Timing-Allow-Origin: " + origin + "\r\n" + (varies ? "Vary: Origin\r\n" : "");
  grant.preflight = grant.fields;
  grant.preflight += kPreflight;
  return grant;
}

// scheme://host[:port] without a path, in lower case: the way browsers write it, so that equal bytes are equal origins.
bool is_origin(std::string_view text) noexcept {
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos || scheme == 0 || text.size() > kOriginBytesMax) return false;
  const std::string_view host = text.substr(scheme + 3);
  return !host.empty() && std::ranges::all_of(text, [](char c) {
    return is_in(c, kDigit) || (c >= 'a' && c <= 'z') || std::string_view(".-_+:/[]").find(c) != std::string_view::npos;
  }) && host.find('/') == std::string_view::npos;
}

}  // namespace

CorsTable::CorsTable(const std::vector<std::string>& origins) : enabled_(!origins.empty()) {
  if (!enabled_) return;
  if (std::ranges::find(origins, "*") != origins.end()) {
    others_ = grant_to("*", false);
    return;
  }
  for (const std::string& origin : origins) {
    if (!is_origin(origin)) throw std::invalid_argument("not an origin such as https://app.example: " + origin);
    entries_.push_back({origin, grant_to(origin, true)});
  }
  others_.fields = "Vary: Origin\r\n";  // or a cache would give others the reply that this one got
}

const CorsGrant* CorsTable::find(std::string_view origin) const noexcept {
  if (!enabled_) return nullptr;
  if (!origin.empty()) {
    for (const Entry& entry : entries_) {
      if (entry.origin == origin) return &entry.grant;
    }
  }
  return &others_;
}

}  // namespace penstock::dataplane
