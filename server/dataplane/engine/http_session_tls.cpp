// Connections with TLS: what the session does about them beside reading and writing.
#include <sys/epoll.h>

#include <algorithm>

#include "engine/http_session.hpp"

namespace penstock::dataplane {

void HttpSession::begin_tls(Connection& connection) {
  connection.tls = loop_.tls->accept(connection.fd);
  if (!connection.tls) {
    close(connection);
    return;
  }
  // Nothing is sent before the client has begun, so no event is missed.
  expect_by(connection, connection.handshake_deadline_ns,
            loop_.now_ns + loop_.engine.options.head_timeout_ms * kMillisecondNs);
}

void HttpSession::end_tls(Connection& connection) {
  connection.tls->end();
  connection.tls.reset();
  std::erase(unread_, &connection);
}

// Until the handshake is done nothing can be told, and nothing else can be late.
void HttpSession::on_handshake_timer(Connection& connection) {
  if (connection.handshake_deadline_ns <= loop_.now_ns) {
    loop_.stats.connections_timed_out.add();
    close(connection);
    return;
  }
  loop_.timers.arm(connection.timer, connection.handshake_deadline_ns);
}

void HttpSession::note_unread(Connection& connection) {
  if (connection.tls->wants_write() && connection.writable) {
    connection.writable = false;  // so that it is told when it can be written
    update_interest(connection);
  }
  if ((connection.interest & EPOLLIN) == 0 || !connection.tls->has_more()) return;
  if (std::ranges::find(unread_, &connection) == unread_.end()) unread_.push_back(&connection);
}

void HttpSession::resume_unread() {
  if (unread_.empty()) return;
  std::vector<Connection*> connections;
  connections.swap(unread_);
  for (std::size_t i = 0; i < connections.size(); ++i) {
    if (connections[i]->fd >= 0 && connections[i]->tls) read(*connections[i]);
  }
}

}  // namespace penstock::dataplane
