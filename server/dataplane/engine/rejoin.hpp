// A request of many rows: they run in whatever batches, come back in whatever order, and leave as one reply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/body_pool.hpp"
#include "engine/connection.hpp"
#include "engine/model_entry.hpp"

namespace penstock::dataplane {

inline constexpr std::uint32_t kRequestRowsMax = 4096;

// Belongs to a Pending until it is answered, refused or abandoned; then to the loop's pool again. Rows that are still
// out then find no request that waits for them and are dropped.
struct Rejoin {
  struct Part {  // rows that were claimed together, so they lie in one block and come back together
    batcher::Claim claim;
    bool answered = false;
  };

  std::uint32_t rows = 0;       // of the request
  std::uint32_t submitted = 0;  // of them, that are in the queue or further
  std::uint32_t answered = 0;
  std::vector<Part> parts;  // keeps its capacity from request to request

  // The rows not submitted yet: packed, one behind the other. A body that came in a block stays there.
  std::string_view body;
  Block block;
  std::size_t row_bytes = 0;

  // Where the outputs go, row k at k * output_bytes: into the reply, or here when the reply fits a connection's buffer.
  char* out = nullptr;
  std::size_t output_bytes = 0;
  std::unique_ptr<char[]> small;

  [[nodiscard]] bool is_submitted() const noexcept { return submitted == rows; }
  [[nodiscard]] bool is_complete() const noexcept { return answered == rows; }
};

// Of one loop. Allocates only when more requests of many rows are under way than ever before.
class RejoinPool {
 public:
  [[nodiscard]] Rejoin* acquire();
  void release(Rejoin& rejoin) noexcept;

 private:
  std::vector<std::unique_ptr<Rejoin>> all_;
  std::vector<Rejoin*> free_;
};

}  // namespace penstock::dataplane
