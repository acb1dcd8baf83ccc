// penstock.native._kernels: dtypes, lanes, and the operations that tests compare with NumPy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings_answers.hpp"
#include "bindings_device.hpp"
#include "bindings_images.hpp"
#include "bindings_steps.hpp"
#include "bindings_words.hpp"
#include "penstock/kernels/dtype.hpp"
#include "penstock/kernels/gather.hpp"
#include "penstock/kernels/hash_text.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {
namespace {

using Halves = nb::ndarray<const std::uint16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::numpy, nb::ndim<1>, nb::c_contig>;
using Row = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename Array, typename Element>
Array own(std::unique_ptr<Element[]> data, std::initializer_list<std::size_t> shape) {
  nb::capsule owner(data.get(), [](void* pointer) noexcept { delete[] static_cast<Element*>(pointer); });
  Element* elements = data.release();
  return Array(elements, shape, owner);
}

Floats widen_halves(const Halves& halves, std::string_view lane) {
  auto floats = std::make_unique<float[]>(halves.size());
  widen(choose_lane(lane), reinterpret_cast<const std::byte*>(halves.data()), halves.size(), floats.get());
  const std::size_t count = halves.size();
  return own<Floats>(std::move(floats), {count});
}

std::uint16_t round_to_half(double value) { return to_half(value).bits; }

// Where each row lies, after a check that all have one length.
std::vector<const std::byte*> pointers(const std::vector<Row>& rows) {
  std::vector<const std::byte*> result;
  result.reserve(rows.size());
  for (const Row& row : rows) {
    if (row.size() != rows.front().size()) throw std::invalid_argument("rows differ in length");
    result.push_back(reinterpret_cast<const std::byte*>(row.data()));
  }
  return result;
}

auto gather_rows(const std::vector<Row>& rows) {
  using Batch = nb::ndarray<std::uint8_t, nb::numpy, nb::ndim<2>, nb::c_contig>;
  const std::vector<const std::byte*> from = pointers(rows);
  const std::size_t row_bytes = rows.empty() ? 0 : rows.front().size();
  auto batch = std::make_unique<std::uint8_t[]>(rows.size() * row_bytes);
  gather(from, row_bytes, reinterpret_cast<std::byte*>(batch.get()));
  return own<Batch>(std::move(batch), {rows.size(), row_bytes});
}

auto gather_widened_rows(const std::vector<Row>& rows, std::string_view lane) {
  using Batch = nb::ndarray<float, nb::numpy, nb::ndim<2>, nb::c_contig>;
  const std::vector<const std::byte*> from = pointers(rows);
  const std::size_t row_bytes = rows.empty() ? 0 : rows.front().size();
  if (row_bytes % sizeof(Half) != 0) throw std::invalid_argument("a row of float16 has an even number of bytes");
  const std::size_t row_elements = row_bytes / sizeof(Half);
  auto batch = std::make_unique<float[]>(rows.size() * row_elements);
  gather_widened(choose_lane(lane), from, row_elements, batch.get());
  return own<Batch>(std::move(batch), {rows.size(), row_elements});
}

std::vector<std::pair<std::string, int>> dtypes() {
  std::vector<std::pair<std::string, int>> result;
  for (const DTypeInfo& info : kDTypes) result.emplace_back(info.name, info.bytes);
  return result;
}

std::vector<std::string> lanes() {
  std::vector<std::string> result;
  for (const Lane lane : available_lanes()) result.emplace_back(name_of(lane));
  return result;
}

}  // namespace
}  // namespace penstock

NB_MODULE(_kernels, module) {
  using namespace penstock;
  module.def("dtypes", &dtypes, "Names and sizes in bytes of all element types, in the order of their numbers.");
  module.def("lanes", &lanes, "Lanes that this processor runs, the slowest first.");
  module.def(
      "lane", [] { return std::string(name_of(active_lane())); },
      "The lane of this process: PENSTOCK_LANE, or the fastest. ValueError when PENSTOCK_LANE names none.");
  module.def("round_to_half", &round_to_half, "value"_a, "Bits of the float16 nearest to value, ties to even.");
  module.def("widen", &widen_halves, "halves"_a, "lane"_a = "",
             "Float32 values of float16 bits (uint16, shape (n,)). ValueError for an unknown lane.");
  module.def(
      "gather", &gather_rows, "rows"_a,
      "Copy rows of bytes (uint8, shape (n,) each) into one batch, shape (rows, n). ValueError when lengths differ.");
  module.def("gather_widened", &gather_widened_rows, "rows"_a, "lane"_a = "",
             "Gather rows of float16 bytes (uint8, shape (2n,) each) as float32, shape (rows, n).");
  module.def("hash_text", &hash_text, "text"_a, "What a hashed string is in a record: MurmurHash3, 32 bits, of UTF-8.");
  bind_images(module);
  bind_steps(module);
  bind_answers(module);
  bind_words(module);
  bind_device(module);
}
