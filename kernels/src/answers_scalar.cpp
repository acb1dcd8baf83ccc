// Answers: the reference lane, a loop over rows each.
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>

#include "answers_block.hpp"

namespace penstock::scalar {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// See answers_block.hpp.
double exp_of_negative(double x) noexcept {
  const double shifted = x * exponential::kLog2E + exponential::kMagic;
  const double n = shifted - exponential::kMagic;
  const double r = (x - n * exponential::kLn2High) - n * exponential::kLn2Low;
  double sum = exponential::kSeries[0];
  for (std::size_t i = 1; i < std::size(exponential::kSeries); ++i) sum = sum * r + exponential::kSeries[i];
  const auto power = (std::bit_cast<std::uint64_t>(shifted) << 52) + exponential::kOne;
  return x < exponential::kLeast ? 0.0 : sum * std::bit_cast<double>(power);
}

// Never exp of a positive number: nothing overflows, and small results keep their digits.
double sigmoid_of(double x) noexcept {
  const double power = exp_of_negative(x < 0 ? x : -x);
  return x < 0 ? power / (1.0 + power) : 1.0 / (1.0 + power);
}

// Scores of infinity share all of it.
void softmax(double* columns, std::size_t count) noexcept {
  for (std::size_t row = 0; row < kAnswerRows; ++row) {
    double most = columns[row];
    for (std::size_t k = 1; k < count; ++k) {
      const double x = columns[k * kAnswerRows + row];
      most = x > most ? x : most;
    }
    double sum = 0;
    for (std::size_t k = 0; k < count; ++k) {
      double& x = columns[k * kAnswerRows + row];
      x = exp_of_negative(x == most ? 0.0 : x - most);
      sum += x;
    }
    for (std::size_t k = 0; k < count; ++k) columns[k * kAnswerRows + row] /= sum;
  }
}

void sigmoid(double* columns, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count * kAnswerRows; ++i) columns[i] = sigmoid_of(columns[i]);
}

void platt(double* column, double a, double b) noexcept {
  for (std::size_t row = 0; row < kAnswerRows; ++row) column[row] = sigmoid_of(-(a * column[row] + b));
}

void normalize(double* columns, std::size_t count) noexcept {
  const double same = 1.0 / static_cast<double>(count);
  for (std::size_t row = 0; row < kAnswerRows; ++row) {
    double sum = 0;
    for (std::size_t k = 0; k < count; ++k) sum += columns[k * kAnswerRows + row];
    for (std::size_t k = 0; k < count; ++k) {
      double& x = columns[k * kAnswerRows + row];
      x = sum == 0 ? same : x / sum;
    }
  }
}

void rank(const double* columns, std::size_t count, Ranking& ranking) noexcept {
  for (std::size_t row = 0; row < kAnswerRows; ++row) {
    double first = columns[row];
    double second = -kInfinity;
    long long place = 0;
    bool missing = std::isnan(first);
    for (std::size_t k = 1; k < count; ++k) {
      const double x = columns[k * kAnswerRows + row];
      missing |= std::isnan(x);
      const bool better = x > first;
      second = better ? first : (x > second ? x : second);
      place = better ? static_cast<long long>(k) : place;
      first = better ? x : first;
    }
    ranking.first[row] = first;
    ranking.second[row] = second;
    ranking.place[row] = place;
    ranking.missing[row] = missing ? -1 : 0;
  }
}

}  // namespace

const AnswerFunctions kAnswers{softmax, sigmoid, platt, normalize, rank};

}  // namespace penstock::scalar
