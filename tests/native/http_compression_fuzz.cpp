// libFuzzer target: whatever a compressed body holds, no more is read or written than there is, and the verdict does
// not depend on how much room each step has. The first byte chooses the coding. Seeds:
// tests/native/corpus/http_compression.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "http/compression.hpp"

namespace {

using namespace penstock::dataplane;
using Status = Decompressor::Status;

constexpr std::size_t kBytesMax = 1 << 16;

Status decode(Decompressor& decompressor, Coding coding, std::string_view in, std::size_t room, std::string& text) {
  CHECK(decompressor.start(coding));
  std::vector<char> out(room);  // of its own, so that the address sanitizer sees a byte too many
  for (;;) {
    const Decompressor::Step step = decompressor.decode(in, out.data(), room);
    CHECK(step.consumed <= in.size() && step.produced <= room);
    in.remove_prefix(step.consumed);
    text.append(out.data(), step.produced);
    if (step.status != Status::kFull || text.size() >= kBytesMax) return step.status;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Coding coding = data[0] % 2 == 0 ? Coding::kGzip : Coding::kZstd;
  if (!is_built(coding)) return 0;
  const std::string_view in(reinterpret_cast<const char*>(data) + 1, size - 1);
  static Decompressor decompressor;  // as of a loop, one for all bodies
  (void)announced_bytes(coding, in);
  std::string whole;
  std::string pieces;
  const Status first = decode(decompressor, coding, in, kBytesMax + 1, whole);
  if (first != Status::kDone) return 0;
  CHECK(decode(decompressor, coding, in, 37, pieces) == Status::kDone || whole.size() >= kBytesMax);
  CHECK(pieces == whole || whole.size() >= kBytesMax);
  return 0;
}
