// What reading a tensor from nested lists has in common, whatever they are written in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/codec_request.hpp"
#include "codec/codec_text.hpp"

namespace penstock::dataplane {

// What is read, where it goes and how far it is. `Text` is the body at its cursor, with the problem that is found.
template <class Text>
class TensorReaderBase {
 public:
  TensorReaderBase(Text& text, const TensorSpec& spec, bool named, std::byte* out, std::uint32_t& length) noexcept
      : text_(text), place_{spec, named, {}}, out_(out), length_(length) {}

 protected:
  // Reads a tensor of strings by `read`, which finds where they go in `texts_`.
  template <class Read>
  [[nodiscard]] bool with_texts(Read&& read) noexcept {
    TextWriter texts(place_.spec, out_);
    texts_ = &texts;
    if (!read()) return false;
    texts.finish();
    return true;
  }

  Text& text_;
  TensorPlace place_;
  std::byte* out_;
  std::uint32_t& length_;
  TextWriter* texts_ = nullptr;  // of a tensor of strings
  std::uint64_t next_text_ = 0;
};

// Reads one tensor with a reader made for it. `length` is that of a row that varies.
template <class Reader, class Text>
[[nodiscard]] bool read_tensor(Text& text, const TensorSpec& spec, bool named, std::byte* out,
                               std::uint32_t& length) noexcept {
  if (spec.shape.size() > kRankMax) {
    text.problem.set(ProblemCode::kInternalError, "the model's input has more dimensions than the codecs support");
    return false;
  }
  if (spec.varies) length = spec.shape.front();  // unless it says less, or ends early
  return Reader(text, spec, named, out, length).read();
}

}  // namespace penstock::dataplane
