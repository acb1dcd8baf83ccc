// The route snapshot: which model version answers which names. One flat immutable buffer, swapped whole.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/miss_list.hpp"
#include "engine/model_entry.hpp"
#include "http/problem.hpp"

namespace penstock::dataplane {

class Mirror;

inline constexpr std::uint32_t kNoRing = ~std::uint32_t{0};

struct RouteSpec {
  std::string model;
  std::string version;           // or an alias: another name for the same ring
  std::uint32_t ring = kNoRing;  // kNoRing: known, but not in memory
  bool latest = false;           // answers requests that name no version, or "latest"
  bool available = false;        // false: known, but without a live instance
  bool lazy = false;             // without a ring: a request for it has it loaded
};

class RouteTable {
 public:
  using Mirrors = std::vector<std::shared_ptr<Mirror>>;  // by the ring that answers; null, or shorter, without a shadow

  RouteTable() : RouteTable({}, {}) {}
  // `entries[i]` is the model version of ring i, null where there is none. `misses` hears of requests for lazy routes;
  // without it they are forgotten. `mirrors`: of rings with a shadow. Throws std::invalid_argument for a route to a
  // ring that does not exist.
  RouteTable(const std::vector<RouteSpec>& routes, std::vector<std::shared_ptr<ModelEntry>> entries,
             MissList* misses = nullptr, Mirrors mirrors = {});
  ~RouteTable();
  RouteTable(const RouteTable&) = delete;
  RouteTable& operator=(const RouteTable&) = delete;

  // Empty names stand for "not named": the only model served, its latest version. Null: `problem` says why.
  [[nodiscard]] ModelEntry* find(std::string_view model, std::string_view version, Problem& problem) const noexcept;

  // Whether find() would find something, for who asks without wanting it: nothing is loaded for that.
  enum class State : std::uint8_t { kUnknown, kKnown, kServes };
  [[nodiscard]] State state_of(std::string_view model, std::string_view version) const noexcept;
  // Every model's name, once, with the state of what answers requests without a version.
  template <class Tell>
  void each_model(Tell&& tell) const {
    for (const Route* route = routes(); route != routes() + header().routes; ++route) {
      if (route->latest == 0) continue;
      tell(text(route->model_offset, route->model_bytes), route->available != 0 ? State::kServes : State::kKnown);
    }
  }

  // The model version that a body can only confirm, whatever it says: it may be admitted or refused before the body is
  // read. Null: the body decides, or it is an error that find() will name.
  [[nodiscard]] ModelEntry* known(std::string_view model, std::string_view version) const noexcept;
  // Some model has a latency objective, so that requests without a time-out of their own are admitted, too.
  [[nodiscard]] bool has_objectives() const noexcept { return has_objectives_; }
  // Some model has an input that images may be decoded for.
  [[nodiscard]] bool takes_images() const noexcept { return takes_images_; }
  // Names of fields that are pictures, of all records.
  [[nodiscard]] const std::vector<std::string>& pictures() const noexcept { return pictures_; }
  // The other model versions that share workers with ring `ring`.
  [[nodiscard]] const std::vector<const ModelEntry*>& peers(std::uint32_t ring) const noexcept { return peers_[ring]; }

  // Where a share of the ring's rows goes, too; null: nowhere.
  [[nodiscard]] const std::shared_ptr<Mirror>& mirror(std::uint32_t ring) const noexcept { return mirrors_[ring]; }

  // Upper bound of a predict body; of one model when it is named and known.
  [[nodiscard]] std::uint64_t body_bytes_max(std::string_view model) const noexcept;

  [[nodiscard]] const std::vector<std::shared_ptr<ModelEntry>>& entries() const noexcept { return entries_; }

  // Set when nobody holds the table any more. Load with acquire: what its holders did happened before.
  [[nodiscard]] std::shared_ptr<const std::atomic<bool>> gone() const noexcept { return gone_; }
  // Rings that requests get to, or copies of their rows, ascending.
  [[nodiscard]] std::vector<std::uint32_t> routed_rings() const;

 private:
  // Records in the flat buffer. Names are offsets into it, so that the buffer could come from another process.
  struct Route {
    std::uint32_t model_offset;
    std::uint32_t model_bytes;
    std::uint32_t version_offset;
    std::uint32_t version_bytes;
    std::uint32_t ring;
    std::uint32_t model_hash;
    // The caller's identity and limits apply here; 0 is "anyone, unlimited".
    std::uint32_t policy;
    std::uint8_t latest;
    std::uint8_t available;
    std::uint8_t lazy;
    std::uint8_t reserved;
  };
  struct Header {
    std::uint32_t magic;
    std::uint32_t routes;
    std::uint32_t models;  // distinct names
    std::uint32_t reserved;
  };

  void find_peers(const std::vector<RouteSpec>& routes);
  [[nodiscard]] ModelEntry* entry_of(const Route& route, Problem& problem) const noexcept;
  void refuse_absent(const Route& route, Problem& problem) const noexcept;
  [[nodiscard]] const Header& header() const noexcept { return *reinterpret_cast<const Header*>(bytes_.data()); }
  [[nodiscard]] const Route* routes() const noexcept {
    return reinterpret_cast<const Route*>(bytes_.data() + sizeof(Header));
  }
  [[nodiscard]] std::string_view text(std::uint32_t offset, std::uint32_t length) const noexcept {
    return {reinterpret_cast<const char*>(bytes_.data()) + offset, length};
  }

  std::vector<std::byte> bytes_;
  std::vector<std::shared_ptr<ModelEntry>> entries_;
  std::vector<std::vector<const ModelEntry*>> peers_;  // by ring
  Mirrors mirrors_;                                    // as long as entries_
  MissList* misses_;
  std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
  std::uint64_t body_bytes_max_ = 0;
  bool has_objectives_ = false;
  bool takes_images_ = false;
  std::vector<std::string> pictures_;
};

}  // namespace penstock::dataplane
