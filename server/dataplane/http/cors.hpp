// Cross-origin resource sharing (Fetch standard, 3.2): which web pages may read the server's replies. Credentials of a
// browser (cookies, client certificates) are never allowed, so the wildcard grants no more than anybody has who can
// reach the server; a key is a field that a page must have been given.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::dataplane {

inline constexpr std::size_t kOriginBytesMax = 100;

inline constexpr std::size_t kCorsBytesMax = 512;

// What replies carry for the sake of one origin: field lines, CRLF each, at most kCorsBytesMax bytes.
struct CorsGrant {
  std::string fields;
  std::string
      preflight;  // these and what the reply to a preflight has besides; empty: the page is not allowed anything
};

// Made once, then read by any thread. Grants live as long as the table.
class CorsTable {
 public:
  // Nobody is allowed anything, and no reply says so.
  CorsTable() = default;
  // `origins` as browsers write them ("https://app.example:8443"), or "*" for everybody. std::invalid_argument for
  // anything else.
  explicit CorsTable(const std::vector<std::string>& origins);

  [[nodiscard]] bool enabled() const noexcept { return enabled_; }
  // What the reply to a request with this Origin carries; empty: it has none. Null when the table is not enabled.
  [[nodiscard]] const CorsGrant* find(std::string_view origin) const noexcept;
  // Whether a grant of this table lets the page read the reply.
  [[nodiscard]] static bool allows(const CorsGrant& grant) noexcept { return !grant.preflight.empty(); }

 private:
  struct Entry {
    std::string origin;
    CorsGrant grant;
  };
  bool enabled_ = false;
  std::vector<Entry> entries_;  // a handful: looked through
  CorsGrant others_;            // for whoever is not among them
};

}  // namespace penstock::dataplane
