// Rows of a request of many, as they come back; and its reply, when all have.
#include <algorithm>
#include <cstring>

#include "codec/codec_reply_value.hpp"
#include "engine/predict_path.hpp"
#include "engine/rows_reply.hpp"

namespace penstock::dataplane {

// A row came back with outputs. True: the request goes on.
bool PredictPath::answer_one_of_many(Connection& connection, Pending& pending, const batcher::DoneBlock& block,
                                     std::uint32_t row, const Ticket& ticket) {
  RingStats& stats = pending.entry->stats[loop_.index];
  Problem problem;
  const auto output_at = [&](std::size_t tensor) { return pending.entry->ring.output(block, row, tensor); };
  if (take_outputs(pending, ticket.row, output_at, problem)) {
    stats.rows_ok.add();
  } else {
    stats.rows_failed.add();
    if (!take_fault(pending, problem, ticket.row)) {
      refuse_row(connection, pending, ticket.row, problem);
      return false;
    }
  }
  note_returned(*pending.rejoin, ticket);
  return true;
}

// False: the row has no outputs that can be sent, and `problem` says why. `output_at` says where each lies.
template <class OutputAt>
bool PredictPath::take_outputs(const Pending& pending, std::uint32_t row, OutputAt&& output_at,
                               Problem& problem) noexcept {
  Rejoin& rejoin = *pending.rejoin;
  const std::uint32_t length = rejoin.length_of(row);
  const bool has_texts = rejoin.entry->encoder.has_texts();
  for (std::size_t j = 0; j < rejoin.outputs.size(); ++j) {
    const Rejoin::Output& output = rejoin.outputs[j];
    const auto bytes =
        output.spec->varies ? static_cast<std::size_t>(output.spec->bytes_of_length(length)) : output.stride;
    auto* const out = reinterpret_cast<std::byte*>(output.data + row * output.stride);
    if (bytes != 0) std::memcpy(out, output_at(output.tensor), bytes);
    if (!has_texts || output.spec->dtype != DType::kBytes) continue;
    const bool is_text =
        rejoin.form >= Rejoin::Form::kInfer ? !rejoin.infer.outputs[j].binary : pending.encoding == Encoding::kJson;
    if (!dataplane::check_texts(*output.spec, out, length, is_text, problem)) return false;
  }
  return true;
}

// A tensor of the protocol has a place for every row: what is there of one without outputs is zero, never another's.
void PredictPath::clear_outputs(const Rejoin& rejoin, std::uint32_t row) noexcept {
  for (const Rejoin::Output& output : rejoin.outputs) {
    if (output.stride != 0) std::memset(output.data + row * output.stride, 0, output.stride);
  }
}

// Of the cache.
bool PredictPath::take_known(Pending& pending, const CachedRow& known, std::uint32_t row, Problem& problem) {
  const std::span<const std::byte* const> outputs = outputs_of(*pending.rejoin->entry, known);
  return take_outputs(pending, row, [outputs](std::size_t tensor) { return outputs[tensor]; }, problem);
}

void PredictPath::note_returned(Rejoin& rejoin, const Ticket& ticket) noexcept {
  rejoin.parts[ticket.part].answered = true;
  --rejoin.under_way;
  ++rejoin.answered;
}

// A row failed. True: it is one of many, and the others have nothing to do with it.
bool PredictPath::take_fault(Pending& pending, const Problem& problem, std::uint32_t row) {
  if (pending.rejoin == nullptr) return false;
  Rejoin& rejoin = *pending.rejoin;
  if (!rejoin.has_place_for_faults(pending.encoding)) return false;
  rejoin.faults.push_back({row, problem.code(), std::string(problem.detail())});
  if (rejoin.form == Rejoin::Form::kInfer) clear_outputs(rejoin, row);
  return true;
}

void PredictPath::answer_rows(Connection& connection, Pending& pending) {
  Rejoin& rejoin = *pending.rejoin;
  pending.rejoin = nullptr;
  if (!is_raw_reply(pending, rejoin)) {
    answer_encoded_rows(connection, pending, rejoin);
    return;
  }
  const std::size_t body_bytes = rejoin.rows * rejoin.outputs.front().stride;
  loop_.stats.responses[200].add();
  if (pending.reply) {
    finish_large(connection, pending, body_bytes);
  } else {
    finish_small(connection, pending, {rejoin.outputs.front().data, body_bytes});
  }
  rejoins_.release(rejoin);
}

void PredictPath::answer_encoded_rows(Connection& connection, Pending& pending, Rejoin& rejoin) {
  const std::size_t bound = rows_reply_bytes_max(rejoin, pending.encoding);
  // Rows that failed may say more than there is room for.
  const std::size_t room = pending.reply ? pending.reply.bytes() : kConnectionBytes;
  Problem problem;
  if (kHeadBytesMax + bound > room) {
    pending.reply.reset();
    if (!reserve_reply(pending, kHeadBytesMax + bound, problem)) {
      rejoins_.release(rejoin);
      session_.refuse(connection, pending, problem);
      return;
    }
  }
  if (bound > kInlineBytesMax) {
    submit_rows_encode(connection, pending, rejoin);
    return;
  }
  loop_.stats.responses[200].add();
  char* const out = pending.reply ? pending.reply.data() + kHeadBytesMax : reply_;
  const InferReplySize size = write_rows_reply(rejoin, pending.encoding, out);
  rejoins_.release(rejoin);
  note_infer_header(pending, size);
  if (pending.reply) {
    finish_large(connection, pending, size.bytes);
  } else {
    finish_small(connection, pending, {reply_, size.bytes});
  }
}

void PredictPath::note_infer_header(Pending& pending, const InferReplySize& size) noexcept {
  pending.infer_header_bytes = static_cast<std::uint32_t>(size.header_bytes);
  if (size.header_bytes != 0) pending.content_type = "application/octet-stream";
}

void PredictPath::submit_rows_encode(Connection& connection, Pending& pending, Rejoin& rejoin) {
  auto job = make_job(Job::Kind::kEncodeRows, connection, pending);
  job->encoding = pending.encoding;
  job->rejoin = &rejoin;
  job->reply = std::move(pending.reply);
  job->reply_offset = kHeadBytesMax;
  pending.state = Pending::State::kJob;
  jobs_.submit(std::move(job));
}

void PredictPath::finish_rows_encode(Job& job) {
  rejoins_.release(*job.rejoin);
  Connection* connection = loop_.find(job.connection, job.generation);
  if (connection == nullptr) return;
  Pending& pending = connection->slot(job.request);
  if (pending.id != job.request || pending.state != Pending::State::kJob) return;
  pending.reply = std::move(job.reply);
  loop_.stats.responses[200].add();
  note_infer_header(pending, {.bytes = job.reply_bytes, .header_bytes = job.header_bytes});
  finish_large(*connection, pending, job.reply_bytes);
}

}  // namespace penstock::dataplane
