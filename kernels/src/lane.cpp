#include "penstock/kernels/lane.hpp"

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#if PENSTOCK_LANE_AVX2
#include <cpuid.h>
#endif

namespace penstock {
namespace {

constexpr std::array<std::string_view, 3> kLaneNames{"scalar", "avx2", "avx512"};

bool runs_avx2() noexcept {
#if PENSTOCK_LANE_AVX2
  // __builtin_cpu_supports asks the operating system too, but not every compiler lets it ask for F16C.
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  return has_f16c && __builtin_cpu_supports("avx2") != 0;
#else
  return false;
#endif
}

bool runs_avx512() noexcept {
#if PENSTOCK_LANE_AVX512
  return runs_avx2() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0;
#else
  return false;
#endif
}

constexpr std::array<Lane, 3> kLanes{Lane::kScalar, Lane::kAvx2, Lane::kAvx512};

}  // namespace

std::string_view name_of(Lane lane) noexcept { return kLaneNames[static_cast<std::size_t>(lane)]; }

std::optional<Lane> lane_from_name(std::string_view name) noexcept {
  for (const Lane lane : kLanes) {
    if (name_of(lane) == name) return lane;
  }
  return std::nullopt;
}

std::span<const Lane> available_lanes() noexcept {
  static const std::size_t count = 1U + (runs_avx2() ? 1U : 0U) + (runs_avx512() ? 1U : 0U);
  return std::span<const Lane>(kLanes).first(count);
}

Lane choose_lane(std::string_view name) {
  const std::span<const Lane> available = available_lanes();
  if (name.empty()) return available.back();
  const std::optional<Lane> lane = lane_from_name(name);
  for (const Lane candidate : available) {
    if (lane == candidate) return candidate;
  }
  std::string message = lane ? "this processor does not run the lane " : "unknown lane ";
  message.append(name).append("; available:");
  for (const Lane candidate : available) message.append(" ").append(name_of(candidate));
  throw std::invalid_argument(message);
}

Lane active_lane() {
  static const Lane lane = [] {
    const char* name = std::getenv("PENSTOCK_LANE");
    return choose_lane(name == nullptr ? std::string_view() : std::string_view(name));
  }();
  return lane;
}

}  // namespace penstock
