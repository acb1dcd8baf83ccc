#include "http/date_cache.hpp"

#include <chrono>
#include <cstdint>
#include <cstring>

namespace penstock::dataplane {

DateCache::DateCache() noexcept { refresh_date(std::time(nullptr)); }

void DateCache::refresh_date(std::time_t now) noexcept {
  if (now == formatted_) return;
  formatted_ = now;
  // Not gmtime_r, which takes a lock of the C library.
  constexpr std::string_view kDays = "SunMonTueWedThuFriSat";
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const std::chrono::sys_seconds seconds{std::chrono::seconds(now)};
  const auto day = std::chrono::floor<std::chrono::days>(seconds);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(seconds - day);
  const auto pair = [](std::int64_t value, char* at) {
    at[0] = static_cast<char>('0' + value / 10 % 10);
    at[1] = static_cast<char>('0' + value % 10);
  };
  char* text = text_.data();
  std::memcpy(text, "Day, 00 Mon 0000 00:00:00 GMT", text_.size());
  std::memcpy(text, &kDays[std::chrono::weekday(day).c_encoding() * 3], 3);
  pair(static_cast<unsigned>(date.day()), text + 5);
  std::memcpy(text + 8, &kMonths[(static_cast<unsigned>(date.month()) - 1) * 3], 3);
  pair(static_cast<int>(date.year()) / 100, text + 12);
  pair(static_cast<int>(date.year()) % 100, text + 14);
  pair(time.hours().count(), text + 17);
  pair(time.minutes().count(), text + 20);
  pair(time.seconds().count(), text + 23);
}

}  // namespace penstock::dataplane
