#include "codec/codec_msgpack_tensor.hpp"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstring>
#include <limits>
#include <type_traits>

#include "codec/codec_element.hpp"
#include "codec/codec_tensor_reader.hpp"
#include "codec/codec_utf8.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock::dataplane {
namespace {

enum class Fit : std::uint8_t { kFits, kOutOfRange, kOtherKind };

template <typename T>
constexpr bool kIsFloat = std::is_floating_point_v<T> || std::is_same_v<T, Half>;

// To the nearest T; a finite value must stay finite.
template <typename T>
Fit convert_real(double real, T& value) noexcept {
  if constexpr (std::is_same_v<T, Half>) {
    value = to_half(real);
    return (value.bits & 0x7FFFU) == 0x7C00U && std::isfinite(real) ? Fit::kOutOfRange : Fit::kFits;
  } else {
    value = static_cast<T>(real);
    return std::isinf(value) && std::isfinite(real) ? Fit::kOutOfRange : Fit::kFits;
  }
}

template <typename T, typename Integer>
Fit convert_integer(Integer number, T& value) noexcept {
  if constexpr (std::is_same_v<T, Half>) {
    // float64 is not exact beyond 2^53, but float16 ends long before.
    return convert_real(static_cast<double>(number), value);
  } else if constexpr (kIsFloat<T>) {
    value = static_cast<T>(number);
    return Fit::kFits;
  } else {
    if (!std::in_range<T>(number)) return Fit::kOutOfRange;
    value = static_cast<T>(number);
    return Fit::kFits;
  }
}

template <typename T>
Fit convert(const MsgpackToken& token, T& value) noexcept {
  if constexpr (std::is_same_v<T, bool>) {
    value = token.number != 0;
    return token.kind == MsgpackKind::kBool ? Fit::kFits : Fit::kOtherKind;
  } else {
    if (token.kind == MsgpackKind::kUnsigned) return convert_integer(token.number, value);
    if (token.kind == MsgpackKind::kNegative) return convert_integer(token.negative, value);
    if constexpr (kIsFloat<T>) {
      if (token.kind == MsgpackKind::kFloat32 || token.kind == MsgpackKind::kFloat64) {
        return convert_real(token.real, value);
      }
    }
    return Fit::kOtherKind;
  }
}

class TensorReader : public TensorReaderBase<MsgpackText> {
 public:
  using TensorReaderBase::TensorReaderBase;

  [[nodiscard]] bool read() noexcept {
    if (place_.spec.dtype == DType::kBytes) return read_texts();
    const char* const start = text_.at;
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (token.kind == MsgpackKind::kBinary) return read_binary(token.bytes);
    text_.at = start;
    return place_.spec.shape.empty() ? read_by_dtype(0, 1) : read_dimension(0);
  }

 private:
  [[nodiscard]] bool read_binary(std::string_view bytes) noexcept {
    if (!copy_tensor(text_.problem, place_, bytes, out_)) return false;
    if (place_.spec.varies) length_ = static_cast<std::uint32_t>(elements_in(place_.spec, bytes.size()));
    return true;
  }

  [[gnu::noinline]] bool read_texts() noexcept {
    return with_texts([this]() noexcept { return read_text_dimension(0); });
  }

  // A str must be UTF-8, as msgpack has it; a bin may hold any bytes.
  [[nodiscard]] bool read_text(std::size_t depth) noexcept {
    const char* const start = text_.at;
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (token.kind != MsgpackKind::kString && token.kind != MsgpackKind::kBinary) {
      refuse_tensor(text_.problem, place_, depth, "a string", describe(token));
      return false;
    }
    if (token.kind == MsgpackKind::kString && !is_utf8(token.bytes)) return text_.refuse_at(start, "UTF-8 in a string");
    if (texts_->append(next_text_, token.bytes)) {
      ++next_text_;
      return true;
    }
    refuse_text(text_.problem, place_, depth);
    return false;
  }

