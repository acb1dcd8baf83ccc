#include "engine/mirror.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <span>
#include <stdexcept>

#include "penstock/kernels/half.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kComparedBytesMax = 256 * 1024;  // a pass

bool is_same_tensor(const TensorSpec& left, const TensorSpec& right) {
  return left.name == right.name && left.dtype == right.dtype && left.shape == right.shape &&
         left.varies == right.varies && left.heap_bytes == right.heap_bytes;
}

bool is_same_layout(const RowLayout& left, const RowLayout& right) {
  return std::ranges::equal(left.tensors(), right.tensors(), is_same_tensor);
}

std::uint64_t elements_of(const TensorSpec& tensor, std::uint32_t length) noexcept {
  return tensor.varies ? tensor.elements() / tensor.shape.front() * length : tensor.elements();
}

struct Difference {
  bool beyond = false;
  double largest = 0;
};

bool is_close(double live, double shadow, const MirrorRules& rules) noexcept {
  if (live == shadow || (std::isnan(live) && std::isnan(shadow))) return true;
  // What is near infinity is not infinity.
  return std::isfinite(live) && std::isfinite(shadow) &&
         std::abs(shadow - live) <= rules.atol + rules.rtol * std::abs(live);
}

template <class Element>
Element element_at(const std::byte* data, std::uint64_t index) noexcept {
  Element element;
  std::memcpy(&element, data + index * sizeof(Element), sizeof(Element));
  return element;
}

template <class Element>
double to_double(Element element) noexcept {
  if constexpr (std::is_same_v<Element, Half>) {
    return static_cast<double>(to_float(element));
  } else {
    return static_cast<double>(element);
  }
}

struct Outputs {
  const std::byte* live;
  const std::byte* shadow;
  std::uint64_t elements;
};

template <class Element>
void compare_elements(const Outputs& outputs, const MirrorRules& rules, Difference& difference) noexcept {
  constexpr bool is_exact = std::is_integral_v<Element>;
  for (std::uint64_t i = 0; i < outputs.elements; ++i) {
    const auto live = element_at<Element>(outputs.live, i);
    const auto shadow = element_at<Element>(outputs.shadow, i);
    if constexpr (is_exact) {
      if (live == shadow) continue;
      difference.beyond = true;
    } else {
      if (!is_close(to_double(live), to_double(shadow), rules)) difference.beyond = true;
    }
    const double from = to_double(live);
    const double to = to_double(shadow);
    if (from == to || (std::isnan(from) && std::isnan(to))) continue;  // infinities, too
    const double distance = std::abs(to - from);
    difference.largest =
        std::max(difference.largest, std::isnan(distance) ? std::numeric_limits<double>::infinity() : distance);
  }
}

// Strings are equal or not. One that cannot be read differs: the request that waits for it gets an error.
void compare_texts(const TensorSpec& tensor, const Outputs& outputs, Difference& difference) noexcept {
  for (std::uint64_t i = 0; i < outputs.elements; ++i) {
    std::string_view live;
    std::string_view shadow;
    if (!text_at(tensor, outputs.live, i, live) || !text_at(tensor, outputs.shadow, i, shadow) || live != shadow)
      difference.beyond = true;
  }
}

void compare_tensors(const TensorSpec& tensor, const Outputs& outputs, const MirrorRules& rules,
                     Difference& difference) noexcept {
  switch (tensor.dtype) {
    case DType::kBool:
    case DType::kUint8:
      return compare_elements<std::uint8_t>(outputs, rules, difference);
    case DType::kUint16:
      return compare_elements<std::uint16_t>(outputs, rules, difference);
    case DType::kUint32:
      return compare_elements<std::uint32_t>(outputs, rules, difference);
    case DType::kUint64:
      return compare_elements<std::uint64_t>(outputs, rules, difference);
    case DType::kInt8:
      return compare_elements<std::int8_t>(outputs, rules, difference);
    case DType::kInt16:
      return compare_elements<std::int16_t>(outputs, rules, difference);
    case DType::kInt32:
      return compare_elements<std::int32_t>(outputs, rules, difference);
    case DType::kInt64:
      return compare_elements<std::int64_t>(outputs, rules, difference);
    case DType::kFloat16:
      return compare_elements<Half>(outputs, rules, difference);
    case DType::kFloat32:
      return compare_elements<float>(outputs, rules, difference);
    case DType::kFloat64:
      return compare_elements<double>(outputs, rules, difference);
    case DType::kBytes:
      return compare_texts(tensor, outputs, difference);
  }
}

}  // namespace

