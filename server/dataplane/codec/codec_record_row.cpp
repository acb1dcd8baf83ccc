#include "codec/codec_record_row.hpp"

#include <algorithm>
#include <new>
#include <optional>

#include "codec/codec_date.hpp"
#include "codec/codec_number.hpp"
#include "codec/codec_request.hpp"
#include "http/ascii.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {
namespace {

bool read_whole_number(std::string_view text, double& value) noexcept {
  const char* const end = text.data() + text.size();
  return !text.empty() && read_number(text.data(), end, value) == end;
}

// Whether a value that is no category is taken: where categories are open, one of the type that they have.
bool takes_unseen(const RecordElement& element, bool has_type) noexcept {
  return element.open && (has_type || element.coerce);
}

// -1: it is no category.
std::int32_t place_of_number(const RecordElement& element, double value) noexcept {
  const auto found = std::ranges::lower_bound(element.numbers, value, {}, &std::pair<double, std::int32_t>::first);
  return found != element.numbers.end() && found->first == value ? found->second : -1;
}

std::size_t characters_in(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }));
}

std::string_view check_length(const RecordElement& element, std::string_view text) noexcept {
  if (element.low <= 0 && std::isinf(element.high)) return {};
  const auto characters = static_cast<double>(characters_in(text));
  if (characters < element.low) return "minLength";
  return characters > element.high ? "maxLength" : std::string_view();
}

// Bounded text for a message.
class Message {
 public:
  Message& add(std::string_view text) noexcept {
    const std::size_t count = std::min(text.size(), sizeof(bytes_) - size_);
    std::copy_n(text.data(), count, bytes_ + size_);
    size_ += count;
    return *this;
  }
  [[nodiscard]] std::string_view view() const noexcept { return {bytes_, size_}; }

 private:
  char bytes_[320];
  std::size_t size_ = 0;
};

}  // namespace

std::string_view clip_text(std::string_view text, std::size_t bytes_max) noexcept {
  if (text.size() <= bytes_max) return text;
  while (bytes_max > 0 && (static_cast<unsigned char>(text[bytes_max]) & 0xC0U) == 0x80U) --bytes_max;
  return text.substr(0, bytes_max);
}

std::string_view RecordRow::take_large(const RecordElement& element, std::string_view digits) noexcept {
  constexpr auto kMost = static_cast<std::int64_t>(kWholeMax);
  const char* const end = digits.data() + digits.size();
  std::int64_t exact = 0;
  const bool is_edge = read_number(digits.data(), end, exact) == end && (exact == kMost || exact == -kMost);
  return is_edge ? take_number(element, static_cast<double>(exact)) : std::string_view("range");
}

std::string_view RecordRow::take_number_category(const RecordElement& element, double value) noexcept {
  std::int32_t place = place_of_number(element, value);
  if (place < 0 && element.coerce) {
    NumberText text;
    place = element.texts.find(write_number(value, text));
  }
  if (place < 0 && !takes_unseen(element, !element.numbers.empty())) return element.open ? "type" : "enum";
  store(element, place);
  return {};
}

std::string_view RecordRow::take_boolean(const RecordElement& element, bool value) noexcept {
  if (element.kind == RecordKind::kBoolean) {
    store(element, value ? 1 : 0);
    return {};
  }
  if (element.kind != RecordKind::kCategory) return "type";
  std::int32_t place = element.booleans[value ? 1 : 0];
  if (place < 0 && element.coerce) place = element.texts.find(value ? "true" : "false");
  const bool has_booleans = element.booleans[0] >= 0 || element.booleans[1] >= 0;
  if (place < 0 && !takes_unseen(element, has_booleans)) return element.open ? "type" : "enum";
  store(element, place);
  return {};
}

