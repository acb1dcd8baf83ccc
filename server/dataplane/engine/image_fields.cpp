#include "engine/image_fields.hpp"

#include <algorithm>
#include <array>

#include "http/ascii.hpp"
#include "http/media_type.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::string_view kName = "\"base64\"";
constexpr std::string_view kBlanks = " \t\r\n";
// Of the files' first bytes. A JPEG's slash may be escaped.
constexpr std::array<std::string_view, 6> kBeginnings{"iVBORw0KGgo", "/9j/", "\\/9j\\/", "UklGR", "Qk", "R0lGOD"};

// The same as bytes.
constexpr std::array<std::string_view, 5> kFileBeginnings{"\x89PNG\r\n\x1a\n", "\xff\xd8\xff", "RIFF", "BM", "GIF8"};

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

// A string behind the name that ends here.
bool begins_as_string(std::string_view text) noexcept {
  text = skip_blanks(text);
  if (!text.starts_with(':')) return false;
  return skip_blanks(text.substr(1)).starts_with('"');
}

// A string of msgpack, or binary data that begin as files do.
bool begins_as_packed_image(std::string_view text) noexcept {
  if (text.empty()) return false;
  const auto head = static_cast<unsigned char>(text.front());
  if ((head & 0xE0U) == 0xA0U || (head >= 0xD9 && head <= 0xDB)) return true;
  if (head < 0xC4 || head > 0xC6) return false;
  const std::size_t length_bytes = std::size_t{1} << (head - 0xC4U);
  if (text.size() < 1 + length_bytes) return false;
  text.remove_prefix(1 + length_bytes);
  return std::ranges::any_of(kFileBeginnings,
                             [text](std::string_view beginning) { return text.starts_with(beginning); });
}

template <class Begins>
bool follows(std::string_view body, std::string_view name, std::string_view quote, Begins&& begins) noexcept {
  for (std::size_t at = body.find(name); at != body.npos; at = body.find(name, at + 1)) {
    const std::string_view behind = body.substr(at + name.size());
    if (behind.starts_with(quote) && begins(behind.substr(quote.size()))) return true;
  }
  return false;
}

}  // namespace

bool holds_images(const RequestHead& head, std::string_view body, const std::vector<std::string>& pictures) noexcept {
  const MediaType type = parse_content_type(head.content_type);
  if (type == MediaType::kMsgpack) {
    return std::ranges::any_of(
        pictures, [body](const std::string& name) { return follows(body, name, "", begins_as_packed_image); });
  }
  if (type != MediaType::kJson && type != MediaType::kAbsent) return false;
  return follows(body, kName, "", begins_as_image) || std::ranges::any_of(pictures, [body](const std::string& name) {
           return follows(body, name, "\"", begins_as_string);
         });
}

}  // namespace penstock::dataplane
