#include "codec/codec_record_json.hpp"

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

#include "codec/codec_base64.hpp"
#include "codec/codec_json_tensor.hpp"
#include "codec/codec_number.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {
namespace {

class JsonRecordReader {
 public:
  JsonRecordReader(JsonText& text, RecordRow& row) noexcept : text_(text), row_(row) {}

  // The object whose brace is behind the cursor, which is element `at`.
  [[nodiscard]] bool read_object(std::uint32_t at) noexcept {
    std::uint32_t next = row_.element(at).first;
    if (text_.consume('}')) return true;
    do {
      std::uint32_t member = RecordRow::kNone;
      if (!read_member_name(at, next, member)) return false;
      if (member == RecordRow::kNone) continue;  // it was none of ours, and is read
      if (row_.element(member).parent == at) {
        next = member + 1;
      } else {
        mark_above(member);
      }
      // Its fields may have come by their paths before it; none of them comes twice unseen.
      if (!row_.mark(member) && row_.element(member).kind != RecordKind::kObject) {
        row_.fault_twice(row_.element(member));
        if (!text_.check_value()) return false;
      } else if (!read_member(member)) {
        return false;
      }
    } while (text_.consume(','));
    return text_.expect('}', "',' or '}' behind a field");
  }

  [[nodiscard]] bool read_field(const RecordElement& element) noexcept {
    text_.skip_space();
    const char* const start = text_.at;
    const char c = start == text_.end ? '\0' : *start;
    if (number_detail::is_digit(c) || c == '-') return read_number_into(element, start);
    if (has_slot(element.kind)) {
      if (c == '"') return read_slot_string(element, start);
      if (c == 't' || c == 'f') return read_boolean(element, start);
      if (c == 'n' && skip_literal("null")) {
        if (!row_.store_null(element)) row_.fault(element, "type", "null");
        return true;
      }
      return refuse(element, "type", start);
    }
    if (element.kind == RecordKind::kTensor) return read_tensor(element, start);
    if (c == '{' && element.kind == RecordKind::kImage) return read_file(element, start);
    if (c != '"') return refuse(element, "type", start);
    return element.kind == RecordKind::kText ? read_text(element, start) : read_image(element, start);
  }

 private:
  // Of bodies whose members come in the schema's order a name is one comparison.
  [[nodiscard]] bool read_member_name(std::uint32_t object, std::uint32_t next, std::uint32_t& member) noexcept {
    text_.skip_space();
    if (next != row_.element(object).last) {
      const std::string& quoted = row_.element(next).quoted;
      if (static_cast<std::size_t>(text_.end - text_.at) > quoted.size() &&
          std::memcmp(text_.at, quoted.data(), quoted.size()) == 0) {
        text_.at += quoted.size();
        member = next;
        return text_.expect(':', "':' behind a name");
      }
    }
    return find_member(object, member);
  }

  // A field comes by its path, and its value is next.
  void mark_above(std::uint32_t member) noexcept {
    text_.skip_space();
    if (text_.at != text_.end && *text_.at == 'n') {
      row_.mark_above_null(member);
    } else {
      row_.mark_above(member);
    }
  }

  [[gnu::noinline]] bool find_member(std::uint32_t object, std::uint32_t& member) noexcept {
    text_.skip_space();
    const char* const start = text_.at;
    NameScratch scratch;
    std::string_view name;
    bool escaped = false;
    if (!text_.read_raw_string(name, escaped)) return false;
    if (escaped) {
      const char* const behind = text_.at;
      text_.at = start;
      bool full = false;
      const std::optional<std::uint32_t> bytes = text_.read_text(scratch.data(), scratch.size(), full);
      text_.at = behind;
      // One that is longer is no field's: it stays as it stands.
      if (bytes) name = {scratch.data(), *bytes};
    }
    if (!text_.expect(':', "':' behind a name")) return false;
    member = row_.find_member(object, name);
    return member != RecordRow::kNone || text_.check_value();
  }

