#include "engine/predict_path.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/predict_options.hpp"
#include "http/query.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kQueryBytes = 1024;  // decoded names

}  // namespace

void PredictPath::start(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  QueryParams query;
  Encoding encoding = Encoding::kJson;
  std::array<char, kQueryBytes> query_text;
  if (!parse_query(request.head.query, query_text, query, problem) ||
      !choose_encodings(request.head, encoding, pending, problem) || !read_options(request.head, pending, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  if (pending.timeout_ns != 0) {
    pending.deadline_ns = pending.arrival_ns + pending.timeout_ns;
    loop_.timers.arm(connection.timer, pending.deadline_ns);
  }
  write_trace_id(request.head.traceparent, pending.trace_id);
  const QueryNames names{query.model, query.version};
  pending.output_name_bytes = 0;
  if (!query.output.empty() && !pending.remember_output(query.output)) {
    problem.set(ProblemCode::kInvalidInput, "the model has no output of that name");
    session_.refuse(connection, pending, problem);
    return;
  }
  if (request.body.size() > kInlineBytesMax) {
    submit_decode(connection, pending, request, encoding, names);
    return;
  }
  TableResolver resolver(*loop_.table, scratch_);
  if (!decode_body(encoding, request.body, names, resolver, problem)) {
    resolver.discard();
    refuse_body(connection, pending, problem);
    return;
  }
  submit_row(connection, pending, *resolver.entry(), scratch_, resolver.slot());
}

void PredictPath::refuse_body(Connection& connection, Pending& pending, Problem& problem) {
  if (problem.code() == ProblemCode::kModelNotFound && !loop_.engine.was_ready.load(std::memory_order_relaxed)) {
    problem.set(ProblemCode::kModelUnavailable, "the models are still loading");
  }
  session_.refuse(connection, pending, problem);
}

void PredictPath::submit_decode(Connection& connection, Pending& pending, const Request& request, Encoding encoding,
                                const QueryNames& names) {
  auto job = std::make_unique<Job>();
  job->kind = Job::Kind::kDecode;
  job->encoding = encoding;
  job->inbox = &inbox_;
  job->connection = connection.index;
  job->generation = connection.generation;
  job->request = pending.id;
  job->table = loop_.table;
  job->body = request.body;
  job->model = names.model;
  job->version = names.version;
  job->block = std::move(request.block);
  pending.state = Pending::State::kJob;
  jobs_.submit(std::move(job));
}

// `row` is the packed row, unless it lies in arena slot `slot`.
void PredictPath::submit_row(Connection& connection, Pending& pending, ModelEntry& entry, const std::byte* row,
                             std::uint32_t slot) {
  Problem problem;
  bool accepted = choose_output(entry, pending.output_name(), pending, problem);
  const std::size_t reply_bytes = kHeadBytesMax + entry.encoder.bytes_max(pending.encoding);
  if (accepted && reply_bytes > kConnectionBytes) {
    // Memory for a large reply is found now, not when the answer is there and holds a buffer of the ring.
    pending.reply = loop_.engine.pool.try_acquire(reply_bytes);
    accepted = static_cast<bool>(pending.reply);
    if (!accepted)
      problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the reply of %zu bytes", reply_bytes);
  }
  batcher::Claim claim;
  if (accepted) {
    claim = entry.ring.claim(entry.ring.lane_of(batcher::RowClass::kNormal));
    accepted = claim.status == batcher::ClaimStatus::kClaimed;
    if (claim.status == batcher::ClaimStatus::kFull) {
      problem.set(ProblemCode::kQueueFull, "the queue of model '%s' is full", entry.model.c_str());
    } else if (!accepted) {
      problem.set(ProblemCode::kModelUnavailable, "model '%s' was stopped: its worker damaged the queue",
                  entry.model.c_str());
    }
  }
  if (!accepted) {
    if (slot != kNoSlot) entry.ring.release_slot(slot);
    pending.reply.reset();
    session_.refuse(connection, pending, problem);
    return;
  }
  if (slot == kNoSlot) {
    const RowLayout& layout = entry.ring.schema().inputs;
    for (std::size_t i = 0; i < layout.size(); ++i) {
      std::memcpy(entry.ring.input(claim, 0, i), row + layout.offset(i), layout.tensors()[i].bytes());
    }
  } else {
    entry.ring.set_span(claim, 0, slot);
  }
  batcher::RowMeta& meta = entry.ring.meta(claim, 0);
  meta.arrival_ns = pending.arrival_ns;
  meta.deadline_ns = pending.deadline_ns;
  meta.trace_id = pending.trace_id;
  meta.row_index = 0;
  meta.row_count = 1;
  meta.principal = 0;
  meta.priority = 1;
  meta.rank = 0;
  meta.cancelled.store(0, std::memory_order_relaxed);  // ordered by publish()
  write_id(pending.request_id(), meta.request_id);
  Ticket& ticket = entry.ticket(claim.buffer, claim.row);
  ticket.sequence = claim.sequence;
  ticket.arrival_ns = pending.arrival_ns;
  ticket.connection = connection.index;
  ticket.generation = connection.generation;
  ticket.request = pending.id;
  ticket.slot = slot;
  ticket.owner.store(loop_.index, std::memory_order_relaxed);
  entry.ring.publish(claim, loop_.index);

  pending.state = Pending::State::kRow;
  pending.entry = &entry;
  pending.claim = claim;
  pending.owed_bytes = static_cast<std::uint32_t>(std::min<std::size_t>(reply_bytes, kOwedBytesMax));
  connection.owed_bytes += pending.owed_bytes;
  Lane& lane = lanes_[entry.id];
  if (lane.in_flight++ == 0) active_.push_back(entry.id);
  lane.bell = true;
  ++rows_in_flight_;
}

void PredictPath::ring_bells() {
  for (const std::uint32_t id : active_) {
    if (!lanes_[id].bell) continue;
    lanes_[id].bell = false;
    loop_.table->entries()[id]->ring.ring_bell();
  }
}

void PredictPath::on_job(std::unique_ptr<Job> job) {
  if (job->kind == Job::Kind::kDecode) {
    finish_decode(*job);
  } else {
    finish_encode(*job);
  }
}

void PredictPath::finish_decode(Job& job) {
  Connection* connection = loop_.find(job.connection, job.generation);
  Pending* pending = connection == nullptr ? nullptr : &connection->slot(job.request);
  if (pending == nullptr || pending->id != job.request || pending->state != Pending::State::kJob) {
    if (job.slot != kNoSlot) job.entry->ring.release_slot(job.slot);
    return;
  }
  pending->state = Pending::State::kOpen;
  job.block.reset();
  if (job.problem) {
    refuse_body(*connection, *pending, job.problem);
  } else {
    submit_row(*connection, *pending, *job.entry, job.row.get(), job.slot);
  }
}

void PredictPath::abandon(Pending& pending) {
  if (pending.state != Pending::State::kRow) return;
  pending.entry->ring.cancel(pending.claim, 0);
  if (pending.deadline_ns <= loop_.now_ns) pending.entry->stats[loop_.index].deadline_exceeded.add();
}

void PredictPath::row_left(ModelEntry& entry) noexcept {
  --lanes_[entry.id].in_flight;
  --rows_in_flight_;
}

bool PredictPath::prepare_wait() {
  for (std::size_t i = 0; i < active_.size(); ++i) {
    if (loop_.table->entries()[active_[i]]->ring.prepare_wait(loop_.index)) continue;
    while (i-- > 0) loop_.table->entries()[active_[i]]->ring.finish_wait(loop_.index);
    return false;
  }
  return true;
}

void PredictPath::finish_wait() {
  for (const std::uint32_t id : active_) loop_.table->entries()[id]->ring.finish_wait(loop_.index);
}

bool PredictPath::has_done() const noexcept {
  return std::ranges::any_of(
      active_, [this](std::uint32_t id) { return loop_.table->entries()[id]->ring.has_done(loop_.index); });
}

void PredictPath::adopt_table() {
  const auto& entries = loop_.table->entries();
  lanes_.resize(std::max(lanes_.size(), entries.size()));
  active_.reserve(lanes_.size());
  std::size_t outputs = outputs_.size();
  for (const auto& entry : entries) outputs = std::max(outputs, entry->ring.schema().outputs.size());
  outputs_.resize(outputs);
}

}  // namespace penstock::dataplane
