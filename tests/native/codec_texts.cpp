// Tensors of strings: bodies to storage and back, strings that do not fit, storage that a worker has spoilt.
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec_text.hpp"
#include "codec_fixture.hpp"

namespace {

using namespace penstock;
using namespace penstock::dataplane;
using penstock::test::decode;
using penstock::test::ExactBody;
using penstock::test::RowFixture;

TensorSpec texts(std::string name, std::vector<std::uint32_t> shape, std::uint32_t heap, bool varies = false) {
  return {std::move(name), DType::kBytes, std::move(shape), varies, heap};
}

struct Outcome {
  bool ok = false;
  ProblemCode code = ProblemCode::kNone;
  std::string detail;
  std::uint32_t length = 0;
  std::vector<std::string> strings;  // of the first input
  std::string storage;
};

Outcome decoded(const TensorSpec& spec, Encoding encoding, std::string_view body) {
  RowFixture fixture({RowLayout({spec}), RowLayout()});
  const ExactBody exact(body);
  Problem problem;
  Outcome outcome;
  outcome.ok = decode(encoding, exact.view(), {}, fixture, problem);
  CHECK(fixture.guards_hold(outcome.ok));
  outcome.code = problem.code();
  outcome.detail = problem.detail();
  outcome.length = fixture.length();
  if (!outcome.ok) return outcome;
  const std::uint64_t count = spec.varies ? spec.elements() / spec.shape.front() * outcome.length : spec.elements();
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string_view text;
    CHECK(text_at(spec, fixture.row(), i, text));
    outcome.strings.emplace_back(text);
  }
  outcome.storage.assign(reinterpret_cast<const char*>(fixture.row()), fixture.row_bytes());
  return outcome;
}

void check_json() {
  const Outcome plain = decoded(texts("x", {2, 2}, 64), Encoding::kJson, R"({"inputs":[["a",""],["\u00e9","d"]]})");
  CHECK(plain.ok && plain.strings == std::vector<std::string>({"a", "", "\xC3\xA9", "d"}));
  const Outcome scalar = decoded(texts("x", {}, 64), Encoding::kJson, R"({"inputs":{"x":"\"\\\/\b\f\n\r\t\u0000"}})");
  CHECK(scalar.ok && scalar.strings == std::vector<std::string>({std::string("\"\\/\b\f\n\r\t\0", 9)}));
  const Outcome pair = decoded(texts("x", {1}, 64), Encoding::kJson, R"({"inputs":["\ud83d\ude00 \uFFFF"]})");
  CHECK(pair.ok && pair.strings[0] == "\xF0\x9F\x98\x80 \xEF\xBF\xBF");
  for (const std::string_view body : {R"({"inputs":["\ud83d"]})", R"({"inputs":["\ude00"]})", R"({"inputs":["\x"]})",
                                      R"({"inputs":["a)", "{\"inputs\":[\"\n\"]}", "{\"inputs\":[\"\xFF\"]}",
                                      "{\"inputs\":[\"\xED\xA0\x80\"]}", R"({"inputs":["a",]})"}) {
    const Outcome bad = decoded(texts("x", {1}, 64), Encoding::kJson, body);
    CHECK(!bad.ok && bad.code == ProblemCode::kMalformedBody);
  }
  for (const std::string_view body : {R"({"inputs":[1]})", R"({"inputs":["a","b"]})", R"({"inputs":"a"})",
                                      R"({"inputs":[]})", R"({"inputs":[null]})", R"({"inputs":[["a"]]})"}) {
    const Outcome bad = decoded(texts("x", {1}, 64), Encoding::kJson, body);
    CHECK(!bad.ok && bad.code == ProblemCode::kInvalidInput);
    CHECK(bad.detail.find("bytes of shape [1]") != std::string::npos);
  }
}

