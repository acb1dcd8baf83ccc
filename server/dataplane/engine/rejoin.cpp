#include "engine/rejoin.hpp"

namespace penstock::dataplane {

Rejoin* RejoinPool::acquire() {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Rejoin>());
    all_.back()->small = std::make_unique_for_overwrite<char[]>(kConnectionBytes);
    free_.reserve(all_.size());  // so that release() never allocates
    return all_.back().get();
  }
  Rejoin* const rejoin = free_.back();
  free_.pop_back();
  return rejoin;
}

void RejoinPool::release(Rejoin& rejoin) noexcept {
  rejoin.rows = rejoin.submitted = rejoin.answered = 0;
  rejoin.parts.clear();
  rejoin.body = {};
  rejoin.block.reset();
  rejoin.out = nullptr;
  free_.push_back(&rejoin);
}

}  // namespace penstock::dataplane
