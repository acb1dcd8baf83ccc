// Records in JSON, msgpack and raw slots: what is taken, where it goes, and what is said of everything that does not
// fit.
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "http/response.hpp"
#include "penstock/kernels/hash_text.hpp"
#include "record_fixture.hpp"

namespace {

using namespace penstock::dataplane;
using penstock::ModelSchema;
using penstock::test::RecordFixture;

std::string json(RecordFixture& record, const std::string& fields) {
  return record.read(Encoding::kJson, R"({"inputs":{)" + fields + "}}");
}

std::string least() { return R"("id":1,"age":null,"sex":"male","point":[1,2])"; }

void check_slots() {
  RecordFixture record;
  CHECK(json(record, R"( "id" : 1.0, "age":22.5,"fare":1e-3,"tall":true,"sex":"female","city":"Ulm",)"
                     R"("born":"1990-02-03T10:00:00.5+02:00","agent":"a\u00e9\n","address":{"zip":89073,"floor":-1},)"
                     R"("comment":"good","point":[1,2]})") == "!malformed_body");
  CHECK(json(record, R"( "id" : 1.0, "age":22.5,"fare":1e-3,"tall":true,"sex":"female","city":"Ulm",)"
                     R"("born":"1990-02-03T10:00:00.5+02:00","agent":"a\u00e9\n","address":{"zip":89073,"floor":-1},)"
                     R"("comment":"g\u00f6\n","point":[1,2])")
            .empty());
  const double expected[] = {
      1, 22.5, 1e-3, 1, 0, 0, 634032000.5, static_cast<double>(penstock::hash_text("a\xC3\xA9\n")), 89073, -1};
  for (std::size_t slot = 0; slot < 10; ++slot) CHECK(record.slot(slot) == expected[slot]);
  CHECK(record.text() == "g\xC3\xB6\n");
}

void check_absent() {
  RecordFixture record;
  CHECK(json(record, least()).empty());
  CHECK(record.slot(0) == 1 && std::isnan(record.slot(1)) && record.slot(2) == 7.5 && std::isnan(record.slot(3)));
  CHECK(record.slot(4) == 1 && std::isnan(record.slot(5)) && std::isnan(record.slot(8)) && record.text() == "none");
  CHECK(json(record, R"("point":[1,2],"sex":"male","age":3,"id":9007199254740992)").empty());  // any order
  CHECK(record.slot(0) == 9007199254740992.0 && record.slot(1) == 3);
  CHECK(json(record, least() + R"(,"address":{})") == "address.zip required");
  CHECK(json(record, "") == "id required, age required, sex required, point required");
}

void check_faults() {
  RecordFixture record;
  CHECK(json(record, R"("id":1.5,"age":121,"fare":0,"tall":"maybe","sex":"f","born":"1990-02-30","address":3,)"
                     R"("comment":"more than twenty characters","point":[1]})") == "!malformed_body");
  CHECK(
      json(record, R"("id":1.5,"age":121,"fare":0,"tall":"maybe","sex":"f","born":"1990-02-30","address":3,)"
                   R"("comment":"more than twenty characters","point":[1])") ==
      "id type, age maximum, fare exclusiveMinimum, tall type, sex enum, born format, address type, comment maxLength, "
      "point items");
  CHECK(json(record, R"("id":9007199254740993,"age":true,"sex":null,"sex":"male","point":"x")") ==
        "id range, age type, sex type, sex unique, point type");
  CHECK(json(record, R"("id":1e300,"age":1e999,"sex":"male","point":[1,2])") == "id range, age type");
  CHECK(json(record, R"("id":"1","age":[{"deep":[1,2]}],"sex":{"a":1},"point":[1,2])") ==
        "id type, age type, sex type");
  for (const char* wrong : {R"("id":01)", R"("id":NaN)", R"("id":-Infinity)", R"("id":1,)", R"("id":1 "age":2)",
                            R"("id":tru)", R"("sex":"m)", "\"sex\":\"\xFF\"", R"("other":[1,,2])", R"("other":"\x")"}) {
    CHECK(json(record, wrong) == "!malformed_body");
  }
  CHECK(record.read(Encoding::kJson, R"({"inputs":[1,2]})") == "!invalid_input");
}

