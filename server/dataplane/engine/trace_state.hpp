// W3C tracestate (https://www.w3.org/TR/trace-context/, section 3.3), as it may be handed on.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace penstock::dataplane {

inline constexpr std::size_t kTraceStateMembersMax = 32;

// Sets `out` to the members of the header's value, without blanks around them and without empty ones. When one is
// malformed or a key comes twice, or there are too many, to nothing: half of it would mean something else.
void read_trace_state(std::string_view text, std::string& out);

}  // namespace penstock::dataplane
