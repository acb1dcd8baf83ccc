#include "engine/compressing.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace penstock::dataplane {
namespace {

constexpr std::size_t kRoomMin = 4096;    // of a body that says nothing of its length
constexpr std::size_t kGrowth = 4;        // likewise, and numbers as text shrink to a quarter at best as a rule
constexpr std::size_t kCodingBytes = 64;  // that the new fields of a reply need at most

void explain(Decompressor::Status status, Coding coding, std::size_t at, Problem& problem) {
  const char* const name = name_of(coding).data();
  switch (status) {
    case Decompressor::Status::kCut:
      problem.set(ProblemCode::kMalformedBody, "the body is not %s: it ends after %zu bytes, before its data do", name,
                  at);
      return;
    case Decompressor::Status::kForeign:
      problem.set(ProblemCode::kMalformedBody, "%s byte %zu: something follows the end of the data", name, at);
      return;
    case Decompressor::Status::kWindowTooLarge:
      problem.set(ProblemCode::kMalformedBody,
                  "the body needs a zstd window above 8 MiB, which RFC 9659 rules out; compress without --ultra or "
                  "--long");
      return;
    case Decompressor::Status::kNoMemory:
      problem.set(ProblemCode::kMemoryExhausted, "no memory is left to decompress the body");
      return;
    default:
      problem.set(ProblemCode::kMalformedBody, "%s byte %zu: the data are damaged", name, at);
  }
}

// Room for the body: what it says it needs, else a guess. One byte more than it may have, to see that it has more.
std::size_t first_room(Coding coding, std::string_view body, std::uint64_t body_bytes_max) noexcept {
  const std::uint64_t announced = announced_bytes(coding, body);
  const std::uint64_t wanted = announced != 0 ? announced : std::max(kRoomMin, kGrowth * body.size());
  return static_cast<std::size_t>(std::min(wanted, body_bytes_max)) + 1;
}

bool grow(Inflated& inflated, std::size_t head_bytes, std::uint64_t body_bytes_max, BodyPool& pool) {
  const std::size_t room = inflated.block.bytes() - head_bytes;
  Block larger =
      pool.try_acquire(head_bytes + static_cast<std::size_t>(std::min<std::uint64_t>(2 * room, body_bytes_max + 1)));
  if (!larger) return false;
  std::memcpy(larger.data(), inflated.block.data(), inflated.bytes);
  inflated.block = std::move(larger);
  return true;
}

}  // namespace

bool inflate_request(Decompressor& decompressor, Coding coding, std::string_view head, std::string_view body,
                     std::uint64_t body_bytes_max, BodyPool& pool, Inflated& inflated, Problem& problem) {
  inflated.block = pool.try_acquire(head.size() + first_room(coding, body, body_bytes_max));
  if (!inflated.block || !decompressor.start(coding)) {
    explain(Decompressor::Status::kNoMemory, coding, 0, problem);
    return false;
  }
  std::memcpy(inflated.block.data(), head.data(), head.size());
  inflated.bytes = head.size();
  for (std::size_t at = 0;;) {
    const Decompressor::Step step = decompressor.decode(body.substr(at), inflated.block.data() + inflated.bytes,
                                                        inflated.block.bytes() - inflated.bytes);
    at += step.consumed;
    inflated.bytes += step.produced;
    if (inflated.bytes - head.size() > body_bytes_max) {
      problem.set(ProblemCode::kBodyTooLarge, "the decompressed body has more than the %llu bytes accepted here",
                  static_cast<unsigned long long>(body_bytes_max));
      return false;
    }
    if (step.status == Decompressor::Status::kDone) return true;
    if (step.status != Decompressor::Status::kFull) {
      explain(step.status, coding, at, problem);
      return false;
    }
    if (!grow(inflated, head.size(), body_bytes_max, pool)) {
      explain(Decompressor::Status::kNoMemory, coding, at, problem);
      return false;
    }
  }
}

std::size_t compress_reply(Compressor& compressor, Coding coding, std::string_view reply, std::size_t body_bytes_min,
                           char* out) noexcept {
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  const std::size_t head_bytes = reply.find("\r\n\r\n") + 4;
  const std::string_view head = reply.substr(0, head_bytes);
  const std::string_view body = reply.substr(head_bytes);
  const std::size_t length = head.find(kLength);
  if (body.empty() || body.size() < body_bytes_min || body.size() <= kCodingBytes || length == head.npos ||
      head.find("\r\nContent-Encoding:") != head.npos) {
    return 0;
  }
  const std::size_t begin = head_bytes + kCodingBytes;
  const std::size_t bytes = compressor.compress(coding, body, out + begin, reply.size() - begin);
  if (bytes == 0) return 0;
  char* at = out;
  const auto text = [&at](std::string_view piece) {
    std::memcpy(at, piece.data(), piece.size());
    at += piece.size();
  };
  text(head.substr(0, length + kLength.size()));
  at = std::to_chars(at, at + 20, bytes).ptr;
  text("\r\nContent-Encoding: ");
  text(name_of(coding));
  text(head.substr(head.find("\r\n", length + 2)));
  std::memmove(at, out + begin, bytes);
  return static_cast<std::size_t>(at - out) + bytes;
}

}  // namespace penstock::dataplane
