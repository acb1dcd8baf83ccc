// libFuzzer target: a connection of HTTP/2 and whoever answers it, without threads, in an order that the input says.
// Frames are well formed as far as their lengths go, and anything else about them is the input's. What must hold: every
// request ends exactly once, and when the connection is gone nothing of it is left. Seeds:
// tests/native/corpus/engine_http2.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "check.hpp"
#include "engine/body_stream.hpp"
#include "engine/http_session.hpp"
#include "http2_fixture.hpp"

namespace {

using namespace penstock::dataplane;
using penstock::test::frame;
using penstock::test::head;
using penstock::test::number;

constexpr std::string_view kStreamedHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n";

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  [[nodiscard]] bool empty() const noexcept { return bytes_ == 0; }
  std::uint8_t byte() {
    if (bytes_ == 0) return 0;
    --bytes_;
    return *data_++;
  }
  std::string text(std::size_t bytes) {
    bytes = std::min(bytes, bytes_);
    std::string out(reinterpret_cast<const char*>(data_), bytes);
    data_ += bytes;
    bytes_ -= bytes;
    return out;
  }

 private:
  const std::uint8_t* data_;
  std::size_t bytes_;
};

// A request that is not answered yet; of one that is streamed, what goes both ways.
struct Asked final : BodyStream {
  std::uint32_t place = 0;
  std::uint32_t generation = 0;
  std::uint32_t id = 0;
  bool streamed = false;
  bool begun = false;
  bool takes = false;
  bool body_ended = false;
  std::size_t ready = 0;  // bytes of the answer
  Progress after = Progress::kNothing;

  std::size_t room() const noexcept override { return takes ? 1000 : 0; }
  void take(std::string_view) override { CHECK(!body_ended); }
  void end() override {
    CHECK(!body_ended);
    body_ended = true;
  }
  bool pull() override { return false; }
  Piece read(char* out, std::size_t room) override {
    CHECK(begun);
    if (ready == 0) return {0, after};
    const std::size_t bytes = std::min(room, ready);
    std::fill_n(out, bytes, 'x');
    ready -= bytes;
    return {bytes, Progress::kMore};
  }
};

class Handler final : public RequestHandler {
 public:
  void use(LoopContext& loop, HttpSession& session) {
    loop_ = &loop;
    session_ = &session;
  }
  void handle(Connection& connection, Pending& pending, const Request& request) override {
    if (request.head.path == "/now") {
      session_->reply(connection, pending, 200, "text/plain", "now");
      return;
    }
    auto asked = std::make_unique<Asked>();
    asked->place = connection.index;
    asked->generation = connection.generation;
    asked->id = pending.id;
    asked->streamed = request.streamed;
    if (request.streamed) session_->attach(connection, pending, *asked);
    pending.state = Pending::State::kControl;
    asked_.push_back(std::move(asked));
  }
  bool admits(const Connection&, const RequestHead& head, std::uint64_t& body_bytes_max, Problem& problem) override {
    body_bytes_max = 300'000;
    if (head.path != "/never") return true;
    problem.set(ProblemCode::kUnauthorized, "nobody is");
    return false;
  }
  void abandon(Connection& connection, Pending& pending) override {
    const auto found = std::ranges::find_if(asked_, [&](const auto& each) {
      return each->place == connection.index && each->generation == connection.generation && each->id == pending.id;
    });
    if (found == asked_.end()) return;
    if ((*found)->streamed) session_->stop_body(connection, pending);
    session_->detach(connection, pending, **found);
    asked_.erase(found);
  }

  // One of those that wait goes on, in a way that the input chooses.
  void proceed(std::uint8_t which, std::uint8_t how) {
    if (asked_.empty()) return;
    Asked& asked = *asked_[which % asked_.size()];
    Connection* const connection = loop_->find(asked.place, asked.generation);
    CHECK(connection != nullptr);
    Pending& pending = connection->slot(asked.id);
    CHECK(pending.id == asked.id);
    if (asked.streamed && how % 4 != 0) {
      stream(*connection, pending, asked, how);
      return;
    }
    if (asked.begun) return;
    const std::size_t bytes = how % 3 == 0 ? 200'000 : how;
    abandon(*connection, pending);  // the answer is there: nobody makes it any more
    session_->reply(*connection, pending, 200, "text/plain", std::string(bytes, 'y'));
  }
  [[nodiscard]] bool has_asked() const noexcept { return !asked_.empty(); }

 private:
  void stream(Connection& connection, Pending& pending, Asked& asked, std::uint8_t how) {
    if (!asked.begun) {
      asked.begun = true;
      CHECK(session_->begin_streamed_reply(connection, pending, kStreamedHead));
    }
    asked.takes = (how & 4) != 0;
    asked.ready += how * std::size_t{100};
    if ((how & 8) != 0) asked.after = (how & 16) != 0 ? BodyStream::Progress::kEnded : BodyStream::Progress::kBroken;
    if (asked.takes && !asked.body_ended) session_->resume_body(connection, pending);
    session_->resume_answer(connection, pending);
  }

