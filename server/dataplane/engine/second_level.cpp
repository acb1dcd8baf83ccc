#include "engine/second_level.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "engine/loop_context.hpp"

namespace penstock::dataplane {
namespace {

// Frames: bytes of what follows (u32), kind (u8), id (u64), more by kind. penstock/cache/frames.py reads and writes
// the same.
enum class Kind : std::uint8_t {
  kGet = 1,   // there: bytes of the value (u32), name. Back: the value
  kSet = 2,   // there: milliseconds to live (u64), bytes of the name (u16), name, value. Back: how many are kept (u64)
  kPing = 3,  // both ways
  kNone = 4,  // back: there is nothing of that name
  kFailed = 5,  // back: the store did not answer
  kLost = 6,    // back: so many writes (u64) did not get there
};
constexpr std::size_t kFrameHead = sizeof(std::uint32_t);
constexpr std::size_t kFrameFixed = sizeof(std::uint8_t) + sizeof(std::uint64_t);
constexpr std::size_t kFrameBytesMax = 1 << 20;
constexpr std::size_t kOutBytesMax = 4 << 20;  // that the process has not taken; then it is written no more to it
constexpr std::size_t kReceiveBytes = 64 * 1024;
constexpr std::uint64_t kToldBytes = 256;                 // what a row costs that waits, beside its tensors
constexpr std::uint64_t kProbeNs = 100 * kMillisecondNs;  // between one probe and the next
constexpr std::uint64_t kNsPerMs = 1'000'000;

std::uint64_t unix_now_ms() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / kNsPerMs;
}

template <class Number>
void append(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

template <class Number>
Number number_at(std::string_view bytes) noexcept {
  Number number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

void append_head(std::string& out, Kind kind, std::uint64_t id, std::size_t more) {
  append(out, static_cast<std::uint32_t>(kFrameFixed + more));
  append(out, kind);
  append(out, id);
}

}  // namespace

SecondLevel::SecondLevel(const SecondLevelOptions& options)
    : timeout_ns_(options.timeout_ms * kMillisecondNs), wake_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (wake_fd_ < 0) throw std::system_error(errno, std::generic_category(), "second level");
}

SecondLevel::~SecondLevel() {
  stop();
  drop_socket();
  if (new_fd_ >= 0) ::close(new_fd_);
  ::close(wake_fd_);
}

void SecondLevel::start() {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "penstock-cache");
}

void SecondLevel::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  wake();
  if (thread_.joinable()) thread_.join();
}

void SecondLevel::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);  // full means: awake already
}

// --- from other threads ----------------------------------------------------------------------------------------------

void SecondLevel::attach(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  {
    const std::lock_guard lock(mutex_);
    if (new_fd_ >= 0) ::close(new_fd_);
    new_fd_ = fd;
  }
  has_queued_.store(true, std::memory_order_release);  // pairs with the exchange in take_queued()
  wake();
}

bool SecondLevel::reserve() noexcept {
  if (is_up_.load(std::memory_order_relaxed)) {
    if (under_way_.fetch_add(1, std::memory_order_relaxed) < kLookupsMax) return true;
    under_way_.fetch_sub(1, std::memory_order_relaxed);
  }
  skipped_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void SecondLevel::look_up(std::shared_ptr<CachedRow> row, std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    asked_.push_back({std::move(row), std::move(job)});
  }
  if (!has_queued_.exchange(true, std::memory_order_acq_rel)) wake();
}

void SecondLevel::keep(std::shared_ptr<const CachedRow> row) {
  bool has_room = is_up_.load(std::memory_order_relaxed);
  if (has_room) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t bytes = kToldBytes + row->input_bytes() + row->output_bytes();
    has_room = told_bytes_ + bytes <= kWritesBytesMax;
    if (has_room) {
      told_bytes_ += bytes;
      told_.push_back(std::move(row));
    }
  }
  if (!has_room) {
    writes_dropped_.fetch_add(1, std::memory_order_relaxed);
  } else if (!has_queued_.exchange(true, std::memory_order_acq_rel)) {
    wake();
  }
}

SecondLevel::Counts SecondLevel::counts() const noexcept {
  return {.hits = hits_.get(),
          .misses = misses_.get(),
          .timeouts = timeouts_.get(),
          .failures = failures_.get(),
          .invalid = invalid_.get(),
          .skipped = skipped_.load(std::memory_order_relaxed),
          .writes = writes_.get(),
          .writes_lost = writes_failed_.get() + writes_dropped_.load(std::memory_order_relaxed),
          .is_up = is_up_.load(std::memory_order_relaxed)};
}

