// What version 1 of a ring's region looks like, and that a worker refuses any other.
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

static_assert(kRingVersion == 1);
static_assert(offsetof(RingHeader, magic) == 0);
static_assert(offsetof(RingHeader, version) == 8);
static_assert(offsetof(RingHeader, header_bytes) == 12);
static_assert(offsetof(RingHeader, region_bytes) == 16);
static_assert(offsetof(RingHeader, buffers) == 24);
static_assert(offsetof(RingHeader, rows_max) == 28);
static_assert(offsetof(RingHeader, max_queue_delay_ns) == 48);
static_assert(offsetof(RingHeader, tensors) == 56);
static_assert(offsetof(RingHeader, head) == 21'056);
static_assert(offsetof(RingHeader, queued) == 21'248);
static_assert(offsetof(RingHeader, loop_lines) == 21'824);
static_assert(offsetof(RingHeader, workers) == 25'920);
static_assert(sizeof(RingHeader) == 34'112);
static_assert(sizeof(BufferControl) == 192 && offsetof(BufferControl, word) == 0);
static_assert(offsetof(BufferControl, loops) == 72 && offsetof(BufferControl, first_arrival_ns) == 80);
static_assert(offsetof(BufferControl, taken_ns) == 136 && offsetof(BufferControl, done_ns) == 152);
static_assert(sizeof(HintBitmap) == 576);
static_assert(offsetof(RowMeta, deadline_ns) == 8 && offsetof(RowMeta, request_id) == 16);
static_assert(offsetof(RowMeta, span_offset) == 48 && offsetof(RowMeta, row_index) == 64);
static_assert(offsetof(RowMeta, priority) == 78 && offsetof(RowMeta, shape) == 80 &&
              offsetof(RowMeta, cancelled) == 104);
static_assert(offsetof(Completion, kind) == 0 && offsetof(Completion, error) == 1 && offsetof(Completion, detail) == 3);

static_assert(pack({.sequence = 1}) == 1ull << 28);
static_assert(pack({.epoch = 1}) == 1ull << 22);
static_assert(pack({.owner = 1}) == 1ull << 16);
static_assert(pack({.state = BatchState::kTaken}) == 1ull << 13);
static_assert(pack({.rows = 1}) == 1);
static_assert(pack({.sequence = kSequenceMask + 1}) == 0);
constexpr BatchWord kWord{.sequence = 77, .epoch = 63, .owner = 42, .state = BatchState::kDone, .rows = 4096};
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
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.buffers = 4000; }));
  CHECK(!attaches(ring, bytes, true, [](RingHeader& header) { header.rows_max = 0; }));
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
  config.schema = {RowLayout({{"a", DType::kFloat16, {2, 3, 4}}, {"flag", DType::kBool, {}}}),
                   RowLayout({{std::string(128, 'n'), DType::kInt64, {1, 1, 1, 1, 1, 2}}})};
  const BatchRing ring(config);
  const BatchTaker taker(ring.fd(), {0}, 0);
  CHECK(taker.max_batch_size() == ring.max_batch_size() && taker.buffers() == ring.buffers());
  for (const auto& [ours, theirs] : {std::pair(ring.schema().inputs, taker.schema().inputs),
                                     std::pair(ring.schema().outputs, taker.schema().outputs)}) {
    CHECK(ours.size() == theirs.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      CHECK(ours.tensors()[i].name == theirs.tensors()[i].name);
      CHECK(ours.tensors()[i].dtype == theirs.tensors()[i].dtype);
      CHECK(ours.tensors()[i].shape == theirs.tensors()[i].shape);
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
  const auto is = [](const RingSize& size, std::uint32_t rows, std::uint32_t buffers) {
    return size.rows_max == rows && size.buffers == buffers;
  };
  CHECK(is(size_of_ring(32, 64, 64 * kMiB), 64, 64));  // 4,096 rows at most
  CHECK(is(size_of_ring(32, 1, 64 * kMiB), 1, 4096));
  CHECK(is(size_of_ring(32, 4096, 64 * kMiB), 4096, 2));
  CHECK(is(size_of_ring(32, 9000, 64 * kMiB), 4096, 2));     // a word counts 4,096 rows
  CHECK(is(size_of_ring(150'000, 32, 64 * kMiB), 32, 3));    // 111 rows of 600 KB
  CHECK(is(size_of_ring(2'500'000, 32, 64 * kMiB), 3, 2));   // 6 rows of 10 MB: the batch shrinks
  CHECK(is(size_of_ring(25'000'000, 32, 64 * kMiB), 1, 2));  // less than a ring needs: the least there is
}

}  // namespace

int main() {
  only_its_own_version();
  sealed_against_resizing();
  schema_survives_the_header();
  schemas_no_ring_can_hold();
  sizes_follow_the_budget();
  return 0;
}
