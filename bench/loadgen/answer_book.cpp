#include "answer_book.hpp"

#include <functional>

namespace penstock::loadgen {
namespace {

constexpr std::uint64_t kEntryBytes = sizeof(Answer) + 64;  // with its place in the table
constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15;   // 2^64 over the golden ratio: spreads small integers

}  // namespace

void AnswerBook::add(std::uint32_t pick, std::uint16_t status, std::string_view body) {
  const std::uint64_t who = (static_cast<std::uint64_t>(pick) << 16 | status) * kMultiplier;
  for (std::uint64_t key = std::hash<std::string_view>{}(body) ^ who;; ++key) {
    const auto found = by_hash_.find(key);
    if (found == by_hash_.end()) {
      if (bytes_left_ < kEntryBytes + body.size()) {
        ++unkept_;
        return;
      }
      bytes_left_ -= kEntryBytes + body.size();
      by_hash_.emplace(key, answers_.size());
      answers_.push_back({pick, status, 1, std::string(body)});
      return;
    }
    Answer& answer = answers_[found->second];
    if (answer.pick == pick && answer.status == status && answer.body == body) {
      ++answer.count;
      return;
    }
  }
}

}  // namespace penstock::loadgen
