// Hands requests that are not on the fast path to the control plane over its private Unix socket, and relays the
// answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "http_session.hpp"
#include "loop_context.hpp"

namespace penstock::dataplane {

// One request on its way through the control plane: a connection of its own, closed after the answer.
struct ControlCall : Watch {
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
  bool waiting = false;  // for one of the few places
  std::string outgoing;
  std::size_t sent = 0;
  std::string incoming;
};

class ControlProxy {
 public:
  ControlProxy(LoopContext& loop, HttpSession& session) : loop_(loop), session_(session) {}

  void start(Connection& connection, Pending& pending, const Request& request);
  void on_event(ControlCall& call, std::uint32_t events);
  // Closes what was finished in this pass: an event of the same pass may still name it.
  void recycle_closed();

 private:
  [[nodiscard]] bool connect(ControlCall& call);
  void send(ControlCall& call);
  void receive(ControlCall& call);
  void finish(ControlCall& call);
  void fail(ControlCall& call, const char* what);
  void close(ControlCall& call);
  void start_waiting();
  [[nodiscard]] Pending* find_pending(const ControlCall& call, Connection*& connection) noexcept;

  LoopContext& loop_;
  HttpSession& session_;
  std::vector<std::unique_ptr<ControlCall>> calls_;
  std::vector<ControlCall*> waiting_;
  std::size_t active_ = 0;
};

}  // namespace penstock::dataplane
