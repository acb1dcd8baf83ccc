#include "ring_layout.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace penstock::batcher {
namespace {

void check_tensor(const TensorSpec& tensor) {
  const std::string what = "tensor '" + tensor.name + "'";
  if (tensor.name.empty() || tensor.name.size() > sizeof(TensorRecord::name))
    throw std::invalid_argument(what + ": a name has 1 to 128 bytes");
  if (tensor.shape.size() > kShapeRankMax) throw std::invalid_argument(what + " has more than 6 dimensions");
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const std::uint32_t extent : tensor.shape) {
    if (extent == 0) throw std::invalid_argument(what + " has no elements");
    if (bytes > kRowBytesMax / extent) throw std::invalid_argument(what + " is larger than 4 GiB a row");
    bytes *= extent;
  }
}

void check_tensors(const RowLayout& layout, const char* which) {
  if (layout.size() == 0) throw std::invalid_argument(std::string("a model has at least one ") + which);
  if (layout.size() > kTensorsMax) throw std::invalid_argument(std::string("more than 64 tensors as ") + which);
  for (const TensorSpec& tensor : layout.tensors()) check_tensor(tensor);
}

// Lays `rows` rows of each tensor behind `*end`, every tensor on a cache line.
std::vector<std::uint64_t> place(const RowLayout& layout, std::uint32_t rows, std::uint64_t* end) {
  std::vector<std::uint64_t> offsets;
  offsets.reserve(layout.size());
  for (const TensorSpec& tensor : layout.tensors()) {
    offsets.push_back(*end);
    *end = align_up(*end + rows * tensor.bytes(), kTensorAlignment);
  }
  return offsets;
}

void write_tensor(TensorRecord& record, const TensorSpec& tensor) {
  std::ranges::copy(tensor.name, record.name.begin());
  record.name_bytes = static_cast<std::uint32_t>(tensor.name.size());
  record.dtype = static_cast<std::uint32_t>(tensor.dtype);
  record.rank = static_cast<std::uint32_t>(tensor.shape.size());
  std::ranges::copy(tensor.shape, record.shape.begin());
}

TensorSpec read_tensor(const TensorRecord& record) {
  if (record.name_bytes > record.name.size() || record.dtype >= kDTypes.size() || record.rank > kShapeRankMax)
    throw std::runtime_error("the header of the batch ring is damaged: tensors");
  TensorSpec tensor;
  tensor.name.assign(record.name.data(), record.name_bytes);
  tensor.dtype = static_cast<DType>(record.dtype);
  tensor.shape.assign(record.shape.begin(), record.shape.begin() + record.rank);
  return tensor;
}

RowLayout read_tensors(const RingHeader& header, std::uint32_t first, std::uint32_t count) {
  std::vector<TensorSpec> tensors;
  tensors.reserve(count);
  for (std::uint32_t i = first; i < first + count; ++i) tensors.push_back(read_tensor(header.tensors[i]));
  return RowLayout(std::move(tensors));
}

}  // namespace

void check_schema(const ModelSchema& schema) {
  check_tensors(schema.inputs, "input");
  check_tensors(schema.outputs, "output");
  if (schema.inputs.bytes() > kRowBytesMax || schema.outputs.bytes() > kRowBytesMax)
    throw std::invalid_argument("a row is larger than 4 GiB");
}

RingSize size_ring(const RingConfig& config) {
  if (config.max_batch_size == 0) throw std::invalid_argument("max_batch_size is at least 1");
  const std::uint64_t row_bytes =
      sizeof(RowMeta) + sizeof(Completion) + config.schema.inputs.bytes() + config.schema.outputs.bytes();
  const std::uint64_t rows_that_fit = config.queue_bytes / row_bytes;
  const auto half = static_cast<std::uint32_t>(std::min<std::uint64_t>(rows_that_fit / 2, kRowsMax));
  RingSize size;
  size.rows_max = std::clamp(config.max_batch_size, 1u, std::max(half, 1u));
  const auto rows = static_cast<std::uint32_t>(std::min<std::uint64_t>(rows_that_fit, kBuffersMax));
  size.buffers = std::max(2u, rows / size.rows_max);
  return size;
}