void check_closed() {
  RecordFixture open;
  RecordFixture closed(true);
  const std::string fields = least() + R"(,"other":{"a":[1,"]",null]},"address":{"zip":1,"inner":2})";
  CHECK(json(open, fields).empty());
  CHECK(json(closed, fields) == "other additionalProperties, address.inner additionalProperties");
  CHECK(json(closed, least() + R"(,"address.zip":5)").empty());  // by its path
  CHECK(closed.slot(8) == 5);
  CHECK(json(closed, least() + R"(,"address.floor":5)") == "address.zip required");
  // By its path and in its object, in any order; but once.
  const std::string object = R"("address":{"zip":1})";
  CHECK(json(closed, least() + R"(,"address.floor":5,)" + object).empty() && closed.slot(9) == 5);
  CHECK(json(closed, least() + "," + object + R"(,"address.floor":5)").empty() && closed.slot(9) == 5);
  CHECK(json(closed, least() + R"(,"address.zip":5,)" + object) == "address.zip unique");
  CHECK(json(closed, least() + "," + object + "," + object) == "address.zip unique");
  CHECK(json(closed, least() + R"(,"address.zip":5,"address":3)") == "address type");
}

void check_coerced() {
  RecordFixture record;
  const auto slot_of = [&](const std::string& field, std::size_t slot) {
    CHECK(json(record, least() + "," + field).empty());
    return record.slot(slot);
  };
  CHECK(slot_of(R"("tall":1)", 3) == 1 && slot_of(R"("tall":"false")", 3) == 0 &&
        slot_of(R"("tall":" True ")", 3) == 1);
  CHECK(slot_of(R"("city":"7")", 5) == 1 && slot_of(R"("city":7.0)", 5) == 1 && slot_of(R"("city":"true")", 5) == 2);
  CHECK(slot_of(R"("city":"Bonn")", 5) == -1 && slot_of(R"("city":8)", 5) == -1 && slot_of(R"("city":false)", 5) == -1);
  CHECK(slot_of(R"("address":{"zip":" 12 "})", 8) == 12);
  CHECK(json(record, least() + R"(,"tall":2,"address":{"zip":"12.5"})") == "tall type, address.zip type");
  CHECK(json(record, least() + R"(,"address":{"zip":"NaN"})") == "address.zip type");
}

// From 2^53 on two whole numbers are one float64, however they are written.
void check_whole_numbers() {
  RecordFixture record;
  const auto rules = [&](const char* number) {
    return json(record, least() + R"(,"address":{"zip":")" + number + R"("})");
  };
  CHECK(rules("9007199254740992").empty() && record.slot(8) == kWholeMax);
  CHECK(rules("-9007199254740992").empty() && record.slot(8) == -kWholeMax);
  CHECK(rules("9007199254740993") == "address.zip range" && rules("1e300") == "address.zip range");
}

void check_long_strings() {
  RecordFixture record;
  const std::string plain(4999, 'a');
  CHECK(json(record, least() + R"(,"agent":")" + plain + R"(\n")").empty());
  CHECK(record.slot(7) == static_cast<double>(penstock::hash_text(plain + "\n")));
  CHECK(json(record, least() + R"(,"agent":")" + plain + R"(aa")") == "agent maxLength");
  CHECK(json(record, least() + R"(,"city":"\u0055lm")").empty());
  CHECK(record.slot(5) == 0);
  CHECK(json(record, least() + R"(,"comment":")" + plain + R"(")") == "comment maxLength");
}

