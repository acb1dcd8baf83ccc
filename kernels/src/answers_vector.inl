// Answers in vectors of kWidth float64, for the file of a lane to include inside its namespace, which is anonymous but
// for kAnswers. The expressions are those of answers_scalar.cpp, a vector at a time.

using Vector = double __attribute__((vector_size(kWidth * sizeof(double))));
// All bits set where a comparison holds.
using Mask = long long __attribute__((vector_size(kWidth * sizeof(long long))));
// Without a sign, so that those of numbers below kLeast, which are not used, may overflow.
using Bits = unsigned long long __attribute__((vector_size(kWidth * sizeof(unsigned long long))));
using Size = decltype(sizeof 0);

constexpr Size kVectors = kAnswerRows / kWidth;  // in a column

Vector splat(double value) noexcept { return value - Vector{}; }

Vector exp_of_negative(Vector x) noexcept {
  const Vector magic = splat(exponential::kMagic);
  const Vector shifted = x * splat(exponential::kLog2E) + magic;
  const Vector n = shifted - magic;
  const Vector r = (x - n * splat(exponential::kLn2High)) - n * splat(exponential::kLn2Low);
  Vector sum = splat(exponential::kSeries[0]);
  for (Size i = 1; i < sizeof exponential::kSeries / sizeof(double); ++i)
    sum = sum * r + splat(exponential::kSeries[i]);
  const Bits power = ((Bits)shifted << 52) + exponential::kOne;
  return x < splat(exponential::kLeast) ? Vector{} : sum * (Vector)power;
}

Vector sigmoid_of(Vector x) noexcept {
  const Vector zero{};
  const Vector power = exp_of_negative(x < zero ? x : -x);
  const Vector one = splat(1.0);
  return x < zero ? power / (one + power) : one / (one + power);
}

void softmax(double* columns, Size count) noexcept {
  for (Size i = 0; i < kVectors; ++i) {
    auto* const column = reinterpret_cast<Vector*>(columns) + i;
    Vector most = column[0];
    for (Size k = 1; k < count; ++k) {
      const Vector x = column[k * kVectors];
      most = x > most ? x : most;
    }
    Vector sum{};
    for (Size k = 0; k < count; ++k) {
      Vector& x = column[k * kVectors];
      x = exp_of_negative(x == most ? Vector{} : x - most);
      sum += x;
    }
    for (Size k = 0; k < count; ++k) column[k * kVectors] /= sum;
  }
}

void sigmoid(double* columns, Size count) noexcept {
  auto* const vectors = reinterpret_cast<Vector*>(columns);
  for (Size i = 0; i < count * kVectors; ++i) vectors[i] = sigmoid_of(vectors[i]);
}

void platt(double* column, double a, double b) noexcept {
  auto* const vectors = reinterpret_cast<Vector*>(column);
  for (Size i = 0; i < kVectors; ++i) vectors[i] = sigmoid_of(-(splat(a) * vectors[i] + splat(b)));
}

void normalize(double* columns, Size count) noexcept {
  const Vector same = splat(1.0 / static_cast<double>(count));
  for (Size i = 0; i < kVectors; ++i) {
    auto* const column = reinterpret_cast<Vector*>(columns) + i;
    Vector sum{};
    for (Size k = 0; k < count; ++k) sum += column[k * kVectors];
    for (Size k = 0; k < count; ++k) column[k * kVectors] = sum == Vector{} ? same : column[k * kVectors] / sum;
  }
}

void rank(const double* columns, Size count, Ranking& ranking) noexcept {
  for (Size i = 0; i < kVectors; ++i) {
    const auto* const column = reinterpret_cast<const Vector*>(columns) + i;
    Vector first = column[0];
    Vector second = splat(-__builtin_inf());
    Mask place{};
    Mask missing = first != first;
    for (Size k = 1; k < count; ++k) {
      const Vector x = column[k * kVectors];
      missing |= x != x;
      const Mask better = x > first;
      second = better ? first : (x > second ? x : second);
      place = better ? Mask{} + static_cast<long long>(k) : place;
      first = better ? x : first;
    }
    reinterpret_cast<Vector*>(ranking.first)[i] = first;
    reinterpret_cast<Vector*>(ranking.second)[i] = second;
    reinterpret_cast<Mask*>(ranking.place)[i] = place;
    reinterpret_cast<Mask*>(ranking.missing)[i] = missing;
  }
}
