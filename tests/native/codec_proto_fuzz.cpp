// libFuzzer: any bytes as a ModelInferRequest of a model with tensors of several kinds.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "codec/codec_proto.hpp"

namespace {

using penstock::DType;
using penstock::RowLayout;
using namespace penstock::dataplane;

// Rows in memory of exactly their size, so that a sanitizer sees every byte too far.
class Sink final : public RowsSink {
 public:
  Sink(const penstock::ModelSchema& schema, std::vector<Column>& columns) : RowsSink(columns), schema_(schema) {
    columns.resize(schema.inputs.size());
  }

  RowTarget resolve(std::string_view, std::string_view, Problem&) override { return {&schema_, nullptr}; }
  bool begin(std::uint32_t rows, Problem& problem) override {
    rows_ = rows;
    if (rows <= 64) return true;
    problem.set(ProblemCode::kBodyTooLarge, "too many");
    return false;
  }
  bool allocate(std::size_t tensor, Problem&) override {
    const auto stride = static_cast<std::size_t>(schema_.inputs.tensors()[tensor].bytes());
    rooms_.push_back(std::make_unique<std::byte[]>(rows_ * stride));
    columns_[tensor] = {rooms_.back().get(), stride};
    return true;
  }
  void refuse_row(std::uint32_t, const Problem&) override {}
  void set_row_length(std::uint32_t, std::uint32_t) override {}

 private:
  const penstock::ModelSchema& schema_;
  std::uint32_t rows_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> rooms_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const penstock::ModelSchema schema{
      RowLayout({{"a", DType::kFloat32, {2}}, {"b", DType::kInt8, {2, 2}}, {"c", DType::kBool, {}}}),
      RowLayout({{"y", DType::kFloat32, {2}}, {"z", DType::kInt64, {}}})};
  std::vector<Column> columns;
  Sink sink(schema, columns);
  InferRequest request;
  Problem problem;
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  const bool read = decode_infer_message(message, sink, request, problem);
  if (read == static_cast<bool>(problem)) __builtin_trap();
  return 0;
}
