// Text as counts of its words: what linear models of text take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace penstock {

enum class Norm : std::uint8_t { kNone, kL1, kL2 };

struct WordOptions {
  // Sequences of so many neighbouring words are counted, joined by a space.
  std::uint32_t ngram_min = 1;
  std::uint32_t ngram_max = 1;
  bool lower = true;       // of ASCII; whoever hands over other text has done it
  bool binary = false;     // 1 for whatever occurs
  bool sublinear = false;  // 1 + ln(count) for the count
  bool signs = false;      // of hashed words: half of them count down, so that collisions cancel out
  Norm norm = Norm::kL2;
};

// Counts the words of texts: each has a column, by a vocabulary or by its hash. Words are two or more letters, digits
// and underscores in a row. Used by one thread at a time.
class Words {
 public:
  // A column for each word of the vocabulary; `weights` multiplies the columns, one each or none. Throws
  // std::invalid_argument when their numbers differ, a word comes twice, or the options cannot be.
  Words(const std::vector<std::string>& vocabulary, std::vector<double> weights,
        const std::vector<std::string>& stop_words, const WordOptions& options);
  // `buckets` columns, by hash_text().
  Words(std::uint32_t buckets, const std::vector<std::string>& stop_words, const WordOptions& options);

  [[nodiscard]] std::uint32_t columns() const noexcept { return columns_; }

  // Splits ASCII text into words.
  void split(std::string_view text);
  // Takes words that were split elsewhere.
  void begin() noexcept { words_.clear(); }
  void add(std::string_view word) { words_.push_back(word); }
  // Writes the columns of the words that were split or added: columns() numbers. Views must still be valid.
  void write(std::span<double> row);

 private:
  struct Hash {
    using is_transparent = void;
    [[nodiscard]] std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };
  template <class Value>
  using Map = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

  void check(const std::vector<std::string>& stop_words);
  void count(std::string_view term, std::span<double> row);
  void weigh(std::span<double> row) noexcept;

  WordOptions options_;
  std::uint32_t columns_ = 0;
  Map<std::uint32_t> vocabulary_;  // empty: by hash
  std::vector<double> weights_;
  Map<bool> stop_words_;
  // Of the text at hand.
  std::string lowered_;
  std::vector<std::string_view> words_;
  std::string term_;
  std::vector<std::uint32_t> touched_;
};

}  // namespace penstock
