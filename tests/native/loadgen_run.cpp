// Whole runs against a server that keeps to the protocol, however oddly: open and closed loops, several threads.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "check.hpp"
#include "loadgen_fixture.hpp"

namespace {

using namespace penstock::loadgen;
using namespace penstock::loadgen::test;

void answer_each(const Peer& peer, std::size_t request_bytes) {
  while (peer.read(request_bytes) && peer.write(kReply)) {
  }
}

void answer_small(const Peer& peer) { answer_each(peer, kSmallBytes); }

void check_open_loop() {
  Server server(answer_small);
  Load load(server.endpoint(), 2000, kMillisecond / 10);
  load.plan.connections = 16;
  load.plan.threads = 3;
  load.plan.spin_ns = kMillisecond / 20;
  Generator generator(load.plan);
  std::vector<Record> records = run(generator);
  CHECK(count(records, 200, Failure::kNone) == 2000);
  std::ranges::sort(records, {}, &Record::due_ns);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    CHECK(record.due_ns == load.due_ns[i]);
    CHECK(record.due_ns <= record.noticed_ns && record.noticed_ns <= record.sent_ns && record.sent_ns < record.done_ns);
  }
  const Totals totals = generator.totals();
  CHECK(totals.sent == 2000 && totals.answered == 2000 && totals.failed == 0 && totals.reconnects == 0);
  for (const auto& sender : generator.senders()) {
    CHECK(sender->answers().answers().size() == 1 && sender->answers().unkept() == 0);
    CHECK(sender->cpu_ns() > 0);
  }
}

void check_pipelined_closed_loop() {
  Server server(answer_small);
  Load load(server.endpoint());
  load.plan.connections = 5;
  load.plan.depth = 100;  // more than one call writes
  load.plan.threads = 2;
  load.plan.duration_ns = 200 * kMillisecond;
  const std::vector<Record> records = run(load);
  CHECK(records.size() > 100 && count(records, 200, Failure::kNone) == records.size());
  for (const Record& record : records) CHECK(record.due_ns == record.noticed_ns && record.due_ns == record.sent_ns);
}

// Bytes come one by one, or two replies in one piece: each request has its own answer.
void check_odd_pieces() {
  Server server([](const Peer& peer) {
    while (peer.read(2 * kSmallBytes)) {
      for (const char& byte : kReply) peer.write({&byte, 1});
      peer.write(kReply);
    }
  });
  Load load(server.endpoint(), 200, kMillisecond / 2);
  load.plan.depth = 2;
  CHECK(count(run(load), 200, Failure::kNone) == 200);
}

// A request that the socket's buffers do not hold goes in parts, as the server takes it.
void check_large_requests() {
  constexpr std::size_t kBodyBytes = 12 << 20;
  Server server([](const Peer& peer) { answer_each(peer, request_of(kBodyBytes).size()); });
  Load load(server.endpoint(), 6, kMillisecond, kBodyBytes);
  load.plan.depth = 3;
  CHECK(count(run(load), 200, Failure::kNone) == 6);
}

void check_stop_in_the_middle() {
  Server server(answer_small);
  Load load(server.endpoint(), 1000, 1000 * kMillisecond);
  load.plan.threads = 2;
  load.plan.connections = 2;
  Generator generator(load.plan);
  generator.start(0);
  CHECK(!generator.is_done());
  while (generator.totals().answered == 0) std::this_thread::yield();
  generator.stop();
  generator.join();
  CHECK(generator.is_done());
  Generator unjoined(load.plan);  // its destructor ends the run
  unjoined.start(0);
}

// Puts something else in the place of this process's epoll instances: what waits on one finds out.
std::size_t spoil_epolls() {
  std::size_t spoilt = 0;
  const int other = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  for (int fd = 3; fd < 64; ++fd) {
    std::array<char, 64> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t bytes = ::readlink(link.c_str(), target.data(), target.size());
    if (bytes <= 0 || std::string_view(target.data(), static_cast<std::size_t>(bytes)) != "anon_inode:[eventpoll]") {
      continue;
    }
    spoilt += ::dup2(other, fd) == fd ? 1 : 0;
  }
  ::close(other);
  return spoilt;
}

// A thread that cannot go on ends the run and says why; the process lives.
void check_failing_thread() {
  Server server(answer_small);
  Load load(server.endpoint());
  load.plan.threads = 2;
  load.plan.connections = 2;
  load.plan.duration_ns = 60'000 * kMillisecond;
  Generator generator(load.plan);
  generator.start(0);
  while (generator.totals().answered == 0) std::this_thread::yield();
  CHECK(spoil_epolls() == 2);
  generator.join();
  CHECK(generator.is_done());
  bool is_told = false;
  try {
    generator.rethrow();
  } catch (const std::system_error& error) {
    is_told = std::string_view(error.what()).starts_with("epoll_pwait2");
  }
  CHECK(is_told);
}

template <typename Error, typename Call>
void check_refused(const Call& call, std::string_view says) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(std::string_view(error.what()).find(says) != std::string_view::npos);
    return;
  }
  CHECK(false);
}

void check_senseless_plans() {
  Server server([](const Peer&) {});
  Load early(server.endpoint(), 2, kMillisecond);
  early.due_ns[0] = -1;
  check_refused<std::invalid_argument>([&] { Generator{early.plan}; }, "before the start");
  Load impatient(server.endpoint(), 2, kMillisecond);
  impatient.plan.timeout_ns = 0;
  check_refused<std::invalid_argument>([&] { Generator{impatient.plan}; }, "timeout");
  Load once(server.endpoint(), 1, kMillisecond);
  Generator generator(once.plan);
  run(generator);
  check_refused<std::logic_error>([&] { generator.start(0); }, "once");
}

}  // namespace

int main() {
  check_open_loop();
  check_pipelined_closed_loop();
  check_odd_pieces();
  check_large_requests();
  check_stop_in_the_middle();
  check_failing_thread();
  check_senseless_plans();
  return 0;
}
