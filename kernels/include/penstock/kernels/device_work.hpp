// Work for a device: what one launch of a kernel of the CUDA lane does, as one flat value.
//
// The same bodies (src/device/) are compiled twice: by nvcc into kernels, by the C++ compiler into functions of this
// library that walk through the grid block by block. So each value can be run by either, and the one tells what the
// other must give. All pointers are of the side that runs it; nothing in a value is read by the side that only packs
// it.
//
// A value stays as it is from batch to batch, so that it can be a node of a CUDA graph. What changes lies behind its
// pointers: the batch's head and where its rows begin, in pinned memory, written before each launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace penstock::device {

// Of one batch in flight. Kernels read it when they start, so one graph serves all batches of up to its rows.
struct BatchHead {
  std::uint64_t sequence = 0;  // what the flag becomes when the batch is done; ascending, never 0
  std::uint32_t rows = 0;      // that have an address; what is behind them stays as it is
  std::uint32_t unfit = 0;     // written by the device: 1 where an integer of a matrix did not hold its number
};

// One tensor of the batch's rows, wherever each lies: row r begins at base + offsets[r].
struct RowSource {
  const std::byte* base = nullptr;
  const std::uint64_t* offsets = nullptr;
};

// How many threads walk through a launch.
struct Grid {
  std::uint32_t blocks = 1;
  std::uint32_t threads = 256;
  std::uint32_t shared_bytes = 0;  // of a block
};

// Rows side by side. Reads and writes every byte once: bound by PCIe where the rows are pinned, else by HBM.
struct GatherWork {
  const BatchHead* head = nullptr;
  RowSource rows;
  std::byte* to = nullptr;
  std::uint64_t row_bytes = 0;
  std::uint32_t rows_max = 0;
  std::uint32_t unit = 1;  // bytes that one load takes: 16, 4 or 1, a divisor of row_bytes
};

// ---- features -------------------------------------------------------------------------------------------------------

inline constexpr std::uint32_t kSourcesMax = 12;
inline constexpr std::uint32_t kMatricesMax = 12;

// One element of a row on its way into a register.
struct LoadOp {
  std::uint32_t source = 0;
  std::uint32_t at = 0;  // bytes into the row
  std::uint32_t dtype = 0;
  std::uint32_t to = 0;  // register
};

struct StepOp {
  double a = 0.0;
  double b = 0.0;
  std::uint32_t kind = 0;
  std::uint32_t x = 0;  // registers, all three
  std::uint32_t y = 0;
  std::uint32_t to = 0;
  std::uint32_t table = 0;  // of its first number
  std::uint32_t table_size = 0;
};

// What one column of a matrix holds.
struct CellOp {
  static constexpr std::uint32_t kUntouched = ~std::uint32_t{0};  // somebody else's
  static constexpr std::int32_t kAsItIs = -1;
  std::uint32_t from = kUntouched;  // register
  std::int32_t place = kAsItIs;     // else 1 where the register is this place, 0 where not
};

struct MatrixOp {
  std::byte* to = nullptr;
  std::uint32_t dtype = 0;
  std::uint32_t columns = 0;
  std::uint32_t first_cell = 0;
  std::uint32_t element_bytes = 0;
};

// Registers of a tile of rows lie in a block's shared memory: every row is read once and every matrix written once.
struct StepsWork {
  BatchHead* head = nullptr;
  RowSource sources[kSourcesMax];
  MatrixOp matrices[kMatricesMax];
  const LoadOp* loads = nullptr;
  const StepOp* steps = nullptr;
  const double* tables = nullptr;
  const CellOp* cells = nullptr;
  std::uint32_t load_count = 0;
  std::uint32_t step_count = 0;
  std::uint32_t matrix_count = 0;
  std::uint32_t registers = 0;
  std::uint32_t tile_rows = 0;
  std::uint32_t rows_max = 0;
};

// ---- images ---------------------------------------------------------------------------------------------------------

enum class PixelType : std::uint32_t { kUint8, kFloat16, kBfloat16, kFloat32 };

// What makes one pixel of a line: as Resizer has it.
struct TapOp {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t at = 0;  // of its first weight
};

// Images of one size, uint8, pixels side by side: resized if they have to be, then pixel * scale + offset by channel.
// A resized tile's rows of the first image, narrowed, lie in a block's shared memory.
struct ImageWork {
  const BatchHead* head = nullptr;
  RowSource images;
  std::byte* to = nullptr;
  const TapOp* columns = nullptr;  // null: the size stays
  const TapOp* rows = nullptr;
  const std::int32_t* weights = nullptr;  // null: the nearest pixel
  std::uint32_t row_weights = 0;          // where those of rows begin
  std::uint32_t from_height = 0;
  std::uint32_t from_width = 0;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint32_t channels = 0;
  std::uint32_t planes = 0;  // channel by channel, else as pixels are
  std::uint32_t tile_height = 0;
  std::uint32_t tile_width = 0;
  std::uint32_t images_max = 0;
  PixelType type = PixelType::kFloat32;
  float scale[4] = {};
  float offset[4] = {};
};

// ---- the end of a batch ---------------------------------------------------------------------------------------------

// Tells the host: everything before it on the stream is done, and its writes to pinned memory can be seen.
struct SignalWork {
  const BatchHead* head = nullptr;
  std::uint64_t* flag = nullptr;
};

// All go to the device as parameters of a launch, which may have 4 KiB.
template <typename Work>
inline constexpr bool kIsWork = std::is_trivially_copyable_v<Work> && sizeof(Work) <= 4096;
static_assert(kIsWork<GatherWork> && kIsWork<StepsWork> && kIsWork<ImageWork> && kIsWork<SignalWork>);

// ---- the host's build of the bodies ---------------------------------------------------------------------------------

void run_on_host(const GatherWork& work, const Grid& grid) noexcept;
void run_on_host(const StepsWork& work, const Grid& grid);
void run_on_host(const ImageWork& work, const Grid& grid);
void run_on_host(const SignalWork& work) noexcept;

// ---- how work is laid out -------------------------------------------------------------------------------------------

// Threads that hide the latency of PCIe: 55 GB/s times 1.5 us are 82 KB on the way, 5,200 loads of 16 bytes, and each
// thread has kLoadsAhead of them.
inline constexpr std::uint32_t kLoadsAhead = 4;

// Blocks that read rows over PCIe. 64 of 256 threads have 256 KB on the way with a load each, three times what fills
// the bus. More would only wait on every multiprocessor, in the place of the batch before that is computed there.
inline constexpr std::uint32_t kBusBlocks = 64;

// `blocks_max` 0: as many as there is work for.

[[nodiscard]] Grid grid_of(const GatherWork& work, std::uint32_t blocks_max = 0) noexcept;
[[nodiscard]] Grid grid_of(const StepsWork& work) noexcept;
[[nodiscard]] Grid grid_of(const ImageWork& work, std::uint32_t blocks_max = 0) noexcept;

// What every device has for a block without being asked.
inline constexpr std::uint32_t kSharedBytesMax = 48 * 1024;

}  // namespace penstock::device
