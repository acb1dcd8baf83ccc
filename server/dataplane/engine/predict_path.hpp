// The fast path: a predict request becomes a row of a batch, a row of a completed batch becomes a reply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/batch_stamps.hpp"
#include "engine/http_session.hpp"
#include "engine/job_pool.hpp"
#include "engine/loop_context.hpp"
#include "engine/mirror.hpp"
#include "engine/rejoin.hpp"
#include "engine/result_cache.hpp"
#include "engine/rows_sink.hpp"

namespace penstock::dataplane {

inline constexpr std::size_t kInlineBytesMax = 256 * 1024;  // decoded or encoded on the loop; larger goes to a job

struct Opening;

class PredictPath {
 public:
  PredictPath(LoopContext& loop, HttpSession& session, JobPool& jobs, JobInbox& inbox)
      : loop_(loop), session_(session), jobs_(jobs), inbox_(inbox), mirrored_(loop.index) {}

  // POST /predict
  void start(Connection& connection, Pending& pending, const Request& request);
  // POST /predict/batch
  void start_batch(Connection& connection, Pending& pending, const Request& request);
  // POST /v2/models/{model}[/versions/{version}]/infer
  // The body is a ModelInferRequest of gRPC.
  void start_message(Connection& connection, Pending& pending, const Request& request);
  void start_infer(Connection& connection, Pending& pending, const Request& request, const QueryNames& names);
  void abandon(Pending& pending);
  void on_job(std::unique_ptr<Job> job);

  // Once per pass: further rows of requests that have more than one pass may take.
  void continue_requests();
  // Once per pass, after all answers were sent: compares rows that are mirrored.
  void compare_mirrored() noexcept {
    if (mirrored_.has_ready()) mirrored_.compare_some();
  }
  // There is something to do in a next pass, whatever happens.
  [[nodiscard]] bool has_unfinished() const noexcept;
  // There is once rows have come back, of this loop or another, or nobody waits any more.
  [[nodiscard]] bool has_stalled() const noexcept { return !unfinished_.empty(); }
  // Once per pass, after all sockets were read: wake the workers for everything published.
  void ring_bells();
  // Answers the rows of completed blocks.
  void collect();
  // Before blocking: announce to every ring that owes this loop an answer. False: one is there already.
  [[nodiscard]] bool prepare_wait();
  void finish_wait();
  // After the table was swapped: a ring's id is stable, so only new ones appear.
  void adopt_table();
  [[nodiscard]] std::uint64_t rows_in_flight() const noexcept { return rows_in_flight_; }
  // Of them, those that somebody waits for.
  [[nodiscard]] std::uint64_t rows_awaited() const noexcept { return rows_in_flight_ - rows_shadowed_; }
  [[nodiscard]] bool has_done() const noexcept;

 private:
  struct RingUse {  // what this loop knows of a ring
    std::uint64_t in_flight = 0;
    std::uint64_t of_many = 0;  // of them, of requests of many rows
    bool bell = false;
  };
  struct Unfinished {  // a request whose rows are not all submitted
    std::uint32_t connection = 0;
    std::uint32_t generation = 0;
    std::uint32_t request = 0;
    ModelEntry* entry = nullptr;
  };

  [[nodiscard]] bool open(Connection& connection, Pending& pending, const RequestHead& head, Opening& opening,
                          Problem& problem);
  [[nodiscard]] bool begin_request(Connection& connection, Pending& pending, const RequestHead& head,
                                   std::string_view output, Problem& problem);
  void refuse_body(Connection& connection, Pending& pending, Problem& problem);
  [[nodiscard]] std::unique_ptr<Job> make_job(Job::Kind kind, const Connection& connection, const Pending& pending);
  void submit_decode(Connection& connection, Pending& pending, const Request& request, Encoding encoding,
                     const QueryNames& names);

  // --- admission (predict_admission.cpp) -----------------------------------------------------------------------------

