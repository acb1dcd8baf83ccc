// The reply to a request of many rows, once all of them are there. On an I/O loop or an encode thread.
#pragma once

#include <cstddef>

#include "engine/connection.hpp"
#include "engine/rejoin.hpp"

namespace penstock::dataplane {

// One output, row behind row, written where the rows arrive: nothing is left to encode.
[[nodiscard]] inline bool is_raw_reply(const Pending& pending, const Rejoin& rejoin) noexcept {
  return rejoin.form == Rejoin::Form::kRaw ||
         (rejoin.form == Rejoin::Form::kRows && pending.encoding == Encoding::kRaw);
}

// Upper bound of the body with the faults that there are.
[[nodiscard]] std::size_t rows_reply_bytes_max(const Rejoin& rejoin, Encoding encoding) noexcept;
// Sorts the faults, and writes the body into `out`.
[[nodiscard]] InferReplySize write_rows_reply(Rejoin& rejoin, Encoding encoding, char* out) noexcept;

}  // namespace penstock::dataplane
