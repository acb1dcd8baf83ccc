#include "http/compression.hpp"

#include <algorithm>
#include <limits>
#include <new>

#ifdef PENSTOCK_HAS_ZLIB
#include <zlib.h>
#endif
#ifdef PENSTOCK_HAS_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

namespace penstock::dataplane {
namespace {

#ifdef PENSTOCK_HAS_ZLIB
constexpr int kGzipWindow = 15 + 16;  // zlib's way of asking for gzip's frame
constexpr int kMemoryLevel = 8;
constexpr int kGzipLevel = 1;  // numbers hardly get smaller at higher levels, which take several times as long
constexpr std::size_t kGzipBytesMin = 18;  // head and trailer
constexpr std::size_t kDeflateRatioMax = 1032;

// zlib counts in 32 bits.
uInt piece_of(std::size_t bytes) noexcept {
  return static_cast<uInt>(std::min<std::size_t>(bytes, std::numeric_limits<uInt>::max()));
}

// A stream of zlib and what ends it.
template <int (*End)(z_streamp)>
struct GzipStream : z_stream {
  GzipStream() noexcept : z_stream{} {}
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;
  ~GzipStream() {
    if (is_open) End(this);
  }

  void aim(std::string_view in, char* out, std::size_t bytes_max) noexcept {
    // zlib does not write through it, but for old programs its type is not const.
    next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
    avail_in = piece_of(in.size());
    next_out = reinterpret_cast<Bytef*>(out);
    avail_out = piece_of(bytes_max);
  }

  bool is_open = false;
};
#endif

#ifdef PENSTOCK_HAS_ZSTD
constexpr int kZstdLevel = 1;
constexpr int kZstdWindowLogMax = 23;  // 8 MiB, which is what a sender may expect of a receiver (RFC 9659)

struct FreeZstd {
  void operator()(ZSTD_CCtx* context) const noexcept { ::ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const noexcept { ::ZSTD_freeDCtx(context); }
};
#endif

// Whether there is one, made for the first body.
template <class State>
bool has_state(std::unique_ptr<State>& state) noexcept {
  if (!state) state.reset(new (std::nothrow) State);
  return state != nullptr;
}

}  // namespace

// --- compressing
// --------------------------------------------------------------------------------------------------------------

struct Compressor::State {
#ifdef PENSTOCK_HAS_ZLIB
  GzipStream<&::deflateEnd> gzip;
#endif
#ifdef PENSTOCK_HAS_ZSTD
  std::unique_ptr<ZSTD_CCtx, FreeZstd> zstd;
#endif

