#include "engine/ring_directory.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/route_table.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint32_t kGroupBlocks = 64;  // of a batch, where models share a device

}  // namespace

std::uint32_t RingDirectory::add(const std::string& model, const std::string& version, batcher::RingConfig config,
                                 const std::string& group, std::shared_ptr<CacheAccount> cache,
                                 std::shared_ptr<const RecordPlan> record) {
  const std::lock_guard lock(mutex_);
  // A ring that was lost takes nobody in: its region may hold anything.
  const auto first = std::ranges::find_if(entries_, [&](const auto& entry) {
    return entry != nullptr && entry->group == group && !entry->ring.is_closed();
  });
  if (!group.empty()) config.blocks_per_batch = kGroupBlocks;
  config.group = group.empty() || first == entries_.end() ? nullptr : &(*first)->ring;
  const auto id = free_.empty() ? static_cast<std::uint32_t>(entries_.size()) : free_.back();
  auto entry = std::make_shared<ModelEntry>(id, model, version, config, group, std::move(cache), std::move(record));
  if (free_.empty()) {
    entries_.push_back(std::move(entry));
  } else {
    free_.pop_back();
    entries_[id] = std::move(entry);
  }
  return id;
}

std::shared_ptr<ModelEntry> RingDirectory::entry(std::uint32_t ring) const {
  const std::lock_guard lock(mutex_);
  if (ring >= entries_.size() || entries_[ring] == nullptr) throw std::out_of_range("no ring of that id");
  return entries_[ring];
}

std::vector<std::shared_ptr<ModelEntry>> RingDirectory::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

void RingDirectory::note_published(const RouteTable& table) {
  forget_gone_tables();
  tables_.push_back({++tables_published_, table.gone(), table.routed_rings()});
}

void RingDirectory::forget_gone_tables() {
  // Acquire: pairs with the store in the table's destructor, so that what its last holder did to the rings is seen.
  std::erase_if(tables_, [](const Published& table) { return table.gone->load(std::memory_order_acquire); });
}

bool RingDirectory::is_leaving(std::uint32_t ring) const {
  return std::ranges::find(leaving_, ring, &Leaving::ring) != leaving_.end();
}

bool RingDirectory::is_idle(std::uint32_t ring) {
  if (is_leaving(ring)) return true;
  forget_gone_tables();
  const auto routes_to = [ring](const Published& table) { return std::ranges::binary_search(table.routed, ring); };
  if (std::ranges::any_of(tables_, routes_to)) return false;
  // Nobody can begin with it now, and whoever did before is counted.
  return entry(ring)->is_unused();
}

bool RingDirectory::begin_removal(std::uint32_t ring) {
  if (is_leaving(ring)) return false;
  if (!entry(ring)->group.empty()) throw std::invalid_argument("a ring of a group stays as long as the group");
  if (!is_idle(ring)) return false;
  const std::lock_guard lock(mutex_);
  leaving_.push_back({ring, tables_published_, std::exchange(entries_[ring], nullptr)});
  return true;
}

bool RingDirectory::finish_removal(std::uint32_t ring) {
  const auto leaving = std::ranges::find(leaving_, ring, &Leaving::ring);
  if (leaving == leaving_.end()) return false;
  forget_gone_tables();
  if (std::ranges::any_of(tables_, [&](const Published& table) { return table.number <= leaving->last_table; }))
    return false;
  leaving_.erase(leaving);  // unmaps it: on this thread and not on a loop's
  const std::lock_guard lock(mutex_);
  free_.push_back(ring);
  return true;
}

}  // namespace penstock::dataplane
