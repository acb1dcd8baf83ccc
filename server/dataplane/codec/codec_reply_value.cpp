#include "codec/codec_reply_value.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <type_traits>

#include "codec/codec_element.hpp"
#include "codec/codec_msgpack_write.hpp"
#include "codec/codec_number_text.hpp"
#include "codec/codec_text.hpp"
#include "codec/codec_utf8.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kSaturated = 1ULL << 62;

// Bytes of all elements and of the arrays around them, `array_bytes` for each array and its separator.
std::uint64_t value_bytes_max(const TensorSpec& spec, std::uint64_t element_bytes, std::uint64_t array_bytes) noexcept {
  __extension__ using Wide = unsigned __int128;
  Wide arrays = 1;
  Wide total = 0;
  for (const std::uint32_t extent : spec.shape) {
    total += arrays * array_bytes;
    arrays *= extent;
    if (total > kSaturated || arrays > kSaturated) return kSaturated;
  }
  total += arrays * element_bytes;
  return static_cast<std::uint64_t>(std::min<Wide>(total, kSaturated));
}

// What one encoding writes around and between elements.
struct JsonForm {
  template <typename T>
  static char* element(T value, char* out) noexcept {
    return write_element(value, out);
  }
  static char* text(std::string_view text, char* out) noexcept { return write_json_text(text, out); }
  static char* open(std::uint32_t, char* out) noexcept {
    *out = '[';
    return out + 1;
  }
  static char* separate(char* out) noexcept {
    *out = ',';
    return out + 1;
  }
  static char* close(char* out) noexcept {
    *out = ']';
    return out + 1;
  }
};

struct MsgpackForm {
  template <typename T>
  static char* element(T value, char* out) noexcept {
    return write_msgpack(value, out);
  }
  static char* text(std::string_view text, char* out) noexcept {
    return is_utf8(text) ? write_msgpack_string(text, out) : write_msgpack_binary(text, out);
  }
  static char* open(std::uint32_t count, char* out) noexcept { return write_msgpack_array(count, out); }
  static char* separate(char* out) noexcept { return out; }
  static char* close(char* out) noexcept { return out; }
};

template <typename T>
T load(const std::byte* data) noexcept {
  if constexpr (std::is_same_v<T, bool>) {
    return *data != std::byte{0};  // a worker may have left any byte there, and only 0 and 1 are a bool
  } else {
    T value;
    std::memcpy(&value, data, sizeof(T));
    return value;
  }
}

template <typename Form, typename T>
char* write_dimension(std::span<const std::uint32_t> shape, const std::byte*& data, char* out) noexcept {
  if (shape.empty()) {
    const T value = load<T>(data);
    data += sizeof(T);
    return Form::element(value, out);
  }
  out = Form::open(shape.front(), out);
  for (std::uint32_t i = 0; i < shape.front(); ++i) {
    if (i != 0) out = Form::separate(out);
    out = write_dimension<Form, T>(shape.subspan(1), data, out);
  }
  return Form::close(out);
}

template <typename Form>
char* write_value(const TensorSpec& spec, std::span<const std::uint32_t> shape, const std::byte* data,
                  char* out) noexcept {
  return with_element_type(
      spec.dtype, [&]<typename T>(std::type_identity<T>) { return write_dimension<Form, T>(shape, data, out); });
}

// The same, cut to a row's length. Apart, so that tensors of one shape do not pay for the room.
template <typename Form>
[[gnu::noinline]] char* write_cut(const TensorSpec& spec, const std::byte* data, std::uint32_t length,
                                  char* out) noexcept {
  std::array<std::uint32_t, kRankMax> shape{};
  std::ranges::copy(spec.shape, shape.begin());
  shape.front() = length;
  return write_value<Form>(spec, {shape.data(), spec.shape.size()}, data, out);
}