  LoopContext* loop_ = nullptr;
  HttpSession* session_ = nullptr;
  std::vector<std::unique_ptr<Asked>> asked_;
};

EngineOptions options() {
  EngineOptions options;
  options.body_pool_bytes = 500'000;
  return options;
}

class Run {
 public:
  Run() : engine_(options()), loop_(engine_, 0), session_(loop_, handler_) {
    handler_.use(loop_, session_);
    loop_.epoll = ::epoll_create1(EPOLL_CLOEXEC);
    int fds[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    client_ = fds[0];
    session_.open(fds[1], false);
    say(std::string(kHttp2Preface) + frame(NGHTTP2_SETTINGS, 0, 0, ""));
  }
  ~Run() {
    listen();
    ::close(client_);
    if (is_open()) session_.on_event(connection(), EPOLLHUP);
    pass();
    CHECK(!is_open() && !handler_.has_asked());
    CHECK(engine_.pool.bytes_used() == 0 && !session_.has_memory_waiters());
    ::close(loop_.epoll);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void step(Input& in) {
    const std::uint8_t what = in.byte();
    switch (what % 8) {
      case 0:
      case 1: {
        const std::uint8_t type = in.byte() % 12;
        const std::uint8_t flags = in.byte();
        const std::uint32_t stream = stream_of(in.byte());
        say(frame(type, flags, stream, in.text(in.byte() % 64)));
        break;
      }
      case 2:
      case 3:
        request(in);
        break;
      case 4: {
        const std::uint32_t stream = stream_of(in.byte());
        const std::uint8_t flags = in.byte() & 1;
        say(frame(NGHTTP2_DATA, flags, stream, std::string(in.byte() * std::size_t{64}, 'z')));
        break;
      }
      case 5:
        handler_.proceed(in.byte(), in.byte());
        break;
      case 6:
        loop_.now_ns += in.byte() * std::uint64_t{200} * kMillisecondNs;
        loop_.timers.advance(loop_.now_ns,
                             [this](Timer& timer) { session_.on_timer(*static_cast<Connection*>(timer.owner)); });
        break;
      default:
        listens_ = (what & 8) != 0;
        say(frame(NGHTTP2_WINDOW_UPDATE, 0, stream_of(in.byte()), number(in.byte() * 1000u)));
        if ((what & 16) != 0) say(in.text(in.byte()));
    }
    pass();
  }
  [[nodiscard]] bool is_open() const { return loop_.connections[0]->fd >= 0; }

 private:
  [[nodiscard]] Connection& connection() const { return *loop_.connections[0]; }
  [[nodiscard]] static std::uint32_t stream_of(std::uint8_t byte) noexcept {
    return byte == 255 ? 0 : 2u * (byte % 160) + 1;
  }
  void request(Input& in) {
    constexpr std::string_view kPaths[] = {"/now", "/later", "/never", "/predict/batch", "*", "no path"};
    constexpr std::string_view kMethods[] = {"GET", "POST", "HEAD", "CONNECT"};
    const std::uint8_t how = in.byte();
    const std::string_view path = kPaths[how % std::size(kPaths)];
    penstock::test::Fields fields;
    if (path == "/predict/batch") fields.emplace_back("content-type", "text/csv");
    if ((how & 32) != 0) fields.emplace_back("content-length", std::to_string(in.byte() * 500));
    if ((how & 64) != 0) fields.emplace_back(in.text(in.byte() % 16), in.text(in.byte() % 32));
    if ((how & 128) != 0) fields.emplace_back("content-type", "application/grpc");
    const std::uint8_t flags = NGHTTP2_FLAG_END_HEADERS | (in.byte() & NGHTTP2_FLAG_END_STREAM);
    say(frame(NGHTTP2_HEADERS, flags, next_, head(kMethods[in.byte() % 4], path, fields)));
    next_ += 2;
  }
  void say(std::string_view bytes) const {
    // What does not fit is lost, as if the client had broken off.
    if (::send(client_, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
  }
  void listen() const {
    char bytes[65536];
    while (::recv(client_, bytes, sizeof bytes, 0) > 0) {
    }
  }
  void pass() {
    for (int round = 0; round < 8 && is_open(); ++round) {
      session_.on_event(connection(), EPOLLIN | EPOLLOUT);
      session_.flush_dirty();
      session_.resume_memory_waiters();
      session_.flush_dirty();
      if (listens_) listen();
    }
    session_.recycle_closed();
  }

  EngineState engine_;
  LoopContext loop_;
  Handler handler_;
  HttpSession session_;
  int client_ = -1;
  std::uint32_t next_ = 1;
  bool listens_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Run run;
  for (Input in(data, size); !in.empty() && run.is_open();) run.step(in);
  return 0;
}
