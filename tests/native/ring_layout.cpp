// What version 3 of a ring's region looks like, and that a worker refuses any other.
//
// A failure here means that the layout has changed: bump kRingVersion, then write the new numbers down.
#include "ring_layout.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>

#include "ring_fixture.hpp"

namespace {

using namespace penstock;
using namespace penstock::test;

static_assert(kRingVersion == 3);
static_assert(offsetof(RingHeader, magic) == 0);
static_assert(offsetof(RingHeader, version) == 8);
static_assert(offsetof(RingHeader, header_bytes) == 12);
static_assert(offsetof(RingHeader, region_bytes) == 16);
static_assert(offsetof(RingHeader, batch_rows_max) == 24);
static_assert(offsetof(RingHeader, lengths) == 48);
static_assert(offsetof(RingHeader, lane_sizes) == 112);
static_assert(offsetof(RingHeader, settings) == 880);
static_assert(offsetof(RingHeader, tensors) == 976);
static_assert(offsetof(RingHeader, lanes) == 23'040);
static_assert(offsetof(RingHeader, waiting_for_rows) == 27'136);
static_assert(offsetof(RingHeader, queued) == 27'328);
static_assert(offsetof(RingHeader, costs) == 27'904);
static_assert(offsetof(RingHeader, loop_lines) == 29'952);
static_assert(offsetof(RingHeader, workers) == 34'048);
static_assert(sizeof(RingHeader) == 42'240);
static_assert(sizeof(BufferControl) == 192 && offsetof(BufferControl, word) == 0);
static_assert(offsetof(BufferControl, cancelled) == 68 && offsetof(BufferControl, loops) == 72);
static_assert(offsetof(BufferControl, first_arrival_ns) == 80 && offsetof(BufferControl, deadline_ns) == 88);
static_assert(offsetof(BufferControl, batch_rows) == 132 && offsetof(BufferControl, worker) == 140);
static_assert(offsetof(BufferControl, taken_ns) == 144 && offsetof(BufferControl, done_ns) == 160);
static_assert(sizeof(HintBitmap) == 576);
static_assert(offsetof(RowMeta, deadline_ns) == 8 && offsetof(RowMeta, request_id) == 16);
static_assert(offsetof(RowMeta, span_offset) == 48 && offsetof(RowMeta, row_index) == 64);
static_assert(offsetof(RowMeta, priority) == 78 && offsetof(RowMeta, shape) == 80 &&
              offsetof(RowMeta, cancelled) == 104);
static_assert(offsetof(Completion, kind) == 0 && offsetof(Completion, error) == 1 && offsetof(Completion, detail) == 3);

static_assert(pack({.sequence = 1}) == 1ull << 28);
static_assert(pack({.epoch = 1}) == 1ull << 22);
static_assert(pack({.owner = 1}) == 1ull << 16);
static_assert(pack({.state = BlockState::kTaken}) == 1ull << 13);
static_assert(pack({.rows = 1}) == 1);
static_assert(pack({.sequence = kSequenceMask + 1}) == 0);
constexpr BlockWord kWord{.sequence = 77, .epoch = 63, .owner = 42, .state = BlockState::kDone, .rows = 4096};
static_assert(unpack(pack(kWord)) == kWord);

// A region like the ring's, changed by `damage`, in a memfd of its own.
bool attaches(const BatchRing& ring, std::uint64_t bytes, bool sealed, const std::function<void(RingHeader&)>& damage) {
  const int fd = memfd_create("ring-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(fd >= 0);
  CHECK(ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  RingHeader header{};
  CHECK(pread(ring.fd(), static_cast<void*>(&header), sizeof header, 0) == static_cast<ssize_t>(sizeof header));
  damage(header);
  if (bytes >= sizeof header)
    CHECK(pwrite(fd, static_cast<const void*>(&header), sizeof header, 0) == static_cast<ssize_t>(sizeof header));
  if (sealed) CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  bool attached = true;
  try {
    const BatchTaker taker(fd, {0}, 0);
  } catch (const std::runtime_error&) {
    attached = false;
  }
  close(fd);
  return attached;
}

void only_its_own_version() {
  const BatchRing ring(small_config(4, 4));
  const auto bytes = static_cast<std::uint64_t>(lseek(ring.fd(), 0, SEEK_END));
  const auto as_is = [](RingHeader&) {};
  CHECK(attaches(ring, bytes, true, as_is));
  CHECK(!attaches(ring, bytes, false, as_is));  // could be shrunk under us
  CHECK(!attaches(ring, bytes - 4096, true, as_is));
  CHECK(!attaches(ring, 100, true, as_is));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.magic ^= 1; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { ++header.version; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { --header.header_bytes; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.region_bytes += 4096; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.lane_sizes[1].buffers = 4000; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.batch_rows_max = 0; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.lane_sizes[2].block_rows = 0; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.lane_sizes[2].block_rows = 5; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.lane_sizes[3].batch_rows_max = 0; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.lane_sizes[3].buffers = 1; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.buckets = 17; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.slots = 1; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.lengths[0] = 9; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.settings.batch_sizes = 17; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.loops = 65; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.inputs = 1000; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.inputs = 0; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.tensors[1].rank = 7; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.tensors[1].dtype = 12; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.tensors[1].name_bytes = 129; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.tensors[1].shape[0] = 0; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.tensors[1].shape[0] = ~0u; }));
}

void sealed_against_resizing() {
  const BatchRing ring(small_config(4, 4));
  CHECK(ftruncate(ring.fd(), 0) != 0);
  CHECK(ftruncate(ring.fd(), 1 << 30) != 0);
}

void schema_survives_the_header() {
  RingConfig config;
  config.schema = {
      RowLayout(
          {{"a", DType::kFloat16, {2, 3, 4}}, {"flag", DType::kBool, {}}, {"text", DType::kBytes, {2}, false, 40}}),
      RowLayout({{std::string(128, 'n'), DType::kInt64, {1, 1, 1, 1, 1, 2}}})};
  const BatchRing ring(config);
  const BatchTaker taker(ring.fd(), {0}, 0);
  CHECK(taker.max_batch_size() == ring.max_batch_size());
  for (const auto& [ours, theirs] : {std::pair(ring.schema().inputs, taker.schema().inputs),
                                     std::pair(ring.schema().outputs, taker.schema().outputs)}) {
    CHECK(ours.size() == theirs.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      CHECK(ours.tensors()[i].name == theirs.tensors()[i].name);
      CHECK(ours.tensors()[i].dtype == theirs.tensors()[i].dtype);
      CHECK(ours.tensors()[i].shape == theirs.tensors()[i].shape);
      CHECK(ours.tensors()[i].heap_bytes == theirs.tensors()[i].heap_bytes);
    }
  }
}

bool holds(const ModelSchema& schema, std::uint32_t max_batch_size = 4, std::uint32_t loops = 1) {
  RingConfig config;
  config.schema = schema;
  config.max_batch_size = max_batch_size;
  config.loops = loops;
  try {
    const BatchRing ring(config);
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

void schemas_no_ring_can_hold() {
  const RowLayout good({{"x", DType::kFloat32, {4}}});
  CHECK(holds({good, good}));
  CHECK(!holds({good, good}, 0));
  CHECK(!holds({good, good}, 4, 0));
  CHECK(!holds({good, good}, 4, 65));
  CHECK(!holds({RowLayout{}, good}));
  CHECK(!holds({good, RowLayout{}}));
  CHECK(!holds({good, RowLayout({{"y", DType::kFloat32, {4, 0}}})}));
  CHECK(!holds({good, RowLayout({{"", DType::kFloat32, {4}}})}));
  CHECK(!holds({good, RowLayout({{std::string(129, 'n'), DType::kFloat32, {4}}})}));
  CHECK(!holds({good, RowLayout({{"y", DType::kFloat32, {1, 1, 1, 1, 1, 1, 1}}})}));
  CHECK(!holds({good, RowLayout({{"y", DType::kFloat32, {1u << 31, 1u << 31}}})}));
  CHECK(holds({good, RowLayout({{"y", DType::kBytes, {}, false, 0}})}));
  CHECK(!holds({good, RowLayout({{"y", DType::kBytes, {}, false, 12}})}));
  CHECK(!holds({good, RowLayout({{"y", DType::kBytes, {4}, false, heap_bytes_of(4, ~0u)}})}));
  CHECK(!holds({good, RowLayout({{"y", DType::kInt8, {4}, false, 8}})}));
  CHECK(!holds({good, RowLayout(std::vector<TensorSpec>(65, {"y", DType::kUint8, {}}))}));
}

RingSize size_of_ring(std::uint32_t floats, std::uint32_t max_batch_size, std::uint64_t queue_bytes) {
  RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {floats}}}), RowLayout({{"y", DType::kFloat32, {16}}})};
  config.max_batch_size = max_batch_size;
  config.queue_bytes = queue_bytes;
  return size_ring(config);
}

void sizes_follow_the_budget() {
  constexpr std::uint64_t kMiB = 1 << 20;
  const auto is = [](const RingSize& size, std::uint32_t batch_rows, std::uint32_t block_rows, std::uint32_t buffers) {
    const LaneSize& normal = size.lanes[kNormalLane];
    return size.batch_rows_max == batch_rows && normal.block_rows == block_rows && normal.buffers == buffers;
  };
  CHECK(is(size_of_ring(32, 64, 64 * kMiB), 64, 4, 1024));  // 4,096 rows at most
  CHECK(is(size_of_ring(32, 1, 64 * kMiB), 1, 1, 2048));    // half of all buffers are the normal lane's
  CHECK(is(size_of_ring(32, 4096, 64 * kMiB), 4096, 16, 512));
  CHECK(is(size_of_ring(32, 9000, 64 * kMiB), 4096, 16, 512));  // a word counts 4,096 rows
  CHECK(is(size_of_ring(150'000, 32, 64 * kMiB), 32, 2, 56));   // 111 rows of 600 KB, in the arena of all lanes
  CHECK(is(size_of_ring(2'500'000, 32, 64 * kMiB), 3, 1, 6));   // 6 rows of 10 MB: the batch shrinks
  CHECK(is(size_of_ring(25'000'000, 32, 64 * kMiB), 1, 1, 2));  // less than a ring needs: the least there is
  CHECK(size_of_ring(150'000, 32, 64 * kMiB).slots == 111);
  const RingSize small = size_of_ring(3840, 64, 16 * kMiB);  // 15 KiB a row: 1,069 rows
  CHECK(is(small, 64, 4, 134));
  CHECK(small.lanes[0].buffers == 45 && small.lanes[2].buffers == 45 && small.lanes[3].block_rows == 1);
}

void blocks_measure_the_allowed_sizes() {
  const auto block_rows = [](std::vector<std::uint32_t> sizes) {
    RingConfig config = small_config(4, sizes.back());
    config.block_rows = 0;
    config.queue_bytes = 64u << 20;
    config.batch_sizes = std::move(sizes);
    return size_ring(config).lanes[kNormalLane].block_rows;
  };
  CHECK(block_rows({16, 32, 128}) == 8);
  CHECK(block_rows({12, 96}) == 6);
  CHECK(block_rows({7, 64}) == 1);
}

void lengths_have_lanes_of_their_own() {
  RingConfig config;
  config.schema = {RowLayout({{"ids", DType::kInt64, {128}, true}, {"user", DType::kInt64, {}}}),
                   RowLayout({{"score", DType::kFloat32, {2}}})};
  config.lengths = {16, 32, 128};
  config.max_batch_size = 32;
  config.max_batch_tokens = 1024;
  const BatchRing ring(config);
  CHECK(ring.lanes() == 3 * kRowClasses);
  const std::uint32_t shortest = ring.lane_of(RowClass::kNormal, 0);
  const std::uint32_t longest = ring.lane_of(RowClass::kInteractive, 2);
  CHECK(ring.lane_schema(shortest).inputs.tensors()[0].shape.front() == 16);
  CHECK(ring.lane_schema(longest).inputs.tensors()[0].shape.front() == 128);
  CHECK(ring.settings(shortest).batch_rows_max == 32 && ring.settings(longest).batch_rows_max == 8);
  // The tokens allow 8 rows of the longest, of which 6 are a size that the model may run.
  config.batch_sizes = {2, 6, 32};
  CHECK(BatchRing(config).settings(longest).batch_rows_max == 6);
  config.batch_sizes = {16, 32};
  CHECK(BatchRing(config).settings(longest).batch_rows_max == 16);
  config.batch_sizes = {};
  const BatchTaker taker(ring.fd(), {0}, 0);
  CHECK(taker.lane_schema(0, shortest).inputs.tensors()[0].shape.front() == 16);
  for (const std::vector<std::uint32_t>& wrong :
       std::vector<std::vector<std::uint32_t>>{{}, {16, 16, 128}, {128, 16}, {16, 64}, {0, 128}}) {
    RingConfig bad = config;
    bad.lengths = wrong;
    bool refused = false;
    try {
      const BatchRing ring_of_bad(bad);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
}

}  // namespace

int main() {
  only_its_own_version();
  sealed_against_resizing();
  schema_survives_the_header();
  schemas_no_ring_can_hold();
  sizes_follow_the_budget();
  blocks_measure_the_allowed_sizes();
  lengths_have_lanes_of_their_own();
  return 0;
}
