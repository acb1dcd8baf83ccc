// libFuzzer: the first byte chooses the encoding and the schema, the rest is the body.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "codec_hostile.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto fixtures = penstock::test::hostile_fixtures();
  if (size == 0) return 0;
  const auto encoding = static_cast<penstock::dataplane::Encoding>(data[0] % 3);
  auto& fixture = *fixtures[data[0] / 3 % fixtures.size()];
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  static_cast<void>(penstock::test::check_hostile(encoding, fixture, body));
  return 0;
}
