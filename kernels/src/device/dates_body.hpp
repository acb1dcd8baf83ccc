// Parts of a date, of seconds since 1970 in UTC: what steps_scalar.cpp computes.
#pragma once

#include <cmath>
#include <cstdint>

#include "both.hpp"
#include "penstock/kernels/steps.hpp"

namespace penstock::device {

struct Date {
  std::int64_t year;
  std::int64_t month;
  std::int64_t day;
  std::int64_t day_of_year;
};

PENSTOCK_BOTH inline Date date_of(std::int64_t days) {
  constexpr std::int64_t kDaysToEpoch = 719'468;  // from 1 March of year 0 to 1970
  constexpr std::int64_t kDaysOfEra = 146'097;    // 400 years
  days += kDaysToEpoch;
  const std::int64_t era = (days >= 0 ? days : days - (kDaysOfEra - 1)) / kDaysOfEra;
  const std::int64_t day_of_era = days - era * kDaysOfEra;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / (kDaysOfEra - 1)) / 365;
  const std::int64_t day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month = (5 * day + 2) / 153;
  const bool next = month >= 10;
  const std::int64_t year = year_of_era + era * 400 + (next ? 1 : 0);
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  const std::int64_t before_march = next ? -306 : 59 + (leap ? 1 : 0);
  return {year, next ? month - 9 : month + 3, day - (153 * month + 2) / 5 + 1, day + before_march + 1};
}

// Of a day, and of the seconds in it.
PENSTOCK_BOTH inline std::int64_t whole_part(DatePart part, std::int64_t days, std::int64_t in_day) {
  switch (part) {
    case DatePart::kYear:
      return date_of(days).year;
    case DatePart::kMonth:
      return date_of(days).month;
    case DatePart::kDay:
      return date_of(days).day;
    case DatePart::kWeekday:
      return ((days + 3) % 7 + 7) % 7;
    case DatePart::kDayOfYear:
      return date_of(days).day_of_year;
    case DatePart::kHour:
      return in_day / 3600;
    case DatePart::kMinute:
      return in_day / 60 % 60;
    case DatePart::kSecond:
      break;
  }
  return in_day % 60;
}

PENSTOCK_BOTH inline double part_of(DatePart part, double x, double missing) {
  constexpr std::int64_t kDaySeconds = 86'400;
  if (!(x < 1e13 && x > -1e13)) return missing;
  const auto seconds = static_cast<std::int64_t>(floor(x));
  std::int64_t days = seconds / kDaySeconds;
  std::int64_t in_day = seconds % kDaySeconds;
  if (in_day < 0) {
    in_day += kDaySeconds;
    --days;
  }
  return static_cast<double>(whole_part(part, days, in_day));
}

}  // namespace penstock::device
