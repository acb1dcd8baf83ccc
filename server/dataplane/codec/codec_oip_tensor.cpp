#include "codec/codec_oip_tensor.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>

#include "codec/codec_element.hpp"
#include "codec/codec_json_element.hpp"
#include "codec/codec_request.hpp"
#include "codec/codec_text.hpp"

namespace penstock::dataplane {
namespace {

// Lists of elements, however nested. `Reader` is what reads one of them, at the cursor, and counts it in `read_`.
template <class Reader>
class ListReader {
 public:
  [[nodiscard]] bool read() {
    if (text_.at == text_.end || *text_.at != '[') return refuse_element();
    if (!read_list(0)) return false;
    if (read_ == count_) return true;
    const std::string_view name = clip(spec_.name);
    text_.problem.set(ProblemCode::kInvalidInput, "inputs.%.*s: data: expected %llu elements, got %llu",
                      static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(count_),
                      static_cast<unsigned long long>(read_));
    return false;
  }

 private:
  friend Reader;

  ListReader(JsonText& text, const TensorSpec& spec, std::size_t index, const InferTensors& tensors, RowsSink& rows,
             std::string_view expected) noexcept
      : text_(text),
        spec_(spec),
        index_(index),
        row_elements_(row_elements(spec, tensors)),
        count_(row_elements_ * tensors.rows),
        rows_(rows),
        expected_(expected) {}

 protected:
  // Something else stands at the cursor than is expected.
  [[gnu::cold]] bool refuse_element() {
    const char* const got = text_.describe_value();
    if (got == nullptr) return false;
    const std::string_view name = clip(spec_.name);
    const bool is_text = spec_.dtype == DType::kBytes;
    text_.problem.set(ProblemCode::kInvalidInput, "inputs.%.*s: data: element %llu: expected a %s%.*s, got %s",
                      static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(read_),
                      is_text ? "" : "value of ", static_cast<int>(expected_.size()), expected_.data(), got);
    return false;
  }

  JsonText& text_;
  const TensorSpec& spec_;
  const std::size_t index_;
  const std::uint64_t row_elements_;
  const std::uint64_t count_;
  RowsSink& rows_;
  std::uint64_t read_ = 0;

 private:
  // The list whose bracket is at the cursor.
  [[nodiscard]] bool read_list(std::size_t depth) {
    if (depth == kNestingMax) return text_.refuse_at(text_.at, "no deeper nesting than 64");
    ++text_.at;
    if (text_.consume(']')) return true;
    do {
      text_.skip_space();
      const bool nested = text_.at != text_.end && *text_.at == '[';
      if (nested ? !read_list(depth + 1) : !static_cast<Reader&>(*this).read_one()) return false;
    } while (text_.consume(','));
    return text_.expect(']', "',' or ']' behind an element");
  }

  const std::string_view expected_;
};

template <typename T>
class NumberReader : public ListReader<NumberReader<T>> {
  using Base = ListReader<NumberReader<T>>;

 public:
  NumberReader(JsonText& text, const TensorSpec& spec, std::size_t index, const InferTensors& tensors,
               RowsSink& rows) noexcept
      : Base(text, spec, index, tensors, rows, name_of(spec.dtype)) {}

  [[nodiscard]] bool read_one() {
    JsonText& text = this->text_;
    T value{};
    const char* const next = read_element(text.at, text.end, value);
    if (next == nullptr) [[unlikely]]
      return this->refuse_element();
    text.at = next;
    if (this->read_ < this->count_) {  // others are only counted
      if (left_in_row_ == 0) {
        out_ = this->rows_.place(this->index_, row_++);
        left_in_row_ = this->row_elements_;
      }
      std::memcpy(out_, &value, sizeof(T));
      out_ += sizeof(T);
      --left_in_row_;
    }
    ++this->read_;
    return true;
  }

 private:
  std::uint64_t left_in_row_ = 0;
  std::uint32_t row_ = 0;
  std::byte* out_ = nullptr;
};

class StringReader : public ListReader<StringReader> {
 public:
  StringReader(JsonText& text, const TensorSpec& spec, std::size_t index, const InferTensors& tensors,
               RowsSink& rows) noexcept
      : ListReader(text, spec, index, tensors, rows, "string") {}

