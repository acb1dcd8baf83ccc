#include "http/query.hpp"

#include <cstddef>

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

// Decodes `text` into the front of `scratch`, which shrinks by what was used; text without escapes is left where it is.
bool decode(std::string_view& text, std::span<char>& scratch, Problem& problem) noexcept {
  if (text.find_first_of("%+") == std::string_view::npos) return true;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (bytes == scratch.size()) {
      problem.set(ProblemCode::kUriTooLong, "the query string is too long");
      return false;
    }
    char c = text[i] == '+' ? ' ' : text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || !is_in(text[i + 1], kHexDigit) || !is_in(text[i + 2], kHexDigit)) {
        problem.set(ProblemCode::kMalformedRequest,
                    "the query string has a '%%' that is not followed by two hexadecimal digits");
        return false;
      }
      c = static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    }
    scratch[bytes++] = c;
  }
  text = {scratch.data(), bytes};
  scratch = scratch.subspan(bytes);
  return true;
}

struct Slot {
  std::string_view name;
  std::string_view* value;
  bool given = false;
};

}  // namespace

bool parse_query(std::string_view query, std::span<char> scratch, QueryParams& params, Problem& problem) noexcept {
  params = {};
  if (query.empty()) return true;
  Slot slots[] = {{"model", &params.model}, {"version", &params.version}, {"output", &params.output}};
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    std::string_view name = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
    if (name.empty()) continue;
    const std::size_t equals = name.find('=');
    std::string_view value = equals == std::string_view::npos ? std::string_view{} : name.substr(equals + 1);
    name = name.substr(0, equals);
    if (!decode(name, scratch, problem) || !decode(value, scratch, problem)) return false;

    Slot* slot = nullptr;
    for (Slot& candidate : slots) {
      if (candidate.name == name) slot = &candidate;
    }
    if (slot == nullptr) {
      problem.set(ProblemCode::kMalformedRequest, "unknown query parameter '%.*s'; model, version and output are known",
                  static_cast<int>(name.size() < 64 ? name.size() : 64), name.data());
      return false;
    }
    if (slot->given) {
      problem.set(ProblemCode::kMalformedRequest, "the query parameter '%s' is given more than once",
                  slot->name.data());
      return false;
    }
    slot->given = true;
    *slot->value = value;
  }
  return true;
}

}  // namespace penstock::dataplane
