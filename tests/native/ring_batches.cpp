// Batches of several blocks: which rows they are made of, where those lie, and that every answer lands at its row.
#include <algorithm>

#include "ring_fixture.hpp"

namespace {

using namespace penstock;
using namespace penstock::test;

constexpr auto kInteractiveLane = static_cast<std::uint32_t>(RowClass::kInteractive);
constexpr auto kBatchLane = static_cast<std::uint32_t>(RowClass::kBatch);
constexpr auto kReproducibleLane = static_cast<std::uint32_t>(RowClass::kReproducible);
constexpr std::uint64_t kLate = 1;  // a deadline that is past when the row is taken
constexpr std::uint32_t kBlockRows = 2;
constexpr std::uint32_t kBatchRows = 8;
constexpr std::uint32_t kBuffers = 8;  // of every lane: rows for two batches, the least there can be

RingConfig config_of(bool rerun = false) {
  RingConfig config = small_config(kBuffers, kBatchRows);
  config.block_rows = kBlockRows;
  config.queue_bytes = bytes_for(config.schema, kBuffers, kBlockRows);
  config.rerun_on_worker_death = rerun;
  return config;
}

struct World {
  explicit World(const RingConfig& config = config_of())
      : ring(config), loop(ring, 0, 1), taker(ring.fd(), {loop.event()}, 0) {}

  void submit(int rows, std::uint32_t lane = kNormalLane, std::uint64_t deadline_after_ns = 0) {
    loop.use_lane(lane);
    loop.set_deadline(deadline_after_ns);
    for (int i = 0; i < rows; ++i) CHECK(loop.submit(1));
  }

  TakenBatch take() {
    const std::optional<TakenBatch> batch = taker.take(0);
    CHECK(batch.has_value());
    return *batch;
  }

  // Runs what is there; the open block of each lane is empty afterwards.
  void serve() {
    while (const std::optional<TakenBatch> batch = taker.take(0)) run_batch(taker, *batch);
    loop.collect();
    CHECK(loop.waiting() == 0);
  }

  // The next row of the lane is the first one of buffer `buffer` of the lane.
  void turn_to(std::uint32_t lane, std::uint32_t buffer) {
    for (std::uint32_t i = 0; i < buffer; ++i) {
      submit(kBlockRows, lane);
      serve();
    }
  }

  BatchRing ring;
  Loop loop;
  BatchTaker taker;
};

std::vector<std::uint32_t> lanes_of(const World& world, const TakenBatch& batch) {
  std::vector<std::uint32_t> lanes;
  for (const BatchRow& row : batch.row) lanes.push_back(world.ring.lane_of_buffer(row.buffer));
  return lanes;
}

// ---- where the rows lie -----------------------------------------------------------------------------------------

void neighbouring_blocks_are_one_array() {
  World world;
  world.submit(6);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 6 && batch.run_rows == 6 && batch.blocks.size() == 3 && batch.in_place);
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 6 && world.loop.tally().right == 6);
}

void a_batch_ends_at_its_limit() {
  World world;
  world.submit(13);
  CHECK(world.take().rows == kBatchRows);
  CHECK(world.take().rows == 5);  // whole blocks, and a partial one
}

void a_batch_round_the_end_of_the_lane_is_copied() {
  World world;
  world.turn_to(kNormalLane, kBuffers - 1);
  world.submit(5);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 5 && batch.blocks.size() == 3 && !batch.in_place);
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 5 && world.loop.waiting() == 0);
}

// A claim of several rows that did not fit leaves the rest of its block unused.
void a_hole_in_a_block_is_left_out() {
  World world;
  world.submit(1);
  CHECK(world.loop.submit(2));
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 3 && batch.blocks.size() == 2 && !batch.in_place);
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 3 && world.loop.tally().right == 3);
}

// Rows of all lanes are numbered through: the last row of one lane and the first of the next look like neighbours.
void neighbours_of_two_lanes_are_no_array() {
  World world;
  world.turn_to(kInteractiveLane, kBuffers - 1);
  world.submit(2, kInteractiveLane);
  world.submit(2);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 4 && batch.row[2].index == batch.row[1].index + 1 && !batch.in_place);
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 4 && world.loop.waiting() == 0);
}

