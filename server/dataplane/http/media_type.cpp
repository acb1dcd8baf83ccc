#include "http/media_type.hpp"

#include <array>
#include <cstddef>

#include "http/ascii.hpp"
#include "http/quality.hpp"

namespace penstock::dataplane {
namespace {

// The end of the first part of `text` before `separator`, not counting separators in quoted strings; npos when a quoted
// string does not end.
std::size_t find_unquoted(std::string_view text, char separator) noexcept {
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (quoted && text[i] == '\\') ++i;
    if (!quoted && text[i] == separator) return i;
  }
  return quoted ? std::string_view::npos : text.size();
}

// Takes what stands before the next `separator` off `text`, trimmed. False, and `text` empty: a quoted string does not
// end.
bool take_part(std::string_view& text, char separator, std::string_view& part) noexcept {
  const std::size_t end = find_unquoted(text, separator);
  if (end == std::string_view::npos) {
    text = {};
    return false;
  }
  part = trim_blanks(text.substr(0, end));
  text = end == text.size() ? std::string_view{} : text.substr(end + 1);
  return true;
}

struct Parameter {
  std::string_view name;
  std::string_view value;  // without the quotes of a quoted string
};

// Takes the next parameter off "; name=value; ..." whose first semicolon is gone. An empty one, as after a last
// semicolon, has no name. False: it does not parse.
bool take_parameter(std::string_view& text, Parameter& parameter) noexcept {
  std::string_view part;
  if (!take_part(text, ';', part)) return false;
  parameter = {};
  if (part.empty()) return true;
  const std::size_t equals = part.find('=');
  if (equals == std::string_view::npos || equals == 0) return false;
  parameter = {part.substr(0, equals), part.substr(equals + 1)};
  if (!all_in(parameter.name, kTokenChar)) return false;
  if (parameter.value.size() >= 2 && parameter.value.front() == '"' && parameter.value.back() == '"') {
    parameter.value = parameter.value.substr(1, parameter.value.size() - 2);
    return true;
  }
  return !parameter.value.empty() && all_in(parameter.value, kTokenChar);
}

// Every name that can be asked for and answered with, in order of preference.
constexpr std::array kFormats = std::to_array<ReplyFormat>({
    {Encoding::kJson, "application/json"},
    {Encoding::kMsgpack, "application/msgpack"},
    {Encoding::kMsgpack, "application/vnd.msgpack"},
    {Encoding::kMsgpack, "application/x-msgpack"},
    {Encoding::kRaw, "application/octet-stream"},
});

// How exactly a media range names a format: 0 not at all.
int exactness_of(std::string_view range, std::string_view format) noexcept {
  if (equals_ignoring_case(range, format)) return 3;
  if (equals_ignoring_case(range, "application/*")) return 2;
  return range == "*/*" || range == "*" ? 1 : 0;
}

struct Score {
  int exactness = 0;  // of the range that decides: the most exact one
  int quality = 0;
};

using Scores = std::array<Score, kFormats.size()>;

void score_element(std::string_view element, Scores& scores) noexcept {
  std::string_view range;
  if (!take_part(element, ';', range)) return;
  int quality = 1000;
  while (!element.empty()) {
    Parameter parameter;
    if (!take_parameter(element, parameter)) return;
    if (equals_ignoring_case(parameter.name, "q")) quality = parse_quality(parameter.value);
  }
  if (quality < 0) return;
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    const int exactness = exactness_of(range, kFormats[i].content_type);
    if (exactness == 0 || exactness < scores[i].exactness) continue;
    const int known = exactness == scores[i].exactness ? scores[i].quality : 0;
    scores[i] = {exactness, known > quality ? known : quality};
  }
}

void score_list(std::string_view list, Scores& scores) noexcept {
  while (!list.empty()) {
    std::string_view element;
    if (take_part(list, ',', element) && !element.empty()) score_element(element, scores);
  }
}

// Every Accept field among `fields`. They were parsed before: each line is a name, a colon, a value and CRLF.
void score_fields(std::string_view fields, Scores& scores) noexcept {
  while (!fields.empty()) {
    const std::size_t end = fields.find('\r');
    const std::string_view line = fields.substr(0, end);
    const std::size_t colon = line.find(':');
    if (equals_ignoring_case(line.substr(0, colon), "accept")) score_list(trim_blanks(line.substr(colon + 1)), scores);
    fields.remove_prefix(end + 2);
  }
}

}  // namespace

MediaType parse_content_type(std::string_view value) noexcept {
  if (value == "application/json") return MediaType::kJson;
  if (value.empty()) return MediaType::kAbsent;
  std::string_view essence;
  if (!take_part(value, ';', essence)) return MediaType::kOther;
  bool utf8 = true;
  while (!value.empty()) {
    Parameter parameter;
    if (!take_parameter(value, parameter)) return MediaType::kOther;
    if (equals_ignoring_case(parameter.name, "charset")) utf8 = equals_ignoring_case(parameter.value, "utf-8");
  }
  for (const ReplyFormat& format : kFormats) {
    if (!equals_ignoring_case(essence, format.content_type)) continue;
    switch (format.encoding) {
      case Encoding::kJson:
        return utf8 ? MediaType::kJson : MediaType::kOther;
      case Encoding::kMsgpack:
        return MediaType::kMsgpack;
      case Encoding::kRaw:
        return MediaType::kRaw;
    }
  }
  return MediaType::kOther;
}

std::optional<ReplyFormat> negotiate(const RequestHead& head) noexcept {
  if (head.accept_fields == 0) return ReplyFormat{};
  if (head.accept_fields == 1 && (head.accept == "*/*" || head.accept == "application/json" || head.accept.empty())) {
    return ReplyFormat{};
  }
  Scores scores{};
  if (head.accept_fields == 1) {
    score_list(head.accept, scores);
  } else {
    score_fields(head.fields, scores);
  }
  const ReplyFormat* best = nullptr;
  Score best_score;
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    const Score& score = scores[i];
    if (score.quality == 0 || score.quality < best_score.quality) continue;
    if (score.quality == best_score.quality && score.exactness <= best_score.exactness) continue;
    best = &kFormats[i];
    best_score = score;
  }
  return best == nullptr ? std::nullopt : std::optional(*best);
}

}  // namespace penstock::dataplane
