// A cursor over JSON text (RFC 8259). It never reads at or beyond `end`, and never goes back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "codec/codec_request.hpp"

namespace penstock::dataplane {

[[nodiscard]] inline const char* skip_json_space(const char* p, const char* end) noexcept {
  while (p != end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) ++p;
  return p;
}

using NameScratch = std::array<char, kEscapedNameBytesMax>;

// Functions that return bool set `problem` when they return false.
struct JsonText {
  const char* begin;
  const char* at;
  const char* end;
  Problem& problem;

  JsonText(std::string_view text, Problem& problem_of_text) noexcept
      : begin(text.data()), at(text.data()), end(text.data() + text.size()), problem(problem_of_text) {}

  void skip_space() noexcept { at = skip_json_space(at, end); }

  // White space, then `c`: true, and behind it. Anything else: false, and in front of it; no problem is set.
  [[nodiscard]] bool consume(char c) noexcept {
    skip_space();
    if (at == end || *at != c) return false;
    ++at;
    return true;
  }

  // As consume(), but anything else is malformed; `expected` is for the message.
  [[nodiscard]] bool expect(char c, const char* expected) noexcept { return consume(c) || refuse_at(at, expected); }

  // kMalformedBody: at `where`, `expected` was expected. Always false.
  [[gnu::cold]] bool refuse_at(const char* where, const char* expected) noexcept;

  // A string behind white space. `out` views the text, or `scratch` if there are escapes; it is valid UTF-8 then.
  // A string with escapes of more than the scratch is kInvalidInput.
  [[nodiscard]] bool read_string(NameScratch& scratch, std::string_view& out) noexcept;

  // A string behind white space, as UTF-8 with its escapes resolved, into `out` of `room` bytes: the bytes written, or
  // nothing. `full` says whether that is for want of room (no problem is set) or a fault.
  [[nodiscard]] std::optional<std::uint32_t> read_text(char* out, std::uint32_t room, bool& full) noexcept;

  // The name of a member and the colon behind it.
  [[nodiscard]] bool read_name(NameScratch& scratch, std::string_view& out) noexcept {
    return read_string(scratch, out) && expect(':', "':' behind a name");
  }

  // Moves behind a value of any kind, looking at brackets and strings only: it finds the end of every valid value, and
  // whoever decodes the value later judges what is inside.
  [[nodiscard]] bool skip_value() noexcept;

  // Moves behind a value of any kind that nobody decodes later: it is checked as JSON.
  [[nodiscard]] bool check_value(std::size_t depth = 0) noexcept;

  // A string behind white space, checked as JSON and left where it is: `raw` is what stands between its quotes.
  // `escaped` says whether that is its text.
  [[nodiscard]] bool read_raw_string(std::string_view& raw, bool& escaped) noexcept;

  // "an array", "a string", ... for the value at `at`; nullptr and a problem when no value is there.
  [[nodiscard]] const char* describe_value() noexcept;
};

}  // namespace penstock::dataplane
