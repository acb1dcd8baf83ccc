// What a taker keeps in its own memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "penstock/batcher/batch_taker.hpp"
#include "penstock/batcher/spinner.hpp"
#include "ring_map.hpp"
#include "take_policy.hpp"

namespace penstock::batcher {

// A copy of a descriptor, closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd);  // duplicates; throws std::system_error
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&&) = delete;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

// Rows gathered from the arena, one after the other.
struct GatheredInput {
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte, Free> bytes;
};

struct BatchTaker::State {
  State(int ring_fd, const std::vector<int>& loop_event_fds, std::uint32_t worker_id);

  // A look at the ring; remembers which batch it saw.
  [[nodiscard]] RingView look() noexcept;
  [[nodiscard]] TakeDecision decide_now() noexcept;
  [[nodiscard]] std::optional<TakenBatch> take_open() noexcept;
  [[nodiscard]] std::optional<TakenBatch> take_queued() noexcept;
  [[nodiscard]] std::optional<TakenBatch> take_word(std::uint64_t sequence, std::uint32_t buffer,
                                                    std::uint64_t bits) noexcept;
  void await_rows(const TakenBatch& batch) noexcept;
  // Looks for rows a moment longer while requests come one or two at a time. True: there is a batch to take.
  [[nodiscard]] bool spin(const TakeDecision& decision) noexcept;
  void wake_another() noexcept;

  // Sleeps until somebody has news, until the decision's time or the deadline. False: the deadline passed, or a signal
  // came.
  [[nodiscard]] bool wait(const TakeDecision& decision, std::uint64_t deadline_ns) noexcept;
  [[nodiscard]] bool is_lost() noexcept;

  void notify(std::uint32_t loop, std::uint32_t buffer) noexcept;
  // The word as it must stand while this taker holds the batch.
  [[nodiscard]] std::uint64_t held_bits(const TakenBatch& batch) const noexcept;
  [[nodiscard]] std::uint32_t slot_of(std::uint32_t buffer, std::uint32_t row) const noexcept;
  const std::byte* gather_input(const TakenBatch& batch, std::size_t index);

  RingMap map;
  const std::uint32_t worker;
  const std::uint64_t bit;
  const std::uint64_t queue_delay_ns;
  std::vector<Descriptor> loop_events;
  std::vector<GatheredInput> gathered;  // per input
  std::uint64_t seen_sequence = 0;
  std::uint64_t seen_bits = 0;
  Spinner spinner;
  std::uint32_t rows_last = 0;  // of the batch taken last
};

}  // namespace penstock::batcher
