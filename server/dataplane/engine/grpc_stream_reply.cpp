// Answers of a stream: each is a message, in the order of the requests; and how the stream ends.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "codec/codec_utf8.hpp"
#include "engine/grpc_path.hpp"
#include "engine/grpc_stream.hpp"
#include "http/problem_reader.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kVarintBytesMax = 10;

// Fields of ModelStreamInferResponse and of the ModelInferResponse in it.
constexpr char kErrorMessage = 1 << 3 | 2;
constexpr char kInferResponse = 2 << 3 | 2;
constexpr char kId = 3 << 3 | 2;

// parameters {"triton_final_response": true}: no further answer to this request comes. Clients that are made for models
// with many answers wait for it.
constexpr std::string_view kFinal("\x22\x1b\x0a\x15triton_final_response\x12\x02\x08\x01", 29);

char* write_varint(std::uint64_t value, char* out) noexcept {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<char>(value | 0x80);
  *out++ = static_cast<char>(value);
  return out;
}

char* write_text(char field, std::string_view text, char* out) noexcept {
  *out++ = field;
  out = write_varint(text.size(), out);
  return std::copy(text.begin(), text.end(), out);
}

}  // namespace

// The answer is in the pending's block, as HTTP/1.1 has it.
void GrpcStream::on_reply(Pending& pending) {
  const std::string_view text(pending.reply.data() + pending.reply_begin, pending.reply_end - pending.reply_begin);
  const std::size_t head_bytes = text.find("\r\n\r\n") + 4;  // it is ours: it has one
  const std::string_view status = text.substr(9, 3);
  if (status != "200") {
    unsigned number = 0;
    std::from_chars(status.data(), status.data() + status.size(), number);
    char detail[Problem::kDetailBytes];
    const ReadProblem problem = read_problem(text.substr(head_bytes), detail);
    pending.reply_begin = pending.reply_end = 0;
    end_with(problem.code == ProblemCode::kNone ? grpc_status_of(number) : grpc_status_of(problem.code), problem.detail,
             number == 503 || number == 429 ? 1 : 0);
    if (pending.id == requests_.first) announce();  // it may have been going to end before, and waited for this
    return;
  }
  pending.reply_begin += head_bytes;
  const std::size_t body_bytes = pending.reply_end - pending.reply_begin;
  Slot& slot = slot_of(pending);
  char* at = slot.lead.data() + kGrpcPrefixBytes;
  std::size_t message_bytes = body_bytes;
  if (kind_ == Kind::kInfer) {
    *at++ = kInferResponse;
    at = write_varint(body_bytes + kFinal.size(), at);
    slot.tail_left = kFinal.size();
    message_bytes += static_cast<std::size_t>(at - slot.lead.data()) - kGrpcPrefixBytes + kFinal.size();
  }
  write_grpc_prefix(slot.lead.data(), static_cast<std::uint32_t>(message_bytes));
  slot.lead_end = static_cast<std::uint8_t>(at - slot.lead.data());
  if (pending.id == requests_.first) announce();
}

void GrpcStream::on_refusal(Pending& pending, const Problem& problem) {
  pending.state = Pending::State::kReady;
  pending.reply.reset();
  pending.reply_begin = pending.reply_end = 0;
  // A key that was taken back during the call opens nothing any more.
  if (kind_ != Kind::kInfer || info_of(problem.code()).status == 401 || info_of(problem.code()).status == 403) {
    end_with(problem);
  } else {
    write_error(pending, problem.detail());
  }
  if (pending.id == requests_.first) announce();
}

void GrpcStream::write_error(Pending& pending, std::string_view detail) {
  const Slot& slot = slot_of(pending);
  std::string memory;
  const std::string_view text = utf8_of(detail, memory);
  pending.reply = loop_.engine.pool.acquire_owed(2 * kGrpcPrefixBytes + 4 * kVarintBytesMax + text.size() +
                                                 slot.id.size() + kFinal.size());
  char* at =
      write_text(kErrorMessage, text.empty() ? "the request failed" : text, pending.reply.data() + kGrpcPrefixBytes);
  char response[kInferIdBytesMax + kVarintBytesMax + kFinal.size()];
  char* end = slot.id.empty() ? response : write_text(kId, slot.id, response);
  end = std::copy(kFinal.begin(), kFinal.end(), end);
  at = write_text(kInferResponse, {response, static_cast<std::size_t>(end - response)}, at);
  pending.reply_end = static_cast<std::size_t>(at - pending.reply.data());
  write_grpc_prefix(pending.reply.data(), static_cast<std::uint32_t>(pending.reply_end - kGrpcPrefixBytes));
}

std::size_t GrpcStream::move(char*& out, std::size_t& room, const char* from, std::size_t bytes) noexcept {
  const std::size_t count = std::min(bytes, room);
  if (count > 0) std::memcpy(out, from, count);
  out += count;
  room -= count;
  return count;
}

