// One call of gRPC whose messages come and go one by one. Each message is a request of a connection without a socket,
// so that rows, jobs and calls of the control plane find it as they find any other; its answer is a message again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/body_pool.hpp"
#include "engine/connection.hpp"
#include "engine/http_session.hpp"
#include "engine/loop_context.hpp"
#include "engine/message_stream.hpp"

namespace penstock::dataplane {

class GrpcPath;

class GrpcStream final : public MessageStream {
 public:
  // kInfer: requests for predictions, as many under way as of a connection of HTTP/1.1, answered in their order.
  // kRelay: one message at a time, by the control plane. kWatch: one message, and an answer whenever it is another.
  enum class Kind : std::uint8_t { kInfer, kRelay, kWatch };

  GrpcStream(LoopContext& loop, HttpSession& session, RequestHandler& handler, GrpcPath& path);
  GrpcStream(const GrpcStream&) = delete;
  GrpcStream& operator=(const GrpcStream&) = delete;

  // Serves `call`, a request of `carrier`, until close(). What the head's views refer to stays as long.
  void open(Kind kind, Connection& carrier, Pending& call, const RequestHead& head);
  // kWatch: there may be something new.
  void look();

  void take(std::string_view bytes) override;
  void end() override;
  std::size_t read(char* out, std::size_t room) override;
  bool has_more() const noexcept override;
  const Ending* ending() override;
  void drain() override;
  void close() override;

  // --- its requests (see Http2Port)

  void on_reply(Pending& pending);
  void on_refusal(Pending& pending, const Problem& problem);
  [[nodiscard]] std::uint64_t check_deadlines();

 private:
  // Around the answer to a request, which lies in its Pending.
  struct Slot {
    std::array<char, kGrpcPrefixBytes + 8> lead{};
    std::uint8_t lead_begin = 0;
    std::uint8_t lead_end = 0;
    std::uint8_t tail_left = 0;
    std::string id;  // that the client gave the request
  };
  struct Held {  // bytes that wait until a message is answered
    Block block;
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  [[nodiscard]] Slot& slot_of(const Pending& pending) noexcept { return slots_[pending.id & requests_.place_mask]; }
  [[nodiscard]] std::uint64_t message_bytes_max() const;
  [[nodiscard]] bool may_take() const noexcept;

  [[nodiscard]] std::size_t feed(std::string_view bytes);
  [[nodiscard]] bool begin_message();
  void hold(std::string_view bytes);
  void feed_held();
  void dispatch();
  void submit(std::string_view message, Block& block);
  void watch(std::string_view message);

  void write_error(Pending& pending, std::string_view detail);
  [[nodiscard]] static std::size_t move(char*& out, std::size_t& room, const char* from, std::size_t bytes) noexcept;
  [[nodiscard]] bool read_answer(Pending& pending, char*& out, std::size_t& room);
  void end_with(const Problem& problem);
  void end_with(GrpcStatus status, std::string_view text, std::uint32_t retry_after_s);
  void end_if_over();
  [[nodiscard]] bool is_torn() noexcept;
  void abandon_requests();
  void announce();

  LoopContext& loop_;
  HttpSession& session_;
  RequestHandler& handler_;
  GrpcPath& path_;
  Connection& requests_;           // without a socket: each is a message
  Connection* carrier_ = nullptr;  // null: serves no call
  Pending* call_ = nullptr;
  Kind kind_ = Kind::kInfer;
  RequestHead head_;
  std::uint64_t deadline_ns_ = 0;  // of the call; 0: it may last

  // --- the message that is being read
  std::array<char, kGrpcPrefixBytes> prefix_{};
  std::size_t prefix_bytes_ = 0;
  Block message_;
  std::size_t message_bytes_ = 0;
  std::size_t message_end_ = 0;
  std::uint64_t read_deadline_ns_ = 0;  // 0: none is being read
  Held held_;
  bool client_ended_ = false;

  // --- answers
  std::array<Slot, kPipelineMax> slots_;
  bool watching_ = false;
  std::string watched_;
  std::uint8_t told_ = 0;
  std::array<char, kGrpcPrefixBytes + 2> status_{};
  std::uint8_t status_left_ = 0;
  bool ending_set_ = false;
  Ending ending_;
  std::string ending_text_;
};

}  // namespace penstock::dataplane
