#include "pieces.hpp"

#include <cstring>
#include <optional>

#include "engine/job_pool.hpp"
#include "fail.hpp"
#include "http/http_parser.hpp"
#include "http/media_type.hpp"
#include "http/query.hpp"
#include "http/response.hpp"

namespace penstock::replay {
namespace {

using namespace dataplane;

std::shared_ptr<ModelEntry> make_entry(const Case& which) {
  batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {which.inputs}}}),
                   RowLayout({{"y", DType::kFloat32, {which.outputs}}})};
  return std::make_shared<ModelEntry>(0, std::string(which.model), "1", config);
}

std::shared_ptr<const RouteTable> make_table(const std::shared_ptr<ModelEntry>& entry) {
  const std::vector<RouteSpec> routes{{entry->model, entry->version, 0, true, true}};
  return std::make_shared<const RouteTable>(routes, std::vector{entry});
}

}  // namespace

Model::Model(const Case& which) : entry(make_entry(which)), table(make_table(entry)), taker(entry->ring.fd(), {0}, 0) {}

std::uint32_t run_worker(batcher::BatchTaker& taker) {
  std::optional<batcher::TakenBatch> batch = taker.take(0);
  if (!batch.has_value()) fail("the worker found no batch");
  const std::uint64_t inputs = taker.schema().inputs.tensors()[0].elements();
  const std::uint64_t outputs = taker.schema().outputs.tensors()[0].elements();
  const auto* x = reinterpret_cast<const float*>(taker.input(*batch, 0));
  auto* y = reinterpret_cast<float*>(taker.output(*batch, 0));
  for (std::uint32_t row = 0; row < batch->rows; ++row) {
    for (std::uint64_t i = 0; i < outputs; ++i) y[row * outputs + i] = x[row * inputs + i] / 2;
  }
  const std::uint32_t rows = batch->rows;
  taker.complete(std::move(*batch));
  return rows;
}

Pieces::Pieces(const Case& replayed) : which(replayed), requests(make_requests(replayed)), model(replayed) {}

[[gnu::noinline]] void stage_head(Pieces& pieces) {
  for (std::uint32_t i = 0; i < kBatchRows; ++i) {
    RequestHead head;
    Problem problem;
    QueryParams query;
    std::array<char, 64> query_text;
    std::size_t scanned = 0;
    require(parse_head(pieces.request(i).bytes, scanned, HeadLimits{}, head, problem) == ParseStatus::kComplete,
            "a head did not parse");
    require(parse_query(head.query, query_text, query, problem), "a query did not parse");
    require(parse_content_type(head.content_type) <= MediaType::kRaw, "a Content-Type did not parse");
    const std::optional<ReplyFormat> format = negotiate(head);
    require(format.has_value() && format->encoding == pieces.which.encoding, "an Accept was not understood");
  }
}

[[gnu::noinline]] void stage_decode(Pieces& pieces) {
  const bool is_raw = pieces.which.encoding == Encoding::kRaw;
  for (std::uint32_t i = 0; i < kBatchRows; ++i) {
    Problem problem;
    TableResolver resolver(*pieces.model.table, pieces.row.data(), batcher::RowClass::kNormal);
    const QueryNames names{.model = is_raw ? pieces.which.model : std::string_view(), .version = {}};
    require(decode_body(pieces.which.encoding, pieces.request(i).body(), names, resolver, problem),
            "a body did not decode");
  }
}

[[gnu::noinline]] void stage_submit(Pieces& pieces) {
  batcher::BatchRing& ring = pieces.model.entry->ring;
  for (std::uint32_t i = 0; i < kBatchRows; ++i) {
    const batcher::Claim claim = ring.claim(static_cast<std::uint32_t>(batcher::RowClass::kNormal));
    require(claim.status == batcher::ClaimStatus::kClaimed, "the ring was full");
    std::memcpy(ring.input(claim, 0, 0), pieces.row.data(), ring.schema().inputs.tensors()[0].bytes());
    batcher::RowMeta& meta = ring.meta(claim, 0);
    meta.arrival_ns = 1;
    meta.deadline_ns = 0;
    ring.publish(claim, 0);
  }
  ring.ring_bell();
}

[[gnu::noinline]] void stage_work(Pieces& pieces) {
  require(run_worker(pieces.model.taker) == kBatchRows, "a batch has the wrong size");
}

[[gnu::noinline]] void answer(Pieces& pieces, const batcher::DoneBlock& block) {
  ModelEntry& entry = *pieces.model.entry;
  for (std::uint32_t row = 0; row < block.rows; ++row) {
    const std::byte* output = entry.ring.output(block, row, 0);
    char* const body = pieces.reply.data() + kHeadBytesMax;
    const std::size_t body_bytes = entry.encoder.encode(pieces.which.encoding, {&output, 1}, 0, body);
    const ResponseOptions options{.request_id = "4bf92f3577b34da6a3ce929d0e0e4736",
                                  .date = "Thu, 01 Jan 1970 00:00:00 GMT"};
    const std::size_t head_bytes = write_head(pieces.reply.data(), 200, "application/json", body_bytes, options);
    pieces.reply_bytes += static_cast<std::uint32_t>(head_bytes + body_bytes);
  }
  entry.ring.handled(block, block.rows);
}

[[gnu::noinline]] void stage_answer(Pieces& pieces) {
  ModelEntry& entry = *pieces.model.entry;
  std::uint32_t rows = 0;
  while (const std::optional<batcher::DoneBlock> block = entry.ring.poll_done(0)) {
    rows += block->rows;
    answer(pieces, *block);
  }
  require(rows == kBatchRows, "the batch is not done");
}

}  // namespace penstock::replay
