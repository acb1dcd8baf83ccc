// Requests of many rows into the ring: claim, copy, publish, as much at once as a pass may take.
#include <algorithm>
#include <cstring>

#include "engine/predict_options.hpp"
#include "engine/predict_path.hpp"
#include "engine/row_padding.hpp"
#include "engine/rows_reply.hpp"
#include "http/fields.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kMicrosecondNs = 1000;
// What a row costs beside the copy of its inputs, as bytes copied.
constexpr std::size_t kRowCostBytes = 64;

// Bytes of a row of this length in a tensor that has `spec` at its longest.
std::size_t bytes_at(const TensorSpec& spec, std::uint32_t length) noexcept {
  return static_cast<std::size_t>(spec.varies ? spec.bytes_of_length(length) : spec.bytes());
}

}  // namespace

void PredictPath::start_batch(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  Opening opening;
  if (!open(connection, pending, request.head, opening, problem)) return;
  // Behind whoever asks for a single row, unless it says otherwise.
  if (request.head.priority.data() == nullptr && pending.row_class == batcher::RowClass::kNormal)
    pending.row_class = batcher::RowClass::kBatch;
  // Columns, as the Open Inference Protocol has them, and an answer by rows all the same.
  std::size_t header_bytes = 0;
  const bool is_columns = find_field(request.head.fields, kInferHeaderLength).data() != nullptr;
  if (is_columns && !read_infer_header_length(request.head, header_bytes, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  const RowsBody body{opening.encoding, request.body, header_bytes, {opening.query.model, opening.query.version}};
  begin_rows(connection, pending, request, Rejoin::Form::kRows, body, nullptr);
}

void PredictPath::start_infer(Connection& connection, Pending& pending, const Request& request,
                              const QueryNames& names) {
  Problem problem;
  std::size_t header_bytes = request.body.size();
  if (!choose_infer_encodings(request.head, header_bytes, pending, problem) ||
      !begin_request(connection, pending, request.head, {}, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  const RowsBody body{Encoding::kJson, request.body, header_bytes, names};
  begin_rows(connection, pending, request, Rejoin::Form::kInfer, body, nullptr);
}

void PredictPath::start_message(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  if (!begin_request(connection, pending, request.head, {}, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  const RowsBody body{Encoding::kJson, request.body, 0, {}};
  begin_rows(connection, pending, request, Rejoin::Form::kMessage, body, nullptr);
}

void PredictPath::begin_rows(Connection& connection, Pending& pending, const Request& request, Rejoin::Form form,
                             const RowsBody& body, ModelEntry* known) {
  Rejoin& rejoin = *rejoins_.acquire();
  rejoin.form = form;
  const bool is_columns = body.header_bytes != 0;
  const bool is_text = form >= Rejoin::Form::kInfer || is_columns || body.encoding != Encoding::kRaw;
  const std::size_t text_bytes = is_columns ? body.header_bytes : body.bytes.size();
  if (is_text && text_bytes > kInlineBytesMax) {
    submit_rows_decode(connection, pending, request, rejoin, body);
    return;
  }
  Problem problem;
  if (!decode_rows(body, *loop_.table, loop_.engine.pool, rejoin, problem, known)) {
    rejoins_.release(rejoin);
    refuse_body(connection, pending, problem);
    return;
  }
  rejoin.body = std::move(request.block);
  if (!rejoin.body && !rejoin.keep_body(body.bytes, loop_.engine.pool)) {
    rejoins_.release(rejoin);
    problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the body");
    session_.refuse(connection, pending, problem);
    return;
  }
  submit_rows(connection, pending, rejoin);
}

void PredictPath::submit_rows_decode(Connection& connection, Pending& pending, const Request& request, Rejoin& rejoin,
                                     const RowsBody& body) {
  auto job = make_job(Job::Kind::kDecodeRows, connection, pending);
  job->encoding = body.encoding;
  job->body = body.bytes;
  job->header_bytes = body.header_bytes;
  job->model = body.names.model;
  job->version = body.names.version;
  job->block = std::move(request.block);
  job->pool = &loop_.engine.pool;
  job->rejoin = &rejoin;
  pending.state = Pending::State::kJob;
  jobs_.submit(std::move(job));
}

void PredictPath::finish_rows_decode(Job& job) {
  Connection* connection = loop_.find(job.connection, job.generation);
  Pending* pending = connection == nullptr ? nullptr : &connection->slot(job.request);
  const bool waited_for = pending != nullptr && pending->id == job.request && pending->state == Pending::State::kJob;
  if (waited_for) pending->state = Pending::State::kOpen;
  if (!waited_for || job.problem) {
    rejoins_.release(*job.rejoin);
    if (waited_for) refuse_body(*connection, *pending, job.problem);
    return;
  }
  submit_rows(*connection, *pending, *job.rejoin);
}

// The rows have been read. From here on they are the pending's.
void PredictPath::submit_rows(Connection& connection, Pending& pending, Rejoin& rejoin) {
  Problem problem;
  ModelEntry& entry = *rejoin.entry;
  pending.length = rejoin.longest;
  // A message of a stream has no more than its call has left; otherwise the field of the head goes before.
  const bool bounded = pending.timeout_ns != 0;
  if (rejoin.infer.timeout_us != 0 && (!bounded || connection.carrier != nullptr)) {
    const std::uint64_t own_ns = std::min(rejoin.infer.timeout_us, kTimeoutNsMax / kMicrosecondNs) * kMicrosecondNs;
    pending.timeout_ns = bounded ? std::min(pending.timeout_ns, own_ns) : own_ns;
    pending.deadline_ns = pending.arrival_ns + pending.timeout_ns;
    loop_.timers.arm(connection.timer, pending.deadline_ns);
  }
  rejoin.refused = static_cast<std::uint32_t>(rejoin.faults.size());
  const std::uint32_t wanted = rejoin.rows - rejoin.refused;
  std::size_t reply_bytes = 0;
  rejoin.shares = entry.cache != nullptr && !pending.cache_bypass;
  if (!accept_faults(pending, rejoin, problem) || !admit_rows(pending, rejoin, wanted, problem) ||
      !prepare_reply(pending, rejoin, reply_bytes, problem)) {
    // What the problem speaks of.
    const auto faults = rejoin.faults.empty() ? nullptr : rejoin.faults.front().fields;
    rejoins_.release(rejoin);
    pending.reply.reset();
    session_.refuse(connection, pending, problem);
    return;
  }
  pending.rejoin = &rejoin;
  rejoin.answered = rejoin.refused;
  enter_request(connection, pending, entry, reply_bytes);
  if (wanted == 0) {
    pending.receipt_wanted = false;  // nothing ran
    answer_rows(connection, pending);
    return;
  }
  submit_some(connection, pending);
  if (pending.rejoin == &rejoin && !rejoin.is_submitted()) {
    entry.stats[loop_.index].rows_out.add();  // until it is finished
    unfinished_.push_back({connection.index, connection.generation, pending.id, &entry});
  }
}

bool PredictPath::admit_rows(Pending& pending, const Rejoin& rejoin, std::uint32_t wanted, Problem& problem) {
  // What is known already takes no time.
  const bool counts = rejoin.shares && (pending.timeout_ns != 0 || rejoin.entry->slo_ns != 0);
  const std::uint32_t rows = counts ? count_unknown(pending, rejoin) : wanted;
  return rows == 0 || admit(*rejoin.entry, pending, rows, problem);
}

// Rows that do not fit the schema. Where the reply has no place for their faults, the first one is the request's.
bool PredictPath::accept_faults(const Pending& pending, const Rejoin& rejoin, Problem& problem) const {
  if (rejoin.faults.empty() || rejoin.has_place_for_faults(pending.encoding)) return true;
  const RowFault& fault = rejoin.faults.front();
  problem.set(fault.code, "row %u: %s", fault.row, fault.detail.c_str());
  problem.set_fields(fault.fields.get());
  return false;
}

// Room for the outputs and the reply, now and not when they are there.
bool PredictPath::prepare_reply(Pending& pending, Rejoin& rejoin, std::size_t& reply_bytes, Problem& problem) {
  ModelEntry& entry = *rejoin.entry;
  if (is_raw_reply(pending, rejoin)) return prepare_raw_reply(pending, rejoin, reply_bytes, problem);
  if (!pending.output_name().empty() && !choose_output(entry, pending.output_name(), pending, problem)) return false;
  const std::vector<TensorSpec>& tensors = entry.ring.schema().outputs.tensors();
  if (rejoin.form >= Rejoin::Form::kInfer) {
    for (const InferRequest::Output& output : rejoin.infer.outputs) rejoin.outputs.push_back({.tensor = output.tensor});
  } else {
    for (std::uint32_t i = 0; i < tensors.size(); ++i) rejoin.outputs.push_back({.tensor = i});
  }
  for (Rejoin::Output& output : rejoin.outputs) {
    const TensorSpec& spec = tensors[output.tensor];
    output.stride = bytes_at(spec, rejoin.longest);
    output.spec = &spec;
    output.data = rejoin.allocate(rejoin.rows * output.stride, loop_.engine.pool);
    if (output.data == nullptr) {
      problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the outputs of %u rows", rejoin.rows);
      return false;
    }
    rejoin.results.push_back({reinterpret_cast<const std::byte*>(output.data), output.stride});
  }
  if (rejoin.form == Rejoin::Form::kInfer) {
    for (const RowFault& fault : rejoin.faults) clear_outputs(rejoin, fault.row);
  }
  reply_bytes = kHeadBytesMax + rows_reply_bytes_max(rejoin, pending.encoding);
  return reserve_reply(pending, reply_bytes, problem);
}

bool PredictPath::prepare_raw_reply(Pending& pending, Rejoin& rejoin, std::size_t& reply_bytes, Problem& problem) {
  ModelEntry& entry = *rejoin.entry;
  if (!choose_output(entry, pending.output_name(), pending, problem)) return false;
  if (pending.encoding != Encoding::kRaw) {
    problem.set(ProblemCode::kNotAcceptable,
                "the body has %u rows, which are answered as application/octet-stream only: ask for it with Accept, "
                "or send it to /predict/batch",
                rejoin.rows);
    return false;
  }
  const TensorSpec& spec = entry.ring.schema().outputs.tensors()[pending.output];
  if (spec.varies) {
    problem.set(ProblemCode::kNotAcceptable,
                "the rows of output '%s' vary in length: they are answered as application/json and application/msgpack",
                spec.name.c_str());
    return false;
  }
  const auto bytes = static_cast<std::size_t>(spec.bytes());
  reply_bytes = kHeadBytesMax + rejoin.rows * bytes;
  if (!reserve_reply(pending, reply_bytes, problem)) return false;
  char* const out =
      pending.reply ? pending.reply.data() + kHeadBytesMax : rejoin.allocate(rejoin.rows * bytes, loop_.engine.pool);
  if (out == nullptr) {
    problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the outputs of %u rows", rejoin.rows);
    return false;
  }
  rejoin.outputs.push_back({.tensor = pending.output, .spec = &spec, .data = out, .stride = bytes});
  return true;
}

// --- row by row ------------------------------------------------------------------------------------------------------

void PredictPath::continue_requests() {
  std::erase_if(unfinished_, [this](const Unfinished& who) {
    const bool finished = !submit_more(who);
    if (finished) who.entry->stats[loop_.index].rows_out.sub();
    return finished;
  });
}

bool PredictPath::has_unfinished() const noexcept {
  return mirrored_.has_ready() || std::ranges::any_of(unfinished_, [this](const Unfinished& who) {
           const Rejoin* const rejoin = rejoin_of(who);
           return rejoin == nullptr || !rejoin->stalled;
         });
}

// Null: it was answered, refused or abandoned.
Rejoin* PredictPath::rejoin_of(const Unfinished& who) const noexcept {
  Connection* const connection = loop_.find(who.connection, who.generation);
  if (connection == nullptr) return nullptr;
  Pending& pending = connection->slot(who.request);
  return pending.id == who.request && pending.state == Pending::State::kRow ? pending.rejoin : nullptr;
}

// Whether there is still more of it.
bool PredictPath::submit_more(const Unfinished& who) {
  Rejoin* const rejoin = rejoin_of(who);
  if (rejoin == nullptr) return false;
  Connection& connection = *loop_.find(who.connection, who.generation);
  Pending& pending = connection.slot(who.request);
  submit_some(connection, pending);
  return pending.rejoin == rejoin && !rejoin->is_submitted();
}

// Some rows have come back, so that there may be room for others.
void PredictPath::resume_stalled() noexcept {
  for (const Unfinished& who : unfinished_) {
    Rejoin* const rejoin = rejoin_of(who);
    if (rejoin != nullptr) rejoin->stalled = false;
  }
}

// As many rows as one pass may take. Without room for more it waits for it: whoever sends many rows has given the
// memory for them, and its time is bounded as any request's.
void PredictPath::submit_some(Connection& connection, Pending& pending) {
  Rejoin& rejoin = *pending.rejoin;
  rejoin.stalled = false;
  Problem problem;
  const std::size_t row_cost = kRowCostBytes + rejoin.entry->ring.schema().inputs.bytes();
  for (std::size_t cost = 0; !rejoin.is_submitted() && cost < kInlineBytesMax;) {
    const std::uint32_t count = next_part(pending, rejoin);
    if (count == 0) continue;  // a row that is not run
    const PartStatus status = rejoin.shares ? share_or_submit(connection, pending, problem)
                                            : submit_part(connection, pending, count, nullptr, problem);
    if (status == PartStatus::kFull) {
      rejoin.stalled = true;
      return;
    }
    if (status == PartStatus::kRefused) {
      rejoin.entry->stats[loop_.index].rows_cancelled.add(rejoin.under_way);
      give_up(pending);
      pending.reply.reset();
      session_.refuse(connection, pending, problem);
      return;
    }
    cost += count * row_cost;
  }
  // Large rows are copied into arena slots; what they came in is not needed any more.
  // What waits for a row of others may yet run itself.
  if (rejoin.is_submitted() && rejoin.waiting == 0) rejoin.body.reset();
  if (rejoin.is_complete()) [[unlikely]]
    answer_known_rows(connection, pending);
}

// Rows from the cursor on that may be claimed together. 0: the cursor was at a row that is not run, and is behind it.
std::uint32_t PredictPath::next_part(const Pending& pending, Rejoin& rejoin) const noexcept {
  std::uint32_t until = rejoin.rows;
  if (rejoin.next_fault < rejoin.refused) {
    until = rejoin.faults[rejoin.next_fault].row;
    if (until == rejoin.cursor) {
      ++rejoin.cursor;
      ++rejoin.next_fault;
      return 0;
    }
  }
  if (rejoin.shares) return 1;  // so that the next one sees that an equal one runs
  const batcher::BatchRing& ring = rejoin.entry->ring;
  const bool alone = ring.uses_arena() || !rejoin.lengths.empty();
  const std::uint32_t part_rows = alone ? 1 : ring.settings(ring.lane_of(pending.row_class)).block_rows;
  return std::min(part_rows, until - rejoin.cursor);
}

// `flight`: of the only row, when others may share its answer; else null.
PredictPath::PartStatus PredictPath::submit_part(Connection& connection, Pending& pending, std::uint32_t count,
                                                 Flight* flight, Problem& problem) {
  Rejoin& rejoin = *pending.rejoin;
  ModelEntry& entry = *rejoin.entry;
  const std::uint32_t length = rejoin.length_of(rejoin.cursor);
  const std::uint32_t lane = entry.lane_of(pending.row_class, length);
  // The other half of the queue is for requests of one row, which do not wait.
  if (rings_[entry.id].of_many + count > std::max(entry.lane_rows(lane) / 2, count)) return PartStatus::kFull;
  std::uint32_t slot = kNoSlot;
  batcher::Claim claim;
  claim.status = batcher::ClaimStatus::kFull;
  bool has_room = true;
  if (entry.ring.uses_arena()) {
    const std::optional<std::uint32_t> free_slot = entry.ring.acquire_slot(pending.row_class);
    has_room = free_slot.has_value();
    if (has_room) {
      slot = *free_slot;
      copy_rows(rejoin, lane, 1,
                [&](std::size_t i) { return entry.ring.slot(slot) + entry.ring.lane_schema(lane).inputs.offset(i); });
    }
  }
  if (has_room) claim = entry.ring.claim(lane, count);
  if (claim.status != batcher::ClaimStatus::kClaimed) {
    if (slot != kNoSlot) entry.ring.release_slot(slot);
    if (claim.status == batcher::ClaimStatus::kFull) return PartStatus::kFull;
    refuse_claim(entry, pending, claim.status, problem);
    return PartStatus::kRefused;
  }
  if (slot == kNoSlot) {
    copy_rows(rejoin, lane, count, [&](std::size_t i) { return entry.ring.input(claim, 0, i); });
  } else {
    entry.ring.set_span(claim, 0, slot);
  }
  publish_part(connection, pending, claim, slot);
  if (flight != nullptr) begin_flight(entry, claim, *flight);
  return PartStatus::kSubmitted;
}

// The inputs of `count` rows from the cursor on to where the ring wants them, padded to the lane's length.
template <class Place>
void PredictPath::copy_rows(const Rejoin& rejoin, std::uint32_t lane, std::uint32_t count, Place&& place) {
  const batcher::BatchRing& ring = rejoin.entry->ring;
  const std::vector<TensorSpec>& tensors = ring.lane_schema(lane).inputs.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Column& column = rejoin.columns[i];
    const auto bytes = static_cast<std::size_t>(tensors[i].bytes());
    const std::byte* from = column.data + rejoin.cursor * column.stride;
    std::byte* to = place(i);
    if (column.stride == bytes && rejoin.lengths.empty()) {
      if (bytes != 0) std::memcpy(to, from, count * bytes);
      continue;
    }
    for (std::uint32_t k = 0; k < count; ++k, from += column.stride, to += bytes)
      copy_padded(tensors[i], rejoin.length_of(rejoin.cursor + k), from, to);
  }
}

void PredictPath::publish_part(Connection& connection, Pending& pending, const batcher::Claim& claim,
                               std::uint32_t slot) {
  Rejoin& rejoin = *pending.rejoin;
  ModelEntry& entry = *rejoin.entry;
  for (std::uint32_t k = 0; k < claim.count; ++k) write_row(connection, pending, entry, claim, k, slot);
  entry.ring.publish(claim, loop_.index);
  if (loop_.table->mirror(entry.id) != nullptr) [[unlikely]] {
    const RowLayout& layout = entry.ring.schema().inputs;
    const bool fits = slot == kNoSlot && layout.bytes() <= sizeof scratch_;
    for (std::uint32_t k = 0; k < claim.count; ++k) {
      for (std::size_t i = 0; fits && i < layout.size(); ++i) {
        const Column& column = rejoin.columns[i];
        std::memcpy(scratch_ + layout.offset(i), column.data + (rejoin.cursor + k) * column.stride,
                    std::min<std::size_t>(column.stride, layout.tensor_bytes(i)));
      }
      mirror_row(connection, pending, entry, claim, k, fits ? scratch_ : nullptr);
    }
  }
  rings_[entry.id].of_many += claim.count;
  rejoin.parts.push_back({claim});
  rejoin.cursor += claim.count;
  rejoin.under_way += claim.count;
  count_rows(entry, pending, claim.count);
}

void PredictPath::give_up(Pending& pending) noexcept {
  // A part that was answered may have left its buffer to other rows.
  for (const Rejoin::Part& part : pending.rejoin->parts) {
    if (part.answered) continue;
    for (std::uint32_t k = 0; k < part.claim.count; ++k) {
      if (leave_flight(pending, part.claim, k)) pending.entry->ring.cancel(part.claim, k);
    }
  }
  pending.entry->stats[loop_.index].rows_out.sub(pending.rejoin->waiting);
  rejoins_.release(*pending.rejoin);
  pending.rejoin = nullptr;
}

}  // namespace penstock::dataplane