std::string_view RecordRow::take_text(const RecordElement& element, std::string_view text) noexcept {
  switch (element.kind) {
    case RecordKind::kCategory: {
      const std::int32_t place = element.texts.find(text);
      if (place < 0 && element.coerce && take_spelt(element, text).empty()) return {};
      if (place < 0 && !takes_unseen(element, !element.texts.empty())) return element.open ? "type" : "enum";
      store(element, place);
      return {};
    }
    case RecordKind::kDate: {
      double seconds = 0;
      if (!read_date(text, seconds)) return "format";
      store(element, seconds);
      return {};
    }
    case RecordKind::kHash:
      if (const std::string_view rule = check_length(element, text); !rule.empty()) return rule;
      store(element, hash_text(text));
      return {};
    default:
      return element.coerce ? take_spelt(element, text) : std::string_view("type");
  }
}

std::string_view RecordRow::take_spelt(const RecordElement& element, std::string_view text) noexcept {
  text = trim_blanks(text);
  double value = 0;
  const bool is_number = read_whole_number(text, value);
  switch (element.kind) {
    case RecordKind::kNumber:
    case RecordKind::kInteger:
      if (!is_number) return "type";
      if (element.kind == RecordKind::kInteger && std::fabs(value) >= kWholeMax) return take_large(element, text);
      return take_number(element, value);
    case RecordKind::kBoolean:
      if (equals_ignoring_case(text, "true") || equals_ignoring_case(text, "false"))
        return take_boolean(element, text.size() == 4);
      return is_number ? take_other_number(element, value) : std::string_view("type");
    case RecordKind::kCategory: {
      std::int32_t place = -1;
      if (text == "true" || text == "false") place = element.booleans[text.size() == 4 ? 1 : 0];
      if (is_number) place = place_of_number(element, value);
      if (place < 0) return "enum";
      store(element, place);
      return {};
    }
    default:
      return "type";
  }
}

std::string_view RecordRow::take_other_number(const RecordElement& element, double value) noexcept {
  switch (element.kind) {
    case RecordKind::kNumber:
    case RecordKind::kInteger:
      return take_number(element, value);
    case RecordKind::kCategory:
      return take_number_category(element, value);
    case RecordKind::kBoolean:
      if (element.coerce && (value == 0 || value == 1)) return take_boolean(element, value == 1);
      return "type";
    default:
      return "type";
  }
}

std::string_view RecordRow::check_text(const RecordElement& element) const noexcept {
  std::string_view text;
  if (!text_at(spec(element), tensor(element), 0, text)) return "type";
  return check_length(element, text);
}

void RecordRow::fault(std::string_view path, std::string_view rule, std::string_view expected,
                      std::string_view got) noexcept {
  if (!is_faulty_) {
    is_faulty_ = true;
    try {
      faults_ = std::make_shared<FieldFaults>();
    } catch (const std::bad_alloc&) {
      faults_ = nullptr;  // the row is refused without a word
    }
  }
  if (faults_ == nullptr || is_untold()) return;
  Message message;
  message.add(expected);
  if (!got.empty()) message.add(", got ").add(clip_value(got));
  if (clip_value(got).size() < got.size()) message.add("...");
  faults_->add(clip_text(path, 128), rule, message.view());
}

void RecordRow::fault(const RecordElement& element, std::string_view rule, std::string_view got) noexcept {
  Message expected;
  if (rule == "range") {
    expected.add("expected a whole number of at most 2^53, which float64 holds exactly");
  } else {
    expected.add("expected ").add(element.expected);
    if (element.nullable) expected.add(", or null");
  }
  fault(element.path, rule, expected.view(), got);
}

void RecordRow::fault_slot(const RecordElement& element, std::string_view rule, std::string_view got) noexcept {
  Message expected;
  if (element.kind == RecordKind::kCategory) {
    NumberText last;
    expected.add(element.open ? "expected the place of a category, from -1 to "
                              : "expected the place of a category, from 0 to ");
    expected.add(write_number(element.places - 1, last));
  } else if (element.kind == RecordKind::kBoolean) {
    expected.add("expected 0 or 1");
  } else if (element.kind == RecordKind::kDate) {
    expected.add("expected seconds since 1970 in UTC");
  } else if (element.kind == RecordKind::kHash) {
    expected.add("expected the hash of a string");
  } else {
    expected.add("expected ").add(element.expected);
  }
  if (element.nullable) expected.add(", or NaN for null");
  fault(element.path, rule, expected.view(), got);
}