  [[nodiscard]] bool read_member(std::uint32_t member) noexcept {
    const RecordElement& element = row_.element(member);
    if (element.kind != RecordKind::kObject) return read_field(element);
    text_.skip_space();
    const char* const start = text_.at;
    if (text_.consume('{')) return read_object(member);
    // What is in it did not come either, but that is this one fault.
    row_.mark_members(element);
    return refuse(element, "type", start);
  }

  [[nodiscard]] bool read_number_into(const RecordElement& element, const char* start) noexcept {
    double value = 0;
    const char* const next = read_number(start, text_.end, value);
    if (next == nullptr || !has_slot(element.kind)) return refuse(element, "type", start);
    text_.at = next;
    // Beyond 2^53 two whole numbers are one float64: what the digits say must be looked at.
    if (element.kind == RecordKind::kInteger && std::fabs(value) >= kWholeMax) [[unlikely]]
      return take_large(element, start);
    const std::string_view rule = element.kind <= RecordKind::kInteger ? row_.take_number(element, value)
                                                                       : row_.take_other_number(element, value);
    if (!rule.empty()) row_.fault(element, rule, {start, static_cast<std::size_t>(text_.at - start)});
    return true;
  }

  [[gnu::cold]] bool take_large(const RecordElement& element, const char* start) noexcept {
    const std::string_view got(start, static_cast<std::size_t>(text_.at - start));
    const std::string_view rule = row_.take_large(element, got);
    if (!rule.empty()) row_.fault(element, rule, got);
    return true;
  }

  [[nodiscard]] bool read_boolean(const RecordElement& element, const char* start) noexcept {
    const bool value = *start == 't';
    if (!skip_literal(value ? "true" : "false")) return text_.refuse_at(start, "a value");
    const std::string_view rule = row_.take_boolean(element, value);
    if (!rule.empty()) row_.fault(element, rule, value ? "true" : "false");
    return true;
  }

  [[nodiscard]] bool read_slot_string(const RecordElement& element, const char* start) noexcept {
    std::string_view raw;
    bool escaped = false;
    if (!text_.read_raw_string(raw, escaped)) return false;
    std::string_view rule;
    if (!escaped) {
      rule = row_.take_text(element, raw);
    } else if (!take_escaped(element, start, raw.size(), rule)) {
      return false;
    }
    if (!rule.empty()) row_.fault(element, rule, {start, static_cast<std::size_t>(text_.at - start)});
    return true;
  }

  // The string at `start` with its escapes resolved: it is shorter than the raw one. No category is longer than the
  // room on the stack; a hashed string may be.
  [[gnu::noinline]] bool take_escaped(const RecordElement& element, const char* start, std::size_t raw_bytes,
                                      std::string_view& rule) noexcept {
    char room[kCategoryBytesMax];
    const char* const behind = text_.at;
    std::unique_ptr<char[]> more;
    char* out = room;
    std::size_t bytes = sizeof room;
    if (raw_bytes > sizeof room) {
      more.reset(new (std::nothrow) char[raw_bytes]);
      if (more == nullptr) {
        text_.problem.set(ProblemCode::kMemoryExhausted, "no memory is left for a string");
        return false;
      }
      out = more.get();
      bytes = raw_bytes;
    }
    bool full = false;
    text_.at = start;
    const std::optional<std::uint32_t> used = text_.read_text(out, static_cast<std::uint32_t>(bytes), full);
    text_.at = behind;
    if (!used) return false;
    rule = row_.take_text(element, {out, *used});
    return true;
  }

  [[nodiscard]] bool read_text(const RecordElement& element, const char* start) noexcept {
    TextWriter texts(row_.spec(element), row_.tensor(element));
    bool full = false;
    const std::optional<std::uint32_t> bytes = text_.read_text(texts.free(), texts.left(), full);
    if (full) return refuse_full(element, start);
    if (!bytes) return false;
    texts.commit(0, *bytes);
    texts.finish();
    const std::string_view rule = row_.check_text(element);
    if (!rule.empty()) row_.fault(element, rule, {start, static_cast<std::size_t>(text_.at - start)});
    return true;
  }

