// From a path to what answers it. Whatever is not named here belongs to the control plane.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

enum class Route : std::uint8_t {
  kPredict,      // POST /predict
  kPredictRows,  // POST /predict/batch
  kInfer,        // POST /v2/models/{model}[/versions/{version}]/infer
  kLive,         // GET /health, /health/live
  kReady,        // GET /ready, /health/ready
  kInferLive,    // GET /v2/health/live
  kInferReady,   // GET /v2/health/ready
  kModelReady,   // GET /v2/models/{model}[/versions/{version}]/ready
  kControl,
};

inline constexpr std::size_t kRouteNamesBytes = 512;

struct RouteTarget {
  Route route = Route::kControl;
  std::string_view model;  // percent-decoded; of routes that name one
  std::string_view version;

  [[nodiscard]] bool is_prediction() const noexcept { return route <= Route::kInfer; }
};

// `names` keeps the decoded names. A name that cannot be decoded, or is too long, leads to the control plane, which
// says so.
[[nodiscard]] RouteTarget find_route(std::string_view path, std::array<char, kRouteNamesBytes>& names) noexcept;

}  // namespace penstock::dataplane
