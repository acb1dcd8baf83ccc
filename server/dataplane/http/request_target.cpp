#include "http/request_target.hpp"

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

// Every '%' must begin two hexadecimal digits: who decodes later must not have to guess.
bool escapes_are_whole(std::string_view text) noexcept {
  for (std::size_t i = text.find('%'); i != std::string_view::npos; i = text.find('%', i + 1)) {
    if (i + 2 >= text.size() || !is_in(text[i + 1], kHexDigit) || !is_in(text[i + 2], kHexDigit)) return false;
  }
  return true;
}

bool refuse(Problem& problem, const char* detail) noexcept {
  problem.set(ProblemCode::kMalformedRequest, "%s", detail);
  return false;
}

void split_query(std::string_view text, RequestHead& head) noexcept {
  const std::size_t mark = text.find('?');
  head.path = text.substr(0, mark);
  head.query = mark == std::string_view::npos ? std::string_view{} : text.substr(mark + 1);
}

// Length of "http://" or "https://" at the start, in any case; 0 without.
std::size_t scheme_length(std::string_view target) noexcept {
  if (equals_ignoring_case(target.substr(0, 7), "http://")) return 7;
  return equals_ignoring_case(target.substr(0, 8), "https://") ? 8 : 0;
}

bool parse_absolute(std::string_view rest, RequestHead& head, Problem& problem) noexcept {
  const std::size_t slash = rest.find_first_of("/?");
  const std::string_view authority = rest.substr(0, slash);
  // No user information either: is_authority knows no '@' (RFC 9110 4.2.4 asks to treat it as an error).
  if (authority.empty() || authority.front() == ':' || !is_authority(authority)) {
    return refuse(problem, "the request target names no valid host");
  }
  head.host = authority;
  split_query(slash == std::string_view::npos ? std::string_view{} : rest.substr(slash), head);
  if (head.path.empty()) head.path = "/";
  return true;
}

}  // namespace

bool is_authority(std::string_view text) noexcept {
  std::size_t host_end = 0;
  if (!text.empty() && text.front() == '[') {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos || bracket < 2) return false;
    for (const char c : text.substr(1, bracket - 1)) {
      if (!is_in(c, kHexDigit) && c != ':' && c != '.') return false;
    }
    host_end = bracket + 1;
  } else {
    while (host_end < text.size() && is_in(text[host_end], kRegNameChar)) ++host_end;
    if (!escapes_are_whole(text.substr(0, host_end))) return false;
  }
  if (host_end == text.size()) return true;
  return text[host_end] == ':' && all_in(text.substr(host_end + 1), kDigit);
}

bool parse_target(std::string_view target, RequestHead& head, Problem& problem) noexcept {
  if (head.method_name == "CONNECT") {
    problem.set(ProblemCode::kNotImplemented, "this server is no proxy");
    return false;
  }
  if (target == "*") {
    head.path = target;
    return head.method == Method::kOptions || refuse(problem, "the request target '*' is for OPTIONS only");
  }
  // An IPv6 host in an absolute-form target is the one place where brackets are allowed: is_authority checks them.
  const std::size_t scheme = scheme_length(target);
  const std::size_t authority_end = scheme == 0 ? 0 : target.find_first_of("/?", scheme);
  const std::string_view rest =
      authority_end == std::string_view::npos ? std::string_view{} : target.substr(authority_end);
  if (!all_in(rest, kUriChar) || !escapes_are_whole(rest)) {
    return refuse(problem, "the request target holds a character that must be percent-encoded");
  }
  if (scheme != 0) return parse_absolute(target.substr(scheme), head, problem);
  if (target.front() != '/') return refuse(problem, "the request target is neither a path nor an http URI");
  split_query(target, head);
  return true;
}

}  // namespace penstock::dataplane
