// libFuzzer target; see http_fuzz.hpp for the properties. Seeds: tests/native/corpus/http_head.
#include <cstddef>
#include <cstdint>

#include "http_fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  penstock::test::fuzz_head({reinterpret_cast<const char*>(data), size});
  return 0;
}
