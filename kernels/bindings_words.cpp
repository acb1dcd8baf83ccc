#include "bindings_words.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/kernels/words.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {
namespace {

using Vocabulary = std::variant<std::uint32_t, std::vector<std::string>>;

[[nodiscard]] Norm norm_of(std::string_view name) {
  if (name == "none") return Norm::kNone;
  if (name == "l1") return Norm::kL1;
  if (name == "l2") return Norm::kL2;
  throw std::invalid_argument(std::string("unknown norm ").append(name));
}

[[nodiscard]] std::string_view utf8_of(nb::handle text) {
  Py_ssize_t bytes = 0;
  const char* const data = PyUnicode_AsUTF8AndSize(text.ptr(), &bytes);
  if (data == nullptr) throw nb::python_error();
  return {data, static_cast<std::size_t>(bytes)};
}

class PyWords {
 public:
  PyWords(const Vocabulary& vocabulary, std::vector<double> weights, const std::vector<std::string>& stop_words,
          std::uint32_t ngram_min, std::uint32_t ngram_max, bool lower, bool binary, bool sublinear, bool signs,
          std::string_view norm)
      : words_(make(vocabulary, std::move(weights), stop_words,
                    {.ngram_min = ngram_min,
                     .ngram_max = ngram_max,
                     .lower = lower,
                     .binary = binary,
                     .sublinear = sublinear,
                     .signs = signs,
                     .norm = norm_of(norm)})),
        row_(words_.columns()) {}

  template <typename Element>
  void run(const nb::list& texts, const nb::ndarray<Element, nb::ndim<2>, nb::c_contig, nb::device::cpu>& result,
           std::size_t at, const nb::callable& split) {
    if (texts.size() != result.shape(0) || at + words_.columns() > result.shape(1)) {
      throw std::invalid_argument("the result has not the texts' rows, or not the words' columns");
    }
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const nb::handle text = texts[i];
      if (!PyUnicode_Check(text.ptr())) throw std::invalid_argument("texts are str");
      nb::list elsewhere;
      if (PyUnicode_IS_ASCII(text.ptr())) {
        words_.split(utf8_of(text));
      } else {
        // What letters are beyond ASCII, and their lower case, Python knows.
        elsewhere = nb::cast<nb::list>(split(text));
        words_.begin();
        for (const nb::handle word : elsewhere) words_.add(utf8_of(word));
      }
      words_.write(row_);
      Element* const to = result.data() + i * result.shape(1) + at;
      for (std::size_t column = 0; column < row_.size(); ++column) to[column] = static_cast<Element>(row_[column]);
    }
  }

 private:
  [[nodiscard]] static Words make(const Vocabulary& vocabulary, std::vector<double> weights,
                                  const std::vector<std::string>& stop_words, const WordOptions& options) {
    if (const auto* const buckets = std::get_if<std::uint32_t>(&vocabulary)) {
      if (!weights.empty()) throw std::invalid_argument("hashed words have no weights");
      return {*buckets, stop_words, options};
    }
    return {std::get<std::vector<std::string>>(vocabulary), std::move(weights), stop_words, options};
  }

  Words words_;
  std::vector<double> row_;
};

}  // namespace

void bind_words(nb::module_& module) {
  nb::class_<PyWords>(module, "Words",
                      "Counts of the words of texts (kernels/words.hpp). Used by one thread at a time.")
      .def(nb::init<const Vocabulary&, std::vector<double>, const std::vector<std::string>&, std::uint32_t,
                    std::uint32_t, bool, bool, bool, bool, std::string_view>(),
           "vocabulary"_a, nb::kw_only(), "weights"_a = std::vector<double>(),
           "stop_words"_a = std::vector<std::string>(), "ngram_min"_a = 1, "ngram_max"_a = 1, "lower"_a = true,
           "binary"_a = false, "sublinear"_a = false, "signs"_a = false, "norm"_a = "l2",
           "vocabulary: the words, or how many buckets their hashes fall into. ValueError for what cannot be.")
      .def("run", &PyWords::run<float>, "texts"_a, "result"_a, "at"_a, "split"_a,
           "Write the columns of each text into result, shape (texts, columns), from column `at` on. `split` gives the "
           "words of a text that is not ASCII. ValueError when the sizes do not fit.")
      .def("run", &PyWords::run<double>, "texts"_a, "result"_a, "at"_a, "split"_a);
}

}  // namespace penstock