void check_msgpack() {
  RecordFixture record(true);
  const auto read = [&](const std::string& pairs, int count) {
    return record.read(Encoding::kMsgpack,
                       std::string("\x81\xa6inputs").append(1, static_cast<char>(0x80 + count)).append(pairs));
  };
  const std::string packed_least =
      "\xa2id\x01\xa3"
      "age\xc0\xa3sex\xa4male\xa5point\x92\x01\x02";
  CHECK(read(packed_least, 4).empty());
  CHECK(record.slot(0) == 1 && std::isnan(record.slot(1)) && record.slot(4) == 1 && record.text() == "none");
  CHECK(read(packed_least + "\xa7"
                            "address\x81\xa3zip\xcd\x01\x02",
             5)
            .empty());
  CHECK(record.slot(8) == 258);
  CHECK(read(packed_least + "\xa7"
                            "comment\xa2hi",
             5)
            .empty() &&
        record.text() == "hi");
  CHECK(read(packed_least +
                 "\xa4"
                 "fare\xcb\x7f\xf8" +
                 std::string(6, '\0'),
             5) == "fare type");  // NaN
  CHECK(read(std::string("\xa2id\xcf").append(8, '\xff') + "\xa3"
                                                           "age\xc3\xa3sex\x93\x01\x02\x03\xa5point\x91\x01\xa1x\x80",
             5) == "id range, age type, sex type, point items, x additionalProperties");
  CHECK(read(std::string("\xa1\0\x01", 3), 1).starts_with(std::string("\0 additionalProperties, id required", 35)));
  CHECK(read("\xa2id\x01\xa2id", 2) == "!malformed_body");
  CHECK(record.read(Encoding::kMsgpack, "\x81\xa6inputs\x91\x01") == "!invalid_input");
}

void check_raw() {
  using penstock::DType;
  penstock::test::RowFixture row(
      {penstock::RowLayout({{"$record", DType::kFloat64, {3}}}), penstock::RowLayout({{"y", DType::kFloat32, {}}})});
  auto fields = penstock::test::record_fields();
  const RecordPlan plan({fields[1], fields[2], fields[4]}, penstock::test::record_objects(false), row.schema());
  row.set_plan(&plan);
  const auto read = [&](std::initializer_list<double> slots) {
    Problem problem;
    row.clear();
    const std::string_view body(reinterpret_cast<const char*>(slots.begin()), slots.size() * sizeof(double));
    const bool taken = decode_raw(body, {}, row, problem);
    CHECK(row.guards_hold(taken) && taken == (problem.code() == ProblemCode::kNone));
    return taken ? std::string("taken") : std::string(problem.detail());
  };
  CHECK(read({3, 4, 1}) == "taken");
  CHECK(read({NAN, NAN, 0}) == "taken");
  CHECK(std::memcmp(row.row() + 8, "\0\0\0\0\0\0\x1e\x40", 8) == 0);  // its default
  CHECK(read({-1, 0, 2}).starts_with("age: ") && read({3, 4, NAN}).starts_with("sex: "));
  CHECK(read({3, 4}).find("24 bytes") != std::string::npos);
}

// What may be null is no sign of an object that may be absent, but in the object itself.
void check_null_by_path() {
  using penstock::DType;
  auto fields = penstock::test::record_fields();
  fields[9].nullable = true;
  for (const bool required : {false, true}) {
    penstock::test::RowFixture row(
        {penstock::RowLayout({{"$record", DType::kFloat64, {2}}}), penstock::RowLayout({{"y", DType::kFloat32, {}}})});
    const RecordPlan plan({fields[8], fields[9]}, {{{}, true, true}, {{"address"}, required, true}}, row.schema());
    row.set_plan(&plan);
    const auto read = [&](std::string_view inputs, Encoding encoding = Encoding::kJson) {
      const std::string body = encoding == Encoding::kJson ? R"({"inputs":)" + std::string(inputs) + "}"
                                                           : "\x81\xa6inputs" + std::string(inputs);
      Problem problem;
      if (penstock::test::decode(encoding, body, {}, row, problem)) return std::string();
      return std::string((*problem.fields())[0].field).append(" ").append((*problem.fields())[0].rule);
    };
    const std::string alone = required ? "address.zip required" : "";
    CHECK(read(R"({"address.floor": null})") == alone);
    CHECK(read("\x81\xad"
               "address.floor\xc0",
               Encoding::kMsgpack) == alone);
    CHECK(read(R"({"address":{"floor":null}})") == "address.zip required");
    CHECK(read(R"({"address.floor":1})") == "address.zip required");
    const double slots[] = {NAN, NAN};
    Problem problem;
    const std::string_view bytes(reinterpret_cast<const char*>(slots), sizeof slots);
    CHECK(decode_raw(bytes, {}, row, problem) != required);
  }
}

