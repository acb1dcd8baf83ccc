// Records by the Open Inference Protocol: fields as inputs in JSON, in binary data and as messages of gRPC, with raw
// and with typed contents.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "codec/codec_oip.hpp"
#include "codec/codec_proto.hpp"
#include "record_fixture.hpp"

namespace {

using namespace penstock::dataplane;
using penstock::test::RecordFixture;
using penstock::test::RecordRows;

// A body, and what was read of it.
struct Read {
  // `header_bytes`: of JSON in front of binary data; without it the body is a message of gRPC.
  Read(const RecordPlan& plan, std::string_view bytes, std::optional<std::size_t> header_bytes)
      : body(bytes), rows(plan) {
    InferRequest request;
    Problem found;
    const bool taken = header_bytes ? decode_infer(body.view(), *header_bytes, {}, rows, request, found)
                                    : decode_infer_message(body.view(), rows, request, found);
    CHECK(taken != static_cast<bool>(found));
    problem = taken ? "" : info_of(found.code()).code;
    detail = found.detail();
  }

  penstock::test::ExactBody body;  // tensors may lie in it
  RecordRows rows;
  std::string problem;  // its code
  std::string detail;
};

// `binary` lies behind the JSON.
Read infer(const RecordFixture& record, const std::string& inputs, std::string_view binary = {}) {
  const std::string json = "{\"inputs\":[" + inputs + "]}";
  return {record.plan(), json + std::string(binary), json.size()};
}

std::string input(std::string_view name, std::string_view type, int rows, const std::string& rest) {
  return std::string(R"({"name":")")
      .append(name)
      .append(R"(","datatype":")")
      .append(type)
      .append(R"(","shape":[)")
      .append(std::to_string(rows))
      .append(name == "point" ? ",2]," : "],")
      .append(rest)
      .append("}");
}

std::string data(std::string_view name, std::string_view type, int rows, const std::string& values) {
  return input(name, type, rows, "\"data\":" + values);
}

std::string binary(std::string_view name, std::string_view type, int rows, std::size_t bytes) {
  return input(name, type, rows, R"("parameters":{"binary_data_size":)" + std::to_string(bytes) + "}");
}

// The fields that are required, of two rows.
std::string least() {
  return data("id", "INT64", 2, "[1,2]") + "," + data("age", "FP64", 2, "[null,3]") + "," +
         data("sex", "BYTES", 2, R"(["male","female"])") + "," + data("point", "FP32", 2, "[[1,2],[3,4]]");
}

std::string text(std::string_view bytes) {
  const auto count = static_cast<std::uint32_t>(bytes.size());
  return std::string(reinterpret_cast<const char*>(&count), sizeof count).append(bytes);
}

template <typename T>
std::string packed(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

void check_json() {
  const RecordFixture record;
  const Read read = infer(record, least() + "," + data("comment", "BYTES", 2, R"(["good",null])"));
  CHECK(read.problem.empty() && read.rows.refused(0).empty() && read.rows.refused(1).empty());
  CHECK(read.rows.slot(0, 0) == 1 && std::isnan(read.rows.slot(0, 1)) && read.rows.slot(0, 4) == 1);
  CHECK(read.rows.slot(1, 0) == 2 && read.rows.slot(1, 1) == 3 && read.rows.slot(1, 4) == 0);
  CHECK(read.rows.text(0) == "good" && read.rows.text(1) == "none" && read.rows.point(1, 0) == 3);
  CHECK(infer(record, least() + "," + data("fare", "FP64", 2, "[1]")).problem == "invalid_input");
  CHECK(infer(record, least() + "," + data("fare", "FP64", 2, "[1,2,3]")).problem == "invalid_input");
  CHECK(infer(record, data("id", "INT64", 1, "[1]")).rows.refused(0).find("age: missing") != std::string::npos);
}

// A row that does not fit is refused alone, and all that is wrong with it is told.
void check_faults() {
  const RecordFixture record;
  const std::string longest(100, 'a');
  const Read read = infer(record, least() + "," + data("fare", "FP64", 2, "[0,1]") + "," +
                                      data("comment", "BYTES", 2, "[\"" + longest + "\",\"ok\"]"));
  CHECK(read.problem.empty() && read.rows.refused(1).empty() && read.rows.text(1) == "ok");
  CHECK(read.rows.refused(0).starts_with("fare: expected a number above 0, got 0; comment: more bytes than the "));
}

// A column cannot leave a field of one row out: null, and NaN where there is no null, stand for that.
void check_missing() {
  const RecordFixture record;
  const double values[] = {NAN, 5};
  const std::string_view bytes(reinterpret_cast<const char*>(values), sizeof values);
  const Read read =
      infer(record,
            least() + "," + data("fare", "FP64", 2, "[null,5]") + "," + data("address.floor", "FP64", 2, "[null,1]") +
                "," + binary("address.zip", "FP64", 2, sizeof values),
            bytes);
  CHECK(read.problem.empty() && read.rows.refused(0).empty() && read.rows.refused(1).empty());
  CHECK(read.rows.slot(0, 2) == 7.5 && read.rows.slot(1, 2) == 5);
  CHECK(std::isnan(read.rows.slot(0, 8)) && std::isnan(read.rows.slot(0, 9)) && read.rows.slot(1, 8) == 5);
  const Read required =
      infer(record, data("id", "INT64", 1, "[null]") + "," + data("age", "FP64", 1, "[1]") + "," +
                        data("sex", "BYTES", 1, R"(["male"])") + "," + data("point", "FP32", 1, "[1,2]"));
  CHECK(required.rows.refused(0) == "id: missing; expected a whole number");
  // An object is there when something in it is.
  const Read partly = infer(record, least() + "," + data("address.floor", "FP64", 2, "[1,null]") + "," +
                                        data("address.zip", "INT64", 2, "[null,null]"));
  CHECK(partly.rows.refused(0) == "address.zip: missing; expected a whole number" && partly.rows.refused(1).empty());
}

void check_binary() {
  const RecordFixture record;
  const auto comments = [&](const std::string& first) {
    const std::string bytes = text(first) + text("ok");
    return infer(record, least() + "," + binary("comment", "BYTES", 2, bytes.size()), bytes);
  };
  CHECK(comments("a\xC3\xA9").rows.text(0) == "a\xC3\xA9");
  CHECK(comments("\xFF").rows.refused(0).starts_with("comment: ") && comments("\xFF").rows.refused(1).empty());
  CHECK(comments(std::string(100, 'a')).rows.refused(0).starts_with("comment: more bytes"));
  CHECK(comments(std::string(21, 'a')).rows.refused(0) ==
        "comment: expected a string of up to 20 characters, got \"aaaaaaaaaaaaaaaaaaaaa\"");
  const std::string zips = text("9007199254740993") + text("7");
  const Read large = infer(record, least() + "," + binary("address.zip", "BYTES", 2, zips.size()), zips);
  CHECK(large.rows.refused(0).starts_with("address.zip: ") && large.rows.slot(1, 8) == 7);
  const std::string wholes = packed<std::uint64_t>({(1ULL << 53) + 1, 7});
  CHECK(infer(record, least() + "," + binary("address.zip", "UINT64", 2, wholes.size()), wholes)
            .rows.refused(0)
            .ends_with("got 9007199254740993"));
  CHECK(infer(record, least() + "," + binary("comment", "BYTES", 2, 3), "\x01\0\0").problem == "invalid_input");
}

std::string bytes_field(int number, std::string_view bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)).append(1, static_cast<char>(bytes.size())).append(bytes);
}

// An input of a message, two rows; `contents` are its InferTensorContents.
std::string message_input(std::string_view name, std::string_view type, const std::string& contents = {}) {
  const std::string shape = name == "point" ? "\x02\x02" : "\x02";
  return bytes_field(5, bytes_field(1, name) + bytes_field(2, type) + bytes_field(3, shape) +
                            (contents.empty() ? contents : bytes_field(5, contents)));
}

Read message(const RecordFixture& record, const std::string& fields) {
  return {record.plan(), bytes_field(1, "m") + fields, std::nullopt};
}

void check_raw_contents() {
  const RecordFixture record;
  const std::string inputs = message_input("id", "INT32") + message_input("age", "FP32") +
                             message_input("sex", "BYTES") + message_input("point", "FP32");
  const std::string raw = bytes_field(7, packed<std::int32_t>({1, 2})) + bytes_field(7, packed<float>({22, 121})) +
                          bytes_field(7, text("male") + text("female")) + bytes_field(7, packed<float>({1, 2, 3, 4}));
  const Read read = message(record, inputs + raw);
  CHECK(read.problem.empty() && read.rows.refused(0).empty() && read.rows.slot(0, 1) == 22);
  CHECK(read.rows.slot(1, 4) == 0 && read.rows.point(1, 1) == 4);
  CHECK(read.rows.refused(1) == "age: expected a number from 0 up to 120, or null, got 121");
  CHECK(message(record, inputs + bytes_field(7, "")).problem == "invalid_input");
}

void check_typed_contents() {
  const RecordFixture record;
  const auto read = [&](const std::string& id, const std::string& comment) {
    return message(record, message_input("id", "INT64", id) +
                               message_input("age", "FP64", bytes_field(7, packed<double>({22, NAN}))) +
                               message_input("sex", "BYTES", bytes_field(8, "male") + bytes_field(8, "x")) +
                               message_input("tall", "BOOL", bytes_field(1, std::string("\1\0", 2))) +
                               message_input("comment", "BYTES", comment) +
                               message_input("point", "FP32", bytes_field(6, packed<float>({1, 2, 3, 4}))));
  };
  const std::string ids = bytes_field(3, "\x05\x96\x01");
  const std::string comments = bytes_field(8, "a") + bytes_field(8, "");
  const Read taken = read(ids, comments);
  CHECK(taken.problem.empty() && taken.rows.refused(0).empty());
  CHECK(taken.rows.slot(0, 0) == 5 && taken.rows.slot(1, 0) == 150 && taken.rows.slot(0, 1) == 22);
  CHECK(std::isnan(taken.rows.slot(1, 1)) && taken.rows.slot(0, 3) == 1 && taken.rows.slot(1, 3) == 0);
  CHECK(taken.rows.text(0) == "a" && taken.rows.point(0, 1) == 2);
  CHECK(taken.rows.refused(1) == "sex: expected one of \"female\", \"male\", got \"x\"");
  CHECK(read(bytes_field(3, "\x05"), comments).detail == "inputs.id: contents: expected 2 elements, got fewer");
  CHECK(read(bytes_field(3, "\5\5\5"), comments).detail == "inputs.id: contents: expected 2 elements, got more");
  CHECK(read(bytes_field(7, packed<double>({1, 2})), comments).problem == "invalid_input");
  CHECK(read(ids, bytes_field(8, "a") + bytes_field(8, "\xFF")).rows.refused(1).find("no UTF-8") != std::string::npos);
  // Both at once say nothing clear.
  CHECK(message(record, message_input("id", "INT64", ids) + bytes_field(7, packed<std::int64_t>({1, 2}))).problem ==
        "invalid_input");
}

}  // namespace

int main() {
  check_json();
  check_faults();
  check_missing();
  check_binary();
  check_raw_contents();
  check_typed_contents();
  return 0;
}
