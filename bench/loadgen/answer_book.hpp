// Every distinct answer, once, with how often it came: so every answer of a run can be checked after it, at little
// cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace penstock::loadgen {

struct Answer {
  std::uint32_t pick = 0;
  std::uint16_t status = 0;
  std::uint64_t count = 0;
  std::string body;
};

class AnswerBook {
 public:
  explicit AnswerBook(std::uint64_t bytes_max) : bytes_left_(bytes_max) {}

  void add(std::uint32_t pick, std::uint16_t status, std::string_view body);
  [[nodiscard]] const std::vector<Answer>& answers() const noexcept { return answers_; }
  // Answers that were not kept because the bound on memory was reached.
  [[nodiscard]] std::uint64_t unkept() const noexcept { return unkept_; }

 private:
  std::uint64_t bytes_left_;
  std::uint64_t unkept_ = 0;
  std::vector<Answer> answers_;
  // By hash of request, status and body; a collision is found by comparing and goes to the next key.
  std::unordered_map<std::uint64_t, std::size_t> by_hash_;
};

}  // namespace penstock::loadgen
