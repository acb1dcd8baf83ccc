// The route snapshot: which model version answers which names. One flat immutable buffer, swapped whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model_entry.hpp"
#include "http/problem.hpp"

namespace penstock::dataplane {

struct RouteSpec {
  std::string model;
  std::string version;
  std::uint32_t ring = 0;
  bool latest = false;     // answers requests that name no version, or "latest"
  bool available = false;  // false: known, but without a live instance
};

class RouteTable {
 public:
  RouteTable() : RouteTable({}, {}) {}
  // `entries[i]` is the model version of ring i. Throws std::invalid_argument for a route without a ring.
  RouteTable(const std::vector<RouteSpec>& routes, std::vector<std::shared_ptr<ModelEntry>> entries);

  // Empty names stand for "not named": the only model served, its latest version. Null: `problem` says why.
  [[nodiscard]] ModelEntry* find(std::string_view model, std::string_view version, Problem& problem) const noexcept;

  // Upper bound of a predict body; of one model when it is named and known.
  [[nodiscard]] std::uint64_t body_bytes_max(std::string_view model) const noexcept;

  [[nodiscard]] const std::vector<std::shared_ptr<ModelEntry>>& entries() const noexcept { return entries_; }

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
    std::uint16_t reserved;
  };
  struct Header {
    std::uint32_t magic;
    std::uint32_t routes;
    std::uint32_t models;  // distinct names
    std::uint32_t reserved;
  };

  [[nodiscard]] const Header& header() const noexcept { return *reinterpret_cast<const Header*>(bytes_.data()); }
  [[nodiscard]] const Route* routes() const noexcept {
    return reinterpret_cast<const Route*>(bytes_.data() + sizeof(Header));
  }
  [[nodiscard]] std::string_view text(std::uint32_t offset, std::uint32_t length) const noexcept {
    return {reinterpret_cast<const char*>(bytes_.data()) + offset, length};
  }

  std::vector<std::byte> bytes_;
  std::vector<std::shared_ptr<ModelEntry>> entries_;
  std::uint64_t body_bytes_max_ = 0;
};

}  // namespace penstock::dataplane
