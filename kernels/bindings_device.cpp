#include "bindings_device.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "bindings_steps.hpp"
#include "penstock/kernels/device_plan.hpp"
#include "penstock/kernels/device_work.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {
namespace {

using namespace device;

// Addresses are of the side that runs the work: numbers here, which nobody follows before that.
template <typename T>
[[nodiscard]] T* pointer(std::uint64_t address) noexcept {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));  // NOLINT(performance-no-int-to-ptr)
}

[[nodiscard]] nb::bytes bytes_of(std::span<const std::byte> bytes) { return nb::bytes(bytes.data(), bytes.size()); }

class PyWork {
 public:
  using Any = std::variant<GatherWork, StepsWork, ImageWork, SignalWork>;
  PyWork(const char* kernel, Any work, Grid grid) : kernel_(kernel), work_(work), grid_(grid) {}

  [[nodiscard]] std::string kernel() const { return kernel_; }
  [[nodiscard]] nb::bytes parameters() const {
    return std::visit([](const auto& work) { return bytes_of(std::as_bytes(std::span(&work, 1))); }, work_);
  }
  [[nodiscard]] std::tuple<std::uint32_t, std::uint32_t, std::uint32_t> grid() const {
    return {grid_.blocks, grid_.threads, grid_.shared_bytes};
  }

  void run() const {
    const nb::gil_scoped_release unlocked;
    if (const auto* const signal = std::get_if<SignalWork>(&work_)) return run_on_host(*signal);
    if (const auto* const gather = std::get_if<GatherWork>(&work_)) return run_on_host(*gather, grid_);
    if (const auto* const steps = std::get_if<StepsWork>(&work_)) return run_on_host(*steps, grid_);
    run_on_host(std::get<ImageWork>(work_), grid_);
  }

 private:
  const char* kernel_;
  Any work_;
  Grid grid_;
};

using Rows = std::pair<std::uint64_t, std::uint64_t>;  // the addresses of the base and of the offsets

[[nodiscard]] RowSource source_of(const Rows& rows) noexcept {
  return {.base = pointer<const std::byte>(rows.first), .offsets = pointer<const std::uint64_t>(rows.second)};
}

[[nodiscard]] PyWork gather_work(std::uint64_t head, const Rows& rows, std::uint64_t to, std::uint64_t row_bytes,
                                 std::uint32_t rows_max, std::uint32_t blocks_max) {
  if (row_bytes == 0 || row_bytes > std::uint64_t{1} << 32) throw std::invalid_argument("a row has 1 byte to 4 GiB");
  const std::uint32_t unit = row_bytes % 16 == 0 ? 16 : row_bytes % 4 == 0 ? 4 : 1;
  const GatherWork work{.head = pointer<const BatchHead>(head),
                        .rows = source_of(rows),
                        .to = pointer<std::byte>(to),
                        .row_bytes = row_bytes,
                        .rows_max = rows_max,
                        .unit = unit};
  return {"penstock_gather", work, grid_of(work, blocks_max)};
}

[[nodiscard]] PyWork signal_work(std::uint64_t head, std::uint64_t flag) {
  const SignalWork work{.head = pointer<const BatchHead>(head), .flag = pointer<std::uint64_t>(flag)};
  return {"penstock_signal", work, {.blocks = 1, .threads = 1, .shared_bytes = 0}};
}

class PySteps {
 public:
  PySteps(const std::vector<SourceTuple>& sources, std::vector<StepTuple> steps,
          const std::vector<MatrixTuple>& matrices)
      : plan_(program_of(sources, steps, matrices)) {}

  [[nodiscard]] nb::bytes constants() const { return bytes_of(plan_.constants()); }
  [[nodiscard]] PyWork work(std::uint64_t constants, std::uint64_t head, const std::vector<Rows>& sources,
                            const std::vector<std::uint64_t>& results, std::uint32_t rows_max) const {
    if (sources.size() != plan_.sources() || results.size() != plan_.matrices()) {
      throw std::invalid_argument("one array is needed for each source, and one for each matrix");
    }
    std::vector<RowSource> from;
    for (const Rows& rows : sources) from.push_back(source_of(rows));
    std::vector<std::byte*> to;
    for (const std::uint64_t result : results) to.push_back(pointer<std::byte>(result));
    const StepsWork made =
        plan_.work(pointer<const std::byte>(constants), pointer<BatchHead>(head), from, to, rows_max);
    return {"penstock_steps", made, grid_of(made)};
  }

 private:
  StepsPlan plan_;
};

[[nodiscard]] PixelType pixel_type(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames{"uint8", "float16", "bfloat16", "float32"};
  const auto* const found = std::ranges::find(kNames, name);
  if (found == kNames.end()) throw std::invalid_argument("pixels become uint8, float16, bfloat16 or float32");
  return static_cast<PixelType>(found - kNames.begin());
}

using Size = std::pair<std::uint32_t, std::uint32_t>;  // height, width
using Box = std::tuple<double, double, double, double>;

class PyImages {
 public:
  PyImages(Size from, Size to, std::string_view dtype, bool planes, const std::vector<float>& scale,
           const std::vector<float>& offset, std::string_view filter, const Box& box)
      : plan_(make(from, to, format_of(dtype, planes, scale, offset), filter, box)) {}

