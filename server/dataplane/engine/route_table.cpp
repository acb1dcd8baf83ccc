#include "engine/route_table.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <stdexcept>

#include "engine/mirror.hpp"

namespace penstock::dataplane {
namespace {

// Of a model that is not in memory: what its schema takes is not known, and the refusal comes after the body.
constexpr std::uint64_t kUnknownBodyBytesMax = 16ull << 20;

constexpr std::uint32_t kMagic = 0x52544231;  // "RTB1"

// FNV-1a: names are short and few; the hash only spares most string comparisons.
std::uint32_t hash(std::string_view text) noexcept {
  std::uint32_t value = 2166136261u;
  for (const char character : text) value = (value ^ static_cast<unsigned char>(character)) * 16777619u;
  return value;
}

// Height and width, or these and channels in front or behind.
bool may_be_image(const TensorSpec& input) noexcept {
  return input.dtype == DType::kUint8 && (input.shape.size() == 2 || input.shape.size() == 3);
}

void add_pictures(const RecordPlan& record, std::vector<std::string>& names) {
  for (const RecordElement& element : record.elements()) {
    // A field inside an object comes by its path, too.
    for (const std::string& name : {element.name, element.path}) {
      if (element.picture && std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
}

}  // namespace

RouteTable::RouteTable(const std::vector<RouteSpec>& routes, std::vector<std::shared_ptr<ModelEntry>> entries,
                       MissList* misses, Mirrors mirrors)
    : entries_(std::move(entries)), mirrors_(std::move(mirrors)), misses_(misses) {
  mirrors_.resize(entries_.size());
  std::size_t bytes = sizeof(Header) + routes.size() * sizeof(Route);
  std::set<std::string_view> models;
  for (const RouteSpec& route : routes) {
    models.insert(route.model);
    bytes += route.model.size() + route.version.size();
    if (route.ring == kNoRing) {
      body_bytes_max_ = std::max(body_bytes_max_, kUnknownBodyBytesMax);
      continue;
    }
    if (route.ring >= entries_.size() || entries_[route.ring] == nullptr)
      throw std::invalid_argument("route names a ring that does not exist");
    body_bytes_max_ = std::max(body_bytes_max_, entries_[route.ring]->body_bytes_max);
    has_objectives_ = has_objectives_ || entries_[route.ring]->slo_ns != 0;
    takes_images_ =
        takes_images_ || std::ranges::any_of(entries_[route.ring]->ring.schema().inputs.tensors(), may_be_image);
    if (entries_[route.ring]->record != nullptr) add_pictures(*entries_[route.ring]->record, pictures_);
  }
  find_peers(routes);
  bytes_.resize(bytes);
  const Header header{kMagic, static_cast<std::uint32_t>(routes.size()), static_cast<std::uint32_t>(models.size()), 0};
  std::memcpy(bytes_.data(), &header, sizeof header);
  std::size_t text_offset = sizeof(Header) + routes.size() * sizeof(Route);
  auto store = [&](const std::string& text) {
    std::memcpy(bytes_.data() + text_offset, text.data(), text.size());
    const std::size_t at = text_offset;
    text_offset += text.size();
    return static_cast<std::uint32_t>(at);
  };
  for (std::size_t i = 0; i < routes.size(); ++i) {
    const RouteSpec& spec = routes[i];
    Route route{};
    route.model_offset = store(spec.model);
    route.model_bytes = static_cast<std::uint32_t>(spec.model.size());
    route.version_offset = store(spec.version);
    route.version_bytes = static_cast<std::uint32_t>(spec.version.size());
    route.ring = spec.ring;
    route.model_hash = hash(spec.model);
    route.latest = spec.latest ? 1 : 0;
    route.available = spec.available && spec.ring != kNoRing ? 1 : 0;
    route.lazy = spec.lazy ? 1 : 0;
    std::memcpy(bytes_.data() + sizeof(Header) + i * sizeof(Route), &route, sizeof route);
  }
}

RouteTable::~RouteTable() {
  // Before it is told: the last to let go of a ring unmaps it, and that is not to be a loop.
  mirrors_.clear();
  entries_.clear();
  gone_->store(true, std::memory_order_release);  // read by RingDirectory
}

std::vector<std::uint32_t> RouteTable::routed_rings() const {
  std::vector<std::uint32_t> rings;
  for (const Route* route = routes(); route != routes() + header().routes; ++route) {
    if (route->ring != kNoRing) rings.push_back(route->ring);
  }
  for (const std::shared_ptr<Mirror>& mirror : mirrors_) {
    if (mirror != nullptr) rings.push_back(mirror->shadow());
  }
  std::ranges::sort(rings);
  return rings;
}

// Of the rings that are served: one that was replaced may hold rows for ever.
void RouteTable::find_peers(const std::vector<RouteSpec>& routes) {
  peers_.resize(entries_.size());
  const auto is_served = [](const RouteSpec& route) { return route.ring != kNoRing && route.available; };
  for (const RouteSpec& route : routes) {
    if (!is_served(route) || entries_[route.ring]->group.empty()) continue;
    std::vector<const ModelEntry*>& peers = peers_[route.ring];
    peers.clear();  // an alias leads to the same ring
    for (const RouteSpec& other : routes) {
      if (!is_served(other) || other.ring == route.ring) continue;
      const ModelEntry* const peer = entries_[other.ring].get();
      if (peer->group == entries_[route.ring]->group && std::ranges::find(peers, peer) == peers.end())
        peers.push_back(peer);
    }
  }
}

ModelEntry* RouteTable::known(std::string_view model, std::string_view version) const noexcept {
  if (model.empty() && header().models != 1) return nullptr;
  const std::uint32_t wanted = hash(model);
  ModelEntry* found = nullptr;
  const Route* const begin = routes();
  for (const Route* route = begin; route != begin + header().routes; ++route) {
    if (!model.empty() && (route->model_hash != wanted || text(route->model_offset, route->model_bytes) != model))
      continue;
    const bool latest = version == "latest" && route->latest != 0;
    if (!version.empty() && !latest && text(route->version_offset, route->version_bytes) != version) continue;
    if (route->available == 0) return nullptr;
    ModelEntry* const entry = entries_[route->ring].get();
    if (found != nullptr && found != entry) return nullptr;  // the body may name the one or the other
    found = entry;
  }
  return found;
}

ModelEntry* RouteTable::find(std::string_view model, std::string_view version, Problem& problem) const noexcept {
  if (model.empty() && header().models != 1) {
    if (header().models == 0) {
      problem.set(ProblemCode::kModelNotFound, "no model is served here");
    } else {
      problem.set(ProblemCode::kInvalidInput,
                  "field 'model' is missing: name one of the %u models served (GET /models lists them)",
                  header().models);
    }
    return nullptr;
  }
  const bool latest = version.empty() || version == "latest";
  const std::uint32_t wanted = hash(model);
  bool model_known = false;
  const Route* const begin = routes();
  for (const Route* route = begin; route != begin + header().routes; ++route) {
    if (!model.empty() && (route->model_hash != wanted || text(route->model_offset, route->model_bytes) != model))
      continue;
    model_known = true;
    if (latest ? route->latest == 0 : text(route->version_offset, route->version_bytes) != version) continue;
    return entry_of(*route, problem);
  }
  if (!model_known) {
    problem.set(ProblemCode::kModelNotFound, "no model '%.*s' is served here; GET /models lists them",
                static_cast<int>(std::min<std::size_t>(model.size(), 64)), model.data());
  } else {
    problem.set(ProblemCode::kVersionNotFound, "model has no version '%.*s'; GET /models lists them",
                static_cast<int>(std::min<std::size_t>(version.size(), 64)), version.data());
  }
  return nullptr;
}

RouteTable::State RouteTable::state_of(std::string_view model, std::string_view version) const noexcept {
  const bool latest = version.empty() || version == "latest";
  const std::uint32_t wanted = hash(model);
  for (const Route* route = routes(); route != routes() + header().routes; ++route) {
    if (route->model_hash != wanted || text(route->model_offset, route->model_bytes) != model) continue;
    if (latest ? route->latest == 0 : text(route->version_offset, route->version_bytes) != version) continue;
    return route->available != 0 ? State::kServes : State::kKnown;
  }
  return State::kUnknown;
}

ModelEntry* RouteTable::entry_of(const Route& route, Problem& problem) const noexcept {
  if (route.ring == kNoRing) {
    refuse_absent(route, problem);
    return nullptr;
  }
  if (route.available == 0) {
    problem.set(ProblemCode::kModelUnavailable, "model '%s' has no live instance at the moment",
                entries_[route.ring]->model.c_str());
    return nullptr;
  }
  return entries_[route.ring].get();
}

void RouteTable::refuse_absent(const Route& route, Problem& problem) const noexcept {
  const std::string_view model = text(route.model_offset, route.model_bytes);
  const auto shown = static_cast<int>(std::min<std::size_t>(model.size(), 64));
  if (route.lazy == 0) {
    problem.set(ProblemCode::kModelUnavailable, "model '%.*s' is registered, but this version is not loaded here",
                shown, model.data());
    return;
  }
  if (misses_ != nullptr) misses_->note(model, text(route.version_offset, route.version_bytes));
  problem.set(ProblemCode::kModelLoading, "model '%.*s' is being loaded, since it was not in memory", shown,
              model.data());
  problem.set_retry_after(1);
}

std::uint64_t RouteTable::body_bytes_max(std::string_view model) const noexcept {
  if (model.empty()) return body_bytes_max_;
  std::uint64_t known = 0;
  const std::uint32_t wanted = hash(model);
  const Route* const begin = routes();
  for (const Route* route = begin; route != begin + header().routes; ++route) {
    if (route->model_hash == wanted && text(route->model_offset, route->model_bytes) == model) {
      known = std::max(known, route->ring == kNoRing ? kUnknownBodyBytesMax : entries_[route->ring]->body_bytes_max);
    }
  }
  return known == 0 ? body_bytes_max_ : known;
}

}  // namespace penstock::dataplane