  // Rows that arrive now, and how long they may take; 0: as long as it takes.
  struct Asked {
    std::uint32_t rows = 1;
    std::uint64_t limit_ns = 0;
  };
  // Whether `rows` rows that arrive now can be in time. Sets the pending's deadline and prediction. False: `problem` is
  // set.
  [[nodiscard]] bool is_in_time(const ModelEntry& entry, std::uint32_t lane, const Asked& asked,
                                const batcher::CostModel& cost, const Pending& pending) const noexcept;
  [[nodiscard]] bool is_probe(ModelEntry& entry, std::uint32_t lane, std::uint64_t every_ns) noexcept;
  [[nodiscard]] bool admit(ModelEntry& entry, Pending& pending, std::uint32_t rows, Problem& problem);
  [[nodiscard]] std::uint64_t predict(const ModelEntry& entry, std::uint32_t lane, const Asked& asked,
                                      const batcher::CostModel& cost) const noexcept;
  void refuse_claim(ModelEntry& entry, const Pending& pending, batcher::ClaimStatus status, Problem& problem);
  void set_retry_after(const ModelEntry& entry, const Pending& pending, Problem& problem) const;
  void note_closed(ModelEntry& entry) noexcept;

  // --- rows into the ring (predict_submit.cpp) -----------------------------------------------------------------------

  void submit_row(Connection& connection, Pending& pending, ModelEntry& entry, const std::byte* row, std::uint32_t slot,
                  Problem& problem);
  [[nodiscard]] bool reserve_reply(Pending& pending, std::size_t reply_bytes, Problem& problem);
  void write_row(const Connection& connection, const Pending& pending, ModelEntry& entry, const batcher::Claim& claim,
                 std::uint32_t k, std::uint32_t slot) const noexcept;
  void enter_request(Connection& connection, Pending& pending, ModelEntry& entry, std::size_t reply_bytes) noexcept;
  void count_rows(ModelEntry& entry, const Pending& pending, std::uint32_t rows) noexcept;

  // --- requests of many rows (predict_rows.cpp) ----------------------------------------------------------------------

  enum class PartStatus : std::uint8_t { kSubmitted, kFull, kRefused };

  void begin_rows(Connection& connection, Pending& pending, const Request& request, Rejoin::Form form,
                  const RowsBody& body, ModelEntry* known);
  void submit_rows_decode(Connection& connection, Pending& pending, const Request& request, Rejoin& rejoin,
                          const RowsBody& body);
  void finish_rows_decode(Job& job);
  void submit_rows(Connection& connection, Pending& pending, Rejoin& rejoin);
  [[nodiscard]] bool accept_faults(const Pending& pending, const Rejoin& rejoin, Problem& problem) const;
  [[nodiscard]] bool prepare_reply(Pending& pending, Rejoin& rejoin, std::size_t& reply_bytes, Problem& problem);
  [[nodiscard]] bool prepare_raw_reply(Pending& pending, Rejoin& rejoin, std::size_t& reply_bytes, Problem& problem);
  [[nodiscard]] Rejoin* rejoin_of(const Unfinished& who) const noexcept;
  [[nodiscard]] bool submit_more(const Unfinished& who);
  void resume_stalled() noexcept;
  void submit_some(Connection& connection, Pending& pending);
  [[nodiscard]] std::uint32_t next_part(const Pending& pending, Rejoin& rejoin) const noexcept;
  [[nodiscard]] PartStatus submit_part(Connection& connection, Pending& pending, std::uint32_t count, Flight* flight,
                                       Problem& problem);
  template <class Place>
  static void copy_rows(const Rejoin& rejoin, std::uint32_t lane, std::uint32_t count, Place&& place);
  void publish_part(Connection& connection, Pending& pending, const batcher::Claim& claim, std::uint32_t slot);
  [[nodiscard]] bool admit_rows(Pending& pending, const Rejoin& rejoin, std::uint32_t wanted, Problem& problem);
  // Nobody waits for what is still out of it.
  void give_up(Pending& pending) noexcept;

  // --- their answers (predict_rows_reply.cpp) ------------------------------------------------------------------------

