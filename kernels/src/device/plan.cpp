// Programs and resizings as constants for a device, and how many threads a launch has.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "images_body.hpp"
#include "penstock/kernels/device_plan.hpp"

namespace penstock::device {
namespace {

constexpr std::uint32_t kTileRows = 32;  // a warp: each of its threads takes a row through the steps
constexpr std::uint32_t kStepsThreads = 128;
constexpr std::uint32_t kThreads = 256;
constexpr std::uint32_t kTileWidth = 32;
constexpr std::uint32_t kTileHeight = 16;

// Appends values where their type may begin; where that is.
template <typename T>
[[nodiscard]] std::size_t append(std::vector<std::byte>& constants, std::span<const T> values) {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kConstantsAlignment);
  const std::size_t at = (constants.size() + kConstantsAlignment - 1) / kConstantsAlignment * kConstantsAlignment;
  constants.resize(at + values.size_bytes());
  if (!values.empty()) std::memcpy(constants.data() + at, values.data(), values.size_bytes());
  return at;
}

[[nodiscard]] std::vector<LoadOp> loads_of(const Program& program) {
  std::vector<LoadOp> loads;
  std::uint32_t column = 0;
  for (std::uint32_t source = 0; source < program.sources().size(); ++source) {
    const auto [dtype, columns] = program.sources()[source];
    for (std::uint32_t i = 0; i < columns; ++i, ++column) {
      const std::uint32_t to = program.register_of(column);
      if (to == Program::kNowhere) continue;
      loads.push_back({.source = source,
                       .at = i * static_cast<std::uint32_t>(penstock::size_of(dtype)),
                       .dtype = static_cast<std::uint32_t>(dtype),
                       .to = to});
    }
  }
  return loads;
}

[[nodiscard]] std::vector<StepOp> steps_of(const Program& program, std::vector<double>& tables) {
  std::vector<StepOp> ops;
  for (std::uint32_t i = 0; i < program.steps().size(); ++i) {
    const Step& step = program.steps()[i];
    const std::uint32_t x = program.register_of(step.x);
    ops.push_back({.a = step.a,
                   .b = step.b,
                   .kind = static_cast<std::uint32_t>(step.kind),
                   .x = x,
                   .y = takes_two(step.kind) ? program.register_of(step.y) : x,
                   .to = program.register_of(program.elements() + i),
                   .table = static_cast<std::uint32_t>(tables.size()),
                   .table_size = static_cast<std::uint32_t>(step.table.size())});
    tables.insert(tables.end(), step.table.begin(), step.table.end());
  }
  return ops;
}

void add_cells(const Program& program, const Matrix& matrix, std::vector<CellOp>& cells) {
  const std::size_t first = cells.size();
  cells.resize(first + matrix.columns);
  for (const Placement& placement : matrix.placements) {
    if (placement.x == kReserved) continue;
    const std::uint32_t from = program.register_of(placement.x);
    if (placement.width == 0) {
      cells[first + placement.at] = {.from = from, .place = CellOp::kAsItIs};
      continue;
    }
    for (std::uint32_t place = 0; place < placement.width; ++place) {
      cells[first + placement.at + place] = {.from = from, .place = static_cast<std::int32_t>(place)};
    }
  }
}

[[nodiscard]] std::uint32_t steps_shared_bytes(std::uint32_t registers, std::uint32_t rows) noexcept {
  return registers * (rows + 1) * static_cast<std::uint32_t>(sizeof(double));
}

template <typename T>
[[nodiscard]] const T* at(const std::byte* constants, std::size_t offset) noexcept {
  return reinterpret_cast<const T*>(constants + offset);
}

[[nodiscard]] std::vector<TapOp> taps_of(const Resizer::Axis& axis) {
  std::vector<TapOp> taps;
  for (const Resizer::Taps& each : axis.taps) taps.push_back({each.first, each.count, each.at});
  return taps;
}

}  // namespace

StepsPlan::StepsPlan(const Program& program) : source_count_(program.sources().size()) {
  if (source_count_ > kSourcesMax || program.matrices().size() > kMatricesMax) {
    throw std::invalid_argument("a device takes 12 sources and 12 matrices at most");
  }
  registers_ = static_cast<std::uint32_t>(program.registers());
  for (tile_rows_ = kTileRows; steps_shared_bytes(registers_, tile_rows_) > kSharedBytesMax; tile_rows_ /= 2) {
    if (tile_rows_ == 1) throw std::invalid_argument("more columns live at once than a device has room for");
  }
  std::vector<double> tables;
  std::vector<CellOp> cells;
  const std::vector<LoadOp> loads = loads_of(program);
  const std::vector<StepOp> steps = steps_of(program, tables);
  for (const Matrix& matrix : program.matrices()) {
    matrices_.push_back({.to = nullptr,
                         .dtype = static_cast<std::uint32_t>(matrix.dtype),
                         .columns = matrix.columns,
                         .first_cell = static_cast<std::uint32_t>(cells.size()),
                         .element_bytes = static_cast<std::uint32_t>(penstock::size_of(matrix.dtype))});
    add_cells(program, matrix, cells);
  }
  load_count_ = static_cast<std::uint32_t>(loads.size());
  step_count_ = static_cast<std::uint32_t>(steps.size());
  static_cast<void>(append<LoadOp>(constants_, loads));  // at 0
  steps_at_ = append<StepOp>(constants_, steps);
  tables_at_ = append<double>(constants_, tables);
  cells_at_ = append<CellOp>(constants_, cells);
}

