#include "engine/predict_path.hpp"

#include <algorithm>
#include <cstring>

#include "engine/predict_options.hpp"

namespace penstock::dataplane {

void PredictPath::start(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  Opening opening;
  if (!open(connection, pending, request.head, opening, problem)) return;
  const Encoding encoding = opening.encoding;
  const QueryNames names{opening.query.model, opening.query.version};
  const RouteTable& table = *loop_.table;
  ModelEntry* known = nullptr;  // before the body is read
  std::uint32_t rows = 1;
  if (encoding == Encoding::kRaw) {  // which names no model
    known = table.find(names.model, names.version, problem);
    if (known == nullptr) {
      refuse_body(connection, pending, problem);
      return;
    }
    rows = count_raw_rows(known->ring.schema(), request.body.size());
  } else if (pending.timeout_ns != 0 || table.has_objectives()) {
    known = table.known(names.model, names.version);
  }
  const bool admits_early =
      known != nullptr && !known->varies() && known->cache == nullptr;  // else the body says what it takes
  if (rows > 1) {
    begin_rows(connection, pending, request, Rejoin::Form::kRaw, {encoding, request.body, 0, names}, known);
  } else if (admits_early && !admit(*known, pending, 1, problem)) {
    session_.refuse(connection, pending, problem);
  } else if (request.body.size() > kInlineBytesMax) {
    submit_decode(connection, pending, request, encoding, names);
  } else {
    TableResolver resolver(table, scratch_, pending.row_class, encoding == Encoding::kRaw ? known : nullptr);
    if (decode_body(encoding, request.body, names, resolver, problem)) {
      pending.length = resolver.length();
      submit_row(connection, pending, *resolver.entry(), scratch_, resolver.slot(), problem);
      return;
    }
    resolver.discard();
    if (problem.code() == ProblemCode::kQueueFull) set_retry_after(*resolver.entry(), pending, problem);
    refuse_body(connection, pending, problem);
  }
}

// Query, encodings and what else the head asks for. False: it is refused.
bool PredictPath::open(Connection& connection, Pending& pending, const RequestHead& head, Opening& opening,
                       Problem& problem) {
  if (parse_query(head.query, opening.query_text, opening.query, problem) &&
      choose_encodings(head, opening.encoding, pending, problem) &&
      begin_request(connection, pending, head, opening.query.output, problem)) {
    return true;
  }
  session_.refuse(connection, pending, problem);
  return false;
}

// What the head asks for, whatever the body is. False: `problem` is set.
bool PredictPath::begin_request(Connection& connection, Pending& pending, const RequestHead& head,
                                std::string_view output, Problem& problem) {
  if (!read_options(head, pending, problem)) return false;
  if (pending.timeout_ns != 0) {
    pending.deadline_ns = pending.arrival_ns + pending.timeout_ns;
    loop_.timers.arm(connection.timer, pending.deadline_ns);
  }
  write_trace_id(head.traceparent, pending);
  pending.output_name_bytes = 0;
  if (output.empty() || pending.remember_output(output)) return true;
  problem.set(ProblemCode::kInvalidInput, "the model has no output of that name");
  return false;
}

void PredictPath::refuse_body(Connection& connection, Pending& pending, Problem& problem) {
  if (problem.code() == ProblemCode::kModelNotFound && !loop_.engine.was_ready.load(std::memory_order_relaxed)) {
    problem.set(ProblemCode::kModelUnavailable, "the models are still loading");
  }
  session_.refuse(connection, pending, problem);
}

void PredictPath::submit_decode(Connection& connection, Pending& pending, const Request& request, Encoding encoding,
                                const QueryNames& names) {
  auto job = make_job(Job::Kind::kDecode, connection, pending);
  job->encoding = encoding;
  job->body = request.body;
  job->row_class = pending.row_class;
  job->model = names.model;
  job->version = names.version;
  job->block = std::move(request.block);
  pending.state = Pending::State::kJob;
  jobs_.submit(std::move(job));
}

std::unique_ptr<Job> PredictPath::make_job(Job::Kind kind, const Connection& connection, const Pending& pending) {
  auto job = std::make_unique<Job>();
  job->kind = kind;
  job->inbox = &inbox_;
  job->connection = connection.index;
  job->generation = connection.generation;
  job->request = pending.id;
  job->table = loop_.table;
  return job;
}

void PredictPath::ring_bells() {
  for (const std::uint32_t id : active_) {
    if (!rings_[id].bell) continue;
    rings_[id].bell = false;
    loop_.table->entries()[id]->ring.ring_bell();
  }
}

void PredictPath::on_job(std::unique_ptr<Job> job) {
  switch (job->kind) {
    case Job::Kind::kDecode:
      finish_decode(*job);
      break;
    case Job::Kind::kEncode:
      finish_encode(*job);
      break;
    case Job::Kind::kDecodeRows:
      finish_rows_decode(*job);
      break;
    case Job::Kind::kEncodeRows:
      finish_rows_encode(*job);
      break;
    case Job::Kind::kInflate:
    case Job::Kind::kCompress:
      break;  // of the session
    case Job::Kind::kShared:
      finish_shared(*job);
      break;
    case Job::Kind::kStored:
      finish_look_up(*job);
      break;
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
    pending->length = job.length;
    submit_row(*connection, *pending, *job.entry, job.row.get(), job.slot, job.problem);
  }
}

void PredictPath::abandon(Pending& pending) {
  if (pending.state != Pending::State::kRow && pending.state != Pending::State::kShared) return;
  RingStats& stats = pending.entry->stats[loop_.index];
  if (pending.state == Pending::State::kShared) {
    stats.rows_out.sub();
  } else if (pending.rejoin != nullptr) {
    stats.rows_cancelled.add(pending.rejoin->under_way);
    give_up(pending);
  } else {
    stats.rows_cancelled.add();
    if (leave_flight(pending, pending.claim, 0)) pending.entry->ring.cancel(pending.claim, 0);
  }
  if (pending.deadline_ns <= loop_.now_ns) stats.deadline_exceeded.add();
}

void PredictPath::row_left(ModelEntry& entry, const Ticket& ticket) noexcept {
  RingUse& use = rings_[entry.id];
  --use.in_flight;
  if (ticket.part != kNoPart) --use.of_many;
  --rows_in_flight_;
  entry.stats[loop_.index].rows_out.sub();
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
  rings_.resize(std::max(rings_.size(), entries.size()));
  active_.reserve(rings_.size());
  std::size_t outputs = outputs_.size();
  for (const auto& entry : entries) {
    if (entry != nullptr) outputs = std::max(outputs, entry->ring.schema().outputs.size());
  }
  outputs_.resize(outputs);
}

}  // namespace penstock::dataplane
