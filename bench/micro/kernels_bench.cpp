// Gigabytes per second of the operations on tensors, counting bytes read and bytes written, against a memcpy that moves
// as many bytes.
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "penstock/kernels/answers.hpp"
#include "penstock/kernels/gather.hpp"
#include "penstock/kernels/half.hpp"
#include "penstock/kernels/images.hpp"
#include "penstock/kernels/lane.hpp"
#include "report.hpp"

namespace {

using namespace penstock;
using bench::keep;
using bench::Limit;
using bench::Report;

constexpr std::size_t kRows = 64;

Limit memcpy_limit(Report& report, std::size_t bytes_moved) {
  const std::size_t bytes = bytes_moved / 2;  // half is read, half is written
  std::vector<std::byte> from(bytes);
  std::vector<std::byte> to(bytes);
  const auto samples = report.measure_rate("memcpy of " + std::to_string(bytes) + " B", bytes_moved, {}, [&] {
    std::memcpy(to.data(), from.data(), bytes);
    keep(*to.data());
  });
  return {.value = samples.median, .source = "memcpy"};
}

// Rows that lie apart, as slots of an arena do.
struct Rows {
  explicit Rows(std::size_t row_bytes) : memory(kRows * 2 * row_bytes) {
    for (std::size_t i = 0; i < kRows; ++i) rows.push_back(memory.data() + 2 * i * row_bytes);
  }
  std::vector<std::byte> memory;
  std::vector<const std::byte*> rows;
};

void gather_rows(Report& report, std::size_t row_bytes) {
  const Rows from(row_bytes);
  std::vector<std::byte> batch(kRows * row_bytes);
  const Limit limit = memcpy_limit(report, 2 * batch.size());
  report.measure_rate("gather 64 rows of " + std::to_string(row_bytes) + " B", 2 * batch.size(), limit, [&] {
    gather(from.rows, row_bytes, batch.data());
    keep(*batch.data());
  });
}

void widen_rows(Report& report, std::size_t elements) {
  const Rows from(elements * sizeof(Half));
  std::vector<float> batch(kRows * elements);
  const std::size_t moved = kRows * elements * (sizeof(Half) + sizeof(float));
  const Limit limit = memcpy_limit(report, moved);
  for (const Lane lane : available_lanes()) {
    const std::string name(name_of(lane));
    report.measure_rate(name + ": gather and widen 64 x " + std::to_string(elements), moved, limit, [&] {
      gather_widened(lane, from.rows, elements, batch.data());
      keep(*batch.data());
    });
    report.measure_rate(name + ": widen " + std::to_string(kRows * elements), moved, limit, [&] {
      widen(lane, from.memory.data(), kRows * elements, batch.data());
      keep(*batch.data());
    });
  }
}

// What a model of photographs is given: floats by channel. Four bytes are written for each that is read.
void normalize_photographs(Report& report) {
  constexpr std::size_t kPixels = 224 * 224;
  constexpr std::size_t kImages = 8;
  const std::vector<std::uint8_t> from(kImages * kPixels * 3, 77);
  std::vector<float> to(kImages * kPixels * 3);
  const std::array scale{0.0171F, 0.0175F, 0.0174F};
  const std::array offset{-2.1F, -2.0F, -1.8F};
  const std::size_t moved = from.size() * (1 + sizeof(float));
  const Limit limit = memcpy_limit(report, moved);
  for (const Lane lane : available_lanes()) {
    report.measure_rate(std::string(name_of(lane)) + ": normalize 8 x 224x224x3", moved, limit, [&] {
      for (std::size_t i = 0; i < kImages; ++i) {
        normalize(lane, from.data() + i * kPixels * 3, kPixels, 3, scale.data(), offset.data(), true,
                  to.data() + i * kPixels * 3);
      }
      keep(*to.data());
    });
  }
}

// Writing float16 is part of a reply or a body, a number at a time: there is no lane for it.
void narrow(Report& report) {
  constexpr std::size_t kCount = 4096;
  std::vector<double> from(kCount, 0.3);
  std::vector<Half> to(kCount);
  const std::size_t moved = kCount * (sizeof(double) + sizeof(Half));
  const Limit limit = memcpy_limit(report, moved);
  report.measure_rate("to_half of 4096 numbers", moved, limit, [&] {
    for (std::size_t i = 0; i < kCount; ++i) to[i] = to_half(from[i]);
    keep(*to.data());
  });
}

// Label and confidence of 64 rows: what is read is scores, what is written next to nothing.
void answer_rows(Report& report, std::uint32_t classes) {
  std::vector<float> scores(kRows * classes);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>(i * 7919 % 613) / 100.0F;
  std::vector<std::int32_t> labels(kRows);
  std::vector<float> confidences(kRows);
  ClassAnswer answer({.dtype = DType::kFloat32, .elements = classes});
  ClassResults to;
  to.label = labels.data();
  to.confidence = {.to = reinterpret_cast<std::byte*>(confidences.data())};
  const std::size_t moved = scores.size() * sizeof(float);
  for (const Lane lane : available_lanes()) {
    const std::string name(name_of(lane));
    report.measure_rate(name + ": label 64 rows of " + std::to_string(classes) + " classes", moved, {}, [&] {
      keep(answer.run(lane, reinterpret_cast<const std::byte*>(scores.data()), kRows, to));
      keep(labels.front());
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  Report report("kernels", argc, argv);
  for (const std::size_t row_bytes : {128UL, 1024UL, 16'384UL, 150'528UL}) gather_rows(report, row_bytes);
  for (const std::size_t elements : {32UL, 256UL, 8192UL}) widen_rows(report, elements);
  normalize_photographs(report);
  narrow(report);
  for (const std::uint32_t classes : {3U, 1000U}) answer_rows(report, classes);
  return 0;
}
