// Hands requests that are not on the fast path to the control plane over its private Unix socket, and relays the
// answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/control_stream.hpp"
#include "engine/http_session.hpp"
#include "engine/loop_context.hpp"

namespace penstock::dataplane {

// One request on its way through the control plane: a connection of its own, closed after the answer.
struct ControlCall : Watch {
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
  std::string outgoing;  // the head, and a body that came without a block
  Block block;           // any other body: it counts until it was sent
  std::string_view body;
  std::size_t sent = 0;
  std::string incoming;
  std::unique_ptr<ControlStream> stream;  // of a request whose answer may come in pieces
};

// Streamed requests under way at a time, in the loop: they take long, and administration must have places, too.
inline constexpr std::size_t kControlStreamsMax = 16;
// Under way at a time: a change may wait until a model is loaded, and others must not wait behind it.
inline constexpr std::size_t kControlCallsMax = 64;

class ControlProxy {
 public:
  ControlProxy(LoopContext& loop, HttpSession& session) : loop_(loop), session_(session) {}
  ~ControlProxy();
  ControlProxy(const ControlProxy&) = delete;
  ControlProxy& operator=(const ControlProxy&) = delete;

  // `principal`: who asks, which the control plane is told.
  void start(Connection& connection, Pending& pending, const Request& request, const Principal& principal);
  // Nobody waits for the answer any more: its place goes to the next.
  void abandon(Connection& connection, Pending& pending);
  void on_event(ControlCall& call, std::uint32_t events);
  // At the end of a pass: frees what was finished in it (an event of the pass may have named it), starts what waited.
  void recycle_closed();

 private:
  [[nodiscard]] bool connect(ControlCall& call);
  void send(ControlCall& call);
  void receive(ControlCall& call);
  // As far as its length is said.
  [[nodiscard]] static bool has_whole_answer(const ControlCall& call) noexcept;
  void finish(ControlCall& call, bool closed_cleanly);
  void relay(ControlCall& call, Connection& connection, Pending& pending, unsigned status);
  void fail(ControlCall& call, const char* what);
  void close(ControlCall& call);
  void start_waiting();
  friend class ControlStream;
  [[nodiscard]] Pending* find_pending(const ControlCall& call, Connection*& connection) noexcept;

  LoopContext& loop_;
  HttpSession& session_;
  std::vector<std::unique_ptr<ControlCall>> calls_;
  std::vector<ControlCall*> waiting_;
  std::size_t active_ = 0;
  std::size_t streams_ = 0;
};

}  // namespace penstock::dataplane
