// Which lane runs next, how many rows of it, and when: pure functions of what a taker sees and of the time.
//
// The server's takers and the simulator run the same code; the clock is an argument. docs/batching.md explains the
// rules and shows what they reach.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "penstock/batcher/cost_model.hpp"

namespace penstock::batcher {

inline constexpr std::uint64_t kNoDeadline = ~std::uint64_t{0};

enum class RowClass : std::uint8_t { kInteractive = 0, kNormal = 1, kBatch = 2, kReproducible = 3 };
inline constexpr std::uint32_t kRowClasses = 4;

// What does not change about a lane while its model is served.
struct LaneSettings {
  std::uint32_t model = 0;   // lanes of one model and one bucket may share a batch
  std::uint32_t bucket = 0;  // length bucket
  RowClass row_class = RowClass::kNormal;
  std::uint32_t block_rows = 1;                // rows are taken in blocks of this many; the last one may have fewer
  std::uint32_t batch_rows_max = 64;           // of a batch: max_batch_size, or what the token budget allows
  std::uint64_t slo_ns = 0;                    // latency objective of the model; 0: none
  std::uint64_t queue_delay_ns = 0;            // without an objective: a partial batch may wait this long for more rows
  std::uint32_t weight = 100;                  // share of the device against other models
  std::span<const std::uint32_t> batch_sizes;  // sizes that the model may run, ascending; empty: any
};

// What a taker sees of a lane now.
struct LaneView {
  const LaneSettings* settings = nullptr;
  const CostModel* cost = nullptr;
  std::uint32_t rows = 0;                   // that can be taken at once, at most batch_rows_max
  bool ripe = false;                        // no row can join the batch any more: batch_rows_max are there
  bool requeued = false;                    // rows of a dead worker wait to run again (not counted in `rows`)
  std::uint64_t oldest_ns = 0;              // arrival of the first row; 0: not known yet, counts as now
  std::uint64_t deadline_ns = kNoDeadline;  // earliest deadline of the first block
  std::uint64_t rows_seen = 0;              // rows that ever came, as far as the taker can tell: for the arrival rate
};

enum class Action : std::uint8_t { kRun, kWaitUntil, kWait };

// Why a batch was sealed when it was; in receipts and metrics under these names.
enum class SealReason : std::uint8_t {
  kIdle,          // the device was free (work-conserving)
  kFull,          // it had all the rows it may have
  kDeadline,      // its first row could not wait any longer, or it was kept small for it
  kDelay,         // max_queue_delay_us was over
  kRequeued,      // a worker died with it
  kReproducible,  // fixed size
};
inline constexpr std::uint8_t kSealReasons = 6;

// A taker takes whole blocks from the head of the lane: `lane_rows` rounded down to blocks, at least one block, or all
// that is there when that is not more. Then lower classes of the same model and bucket, in their order, up to `rows`,
// again in whole blocks or to the end of a lane. Where shed_late() drops rows, it takes further ones in their place.
struct Decision {
  Action action = Action::kWait;
  std::uint32_t lane = 0;       // index into the views
  std::uint32_t rows = 0;       // kRun: most rows that run, those of other lanes that fill the batch up included
  std::uint32_t lane_rows = 0;  // kRun: most rows of the lane itself
  bool requeued = false;        // kRun: take what a dead worker left
  SealReason reason = SealReason::kIdle;
  std::uint64_t until_ns = 0;  // kWaitUntil
};

enum class SchedulingPolicy : std::uint8_t {
  kDeadline = 0,    // the rules of docs/batching.md; work-conserving, oldest row first, where no lane has an objective
  kRoundRobin = 1,  // models in turn, whatever is there: what others do, to compare with
};

struct BatchPlan;

// A taker's memory between decisions: arrival rates, virtual times of the models, whose turn it is. One thread.
class Scheduler {
 public:
  explicit Scheduler(SchedulingPolicy policy = SchedulingPolicy::kDeadline);
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;
  Scheduler& operator=(Scheduler&&) noexcept;

