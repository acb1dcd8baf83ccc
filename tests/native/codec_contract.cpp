// What each refusal says, and when the resolver is asked: one line per case.
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "codec_fixture.hpp"

namespace {

using penstock::DType;
using penstock::ModelSchema;
using penstock::RowLayout;
using penstock::test::RowFixture;
using namespace penstock::dataplane;
using namespace std::string_view_literals;

struct Case {
  std::string_view body;
  ProblemCode code;
  std::string_view detail;  // how the detail begins
};

ModelSchema matrix_schema() { return {RowLayout({{"x", DType::kFloat32, {2, 2}}}), RowLayout()}; }
ModelSchema vector_schema() { return {RowLayout({{"x", DType::kUint8, {3}}}), RowLayout()}; }
ModelSchema scalar_schema() { return {RowLayout({{"x", DType::kBool, {}}}), RowLayout()}; }
ModelSchema tokens_schema() { return {RowLayout({{"ids", DType::kUint8, {4}, true}}), RowLayout()}; }
ModelSchema uneven_schema() {
  return {RowLayout({{"ids", DType::kUint8, {4}, true}, {"at", DType::kInt16, {4, 2}, true}, {"k", DType::kInt8, {}}}),
          RowLayout()};
}
ModelSchema pair_schema() { return {RowLayout({{"a", DType::kFloat16, {1}}, {"b", DType::kInt64, {0}}}), RowLayout()}; }

void check(Encoding encoding, ModelSchema schema, const Case& wanted, const QueryNames& names = {}) {
  RowFixture fixture(std::move(schema));
  const penstock::test::ExactBody body(wanted.body);
  Problem problem;
  const bool decoded = penstock::test::decode(encoding, body.view(), names, fixture, problem);
  const bool as_wanted = decoded == (wanted.code == ProblemCode::kNone) && problem.code() == wanted.code &&
                         problem.detail().starts_with(wanted.detail) && fixture.guards_hold(decoded) &&
                         fixture.calls() <= 1;
  if (as_wanted) return;
  std::fprintf(stderr, "%.*s\n  gives %s: %.*s\n", static_cast<int>(wanted.body.size()), wanted.body.data(),
               info_of(problem.code()).code.data(), static_cast<int>(problem.detail().size()), problem.detail().data());
  CHECK(as_wanted);
}

constexpr auto kOk = ProblemCode::kNone;
constexpr auto kBad = ProblemCode::kMalformedBody;
constexpr auto kUnfit = ProblemCode::kInvalidInput;

void check_json_text() {
  for (const Case& wanted : {
           Case{"", kBad, "JSON ends at byte 0: expected a value"},
           Case{"  ", kBad, "JSON ends at byte 2"},
           Case{"\xEF\xBB\xBF{}", kBad, "JSON byte 0: expected no byte order mark"},
           Case{"[1]", kUnfit, "expected an object, got an array"},
           Case{"nul", kBad, "JSON byte 0: expected a value"},
           Case{"{", kBad, "JSON ends at byte 1: expected a string"},
           Case{"{}", kUnfit, "inputs: missing"},
           Case{R"({"model":"m"})", kUnfit, "inputs: missing"},
           Case{R"({"inputs":[1,2,3]})", kOk, ""},
           Case{R"({"inputs":[1,2,3],})", kBad, "JSON byte 18: expected a string"},
           Case{R"({"inputs":[1,2,3]} x)", kBad, "JSON byte 19: expected nothing behind the object"},
           Case{R"({"inputs":[1,2,3]}{})", kBad, "JSON byte 18"},
           Case{R"({"inputs":[1,2,3])", kBad, "JSON ends at byte 17: expected ',' or '}'"},
           Case{R"({"inputs" [1,2,3]})", kBad, "JSON byte 10: expected ':'"},
           Case{R"({"inputs":[1,2,3,]})", kBad, "JSON byte 17: expected a value"},
           Case{R"({"inputs":[1,2,]})", kBad, "JSON byte 15: expected a value"},
           Case{R"({"inputs":[1,,3]})", kBad, "JSON byte 13: expected a value"},
           Case{R"({"inputs":[1 2,3]})", kBad, "JSON byte 13: expected ',' or ']'"},
           Case{R"({"inputs":[01,2,3]})", kBad, "JSON byte 12: expected ',' or ']'"},
           Case{R"({"inputs":[+1,2,3]})", kBad, "JSON byte 11: expected a value"},
           Case{R"({"inputs":[NaN,2,3]})", kBad, "JSON byte 11: expected a value; NaN and infinity are"},
           Case{R"({"inputs":[0x1,2,3]})", kBad, "JSON byte 12"},
           Case{R"({"inputs":[1,2,3],"inputs":[1,2,3]})", kBad, "the member \"inputs\" occurs twice"},
           Case{R"({"model":"a","model":"a","inputs":[1,2,3]})", kBad, "the member \"model\" occurs twice"},
           Case{R"({"input":[1,2,3]})", kUnfit, "unknown member \"input\"; expected model, version, inputs"},
           Case{R"({"entities":["u1"]})", kUnfit, "entities: reserved"},
           Case{"{\"mo\x01\":1}", kBad, "JSON byte 4: expected no control character"},
           Case{"{\"mo\xC0\x80\":1}", kBad, "JSON byte 4: expected UTF-8"},
           Case{"{\"\xED\xA0\x80\":1}", kBad, "JSON byte 2: expected UTF-8"},
           Case{R"({"\uD800":1})", kBad, "JSON byte 2: expected an escape"},
           Case{R"({"\q":1})", kBad, "JSON byte 2: expected an escape"},
           Case{R"({"\u006dodel":"\u006d","\u0069nputs":[1,2,3]})", kOk, ""},
           Case{R"({"inputs":[1,2,3],"model":7})", kUnfit, "model: expected a string, got a number"},
           Case{R"({"version":1,"inputs":[1,2,3]})", kUnfit, "version: expected a string, got a number; quote it"},
           Case{R"({"version":null,"inputs":[1,2,3]})", kUnfit, "version: expected a string, got null"},
           Case{R"({"model":"","inputs":[1,2,3]})", ProblemCode::kModelNotFound, "model: the name is empty"},
           Case{R"({"version":"","inputs":[1,2,3]})", ProblemCode::kVersionNotFound, "version: the name is empty"},
           Case{R"({"model":"missing","inputs":[1,2,3]})", ProblemCode::kModelNotFound, "no such model"},
       }) {
    check(Encoding::kJson, vector_schema(), wanted);
  }
  const std::string deep = "{\"inputs\":" + std::string(65, '[') + std::string(65, ']') + ",\"model\":\"m\"}";
  check(Encoding::kJson, vector_schema(), {deep, kBad, "JSON byte 74: expected no deeper nesting than 64"});
  const std::string longest = "{\"model\":\"\\n" + std::string(255, 'm') + "\",\"inputs\":[1,2,3]}";
  check(Encoding::kJson, vector_schema(), {longest, kOk, ""});
  const std::string too_long = "{\"model\":\"\\n" + std::string(256, 'm') + "\",\"inputs\":[1,2,3]}";
  check(Encoding::kJson, vector_schema(),
        {too_long, kUnfit, "JSON byte 10: a name with escapes is longer than 256 bytes"});
}

void check_json_values() {
  for (const Case& wanted : {
           Case{R"({"inputs":[1,2]})", kUnfit, "inputs: expected 3 values, got 2 (uint8 of shape [3])"},
           Case{R"({"inputs":[]})", kUnfit, "inputs: expected 3 values, got 0"},
           Case{R"({"inputs":[1,2,3,[4],{"a":5}]})", kUnfit, "inputs: expected 3 values, got 5"},
           Case{R"({"inputs":{"x":[1,2]}})", kUnfit, "inputs.x: expected 3 values, got 2"},
           Case{R"({"inputs":{"y":[1,2]}})", kUnfit, "inputs.y: unknown input; expected x"},
           Case{R"({"inputs":{"x":[1,2,3],"x":[1,2,3]}})", kUnfit, "inputs.x: occurs twice"},
           Case{R"({"inputs":{}})", kUnfit, "inputs.x: missing; expected a uint8 of shape [3]"},
           Case{R"({"inputs":7})", kUnfit, "inputs: expected an array, got a number"},
           Case{R"({"inputs":null})", kUnfit, "inputs: expected an array, got null"},
           Case{R"({"inputs":[1,256,3]})", kUnfit, "inputs[1]: expected a number in range, got 256"},
           Case{R"({"inputs":[-1,2,3]})", kUnfit, "inputs[0]: expected a number in range, got -1"},
           Case{R"({"inputs":[1,2,3.0]})", kUnfit, "inputs[2]: expected an integer, got 3.0"},
           Case{R"({"inputs":[1,2,3e0]})", kUnfit, "inputs[2]: expected an integer, got 3e0"},
           Case{R"({"inputs":[1,"2",3]})", kUnfit, "inputs[1]: expected an integer, got a string"},
           Case{R"({"inputs":[1,true,3]})", kUnfit, "inputs[1]: expected an integer, got true"},
           Case{R"({"inputs":[1,[2],3]})", kUnfit, "inputs[1]: expected an integer, got an array"},
           Case{R"({"inputs":[-0,2,255]})", kOk, ""},
       }) {
    check(Encoding::kJson, vector_schema(), wanted);
  }
  for (const Case& wanted : {
           Case{R"({"inputs":[[1,2],[3,4]]})", kOk, ""},
           Case{R"({"inputs":[1,2,3,4]})", kUnfit,
                "inputs[0]: expected an array, got a number (float32 of shape [2, 2])"},
           Case{R"({"inputs":[[1,2]]})", kUnfit, "inputs: expected 2 values, got 1"},
           Case{R"({"inputs":[[1,2],[3,4],[5,6]]})", kUnfit, "inputs: expected 2 values, got 3"},
           Case{R"({"inputs":[[1,2],[3]]})", kUnfit, "inputs[1]: expected 2 values, got 1"},
           Case{R"({"inputs":[[1,2],]})", kBad, "JSON byte 17: expected a value"},
           Case{R"({"inputs":[[1,2],[3,1e39]]})", kUnfit, "inputs[1][1]: expected a number in range, got 1e39"},
           Case{R"({"inputs":[[1,2],["NaN","-Infinity"]]})", kOk, ""},
           Case{R"({"inputs":[[1,2],["nan",4]]})", kUnfit, "inputs[1][0]: expected a number, got a string"},
       }) {
    check(Encoding::kJson, matrix_schema(), wanted);
  }
  check(Encoding::kJson, scalar_schema(), {R"({"inputs":true})", kOk, ""});
  check(Encoding::kJson, scalar_schema(),
        {R"({"inputs":1})", kUnfit, "inputs: expected true or false, got a number (bool scalar)"});
  check(Encoding::kJson, scalar_schema(),
        {R"({"inputs":[true]})", kUnfit, "inputs: expected true or false, got an array"});
  check(Encoding::kJson, pair_schema(), {R"({"inputs":{"b":[],"a":[1]}})", kOk, ""});
  check(Encoding::kJson, pair_schema(),
        {R"({"inputs":[1]})", kUnfit, "inputs: expected an object with a value for each of: a, b"});
  check(Encoding::kJson, pair_schema(),
        {R"({"inputs":{"a":[1]}})", kUnfit, "inputs.b: missing; expected a int64 of shape [0]"});
  check(Encoding::kJson, pair_schema(),
        {R"({"inputs":{"a":[65520],"b":[]}})", kUnfit, "inputs.a[0]: expected a number in range"});
}

void check_msgpack() {
  const Case cases[] = {
      {"", kBad, "msgpack byte 0"},
      {"\xc1", kBad, "msgpack byte 0: expected an object; 0xc1"},
      {"\x93\x01\x02\x03", kUnfit, "expected a map, got an array"},
      {"\x80", kUnfit, "inputs: missing"},
      {"\x81\xa6inputs\x93\x01\x02\x03", kOk, ""},
      {"\x81\xa6inputs\x93\x01\x02\x03\x00"sv, kBad, "msgpack byte 12: expected nothing behind the map"},
      {"\x81\xa6inputs\x93\x01\x02", kBad, "msgpack byte 8: expected an object of the declared length"},
      {"\x81\xa6inputs\xc4\x03\x01\x02\x03", kOk, ""},
      {"\x81\xa6inputs\xc4\x02\x01\x02", kUnfit, "inputs: expected 3 bytes, got 2"},
      {"\x81\xa6inputs\xdd\xff\xff\xff\xff", kBad, "msgpack byte 8"},
      {"\x81\xa6inputs\x94\x01\x02\x03\x04", kUnfit, "inputs: expected 3 values, got 4"},
      {"\x81\xa6inputs\x93\x01\xcd\x01\x00\x03"sv, kUnfit, "inputs[1]: expected a number in range, got an integer"},
      {"\x81\xa6inputs\x93\x01\xc0\x03", kUnfit, "inputs[1]: expected an integer, got nil"},
      {"\x81\xa6inputs\x93\x01\xca\x3f\x80\x00\x00\x03"sv, kUnfit, "inputs[1]: expected an integer, got a float"},
      {"\x81\xa6inputs\x93\x01\xd4\x01\x00\x03"sv, kUnfit, "inputs[1]: expected an integer, got an extension type"},
      {"\x82\xa6inputs\xd4\x01\x00\xa5model\xa1m"sv, kBad, "msgpack byte 8: expected no extension type"},
      {"\x81\x01\x02", kBad, "msgpack byte 1: expected a string as the key"},
      {"\x81\xa2\xc0\x80\x01", kBad, "msgpack byte 1: expected UTF-8"},
      {"\x82\xa5model\xa2\xc0\x80\xa6inputs\x93\x01\x02\x03", kBad, "msgpack byte 7: expected UTF-8"},
      {"\x82\xa6inputs\x93\x01\x02\x03\xa6inputs\x93\x01\x02\x03", kBad, "the member \"inputs\" occurs twice"},
      {"\x82\xa7version\x01\xa6inputs\x93\x01\x02\x03", kUnfit, "version: expected a string, got an integer"},
  };
  for (const Case& wanted : cases) check(Encoding::kMsgpack, vector_schema(), wanted);
  const std::string deep = "\x82\xa6inputs" + std::string(65, '\x91') + "\x01\xa5model\xa1m";
  check(Encoding::kMsgpack, vector_schema(), {deep, kBad, "msgpack byte 72: expected no deeper nesting than 64"});
}

void check_raw() {
  check(Encoding::kRaw, vector_schema(), {"\x01\x02\x03", kOk, ""});
  check(Encoding::kRaw, vector_schema(), {"", kUnfit, "inputs: expected 3 bytes, got 0 (uint8 of shape [3])"});
  check(Encoding::kRaw, scalar_schema(), {"\x01", kOk, ""});
  check(Encoding::kRaw, scalar_schema(), {"\x02", kUnfit, "inputs: expected bytes that are 0 or 1"});
  check(Encoding::kRaw, pair_schema(),
        {"\x01\x02", kUnfit, "raw tensors are for models of one input; this model has 2"});
  check(Encoding::kRaw, vector_schema(), {"\x01\x02\x03", ProblemCode::kModelNotFound, "no such model"},
        {"missing", ""});
}

void check_lengths() {
  for (const Case& wanted : {
           Case{R"({"inputs":[1]})", kOk, ""},
           Case{R"({"inputs":[1,2,3,4]})", kOk, ""},
           Case{R"({"inputs":[]})", kUnfit, "inputs: expected 1 to 4 values, got 0 (uint8 of shape [1 to 4])"},
           Case{R"({"inputs":[1,2,3,4,5,6]})", kUnfit, "inputs: expected 1 to 4 values, got 6 (uint8 of shape"},
           Case{R"({"inputs":[1,2,]})", kBad, "JSON byte 15: expected a value behind ','"},
           Case{R"({"inputs":[1,2})", kBad, "JSON byte 14: expected ',' or ']'"},
           Case{R"({"inputs":7})", kUnfit, "inputs: expected an array, got a number"},
       }) {
    check(Encoding::kJson, tokens_schema(), wanted);
  }
  for (const Case& wanted : {
           Case{R"({"inputs":{"ids":[1,2],"at":[[1,2],[3,4]],"k":5}})", kOk, ""},
           Case{R"({"inputs":{"ids":[1,2],"at":[[1,2]],"k":5}})", kUnfit,
                "inputs.at: expected 2 values, as in inputs.ids, got 1 (int16 of shape [1 to 4, 2])"},
           Case{R"({"inputs":{"at":[[1,2]],"k":5,"ids":[1,2,3]}})", kUnfit,
                "inputs.ids: expected 1 value, as in inputs.at, got 3 (uint8 of shape [1 to 4])"},
           Case{R"({"inputs":{"ids":[1,2],"at":[[1,2],[3]],"k":5}})", kUnfit, "inputs.at[1]: expected 2 values, got 1"},
       }) {
    check(Encoding::kJson, uneven_schema(), wanted);
  }
  check(Encoding::kMsgpack, tokens_schema(), {"\x81\xa6inputs\x92\x01\x02", kOk, ""});
  check(Encoding::kMsgpack, tokens_schema(), {"\x81\xa6inputs\xc4\x02\x01\x02", kOk, ""});
  check(Encoding::kMsgpack, tokens_schema(), {"\x81\xa6inputs\x90", kUnfit, "inputs: expected 1 to 4 values, got 0"});
  check(Encoding::kMsgpack, tokens_schema(),
        {"\x81\xa6inputs\x95\x01\x02\x03\x04\x05", kUnfit, "inputs: expected 1 to 4 values, got 5"});
  check(Encoding::kMsgpack, tokens_schema(),
        {"\x81\xa6inputs\xc4\x05\x01\x02\x03\x04\x05", kUnfit, "inputs: expected 1 to 4 times 1 byte, got 5"});
  check(Encoding::kRaw, tokens_schema(), {"\x01\x02", kOk, ""});
  check(Encoding::kRaw, tokens_schema(), {"", kUnfit, "inputs: expected 1 to 4 times 1 byte, got 0"});
  check(Encoding::kRaw, uneven_schema(),
        {"\x01\x02", kUnfit, "raw tensors are for models of one input; this model has 3"});
  RowFixture fixture(uneven_schema());
  Problem problem;
  CHECK(decode_json(R"({"inputs":{"ids":[1,2],"at":[[1,2],[3,4]],"k":5}})", {}, fixture, problem));
  CHECK(fixture.length() == 2 && fixture.guards_hold(true));
  CHECK(count_raw_rows(tokens_schema(), 8) == 1);  // a row that is too long, not two rows
}

void check_names() {
  const QueryNames both{"m", "1"};
  check(Encoding::kJson, vector_schema(), {R"({"model":"m","version":"1","inputs":[1,2,3]})", kOk, ""}, both);
  for (const auto& [body, detail] : {
           std::pair{R"({"model":"n","inputs":[1,2,3]})"sv, "the query names model \"m\" and the body \"n\""sv},
           {R"({"inputs":[1,2,3],"version":"2"})"sv, "the query names version \"1\" and the body \"2\""sv},
       }) {
    check(Encoding::kJson, vector_schema(), {body, ProblemCode::kContradiction, detail}, both);
  }
  // The resolver sees the same names wherever they stand, and is asked once.
  for (const std::string_view body :
       {R"({"model":"m","version":"1","inputs":[1,2,3]})"sv, R"({"inputs":[1,2,3],"version":"1","model":"m"})"sv,
        R"({"version":"1","inputs":[1,2,3],"model":"\u006d"})"sv,
        R"({"model":"m","inputs":{"x":[1,2,3]},"version":"1"})"sv}) {
    RowFixture fixture(vector_schema());
    Problem problem;
    CHECK(decode_json(body, {}, fixture, problem));
    CHECK(fixture.calls() == 1 && fixture.model() == "m" && fixture.version() == "1");
    CHECK(std::memcmp(fixture.row(), "\1\2\3", 3) == 0);
  }
  RowFixture fixture(vector_schema());
  Problem problem;
  CHECK(decode_json(R"({"inputs":[1,2,3]})", {}, fixture, problem));
  CHECK(fixture.calls() == 1 && fixture.model().empty() && fixture.version().empty());
}

}  // namespace

int main() {
  check_json_text();
  check_json_values();
  check_msgpack();
  check_raw();
  check_lengths();
  check_names();
  return 0;
}