  [[nodiscard]] bool answer_one_of_many(Connection& connection, Pending& pending, const batcher::DoneBlock& block,
                                        std::uint32_t row, const Ticket& ticket);
  template <class OutputAt>
  [[nodiscard]] static bool take_outputs(const Pending& pending, std::uint32_t row, OutputAt&& output_at,
                                         Problem& problem) noexcept;
  static void clear_outputs(const Rejoin& rejoin, std::uint32_t row) noexcept;
  [[nodiscard]] static bool take_fault(Pending& pending, const Problem& problem, std::uint32_t row);
  static void note_returned(Rejoin& rejoin, const Ticket& ticket) noexcept;
  void answer_rows(Connection& connection, Pending& pending);
  void answer_encoded_rows(Connection& connection, Pending& pending, Rejoin& rejoin);
  static void note_infer_header(Pending& pending, const InferReplySize& size) noexcept;
  void submit_rows_encode(Connection& connection, Pending& pending, Rejoin& rejoin);
  void finish_rows_encode(Job& job);

  // --- mirrored rows (predict_mirror.cpp) ----------------------------------------------------------------------------

  void mirror_row(const Connection& connection, const Pending& pending, ModelEntry& entry, const batcher::Claim& claim,
                  std::uint32_t k, const std::byte* row) noexcept;
  [[nodiscard]] bool settle_mirrored(ModelEntry& entry, const batcher::DoneBlock& block, std::uint32_t row,
                                     const Ticket& ticket) noexcept;

  // --- rows that need not run (predict_cache.cpp) --------------------------------------------------------------------

  struct Sought {  // a row that may be known, or run already
    CacheWaiter waiter;
    std::uint32_t length = 0;
    bool was_asked = false;  // the second level has been, and knows nothing
    std::shared_ptr<const CachedRow> found = nullptr;
  };

  // What came of a row, for requests that waited for it.
  struct Shared {
    std::shared_ptr<const CachedRow> row;
    BatchStamps stamps;
    Problem problem;
    bool run_again = false;
    bool from_cache = false;  // it has not run now
  };
  [[nodiscard]] bool share_row(Connection& connection, Pending& pending, ModelEntry& entry, const std::byte* row,
                               Flight*& flight);
  [[nodiscard]] CacheAnswer seek_row(const Pending& pending, ModelEntry& entry, Sought& sought, Flight*& flight);
  [[nodiscard]] CacheAnswer look_timed(ModelEntry& entry, const CacheKey& key, const Urgency& urgency, Sought& sought);
  [[nodiscard]] CacheKey key_of(const Pending& pending, const ModelEntry& entry, std::uint32_t length) const noexcept;
  [[nodiscard]] std::span<const std::byte* const> outputs_of(const ModelEntry& entry, const CachedRow& row) noexcept;
  void begin_flight(ModelEntry& entry, const batcher::Claim& claim, Flight& flight);
  void await_row(Connection& connection, Pending& pending, ModelEntry& entry, std::size_t reply_bytes);
  void answer_hit(Connection& connection, Pending& pending, ModelEntry& entry, const CachedRow& row);
  void answer_cached(Connection& connection, Pending& pending, ModelEntry& entry, const CachedRow& row);
  void settle_flight(ModelEntry& entry, const batcher::DoneBlock& block, const BatchStamps& stamps, std::uint32_t row,
                     Flight& flight);
  static void keep_outputs(ModelEntry& entry, const batcher::DoneBlock& block, std::uint32_t row,
                           CachedRow& kept) noexcept;
  void post_shared(ModelEntry& entry, const CacheWaiter& waiter, const Shared& shared);
  void finish_shared(Job& job);
  void finish_shared(ModelEntry& entry, const CacheWaiter& waiter, const Shared& shared);
  void run_alone(Connection& connection, Pending& pending, ModelEntry& entry, const CachedRow& row);
  [[nodiscard]] bool leave_flight(const Pending& pending, const batcher::Claim& claim, std::uint32_t k) noexcept;

  // --- rows that other servers may know (predict_second_level.cpp) ---------------------------------------------------

  [[nodiscard]] bool look_further(const Pending& pending, ModelEntry& entry, const Sought& sought, Flight& flight);
  void finish_look_up(Job& job);

