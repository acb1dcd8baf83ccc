// Content-Encoding and Accept-Encoding, and what becomes of bodies that are damaged, cut, foreign or far too long.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "http/compression.hpp"
#include "http/content_coding.hpp"

namespace {

using namespace penstock::dataplane;
using Status = Decompressor::Status;

RequestHead with_accept(std::string_view value) {
  RequestHead head;
  head.accept_encoding = value;
  head.accept_encoding_fields = 1;
  return head;
}

Coding if_built(Coding coding, Coding otherwise = Coding::kIdentity) { return is_built(coding) ? coding : otherwise; }

void test_content_encoding() {
  CHECK(parse_content_encoding("") == Coding::kIdentity);
  CHECK(parse_content_encoding("Identity") == Coding::kIdentity);
  CHECK(parse_content_encoding("gzip") == if_built(Coding::kGzip, Coding::kUnknown));
  CHECK(parse_content_encoding("X-GZip") == if_built(Coding::kGzip, Coding::kUnknown));
  CHECK(parse_content_encoding("ZSTD") == if_built(Coding::kZstd, Coding::kUnknown));
  for (const char* other : {"br", "deflate", "gzip, gzip", "gzip,", "gzip ", "compress", "*", "zstd;q=1", "gzi"})
    CHECK(parse_content_encoding(other) == Coding::kUnknown);
}

void test_accept_encoding() {
  const auto chosen = [](std::string_view value) { return negotiate_coding(with_accept(value)).coding; };
  const Coding best = if_built(Coding::kZstd, if_built(Coding::kGzip));
  CHECK(negotiate_coding(RequestHead{}).coding == Coding::kIdentity);
  for (const char* none : {"", ",", "identity", "br", "deflate, br", "gzip;q=0", "gzip;q=0.000, zstd;q=0", "gzip;q=2",
                           "gzip;q=-1", "gzip;q=", "gzip;level=1", "*;q=0", "identity;q=0", "gzipp", "gzip q=1"}) {
    CHECK(chosen(none) == Coding::kIdentity);
  }
  CHECK(chosen("gzip") == if_built(Coding::kGzip));
  CHECK(chosen(" GZIP ; Q=0.5 ") == if_built(Coding::kGzip));
  CHECK(chosen("x-gzip, deflate, br") == if_built(Coding::kGzip));
  CHECK(chosen("gzip, zstd") == best);
  CHECK(chosen("*") == best);
  CHECK(chosen("gzip;q=0.9, zstd;q=0.8") == if_built(Coding::kGzip, if_built(Coding::kZstd)));
  CHECK(chosen("*, zstd;q=0") == if_built(Coding::kGzip));
  CHECK(chosen("gzip;q=0.5, identity") == Coding::kIdentity);
  CHECK(chosen("gzip;q=0.5, identity;q=0.4") == if_built(Coding::kGzip));
  CHECK(chosen("gzip, identity") == if_built(Coding::kGzip));  // it was named, so it is wanted
  CHECK(chosen("gzip;q=0.001, *;q=0") == if_built(Coding::kGzip));
  // The same name twice: the better one, as for Accept.
  CHECK(chosen("gzip;q=0, gzip") == if_built(Coding::kGzip));

  CHECK(negotiate_coding(with_accept("identity;q=0, gzip")).identity_refused);
  CHECK(negotiate_coding(with_accept("*;q=0, gzip")).identity_refused);
  CHECK(!negotiate_coding(with_accept("*;q=0, identity;q=0.1")).identity_refused);
  CHECK(!negotiate_coding(with_accept("gzip")).identity_refused);

  RequestHead several;
  several.accept_encoding = "br";
  several.accept_encoding_fields = 2;
  several.fields = "Accept-Encoding: br\r\nHost: a\r\naccept-encoding:  gzip\r\n";
  CHECK(negotiate_coding(several).coding == if_built(Coding::kGzip));
}

std::string numbers(std::size_t count) {
  std::string text = "[";
  for (std::size_t i = 0; i < count; ++i) text += std::to_string((i * 2654435761U) % 1000003) + ",";
  return text + "0]";
}

std::string compressed(Coding coding, std::string_view body) {
  Compressor compressor;
  std::string out(body.size() + 4096, '\0');
  const std::size_t bytes = compressor.compress(coding, body, out.data(), out.size());
  CHECK(bytes > 0);
  out.resize(bytes);
  return out;
}

struct Decoded {
  Status status = Status::kFull;
  std::string text;
};

// In steps of `room` bytes, and no more than `bytes_max`.
Decoded decoded(Decompressor& decompressor, Coding coding, std::string_view in, std::size_t room,
                std::size_t bytes_max = 1 << 24) {
  CHECK(decompressor.start(coding));
  Decoded result;
  std::vector<char> out(room);
  while (result.status == Status::kFull && result.text.size() < bytes_max) {
    const Decompressor::Step step = decompressor.decode(in, out.data(), room);
    CHECK(step.consumed <= in.size() && step.produced <= room);
    in.remove_prefix(step.consumed);
    result.text.append(out.data(), step.produced);
    result.status = step.status;
  }
  return result;
}

void test_round_trips(Coding coding) {
  Compressor compressor;
  Decompressor decompressor;  // one for all of them, as a loop has it
  for (const std::size_t count : {0U, 1U, 10U, 1000U, 100000U}) {
    const std::string body = numbers(count);
    const std::string packed = compressed(coding, body);
    for (const std::size_t room : {std::size_t{1}, std::size_t{7}, std::size_t{4096}, body.size(), body.size() + 1}) {
      if (room < 100 && count > 1000) continue;
      const Decoded result = decoded(decompressor, coding, packed, room);
      CHECK(result.status == Status::kDone && result.text == body);
    }
    // No more than there is room for, whatever it takes.
    std::string out(packed.size(), '\0');
    CHECK(compressor.compress(coding, body, out.data(), packed.size() - 1) == 0);
    CHECK(compressor.compress(coding, body, out.data(), packed.size()) == packed.size() || coding == Coding::kZstd);
    const std::string twice = packed + packed;  // members and frames one after the other are one body
    const Decoded both = decoded(decompressor, coding, twice, 1000);
    CHECK(both.status == Status::kDone && both.text == body + body);
    CHECK(decoded(decompressor, coding, packed + "x", 1000).status == Status::kForeign);
  }
  CHECK(decoded(decompressor, coding, "", 100).status == Status::kCut);
}

void test_cut_and_damaged(Coding coding) {
  Decompressor decompressor;
  const std::string body = numbers(300);
  const std::string packed = compressed(coding, body);
  for (std::size_t bytes = 0; bytes < packed.size(); ++bytes)
    CHECK(decoded(decompressor, coding, std::string_view(packed).substr(0, bytes), 4096).status == Status::kCut);
  std::size_t unnoticed = 0;
  for (std::size_t at = 0; at < packed.size(); ++at) {
    for (const int bit : {0, 3, 7}) {
      std::string damaged = packed;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const Decoded result = decoded(decompressor, coding, damaged, 512, 1 << 20);
      if (result.status == Status::kDone) ++unnoticed;
    }
  }
  // gzip has bytes that mean nothing (time, system); a frame of zstd has no checksum unless it is asked for.
  if (coding == Coding::kGzip) CHECK(unnoticed <= 3 * 10);
  CHECK(decoded(decompressor, coding, body, 4096).status == Status::kDamaged);
  // A good one after all the bad ones.
  CHECK(decoded(decompressor, coding, packed, 4096).text == body);
}

// Hundreds to one, and no more is written than there is room for.
void test_bomb(Coding coding) {
  Decompressor decompressor;
  const std::string packed = compressed(coding, std::string(32 << 20, ' '));
  CHECK(packed.size() < (32 << 20) / 200);
  const Decoded result = decoded(decompressor, coding, packed, 1000, 100'000);
  CHECK(result.status == Status::kFull && result.text.size() == 100'000);
}

void test_announced() {
  const std::string body = numbers(1000);
  for (const Coding coding : {Coding::kGzip, Coding::kZstd}) {
    if (!is_built(coding)) continue;
    CHECK(announced_bytes(coding, compressed(coding, body)) == body.size());
    CHECK(announced_bytes(coding, "") == 0);
    CHECK(announced_bytes(coding, "abc") == 0);
  }
  // Whatever the last four bytes of a body claim, deflate does not reach it.
  if (is_built(Coding::kGzip)) CHECK(announced_bytes(Coding::kGzip, std::string(20, '\xff')) <= 20 * 1032);
}

}  // namespace

int main() {
  test_content_encoding();
  test_accept_encoding();
  for (const Coding coding : {Coding::kGzip, Coding::kZstd}) {
    if (!is_built(coding)) continue;
    test_round_trips(coding);
    test_cut_and_damaged(coding);
    test_bomb(coding);
  }
  test_announced();
}
