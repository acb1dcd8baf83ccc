// No codec allocates: neither for a row that fits, nor for one that is refused, nor for a reply.
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "codec_fixture.hpp"
#include "record_fixture.hpp"

namespace {

std::size_t allocations = 0;

}  // namespace

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using penstock::DType;
using penstock::ModelSchema;
using penstock::RowLayout;
using penstock::TensorSpec;
using penstock::test::RowFixture;
using namespace penstock::dataplane;

void expect_none(Encoding encoding, RowFixture& fixture, const std::string& body, bool decodes) {
  Problem problem;
  const std::size_t before = allocations;
  const bool decoded = penstock::test::decode(encoding, body, {}, fixture, problem);
  CHECK(allocations == before);
  CHECK(decoded == decodes);
}

void check_decoding() {
  RowFixture floats(ModelSchema{RowLayout({{"x", DType::kFloat32, {3}}}), RowLayout()});
  RowFixture halves(ModelSchema{RowLayout({{"x", DType::kFloat16, {1}}}), RowLayout()});
  const std::string digits(5000, '3');
  for (const std::string body : {R"({"inputs":[1,2.5,-3e-7]})", R"({"inputs":{"x":["NaN",2,3]},"model":"\u00e9"})"}) {
    expect_none(Encoding::kJson, floats, body, true);
  }
  expect_none(Encoding::kJson, floats, "{\"inputs\":[0." + digits + ",1e-" + digits + "," + "0.1]}", true);
  expect_none(Encoding::kJson, floats, "{\"inputs\":[" + digits + ",1,2]}", false);
  expect_none(Encoding::kJson, halves, "{\"inputs\":[2049." + std::string(900, '0') + "1]}", true);
  expect_none(Encoding::kJson, floats, R"({"inputs":[1,2,3,4,5]})", false);
  expect_none(Encoding::kJson, floats, "{\"" + digits + "\":[1]}", false);
  expect_none(Encoding::kMsgpack, floats, "\x81\xa6inputs\x93\x01\x02\x03", true);
  expect_none(Encoding::kMsgpack, floats, "\x81\xa6inputs\x91\x01", false);
  expect_none(Encoding::kRaw, floats, std::string(12, '\0'), true);
  expect_none(Encoding::kRaw, floats, std::string(13, '\0'), false);
  RowFixture uneven(
      ModelSchema{RowLayout({{"x", DType::kInt32, {9}, true}, {"y", DType::kFloat32, {9, 2}, true}}), RowLayout()});
  expect_none(Encoding::kJson, uneven, R"({"inputs":{"x":[1,2],"y":[[1,2],[3,4]]}})", true);
  expect_none(Encoding::kJson, uneven, R"({"inputs":{"x":[1,2],"y":[[1,2]]}})", false);
  expect_none(Encoding::kMsgpack, uneven, "\x81\xa6inputs\x82\xa1x\x91\x01\xa1y\x91\x92\x01\x02", true);
}

// A record that fits: with escapes in its strings, in another order, with members that are none of its own.
void check_records() {
  penstock::test::RecordFixture record;
  const std::string text(200, 'a');
  expect_none(Encoding::kJson, record.row(),
              R"({"inputs":{"id":1,"age":22.5,"fare":1e-3,"tall":"true","sex":"female","city":"\u0055lm",)"
              R"("born":"1990-02-03T10:00:00.5+02:00","agent":")" +
                  text + R"(\n","address":{"zip":89073,"floor":-1},"comment":"g\u00f6","point":[1,2]}})",
              true);
  expect_none(Encoding::kJson, record.row(),
              R"({"inputs":{"point":[1,2],"sex":"male","more":{"a":[1,{}]},"age":null,"id":3}})", true);
  expect_none(Encoding::kMsgpack, record.row(),
              "\x81\xa6inputs\x84\xa2id\x01\xa3"
              "age\xc0\xa3sex\xa4male\xa5point\x92\x01\x02",
              true);
}

// The strings of a row, in and out again.
void check_strings() {
  const RowLayout layout({{"x", DType::kBytes, {2}, false, 64}});
  RowFixture texts(ModelSchema{layout, layout});
  expect_none(Encoding::kJson, texts, R"({"inputs":[1,2]})", false);
  expect_none(Encoding::kJson, texts, "{\"inputs\":[\"" + std::string(65, 'a') + "\",\"\"]}", false);
  expect_none(Encoding::kMsgpack, texts, "\x81\xa6inputs\x92\xa1\x61\xc4\x01\x62", true);
  expect_none(Encoding::kJson, texts, R"({"inputs":["a\n\u00e9","b"]})", true);
  const ReplyEncoder encoder("m", "1", texts.schema());
  const std::byte* const values[] = {texts.row()};
  for (const Encoding encoding : {Encoding::kJson, Encoding::kMsgpack}) {
    std::vector<char> out(encoder.bytes_max(encoding));
    Problem problem;
    const std::size_t before = allocations;
    CHECK(encoder.check_texts(encoding, values, 0, problem));
    CHECK(encoder.encode(encoding, values, 0, out.data()) <= out.size());
    CHECK(allocations == before);
  }
}

