#include "codec/codec_json_tensor.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "codec/codec_base64.hpp"
#include "codec/codec_element.hpp"
#include "codec/codec_json_element.hpp"
#include "codec/codec_number.hpp"
#include "codec/codec_tensor_reader.hpp"

namespace penstock::dataplane {
namespace {

class TensorReader : public TensorReaderBase<JsonText> {
 public:
  using TensorReaderBase::TensorReaderBase;

  [[nodiscard]] bool read() noexcept {
    text_.skip_space();
    if (place_.spec.dtype == DType::kBytes) return read_texts();
    return place_.spec.shape.empty() ? read_by_dtype(0) : read_dimension(0);
  }

 private:
  // The array of dimension `depth`, at the first `depth` indices.
  [[nodiscard]] bool read_dimension(std::size_t depth) noexcept {
    text_.skip_space();
    if (depth == place_.spec.shape.size()) return read_text(depth);  // numbers end one dimension before
    if (text_.at == text_.end || *text_.at != '[') return read_other(depth);
    if (depth + 1 == place_.spec.shape.size() && place_.spec.dtype != DType::kBytes) return read_by_dtype(depth);
    ++text_.at;
    const std::uint32_t extent = place_.spec.shape[depth];
    for (std::uint32_t i = 0; i < extent; ++i) {
      place_.index[depth] = i;
      if (i != 0 && !text_.consume(',')) return end_early(depth, i);
      text_.skip_space();
      if (text_.at != text_.end && *text_.at == ']') return refuse_length(depth, i);
      if (!read_dimension(depth + 1)) return false;
    }
    return text_.consume(']') || refuse_length(depth, extent);
  }

  [[gnu::noinline]] bool read_texts() noexcept {
    return with_texts([this]() noexcept { return read_dimension(0); });
  }

  [[nodiscard]] bool read_text(std::size_t depth) noexcept {
    if (text_.at == text_.end || *text_.at != '"') return read_other_text(depth);
    bool full = false;
    const std::optional<std::uint32_t> bytes = text_.read_text(texts_->free(), texts_->left(), full);
    if (full) refuse_text(text_.problem, place_, depth);
    if (!bytes) return false;
    texts_->commit(next_text_++, *bytes);
    return true;
  }

  // In place of the outermost array: {"base64": "..."}, the tensor's bytes.
  [[gnu::cold]] bool read_other(std::size_t depth) noexcept {
    if (depth != 0 || place_.spec.dtype == DType::kBytes || text_.at == text_.end || *text_.at != '{')
      return refuse_kind(depth, "an array");
    std::string_view digits;
    std::size_t bytes = 0;
    if (!read_base64(depth, digits, bytes)) return false;
    char* const out = reinterpret_cast<char*>(out_);
    const std::string_view view(out, bytes);
    if (bytes <= place_.spec.bytes() && !decode_base64(digits, out)) return refuse_base64(digits);
    if (!check_tensor(text_.problem, place_, view)) return false;
    if (place_.spec.varies) length_ = static_cast<std::uint32_t>(elements_in(place_.spec, bytes));
    return true;
  }

  // In place of a string: {"base64": "..."}, its bytes.
  [[gnu::cold]] bool read_other_text(std::size_t depth) noexcept {
    if (text_.at == text_.end || *text_.at != '{') return refuse_kind(depth, "a string");
    std::string_view digits;
    std::size_t bytes = 0;
    if (!read_base64(depth, digits, bytes)) return false;
    if (bytes > texts_->left()) {
      refuse_text(text_.problem, place_, depth);
      return false;
    }
    if (!decode_base64(digits, texts_->free())) return refuse_base64(digits);
    texts_->commit(next_text_++, static_cast<std::uint32_t>(bytes));
    return true;
  }

  // {"base64": "..."} at the cursor: the text in the quotes, and how many bytes it stands for.
  [[nodiscard]] bool read_base64(std::size_t depth, std::string_view& digits, std::size_t& bytes) noexcept {
    const char* const start = text_.at;
    ++text_.at;
    NameScratch scratch;
    std::string_view name;
    if (text_.consume('}') || !text_.read_name(scratch, name) || name != "base64") {
      if (text_.problem) return false;
      text_.at = start;
      return refuse_kind(depth, place_.spec.dtype == DType::kBytes ? "a string or {\"base64\": ...}"
                                                                   : "an array or {\"base64\": ...}");
    }
    text_.skip_space();
    if (text_.at == text_.end || *text_.at != '"') return text_.refuse_at(text_.at, "a string of base64");
    const char* const first = text_.at + 1;
    const auto* const quote =
        static_cast<const char*>(std::memchr(first, '"', static_cast<std::size_t>(text_.end - first)));
    if (quote == nullptr) return text_.refuse_at(first, "the end of a string");
    digits = {first, static_cast<std::size_t>(quote - first)};
    const std::optional<std::size_t> count = base64_bytes(digits);
    if (!count) return refuse_base64(digits);
    bytes = *count;
    text_.at = quote + 1;
    return text_.expect('}', "'}' behind the base64");
  }

  [[gnu::cold]] bool refuse_base64(std::string_view digits) noexcept {
    refuse_tensor(text_.problem, place_, 0, "base64 (RFC 4648, section 4)", digits.substr(0, 32));
    return false;
  }

