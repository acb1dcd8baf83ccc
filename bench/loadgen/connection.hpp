// One keep-alive connection: a socket, what is still to be written, and the requests whose replies are awaited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>

#include "plan.hpp"
#include "record.hpp"
#include "reply_reader.hpp"

namespace penstock::loadgen {

class Connection {
 public:
  enum class State : std::uint8_t { kClosed, kConnecting, kOpen };
  enum class ReadResult : std::uint8_t { kReply, kNothing, kClosed, kReset, kNotHttp };

  Connection() = default;
  ~Connection() { close(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Starts to connect; 0, or the error number of why that failed at once.
  [[nodiscard]] int open(const Endpoint& to);
  // The socket can be written: 0 when the connection stands, or the error number of why it does not.
  [[nodiscard]] int finish_connecting() noexcept;
  void close() noexcept;

  // Puts a request behind those that are not written yet...
  void add(std::string_view request, std::size_t record);
  // ... and writes what fits of them, in one call. False when the connection is broken.
  [[nodiscard]] bool flush() noexcept;
  // Takes what has arrived into `buffer`, once per call of the event loop...
  [[nodiscard]] ReadResult receive(char* buffer, std::size_t bytes, std::string_view& received) noexcept;
  // ... and replies off it, until nothing whole is left.
  [[nodiscard]] ReadResult next_reply(std::string_view& received, Reply& reply);
  [[nodiscard]] ReadResult last_reply(Reply& reply);

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] State state() const noexcept { return state_; }
  // Indices of the records whose replies are awaited, in the order of sending.
  [[nodiscard]] std::deque<std::size_t>& awaited() noexcept { return awaited_; }
  [[nodiscard]] const std::deque<std::size_t>& awaited() const noexcept { return awaited_; }

  bool is_queued = false;     // stands in the queue of connections that can take a request
  bool has_answered = false;  // since it was opened
  std::size_t endpoint = 0;   // the one it was opened to

 private:
  int fd_ = -1;
  State state_ = State::kClosed;
  std::deque<std::string_view> unsent_;
  std::deque<std::size_t> awaited_;
  ReplyReader reader_;
};

}  // namespace penstock::loadgen
