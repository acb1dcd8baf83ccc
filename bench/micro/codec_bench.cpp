// Nanoseconds per body. Prints the best and the median of many runs: `codec_bench [seconds per line]`.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "codec_fixture.hpp"

namespace {

using penstock::DType;
using penstock::ModelSchema;
using penstock::RowLayout;
using penstock::test::RowFixture;
using namespace penstock::dataplane;

double seconds_per_line = 0.3;

template <typename Run>
void measure(const char* what, std::size_t bytes, const Run& run) {
  constexpr int kRunsPerSample = 200;
  using Clock = std::chrono::steady_clock;
  std::vector<double> samples;
  const auto start = Clock::now();
  while (std::chrono::duration<double>(Clock::now() - start).count() < seconds_per_line) {
    const auto before = Clock::now();
    for (int i = 0; i < kRunsPerSample; ++i) run();
    samples.push_back(std::chrono::duration<double, std::nano>(Clock::now() - before).count() / kRunsPerSample);
  }
  std::sort(samples.begin(), samples.end());
  std::printf("%-46s %7zu B  best %8.1f ns  median %8.1f ns\n", what, bytes, samples.front(),
              samples[samples.size() / 2]);
}

// A row of `count` numbers in [-10, 10) with `decimals` digits behind the point; 0: as Python writes a widened float32.
std::string numbers(std::size_t count, int decimals) {
  std::mt19937 random(42);
  std::uniform_real_distribution<float> uniform(-10.0F, 10.0F);
  std::string text = "[";
  for (std::size_t i = 0; i < count; ++i) {
    char buffer[64];
    const double value = static_cast<double>(uniform(random));
    const auto end = decimals == 0 ? std::to_chars(buffer, buffer + 64, value).ptr
                                   : std::to_chars(buffer, buffer + 64, value, std::chars_format::fixed, decimals).ptr;
    text.append(i == 0 ? "" : decimals == 0 ? ", " : ",").append(buffer, end);
  }
  return text + "]";
}

void decode(const char* what, Encoding encoding, RowFixture& fixture, const std::string& body) {
  Problem problem;
  CHECK(penstock::test::decode(encoding, body, {}, fixture, problem));
  measure(what, body.size(), [&] { CHECK(penstock::test::decode(encoding, body, {}, fixture, problem)); });
}

std::string msgpack_floats(std::size_t count) {
  std::string body = "\x81\xa6inputs\xdc";
  body += static_cast<char>(count >> 8);
  body += static_cast<char>(count & 0xFF);
  for (std::size_t i = 0; i < count; ++i) body.append("\xca\x3e\x80\x00", 4).append(1, static_cast<char>(i));
  return body;
}

void decode_all(std::uint32_t count) {
  RowFixture fixture(
      ModelSchema{RowLayout({{"x", DType::kFloat32, {count}}}), RowLayout({{"y", DType::kFloat32, {3}}})});
  RowFixture wide(ModelSchema{RowLayout({{"x", DType::kFloat64, {count}}}), RowLayout({{"y", DType::kFloat32, {3}}})});
  const std::string row = numbers(count, 6);
  const std::string n = std::to_string(count);
  decode(("JSON inputs " + n).c_str(), Encoding::kJson, fixture, "{\"inputs\":" + row + "}");
  decode(("JSON model, inputs " + n).c_str(), Encoding::kJson, fixture,
         "{\"model\":\"digits\",\"inputs\":" + row + "}");
  decode(("JSON inputs by name " + n).c_str(), Encoding::kJson, fixture, "{\"inputs\":{\"x\":" + row + "}}");
  decode(("JSON inputs, model " + n).c_str(), Encoding::kJson, fixture,
         "{\"inputs\":" + row + ",\"model\":\"digits\"}");
  decode(("JSON Python's float32 " + n).c_str(), Encoding::kJson, fixture, "{\"inputs\": " + numbers(count, 0) + "}");
  decode(("JSON float64, 6 digits " + n).c_str(), Encoding::kJson, wide, "{\"inputs\":" + row + "}");
  decode(("JSON float64, 17 digits " + n).c_str(), Encoding::kJson, wide, "{\"inputs\": " + numbers(count, 0) + "}");
  decode(("msgpack " + n).c_str(), Encoding::kMsgpack, fixture, msgpack_floats(count));
  decode(("raw " + n).c_str(), Encoding::kRaw, fixture, std::string(count * 4, '\0'));
}

void encode_all(std::uint32_t count) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  const ModelSchema schema{RowLayout({{"x", DType::kFloat32, {1}}}), RowLayout({{"y", DType::kFloat32, {count}}})};
  const ReplyEncoder encoder("digits", "1", schema);
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  const std::string n = std::to_string(count);
  for (const auto& [encoding, name] :
       {std::pair(Encoding::kJson, "JSON reply "), std::pair(Encoding::kMsgpack, "msgpack reply ")}) {
    std::vector<char> out(encoder.bytes_max(encoding));
    std::size_t bytes = encoder.encode(encoding, {&data, 1}, 0, out.data());
    measure((name + n).c_str(), bytes, [&] { bytes = encoder.encode(encoding, {&data, 1}, 0, out.data()); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) seconds_per_line = std::strtod(argv[1], nullptr);
  decode_all(32);
  decode_all(256);
  encode_all(3);
  encode_all(256);
}
