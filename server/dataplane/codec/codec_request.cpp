#include "codec/codec_request.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace penstock::dataplane {
namespace {

// Text of bounded length for a message; what does not fit is left out.
class Text {
 public:
  void add(std::string_view text) noexcept {
    const std::size_t count = std::min(text.size(), sizeof(bytes_) - size_);
    std::copy_n(text.data(), count, bytes_ + size_);  // not memcpy: an empty view's data may be null
    size_ += count;
  }
  void add(std::uint64_t number) noexcept {
    char digits[24];
    const int count = std::snprintf(digits, sizeof(digits), "%llu", static_cast<unsigned long long>(number));
    add(std::string_view(digits, static_cast<std::size_t>(count)));
  }
  [[nodiscard]] const char* data() const noexcept { return bytes_; }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(size_); }

 private:
  char bytes_[160];
  std::size_t size_ = 0;
};

void add_type(Text& text, const TensorSpec& spec) noexcept {
  text.add(name_of(spec.dtype));
  if (spec.shape.empty()) {
    text.add(" scalar");
    return;
  }
  text.add(" of shape [");
  for (std::size_t i = 0; i < spec.shape.size(); ++i) {
    if (i != 0) text.add(", ");
    if (i == 0 && spec.varies) text.add("1 to ");
    text.add(spec.shape[i]);
  }
  text.add("]");
}

Text place_text(const TensorPlace& place, std::size_t depth) noexcept {
  Text text;
  text.add("inputs");
  if (place.named) {
    text.add(".");
    text.add(clip(place.spec.name));
  }
  for (std::size_t i = 0; i < depth; ++i) {
    text.add("[");
    text.add(place.index[i]);
    text.add("]");
  }
  return text;
}

// "x, y, z": as many as fit.
Text names_text(const RowLayout& inputs) noexcept {
  Text text;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (i != 0) text.add(", ");
    text.add(clip(inputs.tensors()[i].name));
  }
  return text;
}

}  // namespace

Member member_from_name(std::string_view name) noexcept {
  if (name == "inputs") return Member::kInputs;
  if (name == "model") return Member::kModel;
  if (name == "version") return Member::kVersion;
  if (name == "entities") return Member::kEntities;
  return Member::kUnknown;
}

std::string_view clip(std::string_view name) noexcept {
  constexpr std::size_t kBytesMax = 64;
  if (name.size() <= kBytesMax) return name;
  std::size_t size = kBytesMax;
  while (size > 0 && (static_cast<unsigned char>(name[size]) & 0xC0U) == 0x80U) --size;
  return name.substr(0, size);
}

bool RowRequest::begin_member(Member member, std::string_view name) noexcept {
  const std::string_view shown = clip(name);
  if (member == Member::kUnknown) {
    problem_.set(ProblemCode::kInvalidInput, "unknown member \"%.*s\"; expected model, version, inputs",
                 static_cast<int>(shown.size()), shown.data());
    return false;
  }
  if (member == Member::kEntities) {
    problem_.set(ProblemCode::kInvalidInput, "entities: reserved for feature look-up, which this model does not have");
    return false;
  }
  if (has(member)) {
    problem_.set(ProblemCode::kMalformedBody, "the member \"%.*s\" occurs twice", static_cast<int>(shown.size()),
                 shown.data());
    return false;
  }
  members_ = static_cast<std::uint8_t>(members_ | bit(member));
  return true;
}

bool RowRequest::set_name(Member member, std::string_view name) noexcept {
  const bool is_model = member == Member::kModel;
  const char* const what = is_model ? "model" : "version";
  std::string_view& known = is_model ? model_ : version_;
  if (name.empty()) {
    problem_.set(is_model ? ProblemCode::kModelNotFound : ProblemCode::kVersionNotFound, "%s: the name is empty", what);
    return false;
  }
  if (!known.empty() && known != name) {
    const std::string_view query = clip(known);
    const std::string_view body = clip(name);
    problem_.set(ProblemCode::kContradiction, "the query names %s \"%.*s\" and the body \"%.*s\"", what,
                 static_cast<int>(query.size()), query.data(), static_cast<int>(body.size()), body.data());
    return false;
  }
  known = name;
  return true;
}

