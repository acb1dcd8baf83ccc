// Bodies of requests and replies in a content coding: the work, whichever thread does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/body_pool.hpp"
#include "http/compression.hpp"
#include "http/problem.hpp"

namespace penstock::dataplane {

// Of one thread.
struct CodingTools {
  Compressor compressor;
  Decompressor decompressor;
};

// Bytes of a decompressed body that a loop decodes itself, about 0.2 ms of its time. What becomes longer goes to a job.
inline constexpr std::size_t kInflatedInlineBytesMax = 64 * 1024;

struct Inflated {
  Block block;  // the head, and the body behind it
  std::size_t bytes = 0;
};

// Decompresses the body of a request whose head is `head`, into a block of the pool that holds both. At most
// `body_bytes_max` bytes, whatever the body would become: then it is kBodyTooLarge. False: `problem` is set.
[[nodiscard]] bool inflate_request(Decompressor& decompressor, Coding coding, std::string_view head,
                                   std::string_view body, std::uint64_t body_bytes_max, BodyPool& pool,
                                   Inflated& inflated, Problem& problem);

// Writes a whole reply anew with its body compressed, into `out`, which holds as many bytes as `reply`. 0: it is to be
// sent as it is, since it has no body, has a coding already, or would not get smaller.
[[nodiscard]] std::size_t compress_reply(Compressor& compressor, Coding coding, std::string_view reply,
                                         std::size_t body_bytes_min, char* out) noexcept;

}  // namespace penstock::dataplane
