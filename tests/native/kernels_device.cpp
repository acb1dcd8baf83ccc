// The CUDA lane's bodies as the host compiles them, against the scalar lane: the same bits, whatever the tiles are.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "penstock/kernels/device_plan.hpp"
#include "penstock/kernels/half.hpp"

namespace {

using namespace penstock;
using namespace penstock::device;

// Rows one behind the other as the ring has them, but in any order.
struct Scattered {
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> offsets;

  Scattered(const std::vector<std::byte>& rows, std::size_t row_bytes, std::mt19937_64& random) : bytes(rows.size()) {
    const std::size_t count = rows.size() / row_bytes;
    for (std::size_t row = 0; row < count; ++row) offsets.push_back(row * row_bytes);
    std::ranges::shuffle(offsets, random);
    for (std::size_t row = 0; row < count; ++row) {
      std::memcpy(bytes.data() + offsets[row], rows.data() + row * row_bytes, row_bytes);
    }
  }
  [[nodiscard]] RowSource source() const { return {.base = bytes.data(), .offsets = offsets.data()}; }
};

std::vector<std::byte> random_bytes(std::size_t count, std::mt19937_64& random) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

void rows_lie_side_by_side() {
  std::mt19937_64 random(1);
  for (const std::uint32_t row_bytes : {1U, 4U, 12U, 16U, 48U, 1024U, 4100U}) {
    for (const std::uint32_t rows : {1U, 3U, 64U}) {
      const std::vector<std::byte> expected = random_bytes(std::size_t{row_bytes} * rows, random);
      const Scattered from(expected, row_bytes, random);
      for (const std::uint32_t unit : {16U, 4U, 1U}) {
        if (row_bytes % unit != 0) continue;
        for (const std::uint32_t blocks_max : {0U, 1U}) {
          const BatchHead head{.sequence = 1, .rows = rows};
          std::vector<std::byte> to((rows + 2) * std::size_t{row_bytes}, std::byte{0x5A});
          const GatherWork work{.head = &head,
                                .rows = from.source(),
                                .to = to.data(),
                                .row_bytes = row_bytes,
                                .rows_max = rows + 2,
                                .unit = unit};
          run_on_host(work, grid_of(work, blocks_max));
          CHECK(std::memcmp(to.data(), expected.data(), expected.size()) == 0);
          for (std::size_t i = expected.size(); i < to.size(); ++i) CHECK(to[i] == std::byte{0x5A});
        }
      }
    }
  }
}

Step random_step(std::mt19937_64& random, std::uint32_t columns) {
  std::uniform_int_distribution<std::uint32_t> column(0, columns - 1);
  std::uniform_real_distribution<double> number(-3, 3);
  Step step{.kind = static_cast<StepKind>(random() % kStepKinds),
            .x = column(random),
            .y = column(random),
            .a = number(random),
            .b = number(random),
            .table = {}};
  if (random() % 4 == 0) step.a = std::array{0.0, 1e-20, 2.0}[random() % 3];  // where powers are logarithms
  if (step.kind == StepKind::kDatePart) step.a = static_cast<double>(random() % kDateParts);
  if (step.kind == StepKind::kClip && step.a > step.b) std::swap(step.a, step.b);
  if (step.kind == StepKind::kModulo) step.a = static_cast<double>(1 + random() % 9);
  if (step.kind == StepKind::kBin || step.kind == StepKind::kPlace || step.kind == StepKind::kLookup) {
    const std::size_t least = step.kind == StepKind::kLookup ? 2 : 0;
    for (std::size_t i = random() % 12 + least; i > 0; --i) step.table.push_back(-static_cast<double>(i));
  }
  return step;
}

constexpr std::array kOdd{0.0,
                          -0.0,
                          1.0,
                          -1.0,
                          -2.0,
                          2.5,
                          1.7e9,
                          1e300,
                          -1e300,
                          5e-324,
                          std::numeric_limits<double>::infinity(),
                          -std::numeric_limits<double>::infinity(),
                          std::numeric_limits<double>::quiet_NaN()};

// Two sources, one of them of small integers.
struct Case {
  std::vector<Source> sources{{DType::kFloat64, 5}, {DType::kInt16, 3}};
  std::vector<Step> steps;
  std::vector<Matrix> matrices;
};

Case random_case(std::mt19937_64& random, std::size_t steps) {
  Case made;
  std::uint32_t columns = 8;
  for (std::size_t i = 0; i < steps; ++i) made.steps.push_back(random_step(random, columns++));
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64}) {
    Matrix matrix{.dtype = dtype, .columns = 1, .placements = {{.x = kReserved, .at = 0, .width = 0}}};
    for (std::uint32_t x = 0; x < columns; ++x) {
      const auto width = static_cast<std::uint32_t>(random() % 4);
      matrix.placements.push_back({.x = x, .at = matrix.columns, .width = width});
      matrix.columns += width == 0 ? 1 : width;
    }
    made.matrices.push_back(std::move(matrix));
  }
  return made;
}

