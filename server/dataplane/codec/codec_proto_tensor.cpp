#include "codec/codec_proto_tensor.hpp"

#include <cstring>
#include <limits>
#include <optional>
#include <string>
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

// Elements one after the other. `Taker` says where each goes: take_element() has its bytes, take_text() a string.
template <class Taker>
class ContentsReader {
 public:
  [[nodiscard]] bool read(std::string_view contents) {
    ProtoReader reader(contents);
    ProtoField field;
    const std::uint32_t wanted = field_of(dtype_);
    if (wanted == 0 && !contents.empty()) return refuse("contents: FP16 has none: send raw_input_contents");
    while (reader.next(field)) {
      if (field.number != wanted) return refuse("contents: expected elements of its datatype alone");
      if (!read_field(field)) return false;
    }
    if (reader.is_malformed()) return refuse("contents: it is no protobuf");
    return read_ == count_ || refuse_count();
  }

 private:
  friend Taker;

  ContentsReader(std::string_view name, DType dtype, std::uint64_t count, Problem& problem) noexcept
      : name_(clip(name)), dtype_(dtype), count_(count), problem_(problem) {}

 protected:
  [[gnu::cold]] bool refuse(const char* what) {
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: %s", static_cast<int>(name_.size()), name_.data(), what);
    return false;
  }

  const std::string_view name_;
  const DType dtype_;
  const std::uint64_t count_;
  Problem& problem_;
  std::uint64_t read_ = 0;

 private:
  [[nodiscard]] bool read_field(const ProtoField& field) {
    if (dtype_ == DType::kBytes) {
      if (field.wire != ProtoWire::kBytes) return refuse("contents: expected strings");
      return has_room() && static_cast<Taker&>(*this).take_text(field.bytes, read_++);
    }
    return with_element_type(dtype_, [&]<typename T>(std::type_identity<T>) { return read_numbers<T>(field); });
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
      return false;  // never: FP16 was refused
    }
  }

  template <typename T>
  [[nodiscard]] static constexpr std::uint64_t max_of() noexcept {
    return static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  }

  [[nodiscard]] bool take_bytes(const void* value, std::size_t bytes, bool right_kind) {
    if (!right_kind) return refuse("contents: expected numbers of its datatype");
    if (!has_room()) return false;
    static_cast<Taker&>(*this).take_element(value, bytes, read_++);
    return true;
  }

  [[nodiscard]] bool has_room() { return read_ != count_ || refuse_count(); }
  [[gnu::cold]] bool refuse_unless_told() { return problem_ ? false : refuse("contents: it is no protobuf"); }
  [[gnu::cold]] bool refuse_count() {
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: contents: expected %llu elements, got %s",
                 static_cast<int>(name_.size()), name_.data(), static_cast<unsigned long long>(count_),
                 read_ == count_ ? "more" : "fewer");
    return false;
  }
};

// Into the rows of a tensor.
class RowsTaker final : public ContentsReader<RowsTaker> {
 public:
  RowsTaker(const TensorSpec& spec, std::size_t index, const InferTensors& tensors, RowsSink& rows,
            Problem& problem) noexcept
      : ContentsReader(spec.name, spec.dtype, row_elements(spec, tensors) * tensors.rows, problem),
        spec_(spec),
        index_(index),
        row_elements_(row_elements(spec, tensors)),
        rows_(rows) {}

  [[nodiscard]] bool read_rows(std::string_view contents) {
    if (!read(contents)) return false;
    if (writer_.has_value()) writer_->finish();
    return true;
  }

  void take_element(const void* value, std::size_t bytes, std::uint64_t element) {
    if (element % row_elements_ == 0) out_ = rows_.place(index_, static_cast<std::uint32_t>(element / row_elements_));
    std::memcpy(out_, value, bytes);
    out_ += bytes;
  }

  [[nodiscard]] bool take_text(std::string_view text, std::uint64_t element) {
    if (element % row_elements_ == 0) {
      if (writer_.has_value()) writer_->finish();
      writer_.emplace(spec_, rows_.place(index_, static_cast<std::uint32_t>(element / row_elements_)));
    }
    if (!writer_.has_value()) return false;  // never: the first element of each row makes one
    if (writer_->append(element % row_elements_, text)) return true;
    refuse_text(problem_, TensorPlace{spec_, true, {}}, 0);
    return false;
  }

 private:
  const TensorSpec& spec_;
  const std::size_t index_;
  const std::uint64_t row_elements_;
  RowsSink& rows_;
  std::byte* out_ = nullptr;
  std::optional<TextWriter> writer_;
};

// One behind the other, as the binary extension has them.
class BinaryTaker final : public ContentsReader<BinaryTaker> {
 public:
  BinaryTaker(std::string_view name, DType dtype, std::uint64_t count, std::string& out, Problem& problem) noexcept
      : ContentsReader(name, dtype, count, problem), out_(out) {}

  void take_element(const void* value, std::size_t bytes, std::uint64_t) {
    out_.append(static_cast<const char*>(value), bytes);
  }

  [[nodiscard]] bool take_text(std::string_view text, std::uint64_t) {
    const auto bytes = static_cast<std::uint32_t>(text.size());
    out_.append(reinterpret_cast<const char*>(&bytes), sizeof bytes).append(text);
    return true;
  }

 private:
  std::string& out_;
};

}  // namespace

bool read_infer_contents(std::string_view contents, const TensorSpec& spec, std::size_t index,
                         const InferTensors& tensors, RowsSink& rows, Problem& problem) {
  return rows.allocate(index, problem) && RowsTaker(spec, index, tensors, rows, problem).read_rows(contents);
}

bool binary_of_contents(std::string_view contents, std::string_view name, DType dtype, std::uint32_t rows,
                        std::string& out, Problem& problem) {
  return BinaryTaker(name, dtype, rows, out, problem).read(contents);
}

}  // namespace penstock::dataplane