// All that stays is of another lane than the one that the batch was taken for.
void riders_may_be_left_alone() {
  World world;
  world.submit(1, kInteractiveLane, kLate);
  world.submit(2);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 2 && lanes_of(world, batch) == std::vector<std::uint32_t>(2, kNormalLane));
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 3 && world.loop.tally().right == 2 && world.loop.tally().shed == 1);
}

// ---- which rows they are ----------------------------------------------------------------------------------------

void lower_classes_fill_a_batch_up() {
  World world;
  world.submit(4, kBatchLane);
  world.submit(3, kReproducibleLane);
  world.submit(3);
  world.submit(1, kInteractiveLane);
  const TakenBatch batch = world.take();
  CHECK(lanes_of(world, batch) == std::vector<std::uint32_t>{0, 1, 1, 1, 2, 2, 2, 2});
  run_batch(world.taker, batch);
  world.serve();
  CHECK(world.loop.tally().right == 11);
}

void late_rows_leave_holes() {
  World world;
  world.submit(1);
  world.submit(1, kNormalLane, kLate);
  world.submit(2, kNormalLane, kLate);  // a whole block
  world.submit(1);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 2 && batch.blocks.size() == 2 && !batch.in_place);
  CHECK(world.loop.collect() == 2 && world.loop.tally().shed == 2);  // that block waits for no run
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 3 && world.loop.tally().shed == 3 && world.loop.tally().right == 2);
}

void others_take_the_place_of_late_rows() {
  World world;
  for (int i = 0; i < 4; ++i) {
    world.submit(1);
    world.submit(1, kNormalLane, kLate);
  }
  world.submit(6);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == kBatchRows && batch.blocks.size() == 6);
  run_batch(world.taker, batch);
  world.serve();
  CHECK(world.loop.tally().shed == 4 && world.loop.tally().right == 10);
}

void a_cancelled_row_is_left_out() {
  World world;
  world.submit(2);
  const Claim claim = world.ring.claim(kNormalLane, 1);
  world.ring.meta(claim, 0).deadline_ns = 0;
  world.ring.publish(claim, 0);
  world.ring.cancel(claim, 0);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 2 && batch.blocks.size() == 1 && batch.in_place);
  run_batch(world.taker, batch);
  CHECK(world.loop.collect() == 2);
}

// ---- padding ----------------------------------------------------------------------------------------------------

// What a model computes for padding goes nowhere: not to answers that were not read yet, nor to rows that came since.
void padding_touches_no_neighbour() {
  RingConfig config = config_of();
  config.batch_sizes = {4, 8};
  World world(config);
  world.submit(2);
  run_batch(world.taker, world.take());  // done, and not collected
  world.submit(3);
  const TakenBatch batch = world.take();
  CHECK(batch.rows == 3 && batch.run_rows == 4 && !batch.in_place);
  world.submit(3);
  for (std::uint32_t row = batch.rows; row < batch.run_rows; ++row)
    CHECK(id_of(world.taker, batch, row) == id_of(world.taker, batch, 0));
  std::memset(world.taker.output(batch, 0), 0xEE, batch.run_rows * sizeof(std::uint64_t));
  std::memset(world.taker.output(batch, 1), 0xEE, batch.run_rows * sizeof(std::uint32_t));
  run_batch(world.taker, batch);
  world.serve();
  CHECK(world.loop.tally().right == 8);
}