// NaNs are one: their sign and payload depend on the order of operands, which a compiler may swap.
template <typename T, typename Bits>
bool same_numbers(const std::vector<std::byte>& one, const std::vector<std::byte>& other) {
  for (std::size_t at = 0; at < one.size(); at += sizeof(T)) {
    Bits a;
    Bits b;
    std::memcpy(&a, one.data() + at, sizeof a);
    std::memcpy(&b, other.data() + at, sizeof b);
    if (a != b && !(std::isnan(std::bit_cast<T>(a)) && std::isnan(std::bit_cast<T>(b)))) return false;
  }
  return true;
}

bool same(DType dtype, const std::vector<std::byte>& one, const std::vector<std::byte>& other) {
  if (dtype == DType::kFloat32) return same_numbers<float, std::uint32_t>(one, other);
  if (dtype == DType::kFloat64) return same_numbers<double, std::uint64_t>(one, other);
  return one == other;
}

void check_case(const Case& made, std::uint32_t rows, std::mt19937_64& random) {
  std::vector<std::vector<std::byte>> sources{std::vector<std::byte>(rows * 5 * sizeof(double)),
                                              random_bytes(rows * 3 * sizeof(std::int16_t), random)};
  for (std::size_t i = 0; i < rows * 5; ++i) {
    const double value =
        random() % 3 == 0 ? kOdd[random() % kOdd.size()] : std::uniform_real_distribution<double>(-4, 4)(random);
    std::memcpy(sources[0].data() + i * sizeof value, &value, sizeof value);
  }
  Program program(made.sources, made.steps, made.matrices);
  std::vector<std::vector<std::byte>> expected;
  std::vector<std::vector<std::byte>> found;
  std::vector<std::byte*> places;
  std::vector<std::byte*> results;
  for (const Matrix& matrix : made.matrices) {
    expected.emplace_back(rows * matrix.columns * size_of(matrix.dtype), std::byte{0x11});
    found.push_back(expected.back());
    places.push_back(expected.back().data());
    results.push_back(found.back().data());
  }
  const std::array<const std::byte*, 2> arrays{sources[0].data(), sources[1].data()};
  const std::optional<Unfit> unfit = program.run(Lane::kScalar, arrays, rows, places);

  const StepsPlan plan(program);
  const std::vector<Scattered> scattered{{sources[0], 5 * sizeof(double), random},
                                         {sources[1], 3 * sizeof(std::int16_t), random}};
  const std::array<RowSource, 2> from{scattered[0].source(), scattered[1].source()};
  BatchHead head{.sequence = 1, .rows = rows};
  const StepsWork work = plan.work(plan.constants().data(), &head, from, results, rows + 40);
  run_on_host(work, grid_of(work));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(same(made.matrices[i].dtype, expected[i], found[i]));
  CHECK((head.unfit != 0) == unfit.has_value());
}

void steps_give_the_scalar_lanes_bits() {
  std::mt19937_64 random(2);
  for (int i = 0; i < 400; ++i) {
    check_case(random_case(random, random() % 30), static_cast<std::uint32_t>(1 + random() % 100), random);
  }
  // So many live columns that tiles have fewer rows.
  check_case(random_case(random, 500), 70, random);
}

