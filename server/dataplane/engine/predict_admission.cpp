// Admission: a request that cannot be answered in time is refused while its client can still ask elsewhere.
#include <algorithm>

#include "engine/predict_path.hpp"
#include "penstock/batcher/admission.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kProbeNs = 100 * kMillisecondNs;
// Whoever set a limit would rather be refused at once than hear at its end that there is no answer.
constexpr std::uint64_t kProbeOfClientNs = 1000 * kMillisecondNs;

unsigned long long to_ms(std::uint64_t from_ns, std::uint64_t to_ns) noexcept {
  return to_ns > from_ns ? (to_ns - from_ns + kMillisecondNs - 1) / kMillisecondNs : 0;
}

batcher::QueueLoad load_of(const ModelEntry& entry, std::uint32_t lane, std::uint64_t now_ns) noexcept {
  batcher::QueueLoad load = entry.ring.load(lane, now_ns);
  const std::uint32_t workers = entry.workers.load(std::memory_order_relaxed);
  if (workers != 0) load.workers = workers;
  load.rows_per_second = entry.arrivals_per_second(entry.ring.settings(lane).row_class);
  return load;
}

// Device time that the rows of a length bucket want which go before one of this lane. Their batches are taken for full
// ones.
std::uint64_t queued_ns(const ModelEntry& entry, std::uint32_t lane, std::uint64_t now_ns) noexcept {
  const batcher::QueueLoad load = load_of(entry, lane, now_ns);
  const batcher::CostModel cost = entry.ring.cost(entry.ring.settings(lane).bucket);
  if (load.rows_ahead == 0 || !cost.is_known()) return 0;
  const std::uint64_t rows_max = std::max(1U, entry.ring.settings(lane).batch_rows_max);
  const std::uint64_t batches = (load.rows_ahead + rows_max - 1) / rows_max;
  const auto rows = static_cast<std::uint32_t>(std::min(load.rows_ahead, rows_max));
  return batches * cost.mean_ns(rows) / std::max(1U, load.workers);
}

// What another model of the group wants. Its classes are taken for one: how much of it goes first is bounded by the
// caller.
struct Wanted {
  std::uint64_t all_ns = 0;
  std::uint64_t batch_ns = 0;  // at most, of one batch
};

Wanted wanted_by(const ModelEntry& entry, std::uint64_t now_ns) noexcept {
  Wanted wanted;
  for (std::uint32_t bucket = 0; bucket < entry.buckets(); ++bucket) {
    // Behind this lane are all rows of the bucket.
    const std::uint32_t lane = entry.ring.lane_of(batcher::RowClass::kBatch, bucket);
    const std::uint64_t bucket_ns = queued_ns(entry, lane, now_ns);
    const std::uint64_t batch_ns = entry.ring.cost(bucket).mean_ns(entry.ring.settings(lane).batch_rows_max);
    wanted.all_ns += bucket_ns;
    wanted.batch_ns = std::max(wanted.batch_ns, std::min(bucket_ns, batch_ns));
  }
  return wanted;
}

}  // namespace

bool PredictPath::admit(ModelEntry& entry, Pending& pending, std::uint32_t rows, Problem& problem) {
  std::uint64_t limit_ns = pending.timeout_ns;
  if (entry.slo_ns != 0 && (limit_ns == 0 || entry.slo_ns < limit_ns)) limit_ns = entry.slo_ns;
  if (limit_ns == 0) return true;
  pending.row_deadline_ns = pending.arrival_ns + limit_ns;
  const std::uint32_t lane = entry.lane_of(pending.row_class, pending.length);
  // Nothing has run yet, not even to warm up: then there is nothing to predict from.
  const batcher::CostModel cost = entry.ring.cost(entry.ring.settings(lane).bucket);
  if (!cost.is_known()) return true;
  pending.predicted_ns = predict(entry, lane, {.rows = rows, .limit_ns = limit_ns}, cost);
  if (is_in_time(entry, lane, {.rows = rows, .limit_ns = limit_ns}, cost, pending)) return true;
  if (is_probe(entry, lane, limit_ns != pending.timeout_ns ? kProbeNs : kProbeOfClientNs)) return true;
  // Refused at a block's distance, it would not be late for sure, but about as late as this.
  pending.predicted_ns = std::max(pending.predicted_ns, pending.row_deadline_ns + kMillisecondNs);
  problem.set(ProblemCode::kDeadlineUnreachable,
              "model '%s' would answer in about %llu ms, which is later than the %llu ms that %s allows",
              entry.model.c_str(), to_ms(pending.arrival_ns, pending.predicted_ns), to_ms(0, limit_ns),
              limit_ns == pending.timeout_ns ? "X-Request-Timeout-Ms" : "its latency objective");
  problem.set_retry_after(batcher::retry_after_s(pending.predicted_ns, pending.row_deadline_ns));
  RingStats& stats = entry.stats[loop_.index];
  stats.rows_refused_deadline.add(rows);
  stats.rows_refused_by_class[static_cast<std::size_t>(pending.row_class)].add(rows);
  ++loop_.refusals;
  return false;
}

