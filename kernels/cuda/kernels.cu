// The CUDA lane: the bodies of src/device/ as kernels. Compiled without fused multiply-add: arithmetic gives the bits
// of the other lanes, and functions of the C library (log, sin, ...) at most 2 units in the last place beside them.
//
// Names are C's, to be found by name in the module. Each takes its work by value; device_work.hpp says how it is laid
// out, and what bounds each.
#include <cuda/atomic>

#include "../src/device/gather_body.hpp"
#include "../src/device/images_body.hpp"
#include "../src/device/steps_body.hpp"
#include "penstock/kernels/device_work.hpp"

using namespace penstock::device;

extern "C" __global__ void __launch_bounds__(256) penstock_gather(const __grid_constant__ GatherWork work) {
  gather_body(work, blockIdx.x, gridDim.x, threadIdx.x, blockDim.x);
}

extern "C" __global__ void __launch_bounds__(128) penstock_steps(const __grid_constant__ StepsWork work) {
  extern __shared__ double registers[];
  steps_body(work, blockIdx.x, registers, CudaTeam{});
}

extern "C" __global__ void __launch_bounds__(256) penstock_images(const __grid_constant__ ImageWork work) {
  extern __shared__ Bytes16 pixels[];
  images_body(work, blockIdx.x, gridDim.x, blockDim.x, pixels[0].element, CudaTeam{});
}

extern "C" __global__ void __launch_bounds__(1) penstock_signal(const __grid_constant__ SignalWork work) {
  // Release at system scope: the stream's earlier writes to pinned memory; pairs with the load of whoever polls.
  cuda::atomic_ref<std::uint64_t, cuda::thread_scope_system>(*work.flag)
      .store(work.head->sequence, cuda::memory_order_release);
}
