// The end of a replay that did not do what it should: its figures would be of something else.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace penstock::replay {

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "replay: %s\n", what);
  std::exit(1);
}

inline void require(bool condition, const char* otherwise) {
  if (!condition) fail(otherwise);
}

}  // namespace penstock::replay
