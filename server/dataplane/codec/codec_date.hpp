// Dates and moments as RFC 3339 writes them.
#pragma once

#include <string_view>

namespace penstock::dataplane {

// Seconds since 1970 in UTC of a date-time with its offset ("2026-01-31T12:00:00.5+01:00"), or of a date, which begins
// at midnight in UTC. 'T' and 'Z' may be small, and 'T' a blank; second 60 is the first of the next minute. False: it
// is neither.
[[nodiscard]] bool read_date(std::string_view text, double& seconds) noexcept;

}  // namespace penstock::dataplane
