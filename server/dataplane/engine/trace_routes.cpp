#include "engine/trace_routes.hpp"

#include <algorithm>
#include <array>

namespace penstock::dataplane {
namespace {

// The first that matches is meant, so what is fixed stands before what is not.
constexpr std::array<std::string_view, 37> kRoutes{
    "/predict",
    "/predict/batch",
    "/v2/models/stats",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/",
    "/health",
    "/health/live",
    "/health/ready",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/keys",
    "/keys/{id}",
    "/models",
    "/models/{model}",
    "/models/{model}/history",
    "/models/{model}/load",
    "/models/{model}/unload",
    "/models/{model}/promote",
    "/models/{model}/rollback",
    "/models/{model}/aliases/{alias}",
    "/models/{model}/versions/{version}",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{model}",
    "/v2/models/{model}/config",
    "/v2/models/{model}/stats",
    "/v2/models/{model}/ready",
    "/v2/models/{model}/versions/{version}",
    "/v2/models/{model}/versions/{version}/config",
    "/v2/models/{model}/versions/{version}/stats",
    "/v2/models/{model}/versions/{version}/ready",
    "/v2/repository/index",
    "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload",
};

constexpr std::array<std::string_view, 17> kCalls{
    "inference.GRPCInferenceService/ModelInfer",
    "inference.GRPCInferenceService/ModelStreamInfer",
    "inference.GRPCInferenceService/ServerLive",
    "inference.GRPCInferenceService/ServerReady",
    "inference.GRPCInferenceService/ModelReady",
    "inference.GRPCInferenceService/ServerMetadata",
    "inference.GRPCInferenceService/ModelMetadata",
    "inference.GRPCInferenceService/ModelConfig",
    "inference.GRPCInferenceService/ModelStatistics",
    "inference.GRPCInferenceService/RepositoryIndex",
    "inference.GRPCInferenceService/RepositoryModelLoad",
    "inference.GRPCInferenceService/RepositoryModelUnload",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
};

// A name in braces stands for one segment.
bool matches(std::string_view route, std::string_view path) noexcept {
  while (!route.empty() && !path.empty()) {
    if (route.front() == '{') {
      const std::size_t segment = std::min(path.find('/'), path.size());
      if (segment == 0) return false;
      route.remove_prefix(route.find('}') + 1);
      path.remove_prefix(segment);
    } else {
      if (route.front() != path.front()) return false;
      route.remove_prefix(1);
      path.remove_prefix(1);
    }
  }
  return route.empty() && path.empty();
}

}  // namespace

std::string_view route_of(std::string_view path) noexcept {
  const auto* const found =
      std::ranges::find_if(kRoutes, [path](std::string_view route) { return matches(route, path); });
  return found == kRoutes.end() ? std::string_view() : *found;
}

std::string_view call_of(std::string_view path) noexcept {
  if (path.empty()) return {};
  const auto* const found = std::ranges::find(kCalls, path.substr(1));
  return found == kCalls.end() ? std::string_view() : *found;
}

}  // namespace penstock::dataplane
