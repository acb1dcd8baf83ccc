// Finds the end of a request head in bytes that may trickle in, and refuses what no further byte can mend.
#pragma once

#include <cstddef>
#include <string_view>

#include "http/http_parser.hpp"

namespace penstock::dataplane {

struct HeadEnd {
  std::size_t start = 0;  // of the request line: 2 after an empty line before it, which RFC 9112 2.2 tolerates once
  std::size_t end = 0;    // one past the empty line
};

// Looks at each byte once over all calls for one head (`scanned` as in parse_head). Refuses, in the order of the bytes:
// a bare CR or LF, a control character, a line that does not begin with a token character (so folded lines), a second
// empty line before the request line, and a head over `head_bytes_max`. The verdict does not depend on how the bytes
// were split.
[[nodiscard]] ParseStatus find_head_end(std::string_view buffer, std::size_t& scanned, std::size_t head_bytes_max,
                                        HeadEnd& found, Problem& problem) noexcept;

}  // namespace penstock::dataplane
