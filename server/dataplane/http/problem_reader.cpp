#include "http/problem_reader.hpp"

#include <algorithm>

namespace penstock::dataplane {
namespace {

// What stands behind `"name":` and perhaps a blank, up to the quote that ends it. Inside a string its quotes would be
// escaped, so a name is found where it is one.
std::string_view text_behind(std::string_view body, std::string_view name) noexcept {
  for (std::size_t at = body.find(name); at != std::string_view::npos; at = body.find(name, at + 1)) {
    if (at == 0 || body[at - 1] != '"') continue;
    std::string_view rest = body.substr(at + name.size());
    if (!rest.starts_with("\":")) continue;
    rest.remove_prefix(2);
    if (rest.starts_with(' ')) rest.remove_prefix(1);
    if (!rest.starts_with('"')) continue;
    rest.remove_prefix(1);
    for (std::size_t end = 0; end < rest.size(); ++end) {
      if (rest[end] == '"') return rest.substr(0, end);
      if (rest[end] == '\\') ++end;
    }
  }
  return {};
}

std::string_view unescape(std::string_view text, std::span<char> memory) noexcept {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < text.size() && bytes < memory.size(); ++i) {
    char c = text[i];
    if (c == '\\' && i + 1 < text.size()) {
      c = text[++i];
      if (c == 'u') {
        i = std::min(i + 4, text.size());
        c = '?';
      } else if (c == 'n' || c == 't' || c == 'r' || c == 'b' || c == 'f') {
        c = ' ';
      }
    }
    memory[bytes++] = c;
  }
  return {memory.data(), bytes};
}

}  // namespace

ReadProblem read_problem(std::string_view body, std::span<char> memory) noexcept {
  ReadProblem read;
  read.code = problem_named(text_behind(body, "code"));
  read.detail = unescape(text_behind(body, "detail"), memory);
  return read;
}

}  // namespace penstock::dataplane