  // The bytes that its base64 stands for.
  [[nodiscard]] bool read_image(const RecordElement& element, const char* start) noexcept {
    std::string_view digits;
    bool escaped = false;
    if (!text_.read_raw_string(digits, escaped)) return false;
    const std::optional<std::size_t> bytes = base64_bytes(digits);
    TextWriter texts(row_.spec(element), row_.tensor(element));
    if (bytes && *bytes > texts.left()) return refuse_full(element, start);
    if (!bytes || !decode_base64(digits, texts.free())) {
      row_.fault(element, "contentEncoding", {start, static_cast<std::size_t>(text_.at - start)});
      return true;
    }
    texts.commit(0, static_cast<std::uint32_t>(*bytes));
    texts.finish();
    return true;
  }

  // {"base64": "..."}, as bytes of other inputs are in JSON.
  [[nodiscard]] bool read_file(const RecordElement& element, const char* start) noexcept {
    ++text_.at;
    NameScratch scratch;
    std::string_view name;
    if (text_.consume('}')) return refuse(element, "type", start);
    if (!text_.read_name(scratch, name)) return false;
    text_.skip_space();
    if (name != "base64" || text_.at == text_.end || *text_.at != '"') return refuse(element, "type", start);
    return read_image(element, text_.at) && (text_.consume('}') || refuse(element, "type", start));
  }

  [[gnu::cold]] bool refuse_full(const RecordElement& element, const char* start) noexcept {
    text_.at = start;
    if (!text_.check_value()) return false;
    row_.fault_full(element, {start, static_cast<std::size_t>(text_.at - start)});
    return true;
  }

  // Its own reader says what is wrong with it.
  [[nodiscard]] bool read_tensor(const RecordElement& element, const char* start) noexcept {
    std::uint32_t length = 0;
    if (read_json_tensor(text_, row_.spec(element), true, row_.tensor(element), length)) return true;
    if (!is_fault_of_row(text_.problem)) return false;
    const Problem fault = text_.problem;
    text_.problem.clear();
    text_.at = start;
    const bool is_array = *start == '[';
    if (!text_.check_value()) return false;
    std::string_view detail = fault.detail();
    if (const std::size_t colon = detail.find(": "); colon != std::string_view::npos) detail.remove_prefix(colon + 2);
    row_.fault_tensor(element, is_array ? "items" : "type", detail);
    return true;
  }

  [[nodiscard]] bool skip_literal(std::string_view literal) noexcept {
    if (!std::string_view(text_.at, static_cast<std::size_t>(text_.end - text_.at)).starts_with(literal)) return false;
    text_.at += literal.size();
    return true;
  }

  // The value at `start`, if it is one, is none of this field.
  [[gnu::cold]] bool refuse(const RecordElement& element, std::string_view rule, const char* start) noexcept {
    text_.at = start;
    if (start != text_.end && (*start == 'N' || *start == 'I'))
      return text_.refuse_at(start, "a value; NaN and infinity are no JSON, and a missing number is null");
    if (text_.describe_value() == nullptr || !text_.check_value()) return false;
    row_.fault(element, rule, {start, static_cast<std::size_t>(text_.at - start)});
    return true;
  }

  JsonText& text_;
  RecordRow& row_;
};

}  // namespace

bool read_json_record(JsonText& text, const RecordPlan& plan, const RecordPlace& place) noexcept {
  RecordRow row(plan, place);
  text.skip_space();
  if (text.consume('{')) return JsonRecordReader(text, row).read_object(0) && row.finish(text.problem);
  const char* const got = text.describe_value();
  if (got != nullptr)
    text.problem.set(ProblemCode::kInvalidInput, "inputs: expected an object with the fields of the record, got %s",
                     got);
  return false;
}

bool read_json_field(JsonText& text, const RecordElement& element, RecordRow& row) noexcept {
  return JsonRecordReader(text, row).read_field(element);
}

}  // namespace penstock::dataplane