// True: all of it.
bool GrpcStream::read_answer(Pending& pending, char*& out, std::size_t& room) {
  Slot& slot = slot_of(pending);
  slot.lead_begin =
      static_cast<std::uint8_t>(slot.lead_begin + move(out, room, slot.lead.data() + slot.lead_begin,
                                                       static_cast<std::size_t>(slot.lead_end - slot.lead_begin)));
  pending.reply_begin +=
      move(out, room, pending.reply.data() + pending.reply_begin, pending.reply_end - pending.reply_begin);
  if (pending.reply_begin != pending.reply_end) return false;
  slot.tail_left = static_cast<std::uint8_t>(
      slot.tail_left - move(out, room, kFinal.data() + kFinal.size() - slot.tail_left, slot.tail_left));
  return slot.lead_begin == slot.lead_end && slot.tail_left == 0;
}

std::size_t GrpcStream::read(char* out, std::size_t room) {
  const std::size_t all = room;
  if (status_left_ > 0) {
    status_left_ = static_cast<std::uint8_t>(
        status_left_ - move(out, room, status_.data() + status_.size() - status_left_, status_left_));
    if (status_left_ == 0) look();
  }
  while (requests_.has_pending() && room > 0) {
    Pending& pending = requests_.slot(requests_.first);
    if (pending.state != Pending::State::kReady || !read_answer(pending, out, room)) break;
    pending.reply.reset();
    pending.state = Pending::State::kFree;
    requests_.owed_bytes -= pending.owed_bytes;
    ++requests_.first;
    feed_held();
  }
  return all - room;
}

bool GrpcStream::has_more() const noexcept {
  return status_left_ > 0 ||
         (requests_.has_pending() && requests_.slot(requests_.first).state == Pending::State::kReady);
}

// Whether the client has a part of an answer and not all of it.
bool GrpcStream::is_torn() noexcept {
  if (status_left_ > 0 && status_left_ < status_.size()) return true;
  if (!requests_.has_pending()) return false;
  const Pending& pending = requests_.slot(requests_.first);
  if (pending.state != Pending::State::kReady) return false;
  const Slot& slot = slot_of(pending);
  return slot.lead_end > 0 ? slot.lead_begin > 0 : pending.reply_begin > 0;
}

// --- the end ---------------------------------------------------------------------------------------------------------

const MessageStream::Ending* GrpcStream::ending() {
  return ending_set_ && !requests_.has_pending() && status_left_ == 0 ? &ending_ : nullptr;
}

void GrpcStream::end_with(const Problem& problem) {
  const ProblemInfo& info = info_of(problem.code());
  const bool comes_back = info.status == 503 || info.status == 429;
  end_with(grpc_status_of(problem.code()), problem.detail(), comes_back ? std::max(problem.retry_after_s(), 1U) : 0);
}

// The first reason counts. What is under way is answered before.
void GrpcStream::end_with(GrpcStatus status, std::string_view text, std::uint32_t retry_after_s) {
  if (ending_set_) return;
  ending_set_ = true;
  ending_text_ = text;
  ending_ = {.status = status, .retry_after_s = retry_after_s, .text = ending_text_};
  read_deadline_ns_ = 0;
  prefix_bytes_ = message_bytes_ = message_end_ = 0;
  message_.reset();
  if (const std::size_t unused = held_.end - held_.begin; unused > 0) carrier_->http2->messages_taken(*call_, unused);
  held_ = {};
  announce();
}

// The client has said all, and all of it has been answered.
void GrpcStream::end_if_over() {
  if (!client_ended_ || ending_set_ || held_.block) return;
  Problem problem;
  if (prefix_bytes_ > 0) {
    problem.set(ProblemCode::kMalformedBody, "the stream ended within a message");
  } else if (kind_ == Kind::kWatch) {
    if (watching_) return;
    problem.set(ProblemCode::kMalformedBody, "expected one gRPC message, got none");
  } else if (requests_.has_pending()) {
    return;
  }
  if (problem) {
    end_with(problem);
  } else {
    end_with(GrpcStatus::kOk, {}, 0);
  }
}

void GrpcStream::drain() {
  if (kind_ == Kind::kWatch) look();
  Problem problem;
  problem.set(ProblemCode::kDraining, "the server is shutting down");
  end_with(problem);
}

// There is something to read, or it has ended.
void GrpcStream::announce() { carrier_->http2->messages_ready(*call_); }

// --- health ----------------------------------------------------------------------------------------------------------

void GrpcStream::watch(std::string_view message) {
  Problem problem;
  std::string_view name;
  if (watching_) {
    problem.set(ProblemCode::kMalformedBody, "expected one gRPC message, got more");
  } else if (read_grpc_name(message, name, problem)) {
    watching_ = true;
    watched_ = name;
    look();
  }
  if (problem) end_with(problem);
}

void GrpcStream::look() {
  if (!watching_ || ending_set_ || status_left_ > 0) return;  // it is looked at again when that is out
  const std::uint8_t now = path_.serving(watched_);
  if (now == told_) return;
  told_ = now;
  write_grpc_prefix(status_.data(), 2);
  status_[kGrpcPrefixBytes] = 1 << 3;
  status_[kGrpcPrefixBytes + 1] = static_cast<char>(now);
  status_left_ = static_cast<std::uint8_t>(status_.size());
  announce();
}

}  // namespace penstock::dataplane
