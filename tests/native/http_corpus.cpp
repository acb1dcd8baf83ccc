// Every input that the fuzz targets found worth keeping, without libFuzzer: tests/native/corpus/http_*.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "http_fuzz.hpp"

namespace {

template <typename Property>
void replay(const char* folder, Property property) {
  const auto corpus = std::filesystem::path(PENSTOCK_CORPUS) / folder;
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    std::ifstream file(entry.path(), std::ios::binary);
    property(std::string(std::istreambuf_iterator<char>(file), {}));
    ++files;
  }
  std::printf("%s: %zu inputs\n", folder, files);
  CHECK(files > 0);
}

}  // namespace

int main() {
  replay("http_head", penstock::test::fuzz_head);
  replay("http_chunked", penstock::test::fuzz_chunked);
  replay("http_texts", penstock::test::fuzz_texts);
  replay("http_compression", penstock::test::fuzz_compression);
  return 0;
}
