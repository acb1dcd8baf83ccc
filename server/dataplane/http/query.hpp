// The query string of a predict request.
#pragma once

#include <span>
#include <string_view>

#include "http/problem.hpp"

namespace penstock::dataplane {

// Empty: absent. Views point into the query, or into the scratch when something had to be decoded.
struct QueryParams {
  std::string_view model;
  std::string_view version;
  std::string_view output;
};

// Reads "model=...&version=...&output=..." in any order: application/x-www-form-urlencoded, so "+" is a space.
// `scratch` takes what is decoded; query.size() bytes always suffice. False: `problem` is set (kMalformedRequest for an
// unknown name, a name given twice or a broken escape; kUriTooLong when the scratch is too small).
[[nodiscard]] bool parse_query(std::string_view query, std::span<char> scratch, QueryParams& params,
                               Problem& problem) noexcept;

}  // namespace penstock::dataplane