Mirror::Mirror(const ModelEntry& live, const ModelEntry& shadow, const MirrorRules& rules)
    : shadow_(shadow.id), rules_(rules), outputs_(live.ring.schema().outputs), loops_(live.stats.size()) {
  if (!(rules.share > 0 && rules.share <= 1)) throw std::invalid_argument("share must be above 0 and at most 1");
  if (!(rules.rtol >= 0 && std::isfinite(rules.rtol) && rules.atol >= 0 && std::isfinite(rules.atol)))
    throw std::invalid_argument("rtol and atol must be 0 or more");
  if (live.id == shadow.id) throw std::invalid_argument("a ring is no shadow of its own");
  if (!is_same_layout(live.ring.schema().inputs, shadow.ring.schema().inputs) ||
      !is_same_layout(outputs_, shadow.ring.schema().outputs) || live.ring.lengths() != shadow.ring.lengths()) {
    throw std::invalid_argument("the two versions differ in names, dtypes, shapes or lengths of their tensors");
  }
}

MirrorCounts Mirror::counts() const noexcept {
  MirrorCounts sum;
  for (const LoopCounts& loop : loops_) {
    sum.mirrored += loop.mirrored.get();
    sum.compared += loop.compared.get();
    sum.differing += loop.differing.get();
    sum.failed += loop.failed.get();
    sum.dropped += loop.dropped.get();
    sum.max_abs_difference = std::max(sum.max_abs_difference, loop.max_abs_difference.load(std::memory_order_relaxed));
  }
  return sum;
}

bool Mirror::is_next(std::uint32_t loop) noexcept {
  const bool next = is_due(loop);
  loops_[loop].seen.add();
  return next;
}

bool Mirror::is_due(std::uint32_t loop) const noexcept {
  const auto due = [this](std::uint64_t rows) { return std::floor(static_cast<double>(rows) * rules_.share); };
  const std::uint64_t seen = loops_[loop].seen.get();
  return due(seen + 1) > due(seen);
}

void Mirror::compare(std::uint32_t loop, const std::byte* live, const std::byte* shadow,
                     std::uint32_t length) noexcept {
  Difference difference;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const TensorSpec& tensor = outputs_.tensors()[i];
    const std::uint64_t offset = outputs_.offset(i);
    compare_tensors(tensor, {live + offset, shadow + offset, elements_of(tensor, length)}, rules_, difference);
  }
  LoopCounts& counts = loops_[loop];
  if (difference.largest > counts.max_abs_difference.load(std::memory_order_relaxed))
    counts.max_abs_difference.store(difference.largest, std::memory_order_relaxed);
  if (difference.beyond) counts.differing.add();
  counts.compared.add();
}

std::uint32_t MirrorPairs::begin(const std::shared_ptr<Mirror>& mirror, std::uint32_t length) noexcept {
  const std::uint64_t bytes = mirror->outputs().bytes();
  if (bytes > kMirroredBytesMax) return kNoPair;
  for (std::uint32_t tried = 0; tried < kPairs; ++tried) {
    const std::uint32_t index = next_++ % kPairs;
    Pair& pair = pairs_[index];
    if (pair.mirror != nullptr) continue;
    pair.outputs.reset(new (std::nothrow) std::byte[2 * bytes]);
    if (pair.outputs == nullptr) return kNoPair;
    pair.mirror = mirror;
    pair.outcomes = {};
    pair.length = length;
    return index;
  }
  return kNoPair;
}

void MirrorPairs::settle(std::uint32_t index, Side side, Outcome outcome, const batcher::BatchRing& ring,
                         const batcher::DoneBlock& block, std::uint32_t row) noexcept {
  Pair& pair = pairs_[index];
  pair.of(side) = outcome;
  if (outcome == Outcome::kOk) {
    const RowLayout& layout = pair.mirror->outputs();
    std::byte* const to = pair.outputs.get() + (side == Side::kLive ? 0 : layout.bytes());
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const TensorSpec& tensor = layout.tensors()[i];
      std::memcpy(to + layout.offset(i), ring.output(block, row, i),
                  tensor.varies ? tensor.bytes_of_length(pair.length) : tensor.bytes());
    }
  }
  const Outcome live = pair.of(Side::kLive);
  const Outcome shadow = pair.of(Side::kShadow);
  if (live == Outcome::kOut || shadow == Outcome::kOut) return;
  if (live == Outcome::kOk && shadow == Outcome::kOk) {
    ready_[ready_count_++] = index;
    return;
  }
  if (live == Outcome::kOk && shadow == Outcome::kFailed) {
    pair.mirror->note_failed(loop_);
  } else {
    pair.mirror->note_dropped(loop_);
  }
  end(index);
}

void MirrorPairs::compare_some() noexcept {
  for (std::uint64_t bytes = 0; ready_count_ > 0 && bytes < kComparedBytesMax;) {
    const std::uint32_t index = ready_[--ready_count_];
    const Pair& pair = pairs_[index];
    const std::uint64_t row_bytes = pair.mirror->outputs().bytes();
    pair.mirror->compare(loop_, pair.outputs.get(), pair.outputs.get() + row_bytes, pair.length);
    bytes += row_bytes;
    end(index);
  }
}

void MirrorPairs::end(std::uint32_t index) noexcept {
  pairs_[index].mirror.reset();
  pairs_[index].outputs.reset();
}

}  // namespace penstock::dataplane
