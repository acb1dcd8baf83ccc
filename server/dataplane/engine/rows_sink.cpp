#include "engine/rows_sink.hpp"

#include <algorithm>

#include "codec/codec_proto.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kFieldFaultsRowsMax = 256;

}  // namespace

RowTarget RejoinSink::resolve(std::string_view model, std::string_view version, Problem& problem) {
  ModelEntry* const entry = known_ != nullptr ? known_ : table_.find(model, version, problem);
  if (entry == nullptr) return {};
  rejoin_.entry = entry;
  columns_.resize(entry->ring.schema().inputs.size());
  set_record(entry->record.get());
  return {&entry->ring.schema(), nullptr};
}

bool RejoinSink::begin(std::uint32_t rows, Problem& problem) {
  if (rows > kRequestRowsMax) {
    problem.set(ProblemCode::kBodyTooLarge, "the body has %u rows; at most %u of one request are taken", rows,
                kRequestRowsMax);
    return false;
  }
  rejoin_.rows = rows;
  if (rejoin_.entry->varies()) rejoin_.lengths.resize(rows);
  return true;
}

bool RejoinSink::allocate(std::size_t tensor, Problem& problem) {
  const auto stride = static_cast<std::size_t>(rejoin_.entry->ring.schema().inputs.tensors()[tensor].bytes());
  const char* const room = rejoin_.allocate(rejoin_.rows * stride, pool_);
  if (room == nullptr) {
    problem.set(ProblemCode::kMemoryExhausted, "no memory is left for %u rows", rejoin_.rows);
    return false;
  }
  columns_[tensor] = {reinterpret_cast<const std::byte*>(room), stride};
  return true;
}

void RejoinSink::refuse_row(std::uint32_t row, const Problem& problem) {
  // What is wrong with each field takes memory: it is told of the first rows only.
  const bool says_fields = rejoin_.faults.size() < kFieldFaultsRowsMax;
  rejoin_.faults.push_back({row, problem.code(), std::string(problem.detail()),
                            says_fields && problem.fields() != nullptr ? take_faults() : nullptr});
}

void RejoinSink::set_row_length(std::uint32_t row, std::uint32_t length) {
  rejoin_.lengths[row] = length;
  rejoin_.longest = std::max(rejoin_.longest, length);
}

bool decode_rows(const RowsBody& body, const RouteTable& table, BodyPool& pool, Rejoin& rejoin, Problem& problem,
                 ModelEntry* known) {
  RejoinSink sink(table, pool, rejoin, known);
  if (rejoin.form == Rejoin::Form::kInfer || (rejoin.form == Rejoin::Form::kRows && body.header_bytes != 0))
    return decode_infer(body.bytes, body.header_bytes, body.names, sink, rejoin.infer, problem);
  if (rejoin.form == Rejoin::Form::kMessage) return decode_infer_message(body.bytes, sink, rejoin.infer, problem);
  switch (body.encoding) {
    case Encoding::kJson:
      return decode_json_rows(body.bytes, body.names, sink, problem);
    case Encoding::kMsgpack:
      return decode_msgpack_rows(body.bytes, body.names, sink, problem);
    case Encoding::kRaw:
      break;
  }
  return decode_raw_rows(body.bytes, body.names, sink, problem);
}

}  // namespace penstock::dataplane
