// Every lane against the scalar one, on memory that ends where the data ends.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "penstock/kernels/gather.hpp"

namespace {

using penstock::Half;
using penstock::Lane;

std::vector<std::uint32_t> widened(Lane lane, const std::vector<std::uint16_t>& halves) {
  const std::unique_ptr<float[]> floats(new float[halves.size()]);
  penstock::widen(lane, reinterpret_cast<const std::byte*>(halves.data()), halves.size(), floats.get());
  std::vector<std::uint32_t> bits(halves.size());
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = std::bit_cast<std::uint32_t>(floats[i]);
  return bits;
}

void check_widen(Lane lane) {
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  CHECK(widened(lane, all) == widened(Lane::kScalar, all));
  for (std::size_t length = 0; length < 40; ++length) {
    const std::vector<std::uint16_t> some(all.begin() + 15360,
                                          all.begin() + 15360 + static_cast<std::ptrdiff_t>(length));
    CHECK(widened(lane, some) == widened(Lane::kScalar, some));
  }
}

void check_every_half_comes_back() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const float value = penstock::to_float(half);
    const Half back = penstock::to_half(static_cast<double>(value));
    CHECK(std::isnan(value) ? std::isnan(penstock::to_float(back)) : back.bits == half.bits);
  }
}

void check_gather(Lane lane) {
  constexpr std::size_t kElements = 37;
  std::vector<std::vector<std::uint16_t>> rows(5, std::vector<std::uint16_t>(kElements));
  std::vector<const std::byte*> pointers;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t i = 0; i < kElements; ++i) rows[row][i] = static_cast<std::uint16_t>(0x3C00 + row * 64 + i);
    pointers.push_back(reinterpret_cast<const std::byte*>(rows[row].data()));
  }
  const std::size_t row_bytes = kElements * sizeof(std::uint16_t);
  const std::unique_ptr<std::byte[]> batch(new std::byte[rows.size() * row_bytes]);
  penstock::gather(pointers, row_bytes, batch.get());
  const std::unique_ptr<float[]> floats(new float[rows.size() * kElements]);
  penstock::gather_widened(lane, pointers, kElements, floats.get());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    CHECK(std::memcmp(batch.get() + row * row_bytes, pointers[row], row_bytes) == 0);
    for (std::size_t i = 0; i < kElements; ++i) {
      CHECK(floats[row * kElements + i] == penstock::to_float(Half{rows[row][i]}));
    }
  }
}

void check_choice() {
  CHECK(penstock::available_lanes().front() == Lane::kScalar);
  CHECK(penstock::choose_lane("") == penstock::available_lanes().back());
  CHECK(penstock::choose_lane("scalar") == Lane::kScalar);
  bool refused = false;
  try {
    static_cast<void>(penstock::choose_lane("avx9"));
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

}  // namespace

int main() {
  check_choice();
  check_every_half_comes_back();
  for (const Lane lane : penstock::available_lanes()) {
    check_widen(lane);
    check_gather(lane);
  }
  return 0;
}
