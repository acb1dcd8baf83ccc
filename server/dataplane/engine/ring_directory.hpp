// The rings by id, and who may still look at them: tables that were published live on in loops and jobs for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/model_entry.hpp"

namespace penstock::dataplane {

class RouteTable;

class RingDirectory {
 public:
  // Any thread. The id of the new ring: the lowest that nobody uses. Throws as BatchRing.
  std::uint32_t add(const std::string& model, const std::string& version, batcher::RingConfig config,
                    const std::string& group, std::shared_ptr<CacheAccount> cache = nullptr,
                    std::shared_ptr<const RecordPlan> record = nullptr);
  // Throws std::out_of_range when there is none.
  [[nodiscard]] std::shared_ptr<ModelEntry> entry(std::uint32_t ring) const;
  // By id; null where a ring was removed.
  [[nodiscard]] std::vector<std::shared_ptr<ModelEntry>> entries() const;

  // The rest is for whoever publishes tables, one thread at a time.

  // `table` is about to be given to the loops.
  void note_published(const RouteTable& table);
  // No request can get to the ring any more, and none that did is unanswered; also while it is being removed.
  [[nodiscard]] bool is_idle(std::uint32_t ring);
  // It was taken out, and is not gone yet.
  [[nodiscard]] bool is_leaving(std::uint32_t ring) const;
  // Takes an idle ring out of the tables to come: true when that made a difference and the next one must be published.
  // std::invalid_argument for a ring of a group, whose workers sleep in one of its rings.
  bool begin_removal(std::uint32_t ring);
  // Frees a ring that was taken out, once no table holds it any more; whether it is gone.
  bool finish_removal(std::uint32_t ring);

 private:
  struct Published {
    std::uint64_t number;
    std::shared_ptr<const std::atomic<bool>> gone;
    std::vector<std::uint32_t> routed;  // rings, ascending
  };
  struct Leaving {
    std::uint32_t ring;
    std::uint64_t last_table;  // the last one that holds it
    std::shared_ptr<ModelEntry> entry;
  };
  void forget_gone_tables();

  mutable std::mutex mutex_;  // of the next two
  std::vector<std::shared_ptr<ModelEntry>> entries_;
  std::vector<std::uint32_t> free_;  // ids that nothing knows any more
  std::vector<Published> tables_;    // that somebody may hold
  std::vector<Leaving> leaving_;
  std::uint64_t tables_published_ = 0;
};

}  // namespace penstock::dataplane