// --- the thread ------------------------------------------------------------------------------------------------------

void SecondLevel::run() {
  while (!stopping_.load(std::memory_order_relaxed)) {
    std::array<pollfd, 2> fds{
        {{.fd = wake_fd_, .events = POLLIN, .revents = 0}, {.fd = fd_, .events = POLLIN, .revents = 0}}};
    if (sent_ != out_.size()) fds[1].events |= POLLOUT;
    ::poll(fds.data(), fds.size(), wait_ms());
    std::uint64_t woken = 0;
    if (fds[0].revents != 0) {
      [[maybe_unused]] const ssize_t read = ::read(wake_fd_, &woken, sizeof woken);
    }
    take_queued();
    if (fd_ >= 0) receive_some();
    if (!lookups_.empty() && lookups_.front().deadline_ns <= monotonic_ns()) {
      timeouts_.add();
      is_up_.store(false, std::memory_order_relaxed);  // before anybody hears of it, and asks for the next row
      finish(lookups_.front(), false, 0);
      trip();
    }
    probe();
    if (fd_ >= 0) send_some();
  }
  is_up_.store(false, std::memory_order_relaxed);
  release_all();
  drop_socket();
}

int SecondLevel::wait_ms() const noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  const auto until = [now_ns](std::uint64_t ns) {
    return ns <= now_ns ? 0 : static_cast<int>((ns - now_ns + kNsPerMs - 1) / kNsPerMs);
  };
  if (!lookups_.empty()) return until(lookups_.front().deadline_ns);
  if (fd_ >= 0 && !is_up_.load(std::memory_order_relaxed) && probe_id_ == 0) return until(next_probe_ns_);
  return -1;
}

void SecondLevel::take_queued() {
  if (!has_queued_.exchange(false, std::memory_order_acq_rel)) return;
  std::vector<Asked> asked;
  std::vector<std::shared_ptr<const CachedRow>> told;
  int new_fd = -1;
  {
    const std::lock_guard lock(mutex_);
    asked.swap(asked_);
    told.swap(told_);
    told_bytes_ = 0;
    new_fd = std::exchange(new_fd_, -1);
  }
  if (new_fd >= 0) adopt_socket(new_fd);
  for (Asked& each : asked) ask(each);
  for (const std::shared_ptr<const CachedRow>& row : told) write(*row);
}

void SecondLevel::ask(Asked& asked) {
  Lookup lookup{.deadline_ns = monotonic_ns() + timeout_ns_,
                .name = {},
                .row = std::move(asked.row),
                .job = std::move(asked.job)};
  if (!is_up_.load(std::memory_order_relaxed)) {
    failures_.add();
    finish(lookup, false, 0);
    return;
  }
  lookup.name = stored_name(*lookup.row);
  append_head(out_, Kind::kGet, first_id_ + lookups_.size(), sizeof(std::uint32_t) + lookup.name.size());
  append(out_, static_cast<std::uint32_t>(stored_bytes(*lookup.row)));
  out_ += lookup.name;
  lookups_.push_back(std::move(lookup));
}

void SecondLevel::write(const CachedRow& row) {
  if (!is_up_.load(std::memory_order_relaxed) || out_.size() - sent_ > kOutBytesMax) {
    writes_failed_.add();
    return;
  }
  const std::string name = stored_name(row);
  const std::string value = stored_value(name, row, unix_now_ms());
  append_head(out_, Kind::kSet, 0, sizeof(std::uint64_t) + sizeof(std::uint16_t) + name.size() + value.size());
  append(out_, row.account().ttl_ns / kNsPerMs);
  append(out_, static_cast<std::uint16_t>(name.size()));
  out_.append(name).append(value);
}

void SecondLevel::adopt_socket(int fd) {
  trip();
  drop_socket();
  fd_ = fd;
  next_probe_ns_ = 0;
}

void SecondLevel::drop_socket() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  probe_id_ = 0;
  out_.clear();
  in_.clear();
  sent_ = 0;
}

void SecondLevel::send_some() {
  while (sent_ != out_.size()) {
    const ssize_t sent = ::send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) break;  // it is full; or it has ended, which receiving tells
    sent_ += static_cast<std::size_t>(sent);
  }
  if (sent_ != out_.size() && sent_ < kOutBytesMax) return;
  out_.erase(0, sent_);
  sent_ = 0;
}

