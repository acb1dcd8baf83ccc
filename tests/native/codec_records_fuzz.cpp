// libFuzzer: records. The first byte chooses the encoding and whether others members are taken; the rest is the body.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "record_fixture.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using penstock::dataplane::Encoding;
  static penstock::test::RecordFixture open;
  static penstock::test::RecordFixture closed(true);
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto encoding = static_cast<Encoding>(data[0] % 2);
  // Bare records are found sooner than those in a whole body.
  const bool is_bare = (data[0] & 4) != 0;
  std::string body = !is_bare ? std::string() : encoding == Encoding::kJson ? "{\"inputs\":" : "\x81\xa6inputs";
  body.append(rest);
  if (is_bare && encoding == Encoding::kJson) body.append("}");
  const std::string in_open = open.read(encoding, body);
  const std::string in_closed = closed.read(encoding, body);
  // What a closed record takes an open one takes, too, and makes the same of it.
  CHECK(!in_closed.empty() || in_open.empty());
  if (in_closed.empty()) {
    const auto& row = closed.row();
    CHECK(std::memcmp(open.row().row(), row.row(), row.row_bytes()) == 0);
  }
  return 0;
}
