// What became of one request. Python reads arrays of it (penstock.load.recording.RECORD), so the layout is fixed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock::loadgen {

enum class Failure : std::uint8_t {
  kNone = 0,
  kUnsent,       // no connection was free until the timeout after the last arrival
  kUnconnected,  // nor was there any connection left then
  kClosed,       // the server closed the connection before the whole reply
  kTimeout,
  kNotHttp,
};

// Times in nanoseconds since the start; what did not happen is -1.
struct Record {
  std::int64_t due_ns = -1;      // the schedule's; in a closed loop this and the next are the time of sending
  std::int64_t noticed_ns = -1;  // the generator saw that it is due: due to noticed is the generator's own lag
  std::int64_t sent_ns = -1;     // handed to the kernel: noticed to sent is waiting for a free connection
  std::int64_t done_ns = -1;     // the reply's last byte was read, or the failure seen
  std::uint32_t pick = 0;
  std::uint16_t status = 0;
  Failure failure = Failure::kNone;
  std::uint8_t retry_after = 0;  // 0 without Retry-After, else 1 and the seconds it says, at most 254 of them
};
static_assert(sizeof(Record) == 40 && offsetof(Record, pick) == 32 && offsetof(Record, failure) == 38);

}  // namespace penstock::loadgen
