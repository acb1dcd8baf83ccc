// A stand-in for libcuda.so.1 that runs the CUDA lane on the host, as the C++ compiler builds it: for tests of what
// calls the driver, where there is none. It does what a driver does as far as those calls show it, at once and in
// order, and refuses what a driver would refuse. Types are declared here, so that no toolkit is needed.
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "penstock/kernels/device_work.hpp"

namespace {

using namespace penstock::device;

using Result = int;  // CUresult
constexpr Result kSuccess = 0;
constexpr Result kInvalidValue = 1;
constexpr Result kOutOfMemory = 2;
constexpr Result kInvalidImage = 200;
constexpr Result kInvalidContext = 201;
constexpr Result kInvalidHandle = 400;
constexpr Result kNotFound = 500;
constexpr Result kIllegalAddress = 700;
constexpr Result kCaptureUnsupported = 900;

constexpr unsigned kDeviceMap = 2;    // of pinned memory, allocated and registered
constexpr unsigned kNonBlocking = 1;  // of a stream
constexpr int kCaptureThreadLocal = 1;
constexpr int kCapabilityMajor = 75;
constexpr std::uint32_t kFatbin = 0xBA55ED50;
constexpr std::uintptr_t kContext = 0x10;
constexpr std::uintptr_t kModule = 0x20;
constexpr std::uint64_t kMemory = std::uint64_t{80} << 30;

using Node = std::function<void()>;
using Graph = std::vector<Node>;

struct Stream {
  std::unique_ptr<Graph> capturing;
};

std::vector<Node> null_stream;  // what waits in it until somebody waits for it: as late as a driver may run it
int capturing = 0;              // how many streams are
bool lost = false;              // by a kernel that read where nothing is: nothing works any more
std::map<std::string, int> calls;

void append(Stream* stream, Node node) {
  if (stream->capturing) {
    stream->capturing->push_back(std::move(node));
  } else {
    node();
  }
}

void run_null_stream() {
  for (const Node& node : std::exchange(null_stream, {})) node();
}

// Addresses of programs end below this.
bool exists(std::uint64_t address) { return address < std::uint64_t{1} << 47; }

template <typename Work>
void run(const Work& work, const Grid& grid) {
  if constexpr (std::is_same_v<Work, GatherWork>) {
    for (std::uint32_t row = 0; row < work.head->rows; ++row) {
      if (!exists(reinterpret_cast<std::uintptr_t>(work.rows.base) + work.rows.offsets[row])) {
        lost = true;
        return;
      }
    }
  }
  run_on_host(work, grid);
}

template <typename Work>
void launch(Stream* stream, void** parameters, const Grid& grid) {
  append(stream, [work = *static_cast<const Work*>(parameters[0]), grid] { run(work, grid); });
}

Result refused(const char* function) {
  const char* const set = std::getenv("STAND_IN_REFUSES");
  const std::string text = set != nullptr ? set : "";
  const std::size_t colon = text.find(':');
  return colon != std::string::npos && text.substr(0, colon) == function ? std::atoi(text.c_str() + colon + 1)
                                                                         : kSuccess;
}

constexpr const char* kKernels[] = {"penstock_gather", "penstock_steps", "penstock_images", "penstock_signal"};

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) Result
#define COUNTED ++calls[static_cast<const char*>(__func__)]
// STAND_IN_REFUSES=cuModuleLoadData:222 has a function refuse with a result.
#define MAY_REFUSE \
  if (const Result refusal = refused(__func__); refusal != kSuccess) return refusal

API cuInit(unsigned) { return kSuccess; }
API cuDriverGetVersion(int* version) {
  *version = 13'000;
  return kSuccess;
}
API cuDeviceGetCount(int* count) {
  *count = 2;
  return kSuccess;
}
API cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return kSuccess;
}
API cuDeviceGetName(char* name, int length, int) {
  std::strncpy(name, "stand-in", static_cast<std::size_t>(length));
  return kSuccess;
}
API cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == kCapabilityMajor ? 9 : 0;
  return kSuccess;
}
API cuDevicePrimaryCtxRetain(std::uintptr_t* context, int) {
  MAY_REFUSE;
  *context = kContext;
  return kSuccess;
}
API cuDevicePrimaryCtxRelease_v2(int) { return kSuccess; }
API cuCtxSetCurrent(std::uintptr_t context) { return context == kContext ? kSuccess : kInvalidContext; }
API cuCtxSynchronize() {
  run_null_stream();
  return lost ? kIllegalAddress : kSuccess;
}

API cuModuleLoadData(std::uintptr_t* module, const void* image) {
  MAY_REFUSE;
  std::uint32_t magic = 0;
  std::memcpy(&magic, image, sizeof magic);
  *module = kModule;
  return magic == kFatbin ? kSuccess : kInvalidImage;
}
API cuModuleUnload(std::uintptr_t) { return kSuccess; }
API cuModuleGetFunction(std::uintptr_t* function, std::uintptr_t module, const char* name) {
  if (module != kModule) return kInvalidHandle;
  for (std::size_t i = 0; i < std::size(kKernels); ++i) {
    if (std::strcmp(kKernels[i], name) != 0) continue;
    *function = i + 1;
    return kSuccess;
  }
  return kNotFound;
}

API cuMemHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  COUNTED;
  if (capturing > 0) return kCaptureUnsupported;  // in the mode that is asked for
  if (bytes == 0 || (flags & kDeviceMap) == 0) return kInvalidValue;
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::memset(*memory, 0xAB, bytes);  // it is not zero anywhere
  return kSuccess;
}
API cuMemFreeHost(void* memory) {
  std::free(memory);
  return kSuccess;
}
API cuMemHostRegister_v2(void* memory, std::size_t bytes, unsigned flags) {
  COUNTED;
  MAY_REFUSE;
  if (capturing > 0) return kCaptureUnsupported;  // in the mode that is asked for
  if (bytes == 0 || (flags & kDeviceMap) == 0) return kInvalidValue;
  for (std::size_t at = 0; at < bytes; at += 4096) static_cast<void>(static_cast<volatile char*>(memory)[at]);
  return kSuccess;
}
API cuMemHostUnregister(void*) { return kSuccess; }
API cuMemHostGetDevicePointer_v2(std::uint64_t* address, void* memory, unsigned flags) {
  *address = reinterpret_cast<std::uintptr_t>(memory);
  return flags == 0 ? kSuccess : kInvalidValue;
}
API cuMemAlloc_v2(std::uint64_t* address, std::size_t bytes) {
  COUNTED;
  if (capturing > 0) return kCaptureUnsupported;  // in the mode that is asked for
  if (bytes == 0) return kInvalidValue;
  if (bytes > kMemory) return kOutOfMemory;
  void* const memory = std::aligned_alloc(512, (bytes + 511) / 512 * 512);
  std::memset(memory, 0xCD, bytes);
  *address = reinterpret_cast<std::uintptr_t>(memory);
  return kSuccess;
}
API cuMemFree_v2(std::uint64_t address) {
  std::free(reinterpret_cast<void*>(address));
  return kSuccess;
}
API cuMemsetD8_v2(std::uint64_t address, unsigned char value, std::size_t bytes) {
  if (capturing > 0) return kCaptureUnsupported;
  null_stream.emplace_back([=] { std::memset(reinterpret_cast<void*>(address), value, bytes); });
  return kSuccess;
}
API cuMemcpyHtoD_v2(std::uint64_t to, const void* from, std::size_t bytes) {
  if (capturing > 0) return kCaptureUnsupported;
  // Pageable memory has been read when the call returns, but the device may not have it yet.
  const auto* const first = static_cast<const char*>(from);
  null_stream.emplace_back([to, staged = std::vector<char>(first, first + bytes)] {
    std::memcpy(reinterpret_cast<void*>(to), staged.data(), staged.size());
  });
  return kSuccess;
}
API cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  *free = *total = kMemory;
  return kSuccess;
}
API cuMemcpyAsync(std::uint64_t to, std::uint64_t from, std::size_t bytes, Stream* stream) {
  COUNTED;
  append(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); });
  return kSuccess;
}

API cuStreamCreate(Stream** stream, unsigned flags) {
  *stream = new Stream;
  return flags == kNonBlocking ? kSuccess : kInvalidValue;
}
API cuStreamSynchronize(Stream* stream) {
  COUNTED;
  if (stream == nullptr) {
    run_null_stream();
  } else if (stream->capturing) {
    return kCaptureUnsupported;
  }
  return lost ? kIllegalAddress : kSuccess;
}
API cuStreamQuery(Stream* stream) {
  COUNTED;
  if (stream->capturing) return kCaptureUnsupported;
  return lost ? kIllegalAddress : kSuccess;
}
API cuStreamBeginCapture_v2(Stream* stream, int mode) {
  if (stream->capturing || mode != kCaptureThreadLocal) return kInvalidValue;
  stream->capturing = std::make_unique<Graph>();
  ++capturing;
  return kSuccess;
}
API cuStreamEndCapture(Stream* stream, Graph** graph) {
  --capturing;
  *graph = stream->capturing.release();
  return *graph != nullptr ? kSuccess : kInvalidValue;
}
API cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
  *executable = new Graph(*graph);
  return kSuccess;
}
API cuGraphDestroy(Graph* graph) {
  delete graph;
  return kSuccess;
}
API cuGraphLaunch(Graph* executable, Stream* stream) {
  COUNTED;
  if (lost) return kIllegalAddress;
  for (const Node& node : *executable) append(stream, node);
  return kSuccess;
}
API cuLaunchKernel(std::uintptr_t function, unsigned blocks, unsigned y, unsigned z, unsigned threads,
                   unsigned thread_y, unsigned thread_z, unsigned shared, Stream* stream, void** parameters,
                   void** extra) {
  COUNTED;
  if (y != 1 || z != 1 || thread_y != 1 || thread_z != 1 || extra != nullptr) return kInvalidValue;
  if (blocks == 0 || threads == 0 || threads > 1024 || shared > kSharedBytesMax) return kInvalidValue;
  const Grid grid{.blocks = blocks, .threads = threads, .shared_bytes = shared};
  if (function == 1) launch<GatherWork>(stream, parameters, grid);
  if (function == 2) launch<StepsWork>(stream, parameters, grid);
  if (function == 3) launch<ImageWork>(stream, parameters, grid);
  if (function == 4) {
    append(stream, [work = *static_cast<const SignalWork*>(parameters[0])] {
      if (!lost) run_on_host(work);
    });
  }
  return kSuccess;
}

API cuGetErrorString(Result, const char** text) {
  *text = "what the stand-in says";
  return kSuccess;
}

// Older callers get newer functions, as from a driver.
API cuGetProcAddress_v2(const char* symbol, void** function, int, std::uint64_t, int* status) {
  static void* const self = [] {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&cuInit), &info);
    return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }();
  const std::string name = std::strcmp(symbol, "cuGraphInstantiate") == 0 ? "cuGraphInstantiateWithFlags" : symbol;
  *function = dlsym(self, (name + "_v2").c_str());
  if (*function == nullptr) *function = dlsym(self, name.c_str());
  if (status != nullptr) *status = *function == nullptr ? 1 : 0;
  return *function == nullptr ? kNotFound : kSuccess;
}

// How often a function was called; for tests.
extern "C" __attribute__((visibility("default"))) int stand_in_calls(const char* name) { return calls[name]; }
