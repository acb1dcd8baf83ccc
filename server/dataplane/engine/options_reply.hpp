// OPTIONS: what a route takes, and whether a page of another origin may ask it (a CORS preflight).
#pragma once

#include <string_view>

#include "engine/http_session.hpp"

namespace penstock::dataplane {

// The value of Allow for a route that the data plane answers itself; empty for all others.
[[nodiscard]] std::string_view allowed_methods(std::string_view path) noexcept;

// Answers a preflight for every route, without a key: browsers send none with it. Answers any other OPTIONS for the
// data plane's own routes. False: the control plane knows.
[[nodiscard]] bool answer_options(HttpSession& session, Connection& connection, Pending& pending,
                                  const RequestHead& head);

}  // namespace penstock::dataplane