  [[nodiscard]] bool read_by_dtype(std::size_t depth) noexcept {
    return with_element_type(place_.spec.dtype,
                             [&]<typename T>(std::type_identity<T>) { return read_elements<T>(depth); });
  }

  template <typename T>
  [[nodiscard]] bool read_elements(std::size_t depth) noexcept {
    return place_.spec.shape.empty() ? read_scalar<T>() : read_vector<T>(depth);
  }

  template <typename T>
  [[nodiscard]] bool read_scalar() noexcept {
    T value{};
    const char* const next = read_element(text_.at, text_.end, value);
    if (next == nullptr) return refuse_element<T>(text_.at, 0);
    std::memcpy(out_, &value, sizeof(T));
    text_.at = next;
    return true;
  }

  // The innermost array, whose bracket is at the cursor. All time is spent here.
  template <typename T>
  [[nodiscard]] bool read_vector(std::size_t depth) noexcept {
    const char* p = text_.at + 1;
    const char* const end = text_.end;
    const std::uint32_t extent = place_.spec.shape[depth];
    std::byte* out = out_;
    for (std::uint32_t i = 0; i < extent; ++i) {
      p = skip_json_space(p, end);
      if (i != 0) {
        if (p == end || *p != ',') return end_vector_early(p, depth, i);
        p = skip_json_space(p + 1, end);
      }
      T value{};
      const char* const next = read_element(p, end, value);
      if (next == nullptr) [[unlikely]] {
        if (p != end && *p == ']') return refuse_vector_length(p, depth, i);
        place_.index[depth] = i;
        return refuse_element<T>(p, depth + 1);
      }
      p = next;
      std::memcpy(out, &value, sizeof(T));
      out += sizeof(T);
    }
    p = skip_json_space(p, end);
    if (p == end || *p != ']') return refuse_vector_length(p, depth, extent);
    text_.at = p + 1;
    out_ = out;
    return true;
  }

  // The array at `depth` has no further element, though its shape asks for more: the end of a row that varies in
  // length, or a fault.
  [[gnu::noinline]] bool end_early(std::size_t depth, std::uint32_t read) noexcept {
    if (depth != 0 || !is_length(place_.spec, read) || !text_.consume(']')) return refuse_length(depth, read);
    length_ = read;
    return true;
  }

  [[gnu::noinline]] bool end_vector_early(const char* p, std::size_t depth, std::uint32_t read) noexcept {
    text_.at = p;
    return end_early(depth, read);
  }

  [[gnu::cold]] bool refuse_vector_length(const char* p, std::size_t depth, std::uint32_t read) noexcept {
    text_.at = p;
    return refuse_length(depth, read);
  }

  // After `read` elements of the array at `depth` something else came than the array's shape asks for.
  [[gnu::cold]] bool refuse_length(std::size_t depth, std::uint32_t read) noexcept {
    if (text_.consume(']')) {
      // "[1,]": a comma that no value follows is a fault of JSON, not of the shape.
      if (read != 0 && text_.at[-1] == ']' && comma_before(text_.at - 1)) {
        return text_.refuse_at(text_.at - 1, "a value behind ','");
      }
      refuse_count(text_.problem, place_, depth, read);
      return false;
    }
    const std::uint32_t extent = place_.spec.shape[depth];
    if (read < extent) return text_.refuse_at(text_.at, "',' or ']'");
    // Too many: count them, so that the client learns how many came.
    std::uint64_t count = read;
    if (count != 0 && !text_.consume(',')) return text_.refuse_at(text_.at, "',' or ']'");
    do {
      if (!text_.skip_value()) return false;
      ++count;
    } while (text_.consume(','));
    if (!text_.expect(']', "',' or ']'")) return false;
    refuse_count(text_.problem, place_, depth, count);
    return false;
  }

  [[nodiscard]] bool comma_before(const char* p) const noexcept {
    while (p != text_.begin && skip_json_space(p - 1, p) == p) --p;
    return p != text_.begin && p[-1] == ',';
  }

  // Something else stands where an array or a string was expected.
  [[gnu::cold]] bool refuse_kind(std::size_t depth, const char* expected) noexcept {
    const char* const got = text_.describe_value();
    if (got == nullptr) return false;
    refuse_tensor(text_.problem, place_, depth, expected, got);
    return false;
  }

  template <typename T>
  [[gnu::cold]] bool refuse_element(const char* p, std::size_t depth) noexcept {
    text_.at = p;
    const char* const got = text_.describe_value();
    if (got == nullptr) return false;
    constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;
    const char* expected = std::is_same_v<T, bool> ? "true or false" : kIsInteger ? "an integer" : "a number";
    std::string_view shown = got;
    if (!std::is_same_v<T, bool> && (*p == '-' || number_detail::is_digit(*p))) {
      Decimal unused;
      const char* const token_end = scan_number(p, text_.end, unused);
      shown = std::string_view(p, static_cast<std::size_t>(std::min<std::ptrdiff_t>(token_end - p, 32)));
      if (explain_number(p, text_.end, kIsInteger) == NumberFault::kOutOfRange) expected = "a number in range";
    }
    refuse_tensor(text_.problem, place_, depth, expected, shown);
    return false;
  }
};

}  // namespace

bool read_json_tensor(JsonText& text, const TensorSpec& spec, bool named, std::byte* out,
                      std::uint32_t& length) noexcept {
  return read_tensor<TensorReader>(text, spec, named, out, length);
}

}  // namespace penstock::dataplane
