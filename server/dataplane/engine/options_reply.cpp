#include "engine/options_reply.hpp"

#include <array>

#include "engine/routing.hpp"

namespace penstock::dataplane {
namespace {

bool is_preflight(const RequestHead& head) noexcept { return !head.origin.empty() && !head.asked_method.empty(); }

}  // namespace

std::string_view allowed_methods(std::string_view path) noexcept {
  std::array<char, kRouteNamesBytes> names;
  const RouteTarget target = find_route(path, names);
  if (target.route == Route::kControl) return {};
  return target.is_prediction() ? "OPTIONS, POST" : "GET, HEAD, OPTIONS";
}

bool answer_options(HttpSession& session, Connection& connection, Pending& pending, const RequestHead& head) {
  const bool granted = pending.cors != nullptr && CorsTable::allows(*pending.cors) && is_preflight(head);
  const std::string_view allow = allowed_methods(head.path);
  // A preflight that nothing is granted is an OPTIONS like any other: without the fields the browser knows.
  if (!granted && allow.empty()) return false;
  ResponseOptions options = session.response_options(pending);
  options.allow = allow;
  if (granted) options.cors = pending.cors->preflight;
  session.reply_without_body(connection, pending, 204, options);
  return true;
}

}  // namespace penstock::dataplane