// In overload takers cut batches at blocks, and not always where it is predicted: who would just be in the batch may
// not be, and would be shed after a wait that is worth nothing to anybody. A block's distance costs 0.3 % of the
// answers at twice the capacity and makes 2,000 such rows in 28,000 refused ones 150. Below the capacity it would cost
// 1 %.
bool PredictPath::is_in_time(const ModelEntry& entry, std::uint32_t lane, const Asked& asked,
                             const batcher::CostModel& cost, const Pending& pending) const noexcept {
  if (pending.predicted_ns > pending.row_deadline_ns) return false;
  const batcher::LaneSettings& settings = entry.ring.settings(lane);
  const Asked unlucky{.rows = asked.rows + settings.block_rows, .limit_ns = asked.limit_ns};
  if (predict(entry, lane, unlucky, cost) <= pending.row_deadline_ns) return true;
  return !batcher::is_overloaded(load_of(entry, lane, loop_.now_ns), settings, cost);
}

// Where nothing has run for long, what is known may be wrong, and would stay so if nothing ran: now and then a request
// runs though it seems that it will miss its limit. Nobody waits longer than that: late, it is answered with a 504.
bool PredictPath::is_probe(ModelEntry& entry, std::uint32_t lane, std::uint64_t every_ns) noexcept {
  RingStats& stats = entry.stats[loop_.index];
  if (loop_.now_ns < stats.done_ns + every_ns) return false;
  const batcher::QueueLoad load = entry.ring.load(lane, loop_.now_ns);
  if (load.rows_ahead > 0 || load.free_at_ns > loop_.now_ns) return false;
  stats.done_ns = loop_.now_ns;
  return true;
}

// When the last of `asked.rows` rows that arrive now would be answered.
std::uint64_t PredictPath::predict(const ModelEntry& entry, std::uint32_t lane, const Asked& asked,
                                   const batcher::CostModel& cost) const noexcept {
  const std::uint64_t now_ns = loop_.now_ns;
  const batcher::LaneSettings& settings = entry.ring.settings(lane);
  batcher::QueueLoad load = load_of(entry, lane, now_ns);
  load.rows_ahead += asked.rows - 1;
  for (std::uint32_t bucket = 0; bucket < entry.buckets(); ++bucket) {
    if (bucket != settings.bucket)
      load.others_ns += queued_ns(entry, entry.ring.lane_of(settings.row_class, bucket), now_ns);
  }
  const std::uint64_t alone_ns = batcher::predict_done_ns(load, settings, cost, now_ns);
  std::uint64_t others_ns = 0;
  std::uint64_t others_weight = 0;
  std::uint64_t longest_ns = 0;
  for (const ModelEntry* peer : loop_.table->peers(entry.id)) {
    // A longer objective lets these rows go first, and the taker cuts its batches to leave them room. If it counted, a
    // model with a short one would be refused for good beside one that always has a longer batch waiting.
    if (asked.limit_ns != 0 && peer->slo_ns > asked.limit_ns) continue;
    const Wanted wanted = wanted_by(*peer, now_ns);
    if (wanted.all_ns == 0) continue;
    others_ns += wanted.all_ns;
    others_weight += peer->ring.settings(0).weight;
    longest_ns = std::max(longest_ns, wanted.batch_ns);
  }
  if (others_ns == 0) return alone_ns;
  // While this model's rows run, the others get their share and no more; whatever it is, one batch may be ahead.
  const std::uint64_t share_ns = (alone_ns - now_ns) * others_weight / std::max(1U, settings.weight);
  return alone_ns + std::min(others_ns, std::max(share_ns, longest_ns));
}

void PredictPath::set_retry_after(const ModelEntry& entry, const Pending& pending, Problem& problem) const {
  const std::uint32_t lane = entry.lane_of(pending.row_class, pending.length);
  const std::uint64_t done_ns = predict(entry, lane, {}, entry.ring.cost(entry.ring.settings(lane).bucket));
  problem.set_retry_after(batcher::retry_after_s(done_ns, loop_.now_ns));
}

void PredictPath::refuse_claim(ModelEntry& entry, const Pending& pending, batcher::ClaimStatus status,
                               Problem& problem) {
  if (status == batcher::ClaimStatus::kFull) {
    problem.set(ProblemCode::kQueueFull, "the queue of model '%s' is full", entry.model.c_str());
    set_retry_after(entry, pending, problem);
    return;
  }
  problem.set(ProblemCode::kModelUnavailable, "model '%s' was stopped: its worker damaged the queue",
              entry.model.c_str());
  note_closed(entry);
}

// The other loops may sleep and have rows in the ring: nobody will complete those any more.
void PredictPath::note_closed(ModelEntry& entry) noexcept {
  if (!entry.closed.exchange(true, std::memory_order_relaxed)) loop_.engine.wake_loops();
}

}  // namespace penstock::dataplane