bool RowRequest::resolve() {
  resolver_.set_length(0);
  target_ = resolver_.resolve(model_, version_, problem_);
  if (target_.schema == nullptr) return false;
  if (inputs().size() > kTensorsMax) {
    problem_.set(ProblemCode::kInternalError, "the model has more inputs than the codecs support");
    target_ = {};
    return false;
  }
  return true;
}

bool RowRequest::begin_rows(RowsSink& rows, std::uint64_t count) {
  if (count == 0) {
    problem_.set(ProblemCode::kInvalidInput, "inputs: expected a list of rows, got an empty one");
    return false;
  }
  if (count > UINT32_MAX || !rows.begin(static_cast<std::uint32_t>(count), problem_)) {
    if (!problem_) problem_.set(ProblemCode::kBodyTooLarge, "the body has more rows than can be counted");
    return false;
  }
  for (std::size_t index = 0; index < inputs().size(); ++index) {
    if (!rows.allocate(index, problem_)) return false;
  }
  rows_ = &rows;
  return true;
}

void RowRequest::begin_row(std::uint32_t row) noexcept {
  row_ = row;
  next_input_ = inputs_seen_ = 0;
  seen_.reset();
  resolver_.set_length(0);
}

bool RowRequest::end_row(std::uint32_t row, bool read) {
  if (read) {
    if (resolver_.length() != 0) rows_->set_row_length(row, resolver_.length());
    return true;
  }
  if (!is_fault_of_row(problem_)) return false;
  rows_->refuse_row(row, problem_);
  problem_.clear();
  return true;
}

std::optional<std::size_t> RowRequest::begin_input(std::string_view name) noexcept {
  const std::size_t count = inputs().size();
  for (std::size_t step = 0; step < count; ++step) {
    const std::size_t index = next_input_ + step < count ? next_input_ + step : next_input_ + step - count;
    if (inputs().tensors()[index].name != name) continue;
    if (seen_[index]) {
      const std::string_view shown = clip(name);
      problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: occurs twice", static_cast<int>(shown.size()),
                   shown.data());
      return std::nullopt;
    }
    seen_[index] = true;
    ++inputs_seen_;
    next_input_ = index + 1;
    return index;
  }
  const std::string_view shown = clip(name);
  const Text names = names_text(inputs());
  problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: unknown input; expected %.*s", static_cast<int>(shown.size()),
               shown.data(), names.size(), names.data());
  return std::nullopt;
}

bool RowRequest::agree_on_length(std::size_t index, bool named, std::uint32_t length) noexcept {
  const std::uint32_t before = resolver_.length();
  if (before == 0) resolver_.set_length(length);
  if (before == 0 || before == length) return true;
  const std::vector<TensorSpec>& tensors = inputs().tensors();
  std::size_t other = 0;  // an input that was read before
  while (other == index || !seen_[other] || !tensors[other].varies) ++other;
  const TensorPlace place{tensors[index], named, {}};
  Text expected;
  expected.add(before);
  expected.add(before == 1 ? " value, as in inputs." : " values, as in inputs.");
  expected.add(clip(tensors[other].name));
  Text count;
  count.add(length);
  refuse_tensor(problem_, place, 0, {expected.data(), static_cast<std::size_t>(expected.size())},
                {count.data(), static_cast<std::size_t>(count.size())});
  return false;
}

