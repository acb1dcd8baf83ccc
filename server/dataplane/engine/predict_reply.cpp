// Completed blocks: every row becomes a reply, or a part of one.
#include <algorithm>
#include <cstring>

#include "engine/predict_path.hpp"

namespace penstock::dataplane {

void PredictPath::collect() {
  for (std::size_t i = 0; i < active_.size();) {
    const std::uint32_t id = active_[i];
    ModelEntry& entry = *loop_.table->entries()[id];
    std::uint64_t now_ns = monotonic_ns();
    for (auto block = entry.ring.poll_done(loop_.index); block; block = entry.ring.poll_done(loop_.index)) {
      if (block->leads) now_ns = monotonic_ns();  // once a batch: the clock costs as much as a row's answer
      answer_block(entry, *block, now_ns);
    }
    if (entry.ring.is_closed()) note_closed(entry);
    if (rings_[id].in_flight == 0) {
      active_[i] = active_.back();
      active_.pop_back();
    } else {
      ++i;
    }
  }
}

void PredictPath::answer_block(ModelEntry& entry, const batcher::DoneBlock& block, std::uint64_t now_ns) {
  RingStats& stats = entry.stats[loop_.index];
  const BatchStamps stamps = stamps_of(block, now_ns);
  std::uint32_t handled = 0;
  bool mine = false;
  for (std::uint32_t row = 0; row < block.rows; ++row) {
    const Ticket& ticket = entry.ticket(block.buffer, row);
    if (ticket.owner.load(std::memory_order_relaxed) != loop_.index || ticket.sequence != block.sequence) continue;
    mine = mine || row == 0;
    stats.queue.add(stamps.taken_ns > ticket.arrival_ns ? stamps.taken_ns - ticket.arrival_ns : 0);
    stats.total.add(now_ns > ticket.arrival_ns ? now_ns - ticket.arrival_ns : 0);
    if (answer_row(entry, block, stamps, row, ticket)) ++handled;
  }
  // Counted once a batch: by the loop of the first row of its first block.
  if (mine && block.leads) count_batch(entry, block.buffer, stamps, now_ns);
  if (handled == 0) return;
  entry.ring.handled(block, handled);
  if (!unfinished_.empty()) resume_stalled();
}

void PredictPath::count_batch(ModelEntry& entry, std::uint32_t buffer, const BatchStamps& stamps,
                              std::uint64_t now_ns) {
  RingStats& stats = entry.stats[loop_.index];
  stats.batches_done.add();
  stats.done_ns = now_ns;
  stats.batch_size.add(stamps.batch_rows);
  stats.padded_rows.add(stamps.padding_rows);
  stats.batches_by_reason[static_cast<std::size_t>(stamps.reason)].add();
  stats.run.add(stamps.done_ns - stamps.run_ns);
  SizeStats& same_size = stats.of_size(stamps.batch_rows);
  same_size.batches.add();
  same_size.batch_ns.add(stamps.done_ns - stamps.taken_ns);
  same_size.run_ns.add(stamps.done_ns - stamps.run_ns);
  stats.batch.add(stamps.done_ns - stamps.taken_ns);
  entry.note_arrivals(now_ns);
  // What runs again may run row by row, or for the first time on a worker that has just started.
  if (stamps.reason == batcher::SealReason::kRequeued || stamps.unmeasured) return;
  const std::uint32_t bucket = entry.ring.settings(entry.ring.lane_of_buffer(buffer)).bucket;
  entry.costs.observe(bucket, {stamps.batch_rows + stamps.padding_rows, stamps.done_ns - stamps.run_ns}, now_ns);
}

bool PredictPath::answer_row(ModelEntry& entry, const batcher::DoneBlock& block, const BatchStamps& stamps,
                             std::uint32_t row, const Ticket& ticket) {
  if (ticket.slot != kNoSlot) entry.ring.release_slot(ticket.slot);
  if (ticket.flight != kNoFlight) [[unlikely]]  // while it still counts as out: nothing is cached of a ring that goes
    settle_flight(entry, block, stamps, row, flights_.at(ticket.flight));
  row_left(entry, ticket);
  if (ticket.pair != kNoPair && settle_mirrored(entry, block, row, ticket)) [[unlikely]]
    return true;
  RingStats& stats = entry.stats[loop_.index];
  Connection* connection = loop_.find(ticket.connection, ticket.generation);
  if (connection == nullptr) return true;
  Pending& pending = connection->slot(ticket.request);
  if (pending.id != ticket.request || pending.state != Pending::State::kRow) return true;  // its deadline has passed
  const batcher::Completion& completion = entry.ring.completion(block, row);
  // Acquire is in poll_done(): the worker wrote this before it completed the batch.
  if (completion.kind.load(std::memory_order_relaxed) != batcher::CompletionKind::kFinal) {
    if (!answer_error(*connection, pending, entry, completion, ticket)) return true;
  } else if (pending.rejoin != nullptr) {
    if (!answer_one_of_many(*connection, pending, block, row, ticket)) return true;
  } else {
    if (entry.encoder.has_texts() && !check_texts(*connection, pending, entry, block, row)) [[unlikely]]
      return true;
    stats.rows_ok.add();
  }
  if (pending.rejoin != nullptr && !pending.rejoin->is_complete()) {
    if (pending.rejoin->shares) pending.rejoin->stamps = stamps;
    return true;
  }
  note_answer(pending, entry, stamps);
  if (pending.rejoin != nullptr) {
    answer_rows(*connection, pending);
    return true;
  }
  if (entry.encoder.bytes_max(pending.encoding, pending.length) > kInlineBytesMax)
    return !submit_encode(*connection, pending, entry, block, row);
  answer_ok(*connection, pending, entry, block, row);
  return true;
}

// What the whole request has to show for itself: its receipt, and how far off admission was.
void PredictPath::note_answer(Pending& pending, ModelEntry& entry, const BatchStamps& stamps) {
  const std::uint64_t arrival_ns = pending.arrival_ns;
  const std::uint64_t done_ns = std::max(stamps.done_ns, arrival_ns + 1);
  if (pending.tap != nullptr) [[unlikely]]
    note_batch(*pending.tap, stamps, entry, pending.rejoin == nullptr ? 1 : pending.rejoin->rows);
  if (pending.predicted_ns != 0) {
    const std::uint64_t error_ns =
        pending.predicted_ns > done_ns ? pending.predicted_ns - done_ns : done_ns - pending.predicted_ns;
    entry.stats[loop_.index].prediction_error.add(error_ns * 1000 / (done_ns - arrival_ns));
  }
  if (!pending.receipt_wanted) return;
  constexpr std::uint64_t kMicrosecondNs = 1000;
  pending.receipt = {
      .queue_us = stamps.taken_ns > arrival_ns ? (stamps.taken_ns - arrival_ns) / kMicrosecondNs : 0,
      .batch_us = (stamps.done_ns - stamps.taken_ns) / kMicrosecondNs,
      .run_us = (stamps.done_ns - stamps.run_ns) / kMicrosecondNs,
      .batch_rows = stamps.batch_rows,
      .padding_rows = stamps.padding_rows,
      .instance = stamps.worker,
      .sealed = name_of(stamps.reason),
      .version = entry.version,
  };
}

bool PredictPath::check_texts(Connection& connection, Pending& pending, ModelEntry& entry,
                              const batcher::DoneBlock& block, std::uint32_t row) {
  if (entry.encoder.bytes_max(pending.encoding, pending.length) > kInlineBytesMax) return true;  // the job does it
  const std::span<const std::byte* const> outputs = outputs_of(entry, block, row);
  Problem problem;
  if (entry.encoder.check_texts(pending.encoding, outputs, pending.length, problem)) return true;
  entry.stats[loop_.index].rows_failed.add();
  pending.reply.reset();
  session_.refuse(connection, pending, problem);
  return false;
}

std::span<const std::byte* const> PredictPath::outputs_of(ModelEntry& entry, const batcher::DoneBlock& block,
                                                          std::uint32_t row) noexcept {
  const std::size_t count = entry.ring.schema().outputs.size();
  for (std::size_t i = 0; i < outputs_.size() && i < count; ++i) outputs_[i] = entry.ring.output(block, row, i);
  return {outputs_.data(), count};
}

void PredictPath::answer_ok(Connection& connection, Pending& pending, ModelEntry& entry,
                            const batcher::DoneBlock& block, std::uint32_t row) {
  answer_outputs(connection, pending, entry, outputs_of(entry, block, row));
}

void PredictPath::answer_outputs(Connection& connection, Pending& pending, ModelEntry& entry,
                                 std::span<const std::byte* const> outputs) {
  loop_.stats.responses[200].add();
  if (pending.reply) {
    finish_large(connection, pending,
                 entry.encoder.encode(pending.encoding, outputs, pending.output, pending.reply.data() + kHeadBytesMax,
                                      pending.length));
    return;
  }
  const std::size_t body_bytes =
      entry.encoder.encode(pending.encoding, outputs, pending.output, reply_, pending.length);
  finish_small(connection, pending, {reply_, body_bytes});
}

void PredictPath::finish_small(Connection& connection, Pending& pending, std::string_view body) {
  char* out = session_.begin_reply(connection, pending, kHeadBytesMax + body.size());
  std::size_t bytes = write_head(out, 200, pending.content_type, body.size(), reply_options(pending));
  std::memcpy(out + bytes, body.data(), body.size());
  session_.end_reply(connection, pending, bytes + body.size());
}

ResponseOptions PredictPath::reply_options(const Pending& pending) const noexcept {
  ResponseOptions options = session_.response_options(pending);
  if (pending.receipt_wanted) options.receipt = &pending.receipt;
  options.infer_header_bytes = pending.infer_header_bytes;
  if (pending.from_cache) [[unlikely]]
    options.age_s = static_cast<std::int64_t>(pending.cache_age_s);
  return options;
}

// The body lies kHeadBytesMax behind the start of the block: the head is put right before it.
void PredictPath::finish_large(Connection& connection, Pending& pending, std::size_t body_bytes) {
  char head[kHeadBytesMax];
  const std::size_t head_bytes = write_head(head, 200, pending.content_type, body_bytes, reply_options(pending));
  std::memcpy(pending.reply.data() + kHeadBytesMax - head_bytes, head, head_bytes);
  session_.end_reply(connection, pending, head_bytes + body_bytes, kHeadBytesMax - head_bytes);
}

// True: it was one of many, and the request goes on.
bool PredictPath::answer_error(Connection& connection, Pending& pending, ModelEntry& entry,
                               const batcher::Completion& completion, const Ticket& ticket) {
  RingStats& stats = entry.stats[loop_.index];
  (completion.error == batcher::RowError::kShed ? stats.rows_shed : stats.rows_failed).add();
  Problem problem;
  describe_error(completion, problem);
  if (take_fault(pending, problem, ticket.row)) {
    note_returned(*pending.rejoin, ticket);
    return true;
  }
  if (completion.error == batcher::RowError::kShed) set_retry_after(entry, pending, problem);
  refuse_row(connection, pending, ticket.row, problem);
  return false;
}

// In a problem that will be the request's.
void PredictPath::name_row(std::uint32_t row, Problem& problem) noexcept {
  const Problem of_row = problem;
  problem.set(of_row.code(), "row %u: %.*s", row, static_cast<int>(of_row.detail().size()), of_row.detail().data());
  problem.set_retry_after(of_row.retry_after_s());
}

// The request fails with its row. Of many rows the others run in vain.
void PredictPath::refuse_row(Connection& connection, Pending& pending, std::uint32_t row, Problem& problem) {
  if (pending.rejoin != nullptr) {
    name_row(row, problem);
    pending.entry->stats[loop_.index].rows_cancelled.add(pending.rejoin->under_way - 1);
    give_up(pending);
  }
  pending.reply.reset();
  session_.refuse(connection, pending, problem);
}

void PredictPath::describe_error(const batcher::Completion& completion, Problem& problem) noexcept {
  const int detail_bytes = static_cast<int>(std::min<std::size_t>(completion.detail_bytes, completion.detail.size()));
  switch (completion.error) {
    case batcher::RowError::kShed:
      problem.set(ProblemCode::kDeadlineUnreachable, "it would have been late, so it was not run");
      break;
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
    case batcher::RowError::kInvalidInput:
      problem.set(ProblemCode::kInvalidInput, "%.*s", detail_bytes, completion.detail.data());
      break;
    default:
      problem.set(ProblemCode::kModelError, "the worker gave no answer for this row");
  }
}

bool PredictPath::submit_encode(Connection& connection, Pending& pending, ModelEntry& entry,
                                const batcher::DoneBlock& block, std::uint32_t row) {
  auto job = make_job(Job::Kind::kEncode, connection, pending);
  job->encoding = pending.encoding;
  job->entry = &entry;
  job->done = block;
  job->done_row = row;
  job->output = pending.output;
  job->length = pending.length;
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
  if (job.problem) {
    session_.refuse(*connection, pending, job.problem);
    return;
  }
  pending.reply = std::move(job.reply);
  loop_.stats.responses[200].add();
  finish_large(*connection, pending, job.reply_bytes);
}

}  // namespace penstock::dataplane
