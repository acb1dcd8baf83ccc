#include "engine/predict_path.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "http/ascii.hpp"
#include "http/media_type.hpp"
#include "http/query.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kQueryBytes = 1024;  // decoded names
constexpr std::uint64_t kTimeoutMsMax = 24ull * 3600 * 1000;

// The trace id of a W3C traceparent, "00-<32 hex digits>-..."; zeros, which mean none, for anything else.
void write_trace_id(std::string_view traceparent, std::array<std::uint8_t, 16>& id) noexcept {
  id.fill(0);
  if (traceparent.size() < 55 || !traceparent.starts_with("00-") || traceparent[35] != '-') return;
  const std::string_view digits = traceparent.substr(3, 32);
  if (!all_in(digits, kHexDigit)) return;
  for (std::size_t i = 0; i < id.size(); ++i) {
    id[i] = static_cast<std::uint8_t>(hex_value(digits[2 * i]) << 4 | hex_value(digits[2 * i + 1]));
  }
}

// A request's 128-bit id: a hash of its text, which the client may have chosen.
void write_id(std::string_view text, std::array<std::uint8_t, 16>& id) noexcept {
  std::uint64_t high = 14695981039346656037ull;
  std::uint64_t low = 1099511628211ull;
  for (const char character : text) {
    high = (high ^ static_cast<unsigned char>(character)) * 1099511628211ull;
    low = (low + static_cast<unsigned char>(character)) * 0x9E3779B97F4A7C15ull;
  }
  std::memcpy(id.data(), &high, 8);
  std::memcpy(id.data() + 8, &low, 8);
}

bool parse_timeout(std::string_view text, std::uint64_t& timeout_ms) noexcept {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), timeout_ms);
  return error == std::errc{} && end == text.data() + text.size() && timeout_ms > 0 && timeout_ms <= kTimeoutMsMax;
}

// A body without a Content-Type is taken for JSON, which then parses or does not.
bool choose_encodings(const RequestHead& head, Encoding& body, Pending& pending, Problem& problem) {
  switch (parse_content_type(head.content_type)) {
    case MediaType::kJson:
    case MediaType::kAbsent:
      body = Encoding::kJson;
      break;
    case MediaType::kMsgpack:
      body = Encoding::kMsgpack;
      break;
    case MediaType::kRaw:
      body = Encoding::kRaw;
      break;
    case MediaType::kOther:
      problem.set(
          ProblemCode::kUnsupportedMediaType,
          "Content-Type '%.*s' is not accepted: send application/json, application/msgpack or application/octet-stream",
          static_cast<int>(std::min<std::size_t>(head.content_type.size(), 80)), head.content_type.data());
      return false;
  }
  const std::optional<ReplyFormat> format = negotiate(head);
  if (!format.has_value()) {
    problem.set(
        ProblemCode::kNotAcceptable,
        "none of Accept '%.*s' is offered: application/json, application/msgpack and application/octet-stream are",
        static_cast<int>(std::min<std::size_t>(head.accept.size(), 80)), head.accept.data());
    return false;
  }
  pending.encoding = format->encoding;
  pending.content_type = format->content_type;
  return true;
}

// `?output=` names the tensor of a raw reply; without it the model must have one output only.
bool choose_output(const ModelEntry& entry, std::string_view name, Pending& pending, Problem& problem) {
  const std::vector<TensorSpec>& outputs = entry.ring.schema().outputs.tensors();
  if (name.empty()) {
    if (outputs.size() == 1 || pending.encoding != Encoding::kRaw) return true;
    problem.set(
        ProblemCode::kInvalidInput,
        "the model has %zu outputs: name the one to send as application/octet-stream with ?output=", outputs.size());
    return false;
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].name == name) {
      pending.output = static_cast<std::uint8_t>(i);
      return true;
    }
  }
  problem.set(ProblemCode::kInvalidInput, "the model has no output '%.*s'",
              static_cast<int>(std::min<std::size_t>(name.size(), 80)), name.data());
  return false;
}

}  // namespace

void PredictPath::start(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  QueryParams query;
  Encoding encoding = Encoding::kJson;
  std::array<char, kQueryBytes> query_text;
  if (!parse_query(request.head.query, query_text, query, problem) ||
      !choose_encodings(request.head, encoding, pending, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  if (!request.head.timeout_ms.empty()) {
    std::uint64_t timeout_ms = 0;
    if (!parse_timeout(request.head.timeout_ms, timeout_ms)) {
      problem.set(ProblemCode::kMalformedRequest,
                  "X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to %llu",
                  static_cast<unsigned long long>(kTimeoutMsMax));
      session_.refuse(connection, pending, problem);
      return;
    }
    pending.deadline_ns = loop_.now_ns + timeout_ms * kMillisecondNs;
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
    claim = entry.ring.claim(1);
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