bool RowRequest::end_inputs() noexcept {
  if (inputs_seen_ == inputs().size()) return true;
  for (std::size_t index = 0; index < inputs().size(); ++index) {
    if (seen_[index]) continue;
    const TensorPlace place{inputs().tensors()[index], true, {}};
    Text type;
    add_type(type, place.spec);
    const Text where = place_text(place, 0);
    problem_.set(ProblemCode::kInvalidInput, "%.*s: missing; expected a %.*s", where.size(), where.data(), type.size(),
                 type.data());
    break;
  }
  return false;
}

bool RowRequest::allow_unnamed(const char* got) noexcept {
  if (inputs().size() == 1) return true;
  const Text names = names_text(inputs());
  problem_.set(ProblemCode::kInvalidInput, "inputs: expected an object with a value for each of: %.*s; got %s",
               names.size(), names.data(), got);
  return false;
}

bool RowRequest::refuse_missing_inputs() noexcept {
  problem_.set(ProblemCode::kInvalidInput, "inputs: missing");
  return false;
}

void refuse_tensor(Problem& problem, const TensorPlace& place, std::size_t depth, std::string_view expected,
                   std::string_view got) noexcept {
  const Text where = place_text(place, depth);
  Text type;
  add_type(type, place.spec);
  problem.set(ProblemCode::kInvalidInput, "%.*s: expected %.*s, got %.*s (%.*s)", where.size(), where.data(),
              static_cast<int>(expected.size()), expected.data(), static_cast<int>(got.size()), got.data(), type.size(),
              type.data());
}

void refuse_count(Problem& problem, const TensorPlace& place, std::size_t depth, std::uint64_t got) noexcept {
  Text expected;
  const std::uint32_t extent = place.spec.shape[depth];
  if (depth == 0 && place.spec.varies) expected.add("1 to ");
  expected.add(extent);
  expected.add(extent == 1 ? " value" : " values");
  Text count;
  count.add(got);
  refuse_tensor(problem, place, depth, {expected.data(), static_cast<std::size_t>(expected.size())},
                {count.data(), static_cast<std::size_t>(count.size())});
}

namespace {

// Bytes that are a tensor of another length than the longest.
[[gnu::noinline]] bool is_shorter(const TensorSpec& spec, std::size_t bytes) noexcept {
  if (!spec.varies) return false;
  const std::uint64_t elements = elements_in(spec, bytes);
  return is_length(spec, elements) && elements * (spec.bytes() / spec.shape.front()) == bytes;
}

[[gnu::cold]] void refuse_bytes(Problem& problem, const TensorPlace& place, std::size_t bytes) noexcept {
  const std::uint64_t expected = place.spec.bytes();
  Text wanted;
  if (place.spec.varies) {
    const std::uint64_t item_bytes = expected / place.spec.shape.front();
    wanted.add("1 to ");
    wanted.add(place.spec.shape.front());
    wanted.add(" times ");
    wanted.add(item_bytes);
    wanted.add(item_bytes == 1 ? " byte" : " bytes");
  } else {
    wanted.add(expected);
    wanted.add(expected == 1 ? " byte" : " bytes");
  }
  Text count;
  count.add(bytes);
  refuse_tensor(problem, place, 0, {wanted.data(), static_cast<std::size_t>(wanted.size())},
                {count.data(), static_cast<std::size_t>(count.size())});
}

}  // namespace

bool check_tensor(Problem& problem, const TensorPlace& place, std::string_view bytes) noexcept {
  if (bytes.size() != place.spec.bytes() && !is_shorter(place.spec, bytes.size())) {
    refuse_bytes(problem, place, bytes.size());
    return false;
  }
  if (place.spec.dtype == DType::kBool) {
    for (const char byte : bytes) {
      if (static_cast<unsigned char>(byte) <= 1) continue;
      refuse_tensor(problem, place, 0, "bytes that are 0 or 1", "another");
      return false;
    }
  }
  return true;
}

bool copy_tensor(Problem& problem, const TensorPlace& place, std::string_view bytes, std::byte* out) noexcept {
  if (!check_tensor(problem, place, bytes)) return false;
  if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return true;
}

}  // namespace penstock::dataplane