void SecondLevel::receive_some() {
  for (;;) {
    char bytes[kReceiveBytes];
    const ssize_t received = ::recv(fd_, bytes, sizeof bytes, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && errno == EAGAIN) break;
    if (received <= 0) {
      trip();
      drop_socket();
      return;
    }
    in_.append(bytes, static_cast<std::size_t>(received));
  }
  std::string_view left = in_;
  while (left.size() >= kFrameHead) {
    const auto bytes = number_at<std::uint32_t>(left);
    if (bytes < kFrameFixed || bytes > kFrameBytesMax ||
        (left.size() >= kFrameHead + bytes && !take_reply(left.substr(kFrameHead, bytes)))) {
      trip();
      drop_socket();
      return;
    }
    if (left.size() < kFrameHead + bytes) break;
    left.remove_prefix(kFrameHead + bytes);
  }
  in_.erase(0, in_.size() - left.size());
}

// False: that is no reply of this protocol.
bool SecondLevel::take_reply(std::string_view frame) {
  const auto kind = static_cast<Kind>(number_at<std::uint8_t>(frame));
  const auto id = number_at<std::uint64_t>(frame.substr(1));
  const std::string_view more = frame.substr(kFrameFixed);
  switch (kind) {
    case Kind::kGet:
    case Kind::kNone:
      answer_lookup(id, more, kind == Kind::kGet);
      return true;
    case Kind::kPing:
      if (id != probe_id_) return true;
      probe_id_ = 0;
      if (monotonic_ns() - probed_ns_ <= timeout_ns_) is_up_.store(true, std::memory_order_relaxed);
      return true;
    case Kind::kFailed:
      if (id == probe_id_) probe_id_ = 0;
      trip();
      return true;
    case Kind::kSet:
    case Kind::kLost:
      if (more.size() != sizeof(std::uint64_t)) return false;
      (kind == Kind::kSet ? writes_ : writes_failed_).add(number_at<std::uint64_t>(more));
      return true;
  }
  return false;
}

void SecondLevel::answer_lookup(std::uint64_t id, std::string_view value, bool is_there) {
  if (id < first_id_ || id - first_id_ >= lookups_.size()) return;  // it was late
  Lookup& lookup = lookups_[id - first_id_];
  if (lookup.job == nullptr) return;
  std::uint64_t made_ms = 0;
  bool found = is_there && read_stored(lookup.name, value, *lookup.row, made_ms);
  if (is_there && !found) invalid_.add();
  std::uint64_t age_ns = 0;
  if (found) {
    // The other server's clock may be ahead. Its answers may live longer there than here.
    const std::uint64_t now_ms = unix_now_ms();
    const std::uint64_t age_ms = now_ms > made_ms ? now_ms - made_ms : 0;
    found = age_ms < lookup.row->account().ttl_ns / kNsPerMs && age_ms * kNsPerMs < monotonic_ns();
    age_ns = age_ms * kNsPerMs;
  }
  (found ? hits_ : misses_).add();
  finish(lookup, found, age_ns);
  for (; !lookups_.empty() && lookups_.front().job == nullptr; ++first_id_) lookups_.pop_front();
}

void SecondLevel::finish(Lookup& lookup, bool found, std::uint64_t age_ns) {
  lookup.row.reset();
  lookup.job->found = found;
  lookup.job->age_ns = age_ns;
  JobInbox& inbox = *lookup.job->inbox;
  inbox.post(std::move(lookup.job));
  under_way_.fetch_sub(1, std::memory_order_relaxed);
}

void SecondLevel::release_all() noexcept {
  for (Lookup& lookup : lookups_) {
    if (lookup.job == nullptr) continue;
    failures_.add();
    finish(lookup, false, 0);
  }
  first_id_ += lookups_.size();
  lookups_.clear();
}

// It was late, or failed, or is gone: nobody waits for it until it has answered a probe.
void SecondLevel::trip() noexcept {
  is_up_.store(false, std::memory_order_relaxed);
  release_all();
  next_probe_ns_ = monotonic_ns() + kProbeNs;
}

void SecondLevel::probe() {
  if (fd_ < 0 || probe_id_ != 0 || is_up_.load(std::memory_order_relaxed)) return;
  const std::uint64_t now_ns = monotonic_ns();
  if (now_ns < next_probe_ns_) return;
  probe_id_ = first_id_++;  // no lookup is under way: there is none while it is down
  probed_ns_ = now_ns;
  next_probe_ns_ = now_ns + kProbeNs;
  append_head(out_, Kind::kPing, probe_id_, 0);
}

}  // namespace penstock::dataplane
