// Rows that need not run: equal ones have been answered, or are running. Those of requests of many rows are in
// predict_cache_rows.cpp.
#include <algorithm>
#include <cstring>

#include "engine/predict_options.hpp"
#include "engine/predict_path.hpp"
#include "engine/second_level.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kOutputAlignment = 16;
constexpr std::uint32_t kLookupsPerClock = 64;

std::uint64_t bytes_of(const TensorSpec& tensor, std::uint32_t length) noexcept {
  return tensor.varies ? tensor.bytes_of_length(length) : tensor.bytes();
}

// What outputs of that length need when they are kept.
std::uint64_t kept_bytes(const RowLayout& outputs, std::uint32_t length) noexcept {
  std::uint64_t bytes = 0;
  for (const TensorSpec& tensor : outputs.tensors()) bytes += align_up(bytes_of(tensor, length), kOutputAlignment);
  return bytes;
}

Urgency urgency_of(const ModelEntry& entry, const Pending& pending) noexcept {
  std::uint64_t limit_ns = pending.timeout_ns;
  if (entry.slo_ns != 0 && (limit_ns == 0 || entry.slo_ns < limit_ns)) limit_ns = entry.slo_ns;
  return {pending.row_class, limit_ns == 0 ? 0 : pending.arrival_ns + limit_ns};
}

}  // namespace

// `row` is packed. True: the request is answered, refused, or waits for another one's row. False: it is to be run, and
// `flight` is set when others may share the answer.
bool PredictPath::share_row(Connection& connection, Pending& pending, ModelEntry& entry, const std::byte* row,
                            Flight*& flight) {
  const std::size_t reply_bytes = entry.encoder.bytes_max(pending.encoding, pending.length);
  if (pending.cache_bypass || reply_bytes > kInlineBytesMax) return false;
  const RowLayout& inputs = entry.ring.schema().inputs;
  parts_.clear();  // of the gaps between the tensors nothing is known
  for (std::size_t i = 0; i < inputs.size(); ++i)
    parts_.emplace_back(row + inputs.offset(i), bytes_of(inputs.tensors()[i], pending.length));
  Sought sought{.waiter = {&inbox_, connection.index, connection.generation, pending.id},
                .length = pending.length,
                .was_asked = pending.cache_asked};
  const CacheAnswer answer = seek_row(pending, entry, sought, flight);
  if (answer == CacheAnswer::kMiss) {
    if (flight != nullptr) entry.stats[loop_.index].cache_misses.add();
    return false;
  }
  Problem problem;
  if (!reserve_reply(pending, kHeadBytesMax + reply_bytes, problem)) {
    session_.refuse(connection, pending, problem);
  } else if (answer == CacheAnswer::kHit) {
    answer_hit(connection, pending, entry, *sought.found);
  } else {
    await_row(connection, pending, entry, kHeadBytesMax + reply_bytes);
  }
  return true;
}

// A row whose tensors are `parts_`. kMiss: it is to be run; `flight` is set when others may share what comes of it.
CacheAnswer PredictPath::seek_row(const Pending& pending, ModelEntry& entry, Sought& sought, Flight*& flight) {
  // A shadow sees the share of the requests that it would see without a cache.
  Mirror* const mirror = loop_.table->mirror(entry.id).get();
  if (mirror != nullptr && mirror->is_due(loop_.index)) return CacheAnswer::kMiss;
  const std::uint64_t output_bytes = kept_bytes(entry.ring.schema().outputs, sought.length);
  const CacheKey key = key_of(pending, entry, sought.length);
  if (key.bytes > kInlineBytesMax || output_bytes > kInlineBytesMax) return CacheAnswer::kMiss;
  const Urgency urgency = urgency_of(entry, pending);
  if (!pending.cache_refresh) {
    const CacheAnswer answer = look_timed(entry, key, urgency, sought);
    if (answer != CacheAnswer::kMiss) {
      if (mirror != nullptr) (void)mirror->is_next(loop_.index);
      RingStats& stats = entry.stats[loop_.index];
      (answer == CacheAnswer::kHit ? stats.cache_hits : stats.cache_coalesced).add();
      return answer;
    }
  }
  flight = &flights_.acquire();
  flight->row = std::make_shared<CachedRow>(key, output_bytes);
  flight->urgency = urgency;
  if (entry.cache->second == nullptr || !look_further(pending, entry, sought, *flight)) return CacheAnswer::kMiss;
  flight = nullptr;
  return CacheAnswer::kJoined;  // its own flight, which is settled when it is known
}

