#include "codec/codec_proto_tensor.hpp"

#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

#include "codec/codec_element.hpp"
#include "codec/codec_oip.hpp"
#include "codec/codec_request.hpp"
#include "codec/codec_text.hpp"
#include "codec/proto_reader.hpp"

namespace penstock::dataplane {
namespace {

// The field that holds elements of this type; 0: there is none.
constexpr std::uint32_t field_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::kBool:
      return 1;
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return 2;
    case DType::kInt64:
      return 3;
    case DType::kUint8:
    case DType::kUint16:
    case DType::kUint32:
      return 4;
    case DType::kUint64:
      return 5;
    case DType::kFloat32:
      return 6;
    case DType::kFloat64:
      return 7;
    case DType::kBytes:
      return 8;
    case DType::kFloat16:
      return 0;
  }
  return 0;
}

// Where elements go, row by row.
class ContentsReader {
 public:
  ContentsReader(const TensorSpec& spec, std::size_t index, const InferTensors& tensors, RowsSink& rows,
                 Problem& problem) noexcept
      : spec_(spec),
        index_(index),
        row_elements_(row_elements(spec, tensors)),
        count_(row_elements_ * tensors.rows),
        rows_(rows),
        problem_(problem) {}

  [[nodiscard]] bool read(std::string_view contents) {
    ProtoReader reader(contents);
    ProtoField field;
    const std::uint32_t wanted = field_of(spec_.dtype);
    while (reader.next(field)) {
      if (field.number != wanted) return refuse("contents: expected elements of its datatype alone");
      if (!read_field(field)) return false;
    }
    if (reader.is_malformed()) return refuse("contents: it is no protobuf");
    if (writer_.has_value()) writer_->finish();
    return read_ == count_ || refuse_count();
  }

 private:
  [[nodiscard]] bool read_field(const ProtoField& field) {
    if (spec_.dtype == DType::kBytes)
      return field.wire == ProtoWire::kBytes ? take_text(field.bytes) : refuse("contents: expected strings");
    return with_element_type(spec_.dtype, [&]<typename T>(std::type_identity<T>) { return read_numbers<T>(field); });
  }

  // One number, or a packed list of them.
  template <typename T>
  [[nodiscard]] bool read_numbers(const ProtoField& field) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
      if (field.wire != ProtoWire::kBytes) return take_bytes(&field.value, sizeof(T), field.wire == wire_of<T>());
      bool fits = field.bytes.size() % sizeof(T) == 0;
      for (std::size_t at = 0; fits && at < field.bytes.size(); at += sizeof(T))
        fits = take_bytes(field.bytes.data() + at, sizeof(T), true);
      return fits || refuse_unless_told();
    } else {
      if (field.wire == ProtoWire::kVarint) return take_integer<T>(field.value);
      if (field.wire != ProtoWire::kBytes) return refuse("contents: expected whole numbers");
      ProtoReader packed(field.bytes);
      std::uint64_t value = 0;
      while (!packed.at_end()) {
        if (!packed.read_varint(value)) return refuse("contents: it is no protobuf");
        if (!take_integer<T>(value)) return false;
      }
      return true;
    }
  }

  template <typename T>
  [[nodiscard]] static constexpr ProtoWire wire_of() noexcept {
    return sizeof(T) == 4 ? ProtoWire::kFixed32 : ProtoWire::kFixed64;
  }

  template <typename T>
  [[nodiscard]] bool take_integer(std::uint64_t value) {
    if constexpr (std::is_same_v<T, bool>) {
      const bool flag = value != 0;
      return take_bytes(&flag, sizeof flag, true);
    } else if constexpr (std::is_integral_v<T>) {
      const bool fits = std::is_signed_v<T>
                            ? static_cast<std::int64_t>(value) >= std::numeric_limits<T>::min() &&
                                  static_cast<std::int64_t>(value) <= static_cast<std::int64_t>(max_of<T>())
                            : value <= max_of<T>();
      if (!fits) return refuse("contents: a number is out of the range of its datatype");
      const auto narrow = static_cast<T>(value);
      return take_bytes(&narrow, sizeof narrow, true);
    } else {
      return refuse("contents: FP16 has none: send raw_input_contents");
    }
  }

  template <typename T>
  [[nodiscard]] static constexpr std::uint64_t max_of() noexcept {
    return static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  }

  [[nodiscard]] bool take_bytes(const void* value, std::size_t bytes, bool right_kind) {
    if (!right_kind) return refuse("contents: expected numbers of its datatype");
    if (read_ == count_) return refuse_count();
    if (read_ % row_elements_ == 0) out_ = rows_.place(index_, static_cast<std::uint32_t>(read_ / row_elements_));
    std::memcpy(out_, value, bytes);
    out_ += bytes;
    ++read_;
    return true;
  }

  [[nodiscard]] bool take_text(std::string_view text) {
    if (read_ == count_) return refuse_count();
    if (read_ % row_elements_ == 0) {
      if (writer_.has_value()) writer_->finish();
      writer_.emplace(spec_, rows_.place(index_, static_cast<std::uint32_t>(read_ / row_elements_)));
    }
    if (!writer_.has_value()) return false;  // never: the first element of each row makes one
    if (!writer_->append(read_++ % row_elements_, text)) {
      refuse_text(problem_, TensorPlace{spec_, true, {}}, 0);
      return false;
    }
    return true;
  }

  [[gnu::cold]] bool refuse(const char* what) {
    const std::string_view name = clip(spec_.name);
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: %s", static_cast<int>(name.size()), name.data(), what);
    return false;
  }
  [[gnu::cold]] bool refuse_unless_told() { return problem_ ? false : refuse("contents: it is no protobuf"); }
  [[gnu::cold]] bool refuse_count() {
    const std::string_view name = clip(spec_.name);
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: contents: expected %llu elements, got %s",
                 static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(count_),
                 read_ == count_ ? "more" : "fewer");
    return false;
  }

  const TensorSpec& spec_;
  const std::size_t index_;
  const std::uint64_t row_elements_;
  const std::uint64_t count_;
  RowsSink& rows_;
  Problem& problem_;
  std::uint64_t read_ = 0;
  std::byte* out_ = nullptr;
  std::optional<TextWriter> writer_;
};

}  // namespace

bool read_infer_contents(std::string_view contents, const TensorSpec& spec, std::size_t index,
                         const InferTensors& tensors, RowsSink& rows, Problem& problem) {
  return rows.allocate(index, problem) && ContentsReader(spec, index, tensors, rows, problem).read(contents);
}

}  // namespace penstock::dataplane
