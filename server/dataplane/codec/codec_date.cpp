#include "codec/codec_date.hpp"

#include <cstddef>
#include <cstdint>

#include "codec/codec_number.hpp"

namespace penstock::dataplane {
namespace {

// `count` digits at `at`, or -1.
std::int64_t digits_at(std::string_view text, std::size_t at, std::size_t count) noexcept {
  if (text.size() < at + count) return -1;
  std::int64_t value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (!number_detail::is_digit(text[i])) return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

// Days since 1970-01-01 of the proleptic Gregorian calendar (Howard Hinnant, chrono-compatible low-level date
// algorithms); years begin in March there, so that the leap day is the last.
std::int64_t days_of(std::int64_t year, std::int64_t month, std::int64_t day) noexcept {
  year -= month <= 2 ? 1 : 0;
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

bool is_day(std::int64_t year, std::int64_t month, std::int64_t day) noexcept {
  if (year < 0 || month < 1 || month > 12 || day < 1) return false;
  constexpr std::int8_t kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return day <= kDays[month - 1] + (leaps && month == 2 ? 1 : 0);
}

// "Z" or "+01:00", in seconds.
bool read_offset(std::string_view text, std::int64_t& offset) noexcept {
  offset = 0;
  if (text.size() == 1) return text[0] == 'Z' || text[0] == 'z';
  if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':') return false;
  const std::int64_t hours = digits_at(text, 1, 2);
  const std::int64_t minutes = digits_at(text, 4, 2);
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return false;
  offset = (hours * 3600 + minutes * 60) * (text[0] == '-' ? -1 : 1);
  return true;
}

}  // namespace

bool read_date(std::string_view text, double& seconds) noexcept {
  if (text.size() < 10 || text[4] != '-' || text[7] != '-') return false;
  const std::int64_t year = digits_at(text, 0, 4);
  const std::int64_t month = digits_at(text, 5, 2);
  const std::int64_t day = digits_at(text, 8, 2);
  if (!is_day(year, month, day)) return false;
  const std::int64_t midnight = days_of(year, month, day) * 86400;
  seconds = static_cast<double>(midnight);
  if (text.size() == 10) return true;
  if (text.size() < 20 || (text[10] != 'T' && text[10] != 't' && text[10] != ' ') || text[13] != ':' || text[16] != ':')
    return false;
  const std::int64_t hour = digits_at(text, 11, 2);
  const std::int64_t minute = digits_at(text, 14, 2);
  const std::int64_t second = digits_at(text, 17, 2);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return false;
  std::size_t at = 19;
  double fraction = 0;
  if (text[at] == '.') {
    const std::size_t first = ++at;
    std::int64_t digits = 0;
    std::size_t counted = 0;
    for (; at < text.size() && number_detail::is_digit(text[at]); ++at) {
      if (counted == 15) continue;  // more is below what a float64 of seconds can tell
      digits = digits * 10 + (text[at] - '0');
      ++counted;
    }
    if (at == first) return false;
    fraction = static_cast<double>(digits) / kPowersOfTen[counted];
  }
  std::int64_t offset = 0;
  if (!read_offset(text.substr(at), offset)) return false;
  seconds = static_cast<double>(midnight + hour * 3600 + minute * 60 + second - offset) + fraction;
  return true;
}

}  // namespace penstock::dataplane
