// Distinct answers are kept once and counted; the bound on memory is kept.
#include <string>

#include "answer_book.hpp"
#include "check.hpp"

int main() {
  using penstock::loadgen::AnswerBook;
  AnswerBook book(1 << 20);
  for (int round = 0; round < 3; ++round) {
    book.add(1, 200, "a");
    book.add(1, 200, "b");
    book.add(2, 200, "a");
    book.add(1, 503, "a");
  }
  CHECK(book.answers().size() == 4);
  for (const auto& answer : book.answers()) CHECK(answer.count == 3);
  CHECK(book.unkept() == 0);

  AnswerBook small(1000);
  for (std::uint32_t pick = 0; pick < 100; ++pick) small.add(pick, 200, std::string(50, 'x'));
  CHECK(!small.answers().empty() && small.answers().size() < 20);
  CHECK(small.unkept() + small.answers().size() == 100);
  small.add(0, 200, std::string(50, 'x'));  // a known answer needs no memory
  CHECK(small.answers().front().count == 2);
  return 0;
}
