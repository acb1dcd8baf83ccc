// What tests of calls with many messages send and read: requests of ModelStreamInfer, and the answers to them.
#pragma once

#include <cstring>

#include "codec/proto_reader.hpp"
#include "grpc_calls.hpp"

namespace penstock::test {

using dataplane::ProtoField;
using dataplane::ProtoReader;

inline constexpr const char* kStream = "/inference.GRPCInferenceService/ModelStreamInfer";

struct Answer {
  std::string error, model, id, raw;
  bool is_final = false;
};

inline Answer read_answer(const std::string& bytes) {
  Answer answer;
  ProtoReader reader(bytes);
  ProtoField each;
  while (reader.next(each)) {
    if (each.is_bytes(1)) answer.error = each.bytes;
    if (!each.is_bytes(2)) continue;
    ProtoReader inner(each.bytes);
    ProtoField part;
    while (inner.next(part)) {
      if (part.is_bytes(1)) answer.model = part.bytes;
      if (part.is_bytes(3)) answer.id = part.bytes;
      if (part.is_bytes(4)) answer.is_final = part.bytes.find("triton_final_response") != std::string_view::npos;
      if (part.is_bytes(6)) answer.raw = part.bytes;
    }
    CHECK(!inner.is_malformed());
  }
  CHECK(!reader.is_malformed());
  return answer;
}

inline void check(const std::string& bytes, const std::string& id, float first, std::size_t elements = 4) {
  const Answer answer = read_answer(bytes);
  CHECK(answer.error.empty() && answer.id == id && answer.is_final);
  CHECK(answer.raw.size() == elements * sizeof(float));
  float value = 0;
  std::memcpy(&value, answer.raw.data(), sizeof value);
  CHECK(value == 2 * first + 1);
}

inline std::string name_of(std::size_t number) { return std::string("r").append(std::to_string(number)); }

inline std::string affine(std::size_t i) { return message("small", 1, 4, static_cast<float>(i), name_of(i)); }

// A model whose rows nobody takes.
inline std::uint32_t add_idle(Server& server) {
  batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {4}}}), RowLayout({{"y", DType::kFloat32, {4}}})};
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish({{"small", "1", 0, true, true}, {"idle", "1", idle, true, true}});
  return idle;
}

}  // namespace penstock::test
