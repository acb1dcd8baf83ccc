#include "penstock/kernels/words.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <utility>

#include "penstock/kernels/hash_text.hpp"

namespace penstock {
namespace {

[[nodiscard]] constexpr bool is_word(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

[[nodiscard]] constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

constexpr std::size_t kWordBytesMin = 2;
constexpr std::uint32_t kNgramMax = 8;

}  // namespace

Words::Words(const std::vector<std::string>& vocabulary, std::vector<double> weights,
             const std::vector<std::string>& stop_words, const WordOptions& options)
    : options_(options), weights_(std::move(weights)) {
  if (vocabulary.empty() || vocabulary.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw std::invalid_argument("a vocabulary has one word at least");
  }
  columns_ = static_cast<std::uint32_t>(vocabulary.size());
  if (!weights_.empty() && weights_.size() != columns_) {
    throw std::invalid_argument("a vocabulary has one weight for each word, or none");
  }
  if (options.signs) throw std::invalid_argument("signs are for hashed words");
  for (std::uint32_t i = 0; i < columns_; ++i) {
    if (!vocabulary_.emplace(vocabulary[i], i).second) throw std::invalid_argument("a word comes twice");
  }
  check(stop_words);
}

Words::Words(std::uint32_t buckets, const std::vector<std::string>& stop_words, const WordOptions& options)
    : options_(options), columns_(buckets) {
  if (buckets == 0) throw std::invalid_argument("words need one bucket at least");
  check(stop_words);
}

void Words::check(const std::vector<std::string>& stop_words) {
  if (options_.ngram_min == 0 || options_.ngram_min > options_.ngram_max || options_.ngram_max > kNgramMax) {
    throw std::invalid_argument("sequences have 1 to 8 words, the least number first");
  }
  for (const std::string& word : stop_words) stop_words_.emplace(word, true);
}

void Words::split(std::string_view text) {
  words_.clear();
  if (options_.lower) {
    lowered_.resize(text.size());
    std::ranges::transform(text, lowered_.begin(), lower);
    text = lowered_;
  }
  for (std::size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    if (end - at >= kWordBytesMin) words_.push_back(text.substr(at, end - at));
    at = end;
  }
}

void Words::write(std::span<double> row) {
  std::ranges::fill(row, 0.0);
  touched_.clear();
  if (!stop_words_.empty()) std::erase_if(words_, [&](std::string_view word) { return stop_words_.contains(word); });
  for (std::size_t length = options_.ngram_min; length <= options_.ngram_max; ++length) {
    for (std::size_t first = 0; first + length <= words_.size(); ++first) {
      if (length == 1) {
        count(words_[first], row);
        continue;
      }
      term_.assign(words_[first]);
      for (std::size_t i = 1; i < length; ++i) term_.append(" ").append(words_[first + i]);
      count(term_, row);
    }
  }
  weigh(row);
}

void Words::count(std::string_view term, std::span<double> row) {
  std::uint32_t column = 0;
  double one = 1.0;
  if (vocabulary_.empty()) {
    const auto hash = static_cast<std::int32_t>(hash_text(term));
    column = static_cast<std::uint32_t>(std::abs(std::int64_t{hash}) % columns_);
    if (options_.signs && hash < 0) one = -1.0;
  } else {
    const auto found = vocabulary_.find(term);
    if (found == vocabulary_.end()) return;
    column = found->second;
  }
  // A sum that comes back to 0 is touched again: its second turn changes nothing.
  if (row[column] == 0) touched_.push_back(column);
  row[column] += one;
}

void Words::weigh(std::span<double> row) noexcept {
  std::ranges::sort(touched_);
  // Not std::ranges::unique: clang 14 cannot compile that of libstdc++.
  touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
  double sum = 0;
  for (const std::uint32_t column : touched_) {
    double value = row[column];
    if (options_.binary && value != 0) value = 1.0;
    if (options_.sublinear && value > 0) value = std::log(value) + 1.0;
    if (!weights_.empty()) value *= weights_[column];
    row[column] = value;
    sum += options_.norm == Norm::kL1 ? std::abs(value) : value * value;
  }
  if (options_.norm == Norm::kNone || sum == 0) return;
  const double length = options_.norm == Norm::kL1 ? sum : std::sqrt(sum);
  for (const std::uint32_t column : touched_) row[column] /= length;
}

}  // namespace penstock
