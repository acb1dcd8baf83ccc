// Nanoseconds per body: decoding requests, encoding replies.
//
// The limits were measured on a 2-vCPU Zen 5: simdjson On-Demand for 32 and 256 numbers (257 and 1,815 ns), a bare
// msgpack float32 loop (10 and 100 ns), memcpy of a raw row (1.6 and 6.2 ns), Dragonbox per number written (8.6 ns).
#include <charconv>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "codec/codec.hpp"
#include "report.hpp"

namespace {

using namespace penstock;
using namespace penstock::dataplane;
using bench::keep;
using bench::Limit;
using bench::Report;

// Resolves every name to one row.
class OneRow final : public RowResolver {
 public:
  explicit OneRow(ModelSchema schema)
      : schema_(std::move(schema)),
        row_(static_cast<std::byte*>(::operator new(schema_.inputs.bytes(), std::align_val_t{kTensorAlignment}))) {}
  ~OneRow() { ::operator delete(row_, std::align_val_t{kTensorAlignment}); }
  OneRow(const OneRow&) = delete;
  OneRow& operator=(const OneRow&) = delete;
  RowTarget resolve(std::string_view, std::string_view, Problem&) override { return {&schema_, row_}; }

 private:
  ModelSchema schema_;
  std::byte* row_;
};

bool decode_body(Encoding encoding, std::string_view body, RowResolver& resolver) {
  Problem problem;
  if (encoding == Encoding::kJson) return decode_json(body, {}, resolver, problem);
  if (encoding == Encoding::kMsgpack) return decode_msgpack(body, {}, resolver, problem);
  return decode_raw(body, {}, resolver, problem);
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

void decode(Report& report, const std::string& what, Encoding encoding, OneRow& row, const std::string& body,
            const Limit& limit = {}) {
  report.measure(what + ", " + std::to_string(body.size()) + " B", limit, [&] {
    if (!decode_body(encoding, body, row)) std::abort();
  });
}

std::string msgpack_floats(std::size_t count) {
  std::string body = "\x81\xa6inputs\xdc";
  body += static_cast<char>(count >> 8);
  body += static_cast<char>(count & 0xFF);
  for (std::size_t i = 0; i < count; ++i) body.append("\xca\x3e\x80\x00", 4).append(1, static_cast<char>(i));
  return body;
}

void decode_all(Report& report, std::uint32_t count) {
  OneRow row(ModelSchema{RowLayout({{"x", DType::kFloat32, {count}}}), RowLayout({{"y", DType::kFloat32, {3}}})});
  OneRow wide(ModelSchema{RowLayout({{"x", DType::kFloat64, {count}}}), RowLayout({{"y", DType::kFloat32, {3}}})});
  const bool small = count == 32;
  const Limit json{.value = small ? 257.0 : 1815.0, .source = "simdjson"};
  const Limit msgpack{.value = small ? 10.0 : 100.0, .source = "bare loop"};
  const Limit raw{.value = small ? 1.6 : 6.2, .source = "memcpy"};
  const std::string six = numbers(count, 6);
  const std::string n = std::string(" ").append(std::to_string(count));
  decode(report, "JSON inputs" + n, Encoding::kJson, row, "{\"inputs\":" + six + "}", json);
  decode(report, "JSON model, inputs" + n, Encoding::kJson, row, "{\"model\":\"digits\",\"inputs\":" + six + "}", json);
  decode(report, "JSON by name" + n, Encoding::kJson, row, "{\"inputs\":{\"x\":" + six + "}}", json);
  decode(report, "JSON inputs, model" + n, Encoding::kJson, row, "{\"inputs\":" + six + ",\"model\":\"digits\"}", json);
  decode(report, "JSON Python's float32" + n, Encoding::kJson, row, "{\"inputs\": " + numbers(count, 0) + "}");
  decode(report, "JSON float64, 6 digits" + n, Encoding::kJson, wide, "{\"inputs\":" + six + "}");
  decode(report, "JSON float64, 17 digits" + n, Encoding::kJson, wide, "{\"inputs\": " + numbers(count, 0) + "}");
  decode(report, "msgpack" + n, Encoding::kMsgpack, row, msgpack_floats(count), msgpack);
  decode(report, "raw" + n, Encoding::kRaw, row, std::string(count * 4, '\0'), raw);
}

void encode_all(Report& report, std::uint32_t count) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  const ModelSchema schema{RowLayout({{"x", DType::kFloat32, {1}}}), RowLayout({{"y", DType::kFloat32, {count}}})};
  const ReplyEncoder encoder("digits", "1", schema);
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  const std::string n = std::to_string(count);
  for (const auto& [encoding, name] : {std::pair(Encoding::kJson, std::string("JSON reply ")),
                                       std::pair(Encoding::kMsgpack, std::string("msgpack reply "))}) {
    std::vector<char> out(encoder.bytes_max(encoding));
    const Limit limit = encoding == Encoding::kJson ? Limit{.value = 8.6 * count, .source = "Dragonbox"} : Limit{};
    report.measure(name + n, limit, [&] { keep(encoder.encode(encoding, {&data, 1}, 0, out.data())); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  Report report("codec", argc, argv);
  for (const std::uint32_t count : {32U, 256U}) decode_all(report, count);
  for (const std::uint32_t count : {3U, 256U}) encode_all(report, count);
  return 0;
}
