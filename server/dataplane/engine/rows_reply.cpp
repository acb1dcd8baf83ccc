#include "engine/rows_reply.hpp"

#include <algorithm>

namespace penstock::dataplane {
namespace {

InferOutputs infer_outputs(const Rejoin& rejoin) noexcept {
  return {.request = &rejoin.infer,
          .columns = rejoin.results,
          .rows = rejoin.rows,
          .length = rejoin.longest,
          .faults = rejoin.faults};
}

RowsOutputs rows_outputs(const Rejoin& rejoin) noexcept {
  return {.columns = rejoin.results, .rows = rejoin.rows, .lengths = rejoin.lengths, .faults = rejoin.faults};
}

}  // namespace

std::size_t rows_reply_bytes_max(const Rejoin& rejoin, Encoding encoding) noexcept {
  if (rejoin.form == Rejoin::Form::kInfer) return rejoin.entry->infer_encoder.bytes_max(infer_outputs(rejoin));
  if (rejoin.form == Rejoin::Form::kMessage)
    return rejoin.entry->infer_encoder.message_bytes_max(infer_outputs(rejoin));
  return rejoin.entry->encoder.rows_bytes_max(encoding, rows_outputs(rejoin));
}

InferReplySize write_rows_reply(Rejoin& rejoin, Encoding encoding, char* out) noexcept {
  std::ranges::sort(rejoin.faults, {}, &RowFault::row);
  if (rejoin.form == Rejoin::Form::kInfer) return rejoin.entry->infer_encoder.write(infer_outputs(rejoin), out);
  if (rejoin.form == Rejoin::Form::kMessage)
    return {.bytes = rejoin.entry->infer_encoder.write_message(infer_outputs(rejoin), out), .header_bytes = 0};
  return {.bytes = rejoin.entry->encoder.encode_rows(encoding, rows_outputs(rejoin), out), .header_bytes = 0};
}

}  // namespace penstock::dataplane
