// Requests that come compressed, replies that leave so, and what replies carry for web pages.
#include <algorithm>
#include <cstring>

#include "engine/http_session.hpp"

namespace penstock::dataplane {
namespace {

std::unique_ptr<Job> job_for(const Connection& connection, Pending& pending, JobInbox* inbox, BodyPool& pool) {
  auto job = std::make_unique<Job>();
  job->inbox = inbox;
  job->pool = &pool;
  job->connection = connection.index;
  job->generation = connection.generation;
  job->request = pending.id;
  pending.state = Pending::State::kJob;
  return job;
}

}  // namespace

void HttpSession::note_manners(Connection& connection, Pending& pending, const RequestHead& head) {
  pending.cors = loop_.engine.cors.find(head.origin);
  connection.cors = nullptr;
  if (!loop_.engine.options.compress) return;
  const CodingChoice choice = negotiate_coding(head);
  pending.coding = choice.coding;
  pending.identity_refused = choice.identity_refused;
  // An answer to a POST is no cache's to keep.
  pending.varies = head.method == Method::kGet || head.method == Method::kHead;
}

bool HttpSession::takes_coding(const RequestHead& head, Problem& problem) {
  if (parse_content_encoding(head.content_encoding) != Coding::kUnknown) return true;
  problem.set(ProblemCode::kUnsupportedContentEncoding,
              "Content-Encoding '%.*s' is not taken here; Accept-Encoding of this reply says what is",
              static_cast<int>(std::min<std::size_t>(head.content_encoding.size(), 80)), head.content_encoding.data());
  return false;
}

// Whoever asks must be allowed to before any work is done for it.
void HttpSession::dispatch_compressed(Connection& connection, Pending& pending, const Request& request,
                                      std::string_view head) {
  Problem problem;
  const Coding coding = parse_content_encoding(request.head.content_encoding);
  const std::string_view body = request.body;
  if (coding == Coding::kIdentity || body.empty()) {
    handler_.handle(connection, pending, request);
    return;
  }
  std::uint64_t body_bytes_max = 0;
  if (!takes_coding(request.head, problem) || !handler_.admits(connection, request.head, body_bytes_max, problem)) {
    refuse(connection, pending, problem);
    return;
  }
  if (body.size() <= kConnectionBytes && announced_bytes(coding, body) <= kInflatedInlineBytesMax) {
    Inflated inflated;
    const std::uint64_t inline_max = std::min<std::uint64_t>(body_bytes_max, kInflatedInlineBytesMax);
    if (inflate_request(tools().decompressor, coding, head, body, inline_max, loop_.engine.pool, inflated, problem)) {
      handle_inflated(connection, pending, inflated, head.size());
      return;
    }
    if (problem.code() != ProblemCode::kBodyTooLarge || inline_max == body_bytes_max) {
      refuse(connection, pending, problem);
      return;
    }
  }
  submit_inflate(connection, pending, request, head, body_bytes_max);
}

void HttpSession::submit_inflate(Connection& connection, Pending& pending, const Request& request,
                                 std::string_view head, std::uint64_t body_bytes_max) {
  Block block = std::move(request.block);
  if (!block || block.data() != head.data()) {  // the job needs both in one piece
    Block whole = loop_.engine.pool.try_acquire(head.size() + request.body.size());
    if (!whole) {
      Problem problem;
      problem.set(ProblemCode::kMemoryExhausted, "no memory is left to decompress the body");
      refuse(connection, pending, problem);
      return;
    }
    std::memcpy(whole.data(), head.data(), head.size());
    std::memcpy(whole.data() + head.size(), request.body.data(), request.body.size());
    block = std::move(whole);
  }
  auto job = job_for(connection, pending, inbox_, loop_.engine.pool);
  job->kind = Job::Kind::kInflate;
  job->coding = parse_content_encoding(request.head.content_encoding);
  job->bytes_max = body_bytes_max;
  job->block = std::move(block);
  job->head_bytes = head.size();
  job->body = std::string_view(job->block.data() + head.size(), request.body.size());
  jobs_->submit(std::move(job));
}

void HttpSession::handle_inflated(Connection& connection, Pending& pending, Inflated& inflated,
                                  std::size_t head_bytes) {
  const std::string_view bytes(inflated.block.data(), inflated.bytes);
  RequestHead head;
  Problem problem;
  std::size_t scanned = 0;
  const HeadLimits limits{.head_bytes_max = head_bytes};
  // It parsed before: now its views point into the block.
  if (parse_head(bytes.substr(0, head_bytes), scanned, limits, head, problem) != ParseStatus::kComplete) {
    problem.set(ProblemCode::kInternalError, "the request's head was lost");
    refuse(connection, pending, problem);
    return;
  }
  head.content_encoding = {};
  head.content_length = bytes.size() - head_bytes;
  head.has_content_length = true;
  head.chunked = false;
  handler_.handle(connection, pending, Request{head, bytes.substr(head_bytes), inflated.block});
}

// Whether the reply has been given to a job, or (with `bytes` and `begin` changed) is compressed where it lies.
bool HttpSession::hand_to_compressor(Connection& connection, Pending& pending, std::size_t& bytes, std::size_t begin) {
  const Coding coding = std::exchange(pending.coding, Coding::kIdentity);
  if (pending.head_only) return false;
  const std::size_t bytes_min = pending.identity_refused ? 0 : loop_.engine.options.compress_min_bytes;
  if (bytes <= bytes_min) return false;
  if (bytes > kConnectionBytes) {  // so it lies in a block
    auto job = job_for(connection, pending, inbox_, loop_.engine.pool);
    job->kind = Job::Kind::kCompress;
    job->coding = coding;
    job->bytes_max = bytes_min;
    job->reply = std::move(pending.reply);
    job->reply_offset = begin;
    job->reply_bytes = bytes;
    if (pending.tap != nullptr) Tap::note_model(pending, *pending.tap);
    pending.entry = nullptr;
    jobs_->submit(std::move(job));
    return true;
  }
  char* const reply = (pending.reply ? pending.reply.data() : connection.out.data + connection.out.end) + begin;
  if (!coding_scratch_) coding_scratch_ = std::make_unique_for_overwrite<char[]>(kConnectionBytes);
  const std::size_t compressed =
      compress_reply(tools().compressor, coding, {reply, bytes}, bytes_min, coding_scratch_.get());
  if (compressed == 0) return false;
  std::memcpy(reply, coding_scratch_.get(), compressed);
  bytes = compressed;
  return false;
}

void HttpSession::on_job(Job& job) {
  Connection* const connection = loop_.find(job.connection, job.generation);
  if (connection == nullptr) return;
  Pending& pending = connection->slot(job.request);
  if (pending.id != job.request || pending.state != Pending::State::kJob) return;  // its deadline has passed
  if (job.kind == Job::Kind::kCompress) {
    pending.reply = std::move(job.reply);
    end_reply(*connection, pending, job.reply_bytes, job.reply_offset);
    return;
  }
  pending.state = Pending::State::kOpen;
  if (job.problem) {
    refuse(*connection, pending, job.problem);
    return;
  }
  Inflated inflated{std::move(job.reply), job.reply_bytes};
  handle_inflated(*connection, pending, inflated, job.head_bytes);
}

CodingTools& HttpSession::tools() {
  if (!tools_) tools_ = std::make_unique<CodingTools>();
  return *tools_;
}

}  // namespace penstock::dataplane
