// Lanes: variants of one kernel for different processors. The scalar lane is the reference for all others.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace penstock {

enum class Lane : std::uint8_t {
  kScalar,
  kAvx2,    // with F16C
  kAvx512,  // F and DQ; what gains nothing from it runs the AVX2 lane
};

[[nodiscard]] std::string_view name_of(Lane lane) noexcept;
[[nodiscard]] std::optional<Lane> lane_from_name(std::string_view name) noexcept;

// Lanes that were built and that this processor runs, the slowest first.
[[nodiscard]] std::span<const Lane> available_lanes() noexcept;

// The lane named by `name`, or the fastest available one when it is empty. Throws std::invalid_argument for an unknown
// lane or one that this processor does not run.
[[nodiscard]] Lane choose_lane(std::string_view name);

// The lane of this process, chosen at the first call from the environment variable PENSTOCK_LANE; throws as
// choose_lane().
[[nodiscard]] Lane active_lane();

}  // namespace penstock
