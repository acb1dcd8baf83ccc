// Replays fixed requests through the pieces of the data plane, on one thread and without chance.
//
//   replay                        nanoseconds a request, by case and stage, as JSON: medians of several runs
//   replay --case NAME --batches N  that many batches of one case and nothing else: for callgrind, which counts the
//                                   instructions of every stage_* function (bench/gate/instructions.py)
//   replay --cases                the names of the cases, one a line
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "clock.hpp"
#include "fail.hpp"
#include "path.hpp"
#include "pieces.hpp"
#include "requests.hpp"

namespace {

using namespace penstock::replay;

constexpr int kRuns = 25;
constexpr int kBatchesOfRun = 100;

// Nanoseconds of each stage. System calls of our clock stay outside of what they time, but for one return.
class Times {
 public:
  template <class Stage>
  void time(const char* name, Stage&& stage) {
    const std::uint64_t start_ns = kernel_ns();
    stage();
    spent_ns_[name] += kernel_ns() - start_ns;
  }
  [[nodiscard]] const std::map<std::string_view, std::uint64_t>& spent_ns() const { return spent_ns_; }

 private:
  std::map<std::string_view, std::uint64_t> spent_ns_;
};

class Replay {
 public:
  explicit Replay(const Case& which) : pieces_(which), path_(which) {}

  void run(int batches, Times& times) {
    for (int i = 0; i < batches; ++i) run_batch(times);
  }

 private:
  void run_batch(Times& times) {
    times.time("head", [this] { stage_head(pieces_); });
    times.time("decode", [this] { stage_decode(pieces_); });
    times.time("submit", [this] { stage_submit(pieces_); });
    times.time("work", [this] { stage_work(pieces_); });
    times.time("answer", [this] { stage_answer(pieces_); });
    path_.send_requests(pieces_.first);
    times.time("path_in", [this] { stage_path_in(path_); });
    path_.run_batch();
    times.time("path_out", [this] { stage_path_out(path_); });
    path_.receive_replies();
    pieces_.first = (pieces_.first + kBatchRows) % kRequests;
  }

  Pieces pieces_;
  Path path_;
};

// What two looks at the clock cost: taken off every stage.
double clock_cost_ns() {
  std::vector<std::uint64_t> samples;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t start_ns = kernel_ns();
    samples.push_back(kernel_ns() - start_ns);
  }
  std::ranges::sort(samples);
  return static_cast<double>(samples[samples.size() / 2]);
}

void print_times(const Case& which, double clock_ns) {
  Replay replay(which);
  Times warm_up;
  replay.run(kBatchesOfRun, warm_up);
  std::map<std::string_view, std::vector<double>> samples;
  for (int run = 0; run < kRuns; ++run) {
    Times times;
    replay.run(kBatchesOfRun, times);
    for (const auto& [stage, spent_ns] : times.spent_ns())
      samples[stage].push_back((static_cast<double>(spent_ns) / kBatchesOfRun - clock_ns) / kBatchRows);
  }
  std::printf("  \"%s\": {", which.name.data());
  const char* separator = "";
  for (auto& [stage, values] : samples) {
    std::ranges::sort(values);
    std::printf("%s\"%s\": %.1f", separator, stage.data(), values[values.size() / 2]);
    separator = ", ";
  }
  std::printf("}%s\n", &which == std::end(kCases) - 1 ? "" : ",");
}

int print_all_times() {
  const double clock_ns = clock_cost_ns();
  std::printf("{\n");
  for (const Case& which : kCases) print_times(which, clock_ns);
  std::printf("}\n");
  return 0;
}

int replay_case(std::string_view name, std::string_view count) {
  int batches = 0;
  std::from_chars(count.data(), count.data() + count.size(), batches);
  const auto* const which = std::ranges::find(kCases, name, &Case::name);
  if (which == std::end(kCases) || batches <= 0) {
    std::fprintf(stderr, "replay: no such case, or not a number of batches\n");
    return 2;
  }
  Replay replay(*which);
  Times times;
  replay.run(batches, times);
  std::printf("%d\n", batches * static_cast<int>(kBatchRows));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  if (arguments.empty()) return print_all_times();
  if (arguments.size() == 1 && arguments[0] == "--cases") {
    for (const Case& which : kCases) std::printf("%s\n", which.name.data());
    return 0;
  }
  if (arguments.size() == 4 && arguments[0] == "--case" && arguments[2] == "--batches")
    return replay_case(arguments[1], arguments[3]);
  std::fprintf(stderr, "usage: replay [--cases | --case NAME --batches N]\n");
  return 2;
}