// The clock costs more than a hit: one lookup in some is timed, and stands for the others.
CacheAnswer PredictPath::look_timed(ModelEntry& entry, const CacheKey& key, const Urgency& urgency, Sought& sought) {
  ResultCache& cache = entry.cache->cache;
  if (lookups_++ % kLookupsPerClock != 0) return cache.look(key, urgency, sought.waiter, loop_.now_ns, sought.found);
  const std::uint64_t begun_ns = monotonic_ns();
  const CacheAnswer answer = cache.look(key, urgency, sought.waiter, loop_.now_ns, sought.found);
  const std::uint64_t taken_ns = (monotonic_ns() - begun_ns) * kLookupsPerClock;
  RingStats& stats = entry.stats[loop_.index];
  if (answer == CacheAnswer::kHit) stats.cache_hit_ns.add(taken_ns);
  if (answer == CacheAnswer::kMiss) stats.cache_miss_ns.add(taken_ns);
  return answer;
}

CacheKey PredictPath::key_of(const Pending& pending, const ModelEntry& entry, std::uint32_t length) const noexcept {
  CacheKey key{.account = &entry.cache,
               .parts = parts_,
               .length = length,
               .reproducible = pending.row_class == batcher::RowClass::kReproducible};
  for (const std::span<const std::byte> part : parts_) key.bytes += part.size();
  if (key.bytes <= kInlineBytesMax) key.hash = entry.cache->cache.hash_of(key);
  return key;
}

// Once its row is in the queue: before, it might yet be refused, and whoever joined with it.
void PredictPath::begin_flight(ModelEntry& entry, const batcher::Claim& claim, Flight& flight) {
  entry.ticket(claim.buffer, claim.row).flight = flight.index;
  entry.cache->cache.begin(flight);
}

void PredictPath::await_row(Connection& connection, Pending& pending, ModelEntry& entry, std::size_t reply_bytes) {
  enter_request(connection, pending, entry, reply_bytes);
  pending.state = Pending::State::kShared;
  entry.stats[loop_.index].rows_out.add();  // the ring stays until its answer has come here
}

void PredictPath::answer_hit(Connection& connection, Pending& pending, ModelEntry& entry, const CachedRow& row) {
  pending.entry = &entry;
  pending.from_cache = true;
  pending.receipt = {.version = entry.version, .cache = "hit"};
  pending.cache_age_s = row.age_ns(loop_.now_ns) / kSecondNs;
  answer_cached(connection, pending, entry, row);
}

void PredictPath::answer_cached(Connection& connection, Pending& pending, ModelEntry& entry, const CachedRow& row) {
  const std::span<const std::byte* const> outputs = outputs_of(entry, row);
  Problem problem;
  if (entry.encoder.has_texts() && !entry.encoder.check_texts(pending.encoding, outputs, pending.length, problem)) {
    pending.reply.reset();
    session_.refuse(connection, pending, problem);
    return;
  }
  answer_outputs(connection, pending, entry, outputs);
}

std::span<const std::byte* const> PredictPath::outputs_of(const ModelEntry& entry, const CachedRow& row) noexcept {
  const std::vector<TensorSpec>& tensors = entry.ring.schema().outputs.tensors();
  const std::byte* at = row.outputs();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    outputs_[i] = at;
    at += align_up(bytes_of(tensors[i], row.length()), kOutputAlignment);
  }
  return {outputs_.data(), tensors.size()};
}

// The row of a flight is done, whatever came of it and whether or not its own request still waits.
void PredictPath::settle_flight(ModelEntry& entry, const batcher::DoneBlock& block, const BatchStamps& stamps,
                                std::uint32_t row, Flight& flight) {
  const batcher::Completion& completion = entry.ring.completion(block, row);
  // Acquire is in poll_done(): the worker wrote this before it completed the batch.
  const bool is_answer = completion.kind.load(std::memory_order_relaxed) == batcher::CompletionKind::kFinal;
  const bool is_shed = !is_answer && completion.error == batcher::RowError::kShed;
  Shared shared{flight.row, stamps, {}, is_shed, false};
  if (is_answer) {
    keep_outputs(entry, block, row, *flight.row);
  } else {
    describe_error(completion, shared.problem);
  }
  const std::shared_ptr<CachedRow> done = flight.row;
  if (is_answer && flight.is_wanted && entry.cache->second != nullptr) entry.cache->second->keep(done);
  entry.cache->cache.finish(flight, is_answer, loop_.now_ns, waiters_);
  flights_.release(flight);
  entry.ticket(block.buffer, row).flight = kNoFlight;  // its request may be given up before the row is answered
  for (const CacheWaiter& waiter : waiters_) {
    // What is to run again is not submitted while blocks are being answered.
    if (waiter.inbox == &inbox_ && !is_shed) {
      finish_shared(entry, waiter, shared);
    } else {
      post_shared(entry, waiter, shared);
    }
  }
  waiters_.clear();
}

