// Steps in vectors of kWidth float64, for the file of a lane to include inside its namespace, which is anonymous but
// for kSteps. GCC's and clang's vector extensions become that lane's instructions.

using Vector = double __attribute__((vector_size(kWidth * sizeof(double))));
// All bits set where a comparison holds.
using Mask = long long __attribute__((vector_size(kWidth * sizeof(long long))));

// Of -0, too: 0 + -0 would be 0.
Vector splat(double value) noexcept { return value - Vector{}; }

template <typename F>
void each(const StepBlock& block, F compute) noexcept {
  const auto* x = reinterpret_cast<const Vector*>(block.x);
  auto* to = reinterpret_cast<Vector*>(block.to);
  for (unsigned i = 0; i < block.rows / kWidth; ++i) to[i] = compute(x[i]);
}

template <typename F>
void each_pair(const StepBlock& block, F compute) noexcept {
  const auto* x = reinterpret_cast<const Vector*>(block.x);
  const auto* y = reinterpret_cast<const Vector*>(block.y);
  auto* to = reinterpret_cast<Vector*>(block.to);
  for (unsigned i = 0; i < block.rows / kWidth; ++i) to[i] = compute(x[i], y[i]);
}

void fill(const StepBlock& block) noexcept {
  const Vector a = splat(block.a);
  each(block, [a](Vector x) { return x == x ? x : a; });
}

void is_missing(const StepBlock& block) noexcept {
  each(block, [](Vector x) { return x == x ? splat(0) : splat(1); });
}

void standardize(const StepBlock& block) noexcept {
  const Vector a = splat(block.a);
  const Vector b = splat(block.b);
  each(block, [a, b](Vector x) { return (x - a) / b; });
}

void scale(const StepBlock& block) noexcept {
  const Vector a = splat(block.a);
  const Vector b = splat(block.b);
  each(block, [a, b](Vector x) { return x * a + b; });
}

void clip(const StepBlock& block) noexcept {
  const Vector a = splat(block.a);
  const Vector b = splat(block.b);
  each(block, [a, b](Vector x) {
    const Vector raised = x < a ? a : x;
    return raised > b ? b : raised;
  });
}

void bin(const StepBlock& block) noexcept {
  each(block, [&](Vector x) {
    Mask below{};
    for (decltype(block.table_size) i = 0; i < block.table_size; ++i) below -= splat(block.table[i]) <= x;
    return x == x ? __builtin_convertvector(below, Vector) : x;
  });
}

void add(const StepBlock& block) noexcept {
  each_pair(block, [](Vector x, Vector y) { return x + y; });
}

void subtract(const StepBlock& block) noexcept {
  each_pair(block, [](Vector x, Vector y) { return x - y; });
}

void multiply(const StepBlock& block) noexcept {
  each_pair(block, [](Vector x, Vector y) { return x * y; });
}

void divide(const StepBlock& block) noexcept {
  const Vector missing = splat(__builtin_nan(""));
  each_pair(block, [missing](Vector x, Vector y) { return y == 0 ? missing : x / y; });
}

// By StepKind; without a function of ours the scalar lane's is taken: those steps spend their time in the C library.
#define PENSTOCK_VECTOR_STEPS                                                                     \
  {fill,    is_missing, standardize, scale,   clip, nullptr,  nullptr,  nullptr, bin,    nullptr, \
   nullptr, nullptr,    nullptr,     nullptr, add,  subtract, multiply, divide,  nullptr}
