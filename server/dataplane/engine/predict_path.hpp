// The fast path: a predict request becomes a row of a batch, a row of a completed batch becomes a reply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/http_session.hpp"
#include "engine/job_pool.hpp"
#include "engine/loop_context.hpp"

namespace penstock::dataplane {

inline constexpr std::size_t kInlineBytesMax = 256 * 1024;  // decoded or encoded on the loop; larger goes to a job

class PredictPath {
 public:
  PredictPath(LoopContext& loop, HttpSession& session, JobPool& jobs, JobInbox& inbox)
      : loop_(loop), session_(session), jobs_(jobs), inbox_(inbox) {}

  void start(Connection& connection, Pending& pending, const Request& request);
  void abandon(Pending& pending);
  void on_job(std::unique_ptr<Job> job);

  // Once per pass, after all sockets were read: wake the workers for everything published.
  void ring_bells();
  // Answers the rows of completed batches.
  void collect();
  // Before blocking: announce to every ring that owes this loop an answer. False: one is there already.
  [[nodiscard]] bool prepare_wait();
  void finish_wait();
  // After the table was swapped: a ring's id is stable, so only new ones appear.
  void adopt_table();
  [[nodiscard]] std::uint64_t rows_in_flight() const noexcept { return rows_in_flight_; }
  [[nodiscard]] bool has_done() const noexcept;

 private:
  struct Lane {  // what this loop knows of a ring
    std::uint64_t in_flight = 0;
    bool bell = false;
  };

  void refuse_body(Connection& connection, Pending& pending, Problem& problem);
  void submit_row(Connection& connection, Pending& pending, ModelEntry& entry, const std::byte* row,
                  std::uint32_t slot);
  void submit_decode(Connection& connection, Pending& pending, const Request& request, Encoding encoding,
                     const QueryNames& names);
  void answer_block(ModelEntry& entry, const batcher::DoneBlock& block);
  // True: the row has been answered or dropped; false: a job still needs it.
  bool answer_row(ModelEntry& entry, const batcher::DoneBlock& block, std::uint32_t row, const Ticket& ticket);
  void answer_ok(Connection& connection, Pending& pending, ModelEntry& entry, const batcher::DoneBlock& block,
                 std::uint32_t row);
  void answer_error(Connection& connection, Pending& pending, const batcher::Completion& completion);
  bool submit_encode(Connection& connection, Pending& pending, ModelEntry& entry, const batcher::DoneBlock& block,
                     std::uint32_t row);
  void finish_decode(Job& job);
  void finish_encode(Job& job);
  void finish_large(Connection& connection, Pending& pending, std::size_t body_bytes);
  void row_left(ModelEntry& entry) noexcept;

  LoopContext& loop_;
  HttpSession& session_;
  JobPool& jobs_;
  JobInbox& inbox_;
  std::vector<Lane> lanes_;            // by ring id
  std::vector<std::uint32_t> active_;  // ring ids with rows in flight
  std::uint64_t rows_in_flight_ = 0;
  std::vector<const std::byte*> outputs_;
  alignas(64) std::byte scratch_[kConnectionBytes + 64];
  char reply_[kConnectionBytes];
};

}  // namespace penstock::dataplane
