// The whole way of a request through the server's own I/O code: HttpSession and PredictPath on local sockets, driven by
// one thread in the order of a loop's pass. What the pieces leave out is in here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/http_session.hpp"
#include "engine/job_pool.hpp"
#include "engine/loop_context.hpp"
#include "engine/predict_path.hpp"
#include "pieces.hpp"

namespace penstock::replay {

// Large bodies, which go to other threads, are none of the replayed ones.
class NoInbox final : public dataplane::JobInbox {
 public:
  void post(std::unique_ptr<dataplane::Job> job) override;
};

class Path final : private dataplane::RequestHandler {
 public:
  explicit Path(const Case& which);
  ~Path();
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;

  // One batch: every client sends a request, and has its answer afterwards.
  void send_requests(std::size_t first);
  void receive_replies();

  void read_requests();
  void run_batch();
  void write_replies();

 private:
  void handle(dataplane::Connection& connection, dataplane::Pending& pending,
              const dataplane::Request& request) override;
  bool admits(const dataplane::Connection& connection, const dataplane::RequestHead& head,
              std::uint64_t& body_bytes_max, dataplane::Problem& problem) override;
  void abandon(dataplane::Connection& connection, dataplane::Pending& pending) override;

  std::vector<WireRequest> requests_;
  Model model_;
  dataplane::EngineState engine_;
  dataplane::LoopContext loop_;
  dataplane::HttpSession session_;
  dataplane::JobPool jobs_;
  NoInbox inbox_;
  dataplane::PredictPath predict_;
  std::vector<int> clients_;
};

// Stages, as in pieces.hpp: called once a batch.
void stage_path_in(Path& path);   // from readable sockets to published rows and the bell
void stage_path_out(Path& path);  // from a completed batch to replies written to the sockets

}  // namespace penstock::replay