RingPlan plan_ring(const ModelSchema& schema, const RingSize& size, std::uint32_t loops) {
  RingPlan plan;
  plan.schema = schema;
  plan.buffers = size.buffers;
  plan.rows_max = size.rows_max;
  plan.loops = loops;
  plan.arena = schema.inputs.bytes() > kInPlaceBytesMax;

  plan.done_offset = align_up(sizeof(RingHeader), kCacheLine);
  plan.control_offset = plan.done_offset + loops * sizeof(HintBitmap);
  plan.buffer_offset = align_up(plan.control_offset + size.buffers * sizeof(BufferControl), kPageBytes);

  plan.completion_offset = size.rows_max * sizeof(RowMeta);
  std::uint64_t end = plan.completion_offset + size.rows_max * sizeof(Completion);
  if (!plan.arena) plan.input_offsets = place(schema.inputs, size.rows_max, &end);
  plan.output_offsets = place(schema.outputs, size.rows_max, &end);
  // Large buffers start on a page of their own, so that one that was never used costs none.
  plan.buffer_stride = align_up(end, end >= kPageBytes ? kPageBytes : kCacheLine);

  end = plan.buffer_offset + size.buffers * plan.buffer_stride;
  plan.arena_offset = align_up(end, kPageBytes);
  plan.slot_stride = schema.inputs.bytes();
  plan.slots = plan.arena ? size.buffers * size.rows_max : 0;
  plan.region_bytes = align_up(plan.arena_offset + plan.slots * plan.slot_stride, kPageBytes);
  return plan;
}

void write_header(RingHeader& header, const RingPlan& plan, std::uint64_t max_queue_delay_ns) {
  header.magic = kRingMagic;
  header.version = kRingVersion;
  header.header_bytes = sizeof(RingHeader);
  header.region_bytes = plan.region_bytes;
  header.buffers = plan.buffers;
  header.rows_max = plan.rows_max;
  header.loops = plan.loops;
  header.inputs = static_cast<std::uint32_t>(plan.schema.inputs.size());
  header.outputs = static_cast<std::uint32_t>(plan.schema.outputs.size());
  header.max_queue_delay_ns = max_queue_delay_ns;
  std::size_t next = 0;
  for (const TensorSpec& tensor : plan.schema.inputs.tensors()) write_tensor(header.tensors[next++], tensor);
  for (const TensorSpec& tensor : plan.schema.outputs.tensors()) write_tensor(header.tensors[next++], tensor);
}

RingPlan read_header(const std::byte* region, std::uint64_t region_bytes) {
  if (region_bytes < sizeof(RingHeader)) throw std::runtime_error("not a batch ring: too small");
  const RingHeader& header = *reinterpret_cast<const RingHeader*>(region);
  if (header.magic != kRingMagic) throw std::runtime_error("not a batch ring: no magic number");
  if (header.version != kRingVersion || header.header_bytes != sizeof(RingHeader))
    throw std::runtime_error("the batch ring has version " + std::to_string(header.version) + ", this worker knows " +
                             std::to_string(kRingVersion));
  const RingSize size{header.rows_max, header.buffers};
  const bool sane = size.rows_max >= 1 && size.rows_max <= kRowsMax && size.buffers >= 2 &&
                    size.buffers <= kBuffersMax && header.loops >= 1 && header.loops <= kLoopsMax &&
                    header.inputs <= kTensorsMax && header.outputs <= kTensorsMax;
  if (!sane) throw std::runtime_error("the header of the batch ring is damaged: sizes");
  ModelSchema schema{read_tensors(header, 0, header.inputs), read_tensors(header, header.inputs, header.outputs)};
  try {
    check_schema(schema);
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(std::string("the header of the batch ring is damaged: ") + error.what());
  }
  RingPlan plan = plan_ring(schema, size, header.loops);
  if (plan.region_bytes != header.region_bytes || plan.region_bytes != region_bytes)
    throw std::runtime_error("the batch ring is of another size than its header says");
  return plan;
}

}  // namespace penstock::batcher