  [[nodiscard]] bool read_one() {
    if (text_.at == text_.end || *text_.at != '"') return refuse_element();
    if (read_ == count_) {
      text_.problem.set(ProblemCode::kInvalidInput, "inputs.%.*s: data: more elements than its shape has",
                        static_cast<int>(clip(spec_.name).size()), spec_.name.data());
      return false;
    }
    if (read_ % row_elements_ == 0) {
      finish_row();
      writer_.emplace(spec_, rows_.place(index_, static_cast<std::uint32_t>(read_ / row_elements_)));
    }
    if (!writer_.has_value()) return false;  // never: the first element of each row makes one
    bool full = false;
    const std::optional<std::uint32_t> bytes = text_.read_text(writer_->free(), writer_->left(), full);
    if (!bytes.has_value()) {
      if (full) refuse_text(text_.problem, TensorPlace{spec_, true, {}}, 0);
      return false;
    }
    writer_->commit(read_++ % row_elements_, *bytes);
    if (read_ == count_) finish_row();
    return true;
  }

 private:
  void finish_row() noexcept {
    if (writer_.has_value()) writer_->finish();
  }

  std::optional<TextWriter> writer_;
};

// Strings of the binary extension: each behind its length, four bytes, little-endian.
bool copy_binary_texts(std::string_view bytes, const TensorSpec& spec, std::size_t index, const InferTensors& tensors,
                       RowsSink& rows, Problem& problem) {
  const std::uint64_t elements = row_elements(spec, tensors);
  if (!rows.allocate(index, problem)) return false;
  const std::string_view name = clip(spec.name);
  for (std::uint32_t row = 0; row < tensors.rows; ++row) {
    TextWriter writer(spec, rows.place(index, row));
    for (std::uint64_t element = 0; element < elements; ++element) {
      std::uint32_t length = 0;
      const bool has_head = bytes.size() >= sizeof length;
      if (has_head) std::memcpy(&length, bytes.data(), sizeof length);
      if (!has_head || bytes.size() - sizeof length < length) {
        problem.set(ProblemCode::kInvalidInput, "inputs.%.*s: its binary data ends within string %llu of row %u",
                    static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(element), row);
        return false;
      }
      if (!writer.append(element, bytes.substr(sizeof length, length))) {
        refuse_text(problem, TensorPlace{spec, true, {}}, 0);
        return false;
      }
      bytes.remove_prefix(sizeof length + length);
    }
    writer.finish();
  }
  if (bytes.empty()) return true;
  problem.set(ProblemCode::kInvalidInput, "inputs.%.*s: binary_data_size: %zu bytes more than its strings have",
              static_cast<int>(name.size()), name.data(), bytes.size());
  return false;
}

}  // namespace

std::uint64_t row_elements(const TensorSpec& spec, const InferTensors& tensors) noexcept {
  return spec.varies ? spec.elements() / spec.shape.front() * tensors.length : spec.elements();
}

bool read_infer_data(JsonText& text, const TensorSpec& spec, std::size_t index, const InferTensors& tensors,
                     RowsSink& rows) {
  if (spec.dtype == DType::kBytes) return StringReader(text, spec, index, tensors, rows).read();
  return with_element_type(spec.dtype, [&]<typename T>(std::type_identity<T>) {
    return NumberReader<T>(text, spec, index, tensors, rows).read();
  });
}

bool refer_infer_data(std::string_view bytes, const TensorSpec& spec, std::size_t index, const InferTensors& tensors,
                      RowsSink& rows, Problem& problem) {
  if (spec.dtype == DType::kBytes) return copy_binary_texts(bytes, spec, index, tensors, rows, problem);
  const std::uint64_t row_bytes = row_elements(spec, tensors) * size_of(spec.dtype);
  const std::string_view name = clip(spec.name);
  if (bytes.size() / tensors.rows != row_bytes || bytes.size() % tensors.rows != 0) {
    problem.set(ProblemCode::kInvalidInput,
                "inputs.%.*s: binary_data_size: expected %u rows of %llu bytes, got %zu bytes",
                static_cast<int>(name.size()), name.data(), tensors.rows, static_cast<unsigned long long>(row_bytes),
                bytes.size());
    return false;
  }
  if (spec.dtype == DType::kBool &&
      std::ranges::any_of(bytes, [](char byte) { return static_cast<unsigned char>(byte) > 1; })) {
    problem.set(ProblemCode::kInvalidInput, "inputs.%.*s: expected bytes that are 0 or 1 (BOOL), got another",
                static_cast<int>(name.size()), name.data());
    return false;
  }
  rows.refer(index, {reinterpret_cast<const std::byte*>(bytes.data()), static_cast<std::size_t>(row_bytes)});
  return true;
}

}  // namespace penstock::dataplane