void check_encoding() {
  RowLayout outputs(
      {{"label", DType::kInt64, {}}, {"scores", DType::kFloat32, {2, 2}}, {"wide", DType::kFloat64, {3}}});
  const ModelSchema schema{RowLayout(), outputs};
  const ReplyEncoder encoder("m", "1", schema);
  const std::int64_t label = -7;
  const float scores[] = {0.1F, 3.0F, 1e-30F, -0.0F};
  const double wide[] = {0.1, 1e300, 123456789.125};
  const std::byte* const values[] = {reinterpret_cast<const std::byte*>(&label),
                                     reinterpret_cast<const std::byte*>(scores),
                                     reinterpret_cast<const std::byte*>(wide)};
  for (const Encoding encoding : {Encoding::kJson, Encoding::kMsgpack, Encoding::kRaw}) {
    std::vector<char> out(encoder.bytes_max(encoding));
    const std::size_t before = allocations;
    const std::size_t bytes = encoder.encode(encoding, values, 1, out.data());
    CHECK(allocations == before);
    CHECK(bytes != 0 && bytes <= out.size());
    if (encoding == Encoding::kJson) {
      CHECK(std::string_view(out.data(), bytes) ==
            R"({"model":"m","version":"1","outputs":{"label":-7,"scores":[[0.1,3.0],[1e-30,-0.0]],)"
            R"("wide":[0.1,1e+300,123456789.125]}})");
    }
  }
}

// A row of three out of nine elements: what lies behind them is not sent, nor is there room for it.
void check_cut_outputs() {
  const ModelSchema schema{RowLayout(), RowLayout({{"a", DType::kUint8, {9}, true}, {"b", DType::kInt64, {}}})};
  const ReplyEncoder encoder("m", "1", schema);
  const std::uint8_t a[9] = {1, 2, 3, 99, 99, 99, 99, 99, 99};
  const std::int64_t b = 5;
  const std::byte* const values[] = {reinterpret_cast<const std::byte*>(a), reinterpret_cast<const std::byte*>(&b)};
  const auto encoded = [&](Encoding encoding) {
    std::vector<char> out(encoder.bytes_max(encoding, 3));
    CHECK(out.size() < encoder.bytes_max(encoding, 9));
    const std::size_t before = allocations;
    const std::size_t bytes = encoder.encode(encoding, values, 0, out.data(), 3);
    CHECK(allocations == before && bytes <= out.size());
    return std::string(out.data(), bytes);
  };
  CHECK(encoded(Encoding::kJson) == R"({"model":"m","version":"1","outputs":{"a":[1,2,3],"b":5}})");
  CHECK(encoded(Encoding::kMsgpack).ends_with("\xa1\x61\x93\x01\x02\x03\xa1\x62\x05"));
  CHECK(encoded(Encoding::kRaw) == "\x01\x02\x03");
  CHECK(encoder.bytes_max(Encoding::kJson, 9) == encoder.bytes_max(Encoding::kJson));
}

void check_bounds() {
  const auto refuses = [](const ModelSchema& schema) {
    try {
      static_cast<void>(ReplyEncoder("m", "1", schema));
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  CHECK(refuses({RowLayout(std::vector<TensorSpec>(1025)), RowLayout()}));
  CHECK(refuses({RowLayout({{"x", DType::kBool, std::vector<std::uint32_t>(33, 1)}}), RowLayout()}));
  CHECK(refuses({RowLayout(), RowLayout({{"y", DType::kFloat64, std::vector<std::uint32_t>(2, 0xFFFFFFFF)}})}));
  CHECK(refuses({RowLayout({{"x", DType::kFloat32, {}, true}}), RowLayout()}));
  CHECK(refuses({RowLayout({{"x", DType::kFloat32, {4, 0}, true}}), RowLayout()}));
  CHECK(!refuses({RowLayout(std::vector<TensorSpec>(1024)), RowLayout()}));
}

}  // namespace

int main() {
  check_decoding();
  check_records();
  check_strings();
  check_encoding();
  check_cut_outputs();
  check_bounds();
  return 0;
}