void programs_without_room_are_refused() {
  std::vector<Matrix> matrices{{.dtype = DType::kFloat64, .columns = 5000, .placements = {}}};
  for (std::uint32_t x = 0; x < 5000; ++x) matrices[0].placements.push_back({.x = x, .at = x, .width = 0});
  const Program wide({{DType::kFloat64, 5000}}, {}, matrices);
  bool refused = false;
  try {
    const StepsPlan plan(wide);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

// What the scalar lane makes of an image, then rounded to the type asked for.
std::vector<std::byte> expected_image(const std::vector<std::byte>& image, ImageSize from, ImageSize to, Filter filter,
                                      const PixelFormat& format, bool resize) {
  const auto* const pixels = reinterpret_cast<const std::uint8_t*>(image.data());
  std::vector<std::uint8_t> sized(std::size_t{to.height} * to.width * format.channels);
  if (resize) {
    Resizer resizer(from, to, format.channels, filter,
                    {.left = 0, .top = 0, .right = double(from.width), .bottom = double(from.height)});
    resizer.run(Lane::kScalar, pixels, sized.data());
  } else {
    std::memcpy(sized.data(), pixels, sized.size());
  }
  const std::size_t count = std::size_t{to.height} * to.width;
  std::vector<float> floats(sized.size());
  normalize(Lane::kScalar, sized.data(), count, format.channels, format.scale, format.offset, format.planes,
            floats.data());
  std::vector<std::byte> result;
  const auto push = [&result](auto value) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof value>>(value);
    result.insert(result.end(), bytes.begin(), bytes.end());
  };
  for (std::size_t i = 0; i < floats.size(); ++i) {
    const std::size_t pixel = format.planes ? i % count : i / format.channels;
    const std::size_t channel = format.planes ? i / count : i % format.channels;
    if (format.type == PixelType::kUint8) push(sized[pixel * format.channels + channel]);
    if (format.type == PixelType::kFloat32) push(floats[i]);
    if (format.type == PixelType::kFloat16) push(to_half(double{floats[i]}).bits);
    if (format.type == PixelType::kBfloat16) {
      // The nearest of the two neighbours, by the definition.
      const auto below = std::bit_cast<std::uint32_t>(floats[i]) & 0xFFFF0000U;
      const double low = std::bit_cast<float>(below);
      const double high = std::bit_cast<float>(below + 0x10000U);
      const double value = floats[i];
      const double down = std::abs(value - low);
      const double up = std::abs(high - value);
      const bool even = (below & 0x10000U) == 0;
      push(static_cast<std::uint16_t>(((down < up || (down == up && even)) ? below : below + 0x10000U) >> 16));
    }
  }
  return result;
}

void check_images(ImageSize from, ImageSize to, Filter filter, const PixelFormat& format, std::mt19937_64& random) {
  constexpr std::uint32_t kImages = 3;
  const std::size_t bytes = std::size_t{from.height} * from.width * format.channels;
  const std::vector<std::byte> images = random_bytes(kImages * bytes, random);
  const bool resize = from.height != to.height || from.width != to.width;
  std::vector<std::byte> expected;
  for (std::uint32_t i = 0; i < kImages; ++i) {
    const std::vector<std::byte> image(images.begin() + std::ptrdiff_t(i * bytes),
                                       images.begin() + std::ptrdiff_t((i + 1) * bytes));
    const std::vector<std::byte> one = expected_image(image, from, to, filter, format, resize);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  const ImageBox whole{.left = 0, .top = 0, .right = double(from.width), .bottom = double(from.height)};
  const ImagePlan plan = resize ? ImagePlan(from, to, filter, whole, format) : ImagePlan(to, format);
  const Scattered source(images, bytes, random);
  const BatchHead head{.sequence = 1, .rows = kImages};
  for (const std::uint32_t blocks_max : {0U, 2U}) {
    std::vector<std::byte> found(expected.size());
    const ImageWork work = plan.work(plan.constants().data(), &head, source.source(), found.data(), kImages + 2);
    const Grid grid = grid_of(work, blocks_max);
    CHECK(blocks_max == 0 || grid.blocks <= blocks_max);
    run_on_host(work, grid);
    CHECK(expected == found);
  }
}

void images_give_the_scalar_lanes_bits() {
  std::mt19937_64 random(3);
  constexpr std::array kTypes{PixelType::kUint8, PixelType::kFloat16, PixelType::kBfloat16, PixelType::kFloat32};
  for (const PixelType type : kTypes) {
    for (const std::uint32_t channels : {1U, 3U, 4U}) {
      for (const bool planes : {false, true}) {
        const PixelFormat format{.type = type,
                                 .channels = channels,
                                 .planes = planes,
                                 .scale = {0.0171F, 0.0175F, 0.0174F, 1.0F},
                                 .offset = {-2.1F, -2.0F, -1.8F, 0.0F}};
        check_images({16, 32}, {16, 32}, Filter::kBilinear, format, random);  // in groups
        check_images({7, 5}, {7, 5}, Filter::kBilinear, format, random);
        check_images({4, 3}, {4, 3}, Filter::kBilinear, format, random);
        for (const Filter filter :
             {Filter::kNearest, Filter::kBox, Filter::kBilinear, Filter::kBicubic, Filter::kLanczos}) {
          check_images({90, 70}, {33, 40}, filter, format, random);
          check_images({20, 30}, {50, 41}, filter, format, random);
        }
      }
    }
  }
  // So many lines for one that tiles are smaller.
  check_images({2000, 300}, {20, 70}, Filter::kLanczos, {.type = PixelType::kFloat32, .channels = 3}, random);
}

void the_flag_says_which_batch_is_done() {
  const BatchHead head{.sequence = 42, .rows = 1};
  std::uint64_t flag = 41;
  run_on_host(SignalWork{.head = &head, .flag = &flag});
  CHECK(flag == 42);
}

}  // namespace

int main() {
  rows_lie_side_by_side();
  steps_give_the_scalar_lanes_bits();
  programs_without_room_are_refused();
  images_give_the_scalar_lanes_bits();
  the_flag_says_which_batch_is_done();
}
