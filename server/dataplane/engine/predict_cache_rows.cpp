// Rows of a request of many that need not run: each is looked for by itself, and equal ones of the request run once.
#include <algorithm>

#include "engine/predict_path.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

}  // namespace

// Where the inputs of a row lie, into `parts_`.
void PredictPath::find_row_parts(const Rejoin& rejoin, std::uint32_t row) {
  const std::vector<TensorSpec>& tensors = rejoin.entry->ring.schema().inputs.tensors();
  parts_.clear();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::uint64_t bytes =
        tensors[i].varies ? tensors[i].bytes_of_length(rejoin.length_of(row)) : tensors[i].bytes();
    parts_.emplace_back(rejoin.columns[i].data + row * rejoin.columns[i].stride, bytes);
  }
}

// Rows to be run that have no answer in the cache.
std::uint32_t PredictPath::count_unknown(const Pending& pending, const Rejoin& rejoin) {
  if (pending.cache_refresh) return rejoin.rows - rejoin.refused;
  std::uint32_t unknown = 0;
  for (std::uint32_t row = 0; row < rejoin.rows; ++row) {
    find_row_parts(rejoin, row);
    const CacheKey key = key_of(pending, *rejoin.entry, rejoin.length_of(row));
    if (key.bytes > kInlineBytesMax || !rejoin.entry->cache->cache.knows(key, loop_.now_ns)) ++unknown;
  }
  return unknown > rejoin.refused ? unknown - rejoin.refused : 0;
}

// One row: that at the cursor, or, when it is behind the last one, one that is to be run after all.
PredictPath::PartStatus PredictPath::share_or_submit(Connection& connection, Pending& pending, Problem& problem) {
  Rejoin& rejoin = *pending.rejoin;
  ModelEntry& entry = *rejoin.entry;
  const bool is_again = rejoin.cursor == rejoin.rows;
  if (is_again) rejoin.cursor = rejoin.again.back();
  const std::uint32_t row = rejoin.cursor;
  find_row_parts(rejoin, row);
  Sought sought{.waiter = {&inbox_, connection.index, connection.generation, pending.id, row},
                .length = rejoin.length_of(row),
                .was_asked = is_again};
  Flight* flight = nullptr;
  PartStatus status = PartStatus::kSubmitted;
  switch (seek_row(pending, entry, sought, flight)) {
    case CacheAnswer::kHit:
      if (!take_known(pending, *sought.found, row, problem) && !take_fault(pending, problem, row)) {
        name_row(row, problem);
        return PartStatus::kRefused;
      }
      rejoin.oldest_ns = std::max(rejoin.oldest_ns, sought.found->age_ns(loop_.now_ns));
      ++rejoin.answered;
      ++rejoin.cursor;
      break;
    case CacheAnswer::kJoined:
      entry.stats[loop_.index].rows_out.add();  // the ring stays until its answer has come here
      ++rejoin.waiting;
      ++rejoin.under_way;
      ++rejoin.cursor;
      break;
    case CacheAnswer::kMiss:
      status = submit_part(connection, pending, 1, flight, problem);
      if (flight == nullptr) break;
      if (status == PartStatus::kSubmitted) {
        entry.stats[loop_.index].cache_misses.add();
      } else {
        flights_.release(*flight);
      }
      break;
  }
  if (is_again) {
    rejoin.cursor = rejoin.rows;
    if (status == PartStatus::kSubmitted) rejoin.again.pop_back();
  }
  return status;
}

// The row that it waited for is done, whatever came of it.
void PredictPath::finish_shared_row(Connection& connection, Pending& pending, std::uint32_t row, const Shared& shared) {
  Rejoin& rejoin = *pending.rejoin;
  ModelEntry& entry = *rejoin.entry;
  if (shared.run_again) {
    // What it counted for stays counted while it is in the list of the unfinished; others of it may be there already.
    if (rejoin.is_submitted()) {
      unfinished_.push_back({connection.index, connection.generation, pending.id, &entry});
    } else {
      entry.stats[loop_.index].rows_out.sub();
    }
    rejoin.again.push_back(row);
    rejoin.stalled = false;
    --rejoin.waiting;
    --rejoin.under_way;
    return;
  }
  Problem problem = shared.problem;
  const bool is_taken = !problem && take_known(pending, *shared.row, row, problem);
  if (!is_taken && !take_fault(pending, problem, row)) {
    refuse_row(connection, pending, row, problem);
    return;
  }
  entry.stats[loop_.index].rows_out.sub();
  --rejoin.waiting;
  --rejoin.under_way;
  ++rejoin.answered;
  if (shared.from_cache) {
    rejoin.oldest_ns = std::max(rejoin.oldest_ns, shared.row->age_ns(loop_.now_ns));
  } else {
    rejoin.joined = true;
    rejoin.stamps = shared.stamps;
  }
  if (rejoin.is_complete()) answer_known_rows(connection, pending);
}

// The last rows needed no batch, or none at all did.
void PredictPath::answer_known_rows(Connection& connection, Pending& pending) {
  const Rejoin& rejoin = *pending.rejoin;
  if (rejoin.parts.empty() && !rejoin.joined) {
    pending.receipt = {.version = rejoin.entry->version, .cache = "hit"};
    pending.from_cache = true;
    pending.cache_age_s = rejoin.oldest_ns / kSecondNs;
  } else {
    note_answer(pending, *rejoin.entry, rejoin.stamps);
  }
  answer_rows(connection, pending);
}

}  // namespace penstock::dataplane
