// Servers that close, reset, refuse or overload: what was answered counts as answered, and nothing else does.
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "loadgen_fixture.hpp"

namespace {

using namespace penstock::loadgen;
using namespace penstock::loadgen::test;

std::int64_t since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
}

// The last bytes and the end of the stream arrive at once: one event, so the end must be read with them.
void check_end_that_comes_with_the_reply() {
  for (const std::string_view reply : {"HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}) {
    Server server([&](const Peer& peer) {
      if (peer.read(kSmallBytes)) peer.write(reply, MSG_MORE);
    });
    Load load(server.endpoint(), 5, 40 * kMillisecond);
    CHECK(count(run(load), 200, Failure::kNone) == 5);
  }
}

void check_reset_is_no_end() {
  Server server([&](const Peer& peer) {
    if (!peer.read(kSmallBytes)) return;
    peer.write("HTTP/1.1 200 OK\r\n\r\nhalf an ans");
    peer.reset();
  });
  Load load(server.endpoint(), 3, 30 * kMillisecond);
  CHECK(count(run(load), 0, Failure::kClosed) == 3);
}

// An early refusal: the rest of the request can no longer be sent, and the answer is there all the same.
void check_answer_before_the_request_is_read() {
  Server server([](const Peer& peer) {
    if (peer.read(100)) peer.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  });
  Load load(server.endpoint(), 20, 5 * kMillisecond, 16 << 20);
  CHECK(count(run(load), 413, Failure::kNone) == 20);
}

// Pipelined behind a reply that says "close": those have no answer.
void check_close_fails_what_is_behind() {
  Server server([&](const Peer& peer) {
    if (peer.read(3 * kSmallBytes)) {
      peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      peer.write(kReply);
    }
  });
  Load load(server.endpoint(), 3, 0);
  load.plan.depth = 3;
  const std::vector<Record> records = run(load);
  CHECK(count(records, 200, Failure::kNone) == 1 && count(records, 0, Failure::kClosed) == 2);
}

void check_two_replies_to_one_request() {
  Server server([&](const Peer& peer) {
    if (!peer.read(kSmallBytes)) return;
    peer.write(std::string(kReply) + std::string(kReply));
    peer.read(1);
  });
  Load load(server.endpoint(), 4, 20 * kMillisecond);
  Generator generator(load.plan);
  CHECK(count(run(generator), 200, Failure::kNone) == 4);
  CHECK(generator.totals().reconnects == 4);
}

// A server without keep-alive is asked again as soon as it has closed, and not when something else comes up.
void check_reconnects_at_once() {
  Server server([&](const Peer& peer) {
    if (peer.read(kSmallBytes)) peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  });
  Load load(server.endpoint());
  load.plan.duration_ns = 500 * kMillisecond;
  CHECK(count(run(load), 200, Failure::kNone) > 10);
}

// Far too much for one connection: what cannot be sent within the timeout after the last arrival is left.
void check_overload_ends() {
  Server server([&](const Peer& peer) {
    while (peer.read(kSmallBytes)) {
      const auto begin = std::chrono::steady_clock::now();
      while (since(begin) < 100 * kMillisecond) std::this_thread::yield();
      peer.write(kReply);
    }
  });
  Load load(server.endpoint(), 1000, kMillisecond / 10);
  load.plan.timeout_ns = 300 * kMillisecond;
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<Record> records = run(load);
  CHECK(since(begin) < 50'000 * kMillisecond);  // all of it would take 100 s
  CHECK(count(records, 200, Failure::kNone) + count(records, 0, Failure::kUnsent) == 1000);
}

void check_server_that_goes_away() {
  std::atomic<Server*> self = nullptr;
  Server server([&](const Peer& peer) {
    if (!peer.read(kSmallBytes)) return;
    // In this order, however slow this thread is: whoever reads the reply finds nobody listening.
    self.load()->stop_listening();
    peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  });
  self = &server;
  Load load(server.endpoint(), 3, 30 * kMillisecond);
  load.plan.timeout_ns = 2'000 * kMillisecond;
  const std::vector<Record> records = run(load);
  CHECK(count(records, 200, Failure::kNone) == 1 && count(records, 0, Failure::kUnconnected) == 2);
}

void check_nobody_there() {
  Server server([](const Peer&) {});
  Load load(server.endpoint(), 3, kMillisecond);
  server.stop_listening();
  load.plan.connections = load.plan.threads = 4;
  load.plan.connect_ns = 2'000 * kMillisecond;
  const auto begin = std::chrono::steady_clock::now();
  try {
    run(load);
    CHECK(false);
  } catch (const std::runtime_error& error) {
    const std::string_view text = error.what();
    CHECK(text.find("only 0 of 4 connections") != std::string_view::npos);
    CHECK(text.find("refused") != std::string_view::npos);
  }
  CHECK(since(begin) < 7'000 * kMillisecond);  // for all threads together
}

// A name that leads to two addresses, of which one is served, leads there.
void check_second_address() {
  Server gone([](const Peer&) {});
  Server server([](const Peer& peer) {
    while (peer.read(kSmallBytes) && peer.write(kReply)) {
    }
  });
  Load load(server.endpoint(), 10, kMillisecond);
  gone.stop_listening();
  load.plan.endpoints = {gone.endpoint(), server.endpoint()};
  load.plan.connections = 8;
  CHECK(count(run(load), 200, Failure::kNone) == 10);
}

}  // namespace

int main() {
  check_end_that_comes_with_the_reply();
  check_reset_is_no_end();
  check_answer_before_the_request_is_read();
  check_close_fails_what_is_behind();
  check_two_replies_to_one_request();
  check_reconnects_at_once();
  check_overload_ends();
  check_server_that_goes_away();
  check_nobody_there();
  check_second_address();
  return 0;
}