void reproducible_rows_run_in_one_size() {
  RingConfig config = config_of();
  config.reproducible_batch_size = 5;
  World world(config);
  const std::byte* memory = nullptr;
  for (const int rows : {1, 4, 5, 2}) {
    world.submit(3);
    world.submit(rows, kReproducibleLane);
    std::uint64_t reproducible = 0;
    while (const std::optional<TakenBatch> batch = world.taker.take(0)) {
      const std::vector<std::uint32_t> lanes = lanes_of(world, *batch);
      const auto of_lane = static_cast<std::uint32_t>(std::ranges::count(lanes, kReproducibleLane));
      CHECK(of_lane == 0 || of_lane == batch->rows);
      if (of_lane != 0) {
        CHECK(batch->run_rows == 5 && batch->fixed_rows == 5 && !batch->in_place);
        CHECK(batch->reason == SealReason::kReproducible);
        CHECK(memory == nullptr || memory == world.taker.input(*batch, 0));  // the same alignment every time
        memory = world.taker.input(*batch, 0);
        for (std::uint32_t row = batch->rows; row < 5; ++row)
          CHECK(id_of(world.taker, *batch, row) == id_of(world.taker, *batch, 0));
        reproducible += of_lane;
      }
      run_batch(world.taker, *batch);
    }
    CHECK(reproducible == static_cast<std::uint64_t>(rows));
    world.serve();
  }
}

// ---- death ------------------------------------------------------------------------------------------------------

void blocks_of_a_dead_worker_run_one_by_one() {
  World world(config_of(true));
  world.submit(5);
  const TakenBatch lost = world.take();
  run_row(world.taker, lost, 3);
  if (!world.taker.is_completed(lost, 3)) world.taker.complete_row(lost, 3);
  CHECK(world.ring.recover(0).blocks_requeued == 3);
  world.submit(1);  // joins none of them
  std::vector<std::uint32_t> rows;
  BatchTaker second(world.ring.fd(), {world.loop.event()}, 1);
  while (const std::optional<TakenBatch> batch = second.take(0)) {
    CHECK(batch->blocks.size() == 1 && batch->attempt == (rows.size() < 3 ? 1 : 0));
    rows.push_back(batch->rows);
    run_batch(second, *batch);
  }
  CHECK(rows == std::vector<std::uint32_t>{2, 1, 1, 1});  // the row that had its answer is not run again
  CHECK(world.loop.collect() == 6 && world.loop.tally().right == 6);
}

void a_dead_worker_fails_all_its_blocks() {
  World world;
  world.submit(5);
  (void)world.take();
  const Recovery recovery = world.ring.recover(0);
  CHECK(recovery.blocks_failed == 3 && recovery.rows_failed == 5);
  CHECK(world.loop.collect() == 5 && world.loop.tally().worker_died == 5);
}

// ---- what admission is told -------------------------------------------------------------------------------------

void the_load_counts_the_rows_ahead() {
  World world;
  const auto ahead = [&](std::uint32_t lane) { return world.ring.load(lane, now_ns()).rows_ahead; };
  CHECK(world.ring.load(kNormalLane, now_ns()).workers == 1);
  for (std::uint64_t lap = 0; lap < 3; ++lap) {
    world.submit(7);
    world.submit(3, kInteractiveLane);
    world.submit(2, kBatchLane);
    world.submit(1, kReproducibleLane);
    CHECK(ahead(kInteractiveLane) == 3 + 1);
    CHECK(ahead(kNormalLane) == 7 + 3 + 1);
    CHECK(ahead(kBatchLane) == 7 + 3 + 2 + 1);
    CHECK(ahead(kReproducibleLane) == 7 + 3 + 2 + 1);
    while (const std::optional<TakenBatch> batch = world.taker.take(0)) run_batch(world.taker, *batch);
    for (std::uint32_t lane = 0; lane < world.ring.lanes(); ++lane) CHECK(ahead(lane) == 0);
    world.serve();
  }
}

}  // namespace

int main() {
  neighbouring_blocks_are_one_array();
  a_batch_ends_at_its_limit();
  a_batch_round_the_end_of_the_lane_is_copied();
  a_hole_in_a_block_is_left_out();
  neighbours_of_two_lanes_are_no_array();
  riders_may_be_left_alone();
  lower_classes_fill_a_batch_up();
  late_rows_leave_holes();
  others_take_the_place_of_late_rows();
  a_cancelled_row_is_left_out();
  padding_touches_no_neighbour();
  reproducible_rows_run_in_one_size();
  blocks_of_a_dead_worker_run_one_by_one();
  a_dead_worker_fails_all_its_blocks();
  the_load_counts_the_rows_ahead();
  return 0;
}