  // --- likewise, of requests of many rows (predict_cache_rows.cpp) ---------------------------------------------------

  void find_row_parts(const Rejoin& rejoin, std::uint32_t row);
  [[nodiscard]] std::uint32_t count_unknown(const Pending& pending, const Rejoin& rejoin);
  [[nodiscard]] PartStatus share_or_submit(Connection& connection, Pending& pending, Problem& problem);
  [[nodiscard]] bool take_known(Pending& pending, const CachedRow& known, std::uint32_t row, Problem& problem);
  void finish_shared_row(Connection& connection, Pending& pending, std::uint32_t row, const Shared& shared);
  void answer_known_rows(Connection& connection, Pending& pending);

  // --- answers (predict_reply.cpp) ---------------------------------------------------------------

  void answer_block(ModelEntry& entry, const batcher::DoneBlock& block, std::uint64_t now_ns);
  void count_batch(ModelEntry& entry, std::uint32_t buffer, const BatchStamps& stamps, std::uint64_t now_ns);
  // True: the row has been answered or dropped; false: a job still needs it.
  bool answer_row(ModelEntry& entry, const batcher::DoneBlock& block, const BatchStamps& stamps, std::uint32_t row,
                  const Ticket& ticket);
  void note_answer(Pending& pending, ModelEntry& entry, const BatchStamps& stamps);
  void answer_ok(Connection& connection, Pending& pending, ModelEntry& entry, const batcher::DoneBlock& block,
                 std::uint32_t row);
  void answer_outputs(Connection& connection, Pending& pending, ModelEntry& entry,
                      std::span<const std::byte* const> outputs);
  [[nodiscard]] bool answer_error(Connection& connection, Pending& pending, ModelEntry& entry,
                                  const batcher::Completion& completion, const Ticket& ticket);
  static void describe_error(const batcher::Completion& completion, Problem& problem) noexcept;
  static void name_row(std::uint32_t row, Problem& problem) noexcept;
  void refuse_row(Connection& connection, Pending& pending, std::uint32_t row, Problem& problem);
  [[nodiscard]] ResponseOptions reply_options(const Pending& pending) const noexcept;
  [[nodiscard]] std::span<const std::byte* const> outputs_of(ModelEntry& entry, const batcher::DoneBlock& block,
                                                             std::uint32_t row) noexcept;
  // Whether the strings of an answer can be sent as they are wanted. False: the request is refused.
  [[nodiscard]] bool check_texts(Connection& connection, Pending& pending, ModelEntry& entry,
                                 const batcher::DoneBlock& block, std::uint32_t row);
  bool submit_encode(Connection& connection, Pending& pending, ModelEntry& entry, const batcher::DoneBlock& block,
                     std::uint32_t row);
  void finish_decode(Job& job);
  void finish_encode(Job& job);
  void finish_small(Connection& connection, Pending& pending, std::string_view body);
  void finish_large(Connection& connection, Pending& pending, std::size_t body_bytes);
  void row_left(ModelEntry& entry, const Ticket& ticket) noexcept;

  LoopContext& loop_;
  HttpSession& session_;
  JobPool& jobs_;
  JobInbox& inbox_;
  std::vector<RingUse> rings_;         // by ring id
  std::vector<std::uint32_t> active_;  // ring ids with rows in flight
  std::uint64_t rows_in_flight_ = 0;
  std::uint64_t rows_shadowed_ = 0;  // of them, that nobody waits for
  MirrorPairs mirrored_;
  RejoinPool rejoins_;
  std::vector<Unfinished> unfinished_;
  FlightPool flights_;
  std::vector<CacheWaiter> waiters_;               // of a flight that is settled; keeps its capacity
  std::vector<std::span<const std::byte>> parts_;  // of a row that is looked for
  std::uint32_t lookups_ = 0;
  std::vector<const std::byte*> outputs_;
  alignas(64) std::byte scratch_[kConnectionBytes + 64];
  char reply_[kConnectionBytes];
};

}  // namespace penstock::dataplane
