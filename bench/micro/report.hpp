// How the native benchmarks measure and what they print: median and best of many samples beside the limit that the
// line is compared with.
//
// Options of every benchmark: --json, --seconds S (of each line, 0.3).
//
// No benchmark library is used. Google Benchmark is not to be had from pip with its headers, and the build needs pip
// and a compiler only; nanobench would be a copied header of 3,000 lines, for the calibration that measure() does in
// ten. Its hardware counters need rights that shared machines do not give: instructions are counted by bench/replay.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::bench {

using Clock = std::chrono::steady_clock;

[[nodiscard]] inline double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

// Makes the compiler believe that the value is read, and that memory may have changed.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

// What a line is compared with, in its unit, and where the number comes from. 0: nothing is known.
struct Limit {
  double value = 0;
  const char* source = "";
};

struct Samples {
  double median = 0;
  double best = 0;
};

// One line at a time, as text or at the end as JSON. One thread.
class Report {
 public:
  Report(std::string_view benchmark, int argc, char** argv) : benchmark_(benchmark) {
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], "--json") == 0) {
        json_ = true;
      } else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
        seconds_ = std::strtod(argv[++i], nullptr);
      } else {
        std::fprintf(stderr, "usage: %s_bench [--json] [--seconds S]\n", benchmark_.c_str());
        std::exit(2);
      }
    }
  }
  ~Report() {
    if (json_) std::printf("{\"benchmark\": \"%s\", \"lines\": [\n%s\n]}\n", benchmark_.c_str(), lines_.c_str());
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  // Nanoseconds of one call of `run`.
  template <class Run>
  Samples measure(const std::string& what, const Limit& limit, const Run& run) {
    const int calls = calls_for(run);
    return sample(what, limit, [&] {
      const Clock::time_point start = Clock::now();
      for (int i = 0; i < calls; ++i) run();
      return ns_since(start) / calls;
    });
  }

  // `take` gives one sample in nanoseconds.
  template <class Take>
  Samples sample(const std::string& what, const Limit& limit, const Take& take) {
    const Samples samples = collect(take);
    print(what, samples, "ns", limit);
    return samples;
  }

  // As measure(), in gigabytes per second of `bytes` per call: of what is read and of what is written.
  template <class Run>
  Samples measure_rate(const std::string& what, std::size_t bytes, const Limit& limit, const Run& run) {
    const int calls = calls_for(run);
    const Samples ns = collect([&] {
      const Clock::time_point start = Clock::now();
      for (int i = 0; i < calls; ++i) run();
      return ns_since(start) / calls;
    });
    const auto amount = static_cast<double>(bytes);
    const Samples rate{.median = amount / ns.median, .best = amount / ns.best};
    print(what, rate, "GB/s", limit);
    return rate;
  }

 private:
  static constexpr double kSampleNs = 20'000;  // a thousand times what a look at the clock costs
  static constexpr std::size_t kSamplesMin = 15;

  template <class Run>
  static int calls_for(const Run& run) {
    for (int calls = 1;; calls *= 2) {
      const Clock::time_point start = Clock::now();
      for (int i = 0; i < calls; ++i) run();
      if (ns_since(start) >= kSampleNs) return calls;
    }
  }

  template <class Take>
  Samples collect(const Take& take) const {
    std::vector<double> samples;
    const Clock::time_point start = Clock::now();
    while (samples.size() < kSamplesMin || ns_since(start) < seconds_ * 1e9) samples.push_back(take());
    std::ranges::sort(samples);
    return {.median = samples[samples.size() / 2], .best = samples.front()};
  }

  void print(const std::string& what, const Samples& samples, const char* unit, const Limit& limit) {
    char line[512];
    if (json_) {
      std::snprintf(line, sizeof line,
                    R"(  {"what": "%s", "median": %.2f, "best": %.2f, "unit": "%s", "limit": %.2f, "source": "%s"})",
                    what.c_str(), samples.median, samples.best, unit, limit.value, limit.source);
      lines_.append(lines_.empty() ? "" : ",\n").append(line);
      return;
    }
    std::printf("%-44s median %8.1f  best %8.1f %-4s", what.c_str(), samples.median, samples.best, unit);
    if (limit.value > 0) std::printf("  %5.2f of %.1f (%s)", samples.median / limit.value, limit.value, limit.source);
    std::printf("\n");
    std::fflush(stdout);
  }

  std::string benchmark_;
  std::string lines_;
  double seconds_ = 0.3;
  bool json_ = false;
};

}  // namespace penstock::bench
