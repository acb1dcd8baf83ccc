// The whole test framework of the native tests: CHECK(cond) ends the program with a message when cond is false.
//
// It works in Release builds (unlike assert) and from any thread or child process. A test is a program: it returns 0
// from main() when everything held.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace penstock::test {

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace penstock::test

#define CHECK(...) \
  (static_cast<bool>(__VA_ARGS__) ? void() : ::penstock::test::check_failed(#__VA_ARGS__, __FILE__, __LINE__))