  [[nodiscard]] nb::bytes constants() const { return bytes_of(plan_.constants()); }
  [[nodiscard]] PyWork work(std::uint64_t constants, std::uint64_t head, const Rows& images, std::uint64_t to,
                            std::uint32_t images_max, std::uint32_t blocks_max) const {
    const ImageWork made = plan_.work(pointer<const std::byte>(constants), pointer<const BatchHead>(head),
                                      source_of(images), pointer<std::byte>(to), images_max);
    return {"penstock_images", made, grid_of(made, blocks_max)};
  }

 private:
  [[nodiscard]] static PixelFormat format_of(std::string_view dtype, bool planes, const std::vector<float>& scale,
                                             const std::vector<float>& offset) {
    if (scale.empty() || scale.size() > 4 || scale.size() != offset.size()) {
      throw std::invalid_argument("an image has 1 to 4 channels, each with a scale and an offset");
    }
    PixelFormat format{
        .type = pixel_type(dtype), .channels = static_cast<std::uint32_t>(scale.size()), .planes = planes};
    std::ranges::copy(scale, format.scale);
    std::ranges::copy(offset, format.offset);
    return format;
  }

  [[nodiscard]] static ImagePlan make(Size from, Size to, const PixelFormat& format, std::string_view filter,
                                      const Box& box) {
    const ImageSize size{.height = to.first, .width = to.second};
    const auto [left, top, right, bottom] = box;
    const bool whole = left == 0 && top == 0 && right == from.second && bottom == from.first;
    if (from == to && whole) return {size, format};
    const std::optional<Filter> known = filter_from_name(filter);
    if (!known) throw std::invalid_argument(std::string("unknown filter ").append(filter));
    return {{.height = from.first, .width = from.second},
            size,
            *known,
            {.left = left, .top = top, .right = right, .bottom = bottom},
            format};
  }

  ImagePlan plan_;
};

[[nodiscard]] std::uint64_t read_flag(std::uint64_t address) noexcept {
  // Acquire: what the device wrote before the flag; pairs with penstock_signal and its build for the host.
  return std::atomic_ref(*pointer<std::uint64_t>(address)).load(std::memory_order_acquire);
}

void write_head(std::uint64_t address, std::uint64_t sequence, std::uint32_t rows) noexcept {
  *pointer<BatchHead>(address) = {.sequence = sequence, .rows = rows, .unfit = 0};
}

[[nodiscard]] bool read_unfit(std::uint64_t address) noexcept { return pointer<const BatchHead>(address)->unfit != 0; }

}  // namespace

void bind_device(nb::module_& module) {
  nb::class_<PyWork>(module, "DeviceWork", "One launch of a kernel of the CUDA lane (kernels/device_work.hpp).")
      .def_prop_ro("kernel", &PyWork::kernel, "Its name in the module of kernels.")
      .def_prop_ro("parameters", &PyWork::parameters, "The one parameter of the kernel, by value.")
      .def_prop_ro("grid", &PyWork::grid, "Blocks, threads of a block, bytes of shared memory of a block.")
      .def("run", &PyWork::run, "Run it here: its addresses are of this process. Without the GIL.");
  module.def("gather_work", &gather_work, "head"_a, "rows"_a, "to"_a, "row_bytes"_a, "rows_max"_a, "blocks_max"_a = 0,
             "Rows side by side. rows: the addresses of a base and of each row's offset from it.");
  module.def("signal_work", &signal_work, "head"_a, "flag"_a, "The end of a batch: its number into the flag.");
  nb::class_<PySteps>(module, "DeviceSteps", "A program of feature steps for a device; arguments as of Program.")
      .def(nb::init<const std::vector<SourceTuple>&, std::vector<StepTuple>, const std::vector<MatrixTuple>&>(),
           "sources"_a, "steps"_a, "matrices"_a, "ValueError as Program, and for a program that no block has room for.")
      .def_prop_ro("constants", &PySteps::constants, "What it needs in the device's memory.")
      .def("work", &PySteps::work, "constants"_a, "head"_a, "sources"_a, "results"_a, "rows_max"_a,
           "A launch: addresses of the constants, the batch's head, each source's rows, and each matrix.");
  nb::class_<PyImages>(module, "DeviceImages", "Images resized and normalised by a device in one pass.")
      .def(nb::init<Size, Size, std::string_view, bool, const std::vector<float>&, const std::vector<float>&,
                    std::string_view, const Box&>(),
           "size"_a, "result"_a, "dtype"_a, "planes"_a, "scale"_a, "offset"_a, "filter"_a, "box"_a,
           "Sizes: (height, width); dtype: uint8, float16, bfloat16 or float32. ValueError for what cannot be.")
      .def_prop_ro("constants", &PyImages::constants, "What it needs in the device's memory.")
      .def("work", &PyImages::work, "constants"_a, "head"_a, "images"_a, "to"_a, "images_max"_a, "blocks_max"_a = 0,
           "A launch: addresses of the constants, the batch's head, the images' rows, and the result.");
  module.attr("BUS_BLOCKS") = kBusBlocks;
  module.def("read_flag", &read_flag, "address"_a, "The flag's value, and with it what was written before it.");
  module.def("write_head", &write_head, "address"_a, "sequence"_a, "rows"_a, "Say what the next batch is.");
  module.def("read_unfit", &read_unfit, "address"_a,
             "Whether a row of the batch that is done had a number which an integer of a matrix does not hold.");
}

}  // namespace penstock
