// Nanoseconds per row: a record of twenty mixed fields from JSON and msgpack into its slots. Issue: at most 3 us.
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "codec/codec.hpp"
#include "codec/codec_msgpack_write.hpp"
#include "codec/record_plan.hpp"
#include "report.hpp"

namespace {

using namespace penstock;
using namespace penstock::dataplane;
using bench::Report;

constexpr std::size_t kNumbers = 10;
constexpr std::size_t kCategories = 5;
constexpr const char* kWords[] = {"ash", "elm", "oak", "yew", "fir", "box", "bay", "fig"};

// Ten numbers, five categories of eight words, two whole numbers, a boolean, a date and a hashed string.
std::vector<RecordFieldSpec> fields_of_record() {
  std::vector<RecordFieldSpec> fields;
  const auto add = [&](const std::string& name, RecordKind kind) {
    RecordFieldSpec& field = fields.emplace_back();
    field.path = {name};
    field.kind = kind;
    field.nullable = true;
  };
  for (std::size_t i = 0; i < kNumbers; ++i) {
    add("number" + std::to_string(i), RecordKind::kNumber);
    fields.back().minimum = 0;
  }
  for (std::size_t i = 0; i < kCategories; ++i) {
    add("category" + std::to_string(i), RecordKind::kCategory);
    for (const char* word : kWords) fields.back().categories.emplace_back(std::string(word));
  }
  add("rooms", RecordKind::kInteger);
  add("floor", RecordKind::kInteger);
  add("owned", RecordKind::kBoolean);
  add("sold", RecordKind::kDate);
  add("agent", RecordKind::kHash);
  return fields;
}

class OneRecord final : public RowResolver {
 public:
  OneRecord()
      : schema_{RowLayout({{"$record", DType::kFloat64, {20}}}), RowLayout()},
        plan_(fields_of_record(), {{{}, true, true}}, schema_) {
    set_record(&plan_);
  }
  RowTarget resolve(std::string_view, std::string_view, Problem&) override { return {&schema_, row_}; }

 private:
  ModelSchema schema_;
  RecordPlan plan_;
  alignas(64) std::byte row_[20 * sizeof(double)];
};

std::string number(std::size_t i) { return std::to_string(i * 7) + "." + std::to_string(31 + i); }

std::string json_body(bool in_order, std::string_view comma, std::string_view colon) {
  std::vector<std::string> members;
  const auto add = [&](const std::string& name, const std::string& value) {
    members.push_back(std::string("\"").append(name).append("\"").append(colon).append(value));
  };
  for (std::size_t i = 0; i < kNumbers; ++i) add("number" + std::to_string(i), i == 3 ? "null" : number(i));
  for (std::size_t i = 0; i < kCategories; ++i)
    add("category" + std::to_string(i), std::string("\"").append(kWords[i + 2]).append("\""));
  add("rooms", "4");
  add("floor", "-1");
  add("owned", "true");
  add("sold", "\"2026-01-31T12:00:00Z\"");
  add("agent", "\"smith & sons, Ulm\"");
  std::string body = "{\"inputs\":{";
  for (std::size_t i = 0; i < members.size(); ++i)
    body.append(i == 0 ? "" : comma).append(in_order ? members[i] : members[i * 7 % members.size()]);
  return body + "}}";
}

std::string msgpack_body() {
  std::string body(4096, '\0');
  char* out = write_msgpack_map(20, write_msgpack_string("inputs", write_msgpack_map(1, body.data())));
  const auto name = [&](const std::string& text) { out = write_msgpack_string(text, out); };
  for (std::size_t i = 0; i < kNumbers; ++i) {
    name("number" + std::to_string(i));
    out = write_msgpack(std::strtod(number(i).c_str(), nullptr), out);
  }
  for (std::size_t i = 0; i < kCategories; ++i) {
    name("category" + std::to_string(i));
    out = write_msgpack_string(kWords[i + 2], out);
  }
  name("rooms");
  out = write_msgpack(std::int64_t{4}, out);
  name("floor");
  out = write_msgpack(std::int64_t{-1}, out);
  name("owned");
  out = write_msgpack(true, out);
  name("sold");
  out = write_msgpack_string("2026-01-31T12:00:00Z", out);
  name("agent");
  out = write_msgpack_string("smith & sons, Ulm", out);
  body.resize(static_cast<std::size_t>(out - body.data()));
  return body;
}

void read(Report& report, const std::string& what, Encoding encoding, const std::string& body) {
  OneRecord record;
  report.measure(what + ", " + std::to_string(body.size()) + " B", {.value = 3000, .source = "issue"}, [&] {
    Problem problem;
    const bool taken = encoding == Encoding::kJson ? decode_json(body, {}, record, problem)
                                                   : decode_msgpack(body, {}, record, problem);
    if (!taken) std::abort();
  });
}

}  // namespace

int main(int argc, char** argv) {
  Report report("record", argc, argv);
  read(report, "JSON, 20 fields", Encoding::kJson, json_body(true, ",", ":"));
  read(report, "JSON, 20 fields with blanks", Encoding::kJson, json_body(true, ", ", ": "));
  read(report, "JSON, 20 fields in another order", Encoding::kJson, json_body(false, ",", ":"));
  read(report, "msgpack, 20 fields", Encoding::kMsgpack, msgpack_body());
  return 0;
}