void PredictPath::keep_outputs(ModelEntry& entry, const batcher::DoneBlock& block, std::uint32_t row,
                               CachedRow& kept) noexcept {
  const std::vector<TensorSpec>& tensors = entry.ring.schema().outputs.tensors();
  std::byte* at = kept.outputs();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::uint64_t bytes = bytes_of(tensors[i], kept.length());
    if (bytes != 0) std::memcpy(at, entry.ring.output(block, row, i), bytes);
    at += align_up(bytes, kOutputAlignment);
  }
}

void PredictPath::post_shared(ModelEntry& entry, const CacheWaiter& waiter, const Shared& shared) {
  auto job = std::make_unique<Job>();
  job->kind = Job::Kind::kShared;
  job->connection = waiter.connection;
  job->generation = waiter.generation;
  job->request = waiter.request;
  job->row_of_many = waiter.row;
  job->table = loop_.table;
  job->entry = &entry;
  job->cached = shared.row;
  job->stamps = shared.stamps;
  job->problem = shared.problem;
  job->run_again = shared.run_again;
  job->from_cache = shared.from_cache;
  waiter.inbox->post(std::move(job));
}

void PredictPath::finish_shared(Job& job) {
  const CacheWaiter waiter{&inbox_, job.connection, job.generation, job.request, job.row_of_many};
  finish_shared(*job.entry, waiter, {job.cached, job.stamps, job.problem, job.run_again, job.from_cache});
}

void PredictPath::finish_shared(ModelEntry& entry, const CacheWaiter& waiter, const Shared& shared) {
  Connection* const connection = loop_.find(waiter.connection, waiter.generation);
  if (connection == nullptr) return;
  Pending& pending = connection->slot(waiter.request);
  if (pending.id != waiter.request) return;
  if (waiter.row != kNoRow) {
    if (pending.state == Pending::State::kRow) finish_shared_row(*connection, pending, waiter.row, shared);
    return;
  }
  if (pending.state != Pending::State::kShared) return;  // its deadline has passed
  if (shared.run_again) {
    run_alone(*connection, pending, entry, *shared.row);
  } else if (shared.problem) {
    Problem problem = shared.problem;
    pending.reply.reset();
    session_.refuse(*connection, pending, problem);
  } else if (shared.from_cache) {
    answer_hit(*connection, pending, entry, *shared.row);
  } else {
    note_answer(pending, entry, shared.stamps);
    pending.receipt.cache = "coalesced";
    answer_cached(*connection, pending, entry, *shared.row);
  }
  entry.stats[loop_.index].rows_out.sub();  // last: one that runs again is counted meanwhile
}

// The row was dropped since its own request could not be in time, which says nothing about the others; or it is not
// known anywhere.
void PredictPath::run_alone(Connection& connection, Pending& pending, ModelEntry& entry, const CachedRow& row) {
  connection.owed_bytes -= pending.owed_bytes;
  pending.owed_bytes = 0;
  pending.reply.reset();
  pending.state = Pending::State::kOpen;
  pending.cache_asked = true;
  Problem problem;
  TableResolver resolver(*loop_.table, scratch_, pending.row_class, &entry);
  const RowTarget target = resolver.resolve({}, {}, problem);
  if (target.row == nullptr) {
    set_retry_after(entry, pending, problem);
    session_.refuse(connection, pending, problem);
    return;
  }
  const RowLayout& inputs = target.schema->inputs;
  const std::byte* from = row.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::uint64_t bytes = bytes_of(inputs.tensors()[i], pending.length);
    if (bytes != 0) std::memcpy(target.row + inputs.offset(i), from, bytes);
    from += bytes;
  }
  submit_row(connection, pending, entry, target.row, resolver.slot(), problem);
}

// The request of row k of the claim is gone; true: the row need not run.
bool PredictPath::leave_flight(const Pending& pending, const batcher::Claim& claim, std::uint32_t k) noexcept {
  const Ticket& ticket = pending.entry->ticket(claim.buffer, claim.row + k);
  if (ticket.flight == kNoFlight) return true;
  // A row that is late may never come: no more requests are to wait for it.
  const bool is_late = pending.deadline_ns <= loop_.now_ns;
  return pending.entry->cache->cache.leave(flights_.at(ticket.flight), !is_late);
}

}  // namespace penstock::dataplane
