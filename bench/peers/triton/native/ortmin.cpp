// A Triton backend that runs a model with ONNX Runtime on one thread, and nothing else: NVIDIA's is in no wheel.
//
// A model's version folder holds model.onnx and the text file `tensors`, a line a tensor in the model's order:
// "input" or "output", name, Triton's name of the type, dimensions of one row.

#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "abi.hpp"
#include "tensor.hpp"

namespace {

using ortmin::check;
using ortmin::ort;
using ortmin::Owned;
using ortmin::Tensor;

constexpr int kInternalError = 1;
constexpr int kCpuMemory = 0;
constexpr std::uint32_t kReleaseAll = 1;
constexpr std::uint32_t kFinal = 1;
constexpr int kOrtWarning = 2;
constexpr int kOrtArena = 1;
constexpr int kOrtDefaultMemory = 0;

// For calls after which there is nobody left to tell.
void ignore(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// A request's place in the batch.
struct Part {
  TRITONBACKEND_Request* request;
  std::size_t first;
  std::size_t rows;
};

// One model on one thread: Triton calls an instance from a thread of its own, a batch at a time.
class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* handle, const std::string& folder) : handle_(handle) {
    std::ifstream tensors(folder + "/tensors");
    for (std::string text; std::getline(tensors, text);) {
      std::istringstream line(text);
      std::string kind;
      line >> kind;
      (kind == "input" ? inputs_ : outputs_).push_back(ortmin::read_tensor(line));
    }
    for (const Tensor& tensor : inputs_) input_names_.push_back(tensor.name.c_str());
    for (const Tensor& tensor : outputs_) output_names_.push_back(tensor.name.c_str());
    load(folder + "/model.onnx");
  }

  // Answers and releases every request.
  void execute(std::span<TRITONBACKEND_Request*> requests) {
    const std::uint64_t start = now_ns();
    std::size_t rows = 0;
    parts_.clear();
    for (TRITONBACKEND_Request* request : requests) {
      try {
        const std::size_t added = gather(request, rows);
        parts_.push_back({request, rows, added});
        rows += added;
      } catch (const std::exception& error) {
        fail(request, error.what());
      }
    }
    const std::uint64_t compute_start = now_ns();
    const std::string failure = rows == 0 ? std::string() : run(rows);
    const std::uint64_t compute_end = now_ns();
    for (const Part& part : parts_) {
      if (!failure.empty()) {
        fail(part.request, failure.c_str());
        continue;
      }
      answer(part);
      ignore(TRITONBACKEND_ModelInstanceReportStatistics(handle_, part.request, true, start, compute_start, compute_end,
                                                         now_ns()));
      ignore(TRITONBACKEND_RequestRelease(part.request, kReleaseAll));
    }
    if (rows > 0 && failure.empty()) {
      ignore(
          TRITONBACKEND_ModelInstanceReportBatchStatistics(handle_, rows, start, compute_start, compute_end, now_ns()));
    }
  }

 private:
  void load(const std::string& path) {
    OrtEnv* env = nullptr;
    check(ort().CreateEnv(kOrtWarning, "ortmin", &env));
    env_.reset(env);
    OrtMemoryInfo* memory = nullptr;
    check(ort().CreateCpuMemoryInfo(kOrtArena, kOrtDefaultMemory, &memory));
    memory_.reset(memory);
    OrtSessionOptions* made = nullptr;
    check(ort().CreateSessionOptions(&made));
    const Owned<OrtSessionOptions> options(made, ort().ReleaseSessionOptions);
    check(ort().SetIntraOpNumThreads(options.get(), 1));
    check(ort().SetInterOpNumThreads(options.get(), 1));
    OrtSession* session = nullptr;
    check(ort().CreateSession(env_.get(), path.c_str(), options.get(), &session));
    session_.reset(session);
  }

  // Copies a request's rows behind the `rows` that are there; how many.
  std::size_t gather(TRITONBACKEND_Request* request, std::size_t rows) {
    std::size_t added = 0;
    for (Tensor& tensor : inputs_) {
      TRITONBACKEND_Input* input = nullptr;
      check(TRITONBACKEND_RequestInput(request, tensor.name.c_str(), &input));
      const std::int64_t* shape = nullptr;
      std::uint32_t rank = 0;
      std::uint64_t bytes = 0;
      std::uint32_t buffers = 0;
      check(TRITONBACKEND_InputProperties(input, nullptr, nullptr, &shape, &rank, &bytes, &buffers));
      const std::size_t here = rank == 0 ? 0 : static_cast<std::size_t>(shape[0]);
      if (bytes != here * tensor.row_bytes) throw std::runtime_error(tensor.name + " is not of the model's shape");
      if (added != 0 && added != here) throw std::runtime_error(tensor.name + " has another number of rows");
      added = here;
      tensor.hold(rows + added);
      copy(input, buffers, std::span(tensor.data).subspan(rows * tensor.row_bytes, bytes));
    }
    return added;
  }

