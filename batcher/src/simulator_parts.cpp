#include "simulator_parts.hpp"

#include <algorithm>
#include <cmath>

namespace penstock::batcher {

namespace {

constexpr double kSecondNs = 1e9;
constexpr double kBucketsPerLog = 200;  // half a percent each
constexpr double kLowShare = 0.4;
constexpr double kHighShare = 1.6;
constexpr double kDwellLimits = 10;
constexpr std::size_t kSpentRowsMax = 4096;  // a lane's spent rows are dropped when there are so many

double gamma_shape(double cv) { return 1 / (cv * cv); }

}  // namespace

ArrivalStream::ArrivalStream(const SimulatedModel& model, std::uint64_t seed)
    : model_(&model),
      random_(seed),
      gamma_(gamma_shape(model.gap_cv), kSecondNs / (model.rows_per_second * gamma_shape(model.gap_cv))) {
  if (model.arrivals == ArrivalProcess::kTrace) {
    const auto span_ns = static_cast<double>(model.trace_ns.back() - model.trace_ns.front());
    const double gaps = static_cast<double>(model.trace_ns.size()) - 1;
    trace_stretch_ = gaps * kSecondNs / (model.rows_per_second * std::max(span_ns, 1.0));
  }
  clock_ns_ = gap_ns();
  next_ns_ = static_cast<std::uint64_t>(clock_ns_);
}

RowClass ArrivalStream::pop() {
  clock_ns_ += gap_ns();
  next_ns_ = static_cast<std::uint64_t>(clock_ns_);
  const auto& shares = model_->class_shares;
  if (shares[1] >= 1) return RowClass::kNormal;
  const double at = uniform() * (shares[0] + shares[1] + shares[2]);
  if (at <= shares[0]) return RowClass::kInteractive;
  return at <= shares[0] + shares[1] ? RowClass::kNormal : RowClass::kBatch;
}

double ArrivalStream::gap_ns() {
  switch (model_->arrivals) {
    case ArrivalProcess::kPoisson:
      return -std::log(uniform()) * kSecondNs / model_->rows_per_second;
    case ArrivalProcess::kBursty:
      return bursty_gap_ns();
    case ArrivalProcess::kGamma:
      return gamma_(random_);
    case ArrivalProcess::kTrace:
      break;
  }
  trace_at_ = trace_at_ + 1 < model_->trace_ns.size() ? trace_at_ + 1 : 1;
  return static_cast<double>(model_->trace_ns[trace_at_] - model_->trace_ns[trace_at_ - 1]) * trace_stretch_;
}

// A gap runs through as many states as it lasts: what is left of it is stretched by the next state's rate.
double ArrivalStream::bursty_gap_ns() {
  const double dwell_ns = kDwellLimits * static_cast<double>(model_->limit_ns);
  double left = -std::log(uniform());
  double gap_ns = 0;
  for (;;) {
    const double rows_per_ns = model_->rows_per_second / kSecondNs * (high_ ? kHighShare : kLowShare);
    if (left <= state_left_ns_ * rows_per_ns) {
      state_left_ns_ -= left / rows_per_ns;
      return gap_ns + left / rows_per_ns;
    }
    left -= state_left_ns_ * rows_per_ns;
    gap_ns += state_left_ns_;
    high_ = !high_;
    state_left_ns_ = -std::log(uniform()) * dwell_ns;
  }
}

// In (0, 1].
double ArrivalStream::uniform() { return (static_cast<double>(random_() >> 11U) + 1) * 0x1p-53; }

SimulatedRow SimulatedLane::pop() noexcept {
  const SimulatedRow row = rows_[head_++];
  if (head_ == rows_.size()) {
    rows_.clear();
    head_ = 0;
  } else if (head_ >= kSpentRowsMax && head_ * 2 >= rows_.size()) {
    rows_.erase(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
  return row;
}

std::uint32_t SimulatedLane::take(std::uint32_t rows, std::uint32_t block_rows, bool at_least_one,
                                  std::vector<SimulatedRow>& batch) {
  std::size_t most = rows;
  if (most < this->rows()) most = std::max<std::size_t>(rows - rows % block_rows, at_least_one ? block_rows : 0);
  most = std::min(most, this->rows());
  for (std::size_t i = 0; i < most; ++i) batch.push_back(pop());
  return static_cast<std::uint32_t>(most);
}

void LatencyHistogram::add(std::uint64_t ns) {
  const auto bucket = static_cast<std::size_t>(std::log(static_cast<double>(ns) + 1) * kBucketsPerLog);
  if (bucket >= counts_.size()) counts_.resize(bucket + 1);
  ++counts_[bucket];
  ++total_;
  max_ns_ = std::max(max_ns_, ns);
}

std::uint64_t LatencyHistogram::quantile_ns(double share) const {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total_)));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    seen += counts_[bucket];
    if (seen > 0 && seen >= wanted) {
      const double ns = std::exp((static_cast<double>(bucket) + 1) / kBucketsPerLog);
      return std::min(max_ns_, static_cast<std::uint64_t>(ns));
    }
  }
  return max_ns_;
}

}  // namespace penstock::batcher