void check_msgpack() {
  using namespace std::string_view_literals;
  const TensorSpec pair = texts("x", {2}, 64);
  const Outcome both = decoded(pair, Encoding::kMsgpack, "\x81\xA6inputs\x92\xA2hi\xC4\x02\xFF\x00"sv);
  CHECK(both.ok && both.strings == std::vector<std::string>({"hi", std::string("\xFF\0", 2)}));
  const Outcome one = decoded(texts("x", {}, 64), Encoding::kMsgpack, "\x81\xA6inputs\xC4\x01\x80"sv);
  CHECK(one.ok && one.strings == std::vector<std::string>({"\x80"}));
  const Outcome wrong = decoded(pair, Encoding::kMsgpack, "\x81\xA6inputs\x92\xA2hi\xA1\xFF"sv);
  CHECK(!wrong.ok && wrong.code == ProblemCode::kMalformedBody);
  const Outcome number = decoded(pair, Encoding::kMsgpack, "\x81\xA6inputs\x92\xA2hi\x01"sv);
  CHECK(!number.ok && number.code == ProblemCode::kInvalidInput);
  // Strings have no form as one bin.
  const Outcome bin = decoded(pair, Encoding::kMsgpack, "\x81\xA6inputs\xC4\x02hi"sv);
  CHECK(!bin.ok && bin.code == ProblemCode::kInvalidInput);
}

void check_raw_is_refused() {
  const TensorSpec spec = texts("x", {1}, 8);
  const Outcome raw = decoded(spec, Encoding::kRaw, std::string(spec.bytes(), '\0'));
  CHECK(!raw.ok && raw.code == ProblemCode::kInvalidInput && raw.detail.find("application/json") != std::string::npos);
  CHECK(count_raw_rows({RowLayout({spec}), RowLayout()}, 4 * spec.bytes()) == 1);
}

// The heap is for all strings of a tensor together, and full to its last byte.
void check_capacity() {
  const TensorSpec spec = texts("x", {2}, 8);
  CHECK(decoded(spec, Encoding::kJson, R"({"inputs":["12345","678"]})").ok);
  for (const std::string_view body : {R"({"inputs":["12345","6789"]})", R"({"inputs":["","12345678\n"]})",
                                      "{\"inputs\":[\"1234567\xC3\xA9\",\"\"]}"}) {
    const Outcome full = decoded(spec, Encoding::kJson, body);
    CHECK(!full.ok && full.code == ProblemCode::kInvalidInput);
    CHECK(full.detail.find("8 bytes") != std::string::npos &&
          full.detail.find("string_bytes_max") != std::string::npos);
  }
  using namespace std::string_view_literals;
  const Outcome full = decoded(spec, Encoding::kMsgpack,
                               "\x81\xA6inputs\x92\xA9"
                               "123456789"
                               "\xA0"sv);
  CHECK(!full.ok && full.code == ProblemCode::kInvalidInput);
}

// Equal strings are equal storage, whatever lay there before: equal requests have equal rows.
void check_rest_is_zero() {
  const Outcome row = decoded(texts("x", {2}, 16), Encoding::kJson, R"({"inputs":["ab","c"]})");
  CHECK(row.ok && row.storage.substr(0, 16) == std::string("abc") + std::string(13, '\0'));
}

void check_varying() {
  const TensorSpec spec = texts("x", {4}, 64, true);
  const Outcome row = decoded(spec, Encoding::kJson, R"({"inputs":["ab","c"]})");
  CHECK(row.ok && row.length == 2 && row.strings == std::vector<std::string>({"ab", "c"}));
  // A shorter row is the beginning of a longer one's storage.
  TensorSpec bucket = spec;
  bucket.shape.front() = 2;
  CHECK(spec.bytes_of_length(2) == bucket.bytes());
  std::string_view text;
  CHECK(text_at(bucket, reinterpret_cast<const std::byte*>(row.storage.data()), 1, text) && text == "c");
}

class Storage {
 public:
  explicit Storage(const TensorSpec& spec) : spec_(spec), bytes_(spec.bytes()) {}
  void put(std::uint64_t element, TextSpan span) {
    std::memcpy(bytes_.data() + spec_.heap_bytes + element * sizeof span, &span, sizeof span);
  }
  [[nodiscard]] std::byte* data() { return bytes_.data(); }

 private:
  const TensorSpec& spec_;
  std::vector<std::byte> bytes_;
};

std::string reply(const ModelSchema& schema, Encoding encoding, const std::byte* output, std::uint32_t length = 0) {
  const ReplyEncoder encoder("m", "1", schema);
  const std::size_t bytes_max = encoder.bytes_max(encoding, length);
  const std::unique_ptr<char[]> body(new char[bytes_max]);  // a sanitizer sees what is beyond
  const std::size_t bytes = encoder.encode(encoding, {&output, 1}, 0, body.get(), length);
  CHECK(bytes <= bytes_max);
  return {body.get(), bytes};
}

