// What is taken out of the taps at a time: lines of the access log, and the records of what is traced.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/tap.hpp"

namespace penstock::dataplane {

struct TapDrain {
  // From monotonic time to nanoseconds since 1970, as the clocks stand at the moment.
  TapDrain();
  // All that there is now.
  void take(Tap& tap);

  std::string lines;  // JSON, each with its newline
  std::size_t lines_count = 0;
  std::string records;  // TapRecords, their times since 1970

 private:
  void take(TapRecord& record);

  std::uint64_t since_1970_ns_ = 0;
};

// One line, with its newline; the record's times are since 1970.
void append_line(std::string& out, const TapRecord& record);

}  // namespace penstock::dataplane
