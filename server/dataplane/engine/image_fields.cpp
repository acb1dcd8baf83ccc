#include "engine/image_fields.hpp"

#include <array>

#include "http/ascii.hpp"
#include "http/media_type.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::string_view kName = "\"base64\"";
constexpr std::string_view kBlanks = " \t\r\n";
// Of the files' first bytes. A JPEG's slash may be escaped.
constexpr std::array<std::string_view, 6> kBeginnings{"iVBORw0KGgo", "/9j/", "\\/9j\\/", "UklGR", "Qk", "R0lGOD"};

std::string_view skip_blanks(std::string_view text) noexcept {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  return begin == text.npos ? std::string_view() : text.substr(begin);
}

bool begins_as_image(std::string_view text) noexcept {
  text = skip_blanks(text);
  if (!text.starts_with(':')) return false;
  text = skip_blanks(text.substr(1));
  if (!text.starts_with('"')) return false;
  text.remove_prefix(1);
  for (const std::string_view beginning : kBeginnings) {
    if (text.starts_with(beginning)) return true;
  }
  return false;
}

}  // namespace

bool holds_images(const RequestHead& head, std::string_view body) noexcept {
  const MediaType type = parse_content_type(head.content_type);
  if (type != MediaType::kJson && type != MediaType::kAbsent) return false;
  for (std::size_t at = body.find(kName); at != body.npos; at = body.find(kName, at + kName.size())) {
    if (begins_as_image(body.substr(at + kName.size()))) return true;
  }
  return false;
}

}  // namespace penstock::dataplane