bool checks(const ModelSchema& schema, Encoding encoding, const std::byte* output, std::uint32_t length = 0) {
  Problem problem;
  const ReplyEncoder encoder("m", "1", schema);
  CHECK(encoder.has_texts());
  const bool sound = encoder.check_texts(encoding, {&output, 1}, length, problem);
  CHECK(sound == !problem && (sound || problem.code() == ProblemCode::kModelError));
  return sound;
}

void check_replies() {
  const ModelSchema schema{RowLayout(), RowLayout({texts("y", {2}, 16)})};
  const TensorSpec& spec = schema.outputs.tensors()[0];
  Storage storage(spec);
  TextWriter writer(spec, storage.data());
  CHECK(writer.append(1, "\x01\"") && writer.append(0, "\xC3\xA9\\"));
  writer.finish();
  CHECK(checks(schema, Encoding::kJson, storage.data()));
  CHECK(reply(schema, Encoding::kJson, storage.data()) ==
        "{\"model\":\"m\",\"version\":\"1\",\"outputs\":{\"y\":[\"\xC3\xA9\\\\\",\"\\u0001\\\"\"]}}");
  CHECK(reply(schema, Encoding::kMsgpack, storage.data()).ends_with("\xA1y\x92\xA3\xC3\xA9\\\xA2\x01\""));
  // Not UTF-8: nothing that JSON could carry.
  TextWriter other(spec, storage.data());
  CHECK(other.append(0, "a\xFF") && other.append(1, "b"));
  CHECK(!checks(schema, Encoding::kJson, storage.data()) && checks(schema, Encoding::kMsgpack, storage.data()));
  CHECK(reply(schema, Encoding::kMsgpack, storage.data())
            .ends_with("\x92\xC4\x02"
                       "a\xFF\xA1"
                       "b"));
  CHECK(reply(schema, Encoding::kJson, storage.data()).ends_with("[\"a\xEF\xBF\xBD\",\"b\"]}}"));
}

// Whatever a worker leaves, nothing outside the heap is read and nothing behind the reply's bound is written.
void check_spoilt_storage() {
  const ModelSchema schema{RowLayout(), RowLayout({texts("y", {3}, 16)})};
  const TensorSpec& spec = schema.outputs.tensors()[0];
  const TextSpan whole{0, 16};
  for (const TextSpan bad : {TextSpan{17, 0}, TextSpan{16, 1}, TextSpan{0, 17}, TextSpan{~0u, ~0u}, TextSpan{8, ~0u}}) {
    Storage storage(spec);
    storage.put(1, bad);
    CHECK(!checks(schema, Encoding::kJson, storage.data()) && !checks(schema, Encoding::kMsgpack, storage.data()));
    CHECK(reply(schema, Encoding::kJson, storage.data()).ends_with("[\"\",\"\",\"\"]}}"));
  }
  // Each of them is inside, but together they are more than the heap, and than a reply has room for.
  Storage storage(spec);
  for (std::uint64_t i = 0; i < 3; ++i) storage.put(i, whole);
  CHECK(!checks(schema, Encoding::kJson, storage.data()));
  CHECK(reply(schema, Encoding::kJson, storage.data()).size() <
        ReplyEncoder("m", "1", schema).bytes_max(Encoding::kJson));
  CHECK(!reply(schema, Encoding::kMsgpack, storage.data()).empty());
}

void check_varying_replies() {
  const ModelSchema schema{RowLayout(), RowLayout({texts("y", {4}, 16, true)})};
  const TensorSpec& spec = schema.outputs.tensors()[0];
  Storage storage(spec);
  TextWriter writer(spec, storage.data());
  CHECK(writer.append(0, "a") && writer.append(1, "b"));
  CHECK(reply(schema, Encoding::kJson, storage.data(), 2).ends_with("[\"a\",\"b\"]}}"));
  storage.put(3, {17, 17});  // behind the row's own
  CHECK(checks(schema, Encoding::kJson, storage.data(), 2) && !checks(schema, Encoding::kJson, storage.data(), 4));
}

}  // namespace

int main() {
  check_json();
  check_msgpack();
  check_raw_is_refused();
  check_capacity();
  check_rest_is_zero();
  check_varying();
  check_replies();
  check_spoilt_storage();
  check_varying_replies();
  return 0;
}
