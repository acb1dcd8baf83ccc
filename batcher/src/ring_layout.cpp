#include "ring_layout.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
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
  if ((tensor.dtype != DType::kBytes && tensor.heap_bytes != 0) || tensor.heap_bytes % kTextSpanBytes != 0)
    throw std::invalid_argument(what + ": only strings have a heap, and it is a multiple of 8 bytes");
  if (bytes + tensor.heap_bytes > kRowBytesMax) throw std::invalid_argument(what + " is larger than 4 GiB a row");
}

void check_tensors(const RowLayout& layout, const char* which) {
  if (layout.size() == 0) throw std::invalid_argument(std::string("a model has at least one ") + which);
  if (layout.size() > kTensorsMax) throw std::invalid_argument(std::string("more than 64 tensors as ") + which);
  for (const TensorSpec& tensor : layout.tensors()) check_tensor(tensor);
}

// Lays `rows` rows of each tensor behind `*end`. Large arrays start on a page of their own, so that rows that were
// never used cost none.
std::vector<std::uint64_t> place(const RowLayout& layout, std::uint32_t rows, std::uint64_t* end) {
  std::vector<std::uint64_t> offsets;
  offsets.reserve(layout.size());
  for (const TensorSpec& tensor : layout.tensors()) {
    const std::uint64_t bytes = rows * tensor.bytes();
    offsets.push_back(align_up(*end, bytes >= kPageBytes ? kPageBytes : kTensorAlignment));
    *end = offsets.back() + bytes;
  }
  return offsets;
}

void write_tensor(TensorRecord& record, const TensorSpec& tensor) {
  std::ranges::copy(tensor.name, record.name.begin());
  record.name_bytes = static_cast<std::uint32_t>(tensor.name.size());
  record.dtype = static_cast<std::uint32_t>(tensor.dtype);
  record.rank = static_cast<std::uint32_t>(tensor.shape.size());
  record.varies = tensor.varies ? 1 : 0;
  record.heap_bytes = tensor.heap_bytes;
  std::ranges::copy(tensor.shape, record.shape.begin());
}

TensorSpec read_tensor(const TensorRecord& record) {
  if (record.name_bytes > record.name.size() || record.dtype >= kDTypes.size() || record.rank > kShapeRankMax)
    throw std::runtime_error("the header of the batch ring is damaged: tensors");
  TensorSpec tensor;
  tensor.name.assign(record.name.data(), record.name_bytes);
  tensor.dtype = static_cast<DType>(record.dtype);
  tensor.shape.assign(record.shape.begin(), record.shape.begin() + record.rank);
  tensor.varies = record.varies != 0 && record.rank > 0;
  tensor.heap_bytes = record.heap_bytes;
  return tensor;
}

RowLayout read_tensors(const RingHeader& header, std::uint32_t first, std::uint32_t count) {
  std::vector<TensorSpec> tensors;
  tensors.reserve(count);
  for (std::uint32_t i = first; i < first + count; ++i) tensors.push_back(read_tensor(header.tensors[i]));
  return RowLayout(std::move(tensors));
}

bool is_ascending(const std::vector<std::uint32_t>& values, std::uint32_t values_max) {
  if (values.size() > values_max || (!values.empty() && values.front() == 0)) return false;
  return std::ranges::adjacent_find(values, std::greater_equal<>()) == values.end();
}

bool varies(const ModelSchema& schema) {
  const auto any = [](const RowLayout& layout) { return std::ranges::any_of(layout.tensors(), &TensorSpec::varies); };
  return any(schema.inputs) || any(schema.outputs);
}

void check_schema(const ModelSchema& schema) {
  check_tensors(schema.inputs, "input");
  check_tensors(schema.outputs, "output");
  if (schema.inputs.bytes() > kRowBytesMax || schema.outputs.bytes() > kRowBytesMax)
    throw std::invalid_argument("a row is larger than 4 GiB");
}

