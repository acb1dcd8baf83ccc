// Decoding and encoding of large rows, off the I/O loops: a few threads and one queue.
//
// Locks are fine here: a job moves at least 256 KiB. The queue needs no bound of its own, since every job holds a block
// of the bounded body pool.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "codec/codec.hpp"
#include "engine/batch_stamps.hpp"
#include "engine/body_pool.hpp"
#include "engine/compressing.hpp"
#include "engine/model_entry.hpp"
#include "engine/route_table.hpp"

namespace penstock::dataplane {

class CachedRow;
struct Job;
struct Rejoin;

// Where finished jobs go: an I/O loop's inbox.
class JobInbox {
 public:
  virtual void post(std::unique_ptr<Job> job) = 0;

 protected:
  ~JobInbox() = default;
};

struct Job {
  enum class Kind : std::uint8_t { kDecode, kEncode, kDecodeRows, kEncodeRows, kInflate, kCompress, kShared, kStored };

  Kind kind = Kind::kDecode;
  Encoding encoding = Encoding::kJson;
  JobInbox* inbox = nullptr;
  // Who asked; checked again when the job is done, since the client may be gone by then.
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
  std::uint32_t row_of_many = 0;            // kShared: which row of the request waited, or kNoRow
  std::shared_ptr<const RouteTable> table;  // keeps `entry` alive
  ModelEntry* entry = nullptr;

  // kDecode: block holds the request, body lies in it. Result: the arena slot or the packed row, or a problem, which
  // kEncode may have, too.
  Block block;
  std::string_view body;
  std::string model;
  std::string version;
  batcher::RowClass row_class = batcher::RowClass::kNormal;
  std::uint32_t slot = kNoSlot;
  std::uint32_t length = 0;  // of the row; kEncode: given
  std::unique_ptr<std::byte[]> row;
  Problem problem;
  std::shared_ptr<const FieldFaults> faults;  // that it speaks of

  // kEncode: one row of a completed block into `reply`, from `reply_offset` on. The block stays until the job is back.
  batcher::DoneBlock done;
  std::uint32_t done_row = 0;
  std::size_t output = 0;
  Block reply;
  std::size_t reply_offset = 0;
  std::size_t reply_bytes = 0;

  // kDecodeRows: block and body, names; result: `rejoin`, or a problem. kEncodeRows: `rejoin` into `reply`, likewise.
  Rejoin* rejoin = nullptr;
  BodyPool* pool = nullptr;
  std::size_t header_bytes = 0;  // of the Open Inference Protocol's JSON, in the body or the reply

  // kInflate: `block` holds the request, `body` lies in it behind `head_bytes`. Result: both in `reply`, or a problem.
  // kCompress: a whole reply in `reply`. Result: the same, compressed if that is worth it.
  Coding coding = Coding::kIdentity;
  std::size_t head_bytes = 0;
  std::uint64_t bytes_max = 0;  // kInflate: of the decompressed body. kCompress: the least that is compressed

  // kShared: the row that the request waited for is done. `cached` has its inputs, and its outputs unless there is a
  // problem or it is to run on its own.
  std::shared_ptr<const CachedRow> cached;
  BatchStamps stamps;
  bool run_again = false;
  bool from_cache = false;

  // kStored: what the second level knows of the row of this flight. `found`: its outputs are there, made so long ago.
  std::uint32_t flight = 0;
  bool found = false;
  std::uint64_t age_ns = 0;
};

class JobPool {
 public:
  JobPool() = default;
  ~JobPool() { stop(); }
  JobPool(const JobPool&) = delete;
  JobPool& operator=(const JobPool&) = delete;

  void start(std::uint32_t threads);
  void stop();
  void submit(std::unique_ptr<Job> job);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable available_;
  std::deque<std::unique_ptr<Job>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Resolves names against a route table and finds room for the row: an arena slot, or memory of the caller.
class TableResolver final : public RowResolver {
 public:
  // `row` has room for a packed row that needs no arena; null: one is allocated. `known`: what the names stand for,
  // when the caller has looked already.
  TableResolver(const RouteTable& table, std::byte* row, batcher::RowClass row_class, ModelEntry* known = nullptr)
      : table_(table), row_(row), row_class_(row_class), known_(known) {}
  RowTarget resolve(std::string_view model, std::string_view version, Problem& problem) override;

  [[nodiscard]] ModelEntry* entry() const noexcept { return entry_; }
  [[nodiscard]] std::uint32_t slot() const noexcept { return slot_; }
  [[nodiscard]] std::unique_ptr<std::byte[]> take_owned_row() noexcept { return std::move(owned_row_); }
  // The slot goes back: the row did not become a request.
  void discard() noexcept {
    if (entry_ != nullptr && slot_ != kNoSlot) entry_->ring.release_slot(slot_);
    slot_ = kNoSlot;
  }

 private:
  const RouteTable& table_;
  std::byte* row_;
  const batcher::RowClass row_class_;
  ModelEntry* known_;
  std::unique_ptr<std::byte[]> owned_row_;
  ModelEntry* entry_ = nullptr;
  std::uint32_t slot_ = kNoSlot;
};

[[nodiscard]] bool decode_body(Encoding encoding, std::string_view body, const QueryNames& names, RowResolver& resolver,
                               Problem& problem);

}  // namespace penstock::dataplane