void RecordRow::fault_tensor(const RecordElement& element, std::string_view rule, std::string_view detail) noexcept {
  if (!element.picture) return fault(element.path, rule, detail, {});
  Message expected;
  expected.add("no image of PNG, JPEG, WebP, BMP or GIF (base64 in JSON, bin in msgpack), and no pixels: ").add(detail);
  fault(element.path, rule, expected.view(), {});
}

void RecordRow::fault_full(const RecordElement& element, std::string_view got) noexcept {
  constexpr double kCharacterBytesMax = 4;
  const std::uint32_t room = spec(element).heap_bytes;
  // So many bytes are too many characters, however long each is.
  if (element.kind == RecordKind::kText && element.high * kCharacterBytesMax <= room)
    return fault(element, "maxLength", got);
  Message expected;
  NumberText bytes;
  expected.add("more bytes than the ").add(write_number(room, bytes));
  expected.add(" that there is room for; the model's setting string_bytes_max makes more");
  // Of a file nobody knows its base64 by sight, and whoever sent the file itself never saw it.
  fault(element.path, "maxLength", expected.view(), element.kind == RecordKind::kImage ? std::string_view() : got);
}

void RecordRow::fault_unknown(const RecordElement& object, std::string_view name) noexcept {
  Message path;
  if (!object.path.empty()) path.add(object.path).add(".");
  path.add(clip(name));
  fault(path.view(), "additionalProperties", "no such field", {});
}

void RecordRow::fault_twice(const RecordElement& element) noexcept {
  fault(element.path, "unique", "occurs twice", {});
}

std::uint32_t RecordRow::find_member(std::uint32_t object, std::string_view name) noexcept {
  const std::int32_t found = element(object).texts.find(name);
  if (found >= 0) return static_cast<std::uint32_t>(found);
  if (object == 0 && name.find('.') != std::string_view::npos) {
    if (const std::optional<std::uint32_t> field = plan_.find_path(name)) return *field;
  }
  if (element(object).closed) fault_unknown(element(object), name);
  return kNone;
}

void RecordRow::mark_members(const RecordElement& object) noexcept {
  for (std::uint32_t at = object.first; at < object.last; ++at) {
    static_cast<void>(mark(at));
    if (element(at).kind == RecordKind::kObject) mark_members(element(at));
  }
}

void RecordRow::fill_absent() noexcept {
  const std::vector<RecordElement>& elements = plan_.elements();
  for (std::uint32_t at = 1; at < elements.size(); ++at) {
    if (is_seen(at)) continue;
    const RecordElement& element = elements[at];
    if (element.required && is_seen(element.parent)) {
      if (is_untold()) continue;
      Message expected;
      expected.add("missing; expected ").add(element.expected);
      if (element.nullable) expected.add(", or null");
      fault(element.path, "required", expected.view(), {});
    } else if (has_slot(element.kind)) {
      store(element, element.absent);
    } else if (element.kind == RecordKind::kText) {
      static_cast<void>(write_text(element, element.absent_text));  // there is room for it
    }
  }
}

bool RecordRow::refuse(Problem& problem) noexcept {
  if (faults_ == nullptr) {
    problem.set(ProblemCode::kInvalidInput, "the record does not fit, and no memory is left to say why");
    return false;
  }
  char detail[Problem::kDetailBytes];
  const std::size_t bytes = faults_->write_summary(detail, sizeof detail - 1);
  std::ranges::replace(detail, detail + bytes, '\0', '?');  // where a format's text would end
  problem.set(ProblemCode::kInvalidInput, "%.*s", static_cast<int>(bytes), detail);
  problem.set_fields(faults_.get());
  place_.resolver->keep_faults(std::move(faults_));
  return false;
}

}  // namespace penstock::dataplane
