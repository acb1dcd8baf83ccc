// Completed blocks: every row becomes a reply.
#include <algorithm>
#include <cstring>

#include "engine/predict_path.hpp"

namespace penstock::dataplane {

void PredictPath::collect() {
  for (std::size_t i = 0; i < active_.size();) {
    const std::uint32_t id = active_[i];
    ModelEntry& entry = *loop_.table->entries()[id];
    while (const auto block = entry.ring.poll_done(loop_.index)) {
      answer_block(entry, *block);
    }
    if (lanes_[id].in_flight == 0) {
      active_[i] = active_.back();
      active_.pop_back();
    } else {
      ++i;
    }
  }
}

void PredictPath::answer_block(ModelEntry& entry, const batcher::DoneBlock& block) {
  RingStats& stats = entry.stats[loop_.index];
  const std::uint64_t now_ns = monotonic_ns();
  std::uint32_t handled = 0;
  bool mine = false;
  for (std::uint32_t row = 0; row < block.rows; ++row) {
    const Ticket& ticket = entry.ticket(block.buffer, row);
    if (ticket.owner.load(std::memory_order_relaxed) != loop_.index || ticket.sequence != block.sequence) continue;
    mine = mine || (row == 0 && block.leads);
    // Stamps of the worker are not trusted: a wrong one spoils a histogram and nothing else.
    stats.queue.add(block.taken_ns > ticket.arrival_ns ? block.taken_ns - ticket.arrival_ns : 0);
    stats.total.add(now_ns > ticket.arrival_ns ? now_ns - ticket.arrival_ns : 0);
    if (answer_row(entry, block, row, ticket)) ++handled;
  }
  if (mine) {  // counted once a batch, by the loop of its first row
    stats.batches_done.add();
    stats.batch_size.add(block.batch_rows);
    stats.run.add(block.done_ns > block.run_ns ? block.done_ns - block.run_ns : 0);
    stats.batch.add(block.done_ns > block.taken_ns ? block.done_ns - block.taken_ns : 0);
  }
  if (handled > 0) entry.ring.handled(block, handled);
}

bool PredictPath::answer_row(ModelEntry& entry, const batcher::DoneBlock& block, std::uint32_t row,
                             const Ticket& ticket) {
  if (ticket.slot != kNoSlot) entry.ring.release_slot(ticket.slot);
  row_left(entry);
  RingStats& stats = entry.stats[loop_.index];
  Connection* connection = loop_.find(ticket.connection, ticket.generation);
  if (connection == nullptr) return true;
  Pending& pending = connection->slot(ticket.request);
  if (pending.id != ticket.request || pending.state != Pending::State::kRow) return true;  // its deadline has passed
  const batcher::Completion& completion = entry.ring.completion(block, row);
  // Acquire is in poll_done(): the worker wrote this before it completed the batch.
  if (completion.kind.load(std::memory_order_relaxed) != batcher::CompletionKind::kFinal) {
    stats.rows_failed.add();
    answer_error(*connection, pending, completion);
    return true;
  }
  stats.rows_ok.add();
  if (entry.encoder.bytes_max(pending.encoding) > kInlineBytesMax)
    return !submit_encode(*connection, pending, entry, block, row);
  answer_ok(*connection, pending, entry, block, row);
  return true;
}

void PredictPath::answer_ok(Connection& connection, Pending& pending, ModelEntry& entry,
                            const batcher::DoneBlock& block, std::uint32_t row) {
  for (std::size_t i = 0; i < outputs_.size() && i < entry.ring.schema().outputs.size(); ++i)
    outputs_[i] = entry.ring.output(block, row, i);
  const std::span<const std::byte* const> outputs(outputs_.data(), entry.ring.schema().outputs.size());
  if (pending.reply) {
    finish_large(connection, pending,
                 entry.encoder.encode(pending.encoding, outputs, pending.output, pending.reply.data() + kHeadBytesMax));
    return;
  }
  const std::size_t body_bytes = entry.encoder.encode(pending.encoding, outputs, pending.output, reply_);
  loop_.stats.responses[200].add();
  char* out = session_.begin_reply(connection, pending, kHeadBytesMax + body_bytes);
  std::size_t bytes = write_head(out, 200, pending.content_type, body_bytes, session_.response_options(pending));
  std::memcpy(out + bytes, reply_, body_bytes);
  session_.end_reply(connection, pending, bytes + body_bytes);
}

// The body lies kHeadBytesMax behind the start of the block: the head is put right before it.
void PredictPath::finish_large(Connection& connection, Pending& pending, std::size_t body_bytes) {
  char head[kHeadBytesMax];
  const std::size_t head_bytes =
      write_head(head, 200, pending.content_type, body_bytes, session_.response_options(pending));
  loop_.stats.responses[200].add();
  std::memcpy(pending.reply.data() + kHeadBytesMax - head_bytes, head, head_bytes);
  session_.end_reply(connection, pending, head_bytes + body_bytes, kHeadBytesMax - head_bytes);
}

void PredictPath::answer_error(Connection& connection, Pending& pending, const batcher::Completion& completion) {
  Problem problem;
  const int detail_bytes = static_cast<int>(std::min<std::size_t>(completion.detail_bytes, completion.detail.size()));
  switch (completion.error) {
    case batcher::RowError::kWorkerDied:
      problem.set(ProblemCode::kWorkerDied, "the worker died while it held this row; the row may have run");
      break;
    case batcher::RowError::kCulprit:
      problem.set(ProblemCode::kModelError, "the worker died each time it ran this row");
      break;
    case batcher::RowError::kModelRaised:
    case batcher::RowError::kBadOutput:
      problem.set(ProblemCode::kModelError, "%.*s", detail_bytes, completion.detail.data());
      break;
    default:
      problem.set(ProblemCode::kModelError, "the worker gave no answer for this row");
  }
  pending.reply.reset();
  session_.refuse(connection, pending, problem);
}

bool PredictPath::submit_encode(Connection& connection, Pending& pending, ModelEntry& entry,
                                const batcher::DoneBlock& block, std::uint32_t row) {
  auto job = std::make_unique<Job>();
  job->kind = Job::Kind::kEncode;
  job->encoding = pending.encoding;
  job->inbox = &inbox_;
  job->connection = connection.index;
  job->generation = connection.generation;
  job->request = pending.id;
  job->table = loop_.table;
  job->entry = &entry;
  job->done = block;
  job->done_row = row;
  job->output = pending.output;
  job->reply = std::move(pending.reply);
  job->reply_offset = kHeadBytesMax;
  pending.state = Pending::State::kJob;
  jobs_.submit(std::move(job));
  return true;
}

void PredictPath::finish_encode(Job& job) {
  job.entry->ring.handled(job.done, 1);
  Connection* connection = loop_.find(job.connection, job.generation);
  if (connection == nullptr) return;
  Pending& pending = connection->slot(job.request);
  if (pending.id != job.request || pending.state != Pending::State::kJob) return;
  pending.reply = std::move(job.reply);
  finish_large(*connection, pending, job.reply_bytes);
}

}  // namespace penstock::dataplane
