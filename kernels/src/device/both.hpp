// What makes one body fit two compilers: nvcc for kernels, the C++ compiler for their counterpart on the host.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define PENSTOCK_BOTH __host__ __device__
// So that arrays of a thread stay in registers: an index that is not known when it is compiled puts them into memory.
#define PENSTOCK_UNROLL _Pragma("unroll")
#else
#define PENSTOCK_BOTH
#define PENSTOCK_UNROLL
#endif

namespace penstock::device {

// The threads of a block share out work and wait for each other. On the host one thread is a whole block.
struct HostTeam {
  template <typename F>
  void each(std::uint32_t count, F work) const {
    for (std::uint32_t i = 0; i < count; ++i) work(i);
  }
  void meet() const noexcept {}
};

#if defined(__CUDACC__)
struct CudaTeam {
  template <typename F>
  __device__ void each(std::uint32_t count, F work) const {
    for (std::uint32_t i = threadIdx.x; i < count; i += blockDim.x) work(i);
  }
  __device__ void meet() const { __syncthreads(); }
};
#endif

}  // namespace penstock::device
