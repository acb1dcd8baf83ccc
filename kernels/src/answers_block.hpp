// What each lane provides for answers. It includes nothing with inline functions: see avx2.cpp.
#pragma once

#include <cstddef>

namespace penstock {

// Rows that are worked on together: columns hold one element of each, 64-byte aligned.
inline constexpr std::size_t kAnswerRows = 8;

// Of each row.
struct alignas(64) Ranking {
  double first[kAnswerRows];       // the largest
  double second[kAnswerRows];      // the largest of the others; -inf without
  long long place[kAnswerRows];    // where the first is
  long long missing[kAnswerRows];  // not 0: one is NaN
};

struct AnswerFunctions {
  // Of columns[0 .. count * kAnswerRows), in place.
  void (*softmax)(double* columns, std::size_t count) noexcept;
  void (*sigmoid)(double* columns, std::size_t count) noexcept;
  // 1 / (1 + exp(a x + b)) of one column.
  void (*platt)(double* column, double a, double b) noexcept;
  // To a sum of 1; all the same where it is 0.
  void (*normalize)(double* columns, std::size_t count) noexcept;
  void (*rank)(const double* columns, std::size_t count, Ranking& ranking) noexcept;
};

}  // namespace penstock

// Lanes give the same bits: they compute the same expressions in the same order, and nothing is contracted.
namespace penstock::scalar {
extern const AnswerFunctions kAnswers;
}
namespace penstock::avx2 {
extern const AnswerFunctions kAnswers;
}
namespace penstock::avx512 {
extern const AnswerFunctions kAnswers;
}

// exp(x) for x <= 0, as all lanes compute it: x = n ln 2 + r with a whole n, Taylor's series of r (|r| <= 0.35: what is
// left out is below 2^-57), times 2^n. Within 2 units of the last place. Below kLeast it is 0.
namespace penstock::exponential {
inline constexpr double kLeast = -708.0;
inline constexpr double kLog2E = 0x1.71547652b82fep+0;
inline constexpr double kLn2High = 0x1.62e42feep-1;  // n times it is exact
inline constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
inline constexpr double kMagic = 0x1.8p52;  // adding it rounds to a whole number, in the lowest bits
inline constexpr double kSeries[] = {
    1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
    1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
inline constexpr unsigned long long kOne = 1023ULL << 52;  // the bits of 2^0
}  // namespace penstock::exponential