template <typename Form>
char* write_text_dimension(std::span<const std::uint32_t> shape, TextReader& texts, char* out) noexcept {
  if (shape.empty()) {
    std::string_view text;
    // What check_texts() has refused is empty here: it may have been spoilt since.
    return Form::text(texts.next(text) ? text : std::string_view(), out);
  }
  out = Form::open(shape.front(), out);
  for (std::uint32_t i = 0; i < shape.front(); ++i) {
    if (i != 0) out = Form::separate(out);
    out = write_text_dimension<Form>(shape.subspan(1), texts, out);
  }
  return Form::close(out);
}

template <typename Form>
[[gnu::noinline]] char* write_texts(const TensorSpec& spec, const std::byte* data, std::uint32_t length,
                                    char* out) noexcept {
  std::array<std::uint32_t, kRankMax> shape{};
  std::ranges::copy(spec.shape, shape.begin());
  if (spec.varies) shape.front() = length;
  TextReader texts(spec, data);
  return write_text_dimension<Form>({shape.data(), spec.shape.size()}, texts, out);
}

}  // namespace

bool check_texts(const TensorSpec& spec, const std::byte* data, std::uint32_t length, bool utf8,
                 Problem& problem) noexcept {
  const std::uint64_t count = spec.varies ? spec.elements() / spec.shape.front() * length : spec.elements();
  TextReader texts(spec, data);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string_view text;
    const std::string_view name = clip(spec.name);
    if (!texts.next(text)) {
      problem.set(ProblemCode::kModelError, "output '%.*s': the worker left a string that cannot be read",
                  static_cast<int>(name.size()), name.data());
      return false;
    }
    if (utf8 && !is_utf8(text)) {
      problem.set(ProblemCode::kModelError,
                  "output '%.*s' has bytes that are not UTF-8, which JSON cannot carry: accept application/msgpack",
                  static_cast<int>(name.size()), name.data());
      return false;
    }
  }
  return true;
}

std::uint64_t json_value_bytes_max(const TensorSpec& spec) noexcept {
  // \u0000 is the longest a byte can become.
  return value_bytes_max(spec, json_bytes_max(spec.dtype) + 1, 3) + std::uint64_t{6} * spec.heap_bytes;
}

std::uint64_t msgpack_value_bytes_max(const TensorSpec& spec) noexcept {
  const std::size_t size = spec.dtype == DType::kFloat16 ? sizeof(float) : size_of(spec.dtype);
  return value_bytes_max(spec, 1 + size, kMsgpackHeadBytesMax) + spec.heap_bytes;
}

char* write_json_value(const TensorSpec& spec, const std::byte* data, std::uint32_t length, char* out) noexcept {
  if (spec.dtype == DType::kBytes) [[unlikely]]
    return write_texts<JsonForm>(spec, data, length, out);
  if (spec.varies) [[unlikely]]
    return write_cut<JsonForm>(spec, data, length, out);
  return write_value<JsonForm>(spec, spec.shape, data, out);
}

char* write_msgpack_value(const TensorSpec& spec, const std::byte* data, std::uint32_t length, char* out) noexcept {
  if (spec.dtype == DType::kBytes) [[unlikely]]
    return write_texts<MsgpackForm>(spec, data, length, out);
  if (spec.varies) [[unlikely]]
    return write_cut<MsgpackForm>(spec, data, length, out);
  return write_value<MsgpackForm>(spec, spec.shape, data, out);
}

char* write_json_elements(const TensorSpec& spec, const std::byte* data, std::uint64_t elements, char* out) noexcept {
  if (spec.dtype == DType::kBytes) {
    TextReader texts(spec, data);
    for (std::uint64_t i = 0; i < elements; ++i) {
      if (i != 0) *out++ = ',';
      out = write_text_dimension<JsonForm>({}, texts, out);
    }
    return out;
  }
  return with_element_type(spec.dtype, [&]<typename T>(std::type_identity<T>) {
    for (std::uint64_t i = 0; i < elements; ++i) {
      if (i != 0) *out++ = ',';
      out = write_element(load<T>(data + i * sizeof(T)), out);
    }
    return out;
  });
}

}  // namespace penstock::dataplane
