// Content codings of streams for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>

#include "http/compression.hpp"
#include "http/stream_compressor.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::dataplane {
namespace {

constexpr std::size_t kOutBytesMax = 1 << 20;

std::string_view view_of(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

Coding coding_of(std::string_view name) {
  const Coding coding = parse_content_encoding(name);
  if (coding != Coding::kGzip && coding != Coding::kZstd) throw std::invalid_argument("gzip or zstd");
  return coding;
}

const char* name_of(Decompressor::Status status) noexcept {
  switch (status) {
    case Decompressor::Status::kDone:
      return "done";
    case Decompressor::Status::kFull:
      return "full";
    case Decompressor::Status::kCut:
      return "cut";
    case Decompressor::Status::kForeign:
      return "foreign";
    case Decompressor::Status::kWindowTooLarge:
      return "window";
    case Decompressor::Status::kNoMemory:
      return "memory";
    default:
      return "damaged";
  }
}

class BodyDecoder {
 public:
  explicit BodyDecoder(std::string_view coding) {
    if (!decompressor_.start(coding_of(coding))) throw std::bad_alloc();
  }

  std::tuple<nb::bytes, std::size_t, std::string> decode(const nb::bytes& piece, std::size_t begin,
                                                         std::size_t bytes_max) {
    const std::string_view in = view_of(piece).substr(std::min(begin, piece.size()));
    std::string out(std::min(bytes_max, kOutBytesMax), '\0');
    Decompressor::Step step{};
    {
      const nb::gil_scoped_release others_run;
      step = decompressor_.decode(in, out.data(), out.size());
    }
    return {nb::bytes(out.data(), step.produced), step.consumed, name_of(step.status)};
  }

 private:
  Decompressor decompressor_;
};

class BodyEncoder {
 public:
  explicit BodyEncoder(std::string_view coding) : compressor_(coding_of(coding)) {}

  nb::bytes encode(const nb::bytes& piece, bool last) {
    std::string out;
    bool written = false;
    {
      const nb::gil_scoped_release others_run;
      written = compressor_.write(view_of(piece), last, out);
    }
    if (!written) throw std::runtime_error("no memory to compress with, or the end was written already");
    return nb::bytes(out.data(), out.size());
  }

 private:
  StreamCompressor compressor_;
};

}  // namespace

void bind_coding(nb::module_& module);  // for bindings.cpp

void bind_coding(nb::module_& module) {
  nb::class_<BodyDecoder>(module, "BodyDecoder",
                          "Decompresses one body of gzip or zstd as it comes. From one thread at a time.")
      .def(nb::init<std::string_view>(), "coding"_a)
      .def(
          "decode", &BodyDecoder::decode, "piece"_a, "begin"_a, "bytes_max"_a,
          "What `piece` from `begin` on becomes, up to 1 MiB; how much of it that took; and what follows: 'full' (call "
          "again with the rest), 'cut' (more must come), 'done' (more may come), or what is wrong: 'damaged', "
          "'foreign', 'window', 'memory'.");
  nb::class_<BodyEncoder>(module, "BodyEncoder",
                          "Compresses one body with gzip or zstd as it is made. From one thread at a time.")
      .def(nb::init<std::string_view>(), "coding"_a)
      .def("encode", &BodyEncoder::encode, "piece"_a, "last"_a,
           "All of the piece, readable at the other end; with `last` the end of the body.");
}

}  // namespace penstock::dataplane