  static void copy(TRITONBACKEND_Input* input, std::uint32_t buffers, std::span<std::byte> destination) {
    for (std::uint32_t index = 0; index < buffers; ++index) {
      const void* buffer = nullptr;
      std::uint64_t bytes = 0;
      int memory = kCpuMemory;
      std::int64_t memory_id = 0;
      check(TRITONBACKEND_InputBuffer(input, index, &buffer, &bytes, &memory, &memory_id));
      if (bytes > destination.size()) throw std::runtime_error("an input is longer than it says");
      std::memcpy(destination.data(), buffer, bytes);
      destination = destination.subspan(bytes);
    }
  }

  // Returns what went wrong, or nothing.
  std::string run(std::size_t rows) {
    try {
      std::vector<Owned<OrtValue>> owners;
      std::vector<const OrtValue*> inputs;
      std::vector<OrtValue*> outputs;
      for (Tensor& tensor : inputs_) inputs.push_back(owners.emplace_back(tensor.value(memory_.get(), rows)).get());
      for (Tensor& tensor : outputs_) {
        tensor.hold(rows);
        outputs.push_back(owners.emplace_back(tensor.value(memory_.get(), rows)).get());
      }
      check(ort().Run(session_.get(), nullptr, input_names_.data(), inputs.data(), inputs.size(), output_names_.data(),
                      outputs.size(), outputs.data()));
      return {};
    } catch (const std::exception& error) {
      return error.what();
    }
  }

  void answer(const Part& part) {
    TRITONBACKEND_Response* response = nullptr;
    try {
      check(TRITONBACKEND_ResponseNew(&response, part.request));
      for (Tensor& tensor : outputs_) {
        tensor.shape[0] = static_cast<std::int64_t>(part.rows);
        TRITONBACKEND_Output* output = nullptr;
        check(TRITONBACKEND_ResponseOutput(response, &output, tensor.name.c_str(), tensor.type.triton,
                                           tensor.shape.data(), static_cast<std::uint32_t>(tensor.shape.size())));
        const std::size_t bytes = part.rows * tensor.row_bytes;
        void* buffer = nullptr;
        int memory = kCpuMemory;
        std::int64_t memory_id = 0;
        check(TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &memory, &memory_id));
        std::memcpy(buffer, tensor.data.data() + part.first * tensor.row_bytes, bytes);
      }
      ignore(TRITONBACKEND_ResponseSend(response, kFinal, nullptr));
    } catch (const std::exception& error) {
      send_error(response, error.what());
    }
  }

  static void fail(TRITONBACKEND_Request* request, const char* message) {
    TRITONBACKEND_Response* response = nullptr;
    ignore(TRITONBACKEND_ResponseNew(&response, request));
    send_error(response, message);
    ignore(TRITONBACKEND_RequestRelease(request, kReleaseAll));
  }

  static void send_error(TRITONBACKEND_Response* response, const char* message) {
    if (response == nullptr) return;
    TRITONSERVER_Error* error = TRITONSERVER_ErrorNew(kInternalError, message);
    ignore(TRITONBACKEND_ResponseSend(response, kFinal, error));
    TRITONSERVER_ErrorDelete(error);
  }

  TRITONBACKEND_ModelInstance* handle_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  std::vector<Part> parts_;
  Owned<OrtEnv> env_{nullptr, ort().ReleaseEnv};
  Owned<OrtMemoryInfo> memory_{nullptr, ort().ReleaseMemoryInfo};
  Owned<OrtSession> session_{nullptr, ort().ReleaseSession};
};

template <typename Work>
TRITONSERVER_Error* report(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(kInternalError, error.what());
  }
}

Instance* instance_of(TRITONBACKEND_ModelInstance* handle) {
  void* state = nullptr;
  check(TRITONBACKEND_ModelInstanceState(handle, &state));
  return static_cast<Instance*>(state);
}

}  // namespace

// What Triton looks up in a backend's library.
extern "C" {

TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* /*backend*/) {
  return report([] {
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != 1) throw std::runtime_error("ortmin knows version 1 of Triton's interface");
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* handle) {
  return report([handle] {
    TRITONBACKEND_Model* model = nullptr;
    check(TRITONBACKEND_ModelInstanceModel(handle, &model));
    int kind = 0;
    const char* folder = nullptr;
    check(TRITONBACKEND_ModelRepository(model, &kind, &folder));
    std::uint64_t version = 0;
    check(TRITONBACKEND_ModelVersion(model, &version));
    auto instance = std::make_unique<Instance>(handle, std::string(folder) + "/" + std::to_string(version));
    check(TRITONBACKEND_ModelInstanceSetState(handle, instance.get()));
    instance.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* handle) {
  return report([handle] { const std::unique_ptr<Instance> instance(instance_of(handle)); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* handle,
                                                       TRITONBACKEND_Request** requests, std::uint32_t count) {
  return report([=] { instance_of(handle)->execute(std::span(requests, count)); });
}

}  // extern "C"
