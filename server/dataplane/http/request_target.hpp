// The target of a request line (RFC 9112 3.2) and the authority in a Host field (RFC 9110 7.2).
#pragma once

#include <string_view>

#include "http/http_parser.hpp"

namespace penstock::dataplane {

// Fills `head.path` and `head.query`, and `head.host` from an absolute-form target; `head.method` and
// `head.method_name` must be set. Accepts origin-form, absolute-form with http or https, and "*" for OPTIONS. False:
// `problem` is set.
[[nodiscard]] bool parse_target(std::string_view target, RequestHead& head, Problem& problem) noexcept;

// uri-host [ ":" port ], or nothing.
[[nodiscard]] bool is_authority(std::string_view text) noexcept;

}  // namespace penstock::dataplane