  std::size_t compress_gzip([[maybe_unused]] std::string_view body, [[maybe_unused]] char* out,
                            [[maybe_unused]] std::size_t bytes_max) noexcept {
#ifdef PENSTOCK_HAS_ZLIB
    if (body.size() > std::numeric_limits<uInt>::max()) return 0;
    if (!gzip.is_open) {
      gzip.is_open =
          ::deflateInit2(&gzip, kGzipLevel, Z_DEFLATED, kGzipWindow, kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK;
      if (!gzip.is_open) return 0;
    }
    ::deflateReset(&gzip);
    gzip.aim(body, out, bytes_max);
    return ::deflate(&gzip, Z_FINISH) == Z_STREAM_END ? gzip.total_out : 0;
#else
    return 0;
#endif
  }

  std::size_t compress_zstd([[maybe_unused]] std::string_view body, [[maybe_unused]] char* out,
                            [[maybe_unused]] std::size_t bytes_max) noexcept {
#ifdef PENSTOCK_HAS_ZSTD
    if (!zstd) zstd.reset(::ZSTD_createCCtx());
    if (!zstd) return 0;
    const std::size_t bytes = ::ZSTD_compressCCtx(zstd.get(), out, bytes_max, body.data(), body.size(), kZstdLevel);
    return ::ZSTD_isError(bytes) != 0 ? 0 : bytes;
#else
    return 0;
#endif
  }
};

Compressor::Compressor() noexcept = default;
Compressor::~Compressor() = default;

std::size_t Compressor::compress(Coding coding, std::string_view body, char* out, std::size_t bytes_max) noexcept {
  if (!has_state(state_)) return 0;
  if (coding == Coding::kGzip) return state_->compress_gzip(body, out, bytes_max);
  return coding == Coding::kZstd ? state_->compress_zstd(body, out, bytes_max) : 0;
}

// --- decompressing
// --------------------------------------------------------------------------------------------------------------

struct Decompressor::State {
#ifdef PENSTOCK_HAS_ZLIB
  GzipStream<&::inflateEnd> gzip;
#endif
#ifdef PENSTOCK_HAS_ZSTD
  std::unique_ptr<ZSTD_DCtx, FreeZstd> zstd;
#endif
  bool ended = false;  // a member or frame has, and nothing of another was read
};

Decompressor::Decompressor() noexcept = default;
Decompressor::~Decompressor() = default;

bool Decompressor::start(Coding coding) noexcept {
  if (!has_state(state_)) return false;
  coding_ = coding;
  state_->ended = false;
#ifdef PENSTOCK_HAS_ZLIB
  if (coding == Coding::kGzip) {
    auto& gzip = state_->gzip;
    if (gzip.is_open) return ::inflateReset(&gzip) == Z_OK;
    gzip.is_open = ::inflateInit2(&gzip, kGzipWindow) == Z_OK;
    return gzip.is_open;
  }
#endif
#ifdef PENSTOCK_HAS_ZSTD
  if (coding == Coding::kZstd) {
    auto& zstd = state_->zstd;
    if (!zstd) {
      zstd.reset(::ZSTD_createDCtx());
      if (!zstd) return false;
      ::ZSTD_DCtx_setParameter(zstd.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
    }
    return ::ZSTD_isError(::ZSTD_DCtx_reset(zstd.get(), ZSTD_reset_session_only)) == 0;
  }
#endif
  return false;
}

Decompressor::Step Decompressor::decode(std::string_view in, char* out, std::size_t bytes_max) noexcept {
  if (coding_ == Coding::kGzip) return decode_gzip(in, out, bytes_max);
  if (coding_ == Coding::kZstd) return decode_zstd(in, out, bytes_max);
  return {Status::kNoMemory, 0, 0};
}

// Members one after the other are one body (RFC 1952 2.2).
Decompressor::Step Decompressor::decode_gzip([[maybe_unused]] std::string_view in, [[maybe_unused]] char* out,
                                             [[maybe_unused]] std::size_t bytes_max) noexcept {
#ifdef PENSTOCK_HAS_ZLIB
  auto& stream = state_->gzip;
  Step step{Status::kDone, 0, 0};
  for (;;) {
    const std::string_view rest = in.substr(step.consumed);
    if (state_->ended) {
      if (rest.empty()) return step;
      if (rest[0] != '\x1f') {
        step.status = Status::kForeign;
        return step;
      }
      ::inflateReset(&stream);
      state_->ended = false;
    }
    stream.aim(rest, out + step.produced, bytes_max - step.produced);
    const uInt given = stream.avail_in;
    const uInt room = stream.avail_out;
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    step.consumed += given - stream.avail_in;
    step.produced += room - stream.avail_out;
    if (result == Z_STREAM_END) {
      state_->ended = true;
      continue;
    }
    if (result == Z_MEM_ERROR) {
      step.status = Status::kNoMemory;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      step.status = Status::kDamaged;
    } else if (step.produced == bytes_max) {
      step.status = Status::kFull;
    } else if (step.consumed == in.size()) {
      step.status = Status::kCut;
    } else {
      continue;  // more than 4 GiB of either
    }
    return step;
  }
#else
  return {Status::kNoMemory, 0, 0};
#endif
}

// So are frames (RFC 8878 3).
Decompressor::Step Decompressor::decode_zstd([[maybe_unused]] std::string_view in, [[maybe_unused]] char* out,
                                             [[maybe_unused]] std::size_t bytes_max) noexcept {
#ifdef PENSTOCK_HAS_ZSTD
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  ZSTD_outBuffer output{out, bytes_max, 0};
  Status status = Status::kDone;
  std::size_t frame_end = 0;
  for (;;) {
    if (input.pos == input.size && state_->ended) break;
    const std::size_t before = input.pos + output.pos;
    const std::size_t left = ::ZSTD_decompressStream(state_->zstd.get(), &output, &input);
    if (::ZSTD_isError(left) != 0) {
      switch (::ZSTD_getErrorCode(left)) {
        case ZSTD_error_frameParameter_windowTooLarge:
          status = Status::kWindowTooLarge;
          break;
        case ZSTD_error_memory_allocation:
          status = Status::kNoMemory;
          break;
        case ZSTD_error_prefix_unknown:
          status = state_->ended ? Status::kForeign : Status::kDamaged;
          input.pos = frame_end;  // it looked at four bytes to see that they begin no frame
          break;
        default:
          status = Status::kDamaged;
      }
      break;
    }
    state_->ended = left == 0;
    if (left == 0) {
      frame_end = input.pos;
      continue;
    }
    if (output.pos == output.size) {
      status = Status::kFull;
      break;
    }
    if (input.pos == input.size && input.pos + output.pos == before) {
      status = Status::kCut;
      break;
    }
  }
  return {status, input.pos, output.pos};
#else
  return {Status::kNoMemory, 0, 0};
#endif
}

std::uint64_t announced_bytes([[maybe_unused]] Coding coding, [[maybe_unused]] std::string_view body) noexcept {
#ifdef PENSTOCK_HAS_ZLIB
  if (coding == Coding::kGzip && body.size() >= kGzipBytesMin) {
    const auto byte = [body](std::size_t i) {
      return std::uint64_t{static_cast<unsigned char>(body[body.size() - i])};
    };
    return std::min<std::uint64_t>(byte(4) | byte(3) << 8 | byte(2) << 16 | byte(1) << 24,
                                   body.size() * kDeflateRatioMax);
  }
#endif
#ifdef PENSTOCK_HAS_ZSTD
  if (coding == Coding::kZstd) {
    const unsigned long long bytes = ::ZSTD_getFrameContentSize(body.data(), body.size());
    if (bytes != ZSTD_CONTENTSIZE_UNKNOWN && bytes != ZSTD_CONTENTSIZE_ERROR) return bytes;
  }
#endif
  return 0;
}

}  // namespace penstock::dataplane