// An object that may be absent is absent in a row of slots, too, when its fields are; hashes have 32 bits.
void check_raw_objects() {
  using penstock::DType;
  penstock::test::RowFixture row(
      {penstock::RowLayout({{"$record", DType::kFloat64, {3}}}), penstock::RowLayout({{"y", DType::kFloat32, {}}})});
  auto fields = penstock::test::record_fields();
  const RecordPlan plan({fields[7], fields[8], fields[9]}, penstock::test::record_objects(false), row.schema());
  row.set_plan(&plan);
  const auto read = [&](std::initializer_list<double> slots) {
    Problem problem;
    const std::string_view body(reinterpret_cast<const char*>(slots.begin()), slots.size() * sizeof(double));
    const bool taken = decode_raw(body, {}, row, problem);
    return taken ? std::string("taken") : std::string(problem.detail());
  };
  CHECK(read({4294967295.0, NAN, NAN}) == "taken");
  CHECK(read({1, NAN, 2}).starts_with("address.zip: missing") && read({1, 2, NAN}) == "taken");
  CHECK(read({4294967296.0, 1, 2}).starts_with("agent: "));
}

// Base64 stands alone or, as bytes of other inputs have it, in an object.
void check_images() {
  using penstock::DType;
  penstock::test::RowFixture row({penstock::RowLayout({{"photo", DType::kBytes, {}, false, 8}}),
                                  penstock::RowLayout({{"y", DType::kFloat32, {}}})});
  const RecordPlan plan({{.path = {"photo"}, .kind = RecordKind::kImage}}, {{{}, true, false}}, row.schema());
  row.set_plan(&plan);
  const auto read = [&](const std::string& photo) {
    const penstock::test::ExactBody body(R"({"inputs":{"photo":)" + photo + "}}");
    Problem problem;
    row.clear();
    if (!decode_json(body.view(), {}, row, problem))
      return problem.fields() == nullptr ? std::string("!") : std::string((*problem.fields())[0].rule);
    std::string_view bytes;
    CHECK(text_at(row.schema().inputs.tensors()[0], row.row(), 0, bytes));
    return std::string(bytes);
  };
  CHECK(read(R"("Y\/hl")") == "c\xF8\x65" && read(R"({ "base64" : "Y2F0" })") == "cat" && read(R"("")").empty());
  CHECK(read(R"("\u002B\u002fhl")") == "\xFB\xF8\x65" && read(R"("\u002Chl")") == "contentEncoding");
  CHECK(read(R"("Y2F")") == "contentEncoding" && read(R"("Y2F0Y2F0Y2F0")") == "maxLength");
  for (const char* other : {"{}", R"({"base64":1})", R"({"base64":"Y2F0","more":1})", R"({"file":"Y2F0"})", "1"})
    CHECK(read(other) == "type");
  CHECK(read(R"({"base64")") == "!" && read(R"({"base64":"Y2F0")") == "!" && read("{") == "!");
}

// A plan whose default has no room would leave the text of another row in its place.
void check_default_without_room() {
  using penstock::DType;
  const auto plan_of = [](std::string text) {
    const ModelSchema schema{penstock::RowLayout({{"note", DType::kBytes, {}, false, 8}}),
                             penstock::RowLayout({{"y", DType::kFloat32, {}}})};
    RecordFieldSpec note{.path = {"note"}, .kind = RecordKind::kText, .required = false, .absent = std::move(text)};
    return RecordPlan({std::move(note)}, {{{}, true, false}}, schema);
  };
  static_cast<void>(plan_of("12345678"));
  try {
    static_cast<void>(plan_of("123456789"));
    CHECK(false);
  } catch (const std::invalid_argument& error) {
    CHECK(std::string_view(error.what()).find("no room for its default") != std::string_view::npos);
  }
}

