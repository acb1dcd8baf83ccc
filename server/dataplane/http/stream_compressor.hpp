// Compresses a body while it is made, so that what has been given can be read at the other end.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "http/content_coding.hpp"

namespace penstock::dataplane {

// One body, from one thread at a time.
class StreamCompressor {
 public:
  explicit StreamCompressor(Coding coding);
  ~StreamCompressor();
  StreamCompressor(const StreamCompressor&) = delete;
  StreamCompressor& operator=(const StreamCompressor&) = delete;

  // Appends `piece` to `out`, all of it, and the end of the body with `last`. False: there is no memory, the coding is
  // not built, or the end was there already.
  [[nodiscard]] bool write(std::string_view piece, bool last, std::string& out);

 private:
  struct State;
  [[nodiscard]] bool write_gzip(std::string_view piece, bool last, std::string& out);
  [[nodiscard]] bool write_zstd(std::string_view piece, bool last, std::string& out);

  Coding coding_;
  bool ended_ = false;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::dataplane
