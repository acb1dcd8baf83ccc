// A row to decode into, guarded on both sides, and bodies that end where their memory ends.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "check.hpp"
#include "codec/codec.hpp"

namespace penstock::test {

// Resolves every name but "missing" to one schema, and remembers what it was asked.
class RowFixture final : public dataplane::RowResolver {
 public:
  static constexpr std::size_t kNameBytesMax = 512;  // a longer name is remembered by its beginning

  explicit RowFixture(ModelSchema schema) : schema_(std::move(schema)), bytes_(schema_.inputs.bytes()) {
    memory_ = static_cast<std::byte*>(::operator new(bytes_ + 2 * kGuard, std::align_val_t{kTensorAlignment}));
    clear();
  }
  ~RowFixture() { ::operator delete(memory_, std::align_val_t{kTensorAlignment}); }
  RowFixture(const RowFixture&) = delete;
  RowFixture& operator=(const RowFixture&) = delete;

  dataplane::RowTarget resolve(std::string_view model, std::string_view version, dataplane::Problem& problem) override {
    ++calls_;
    if (model == "missing") {
      problem.set(dataplane::ProblemCode::kModelNotFound, "no such model");
      return {};
    }
    model_bytes_ = copy(model, model_);
    version_bytes_ = copy(version, version_);
    set_record(plan_);
    return {&schema_, row()};
  }

  void clear() {
    calls_ = 0;
    model_bytes_ = version_bytes_ = 0;
    std::memset(memory_, kFill, bytes_ + 2 * kGuard);
  }

  void set_plan(const dataplane::RecordPlan* plan) { plan_ = plan; }
  [[nodiscard]] const ModelSchema& schema() const { return schema_; }
  [[nodiscard]] std::byte* row() const { return memory_ + kGuard; }
  [[nodiscard]] std::size_t row_bytes() const { return bytes_; }
  [[nodiscard]] std::string_view model() const { return {model_, model_bytes_}; }
  [[nodiscard]] std::string_view version() const { return {version_, version_bytes_}; }
  [[nodiscard]] int calls() const { return calls_; }

  // Nothing in front of the row, behind it, or between its tensors was written; nor, of a row that was taken, behind
  // the last element of a tensor that varies.
  [[nodiscard]] bool guards_hold(bool taken) const {
    std::size_t next = 0;
    for (std::size_t i = 0; i < schema_.inputs.size(); ++i) {
      const std::size_t first = kGuard + schema_.inputs.offset(i);
      if (!untouched(next, first)) return false;
      const TensorSpec& tensor = schema_.inputs.tensors()[i];
      next = first + tensor.bytes();
      if (tensor.varies && taken) next = first + tensor.bytes_of_length(length());
    }
    return untouched(next, bytes_ + 2 * kGuard);
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr int kFill = 0xCD;

  [[nodiscard]] bool untouched(std::size_t first, std::size_t last) const {
    for (std::size_t i = first; i < last; ++i) {
      if (memory_[i] != std::byte{kFill}) return false;
    }
    return true;
  }

  static std::size_t copy(std::string_view from, char (&to)[kNameBytesMax]) {
    const std::size_t bytes = from.size() < sizeof(to) ? from.size() : sizeof(to);
    if (bytes != 0) std::memcpy(to, from.data(), bytes);
    return bytes;
  }

  ModelSchema schema_;
  const dataplane::RecordPlan* plan_ = nullptr;
  std::size_t bytes_;
  std::byte* memory_ = nullptr;
  char model_[kNameBytesMax];
  char version_[kNameBytesMax];
  std::size_t model_bytes_ = 0;
  std::size_t version_bytes_ = 0;
  int calls_ = 0;
};

// A copy of `text` in memory of its own size: a sanitizer sees a read behind the last byte.
class ExactBody {
 public:
  explicit ExactBody(std::string_view text) : bytes_(new char[text.size()]), size_(text.size()) {
    if (size_ != 0) std::memcpy(bytes_.get(), text.data(), size_);
  }
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t size_;
};

inline bool decode(dataplane::Encoding encoding, std::string_view body, const dataplane::QueryNames& names,
                   dataplane::RowResolver& resolver, dataplane::Problem& problem) {
  switch (encoding) {
    case dataplane::Encoding::kJson:
      return dataplane::decode_json(body, names, resolver, problem);
    case dataplane::Encoding::kMsgpack:
      return dataplane::decode_msgpack(body, names, resolver, problem);
    case dataplane::Encoding::kRaw:
      return dataplane::decode_raw(body, names, resolver, problem);
  }
  return false;
}

}  // namespace penstock::test
