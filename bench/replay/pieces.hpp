// The pieces of the data plane one by one, each a stage: what a change made dearer is named by its stage.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/model_entry.hpp"
#include "engine/route_table.hpp"
#include "penstock/batcher/batch_taker.hpp"
#include "requests.hpp"

namespace penstock::replay {

// One model in this process, with its worker's side. One thread.
struct Model {
  explicit Model(const Case& which);

  std::shared_ptr<dataplane::ModelEntry> entry;
  std::shared_ptr<const dataplane::RouteTable> table;
  batcher::BatchTaker taker;
};

// Takes the batch that is there, answers half of the first inputs, and completes it. The number of rows.
std::uint32_t run_worker(batcher::BatchTaker& taker);

// The state between the stages of one batch.
struct Pieces {
  explicit Pieces(const Case& replayed);

  const Case& which;
  std::vector<WireRequest> requests;
  std::size_t first = 0;  // request of the batch that is replayed
  Model model;
  std::uint32_t reply_bytes = 0;  // of all replies so far: proof that something was done
  alignas(64) std::array<std::byte, 4096> row{};
  std::array<char, 16384> reply{};

  [[nodiscard]] const WireRequest& request(std::uint32_t i) const { return requests[(first + i) % kRequests]; }
};

// Each of them is called once a batch of kBatchRows requests, in this order. They are functions of their own so that
// callgrind counts them apart: the part of a name behind "stage_" is the stage's name.
void stage_head(Pieces& pieces);    // find the head's end, parse it, read query, Content-Type and Accept
void stage_decode(Pieces& pieces);  // find the route, decode the body into a row
void stage_submit(Pieces& pieces);  // claim, copy, publish
void stage_work(Pieces& pieces);    // take, run a trivial model, complete
void stage_answer(Pieces& pieces);  // see the batch done, encode each reply with its head, free the batch

}  // namespace penstock::replay
