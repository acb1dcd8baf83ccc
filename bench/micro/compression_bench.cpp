// What gzip and zstd cost for replies of numbers printed as JSON, by the length of the body, as the server uses them.
#include <chrono>
#include <cstdio>
#include <random>
#include <string>

#include "http/compression.hpp"

namespace {

using namespace penstock::dataplane;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kBytesEach = 20'000'000;  // through each coding and direction

std::string reply_of(std::size_t count) {
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  std::string body = R"({"model":"m","version":"1","outputs":{"y":[)";
  for (std::size_t i = 0; i < count; ++i) {
    char text[32];
    std::snprintf(text, sizeof text, "%s%.7g", i == 0 ? "" : ",", normal(random));
    body += text;
  }
  return body + "]}}";
}

template <class Work>
double us_of(std::size_t rounds, Work&& work) {
  const Clock::time_point begin = Clock::now();
  for (std::size_t i = 0; i < rounds; ++i) work();
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / static_cast<double>(rounds);
}

void measure(Coding coding, const std::string& body) {
  Compressor compressor;
  Decompressor decompressor;
  std::string packed(body.size() + 1024, '\0');
  std::string unpacked(body.size() + 1, '\0');
  const std::size_t rounds = kBytesEach / body.size();
  std::size_t bytes = compressor.compress(coding, body, packed.data(), packed.size());
  const double compress_us =
      us_of(rounds, [&] { bytes = compressor.compress(coding, body, packed.data(), packed.size()); });
  bool whole = true;
  const double decompress_us = us_of(rounds, [&] {
    whole = whole && decompressor.start(coding) &&
            decompressor.decode({packed.data(), bytes}, unpacked.data(), unpacked.size()).produced == body.size();
  });
  std::printf("%8zu B  %s  %8zu B (%.2f)  compress %8.1f us  decompress %8.1f us%s\n", body.size(),
              name_of(coding).data(), bytes, static_cast<double>(bytes) / static_cast<double>(body.size()), compress_us,
              decompress_us, whole ? "" : "  WRONG");
}

}  // namespace

int main() {
  for (const std::size_t count : {20U, 50U, 100U, 200U, 800U, 1600U, 6000U}) {
    const std::string body = reply_of(count);
    for (const Coding coding : {Coding::kGzip, Coding::kZstd}) {
      if (is_built(coding)) measure(coding, body);
    }
  }
}
