// Valid bodies, mutated at random from a fixed seed: every one is taken or refused, and nothing else happens.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "codec_hostile.hpp"

namespace {

using penstock::dataplane::Encoding;
using namespace std::string_view_literals;

constexpr int kMutations = 150000;

std::size_t below(std::size_t bound) {
  static std::mt19937 engine(7);
  return engine() % bound;
}

constexpr std::string_view kJsonBodies[] = {
    R"({"inputs":[1,0,3]})",
    R"({"inputs":[1,2.5,-3e-7]})",
    R"({"inputs":{"x":["NaN",2,"-Infinity"]},"model":"\u00e9\ud83d\ude00"})",
    R"({"model":"digits","version":"1","inputs":[true,false,true]})",
    R"( { "inputs" : [[[1 , 2]], [[3,4]]] , "version":"latest"} )",
    R"({"inputs":{"y":1e-5,"x":[true,false],"\u00e9\n":[[18446744073709551615,0]]},"version":"2"})",
    R"({"inputs":[[],[]]})",
    R"({"inputs":{"x":[[1,2],[3,4]],"y":[true,false],"z":1}})",
    R"({"inputs":[7,-8]})",
    R"({"inputs":["a\u00e9\ud83d\ude00","","\"\n\u0000"]})",
    R"({"inputs":{"x":[["a","b"],["","cd"]],"y":"1234567\u0041"}})",
    R"({"inputs":0.1000000000000000055511151231257827})",
};

constexpr std::string_view kMsgpackBodies[] = {
    "\x81\xa6inputs\x93\x01\x02\x03"sv,
    "\x82\xa6inputs\x93\xca\x3f\x80\x00\x00\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x05\xa5model\xa1m"sv,
    "\x82\xa5model\xa1m\xa6inputs\x81\xa1x\xc4\x03\x01\x00\x01"sv,
    "\x81\xa6inputs\x93\xc2\xc3\xc3"sv,
    "\x81\xa6inputs\x92\x91\x92\x01\xd1\xff\x00\x91\x92\xd2\x80\x00\x00\x00\x04"sv,
    "\x82\xa7version\xa1\x31\xa6inputs\x83\xa1x\x92\xc3\xc2\xa1y\xca\x3f\x80\x00\x00\xa3\xc3\xa9\n\x91\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x00"sv,
    "\x81\xa6inputs\x92\x90\x90"sv,
    "\x81\xa6inputs\x83\xa1x\x91\x92\x01\x02\xa1y\xc4\x01\x01\xa1z\x05"sv,
    "\x81\xa6inputs\x92\x07\x08"sv,
    "\x81\xa6inputs\x93\xa2hi\xc4\x02\xff\x00\xa0"sv,
    "\x81\xa6inputs\x82\xa1x\x91\x92\xa1"
    "a\xa1"
    "b\xa1y\xd9\x03xyz"sv,
};

constexpr std::string_view kRawBodies[] = {"\x01\x00\x01"sv, "\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00"sv};

constexpr std::string_view kPieces[] = {"{"sv,
                                        "}"sv,
                                        "["sv,
                                        "]"sv,
                                        ","sv,
                                        ":"sv,
                                        "\""sv,
                                        "\\"sv,
                                        " "sv,
                                        "null"sv,
                                        "\"NaN\""sv,
                                        "-"sv,
                                        "0"sv,
                                        "1e400"sv,
                                        "99999999"sv,
                                        "\"model\""sv,
                                        "\\u00e9"sv,
                                        "\xff"sv,
                                        "\0"sv,
                                        "\xc1"sv,
                                        "\x93"sv,
                                        "\x81"sv,
                                        "\xc6\x00\x00\x00\x0c"sv,
                                        "\xdd\xff\xff\xff\xff"sv,
                                        "\xa1x"sv,
                                        "\xcf"sv};

std::string mutate(std::string body) {
  for (std::size_t count = 1 + below(3); count != 0; --count) {
    const std::size_t at = below(body.size() + 1);
    const std::size_t removed = std::min(body.size() - at, below(3) == 0 ? below(6) : below(2));
    std::string piece;
    if (below(3) == 0) piece = kPieces[below(std::size(kPieces))];
    if (below(3) == 0) piece = static_cast<char>(below(256));
    if (below(6) == 0) piece = body.substr(at, below(10));
    body.replace(at, removed, piece);
  }
  return body;
}

void run(Encoding encoding, std::span<const std::string_view> bodies) {
  const auto fixtures = penstock::test::hostile_fixtures();
  int taken = 0;
  for (int i = 0; i < kMutations; ++i) {
    const std::string_view body = bodies[below(bodies.size())];
    auto& fixture = *fixtures[below(fixtures.size())];
    taken +=
        penstock::test::check_hostile(encoding, fixture, i % 8 == 0 ? std::string(body) : mutate(std::string(body)));
  }
  std::printf("%d of %d bodies taken\n", taken, kMutations);
  CHECK(taken > kMutations / 100 && taken < kMutations);
}

}  // namespace

int main() {
  run(Encoding::kJson, kJsonBodies);
  run(Encoding::kMsgpack, kMsgpackBodies);
  run(Encoding::kRaw, kRawBodies);
  return 0;
}
