// Rows that are not known here, but may be in the second level. Equal ones wait for the same lookup.
#include <utility>

#include "engine/predict_path.hpp"
#include "engine/second_level.hpp"

namespace penstock::dataplane {

// True: the row waits for what is found, as the first waiter of its own flight. False: nobody is asked now.
bool PredictPath::look_further(const Pending& pending, ModelEntry& entry, const Sought& sought, Flight& flight) {
  SecondLevel& second = *entry.cache->second;
  if (pending.cache_refresh || sought.was_asked) return false;
  // It should have time left to run.
  const std::uint64_t deadline_ns = flight.urgency.deadline_ns;
  if (deadline_ns != 0 && deadline_ns < loop_.now_ns + 2 * second.timeout_ns()) return false;
  if (!second.reserve()) return false;
  flight.waiters.push_back(sought.waiter);
  entry.cache->cache.begin(flight);
  entry.stats[loop_.index].rows_out.add();  // nothing is cached of a ring that goes
  auto job = std::make_unique<Job>();
  job->kind = Job::Kind::kStored;
  job->inbox = &inbox_;
  job->table = loop_.table;
  job->entry = &entry;
  job->flight = flight.index;
  second.look_up(flight.row, std::move(job));
  return true;
}

void PredictPath::finish_look_up(Job& job) {
  ModelEntry& entry = *job.entry;
  Flight& flight = flights_.at(job.flight);
  const std::shared_ptr<CachedRow> row = flight.row;
  const std::uint64_t made_ns = loop_.now_ns > job.age_ns ? loop_.now_ns - job.age_ns : 0;
  entry.cache->cache.finish(flight, job.found, made_ns, waiters_);
  flights_.release(flight);
  const Shared shared{row, {}, {}, !job.found, job.found};
  std::vector<CacheWaiter> waiters;  // what runs now may settle others
  waiters.swap(waiters_);
  // Those of this loop first: then the row is under way when the others look for it again.
  for (const CacheWaiter& waiter : waiters) {
    if (waiter.inbox == &inbox_) finish_shared(entry, waiter, shared);
  }
  for (const CacheWaiter& waiter : waiters) {
    if (waiter.inbox != &inbox_) post_shared(entry, waiter, shared);
  }
  waiters.clear();
  waiters_.swap(waiters);
  entry.stats[loop_.index].rows_out.sub();
}

}  // namespace penstock::dataplane
