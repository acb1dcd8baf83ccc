#include "codec/codec_record_msgpack.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "codec/codec_base64.hpp"
#include "codec/codec_msgpack_tensor.hpp"
#include "codec/codec_utf8.hpp"
#include "http/json_text.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {
namespace {

// What came, as JSON would have it.
class Shown {
 public:
  explicit Shown(const MsgpackToken& token) noexcept {
    switch (token.kind) {
      case MsgpackKind::kString:
        end_ = write_json_string(text_, clip_value(token.bytes));
        return;
      case MsgpackKind::kUnsigned:
        end_ = std::to_chars(text_, text_ + sizeof text_, token.number).ptr;
        return;
      case MsgpackKind::kNegative:
        end_ = std::to_chars(text_, text_ + sizeof text_, token.negative).ptr;
        return;
      case MsgpackKind::kFloat32:
      case MsgpackKind::kFloat64:
        if (std::isnan(token.real)) {
          end_ = std::ranges::copy(std::string_view("NaN; a missing number is nil"), text_).out;
          return;
        }
        end_ = std::to_chars(text_, text_ + sizeof text_, token.real).ptr;
        return;
      default:
        break;
    }
    const std::string_view name = token.kind == MsgpackKind::kNil ? "null" : describe(token);
    std::memcpy(text_, name.data(), name.size());
    end_ = text_ + name.size();
  }
  [[nodiscard]] std::string_view view() const noexcept { return {text_, static_cast<std::size_t>(end_ - text_)}; }

 private:
  char text_[256];
  char* end_ = text_;
};

class MsgpackRecordReader {
 public:
  MsgpackRecordReader(MsgpackText& text, RecordRow& row) noexcept : text_(text), row_(row) {}

  // The pairs of element `at`, whose head is behind the cursor.
  [[nodiscard]] bool read_object(std::uint32_t at, std::uint64_t pairs) noexcept {
    const RecordElement& object = row_.element(at);
    std::uint32_t next = object.first;
    for (; pairs != 0; --pairs) {
      std::string_view name;
      if (!text_.read_name(name)) return false;
      std::uint32_t member = next;
      if (next == object.last || row_.element(next).name != name) {
        member = row_.find_member(at, name);
        if (member == RecordRow::kNone) {
          if (!text_.skip_value()) return false;
          continue;
        }
      }
      if (row_.element(member).parent == at) {
        next = member + 1;
      } else {
        mark_above(member);
      }
      if (!row_.mark(member) && row_.element(member).kind != RecordKind::kObject) {
        row_.fault_twice(row_.element(member));
        if (!text_.skip_value()) return false;
      } else if (!read_member(member)) {
        return false;
      }
    }
    return true;
  }

 private:
  // A field comes by its path, and its value is next.
  void mark_above(std::uint32_t member) noexcept {
    constexpr char kNil = '\xC0';
    if (text_.at != text_.end && *text_.at == kNil) {
      row_.mark_above_null(member);
    } else {
      row_.mark_above(member);
    }
  }

  [[nodiscard]] bool read_member(std::uint32_t member) noexcept {
    const RecordElement& element = row_.element(member);
    const char* const start = text_.at;
    if (element.kind == RecordKind::kTensor) return read_tensor(element, start);
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (element.kind == RecordKind::kObject) {
      if (token.kind == MsgpackKind::kMap) return read_object(member, token.number);
      row_.mark_members(element);
    } else if (has_slot(element.kind)) {
      std::string_view rule = "type";
      if (!take_slot(element, token, start, rule)) return false;
      if (rule.empty()) return true;
      return refuse(element, rule, token, start);
    } else if (token.kind == MsgpackKind::kString || token.kind == MsgpackKind::kBinary) {
      return read_text(element, token, start);
    }
    return refuse(element, "type", token, start);
  }

  // False: the body is none. Else `rule` is what the value breaks, empty for nothing.
  [[nodiscard]] bool take_slot(const RecordElement& element, const MsgpackToken& token, const char* start,
                               std::string_view& rule) noexcept {
    switch (token.kind) {
      case MsgpackKind::kFloat64:
      case MsgpackKind::kFloat32:
        if (std::isfinite(token.real)) rule = take_number(element, token.real);
        break;
      case MsgpackKind::kUnsigned:
      case MsgpackKind::kNegative:
        rule = take_integer(element, token);
        break;
      case MsgpackKind::kBool:
        rule = row_.take_boolean(element, token.number != 0);
        break;
      case MsgpackKind::kNil:
        if (row_.store_null(element)) rule = {};
        break;
      case MsgpackKind::kString:
        if (!is_utf8(token.bytes)) return text_.refuse_at(start, "UTF-8 in a string");
        rule = row_.take_text(element, token.bytes);
        break;
      default:
        break;
    }
    return true;
  }

