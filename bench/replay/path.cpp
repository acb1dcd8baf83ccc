#include "path.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string_view>

#include "fail.hpp"

namespace penstock::replay {

using namespace dataplane;

void NoInbox::post(std::unique_ptr<Job>) { require(false, "a request went to another thread"); }

Path::Path(const Case& which)
    : requests_(make_requests(which)),
      model_(which),
      engine_(EngineOptions{}),
      loop_(engine_, 0),
      session_(loop_, *this),
      predict_(loop_, session_, jobs_, inbox_) {
  loop_.table = model_.table;
  predict_.adopt_table();
  for (std::uint32_t i = 0; i < kBatchRows; ++i) {
    int ends[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0, "no socket pair");
    session_.open(ends[0], false);
    clients_.push_back(ends[1]);
  }
}

Path::~Path() {
  for (const int fd : clients_) ::close(fd);
  for (const auto& connection : loop_.connections) ::close(connection->fd);
}

void Path::send_requests(std::size_t first) {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    const std::string& bytes = requests_[(first + i) % kRequests].bytes;
    require(::send(clients_[i], bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
            "a request was not sent");
  }
}

void Path::receive_replies() {
  for (const int fd : clients_) {
    char reply[4096];
    const ssize_t bytes = ::recv(fd, reply, sizeof reply, 0);
    require(bytes > 0 && std::string_view(reply, static_cast<std::size_t>(bytes)).starts_with("HTTP/1.1 200 "),
            "a reply is not a 200");
  }
}

void Path::read_requests() {
  for (const auto& connection : loop_.connections) session_.on_event(*connection, EPOLLIN);
  predict_.ring_bells();
}

void Path::run_batch() { require(run_worker(model_.taker) == kBatchRows, "a batch has the wrong size"); }

void Path::write_replies() {
  predict_.collect();
  session_.flush_dirty();
}

void Path::handle(Connection& connection, Pending& pending, const Request& request) {
  predict_.start(connection, pending, request);
}

bool Path::admits(const Connection&, const RequestHead&, std::uint64_t& body_bytes_max, Problem&) {
  body_bytes_max = loop_.table->body_bytes_max({});
  return true;
}

void Path::abandon(Connection&, Pending& pending) { predict_.abandon(pending); }

[[gnu::noinline]] void stage_path_in(Path& path) { path.read_requests(); }

[[gnu::noinline]] void stage_path_out(Path& path) { path.write_replies(); }

}  // namespace penstock::replay