void check_lengths(const ModelSchema& schema, const std::vector<std::uint32_t>& lengths) {
  if (!is_ascending(lengths, kBucketsMax)) throw std::invalid_argument("lengths are 1 to 16 ascending numbers");
  if (varies(schema) != !lengths.empty())
    throw std::invalid_argument("lengths are given exactly when a tensor varies in length");
  for (const RowLayout* layout : {&schema.inputs, &schema.outputs}) {
    for (const TensorSpec& tensor : layout->tensors()) {
      if (tensor.varies && (tensor.shape.empty() || tensor.shape.front() != lengths.back()))
        throw std::invalid_argument("tensor '" + tensor.name + "' is not as long as the longest of lengths");
    }
  }
}

std::uint64_t in_lane_bytes(const ModelSchema& schema, bool arena) {
  return sizeof(RowMeta) + sizeof(Completion) + (arena ? 0 : schema.inputs.bytes()) + schema.outputs.bytes();
}

std::uint32_t rows_of_batch(const RingConfig& config, std::uint32_t batch_rows_max, std::uint32_t bucket,
                            RowClass row_class) {
  std::uint32_t rows = batch_rows_max;
  if (config.max_batch_tokens != 0 && !config.lengths.empty())
    rows = std::clamp(config.max_batch_tokens / config.lengths[bucket], 1u, rows);
  // A batch is padded up to an allowed size, which may not go beyond the tokens either. The smallest is always allowed.
  if (rows < batch_rows_max && !config.batch_sizes.empty()) {
    const auto above = std::ranges::upper_bound(config.batch_sizes, rows);
    rows = above == config.batch_sizes.begin() ? std::min(*above, batch_rows_max) : *(above - 1);
  }
  if (row_class == RowClass::kReproducible) rows = std::clamp(config.reproducible_batch_size, 1u, rows);
  return rows;
}

// Blocks that fill every allowed batch size exactly, if there is a common measure.
std::uint32_t rows_of_block(const RingConfig& config, std::uint32_t batch_rows_max) {
  if (config.block_rows != 0) return std::min(config.block_rows, batch_rows_max);
  std::uint32_t rows = std::clamp(batch_rows_max / std::max(config.blocks_per_batch, 1u), 1u, kBlockRowsMax);
  std::uint32_t measure = 0;
  for (const std::uint32_t size : config.batch_sizes) measure = std::gcd(measure, size);
  while (measure % rows != 0) --rows;
  return rows;
}

LaneSize size_lane(const RingConfig& config, std::uint32_t batch_rows_max, std::uint32_t slots, std::uint32_t bucket,
                   RowClass row_class) {
  const auto buckets = static_cast<std::uint32_t>(std::max<std::size_t>(config.lengths.size(), 1));
  const bool arena = config.schema.inputs.bytes() > kInPlaceBytesMax;
  const ModelSchema schema =
      config.lengths.empty() ? config.schema : with_length(config.schema, config.lengths[bucket]);
  const std::uint32_t share = row_class == RowClass::kNormal ? 2 : 6;
  // Of large rows the arena's slots are the measure: what is left in the lane is small.
  const std::uint64_t rows_that_fit =
      arena ? slots : config.queue_bytes / (share * buckets) / in_lane_bytes(schema, false);
  LaneSize lane;
  lane.batch_rows_max = rows_of_batch(config, batch_rows_max, bucket, row_class);
  lane.block_rows = rows_of_block(config, lane.batch_rows_max);
  const std::uint64_t least = std::uint64_t{2} * lane.batch_rows_max;
  const auto rows = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(rows_that_fit, least, std::max<std::uint64_t>(least, kRowsMax)));
  // All lanes together have kBuffersMax buffers: half of them are normal rows', the rest is divided by three.
  const std::uint32_t buffers_max = kBuffersMax / (share * buckets);
  lane.buffers = std::clamp((rows + lane.block_rows - 1) / lane.block_rows, 2u, buffers_max);
  return lane;
}