StepsWork StepsPlan::work(const std::byte* constants, BatchHead* head, std::span<const RowSource> sources,
                          std::span<std::byte* const> results, std::uint32_t rows_max) const noexcept {
  StepsWork work;
  work.head = head;
  std::ranges::copy(sources, work.sources);
  for (std::size_t i = 0; i < matrices_.size(); ++i) {
    work.matrices[i] = matrices_[i];
    work.matrices[i].to = results[i];
  }
  work.loads = at<LoadOp>(constants, 0);
  work.steps = at<StepOp>(constants, steps_at_);
  work.tables = at<double>(constants, tables_at_);
  work.cells = at<CellOp>(constants, cells_at_);
  work.load_count = load_count_;
  work.step_count = step_count_;
  work.matrix_count = static_cast<std::uint32_t>(matrices_.size());
  work.registers = registers_;
  work.tile_rows = tile_rows_;
  work.rows_max = rows_max;
  return work;
}

ImagePlan::ImagePlan(ImageSize size, const PixelFormat& format) {
  if (size.height == 0 || size.width == 0 || size.height > Resizer::kExtentMax || size.width > Resizer::kExtentMax) {
    throw std::invalid_argument("an image has between 1 and 32768 pixels either way");
  }
  if (format.channels < 1 || format.channels > 4) throw std::invalid_argument("an image has 1 to 4 channels");
  work_.from_height = work_.height = size.height;
  work_.from_width = work_.width = size.width;
  work_.channels = format.channels;
  work_.planes = format.planes ? 1 : 0;
  work_.type = format.type;
  std::ranges::copy(format.scale, work_.scale);
  std::ranges::copy(format.offset, work_.offset);
}

ImagePlan::ImagePlan(ImageSize from, ImageSize to, Filter filter, const ImageBox& box, const PixelFormat& format)
    : ImagePlan(to, format) {
  const Resizer resizer(from, to, format.channels, filter, box);
  work_.from_height = from.height;
  work_.from_width = from.width;
  resizes_ = true;
  const std::vector<Resizer::Taps>& lines = resizer.vertical().taps;
  std::uint32_t height = kTileHeight;
  std::uint32_t width = kTileWidth;
  while (height > 1 && !fits_tile(lines, height, width)) height /= 2;
  while (width > 1 && !fits_tile(lines, height, width)) width /= 2;
  if (!fits_tile(lines, height, width)) throw std::invalid_argument("an image shrinks too far for one pass");
  work_.tile_height = height;
  work_.tile_width = width;

  std::vector<std::int32_t> weights = resizer.horizontal().weights;
  work_.row_weights = static_cast<std::uint32_t>(weights.size());
  weights.insert(weights.end(), resizer.vertical().weights.begin(), resizer.vertical().weights.end());
  static_cast<void>(append<TapOp>(constants_, taps_of(resizer.horizontal())));  // at 0
  rows_at_ = append<TapOp>(constants_, taps_of(resizer.vertical()));
  weights_at_ = append<std::int32_t>(constants_, weights);
  // Told apart from an address by being null: the nearest pixel needs no weights.
  if (weights.empty()) weights_at_ = 0;
}

bool ImagePlan::fits_tile(const std::vector<Resizer::Taps>& rows, std::uint32_t height,
                          std::uint32_t width) const noexcept {
  std::uint64_t most = 0;
  for (std::size_t top = 0; top < rows.size(); top += height) {
    const Resizer::Taps& last = rows[std::min<std::size_t>(top + height, rows.size()) - 1];
    most = std::max<std::uint64_t>(most, last.first + last.count - rows[top].first);
  }
  return most * width * work_.channels <= kSharedBytesMax;
}

ImageWork ImagePlan::work(const std::byte* constants, const BatchHead* head, const RowSource& images, std::byte* to,
                          std::uint32_t images_max) const noexcept {
  ImageWork work = work_;
  work.head = head;
  work.images = images;
  work.to = to;
  work.images_max = images_max;
  if (resizes_) {
    work.columns = at<TapOp>(constants, 0);
    work.rows = at<TapOp>(constants, rows_at_);
    work.weights = weights_at_ == 0 ? nullptr : at<std::int32_t>(constants, weights_at_);
  }
  return work;
}

Grid grid_of(const GatherWork& work, std::uint32_t blocks_max) noexcept {
  const std::uint64_t units = work.row_bytes / work.unit * work.rows_max;
  const std::uint64_t each = std::uint64_t{kThreads} * kLoadsAhead;
  const auto blocks = static_cast<std::uint32_t>(std::clamp<std::uint64_t>((units + each - 1) / each, 1, 65'535));
  return {.blocks = blocks_max == 0 ? blocks : std::min(blocks, blocks_max), .threads = kThreads, .shared_bytes = 0};
}

Grid grid_of(const StepsWork& work) noexcept {
  return {.blocks = std::max(1U, (work.rows_max + work.tile_rows - 1) / work.tile_rows),
          .threads = kStepsThreads,
          .shared_bytes = std::max(steps_shared_bytes(work.registers, work.tile_rows), 16U)};
}

Grid grid_of(const ImageWork& work, std::uint32_t blocks_max) noexcept {
  std::uint64_t blocks = 0;
  std::uint32_t shared = kSharedBytesMax;
  if (work.columns == nullptr) {
    const SameSize way = way_of(work);
    const std::uint64_t items = items_each(work, way) * work.images_max;
    blocks = (items + kThreads - 1) / kThreads;
    shared = way == SameSize::kGroups ? kThreads * kGroupBytes : 0;
  } else {
    blocks = std::uint64_t{tiles_across(work)} * tiles_down(work) * work.images_max;
  }
  const std::uint64_t most = blocks_max == 0 ? 1U << 30 : blocks_max;
  return {.blocks = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(blocks, 1, most)),
          .threads = kThreads,
          .shared_bytes = shared};
}

}  // namespace penstock::device