// Bounds are told in figures, not in powers of ten.
void check_round_bounds() {
  using penstock::DType;
  penstock::test::RowFixture row(
      {penstock::RowLayout({{"$record", DType::kFloat64, {1}}}), penstock::RowLayout({{"y", DType::kFloat32, {}}})});
  const RecordPlan plan({{.path = {"x"}, .minimum = 0.5, .maximum = 200000}}, {{{}, true, false}}, row.schema());
  row.set_plan(&plan);
  const double most = 1e6;
  Problem problem;
  CHECK(!decode_raw({reinterpret_cast<const char*>(&most), sizeof most}, {}, row, problem));
  CHECK(problem.detail() == "x: expected a number from 0.5 up to 200000, got 1000000");
}

// Escapes change nothing about which members are taken, whatever their length.
void check_escaped_names() {
  RecordFixture open;
  std::string name;
  while (name.size() < 1800) name.append("\\u00e9");
  CHECK(json(open, least() + ",\"" + name + "\":[1]").empty());
  CHECK(json(open, R"("\u0069d":7,"age":null,"sex":"male","point":[1,2])").empty() && open.slot(0) == 7);
  CHECK(json(open, R"("\u0069d)") == "!malformed_body" && json(open, R"("\ud800":1)") == "!malformed_body");
  RecordFixture closed(true);
  CHECK(json(closed, least() + ",\"" + name + "\":[1],\"sex\":1").ends_with(" additionalProperties, sex unique"));
}

// Msgpack has no replacement for half a character.
void check_long_names() {
  using penstock::DType;
  penstock::test::RowFixture row(
      {penstock::RowLayout({{"$record", DType::kFloat64, {1}}}), penstock::RowLayout({{"y", DType::kFloat32, {}}})});
  std::string name = "x";
  while (name.size() < 201) name.append("\xC3\xA9");
  const RecordPlan plan({{.path = {name}}}, {{{}, true, false}}, row.schema());
  row.set_plan(&plan);
  Problem problem;
  CHECK(!decode_json(R"({"inputs":{}})", {}, row, problem));
  CHECK((*problem.fields())[0].field == name.substr(0, 127));
}

void check_problem() {
  RecordFixture record;
  Problem problem;
  record.row().clear();
  CHECK(!decode_json(R"({"inputs":{"id":"a\"b","age":121,"sex":"\u0007","point":[1,2]}})", {}, record.row(), problem));
  std::string out(problem_bytes_max(problem), '\0');
  out.resize(write_problem(out.data(), problem, {.request_id = "r"}));
  CHECK(out.find(
            R"("detail":"id: expected a whole number, got \"a\\\"b\"; age: expected a number from 0 up to 120, or )"
            R"(null, got 121; sex: expected one of \"female\", \"male\", got \"\\u0007\"","code":"invalid_input")") !=
        std::string::npos);
  CHECK(out.find(R"("errors":[{"field":"id","rule":"type","detail":"expected a whole number, got \"a\\\"b\""},)"
                 R"({"field":"age","rule":"maximum",)") != std::string::npos);
}

// More faults than are kept: they are counted, and the reply has its bound.
void check_many_faults() {
  std::vector<RecordFieldSpec> fields(3000);
  for (std::size_t i = 0; i < fields.size(); ++i) fields[i].path = {std::string(100, 'x') + std::to_string(i)};
  penstock::test::RowFixture row({penstock::RowLayout({{"$record", penstock::DType::kFloat64, {3000}}}),
                                  penstock::RowLayout({{"y", penstock::DType::kFloat32, {}}})});
  const RecordPlan plan(fields, {{{}, true, false}}, row.schema());
  row.set_plan(&plan);
  Problem problem;
  CHECK(!decode_json(R"({"inputs":{}})", {}, row, problem));
  CHECK(problem.fields()->size() + problem.fields()->more() == 3000);
  CHECK(problem.detail().ends_with(" more"));
  std::string out(problem_bytes_max(problem), '\0');
  CHECK(write_problem(out.data(), problem, {}) <= out.size());
}

}  // namespace

int main() {
  check_slots();
  check_absent();
  check_faults();
  check_closed();
  check_coerced();
  check_whole_numbers();
  check_long_strings();
  check_msgpack();
  check_raw();
  check_raw_objects();
  check_null_by_path();
  check_images();
  check_default_without_room();
  check_round_bounds();
  check_escaped_names();
  check_long_names();
  check_problem();
  check_many_faults();
  return 0;
}
