// What to send, when, and over what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "endpoint.hpp"

namespace penstock::loadgen {

// The spans belong to the caller and outlive the run.
struct Plan {
  std::vector<Endpoint> endpoints;         // of one server; the first that can be connected to is taken
  std::span<const char> requests;          // every request of the corpus, head and body, one after the other
  std::span<const std::uint64_t> offsets;  // where each begins, and at last where the last one ends
  std::span<const std::uint32_t> picks;    // which request each arrival sends; a closed loop goes round in it
  std::span<const std::int64_t> due_ns;    // intended send times since the start, ascending; empty in a closed loop
  std::uint32_t connections = 1;
  std::uint32_t depth = 1;  // requests in flight on a connection
  std::uint32_t threads = 1;
  std::int64_t duration_ns = 0;                // of a closed loop
  std::int64_t timeout_ns = 10'000'000'000;    // from sending to the whole reply; from the last arrival to sending
  std::int64_t connect_ns = 10'000'000'000;    // for all connections at the start
  std::int64_t spin_ns = 0;                    // looks for work without sleeping this long before a request is due
  std::uint64_t answer_bytes_max = 256 << 20;  // for distinct answers, in all threads together

  [[nodiscard]] bool is_open_loop() const noexcept { return !due_ns.empty(); }
  [[nodiscard]] std::string_view request(std::uint32_t pick) const noexcept {
    return {requests.data() + offsets[pick], offsets[pick + 1] - offsets[pick]};
  }
};

}  // namespace penstock::loadgen
