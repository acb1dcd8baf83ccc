#include "engine/routing.hpp"

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

// Decoded names, one behind the other.
class Names {
 public:
  explicit Names(std::array<char, kRouteNamesBytes>& room) noexcept : room_(room) {}

  // False: it is empty, too long, or has an escape of a byte that no name has.
  [[nodiscard]] bool decode(std::string_view text, std::string_view& name) noexcept {
    const std::size_t first = used_;
    for (std::size_t i = 0; i < text.size(); ++i) {
      char character = text[i];
      if (character == '%') {  // whole, as the parser has seen
        character = static_cast<char>(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2]));
        if (character == '\0' || character == '/') return false;
        i += 2;
      }
      if (used_ == room_.size()) return false;
      room_[used_++] = character;
    }
    name = {room_.data() + first, used_ - first};
    return !name.empty();
  }

 private:
  std::array<char, kRouteNamesBytes>& room_;
  std::size_t used_ = 0;
};

// What stands in front of the next '/', which is removed with it.
std::string_view take_segment(std::string_view& path) noexcept {
  const std::size_t slash = path.find('/');
  const std::string_view segment = path.substr(0, slash);
  path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
  return segment;
}

// {model}[/versions/{version}]/{infer|ready}
RouteTarget find_model_route(std::string_view rest, std::array<char, kRouteNamesBytes>& room) noexcept {
  RouteTarget target;
  Names names(room);
  const std::string_view model = take_segment(rest);
  std::string_view version;
  std::string_view what = take_segment(rest);
  if (what == "versions") {
    version = take_segment(rest);
    what = take_segment(rest);
    if (!names.decode(version, target.version)) return {};
  }
  if (!rest.empty() || !names.decode(model, target.model)) return {};
  if (what == "infer") {
    target.route = Route::kInfer;
  } else if (what == "ready") {
    target.route = Route::kModelReady;
  } else {
    return {};
  }
  return target;
}

}  // namespace

RouteTarget find_route(std::string_view path, std::array<char, kRouteNamesBytes>& names) noexcept {
  constexpr std::string_view kModels = "/v2/models/";
  if (path == "/predict") return {Route::kPredict, {}, {}};
  if (path.starts_with(kModels)) return find_model_route(path.substr(kModels.size()), names);
  if (path == "/predict/batch") return {Route::kPredictRows, {}, {}};
  if (path == "/health/live" || path == "/health") return {Route::kLive, {}, {}};
  if (path == "/health/ready" || path == "/ready") return {Route::kReady, {}, {}};
  if (path == "/v2/health/live") return {Route::kInferLive, {}, {}};
  if (path == "/v2/health/ready") return {Route::kInferReady, {}, {}};
  return {};
}

}  // namespace penstock::dataplane
