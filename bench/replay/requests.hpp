// The requests that are replayed: random rows of a fixed seed, written as clients write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec.hpp"

namespace penstock::replay {

inline constexpr std::uint32_t kBatchRows = 16;  // requests of one pass
inline constexpr std::size_t kRequests = 64;     // different ones

// A model of the benchmarks in one encoding: W1 takes 32 numbers and answers 3, W2 takes 256 and answers 10.
struct Case {
  std::string_view name;
  std::string_view model;
  std::uint32_t inputs;
  std::uint32_t outputs;
  dataplane::Encoding encoding;
};

inline constexpr Case kCases[] = {
    {"w1-json", "w1", 32, 3, dataplane::Encoding::kJson},
    {"w1-msgpack", "w1", 32, 3, dataplane::Encoding::kMsgpack},
    {"w1-raw", "w1", 32, 3, dataplane::Encoding::kRaw},
    {"w2-json", "w2", 256, 10, dataplane::Encoding::kJson},
    {"w2-msgpack", "w2", 256, 10, dataplane::Encoding::kMsgpack},
    {"w2-raw", "w2", 256, 10, dataplane::Encoding::kRaw},
};

struct WireRequest {
  std::string bytes;  // head and body
  std::size_t head_bytes = 0;

  [[nodiscard]] std::string_view body() const { return std::string_view(bytes).substr(head_bytes); }
};

// kRequests requests, the same at every call on every machine.
[[nodiscard]] std::vector<WireRequest> make_requests(const Case& which);

}  // namespace penstock::replay
