// libFuzzer target: whatever a compressed body holds, no more is read or written than there is, and the verdict does
// not depend on how much room each step has. The first byte chooses the coding. Seeds:
// tests/native/corpus/http_compression.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http_fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  penstock::test::fuzz_compression({reinterpret_cast<const char*>(data), size});
  return 0;
}
