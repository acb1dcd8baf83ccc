// Steps: the reference lane, a loop over rows each.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "penstock/kernels/steps.hpp"
#include "power.hpp"
#include "steps_block.hpp"

namespace penstock::scalar {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

template <typename F>
void each(const StepBlock& block, F compute) noexcept {
  for (std::size_t row = 0; row < block.rows; ++row) block.to[row] = compute(block.x[row]);
}

template <typename F>
void each_pair(const StepBlock& block, F compute) noexcept {
  for (std::size_t row = 0; row < block.rows; ++row) block.to[row] = compute(block.x[row], block.y[row]);
}

void fill(const StepBlock& block) noexcept {
  each(block, [&](double x) { return std::isnan(x) ? block.a : x; });
}

void is_missing(const StepBlock& block) noexcept {
  each(block, [](double x) { return std::isnan(x) ? 1.0 : 0.0; });
}

void standardize(const StepBlock& block) noexcept {
  each(block, [&](double x) { return (x - block.a) / block.b; });
}

void scale(const StepBlock& block) noexcept {
  each(block, [&](double x) { return x * block.a + block.b; });
}

void clip(const StepBlock& block) noexcept {
  each(block, [&](double x) {
    if (x < block.a) return block.a;
    return x > block.b ? block.b : x;
  });
}

void log(const StepBlock& block) noexcept {
  each(block, [&](double x) { return std::log(x + block.a); });
}

// Yeo and Johnson (2000): Box-Cox of x + 1, and of 1 - x with 2 - lambda below zero.
void yeo_johnson(const StepBlock& block) noexcept {
  const double lambda = block.a;
  each(block, [lambda](double x) {
    if (x >= 0) return is_logarithm(lambda) ? std::log1p(x) : std::expm1(lambda * std::log1p(x)) / lambda;
    return lambda == 2 ? -std::log1p(-x) : -std::expm1((2 - lambda) * std::log1p(-x)) / (2 - lambda);
  });
}

void box_cox(const StepBlock& block) noexcept {
  const double lambda = block.a;
  each(block, [lambda](double x) {
    if (!(x > 0)) return kMissing;
    return is_logarithm(lambda) ? std::log(x) : std::expm1(lambda * std::log(x)) / lambda;
  });
}

void bin(const StepBlock& block) noexcept {
  each(block, [&](double x) {
    if (std::isnan(x)) return x;
    std::size_t below = 0;
    while (below < block.table_size && block.table[below] <= x) ++below;
    return static_cast<double>(below);
  });
}

void place(const StepBlock& block) noexcept {
  const double* const end = block.table + block.table_size;
  each(block, [&](double x) {
    if (std::isnan(x)) return x;
    const double* const found = std::lower_bound(block.table, end, x);
    return found != end && *found == x ? static_cast<double>(found - block.table) : -1.0;
  });
}

void lookup(const StepBlock& block) noexcept {
  const std::size_t codes = block.table_size - 2;
  each(block, [&](double x) {
    if (std::isnan(x)) return block.table[codes];
    return x >= 0 && x < static_cast<double>(codes) ? block.table[static_cast<std::size_t>(x)] : block.table[codes + 1];
  });
}

struct Date {
  std::int64_t year;
  std::int64_t month;
  std::int64_t day;
  std::int64_t day_of_year;
};

[[nodiscard]] bool is_leap(std::int64_t year) noexcept { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

// In years that begin with March a leap day is the last one, and months are 153 days for every five.
[[nodiscard]] Date date_of(std::int64_t days) noexcept {
  constexpr std::int64_t kDaysToEpoch = 719'468;  // from 1 March of year 0 to 1970
  constexpr std::int64_t kDaysOfEra = 146'097;    // 400 years
  days += kDaysToEpoch;
  const std::int64_t era = (days >= 0 ? days : days - (kDaysOfEra - 1)) / kDaysOfEra;
  const std::int64_t day_of_era = days - era * kDaysOfEra;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / (kDaysOfEra - 1)) / 365;
  const std::int64_t day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month = (5 * day + 2) / 153;
  const bool next = month >= 10;  // January and February
  const std::int64_t year = year_of_era + era * 400 + (next ? 1 : 0);
  const std::int64_t before_march = next ? -306 : 59 + (is_leap(year) ? 1 : 0);
  return {year, next ? month - 9 : month + 3, day - (153 * month + 2) / 5 + 1, day + before_march + 1};
}

[[nodiscard]] double part_of(DatePart part, double x) noexcept {
  constexpr std::int64_t kDaySeconds = 86'400;
  // Some 300,000 years either way: what is further away has no calendar.
  if (!(std::abs(x) < 1e13)) return kMissing;
  const auto seconds = static_cast<std::int64_t>(std::floor(x));
  std::int64_t days = seconds / kDaySeconds;
  std::int64_t in_day = seconds % kDaySeconds;
  if (in_day < 0) {
    in_day += kDaySeconds;
    --days;
  }
  const std::int64_t hour = in_day / 3600;
  switch (part) {
    case DatePart::kYear:
      return static_cast<double>(date_of(days).year);
    case DatePart::kMonth:
      return static_cast<double>(date_of(days).month);
    case DatePart::kDay:
      return static_cast<double>(date_of(days).day);
    case DatePart::kWeekday:
      return static_cast<double>(((days + 3) % 7 + 7) % 7);  // Monday is 0
    case DatePart::kDayOfYear:
      return static_cast<double>(date_of(days).day_of_year);
    case DatePart::kHour:
      return static_cast<double>(hour);
    case DatePart::kMinute:
      return static_cast<double>(in_day / 60 % 60);
    case DatePart::kSecond:
      return static_cast<double>(in_day % 60);
  }
  return kMissing;
}

void date_part(const StepBlock& block) noexcept {
  const auto part = static_cast<DatePart>(block.a);
  each(block, [part](double x) { return part_of(part, x); });
}

void sine(const StepBlock& block) noexcept {
  each(block, [&](double x) { return std::sin(x * block.a); });
}

void cosine(const StepBlock& block) noexcept {
  each(block, [&](double x) { return std::cos(x * block.a); });
}

void add(const StepBlock& block) noexcept {
  each_pair(block, [](double x, double y) { return x + y; });
}

void subtract(const StepBlock& block) noexcept {
  each_pair(block, [](double x, double y) { return x - y; });
}

void multiply(const StepBlock& block) noexcept {
  each_pair(block, [](double x, double y) { return x * y; });
}

void divide(const StepBlock& block) noexcept {
  each_pair(block, [](double x, double y) { return y == 0 ? kMissing : x / y; });
}

void modulo(const StepBlock& block) noexcept {
  each(block, [&](double x) { return x - std::floor(x / block.a) * block.a; });
}

}  // namespace

const StepFunction kSteps[kStepKinds] = {fill,    is_missing, standardize, scale,  clip,      log,  yeo_johnson,
                                         box_cox, bin,        place,       lookup, date_part, sine, cosine,
                                         add,     subtract,   multiply,    divide, modulo};

}  // namespace penstock::scalar
