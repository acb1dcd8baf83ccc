// Tensors of strings in fixed storage: a heap of TensorSpec::heap_bytes, then a descriptor of 8 bytes for each element.
//
// The heap comes first, so that the storage of a row that varies in length is a prefix of the longest one's. Offsets
// count from the start of the heap. Strings are bytes of any value; what they mean is up to who reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "penstock/kernels/row_layout.hpp"

namespace penstock {

// Where a string lies, as shared memory has it.
struct TextSpan {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
};
static_assert(sizeof(TextSpan) == kTextSpanBytes);

// Fills the storage of a tensor, each element once and in any order. An element that is never written keeps what the
// storage had: begin with zeroed storage, or write them all.
class TextWriter {
 public:
  // `storage` has spec.bytes() bytes.
  TextWriter(const TensorSpec& spec, std::byte* storage) noexcept
      : heap_(storage), spans_(storage + spec.heap_bytes), heap_bytes_(spec.heap_bytes) {}

  // False, and nothing was written: the heap is full.
  [[nodiscard]] bool append(std::uint64_t element, std::string_view text) noexcept {
    if (text.size() > left()) return false;
    if (!text.empty()) std::memcpy(heap_ + used_, text.data(), text.size());
    commit(element, static_cast<std::uint32_t>(text.size()));
    return true;
  }

  // For text that is made where it will lie: write at most left() bytes at free(), then commit() them.
  [[nodiscard]] char* free() noexcept { return reinterpret_cast<char*>(heap_ + used_); }
  [[nodiscard]] std::uint32_t left() const noexcept { return heap_bytes_ - used_; }
  void commit(std::uint64_t element, std::uint32_t bytes) noexcept {
    const TextSpan span{used_, bytes};
    std::memcpy(spans_ + element * sizeof span, &span, sizeof span);
    used_ += bytes;
  }

  // Zeroes what is left of the heap, so that equal strings are equal storage, and nothing of an earlier row goes on.
  void finish() noexcept { std::memset(heap_ + used_, 0, left()); }

 private:
  std::byte* heap_;
  std::byte* spans_;
  std::uint32_t heap_bytes_;
  std::uint32_t used_ = 0;
};

// String `element` of a tensor. False: its descriptor points outside the heap, which only memory that others write can
// make it do. The view is valid as long as the storage. Strings may overlap: to copy them into a buffer of a bounded
// size, read them with TextReader.
[[nodiscard]] inline bool text_at(const TensorSpec& spec, const std::byte* storage, std::uint64_t element,
                                  std::string_view& out) noexcept {
  TextSpan span;
  std::memcpy(&span, storage + spec.heap_bytes + element * sizeof span, sizeof span);
  if (span.offset > spec.heap_bytes || span.bytes > spec.heap_bytes - span.offset) return false;
  out = {reinterpret_cast<const char*>(storage) + span.offset, span.bytes};
  return true;
}

// The strings of a tensor from the first on. What it gives has spec.heap_bytes bytes together at most, whatever the
// storage says.
class TextReader {
 public:
  TextReader(const TensorSpec& spec, const std::byte* storage) noexcept
      : spec_(spec), storage_(storage), left_(spec.heap_bytes) {}

  // Not more often than the tensor has elements. False: the descriptor is wrong.
  [[nodiscard]] bool next(std::string_view& out) noexcept {
    if (!text_at(spec_, storage_, next_, out) || out.size() > left_) return false;
    left_ -= static_cast<std::uint32_t>(out.size());
    ++next_;
    return true;
  }

 private:
  const TensorSpec& spec_;
  const std::byte* storage_;
  std::uint32_t left_;
  std::uint64_t next_ = 0;
};

}  // namespace penstock