void lay_out_lanes(RingPlan& plan, std::uint64_t* end) {
  for (LanePlan& lane : plan.lanes) {
    if (!plan.arena) lane.input_offsets = place(lane.schema.inputs, lane.rows(), end);
    lane.output_offsets = place(lane.schema.outputs, lane.rows(), end);
  }
}

bool is_sane(const RingHeader& header) {
  if (header.batch_rows_max < 1 || header.batch_rows_max > kRowsMax || header.loops < 1 || header.loops > kLoopsMax ||
      header.inputs > kTensorsMax || header.outputs > kTensorsMax || header.buckets < 1 ||
      header.buckets > kBucketsMax || header.slots > 2 * kRowsMax || header.settings.batch_sizes > kBatchSizesMax)
    return false;
  std::uint64_t buffers = 0;
  for (std::uint32_t i = 0; i < header.buckets * kRowClasses; ++i) {
    const LaneSize& lane = header.lane_sizes[i];
    if (lane.block_rows < 1 || lane.block_rows > lane.batch_rows_max || lane.batch_rows_max > header.batch_rows_max ||
        lane.buffers < 2)
      return false;
    buffers += lane.buffers;
  }
  return buffers <= kBuffersMax;
}

}  // namespace

void check_config(const RingConfig& config) {
  check_schema(config.schema);
  check_lengths(config.schema, config.lengths);
  if (config.loops == 0 || config.loops > kLoopsMax) throw std::invalid_argument("a ring has 1 to 64 loops");
  if (config.max_batch_size == 0) throw std::invalid_argument("max_batch_size is at least 1");
  if (!is_ascending(config.batch_sizes, kBatchSizesMax))
    throw std::invalid_argument("batch_sizes are at most 16 ascending numbers");
  if (!config.batch_sizes.empty() && config.batch_sizes.back() < config.max_batch_size)
    throw std::invalid_argument("the largest of batch_sizes is less than max_batch_size");
}

RingSize size_ring(const RingConfig& config) {
  const std::uint64_t rows_that_fit =
      config.queue_bytes / (in_lane_bytes(config.schema, true) + config.schema.inputs.bytes());
  const auto half = static_cast<std::uint32_t>(std::min<std::uint64_t>(rows_that_fit / 2, kRowsMax));
  RingSize size;
  size.lengths = config.lengths;
  size.batch_rows_max = std::clamp(config.max_batch_size, 1u, std::max(half, 1u));
  if (config.schema.inputs.bytes() > kInPlaceBytesMax)
    size.slots =
        std::max(2 * size.batch_rows_max, static_cast<std::uint32_t>(std::min<std::uint64_t>(rows_that_fit, kRowsMax)));
  for (std::uint32_t bucket = 0; bucket < std::max<std::size_t>(config.lengths.size(), 1); ++bucket) {
    for (std::uint32_t row_class = 0; row_class < kRowClasses; ++row_class)
      size.lanes.push_back(
          size_lane(config, size.batch_rows_max, size.slots, bucket, static_cast<RowClass>(row_class)));
  }
  return size;
}

RingPlan plan_ring(const ModelSchema& schema, const RingSize& size, std::uint32_t loops) {
  RingPlan plan;
  plan.schema = schema;
  plan.size = size;
  plan.loops = loops;
  plan.arena = schema.inputs.bytes() > kInPlaceBytesMax;
  for (std::uint32_t i = 0; i < size.lanes.size(); ++i) {
    LanePlan lane;
    lane.size = size.lanes[i];
    lane.bucket = i / kRowClasses;
    lane.row_class = static_cast<RowClass>(i % kRowClasses);
    lane.schema = size.lengths.empty() ? schema : with_length(schema, size.lengths[lane.bucket]);
    lane.first_buffer = plan.buffers;
    lane.first_row = plan.rows;
    for (std::uint32_t buffer = 0; buffer < lane.size.buffers; ++buffer) {
      plan.lane_of.push_back(static_cast<std::uint8_t>(i));
      plan.first_row.push_back(plan.rows + buffer * lane.size.block_rows);
    }
    plan.buffers += lane.size.buffers;
    plan.rows += lane.rows();
    plan.lanes.push_back(std::move(lane));
  }
  plan.done_offset = align_up(sizeof(RingHeader), kCacheLine);
  plan.control_offset = plan.done_offset + loops * sizeof(HintBitmap);
  plan.meta_offset = align_up(plan.control_offset + plan.buffers * sizeof(BufferControl), kPageBytes);
  plan.completion_offset = plan.meta_offset + plan.rows * sizeof(RowMeta);
  std::uint64_t end = plan.completion_offset + plan.rows * sizeof(Completion);
  lay_out_lanes(plan, &end);
  plan.arena_offset = align_up(end, kPageBytes);
  plan.slot_stride = schema.inputs.bytes();
  plan.region_bytes = align_up(plan.arena_offset + size.slots * plan.slot_stride, kPageBytes);
  return plan;
}

