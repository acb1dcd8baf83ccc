#include "http/head_scan.hpp"

#include <bit>
#include <cstdint>
#include <cstring>

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

static_assert(std::endian::native == std::endian::little, "find_control takes the lowest byte of a word for the first");

constexpr std::uint64_t every_byte(std::uint8_t value) { return 0x0101010101010101U * value; }

// The first byte in [from, end) that is no field character, or `end`. Eight bytes at a time: the two subtractions mark
// bytes below 0x20 and bytes equal to 0x7f; a borrow can mark falsely only above a true mark, and only the lowest is
// used.
std::size_t find_control(const char* bytes, std::size_t from, std::size_t end) noexcept {
  std::size_t i = from;
  while (i + 8 <= end) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i, 8);
    const std::uint64_t deletes = word ^ every_byte(0x7f);
    const std::uint64_t marks =
        (((word - every_byte(0x20)) & ~word) | ((deletes - every_byte(1)) & ~deletes)) & every_byte(0x80);
    if (marks == 0) {
      i += 8;
      continue;
    }
    i += static_cast<std::size_t>(std::countr_zero(marks)) / 8;
    if (bytes[i] != '\t') return i;
    ++i;
  }
  while (i < end && is_in(bytes[i], kFieldChar)) ++i;
  return i;
}

ParseStatus refuse_byte(char c, std::size_t offset, Problem& problem) noexcept {
  switch (c) {
    case '\n':
      problem.set(ProblemCode::kMalformedRequest, "a line ends without a carriage return at byte %zu", offset);
      break;
    case '\r':
      problem.set(ProblemCode::kMalformedRequest, "a carriage return without a line feed at byte %zu", offset);
      break;
    default:
      problem.set(ProblemCode::kMalformedRequest, "a control character (0x%02x) at byte %zu",
                  static_cast<unsigned>(static_cast<unsigned char>(c)), offset);
  }
  return ParseStatus::kRefused;
}

ParseStatus refuse_line_start(char c, std::size_t offset, Problem& problem) noexcept {
  if (is_blank(c)) {
    problem.set(ProblemCode::kMalformedRequest, "a line begins with white space at byte %zu", offset);
    return ParseStatus::kRefused;
  }
  if (!is_in(c, kFieldChar)) return refuse_byte(c, offset, problem);
  problem.set(ProblemCode::kMalformedRequest, "a line begins with a character that no name begins with at byte %zu",
              offset);
  return ParseStatus::kRefused;
}

// The empty line that may precede the request line, and the first byte of that line.
ParseStatus check_start(std::string_view buffer, std::size_t& start, Problem& problem) noexcept {
  start = 0;
  if (buffer.empty()) return ParseStatus::kIncomplete;
  if (buffer[0] == '\r') {
    if (buffer.size() < 2) return ParseStatus::kIncomplete;
    if (buffer[1] != '\n') return refuse_byte('\r', 0, problem);
    start = 2;
    if (buffer.size() == start) return ParseStatus::kIncomplete;
  }
  if (buffer[start] == '\r') {
    problem.set(ProblemCode::kMalformedRequest, "more than one empty line before the request line");
    return ParseStatus::kRefused;
  }
  if (!is_in(buffer[start], kTokenChar)) return refuse_line_start(buffer[start], start, problem);
  return ParseStatus::kComplete;
}

ParseStatus refuse_length(std::string_view window, std::size_t start, Problem& problem) noexcept {
  const bool one_line = window.find('\r', start) == std::string_view::npos;
  problem.set(one_line ? ProblemCode::kUriTooLong : ProblemCode::kHeadTooLarge, "the request %s over %zu bytes",
              one_line ? "line is" : "head is", window.size());
  return ParseStatus::kRefused;
}

}  // namespace

ParseStatus find_head_end(std::string_view buffer, std::size_t& scanned, std::size_t head_bytes_max, HeadEnd& found,
                          Problem& problem) noexcept {
  const std::string_view window = buffer.substr(0, head_bytes_max);
  const ParseStatus started = check_start(window, found.start, problem);
  if (started == ParseStatus::kRefused) return started;

  // Incomplete here leaves `scanned` at the last byte whose meaning is open: the end, or the CR of a line end whose
  // next line has not begun to show.
  std::size_t i = scanned > found.start ? scanned : found.start;
  while (started == ParseStatus::kComplete) {
    i = find_control(window.data(), i, window.size());
    scanned = i;
    if (i == window.size()) break;
    if (window[i] != '\r') return refuse_byte(window[i], i, problem);
    if (i + 1 == window.size()) break;
    if (window[i + 1] != '\n') return refuse_byte('\r', i, problem);
    if (i + 2 == window.size()) break;
    if (window[i + 2] == '\r') {
      if (i + 3 == window.size()) break;
      if (window[i + 3] != '\n') return refuse_byte('\r', i + 2, problem);
      found.end = i + 4;
      return ParseStatus::kComplete;
    }
    i += 2;
    if (!is_in(window[i], kTokenChar)) return refuse_line_start(window[i], i, problem);
  }
  return buffer.size() >= head_bytes_max ? refuse_length(window, found.start, problem) : ParseStatus::kIncomplete;
}

}  // namespace penstock::dataplane