  [[nodiscard]] std::string_view take_number(const RecordElement& element, double value) noexcept {
    return element.kind <= RecordKind::kInteger ? row_.take_number(element, value)
                                                : row_.take_other_number(element, value);
  }

  [[nodiscard]] std::string_view take_integer(const RecordElement& element, const MsgpackToken& token) noexcept {
    const bool negative = token.kind == MsgpackKind::kNegative;
    const auto value = negative ? static_cast<double>(token.negative) : static_cast<double>(token.number);
    constexpr auto kMost = static_cast<std::int64_t>(kWholeMax);
    const bool is_exact = negative ? token.negative >= -kMost : token.number <= static_cast<std::uint64_t>(kMost);
    if (element.kind == RecordKind::kInteger && !is_exact) return "range";
    return take_number(element, value);
  }

  [[nodiscard]] bool read_text(const RecordElement& element, const MsgpackToken& token, const char* start) noexcept {
    const bool is_string = token.kind == MsgpackKind::kString;
    const bool is_image = element.kind == RecordKind::kImage;
    if (is_string && !is_utf8(token.bytes)) return text_.refuse_at(start, "UTF-8 in a string");
    if (!is_string && !is_image) return refuse(element, "type", token, start);
    if (is_string && is_image) {
      TextWriter texts(row_.spec(element), row_.tensor(element));
      const std::optional<std::size_t> bytes = base64_bytes(token.bytes);
      if (!bytes) return refuse(element, "contentEncoding", token, start);
      if (*bytes > texts.left()) return refuse_full(element, token);
      if (!decode_base64(token.bytes, texts.free())) return refuse(element, "contentEncoding", token, start);
      texts.commit(0, static_cast<std::uint32_t>(*bytes));
      texts.finish();
    } else if (!row_.write_text(element, token.bytes)) {
      return refuse_full(element, token);
    }
    const std::string_view rule = is_image ? std::string_view() : row_.check_text(element);
    return rule.empty() || refuse(element, rule, token, start);
  }

  [[gnu::cold]] bool refuse_full(const RecordElement& element, const MsgpackToken& token) noexcept {
    row_.fault_full(element, token.kind == MsgpackKind::kString ? Shown(token).view() : std::string_view());
    return true;
  }

  // Its own reader says what is wrong with it.
  [[nodiscard]] bool read_tensor(const RecordElement& element, const char* start) noexcept {
    std::uint32_t length = 0;
    if (read_msgpack_tensor(text_, row_.spec(element), true, row_.tensor(element), length)) return true;
    if (!is_fault_of_row(text_.problem)) return false;
    const Problem fault = text_.problem;
    text_.problem.clear();
    text_.at = start;
    if (!text_.skip_value()) return false;
    std::string_view detail = fault.detail();
    if (const std::size_t colon = detail.find(": "); colon != std::string_view::npos) detail.remove_prefix(colon + 2);
    row_.fault_tensor(element, "items", detail);
    return true;
  }

  [[gnu::cold]] bool refuse(const RecordElement& element, std::string_view rule, const MsgpackToken& token,
                            const char* start) noexcept {
    row_.fault(element, rule, Shown(token).view());
    text_.at = start;
    return text_.skip_value();
  }

  MsgpackText& text_;
  RecordRow& row_;
};

}  // namespace

bool read_msgpack_record(MsgpackText& text, const RecordPlan& plan, const RecordPlace& place) noexcept {
  MsgpackToken token;
  if (!text.next(token)) return false;
  if (token.kind != MsgpackKind::kMap) {
    text.problem.set(ProblemCode::kInvalidInput, "inputs: expected a map with the fields of the record, got %s",
                     describe(token));
    return false;
  }
  RecordRow row(plan, place);
  return MsgpackRecordReader(text, row).read_object(0, token.number) && row.finish(text.problem);
}

}  // namespace penstock::dataplane
