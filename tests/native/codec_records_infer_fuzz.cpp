// libFuzzer: records by the Open Inference Protocol. The first byte chooses the form: the second and third then say how
// long its JSON is, behind which binary data lie; or the rest is a message of gRPC.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "codec/codec_oip.hpp"
#include "codec/codec_proto.hpp"
#include "codec/codec_utf8.hpp"
#include "record_fixture.hpp"

namespace {

using namespace penstock::dataplane;
using penstock::test::RecordRows;

bool is_whole(double x) { return x == std::trunc(x) && std::fabs(x) <= kWholeMax; }

// What a row that was taken may hold, whatever it came in.
void check_row(const RecordRows& rows, std::uint32_t row) {
  const auto slot = [&](std::size_t at) { return rows.slot(row, at); };
  CHECK(is_whole(slot(0)));
  CHECK(std::isnan(slot(1)) || (slot(1) >= 0 && slot(1) <= 120));
  CHECK(slot(2) > 0 && std::isfinite(slot(2)));
  CHECK(std::isnan(slot(3)) || slot(3) == 0 || slot(3) == 1);
  CHECK(slot(4) == 0 || slot(4) == 1);
  CHECK(std::isnan(slot(5)) || (is_whole(slot(5)) && slot(5) >= -1 && slot(5) <= 2));
  CHECK(std::isnan(slot(6)) || std::isfinite(slot(6)));
  CHECK(std::isnan(slot(7)) || (is_whole(slot(7)) && slot(7) >= 0 && slot(7) <= 4294967295.0));
  CHECK(std::isnan(slot(8)) || is_whole(slot(8)));
  CHECK(std::isnan(slot(9)) || std::isfinite(slot(9)));
  CHECK(is_utf8(rows.text(row)) && rows.text(row).size() <= 64);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const penstock::test::RecordFixture record;
  if (size < 3) return 0;
  const bool is_message = data[0] % 2 != 0;
  const std::size_t head = is_message ? 1 : 3;
  const std::size_t header_bytes = data[1] | static_cast<std::size_t>(data[2]) << 8;
  const penstock::test::ExactBody body({reinterpret_cast<const char*>(data) + head, size - head});
  RecordRows rows(record.plan());
  InferRequest request;
  Problem problem;
  const bool read = is_message ? decode_infer_message(body.view(), rows, request, problem)
                               : decode_infer(body.view(), header_bytes, {}, rows, request, problem);
  CHECK(read != static_cast<bool>(problem));
  for (std::uint32_t row = 0; read && row < rows.rows(); ++row) {
    if (rows.refused(row).empty()) check_row(rows, row);
  }
  return 0;
}