  [[nodiscard]] bool read_dimension(std::size_t depth) noexcept {
    std::uint32_t extent = 0;
    if (!open_array(depth, extent)) return false;
    if (depth + 1 == place_.spec.shape.size()) return read_by_dtype(depth, extent);
    for (std::uint32_t i = 0; i < extent; ++i) {
      place_.index[depth] = i;
      if (!read_dimension(depth + 1)) return false;
    }
    return true;
  }

  [[nodiscard]] bool read_text_dimension(std::size_t depth) noexcept {
    if (depth == place_.spec.shape.size()) return read_text(depth);
    std::uint32_t extent = 0;
    if (!open_array(depth, extent)) return false;
    for (std::uint32_t i = 0; i < extent; ++i) {
      place_.index[depth] = i;
      if (!read_text_dimension(depth + 1)) return false;
    }
    return true;
  }

  [[nodiscard, gnu::always_inline]] bool open_array(std::size_t depth, std::uint32_t& extent) noexcept {
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (token.kind != MsgpackKind::kArray) {
      refuse_tensor(text_.problem, place_, depth, "an array", describe(token));
      return false;
    }
    extent = place_.spec.shape[depth];
    if (token.number == extent) return true;
    if (depth != 0 || !is_length(place_.spec, token.number)) {
      refuse_count(text_.problem, place_, depth, token.number);
      return false;
    }
    extent = length_ = static_cast<std::uint32_t>(token.number);
    return true;
  }

  [[nodiscard]] bool read_by_dtype(std::size_t depth, std::uint32_t extent) noexcept {
    return with_element_type(place_.spec.dtype,
                             [&]<typename T>(std::type_identity<T>) { return read_elements<T>(depth, extent); });
  }

  template <typename T>
  [[nodiscard]] bool read_elements(std::size_t depth, std::uint32_t extent) noexcept {
    const bool is_scalar = place_.spec.shape.empty();
    std::uint32_t i = 0;
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) i = read_own_floats<T>(extent);
    for (; i < extent; ++i) {
      MsgpackToken token;
      if (!text_.next(token)) return false;
      T value{};
      const Fit fit = convert(token, value);
      if (fit != Fit::kFits) {
        if (!is_scalar) place_.index[depth] = i;
        return refuse_element<T>(token, fit, is_scalar ? 0 : depth + 1);
      }
      store(value);
    }
    return true;
  }

  // As many floats of T's own size as come in a row: the form in which nearly all requests arrive.
  template <typename T>
  [[nodiscard]] std::uint32_t read_own_floats(std::uint32_t extent) noexcept {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr char kMarker = static_cast<char>(sizeof(T) == 4 ? 0xca : 0xcb);
    const char* p = text_.at;
    std::byte* out = out_;
    std::uint32_t i = 0;
    for (; i<extent&& static_cast<std::size_t>(text_.end - p)> sizeof(T) && *p == kMarker; ++i) {
      Bits bits = 0;
      std::memcpy(&bits, p + 1, sizeof(bits));
      bits = swap_bytes(bits);
      std::memcpy(out, &bits, sizeof(bits));
      p += 1 + sizeof(T);
      out += sizeof(T);
    }
    text_.at = p;
    out_ = out;
    return i;
  }

  template <typename T>
  void store(const T& value) noexcept {
    std::memcpy(out_, &value, sizeof(T));
    out_ += sizeof(T);
  }

  template <typename T>
  [[gnu::cold]] bool refuse_element(const MsgpackToken& token, Fit fit, std::size_t depth) noexcept {
    const char* expected = std::is_same_v<T, bool> ? "true or false" : kIsFloat<T> ? "a number" : "an integer";
    if (fit == Fit::kOutOfRange) expected = "a number in range";
    refuse_tensor(text_.problem, place_, depth, expected, describe(token));
    return false;
  }
};

}  // namespace

bool read_msgpack_tensor(MsgpackText& text, const TensorSpec& spec, bool named, std::byte* out,
                         std::uint32_t& length) noexcept {
  return read_tensor<TensorReader>(text, spec, named, out, length);
}

}  // namespace penstock::dataplane