RingSettings settings_of(const RingConfig& config) {
  RingSettings settings{};
  settings.queue_delay_ns = config.max_queue_delay_us * std::uint64_t{1000};
  settings.slo_ns = config.slo_ns;
  settings.weight = std::max(config.weight, 1u);
  settings.reproducible_batch_size = std::max(config.reproducible_batch_size, 1u);
  settings.batch_sizes = static_cast<std::uint32_t>(config.batch_sizes.size());
  std::ranges::copy(config.batch_sizes, settings.batch_size.begin());
  return settings;
}

std::vector<LaneSettings> lane_settings(const RingPlan& plan, const RingSettings& settings, std::uint32_t model) {
  std::vector<LaneSettings> lanes;
  for (const LanePlan& lane : plan.lanes) {
    LaneSettings& out = lanes.emplace_back();
    out.model = model;
    out.bucket = lane.bucket;
    out.row_class = lane.row_class;
    out.block_rows = lane.size.block_rows;
    out.batch_rows_max = lane.size.batch_rows_max;
    out.slo_ns = settings.slo_ns;
    out.queue_delay_ns = settings.queue_delay_ns;
    out.weight = settings.weight;
    if (lane.row_class != RowClass::kReproducible)
      out.batch_sizes = std::span(settings.batch_size.data(), settings.batch_sizes);
  }
  return lanes;
}

void write_header(RingHeader& header, const RingPlan& plan, const RingSettings& settings) {
  header.magic = kRingMagic;
  header.version = kRingVersion;
  header.header_bytes = sizeof(RingHeader);
  header.region_bytes = plan.region_bytes;
  header.batch_rows_max = plan.size.batch_rows_max;
  header.loops = plan.loops;
  header.slots = plan.size.slots;
  header.inputs = static_cast<std::uint32_t>(plan.schema.inputs.size());
  header.outputs = static_cast<std::uint32_t>(plan.schema.outputs.size());
  header.buckets = static_cast<std::uint32_t>(plan.lanes.size() / kRowClasses);
  std::ranges::copy(plan.size.lengths, header.lengths.begin());
  std::ranges::copy(plan.size.lanes, header.lane_sizes.begin());
  header.settings = settings;
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
  if (!is_sane(header)) throw std::runtime_error("the header of the batch ring is damaged: sizes");
  ModelSchema schema{read_tensors(header, 0, header.inputs), read_tensors(header, header.inputs, header.outputs)};
  RingSize size{header.batch_rows_max, header.slots, {}, {}};
  if (header.lengths[0] != 0) size.lengths.assign(header.lengths.begin(), header.lengths.begin() + header.buckets);
  size.lanes.assign(header.lane_sizes.begin(), header.lane_sizes.begin() + header.buckets * kRowClasses);
  try {
    check_schema(schema);
    check_lengths(schema, size.lengths);
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(std::string("the header of the batch ring is damaged: ") + error.what());
  }
  RingPlan plan = plan_ring(schema, size, header.loops);
  if (plan.region_bytes != header.region_bytes || plan.region_bytes != region_bytes)
    throw std::runtime_error("the batch ring is of another size than its header says");
  return plan;
}

}  // namespace penstock::batcher
