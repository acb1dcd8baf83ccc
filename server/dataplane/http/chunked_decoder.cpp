// Chunked transfer coding (RFC 9112 7.1). One byte moves one state, so a body may be split anywhere; only chunk data is
// taken in runs.
#include <algorithm>
#include <cstring>

#include "http/ascii.hpp"
#include "http/http_parser.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint32_t kOverheadBytesMax = 4096;
constexpr std::uint64_t kTopDigit = std::uint64_t{0xf} << 60;  // set: another hexadecimal digit does not fit

}  // namespace

bool ChunkedDecoder::move_to(State state, bool allowed) noexcept {
  state_ = state;
  return allowed;
}

bool ChunkedDecoder::step_size(char c) noexcept {
  switch (state_) {
    case State::kSize:
      if (is_in(c, kHexDigit)) {
        if (c == '0' && remaining_ == 0 && digits_) ++overhead_;
        if ((remaining_ & kTopDigit) != 0) return false;
        remaining_ = remaining_ * 16 + hex_value(c);
        digits_ = true;
        return true;
      }
      if (c == '\r') return move_to(State::kSizeLf, digits_);
      ++overhead_;
      return move_to(c == ';' ? State::kExtension : State::kBlanks, digits_ && (c == ';' || is_blank(c)));
    case State::kBlanks:
      ++overhead_;
      return move_to(c == ';' ? State::kExtension : State::kBlanks, c == ';' || is_blank(c));
    case State::kExtension:
      if (c == '\r') return move_to(State::kSizeLf);
      ++overhead_;
      return is_in(c, kFieldChar);
    default:  // kSizeLf
      digits_ = false;
      return move_to(remaining_ == 0 ? State::kTrailer : State::kData, c == '\n');
  }
}

bool ChunkedDecoder::step_trailer(char c) noexcept {
  switch (state_) {
    case State::kTrailer:
      if (c == '\r') return move_to(State::kLastLf);
      ++overhead_;
      return move_to(State::kTrailerName, is_in(c, kTokenChar));
    case State::kTrailerName:
      ++overhead_;
      if (c == ':') return move_to(State::kTrailerValue);
      return is_in(c, kTokenChar);
    case State::kTrailerValue:
      ++overhead_;
      if (c == '\r') return move_to(State::kTrailerLf);
      return is_in(c, kFieldChar);
    case State::kTrailerLf:
      return move_to(State::kTrailer, c == '\n');
    default:  // kLastLf
      return move_to(State::kDone, c == '\n');
  }
}

bool ChunkedDecoder::step(char c) noexcept {
  switch (state_) {
    case State::kSize:
    case State::kBlanks:
    case State::kExtension:
    case State::kSizeLf:
      return step_size(c);
    case State::kDataCr:
      return move_to(State::kDataLf, c == '\r');
    case State::kDataLf:
      return move_to(State::kSize, c == '\n');
    default:
      return step_trailer(c);
  }
}

ChunkedDecoder::Step ChunkedDecoder::decode(char* data, std::size_t bytes, Problem& problem) noexcept {
  std::size_t consumed = 0;
  std::size_t produced = 0;
  while (consumed < bytes && state_ != State::kDone) {
    if (state_ == State::kData) {
      const std::size_t run = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes - consumed));
      std::memmove(data + produced, data + consumed, run);
      consumed += run;
      produced += run;
      remaining_ -= run;
      if (remaining_ == 0) state_ = State::kDataCr;
      continue;
    }
    const State before = state_;
    if (!step(data[consumed])) {
      const bool in_trailer = before >= State::kTrailer;
      problem.set(ProblemCode::kMalformedRequest, "the chunked body has a malformed %s",
                  in_trailer ? "trailer" : (before >= State::kData ? "chunk end" : "chunk size line"));
      return {ParseStatus::kRefused, consumed, produced};
    }
    ++consumed;
    if (overhead_ > kOverheadBytesMax) {
      problem.set(ProblemCode::kMalformedRequest, "the chunked body has over %u bytes of extensions and trailers",
                  static_cast<unsigned>(kOverheadBytesMax));
      return {ParseStatus::kRefused, consumed, produced};
    }
  }
  return {state_ == State::kDone ? ParseStatus::kComplete : ParseStatus::kIncomplete, consumed, produced};
}

}  // namespace penstock::dataplane
