#include "bindings_images.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "penstock/kernels/images.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {
namespace {

using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Resized = nb::ndarray<std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Images = nb::ndarray<const std::uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Box = std::tuple<double, double, double, double>;

[[nodiscard]] Lane lane_of(std::string_view name) { return name.empty() ? active_lane() : choose_lane(name); }

[[nodiscard]] ImageSize size_of(std::size_t height, std::size_t width) {
  if (height > Resizer::kExtentMax || width > Resizer::kExtentMax) throw std::invalid_argument("an image is too large");
  return {.height = static_cast<std::uint32_t>(height), .width = static_cast<std::uint32_t>(width)};
}

void resize(const Pixels& pixels, const Resized& result, std::string_view filter, const Box& box,
            std::string_view lane) {
  const std::optional<Filter> known = filter_from_name(filter);
  if (!known) throw std::invalid_argument(std::string("unknown filter ").append(filter));
  if (pixels.shape(2) != result.shape(2)) throw std::invalid_argument("both images must have the same channels");
  const auto [left, top, right, bottom] = box;
  Resizer resizer(size_of(pixels.shape(0), pixels.shape(1)), size_of(result.shape(0), result.shape(1)),
                  static_cast<std::uint32_t>(pixels.shape(2)), *known,
                  {.left = left, .top = top, .right = right, .bottom = bottom});
  const Lane chosen = lane_of(lane);
  const nb::gil_scoped_release unlocked;
  resizer.run(chosen, pixels.data(), result.data());
}

void normalize_images(const Images& pixels, const Floats& result, const std::vector<float>& scale,
                      const std::vector<float>& offset, bool planes, std::string_view lane) {
  const std::size_t height = pixels.shape(1);
  const std::size_t width = pixels.shape(2);
  const std::size_t channels = pixels.shape(3);
  if (channels < 1 || channels > 4 || scale.size() != channels || offset.size() != channels) {
    throw std::invalid_argument("an image has 1 to 4 channels, each with a scale and an offset");
  }
  const bool fits = planes ? result.shape(1) == channels && result.shape(2) == height && result.shape(3) == width
                           : result.shape(1) == height && result.shape(2) == width && result.shape(3) == channels;
  if (!fits || result.shape(0) != pixels.shape(0)) throw std::invalid_argument("the result has another shape");
  const Lane chosen = lane_of(lane);
  const nb::gil_scoped_release unlocked;
  const std::size_t bytes = height * width * channels;
  for (std::size_t image = 0; image < pixels.shape(0); ++image) {
    normalize(chosen, pixels.data() + image * bytes, height * width, static_cast<std::uint32_t>(channels), scale.data(),
              offset.data(), planes, result.data() + image * bytes);
  }
}

}  // namespace

void bind_images(nb::module_& module) {
  module.def("resize", &resize, "pixels"_a, "result"_a, "filter"_a, "box"_a, "lane"_a = "",
             "Resize the part (left, top, right, bottom) of an image (uint8, shape (height, width, channels)) into "
             "result. ValueError for sizes, channels, a filter or a box that cannot be.");
  module.def(
      "normalize", &normalize_images, "pixels"_a, "result"_a, "scale"_a, "offset"_a, "planes"_a, "lane"_a = "",
      "pixel * scale + offset by channel, of images (uint8, shape (n, height, width, channels)): float32 of shape (n, "
      "channels, height, width) with planes, else as the images have it. ValueError when a shape does not fit.");
}

}  // namespace penstock