  // O(lanes), allocates nothing once it has seen as many lanes. Changes only what is derived from the views and the
  // time, so asking twice gives the same answer.
  [[nodiscard]] Decision decide(std::span<const LaneView> lanes, std::uint64_t now_ns) noexcept;

  // A batch of `lane` was taken and is expected to take `cost_ns`: for the models' shares.
  void charge(std::span<const LaneView> lanes, std::uint32_t lane, std::uint64_t cost_ns) noexcept;

  // Lanes looked at since the start, a lane once per look: what tests count instead of time.
  [[nodiscard]] std::uint64_t views_visited() const noexcept { return views_visited_; }

 private:
  struct Model;
  struct LaneMemory {
    std::uint32_t model = 0;        // index into models_
    std::uint64_t last_run_ns = 0;  // when a batch of the lane was last taken
  };

  struct Gathered;

  void remember(std::span<const LaneView> lanes, std::uint64_t now_ns);
  [[nodiscard]] Gathered gather(std::span<const LaneView> lanes, std::uint64_t now_ns) noexcept;
  [[nodiscard]] Decision decide_requeued(std::span<const LaneView> lanes, const Gathered& gathered) noexcept;
  [[nodiscard]] Decision decide_in_turn(std::span<const LaneView> lanes) const noexcept;
  [[nodiscard]] Decision decide_alone(std::span<const LaneView> lanes) const noexcept;
  [[nodiscard]] Decision decide_shared(std::span<const LaneView> lanes) noexcept;
  [[nodiscard]] static Decision run(const BatchPlan& plan, const LaneView& view, std::uint32_t lane) noexcept;

  void plan_long_run(std::span<const LaneView> lanes) noexcept;
  void plan_batches(std::span<const LaneView> lanes) noexcept;
  [[nodiscard]] Model* first_due() noexcept;
  [[nodiscard]] Model* first_free(std::span<const LaneView> lanes) noexcept;
  [[nodiscard]] Model* fitting(std::span<const LaneView> lanes, const Model& due) noexcept;
  [[nodiscard]] std::uint64_t guarded_start_ns(const Model& model) const noexcept;
  void leave_room(std::span<const LaneView> lanes, Model& chosen) const noexcept;

  SchedulingPolicy policy_;
  std::vector<LaneMemory> lanes_;
  std::vector<Model> models_;
  std::uint64_t now_ns_ = 0;  // of the last decision
  std::uint32_t turn_ = 0;    // kRoundRobin: the model that ran last
  bool put_off_ = false;      // the last decision let something urgent go before rows of a dead worker
  bool may_put_off_ = true;   // they have not waited for another batch yet
  std::uint64_t views_visited_ = 0;

  // Of the last decision among several models.
  std::uint32_t models_active_ = 0;
  bool alike_ = false;              // no objective is over twice another: then nobody gains by waiting
  std::uint64_t pending_ns_ = 0;    // run time of all pending batches
  const Model* longest_ = nullptr;  // the active model with the longest planned batch
  std::uint64_t longest_ns_ = 0;    // its time, and that of the next one
  std::uint64_t second_longest_ns_ = 0;
};

// How many of `rows` rows run, and as how many: the allowed size that they are padded to. `batch_sizes` may be empty.
[[nodiscard]] std::uint32_t padded_rows(std::span<const std::uint32_t> batch_sizes, std::uint32_t rows) noexcept;

// Marks the rows of a batch in hand that are shed: those that would be late, or would make more others late than they
// are worth. `deadlines_ns[i]` is row i's, kNoDeadline for none; `shed` has as many entries. Returns how many stay.
// Never sheds a row that would be in time, nor all of them while one can be.
std::uint32_t shed_late(std::span<const std::uint64_t> deadlines_ns, const LaneSettings& lane, const CostModel& cost,
                        std::uint64_t now_ns, std::span<std::uint8_t> shed) noexcept;

}  // namespace penstock::batcher
