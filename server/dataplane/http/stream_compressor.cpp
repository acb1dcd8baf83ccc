#include "http/stream_compressor.hpp"

#include <algorithm>
#include <limits>

#ifdef PENSTOCK_HAS_ZLIB
#include <zlib.h>
#endif
#ifdef PENSTOCK_HAS_ZSTD
#include <zstd.h>
#endif

namespace penstock::dataplane {
namespace {

// As for whole bodies (compression.cpp).
[[maybe_unused]] constexpr int kLevel = 1;
#ifdef PENSTOCK_HAS_ZLIB
constexpr int kGzipWindow = 15 + 16;
constexpr int kMemoryLevel = 8;
#endif
[[maybe_unused]] constexpr std::size_t kStepBytes = 32 * 1024;

}  // namespace

struct StreamCompressor::State {
#ifdef PENSTOCK_HAS_ZLIB
  z_stream gzip{};
  bool has_gzip = false;
#endif
#ifdef PENSTOCK_HAS_ZSTD
  ZSTD_CCtx* zstd = nullptr;
#endif
  explicit State([[maybe_unused]] Coding coding) noexcept {
#ifdef PENSTOCK_HAS_ZLIB
    if (coding == Coding::kGzip)
      has_gzip = ::deflateInit2(&gzip, kLevel, Z_DEFLATED, kGzipWindow, kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK;
#endif
#ifdef PENSTOCK_HAS_ZSTD
    if (coding == Coding::kZstd) {
      zstd = ::ZSTD_createCCtx();
      if (zstd != nullptr) ::ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, kLevel);
    }
#endif
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
#ifdef PENSTOCK_HAS_ZLIB
    if (has_gzip) ::deflateEnd(&gzip);
#endif
#ifdef PENSTOCK_HAS_ZSTD
    ::ZSTD_freeCCtx(zstd);
#endif
  }
};

StreamCompressor::StreamCompressor(Coding coding) : coding_(coding), state_(new State(coding)) {}
StreamCompressor::~StreamCompressor() = default;

bool StreamCompressor::write(std::string_view piece, bool last, std::string& out) {
  if (ended_) return false;
  ended_ = last;
  if (coding_ == Coding::kGzip) return write_gzip(piece, last, out);
  return coding_ == Coding::kZstd && write_zstd(piece, last, out);
}

bool StreamCompressor::write_gzip([[maybe_unused]] std::string_view piece, [[maybe_unused]] bool last,
                                  [[maybe_unused]] std::string& out) {
#ifdef PENSTOCK_HAS_ZLIB
  z_stream& stream = state_->gzip;
  if (!state_->has_gzip || piece.size() > std::numeric_limits<uInt>::max()) return false;
  // zlib does not write through it, but for old programs its type is not const.
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(piece.data()));
  stream.avail_in = static_cast<uInt>(piece.size());
  for (;;) {
    const std::size_t before = out.size();
    out.resize(before + kStepBytes);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream.avail_out = static_cast<uInt>(kStepBytes);
    const int result = ::deflate(&stream, last ? Z_FINISH : Z_SYNC_FLUSH);
    out.resize(before + kStepBytes - stream.avail_out);
    // Z_BUF_ERROR: all of it had been written, and exactly filled the room.
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return false;
    if (last ? result == Z_STREAM_END : stream.avail_out != 0) return true;
  }
#else
  return false;
#endif
}

bool StreamCompressor::write_zstd([[maybe_unused]] std::string_view piece, [[maybe_unused]] bool last,
                                  [[maybe_unused]] std::string& out) {
#ifdef PENSTOCK_HAS_ZSTD
  if (state_->zstd == nullptr) return false;
  ZSTD_inBuffer input{piece.data(), piece.size(), 0};
  for (;;) {
    const std::size_t before = out.size();
    out.resize(before + kStepBytes);
    ZSTD_outBuffer output{out.data() + before, kStepBytes, 0};
    const std::size_t left = ::ZSTD_compressStream2(state_->zstd, &output, &input, last ? ZSTD_e_end : ZSTD_e_flush);
    out.resize(before + output.pos);
    if (::ZSTD_isError(left) != 0) return false;
    if (left == 0) return true;
  }
#else
  return false;
#endif
}

}  // namespace penstock::dataplane
